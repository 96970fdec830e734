//! [`Place`]: the turn of an attempt, or its place in the line for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::Hall;

/// How long the turn is waited for. An attempt without it is not wrong. It may be held by who waits for
/// this very attempt: a task that a closure has spawned, or a read that is not polled any more.
const LONGEST_LINE: Duration = Duration::from_secs(1);

/// The turn, or a place in the line for it. Dropping it gives it to the next.
#[derive(Debug)]
pub(in crate::stm) struct Place {
    hall: Arc<Hall>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turn.take();
        self.hall.line.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A transaction between its call and its return.
#[derive(Debug)]
pub(in crate::stm) struct Presence(pub(super) Arc<Hall>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Hall {
    /// Waits for the turn, in the order of asking, but not for ever: goes without it then.
    pub(in crate::stm) async fn line_up(self: &Arc<Hall>) -> Place {
        self.line.fetch_add(1, Ordering::SeqCst);
        let mut place = Place {
            hall: Arc::clone(self),
            turn: None,
        };
        let turn = Arc::clone(&self.turn).lock_owned();
        place.turn = tokio::time::timeout(LONGEST_LINE, turn).await.ok();
        place
    }
}
