//! A double barrier: all participants enter and leave, round after round.
//!
//! Each participant counts the rounds for itself; those of the first participant are measured. The
//! first one that has no more turns ends the measurement: the others wait in vain for the next round
//! then, and are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use synod::Client;

use super::super::part::Part;
use super::super::turns::Turn;
use super::{Errors, Workers, all, unless_stopped};

pub(super) async fn run(part: &Arc<Part>, workers: Workers) {
    let inside = Arc::new(Inside::default());
    let local = workers.first.len() as u64;
    all(part, workers.first, |part, number, client| {
        let inside = inside.clone();
        async move {
            take_part(&part, number, local, &client, &inside).await;
            part.ended();
        }
    })
    .await;
}

/// What the participants of this process know of each other.
#[derive(Debug, Default)]
struct Inside {
    /// How many times somebody began to enter, and has begun to leave.
    began: AtomicU64,
    left: AtomicU64,
}

async fn take_part(part: &Part, number: u32, local: u64, client: &Client, inside: &Inside) {
    let count = part.spec.participants.unwrap_or(1);
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let name = format!("{}/double-barrier", part.spec.name);
    let barrier = client.double_barrier(name.as_str(), count);
    let mut errors = Errors::default();
    let mut round = 0u64;
    // Only the first participant draws turns: a round is one operation.
    while !part.stop.is_cancelled() {
        let turn = if number == 0 {
            match part.turns.next().await {
                Some(turn) => turn,
                None => return,
            }
        } else {
            Turn {
                begin: 0,
                counted: false,
            }
        };
        inside.began.fetch_add(1, Ordering::SeqCst);
        let entered = unless_stopped(part, barrier.enter()).await;
        if matches!(entered, Some(Ok(()))) {
            // Everybody of this process has begun this round, and so all of the rounds before.
            let all = local.saturating_mul(round.saturating_add(1));
            if inside.began.load(Ordering::SeqCst) < all && sound(part) {
                part.meter
                    .violated("a participant entered before all had come");
            }
            inside.left.fetch_add(1, Ordering::SeqCst);
        }
        let left = match entered {
            None => return,
            Some(Ok(())) => barrier.leave().await,
            Some(Err(error)) => Err(error),
        };
        match left {
            Ok(()) => {
                errors.none();
                round = round.saturating_add(1);
                if inside.left.load(Ordering::SeqCst) < local.saturating_mul(round) && sound(part) {
                    part.meter.violated("a participant had left before all did");
                }
                part.meter.done(turn, 1);
            }
            Err(error) => {
                if !errors.one(part, &error).await {
                    return;
                }
            }
        }
    }
}

/// Whether nothing has failed yet: after an error the participants count differently.
fn sound(part: &Part) -> bool {
    part.meter.so_far().1 == 0
}
