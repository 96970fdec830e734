//! Nobody is inside a double barrier before all have come, or out of it before all have gone or died.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::client::is_done;
use crate::history::{End, History, Op};
use crate::world::CLIENTS;

/// How long an enter counts for others, at most.
fn stands_until(history: &History, op: &Op) -> Duration {
    // A lease may be renewed just before, and begins anew when the server restarts.
    let leased = 3 * crate::client::TTL;
    match (&op.outcome, op.end) {
        (End::Doubt, Some(end)) => end + leased,
        (_, Some(end)) => end,
        (_, None) => {
            let mut deaths = history.crashes.iter();
            let death = deaths.find(|(who, at)| *who == op.client && *at >= op.begin);
            death.map_or(Duration::MAX, |(_, at)| *at + leased)
        }
    }
}

pub(super) fn check(history: &History) -> Result<(), String> {
    let yes = |op: &&Op| op.outcome == End::Done("true".to_owned());
    for entered in history.all("enter").filter(yes) {
        let Some(end) = entered.end else { continue };
        // So many were entering at one moment at least. Whoever has died, or does not know what came of it,
        // stands there until its lease ends: the barrier cannot tell, and a process that comes back after its
        // death is another participant.
        let coming: BTreeSet<_> = history
            .all("enter")
            .filter(|op| op.begin <= end && stands_until(history, op) >= entered.begin)
            .map(|op| (op.client, op.incarnation))
            .collect();
        let coming = coming.len();
        if coming < CLIENTS {
            return Err(format!("{entered:?} with only {coming} who had come"));
        }
    }
    for left in history.all("leave").filter(yes) {
        let Some(end) = left.end else { continue };
        // The round that it leaves.
        let entered = history.all("enter").filter(yes).filter(|op| {
            op.client == left.client && op.incarnation == left.incarnation && op.begin < left.begin
        });
        let Some(entered) = entered.last() else {
            continue;
        };
        for client in (0..CLIENTS).filter(|client| *client != left.client) {
            let theirs = |op: &&Op| op.client == client && op.begin <= end;
            let Some(inside) = history.all("enter").filter(theirs).filter(yes).find(|op| {
                // The same round: the two were entering at once.
                op.begin <= entered.end.unwrap_or(end) && op.end.is_some_and(|e| e >= entered.begin)
            }) else {
                continue;
            };
            let since = inside.end.unwrap_or(end);
            let gone = history
                .all("leave")
                .filter(theirs)
                .any(|op| op.begin >= since);
            let died = history.crashes.iter().any(|(who, at)| *who == client && *at >= since)
                || history.was_paused(client, since, end)
                // Cut off for as long as a lease lives.
                || end.saturating_sub(since) > crate::client::TTL;
            if !gone && !died && since < left.begin {
                return Err(format!(
                    "{left:?}, though client {client} is inside: {inside:?}"
                ));
            }
        }
    }
    debug_assert!(
        history
            .ops
            .iter()
            .all(|op| op.end.is_some() || !is_done(&op.outcome))
    );
    Ok(())
}
