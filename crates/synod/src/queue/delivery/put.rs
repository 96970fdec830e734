//! Putting a value in late, only if there is room, or only once.
//!
//! # Protocol
//!
//! One Txn: the guards and writes of the queue's own enqueue (or one put of a delayed item), and:
//!
//! - *Only once*: `create(once/ID)=0`, put it, leased. False: if it is there, somebody was first.
//! - *Only if there is room*: at one revision read the modification revision `m` of `room`, and count
//!   the items in the queue, on their way, and delayed. Fewer than the capacity: `mod(room)=m`, put
//!   room. Whoever puts in under a capacity changes `room`, so what was counted is no less than what
//!   there is when the Txn applies: all else that happens to items moves them or takes them out.
//!
//! Keys of others between the items are counted too at first; what looks full is counted again, item
//! by item.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{
    Compare, ErrorKind, Key, KeyRange, PutRequest, RangeRequest, Revision, Txn, TxnOpResponse,
};
use tokio::time::Instant;

use super::depot::Depot;
use super::leases::Lease;
use super::options::{EnqueueOptions, Enqueued};
use super::record::Record;
use crate::retry::{self, Backoff};
use crate::settle::{Outcome, Work};
use crate::{Error, Result};

/// Keys in a page when items are counted one by one.
const PAGE: u64 = 2048;

/// What the store holds at one moment.
struct Room {
    /// When somebody last put something in under a capacity.
    touched: Revision,
    /// Whether the id is known.
    known: bool,
}

impl Depot {
    /// Puts one value in. `place` is the beginning of its place, where that matters.
    pub(super) async fn put(
        self: &Arc<Depot>,
        place: Bytes,
        value: Bytes,
        capacity: Option<u64>,
        options: &EnqueueOptions,
    ) -> Result<Enqueued> {
        options.check()?;
        let record = Record {
            attempts: 0,
            most: None,
            place,
            payload: value,
        };
        let once = options.id.as_ref().map(|id| self.beside.once(id));
        let deadline = Instant::now() + self.patience;
        let late = || Error::Timeout {
            after: self.patience,
        };
        // Those of one client do not race for the room.
        let _turn = match capacity {
            Some(_) => {
                let turn = tokio::time::timeout_at(deadline, self.room_turn.lock()).await;
                Some(turn.map_err(|_| late())?)
            }
            None => None,
        };
        let mut backoff = Backoff::new();
        loop {
            let mut landing = if options.delay.is_zero() {
                self.entry(&record, true).await?
            } else {
                self.delay(&record, options.delay)
            };
            if let Some(capacity) = capacity {
                let room = self.room(capacity, once.as_ref()).await?;
                if room.known {
                    return Ok(Enqueued::AlreadyThere);
                }
                let key = self.beside.room().clone();
                landing
                    .guards
                    .push(Compare::modified_at(key.clone(), room.touched));
                landing.ops.push(PutRequest::new(key, "").into());
            }
            let mut mark = None;
            if let Some(once) = &once {
                let lease = self.mark(options.window).await?;
                landing.guards.push(Compare::absent(once.clone()));
                let put = PutRequest::new(once.clone(), "").with_lease(lease.id);
                landing.ops.push(put.into());
                mark = Some(lease);
            }
            let due = options.delay;
            match self
                .settle
                .run(Work::new(landing.guards, landing.ops))
                .await
            {
                Ok(Outcome::Done { .. }) => {
                    if !due.is_zero() {
                        self.alarm(due);
                    }
                    return Ok(Enqueued::New);
                }
                Ok(Outcome::GuardsFalse) => {
                    if let Some(once) = &once
                        && self.is_there(once).await?
                    {
                        return Ok(Enqueued::AlreadyThere);
                    }
                }
                Err(error) if error.kind() == Some(ErrorKind::LeaseNotFound) => {
                    // Somebody revoked it.
                    self.marks
                        .lock()
                        .retain(|lease| Some(lease.id) != mark.map(|lease| lease.id));
                }
                Err(error) => return Err(error),
            }
            // Another was faster: each time somebody's success.
            if Instant::now() >= deadline {
                return Err(late());
            }
            backoff.wait().await;
        }
    }

    async fn is_there(&self, key: &Key) -> Result<bool> {
        let request = RangeRequest::new(key.clone()).keys_only();
        let answer = retry::read(self.patience, || self.store.range(request.clone())).await?;
        Ok(!answer.kvs.is_empty())
    }

    /// A lease for marks that lives at least as long as this. Many marks share one.
    async fn mark(&self, window: Duration) -> Result<Lease> {
        let now = self.clock.now();
        let longest = window.saturating_mul(2);
        {
            let mut marks = self.marks.lock();
            // They are left to run out: that is what they are for.
            marks.retain(|lease| lease.until > now);
            let fits = |lease: &&Lease| {
                let rest = lease.until.saturating_sub(now);
                rest >= window && rest <= longest.max(Duration::from_secs(4))
            };
            if let Some(lease) = marks.iter().find(fits) {
                return Ok(*lease);
            }
        }
        let lease = self.leases.grant(window.saturating_add(window / 4)).await?;
        self.marks.lock().push(lease);
        Ok(lease)
    }

    /// Whether there is room for one more; `QueueFull` if not.
    async fn room(&self, capacity: u64, once: Option<&Key>) -> Result<Room> {
        let count = |range: KeyRange| RangeRequest::new(range).count_only();
        let reads = [
            RangeRequest::new(self.beside.room().clone()).keys_only(),
            count(self.gate.range()),
            count(self.beside.all_taken()),
            count(self.beside.all_later()),
        ];
        let once = once.map(|once| RangeRequest::new(once.clone()).count_only());
        let txn = Txn::new().and_then(reads).and_then(once);
        loop {
            let answer = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
            let mut ranges = answer
                .responses
                .into_iter()
                .filter_map(TxnOpResponse::into_range);
            let touched = ranges.next().and_then(|room| room.kvs.into_iter().next());
            let mut counts = ranges.map(|range| range.count);
            let mut next = || counts.next().unwrap_or_default();
            let (items, taken, later) = (next(), next(), next());
            let room = Room {
                touched: touched.map_or(Revision::ZERO, |kv| kv.mod_revision),
                known: next() > 0,
            };
            let elsewhere = taken.saturating_add(later);
            if room.known || items.saturating_add(elsewhere) < capacity {
                return Ok(room);
            }
            let most = capacity.saturating_sub(elsewhere);
            match self.is_full(most, answer.header.revision).await {
                Ok(false) => return Ok(room),
                Ok(true) => {
                    return Err(Error::QueueFull {
                        name: self.name.to_string(),
                        capacity,
                    });
                }
                // What was counted is history already.
                Err(error) if error.kind() == Some(ErrorKind::Compacted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether there were as many items in the queue at this revision.
    async fn is_full(&self, most: u64, revision: Revision) -> Result<bool> {
        let mut left = most;
        let mut range = self.gate.range();
        while left > 0 {
            let request = RangeRequest::new(range.clone())
                .keys_only()
                .with_limit(PAGE)
                .at(revision);
            let page = retry::read(self.patience, || self.store.range(request.clone())).await?;
            let items = page
                .kvs
                .iter()
                .filter(|kv| self.gate.is_item(&kv.key))
                .count();
            left = left.saturating_sub(u64::try_from(items).unwrap_or(u64::MAX));
            let last = page.kvs.last().filter(|_| page.more);
            range = match (last, range) {
                (Some(last), KeyRange::Between(_, end)) => {
                    KeyRange::Between(self.gate.after(&last.key), end)
                }
                _ => break,
            };
        }
        Ok(left == 0)
    }
}
