//! Keeping a lease alive: [`Life`] says by the clock whether a session lives, [`Keeper`] renews it.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{LeaseId, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{SessionState, States, revoke};
use crate::clock::Clock;
use crate::slot::Slot;
use crate::{Error, Result};

/// What becomes of the lease when its session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The keeper revokes it.
    Revoke,
    /// It is left to its owner, or to run out.
    Leave,
}

/// Whether a session lives. Takes its time from the clock that it was given.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) lease: LeaseId,
    clock: Arc<dyn Clock>,
    deadline: Slot<Duration>,
    ending: Slot<Option<Ending>>,
    state: watch::Sender<SessionState>,
    /// What became of the revocation, once there was one.
    revoked: watch::Sender<Option<Result<()>>>,
}

impl Life {
    pub(super) fn new(lease: LeaseId, clock: Arc<dyn Clock>, deadline: Duration) -> Life {
        Life {
            lease,
            clock,
            deadline: Slot::new(deadline),
            ending: Slot::new(None),
            state: watch::Sender::new(SessionState::Alive),
            revoked: watch::Sender::new(None),
        }
    }

    pub(super) fn subscribe(&self) -> States {
        self.state.subscribe()
    }

    pub(super) fn revoked(&self) -> watch::Receiver<Option<Result<()>>> {
        self.revoked.subscribe()
    }

    /// How long until the deadline.
    pub(super) fn remaining(&self) -> Duration {
        if self.state_now().is_over() {
            return Duration::ZERO;
        }
        let deadline = *self.deadline.lock();
        deadline.saturating_sub(self.clock.now())
    }

    /// The state at this moment: a deadline that has passed unnoticed is noticed here.
    pub(super) fn state_now(&self) -> SessionState {
        let state = *self.state.borrow();
        if state.is_over() {
            return state;
        }
        let deadline = *self.deadline.lock();
        if self.clock.now() >= deadline {
            self.turn(SessionState::Lost);
        }
        *self.state.borrow()
    }

    /// A renewal that was sent at `sent` was answered with this time to live.
    fn renewed(&self, sent: Duration, ttl: Duration) {
        // An answer to a session that is over, be it only by the clock, revives nothing.
        if !self.state_now().is_over() {
            let mut deadline = self.deadline.lock();
            *deadline = (*deadline).max(sent.saturating_add(ttl));
            drop(deadline);
            self.turn(SessionState::Alive);
        }
    }

    /// Changes the state, unless it is a final one.
    fn turn(&self, next: SessionState) {
        self.state.send_if_modified(|state| {
            let changes = !state.is_over() && *state != next;
            if changes {
                *state = next;
            }
            changes
        });
    }

    /// The lease is gone, by the store's word.
    pub(super) fn lease_is_gone(&self) {
        self.turn(SessionState::Lost);
    }

    /// Ends the session by its owner's wish. False when it was over already.
    pub(super) fn end(&self, ending: Ending) -> bool {
        let over = self.state_now().is_over();
        if !over {
            self.ending.lock().get_or_insert(ending);
            self.turn(SessionState::Closed);
        }
        !over
    }
}

/// Renews the lease of one session until that is over.
pub(super) struct Keeper {
    pub(super) store: Arc<dyn Store>,
    pub(super) life: Arc<Life>,
    pub(super) ttl: Duration,
    pub(super) sent: Duration,
    pub(super) ending: CancellationToken,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Also when its runtime ends in the middle: then nobody renews or revokes the lease any more.
        self.life.turn(SessionState::Lost);
        self.life.revoked.send_if_modified(|revoked| {
            let unsaid = revoked.is_none();
            revoked.get_or_insert(Err(Error::NoRuntime));
            unsaid
        });
    }
}

/// The shortest and longest pause after a renewal that failed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

impl Keeper {
    pub(super) async fn run(self) {
        tokio::select! {
            () = self.ending.cancelled() => {}
            () = self.renew() => {}
        }
        // Taken out first: the lock must not be held over the wait.
        let ending = *self.life.ending.lock();
        if ending == Some(Ending::Revoke) {
            let revoked = revoke(&*self.store, self.life.lease, self.ttl).await;
            if let Err(error) = &revoked {
                tracing::debug!(lease = %self.life.lease, %error, "a lease is left to run out");
            }
            self.life.revoked.send_replace(Some(revoked));
        }
    }

    /// Renews every third of the time to live. Returns when the session is lost.
    async fn renew(&self) {
        let clock = &self.life.clock;
        let mut ttl = self.ttl;
        let mut next = self.sent.saturating_add(ttl / 3);
        let mut pause = PAUSE.0;
        loop {
            let deadline = *self.life.deadline.lock();
            clock.sleep_until(next.min(deadline)).await;
            if self.life.state_now().is_over() {
                tracing::warn!(lease = %self.life.lease, "the session was lost: no renewal in time");
                return;
            }
            let sent = clock.now();
            let answer = tokio::select! {
                answer = self.store.lease_keep_alive(self.life.lease) => Some(answer),
                () = clock.sleep_until(deadline) => None,
            };
            match answer {
                Some(Ok(renewed)) => {
                    ttl = renewed.ttl;
                    self.life.renewed(sent, ttl);
                    next = sent.saturating_add(ttl / 3);
                    pause = PAUSE.0;
                }
                Some(Err(error)) if error.is_lease_gone() => {
                    tracing::warn!(lease = %self.life.lease, "the session was lost: its lease is gone");
                    self.life.lease_is_gone();
                    return;
                }
                Some(Err(error)) => {
                    tracing::warn!(lease = %self.life.lease, %error, "a renewal failed; trying again");
                    self.life.turn(SessionState::Troubled);
                    next = clock.now().saturating_add(pause);
                    pause = (pause * 2).min(PAUSE.1);
                }
                // The deadline has passed: the next turn notices.
                None => {}
            }
        }
    }
}
