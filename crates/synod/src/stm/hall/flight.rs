//! The way of a group: it gathers, takes off with one Txn, and lands with an answer for each member.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use synod_store::TxnOpResponse;
use tokio::time::Instant;

use super::{Answer, Hall};
use crate::stm::fetch::{Source, fetch};
use crate::stm::sets::{Fetched, bounded};
use crate::{Client, Error};

/// How long a group waits at most for those who are about to join it.
const GATHER: Duration = Duration::from_millis(1);

/// Which part of a commit's duration it waits for those who have just been answered.
const PART_OF_COMMIT: u32 = 4;

/// How often nobody has to come before a group takes off.
const STILL: u32 = 2;

/// Lets go of the group when the task ends before it has landed: with its runtime.
pub(super) struct Aboard {
    hall: Arc<Hall>,
    landed: bool,
}

impl Aboard {
    pub(super) fn new(hall: &Arc<Hall>) -> Aboard {
        Aboard {
            hall: Arc::clone(hall),
            landed: false,
        }
    }
}

impl Drop for Aboard {
    fn drop(&mut self) {
        if !self.landed {
            // Whoever waits for an answer learns that nobody will send it.
            self.hall.abandon();
        }
    }
}

/// Brings the group that gathers through its commit. `aboard` comes from outside: the task may end
/// before it has begun.
pub(super) async fn fly(client: Client, mut aboard: Aboard) {
    let hall = Arc::clone(&aboard.hall);
    gather(&hall).await;
    let taken_off = hall.on_board(|board| {
        if !board.take_off() {
            // All have left.
            board.scheduled = false;
            return None;
        }
        let group = board.flying()?;
        Some((group.compares(), group.ops(), group.rereads()))
    });
    let Some((compares, ops, rereads)) = taken_off else {
        aboard.landed = true;
        hall.tell();
        return;
    };
    let (begun, wrote) = (Instant::now(), !ops.is_empty());
    let txn = client.txn().when(compares).and_then(ops);
    let sent = txn.or_else(rereads.iter().map(bounded)).send().await;
    let commit = begun.elapsed();
    match sent {
        Ok(sent) if sent.succeeded => {
            let members = hall.on_board(|board| {
                let members = board.passengers();
                board.land(sent.revision);
                members
            });
            aboard.landed = true;
            hall.pace.lock().committed(commit, members.len());
            hall.spacing.committed(commit);
            hall.landed();
            for (place, member) in members.into_iter().enumerate() {
                let place = u32::try_from(place).ok().filter(|_| wrote);
                // Whoever has left does not listen.
                let _ = member.answer.send(Answer::Committed {
                    revision: sent.revision,
                    place,
                });
            }
        }
        Ok(sent) => {
            for member in hall.on_board(|board| board.passengers()) {
                let _ = member.answer.send(Answer::Conflict);
            }
            let conflicts = hall.pace.lock().refused(commit);
            hall.spacing.refused(commit);
            let found = if hall.spacing.wait(conflicts).await {
                // What came with the refusal is old by now.
                let source = Source {
                    at: None,
                    stale: false,
                    bounded: true,
                };
                fetch(&client, rereads, source).await.ok()
            } else {
                sent.responses.map(|responses| {
                    let mut found = Fetched::at(sent.revision);
                    for (range, response) in rereads.into_iter().zip(responses) {
                        if let TxnOpResponse::Range(response) = response {
                            found.add(range, response);
                        }
                    }
                    found
                })
            };
            hall.on_board(|board| board.fail(found));
            aboard.landed = true;
            hall.landed();
        }
        Err(error) => {
            let members = hall.on_board(|board| {
                let members = board.passengers();
                board.fail(None);
                members
            });
            aboard.landed = true;
            hall.landed();
            // One of them may have asked for what the store refuses: the others need not suffer.
            let refused = !error.is_maybe_committed()
                && !error.is_transient()
                && !matches!(error, Error::NoRuntime);
            let alone = refused && members.len() > 1;
            for member in members {
                let _ = member.answer.send(if alone {
                    Answer::Alone
                } else {
                    Answer::Failed(error.clone())
                });
            }
        }
    }
}

/// Waits until nobody is about to join, but not long.
async fn gather(hall: &Hall) {
    let begun = Instant::now();
    let (mut size, mut still) = (0, 0);
    let (due, patience) = {
        let pace = hall.pace.lock();
        let fresh = pace
            .landed
            .is_some_and(|landed| landed.elapsed() < pace.commit);
        let patience = pace.commit.checked_div(PART_OF_COMMIT).unwrap_or_default();
        (if fresh { pace.members } else { 0 }, patience)
    };
    while still < STILL {
        tokio::task::yield_now().await;
        let (now, full) = hall.on_board(|board| (board.group.members.len(), board.group.full));
        let patient = hall.patient.load(Ordering::SeqCst) > 0;
        if full || patient || begun.elapsed() >= GATHER {
            return;
        }
        let quiet = now == size && hall.line.load(Ordering::SeqCst) == 0;
        let quiet = quiet && (now >= due || begun.elapsed() >= patience);
        still = if quiet { still.saturating_add(1) } else { 0 };
        size = now;
    }
}
