//! Who holds a lock holds it alone, or with those who may share it.
//!
//! A client counts as a holder from the answer until it gives the lock back or learns that it is lost. One that was
//! paused meanwhile cannot know; for it there are the fencing tokens (`fence.rs`).

use std::time::Duration;

use crate::history::{History, Hold};

/// The holds of clients that ran all the time.
fn awake(history: &History) -> Vec<&Hold> {
    let holds = history.holds.iter();
    let awake = holds.filter(|hold| {
        // With some time before: the answer may have waited for the pause to end.
        let from = hold.from.saturating_sub(Duration::from_millis(100));
        !history.was_paused(hold.client, from, hold.to.unwrap_or(Duration::MAX))
    });
    awake.collect()
}

fn overlap(one: &Hold, other: &Hold) -> bool {
    let end = |hold: &Hold| hold.to.unwrap_or(Duration::MAX);
    one.from < end(other) && other.from < end(one)
}

fn conflict(history: &History, conflicts: impl Fn(&Hold, &Hold) -> bool) -> Result<(), String> {
    let holds = awake(history);
    for (place, one) in holds.iter().enumerate() {
        for other in &holds[place + 1..] {
            if conflicts(one, other) && overlap(one, other) {
                return Err(format!("{one:?} and {other:?} at once"));
            }
        }
    }
    Ok(())
}

/// One holder at a time, in the order of the tokens.
pub(super) fn exclusive(history: &History) -> Result<(), String> {
    conflict(history, |_, _| true)?;
    rising(history)
}

/// Many readers, or one writer.
pub(super) fn readers_or_writer(history: &History) -> Result<(), String> {
    conflict(history, |one, other| {
        one.kind == "write" || other.kind == "write"
    })
}

/// No more than so many.
pub(super) fn permits(history: &History, permits: usize) -> Result<(), String> {
    let holds = awake(history);
    for one in &holds {
        let at_once: Vec<_> = holds
            .iter()
            .filter(|other| other.from <= one.from && other.to.is_none_or(|to| to > one.from))
            .collect();
        if at_once.len() > permits {
            return Err(format!("{at_once:?} at once"));
        }
    }
    Ok(())
}

/// Who comes later has a higher token.
fn rising(history: &History) -> Result<(), String> {
    let mut holds = awake(history);
    holds.sort_by_key(|hold| hold.from);
    for pair in holds.windows(2) {
        if pair[0].token >= pair[1].token {
            return Err(format!(
                "tokens do not rise from {:?} to {:?}",
                pair[0], pair[1]
            ));
        }
    }
    Ok(())
}
