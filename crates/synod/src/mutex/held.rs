//! [`Held`]: what a guard holds: the head of the line for itself alone, or its turn with it.

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use super::grip::Grip;
use crate::waiters::Hold;
use crate::{Result, Txn};

/// The lock. Dropping it unlocks, or hands the lock on, in the background.
#[derive(Debug)]
pub(super) struct Held {
    // In the order in which they end: the turn's end passes the hold on, or is its last owner's.
    hold: Arc<Hold>,
    grip: Option<Grip>,
}

impl From<Hold> for Held {
    fn from(hold: Hold) -> Held {
        let hold = Arc::new(hold);
        Held { hold, grip: None }
    }
}

impl Deref for Held {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.hold
    }
}

impl Held {
    /// A turn with a lock that is handed over.
    pub(super) fn for_a_turn(hold: Arc<Hold>, grip: Grip) -> Held {
        let grip = Some(grip);
        Held { hold, grip }
    }

    /// How many guards have had the lock before under this fencing token.
    pub(super) fn turn(&self) -> u64 {
        self.grip.as_ref().map_or(0, Grip::number)
    }

    pub(super) fn txn(&self) -> Txn {
        let txn = self.hold.txn();
        match &self.grip {
            None => txn,
            Some(grip) => txn.within(grip.turn().clone()),
        }
    }

    pub(super) fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let lost = self.hold.lost();
        let over = self.grip.as_ref().map(|grip| grip.turn().over());
        async move {
            match over {
                None => lost.await,
                Some(over) => tokio::select! {
                    () = lost => {}
                    () = over => {}
                },
            }
        }
    }

    /// Gives it up. An error when it was lost before.
    pub(super) async fn release(self) -> Result<()> {
        let Held { hold, grip } = self;
        match grip {
            Some(grip) => {
                drop(hold);
                grip.release().await
            }
            None => match Arc::into_inner(hold) {
                Some(hold) => hold.release().await,
                // Nobody else has it; then its last owner's end releases it.
                None => Ok(()),
            },
        }
    }
}
