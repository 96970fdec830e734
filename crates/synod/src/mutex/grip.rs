//! [`Grip`]: a turn with a lock that is handed over between the tasks of a client, and [`Series`], the
//! turns under one key.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::baton::{Baton, Out};
use super::held::Held;
use crate::span;
use crate::waiters::{Hold, Settled, Turn};
use crate::{Error, Result};

/// After so many turns, or so long, the lock goes back to the store if others wait there.
pub(super) const TURNS: u64 = 64;
pub(super) const SPELL: Duration = Duration::from_millis(10);

/// The lock, and how long it has been handed over already. Dropping it gives the lock back to the store in
/// the background.
#[derive(Debug)]
pub(super) struct Series {
    // In the order in which they end: the key is deleted before the line is joined again.
    hold: Arc<Hold>,
    began: Instant,
    turns: u64,
    runtime: Handle,
    out: Out,
}

/// A turn. Dropping it hands the lock on, or gives it back, in the background.
#[derive(Debug)]
pub(super) struct Grip {
    /// Taken by the end alone.
    series: Option<Series>,
    turn: Turn,
    number: u64,
}

impl Series {
    pub(super) fn new(hold: Hold, runtime: Handle, out: Out) -> Series {
        Series {
            hold: Arc::new(hold),
            began: Instant::now(),
            turns: 0,
            runtime,
            out,
        }
    }

    fn baton(&self) -> &Arc<Baton> {
        self.out.baton()
    }

    fn patience(&self) -> Duration {
        self.hold.client().timeout()
    }

    /// Whether the lock must go back to the store: it is not ours any more, or others wait and it was
    /// kept from them for as long as may be.
    fn is_over(&self) -> bool {
        let outsiders = self.baton().outsiders();
        let (key, created) = (self.hold.key(), self.hold.created());
        if !self.hold.session().is_alive() || outsiders.saw_end_of(key, created) {
            return true;
        }
        let spent = self.turns >= TURNS || self.began.elapsed() >= SPELL;
        spent && outsiders.may_wait(key)
    }

    /// Hands the lock to the first who waits for it in this client. Comes back when nobody does, or it
    /// must not be handed over any more.
    #[must_use]
    pub(super) fn pass(mut self) -> Option<Series> {
        if self.is_over() {
            return Some(self);
        }
        loop {
            let Some(next) = self.baton().next_waiter() else {
                return Some(self);
            };
            match next.send(Ok(self.turn())) {
                Ok(()) => return None,
                // It has left meanwhile.
                Err(Ok(mut grip)) => self = grip.series.take()?,
                Err(Err(_)) => return None,
            }
        }
    }

    /// The next turn.
    pub(super) fn turn(mut self) -> Grip {
        let number = self.turns;
        self.turns = number.saturating_add(1);
        Grip {
            series: Some(self),
            turn: Turn::new(),
            number,
        }
    }
}

/// Waits until the turn's transactions are settled. One whose future nobody drives would keep everybody
/// waiting for ever: after the client's timeout it is in doubt like one that was dropped.
async fn settled(turn: &Turn, patience: Duration) -> Settled {
    let settled = tokio::time::timeout(patience, turn.settled()).await;
    settled.unwrap_or(Settled { doubt: true })
}

impl Grip {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// How long the turn's transactions are waited for.
    fn patience(&self) -> Duration {
        let series = self.series.as_ref();
        series.map_or(Duration::ZERO, Series::patience)
    }

    /// The lock, for the one to whom it was handed, if it is not lost by the clock of this moment: the
    /// process may have been frozen since.
    pub(super) fn accept(self) -> Result<Held> {
        let series = self.series.as_ref().ok_or(Error::SessionLost)?;
        series.hold.session().check()?;
        let hold = Arc::clone(&series.hold);
        Ok(Held::for_a_turn(hold, self))
    }

    /// Ends the turn. An error when the lock was lost before.
    pub(super) async fn release(mut self) -> Result<()> {
        let settled = match self.turn.end() {
            Some(settled) => settled,
            // Dropped here, the lock is handed on later, as below.
            None => settled(&self.turn, self.patience()).await,
        };
        let Some(series) = self.series.take() else {
            return Ok(());
        };
        series.hold.session().check()?;
        let back = if settled.doubt {
            Some(series)
        } else {
            series.pass()
        };
        let Some(Series { hold, out, .. }) = back else {
            return Ok(());
        };
        // Who waits in this client joins the line meanwhile.
        drop(out);
        match Arc::into_inner(hold) {
            Some(hold) => hold.release().await,
            // Nobody else has it; then its last owner's end releases it.
            None => Ok(()),
        }
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        let Some(series) = self.series.take() else {
            return;
        };
        if let Some(settled) = self.turn.end() {
            if !settled.doubt {
                drop(series.pass());
            }
            return;
        }
        // The next one must not write before the last transaction of this one is settled.
        let (turn, runtime) = (self.turn.clone(), series.runtime.clone());
        let patience = series.patience();
        runtime.spawn(span::task("mutex.settle", async move {
            if !settled(&turn, patience).await.doubt {
                drop(series.pass());
            }
        }));
    }
}
