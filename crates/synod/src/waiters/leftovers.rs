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
//! second once its lease is gone, as no copy can apply then, or after an hour. When its runtime ends, another one
//! begins where the leftovers' sessions are kept: as long as a lease is kept alive, so is that runtime. Should there
//! be none, as of sessions that others keep, the next who joins a line begins it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use synod_store::{Key, LeaseId, RangeRequest, Revision, Store, Txn, TxnOpResponse};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clean::leave;
use crate::errand::Runtimes;
use crate::linger::is_driven;
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
    /// Where its session is kept, or it was joined.
    home: Handle,
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
    pub(super) fn add(&self, home: &Handle, key: Key, lease: LeaseId, created: Revision) {
        self.push(home, key, lease, Some(created));
    }

    /// Copies of the Txn that makes this key may still come, and must go. Nobody else makes it with this lease.
    pub(crate) fn expect_copies(&self, home: &Handle, key: Key, lease: LeaseId) {
        self.push(home, key, lease, None);
    }

    /// A Txn that makes this key is about to be sent. Copies of it are expected if what this returns is dropped before
    /// it was told of [the end](Joining::answered), as it is with its runtime.
    pub(crate) fn joining(&self, home: &Handle, key: Key, lease: LeaseId) -> Joining {
        Joining {
            leftovers: self.clone(),
            home: home.clone(),
            txn: Some((key, lease)),
        }
    }

    /// Has the keys looked for that are left from a runtime which has ended, in this one.
    pub(crate) fn see_to(&self, runtime: &Handle) {
        self.sweep_in([runtime]);
    }

    fn push(&self, home: &Handle, key: Key, lease: LeaseId, created: Option<Revision>) {
        self.state.lock().leftovers.push(Leftover {
            key,
            lease,
            created,
            since: Instant::now(),
            home: home.clone(),
        });
        self.sweep_in(Runtimes::of(home).iter());
        self.come.notify_one();
    }

    /// Begins the task in the first of these that lives, if it does not run, and there is something to do.
    fn sweep_in<'r>(&self, runtimes: impl IntoIterator<Item = &'r Handle>) {
        for runtime in runtimes {
            let mut state = self.state.lock();
            if state.sweeping || state.leftovers.is_empty() {
                return;
            }
            state.sweeping = true;
            // Before the task is made: a runtime that has ended drops it on the spot, and the next has its turn.
            drop(state);
            let begun = Arc::new(AtomicBool::new(false));
            let sweep = Sweep {
                leftovers: self.clone(),
                begun: Arc::clone(&begun),
                over: false,
            };
            runtime.spawn(span::task("line.leftovers", sweep.run()));
            begun.store(true, Ordering::Release);
        }
    }

    /// The runtimes of all leftovers, each once.
    fn homes(&self) -> Vec<Handle> {
        let state = self.state.lock();
        let mut seen = HashSet::new();
        let homes = state.leftovers.iter().map(|one| &one.home);
        let homes = homes.filter(|home| seen.insert(home.id()));
        let mut homes: Vec<_> = homes.cloned().collect();
        homes.sort_by_key(|home| !is_driven(home));
        homes
    }
}

/// A Txn on its way, of which nobody is told when its task goes with the runtime.
#[derive(Debug)]
pub(crate) struct Joining {
    leftovers: Leftovers,
    home: Handle,
    /// Taken once it is answered.
    txn: Option<(Key, LeaseId)>,
}

impl Joining {
    /// The caller knows what became of the Txn, or that nobody does.
    pub(crate) fn answered(mut self) {
        self.txn = None;
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        if let Some((key, lease)) = self.txn.take() {
            self.leftovers.expect_copies(&self.home, key, lease);
        }
    }
}

/// The task. Its end, whatever the cause, lets another begin.
struct Sweep {
    leftovers: Leftovers,
    /// Whether a runtime has taken it on.
    begun: Arc<AtomicBool>,
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
                let wanted = kv.filter(|kv| match one.created {
                    Some(created) => kv.create_revision == created,
                    None => kv.lease == Some(one.lease),
                });
                if let Some(created) = wanted.map(|kv| kv.create_revision) {
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
            if self.begun.load(Ordering::Acquire) {
                self.leftovers.sweep_in(&self.leftovers.homes());
            }
        }
    }
}
