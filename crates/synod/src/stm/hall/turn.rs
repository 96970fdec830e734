//! [`Place`]: the turn of an attempt, or its place in the line for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedMutexGuard;

use super::Hall;

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
    /// Waits for the turn, in the order of asking.
    pub(in crate::stm) async fn line_up(self: &Arc<Hall>) -> Place {
        self.line.fetch_add(1, Ordering::SeqCst);
        let mut place = Place {
            hall: Arc::clone(self),
            turn: None,
        };
        place.turn = Some(Arc::clone(&self.turn).lock_owned().await);
        place
    }
}
