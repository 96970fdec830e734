//! The leases under the markers of deliveries: one for each, used again and again.
//!
//! # Protocol
//!
//! 1. *Grant* a lease whose time to live is the visibility bound, with an id drawn by lot, so that a
//!    repeated grant is recognised.
//! 2. When a delivery has ended for certain, nothing is attached to its lease any more: it is kept
//!    for the next one. When that is not certain it is left to run out: to renew it might keep a
//!    marker alive that nobody tends.
//! 3. A spare lease is used only in the first half of its life; a delivery that begins with one
//!    older than a tenth renews it at once, without waiting for the answer.
//! 4. Spares that nobody uses, and more than 128, are revoked; all of them when the client closes.
//!
//! So a consumer that works off one item after another grants one lease in all.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use synod_store::{ErrorKind, LeaseGrantRequest, LeaseId, Store};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::retry::Backoff;
use crate::settle::Settle;
use crate::slot::Slot;
use crate::{Error, Result};

/// The most leases that are kept for later: more than one claim needs for all whom it serves.
const SPARES: usize = 128;

/// How many are revoked at once.
const AT_ONCE: usize = 16;

/// How long a revocation may take; the lease runs out by itself anyhow.
const REVOKE: Duration = Duration::from_secs(2);

/// A lease that nobody else uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) id: LeaseId,
    /// The time to live that was asked for.
    asked: Duration,
    /// The time to live that was granted.
    ttl: Duration,
    /// Until when it lives at least, by the clock.
    pub(super) until: Duration,
}

impl Lease {
    /// How much of its life is gone.
    fn age(&self, now: Duration) -> Duration {
        self.ttl.saturating_sub(self.until.saturating_sub(now))
    }

    /// Whether a delivery that begins now should renew it.
    pub(super) fn wants_renewal(&self, now: Duration) -> bool {
        self.age(now) > self.ttl / 10
    }

    /// How long it lives after a renewal.
    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    fn is_spent(&self, now: Duration) -> bool {
        self.age(now) > self.ttl / 2
    }

    /// A renewal that was sent at `sent` was answered with this time to live.
    pub(super) fn renewed(&mut self, sent: Duration, ttl: Duration) {
        self.ttl = ttl;
        self.until = self.until.max(sent.saturating_add(ttl));
    }
}

/// The leases of one queue in one client.
#[derive(Debug)]
pub(super) struct Leases {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    settle: Settle,
    patience: Duration,
    spares: Slot<Spares>,
}

#[derive(Debug, Default)]
struct Spares {
    leases: Vec<Lease>,
    /// Whether somebody sees to those that grow old.
    minded: bool,
}

impl Leases {
    pub(super) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        settle: Settle,
        patience: Duration,
    ) -> Leases {
        Leases {
            store,
            clock,
            settle,
            patience,
            spares: Slot::default(),
        }
    }

    /// A lease that lives as long as this, counted from now or a little earlier.
    pub(super) async fn get(&self, asked: Duration) -> Result<Lease> {
        let now = self.clock.now();
        let spare = {
            let mut spares = self.spares.lock();
            let fits = |lease: &Lease| lease.asked == asked && !lease.is_spent(now);
            let found = spares.leases.iter().rposition(fits);
            found.map(|index| spares.leases.swap_remove(index))
        };
        match spare {
            Some(lease) => Ok(lease),
            None => self.grant(asked).await,
        }
    }

    /// A new lease. One round trip.
    pub(super) async fn grant(&self, asked: Duration) -> Result<Lease> {
        let deadline = Instant::now() + self.patience;
        let mut id = draw();
        let mut backoff = Backoff::new();
        loop {
            let sent = self.clock.now();
            let request = LeaseGrantRequest::new(asked).with_id(id);
            match tokio::time::timeout_at(deadline, self.store.lease_grant(request)).await {
                Ok(Ok(granted)) => {
                    return Ok(Lease {
                        id,
                        asked,
                        ttl: granted.ttl,
                        until: sent.saturating_add(granted.ttl),
                    });
                }
                // An earlier copy may be the one that was there first, granted at an unknown moment:
                // it runs out by itself. Or somebody drew the same number.
                Ok(Err(error)) if error.kind() == ErrorKind::LeaseExists => id = draw(),
                Ok(Err(error)) if error.is_transient() && Instant::now() < deadline => {
                    backoff.wait().await;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    return Err(Error::Timeout {
                        after: self.patience,
                    });
                }
            }
        }
    }

    /// Takes a lease back to which nothing is attached, and nothing will be.
    pub(super) fn give_back(self: &Arc<Leases>, lease: Lease) {
        let mut spares = self.spares.lock();
        let now = self.clock.now();
        // Whoever minded them may have ended with its runtime.
        spares.leases.retain(|spare| spare.until > now);
        if spares.leases.len() >= SPARES || lease.is_spent(now) {
            drop(spares);
            self.discard(vec![lease]);
            return;
        }
        spares.leases.push(lease);
        if !std::mem::replace(&mut spares.minded, true) {
            drop(spares);
            match crate::runtime() {
                Ok(runtime) => {
                    self.settle
                        .spawn(&runtime, "delivery.leases", Arc::clone(self).mind())
                }
                // Without a runtime they run out by themselves.
                Err(_) => self.spares.lock().minded = false,
            }
        }
    }

    /// Revokes spares that nobody uses, until there is none.
    async fn mind(self: Arc<Leases>) {
        loop {
            let oldest = {
                let mut spares = self.spares.lock();
                let ends = spares
                    .leases
                    .iter()
                    .map(|lease| lease.until.saturating_sub(lease.ttl / 2));
                match ends.min() {
                    Some(oldest) => oldest,
                    None => {
                        spares.minded = false;
                        return;
                    }
                }
            };
            let closing = tokio::select! {
                () = self.settle.closing() => true,
                () = self.clock.sleep_until(oldest.saturating_add(Duration::from_millis(1))) => false,
            };
            let now = self.clock.now();
            let spent = {
                let mut spares = self.spares.lock();
                let (spent, fresh) = std::mem::take(&mut spares.leases)
                    .into_iter()
                    .partition(|lease| closing || lease.is_spent(now));
                spares.leases = fresh;
                spares.minded = !closing;
                spent
            };
            self.revoke(spent).await;
            if closing {
                return;
            }
        }
    }

    /// Revokes leases in the background.
    fn discard(self: &Arc<Leases>, leases: Vec<Lease>) {
        if let Ok(runtime) = crate::runtime() {
            let pool = Arc::clone(self);
            self.settle.spawn(&runtime, "delivery.revoke", async move {
                pool.revoke(leases).await
            });
        }
    }

    async fn revoke(&self, leases: Vec<Lease>) {
        let revoke = async |lease: Lease| {
            let revoked = tokio::time::timeout(REVOKE, self.store.lease_revoke(lease.id)).await;
            if !matches!(revoked, Ok(Ok(_))) {
                tracing::debug!(lease = %lease.id, "a lease is left to run out");
            }
        };
        // A few at once: somebody may wait for the client to close.
        for some in leases.chunks(AT_ONCE) {
            join_all(some.iter().map(|lease| revoke(*lease))).await;
        }
    }
}

/// A number that nobody else has drawn.
fn draw() -> LeaseId {
    loop {
        if let Some(id) = LeaseId::new(rand::random::<i64>() & i64::MAX) {
            return id;
        }
    }
}
