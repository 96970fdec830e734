//! [`Leftovers`]: keys of one's own that must not stay, and cannot be deleted at once.
//!
//! A key that nobody knows of would stand in its line as long as its lease, which may be the whole life
//! of a process. Two kinds get here: keys whose deletion was not answered for a while, and keys that a
//! late copy of their joining Txn may still make.
//!
//! # Protocol
//!
//! One task for all of a client's leftovers, as long as there are any, reads them and deletes what it
//! finds, guarded by the create revision that it read: at first after milliseconds, for 30 s at least every
//! second, then every 10 s. It forgets the first kind once it is deleted or was not there any more, and the
//! second once its lease is gone, as no copy can apply then, or after an hour. When its runtime ends, the
//! next who joins a line begins another.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{Key, LeaseId, RangeRequest, Revision, Store, Txn, TxnOpResponse};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clean::leave;
use crate::retry::Backoff;
use crate::slot::Slot;
use crate::span;
use crate::{Error, Result};

/// For so long leftovers are looked for often.
const OFTEN: Duration = Duration::from_secs(30);

/// The time between two looks after that.
const SELDOM: Duration = Duration::from_secs(10);

/// No copy of a request is expected to come later than this.
const LATEST: Duration = Duration::from_secs(60 * 60);

/// How many are read at once.
const PAGE: usize = 64;

/// How long one deletion may go without an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The keys of one client that must not stay. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Leftovers {
    store: Arc<dyn Store>,
    state: Arc<Slot<State>>,
    /// Somebody was added.
    come: Arc<Notify>,
    often: Duration,
    seldom: Duration,
}

#[derive(Debug, Default)]
struct State {
    leftovers: Vec<Leftover>,
    /// Whether the task runs.
    sweeping: bool,
}

#[derive(Debug, Clone)]
struct Leftover {
    key: Key,
    lease: LeaseId,
    /// The one that must go; else whichever comes.
    created: Option<Revision>,
    since: Instant,
}

impl Leftovers {
    pub(super) fn new(store: Arc<dyn Store>) -> Leftovers {
        Leftovers {
            store,
            state: Arc::default(),
            come: Arc::default(),
            often: OFTEN,
            seldom: SELDOM,
        }
    }

    #[cfg(test)]
    pub(super) fn with_times(mut self, often: Duration, seldom: Duration) -> Leftovers {
        self.often = often;
        self.seldom = seldom;
        self
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state.lock().leftovers.len()
    }

    /// The key that was created then must go.
    pub(super) fn add(&self, runtime: &Handle, key: Key, lease: LeaseId, created: Revision) {
        self.push(runtime, key, lease, Some(created));
    }

    /// Copies of the Txn that makes this key may still come, and must go. Nobody else makes it.
    pub(crate) fn expect_copies(&self, runtime: &Handle, key: Key, lease: LeaseId) {
        self.push(runtime, key, lease, None);
    }

    /// Has the keys looked for that are left from a runtime which has ended, in this one.
    pub(super) fn see_to(&self, runtime: &Handle) {
        let mut state = self.state.lock();
        if !state.leftovers.is_empty() {
            let sweeping = std::mem::replace(&mut state.sweeping, true);
            drop(state);
            self.sweep_in(runtime, sweeping);
        }
    }

    fn push(&self, runtime: &Handle, key: Key, lease: LeaseId, created: Option<Revision>) {
        let mut state = self.state.lock();
        state.leftovers.push(Leftover {
            key,
            lease,
            created,
            since: Instant::now(),
        });
        let sweeping = std::mem::replace(&mut state.sweeping, true);
        // Before the task is made: a runtime that has ended drops it on the spot.
        drop(state);
        self.sweep_in(runtime, sweeping);
        self.come.notify_one();
    }

    fn sweep_in(&self, runtime: &Handle, sweeping: bool) {
        if !sweeping {
            let sweep = Sweep {
                leftovers: self.clone(),
                over: false,
            };
            runtime.spawn(span::task("line.leftovers", sweep.run()));
        }
    }
}

/// The task. Its end, whatever the cause, lets another begin.
struct Sweep {
    leftovers: Leftovers,
    /// Whether it has ended by itself.
    over: bool,
}

impl Sweep {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let Some(youngest) = self.youngest() else {
                self.over = true;
                return;
            };
            if youngest.elapsed() < self.leftovers.often {
                backoff.wait().await;
            } else {
                let come = self.leftovers.come.notified();
                let _ = tokio::time::timeout(self.leftovers.seldom, come).await;
                backoff = Backoff::new();
            }
            match self.sweep().await {
                Ok(()) => {}
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "keys that must not stay could not be looked for");
                }
                Err(error) => {
                    tracing::warn!(%error, "keys that must not stay are left to their leases");
                    self.leftovers.state.lock().leftovers.clear();
                }
            }
        }
    }

    /// When the last leftover came. Without any, the task is over: whoever adds one begins another.
    fn youngest(&self) -> Option<Instant> {
        let mut state = self.leftovers.state.lock();
        let youngest = state.leftovers.iter().map(|one| one.since).max();
        state.sweeping = youngest.is_some();
        youngest
    }

    async fn sweep(&self) -> Result<()> {
        let leftovers = self.leftovers.state.lock().leftovers.clone();
        let mut old = HashSet::new();
        for page in leftovers.chunks(PAGE) {
            let get = |one: &Leftover| RangeRequest::new(one.key.clone()).keys_only();
            let txn = Txn::new().and_then(page.iter().map(get));
            let asked = tokio::time::timeout(PATIENCE, self.leftovers.store.txn(txn)).await;
            let response = asked.map_err(|_| Error::Timeout { after: PATIENCE })??;
            let found = response
                .responses
                .into_iter()
                .map(TxnOpResponse::into_range);
            for (one, found) in page.iter().zip(found) {
                let kv = found.and_then(|range| range.kvs.into_iter().next());
                let there = kv.map(|kv| kv.create_revision);
                let wanted = there.filter(|there| one.created.is_none_or(|only| only == *there));
                if let Some(created) = wanted {
                    leave(&*self.leftovers.store, &one.key, created, PATIENCE).await?;
                }
                if one.created.is_some() {
                    self.forget(|other| other.key == one.key && other.created == one.created);
                } else if one.since.elapsed() >= self.leftovers.often {
                    old.insert(one.lease);
                }
            }
        }
        self.forget(|one| one.created.is_none() && one.since.elapsed() >= LATEST);
        for lease in old {
            let asking = self.leftovers.store.lease_time_to_live(lease, false);
            let asked = tokio::time::timeout(PATIENCE, asking).await;
            let answer = asked.map_err(|_| Error::Timeout { after: PATIENCE })??;
            if answer.remaining.is_none() {
                self.forget(|other| other.lease == lease);
            }
        }
        Ok(())
    }

    fn forget(&self, which: impl Fn(&Leftover) -> bool) {
        self.leftovers
            .state
            .lock()
            .leftovers
            .retain(|one| !which(one));
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        // Also when its runtime ends in the middle.
        if !self.over {
            self.leftovers.state.lock().sweeping = false;
        }
    }
}
