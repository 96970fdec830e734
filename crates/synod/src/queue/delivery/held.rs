//! [`Delivery`]: an item that is on its way, and how that ends.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use synod_store::{
    Compare, DeleteRequest, ErrorKind, Key, LeaseId, PutRequest, RangeRequest, Revision, TxnOp,
};
use tokio::runtime::Handle;

use super::depot::{Depot, Landing, PLACES};
use super::keys::Id;
use super::leases::Lease;
use super::record::Record;
use super::{LONGEST, check_bound, too_long};
use crate::settle::{Outcome, Work};
use crate::slot::Slot;
use crate::span::traced;
use crate::{Client, Error, Result, retry};

/// An item that was handed out: it is nobody else's until its visibility bound runs out.
///
/// [`ack`](Delivery::ack) it when the work is done. Dropping it gives it back, as
/// [`nack`](Delivery::nack) does, in the background. When neither happens (the process dies, the
/// network is cut, the work takes too long), the store itself ends the delivery when the bound runs
/// out, and the item goes to the next consumer.
#[must_use = "a delivery that is dropped goes back into the queue"]
pub struct Delivery {
    held: Arc<Held>,
    runtime: Handle,
    /// Whether its end has begun, so that dropping it does nothing more.
    ended: bool,
}

/// What is known of an item on its way.
pub(super) struct Held {
    depot: Arc<Depot>,
    /// Keeps the client from ending.
    _client: Client,
    id: Id,
    /// When the marker was created: no other marker has that.
    created: Revision,
    key: Key,
    record: Record,
    /// The marker's lease. Several, while it is not known which of them it is.
    leases: Slot<Vec<Lease>>,
    /// One extension at a time.
    extending: tokio::sync::Mutex<()>,
}

impl Held {
    pub(super) fn new(
        depot: Arc<Depot>,
        client: Client,
        id: Id,
        created: Revision,
        key: Key,
        record: Record,
        lease: Lease,
    ) -> Held {
        Held {
            depot,
            _client: client,
            id,
            created,
            key,
            record,
            leases: Slot::new(vec![lease]),
            extending: tokio::sync::Mutex::new(()),
        }
    }

    /// True while the delivery lasts. Once false, false for ever: the marker is never made again.
    fn lasts(&self) -> Compare {
        Compare::created_at(self.depot.beside.owner(self.id), self.created)
    }

    fn ended(&self) -> Error {
        Error::DeliveryEnded {
            key: self.key.to_string(),
        }
    }

    /// Ends the delivery, and puts the item where `landing` says.
    async fn end(&self, landing: Landing) -> Result<Outcome> {
        let mut guards = vec![self.lasts()];
        guards.extend(landing.guards);
        let mut ops = Vec::from(self.removal());
        ops.extend(landing.ops);
        let outcome = self.depot.settle.run(Work::new(guards, ops)).await?;
        if matches!(outcome, Outcome::Done { .. }) {
            self.free();
        }
        Ok(outcome)
    }

    /// Ends these deliveries, all or none: their items are gone for good.
    pub(super) async fn ack_all(all: &[&Held]) -> Result<Outcome> {
        let Some(depot) = all.first().map(|held| &held.depot) else {
            return Ok(Outcome::GuardsFalse);
        };
        let guards = all.iter().map(|held| held.lasts()).collect();
        let ops = all.iter().flat_map(|held| held.removal()).collect();
        let outcome = depot.settle.run(Work::new(guards, ops)).await?;
        if matches!(outcome, Outcome::Done { .. }) {
            all.iter().for_each(|held| held.free());
        }
        Ok(outcome)
    }

    /// What takes an item from its way.
    fn removal(&self) -> [TxnOp; 2] {
        let beside = &self.depot.beside;
        [beside.taken(self.id), beside.owner(self.id)].map(|key| DeleteRequest::new(key).into())
    }

    /// The marker is gone for certain: its lease is free for another.
    fn free(&self) {
        for lease in std::mem::take(&mut *self.leases.lock()) {
            self.depot.leases.give_back(lease);
        }
    }

    pub(super) async fn ack(&self) -> Result<()> {
        let nowhere = Landing {
            guards: Vec::new(),
            ops: Vec::new(),
        };
        match self.end(nowhere).await? {
            Outcome::Done { .. } => Ok(()),
            Outcome::GuardsFalse => Err(self.ended()),
        }
    }

    /// Gives the item back: into its queue, now or later, or among the dead letters.
    async fn back(&self, record: &Record, delay: Duration) -> Result<()> {
        let depot = &self.depot;
        for anew in (0..PLACES).map(|tried| tried > 0) {
            let landing = if record.is_used_up() {
                depot.burial(record)
            } else if !delay.is_zero() {
                depot.delay(record, delay)
            } else {
                depot.entry(record, anew).await?
            };
            match self.end(landing).await? {
                Outcome::Done { .. } => return Ok(()),
                Outcome::GuardsFalse if !self.is_mine().await? => return Err(self.ended()),
                // Somebody uses the item's key by now: the next is a new one.
                Outcome::GuardsFalse => {}
            }
        }
        Err(Error::Timeout {
            after: depot.patience,
        })
    }

    async fn is_mine(&self) -> Result<bool> {
        let depot = &self.depot;
        let request = RangeRequest::new(self.depot.beside.owner(self.id)).keys_only();
        let answer = retry::read(depot.patience, || depot.store.range(request.clone())).await?;
        let kv = answer.kvs.into_iter().next();
        Ok(kv.is_some_and(|kv| kv.create_revision == self.created))
    }

    /// Until when the delivery lasts for certain, by the clock.
    fn until(&self) -> Duration {
        let ends = self.leases.lock().iter().map(|lease| lease.until).min();
        ends.unwrap_or_default()
    }

    /// Makes the marker's lease live as long as it can from now on.
    async fn renew(&self) -> Result<()> {
        let ids: Vec<LeaseId> = self.leases.lock().iter().map(|lease| lease.id).collect();
        for id in ids {
            self.renew_lease(id).await?;
        }
        Ok(())
    }

    async fn renew_lease(&self, id: LeaseId) -> Result<()> {
        let depot = &self.depot;
        let deadline = tokio::time::Instant::now() + depot.patience;
        let mut backoff = retry::Backoff::new();
        loop {
            let sent = depot.clock.now();
            match tokio::time::timeout_at(deadline, depot.store.lease_keep_alive(id)).await {
                Ok(Ok(renewed)) => {
                    let mut leases = self.leases.lock();
                    if let Some(lease) = leases.iter_mut().find(|lease| lease.id == id) {
                        lease.renewed(sent, renewed.ttl);
                    }
                    return Ok(());
                }
                Ok(Err(error)) if error.is_lease_gone() => return Err(self.ended()),
                Ok(Err(error)) if error.is_transient() => backoff.wait().await,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    return Err(Error::Timeout {
                        after: depot.patience,
                    });
                }
            }
        }
    }

    async fn extend(&self, bound: Duration) -> Result<()> {
        let _alone = self.extending.lock().await;
        let depot = &self.depot;
        let longest = self.leases.lock().iter().map(Lease::ttl).min();
        if bound <= longest.unwrap_or_default() {
            return self.renew().await;
        }
        let mut lease = depot.leases.get(bound).await?;
        if lease.wants_renewal(depot.clock.now()) {
            depot.leases.give_back(lease);
            lease = depot.leases.grant(bound).await?;
        }
        // From now on it may be the marker's, also when the caller leaves.
        self.leases.lock().push(lease);
        let marker = PutRequest::new(depot.beside.owner(self.id), depot.identity.clone())
            .with_lease(lease.id);
        let work = Work::new(vec![self.lasts()], vec![marker.into()]);
        match depot.settle.run(work).await {
            Ok(Outcome::Done { .. }) => {
                let mut leases = self.leases.lock();
                // If there are more, an extension before this one may still come late.
                if leases.len() == 2 {
                    let old = std::mem::replace(&mut *leases, vec![lease]);
                    drop(leases);
                    let old = old.into_iter().filter(|old| old.id != lease.id);
                    old.for_each(|old| depot.leases.give_back(old));
                }
                Ok(())
            }
            Ok(Outcome::GuardsFalse) => {
                self.withdraw(lease);
                Err(self.ended())
            }
            Err(error) => {
                if error.kind() == Some(ErrorKind::LeaseNotFound) {
                    // Somebody revoked it: of no use to anybody.
                    self.leases.lock().retain(|other| other.id != lease.id);
                } else if !error.is_maybe_committed() {
                    self.withdraw(lease);
                }
                Err(error)
            }
        }
    }

    /// A lease was not attached to the marker, and will not be.
    fn withdraw(&self, lease: Lease) {
        self.leases.lock().retain(|other| other.id != lease.id);
        self.depot.leases.give_back(lease);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Delivery {
    pub(super) fn new(held: Held) -> Result<Delivery> {
        let runtime = crate::runtime()?;
        let held = Arc::new(held);
        let now = held.depot.clock.now();
        let old = held
            .leases
            .lock()
            .iter()
            .any(|lease| lease.wants_renewal(now));
        if old {
            let held = Arc::clone(&held);
            held.depot
                .settle
                .clone()
                .spawn(&runtime, "delivery.renew", async move {
                    // When it fails the bound is a little nearer, which the deadline says.
                    if let Err(error) = held.renew().await {
                        tracing::debug!(%error, "the lease of a delivery was not renewed");
                    }
                });
        }
        Ok(Delivery {
            held,
            runtime,
            ended: false,
        })
    }

    /// What was put in.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.held.record.payload
    }

    /// How often the item was handed out, this time included: 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.held.record.attempts
    }

    /// Whether this is the last attempt: if it fails, the item becomes a dead letter.
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        self.held.record.is_used_up()
    }

    /// The key that the item had in its queue.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.held.key
    }

    /// How long the delivery lasts for certain, from now on.
    ///
    /// By a clock that counts while the machine is suspended, from when the last answered renewal was
    /// *sent*: the store may let it last a little longer, never shorter (unless somebody revokes its
    /// lease). Work that must not be done twice at the same time stops at zero.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.held
            .until()
            .saturating_sub(self.held.depot.clock.now())
    }

    /// Until when the delivery lasts for certain, as is known now: a renewal moves it on. It stays where
    /// it is once it has passed. See [`Delivery::remaining`].
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let now = Instant::now();
        let (until, clock) = (self.held.until(), self.held.depot.clock.now());
        let deadline = match until.checked_sub(clock) {
            Some(left) => now.checked_add(left),
            None => now.checked_sub(clock.saturating_sub(until)),
        };
        deadline.unwrap_or(now)
    }

    /// The lease that keeps it from others now.
    pub(crate) fn lease(&self) -> Option<LeaseId> {
        self.held.leases.lock().first().map(|lease| lease.id)
    }

    /// The work is done: the item is gone for good. One round trip, which those share who acknowledge
    /// at the same time with clones of one handle, or handles of one client.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the item may be gone, or go a moment later; else it is delivered again
    /// once its bound has run out.
    ///
    /// # Errors
    ///
    /// [`Error::DeliveryEnded`] when the bound had run out before: the item is, or will be,
    /// delivered again. [`Error::Unknown`] when no answer came within the client's timeout: the item
    /// is acknowledged, or will be, or is delivered again; [resolve](Client::resolve) the token to
    /// know. Anything else the store answered: the item is delivered again when its bound has run out.
    pub async fn ack(mut self) -> Result<()> {
        traced!("synod.delivery.ack", key = self.held.key, async move {
            self.ended = true;
            self.held.depot.ack(&self.held).await
        })
        .await
    }

    /// The work was not done: the item goes back into its queue at once, or among the
    /// [dead letters](super::DeadLetters) after its last attempt. One round trip.
    ///
    /// In a queue it goes behind what is there, in a priority queue to its old place.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the item may be back, or come back a moment later; at the latest when
    /// its bound has run out.
    ///
    /// # Errors
    ///
    /// As [`Delivery::ack`].
    pub async fn nack(self) -> Result<()> {
        self.nack_after(Duration::ZERO).await
    }

    /// As [`Delivery::nack`], but the item comes back only after this long, by the clocks of those who
    /// consume.
    ///
    /// # Cancel safety
    ///
    /// As [`Delivery::nack`].
    ///
    /// # Errors
    ///
    /// As [`Delivery::nack`]; [`Error::InvalidArgument`] for a delay of more than a hundred years, and
    /// then the item comes back at once.
    pub async fn nack_after(mut self, delay: Duration) -> Result<()> {
        traced!("synod.delivery.nack", key = self.held.key, async move {
            if delay > LONGEST {
                return Err(too_long("delay", delay));
            }
            self.ended = true;
            self.held.back(&self.held.record, delay).await
        })
        .await
    }

    /// Makes the delivery last at least this long from now on. One round trip, or two when that is
    /// longer than the visibility bound that it began with.
    ///
    /// It is never shortened.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the delivery may last longer or not.
    ///
    /// # Errors
    ///
    /// [`Error::DeliveryEnded`] when its bound had run out before. Anything else: it lasts as long as
    /// [`Delivery::remaining`] says.
    pub async fn extend(&self, bound: Duration) -> Result<()> {
        traced!("synod.delivery.extend", key = self.held.key, async move {
            check_bound("visibility bound", bound)?;
            self.held.extend(bound).await
        })
        .await
    }

    /// Gives an item back that its caller has never seen: this delivery does not count.
    pub(super) fn unseen(mut self) -> impl Future<Output = ()> + Send {
        self.ended = true;
        let held = Arc::clone(&self.held);
        async move {
            let record = Record {
                attempts: held.record.attempts.saturating_sub(1),
                ..held.record.clone()
            };
            if let Err(error) = held.back(&record, Duration::ZERO).await {
                tracing::debug!(%error, "an item comes back when its bound has run out");
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let held = Arc::clone(&self.held);
        let settle = held.depot.settle.clone();
        settle.spawn(&self.runtime, "delivery.give_back", async move {
            if let Err(error) = held.back(&held.record, Duration::ZERO).await {
                tracing::debug!(%error, "an item comes back when its bound has run out");
            }
        });
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("key", &self.held.key)
            .field("attempt", &self.attempt())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
