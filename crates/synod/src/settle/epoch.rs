//! [`Epoch`]: one fence with its lanes, and the sweep of lanes whose fence is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use synod_store::{
    Compare, CompareOp, DeleteRequest, ErrorKind, Key, KeyRange, PutRequest, RangeRequest,
    Revision, Store, Txn, TxnOpResponse,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Settings;
use super::txn::Record;
use crate::retry::Backoff;
use crate::session::{Session, SessionBuilder};
use crate::slot::Slot;
use crate::{Error, Result};

/// How many operations of one client can be on their way at once.
pub(super) const LANES: u32 = 16;

/// Lanes of the dead are kept this long, so that open outcomes can still be looked up.
pub(super) const KEEP_SECONDS: u64 = 3600;

/// The most lanes that one sweep reads.
const SWEEP: u64 = 256;

/// A fence, and the lanes that it guards.
#[derive(Debug)]
pub(super) struct Epoch {
    pub(super) id: u128,
    pub(super) fence: Key,
    pub(super) created: Revision,
    session: Session,
    lanes: Key,
    /// The lanes that nothing is on its way through, with their modification revisions.
    free: Slot<Vec<(u32, Revision)>>,
    permits: Arc<Semaphore>,
    /// How many lanes must never be used again.
    withdrawn: AtomicU32,
}

/// A lane of which its holder alone makes use.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) epoch: Arc<Epoch>,
    pub(super) number: u32,
    pub(super) mod_revision: Revision,
    permit: Option<OwnedSemaphorePermit>,
}

impl Lane {
    pub(super) fn key(&self) -> Key {
        self.epoch.lanes.join(self.number.to_string())
    }

    /// Gives the lane back: what was on its way through it is settled.
    pub(super) fn release(mut self, mod_revision: Revision) {
        self.epoch.free.lock().push((self.number, mod_revision));
        self.permit.take();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Not released: what it says is still needed, so the lane must never be used again.
        if let Some(permit) = self.permit.take() {
            permit.forget();
            let before = self.epoch.withdrawn.fetch_add(1, Ordering::Relaxed);
            if before.saturating_add(1) >= LANES {
                self.epoch.retire();
            }
        }
    }
}

fn fence_key(prefix: &str, id: u128) -> Key {
    Key::from(format!("{prefix}fence/{id:032x}"))
}

fn lanes_key(prefix: &str, id: u128) -> Key {
    Key::from(format!("{prefix}lane/{id:032x}/"))
}

/// The fence and one lane of any epoch, also another process's.
pub(super) fn keys_of(prefix: &str, id: u128, lane: u32) -> (Key, Key) {
    (
        fence_key(prefix, id),
        lanes_key(prefix, id).join(lane.to_string()),
    )
}

impl Epoch {
    /// A new session with a new fence. Two round trips.
    pub(super) async fn begin(store: &Arc<dyn Store>, settings: &Settings) -> Result<Epoch> {
        let session = SessionBuilder::new(
            Arc::clone(store),
            Arc::clone(&settings.clock),
            settings.patience,
        )
        .build()
        .await?;
        let id: u128 = rand::random();
        let fence = fence_key(&settings.prefix, id);
        // Idempotent: nobody else knows this key.
        let create = Txn::new()
            .when([Compare::absent(fence.clone())])
            .and_then([PutRequest::new(fence.clone(), "").with_lease(session.lease())])
            .or_else([RangeRequest::new(fence.clone())]);
        let mut backoff = Backoff::new();
        let created = loop {
            match store.txn(create.clone()).await {
                Ok(response) if response.succeeded => break response.header.revision,
                Ok(response) => {
                    let found = response.responses.into_iter().next();
                    match found
                        .and_then(TxnOpResponse::into_range)
                        .map(|range| range.kvs)
                    {
                        Some(kvs) => match kvs.first() {
                            Some(kv) => break kv.create_revision,
                            None => return Err(Error::SessionLost),
                        },
                        None => return Err(Error::SessionLost),
                    }
                }
                Err(error) if error.is_transient() && session.is_alive() => backoff.wait().await,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(Error::SystemPrefixDenied {
                        prefix: settings.prefix.clone(),
                        source: Arc::new(error),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        };
        Ok(Epoch {
            id,
            fence,
            created,
            session,
            lanes: lanes_key(&settings.prefix, id),
            // The last is taken first: few lanes are used while few operations run at once.
            free: Slot::new(
                (0..LANES)
                    .rev()
                    .map(|number| (number, Revision::ZERO))
                    .collect(),
            ),
            permits: Arc::new(Semaphore::new(LANES as usize)),
            withdrawn: AtomicU32::new(0),
        })
    }

    /// Whether it makes sense to begin an operation here. (Whether it may *happen* the store
    /// decides, by the fence.)
    pub(super) fn is_usable(&self) -> bool {
        self.session.is_alive() && !self.permits.is_closed()
    }

    /// Lets nobody wait for a lane any more.
    pub(super) fn retire(&self) {
        self.permits.close();
    }

    /// A lane that nothing is on its way through, once there is one. `None` when the epoch is over.
    pub(super) async fn lane(self: &Arc<Epoch>) -> Option<Lane> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        let (number, mod_revision) = self.free.lock().pop()?;
        Some(Lane {
            epoch: Arc::clone(self),
            number,
            mod_revision,
            permit: Some(permit),
        })
    }

    /// Ends the epoch: nothing new begins, and its keys go, unless an outcome is still open there.
    pub(super) async fn close(&self, store: &dyn Store) -> Result<()> {
        self.retire();
        // Taken out, so that nothing can begin in them after this.
        let free = std::mem::take(&mut *self.free.lock());
        let idle = free.len() == LANES as usize;
        if idle {
            let clear = Txn::new()
                .when([Compare::created_at(self.fence.clone(), self.created)])
                .and_then([
                    DeleteRequest::new(KeyRange::prefix(self.lanes.clone())),
                    DeleteRequest::new(self.fence.clone()),
                ]);
            // Best effort: what stays is swept by a later client.
            if let Err(error) = store.txn(clear).await {
                tracing::debug!(%error, "lanes are left to be swept");
            }
        }
        self.session.clone().close().await
    }
}

/// Deletes the lanes of epochs whose fence is gone, and in which nothing has begun for
/// [`KEEP_SECONDS`]. Bounded: one page of lanes, one Txn for each dead epoch on it. The page begins
/// at an epoch drawn by lot, so that the lanes of many that live hide no dead one for ever.
pub(super) async fn sweep(store: &dyn Store, settings: &Settings) -> Result<usize> {
    let root = Key::from(format!("{}lane/", settings.prefix));
    let middle = root.join(format!("{:032x}/", rand::random::<u128>()));
    // '0' comes after '/'.
    let end = Key::from(format!("{}lane0", settings.prefix));
    let read = |from: &Key, to: &Key| {
        let range = KeyRange::Between(from.clone(), to.clone());
        store.range(RangeRequest::new(range).with_limit(SWEEP))
    };
    let mut page = read(&middle, &end).await?;
    if !page.more {
        page.kvs.extend(read(&root, &middle).await?.kvs);
    }
    let now = settings.clock.unix_nanos() / 1_000_000_000;
    // By epoch: when the last operation began, and the lanes' newest revision.
    let mut epochs: BTreeMap<u128, (u64, Revision)> = BTreeMap::new();
    for kv in &page.kvs {
        let id = kv
            .key
            .strip_prefix(root.as_bytes())
            .and_then(|rest| rest.split(|&byte| byte == b'/').next())
            .and_then(|id| std::str::from_utf8(id).ok())
            .and_then(|id| u128::from_str_radix(id, 16).ok());
        let (Some(id), Some(record)) = (id, Record::decode(&kv.value)) else {
            continue;
        };
        let (begun, newest) = epochs.entry(id).or_default();
        *begun = (*begun).max(record.begun);
        *newest = (*newest).max(kv.mod_revision);
    }
    let mut swept = 0usize;
    for (id, (begun, newest)) in epochs {
        if now.saturating_sub(begun) < KEEP_SECONDS {
            continue;
        }
        let lanes = KeyRange::prefix(lanes_key(&settings.prefix, id));
        let clear = Txn::new()
            .when([
                Compare::absent(fence_key(&settings.prefix, id)),
                // Nothing has passed since the page was read.
                Compare::mod_revision(lanes.clone(), CompareOp::Less, newest.next()),
            ])
            .and_then([DeleteRequest::new(lanes)]);
        if store.txn(clear).await?.succeeded {
            swept = swept.saturating_add(1);
        }
    }
    Ok(swept)
}
