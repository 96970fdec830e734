//! Ordered waiters under a prefix: a line in which each waits for the one before it alone.
//!
//! # Key layout
//!
//! ```text
//! key            value               lease        written by   deleted by
//! PREFIX SUFFIX  the joiner's choice the joiner's the joiner   the joiner, or the lease's end
//! ```
//!
//! `PREFIX` ends in `/`. etcd's locks and elections take the lease in hexadecimal as the suffix.
//!
//! # Protocol
//!
//! 1. *Join*: `If create(key)=0 Then put(key, lease), range(PREFIX) Else get(key), range(PREFIX)`, keys
//!    only. `c` is the key's create revision; the predecessors are the keys created before it. Later
//!    ones have higher revisions, so this list only ever shrinks.
//! 2. *Nobody before*: the line's head is ours at the revision of that answer. One round trip.
//! 3. *Wait*: watch the own key and the nearest predecessor (both at now), wait until both watches
//!    stand, then read both keys in one Txn. The own one gone, or created anew: lost. The predecessor
//!    gone: the next one up. Else wait for events of the two.
//! 4. *The last predecessor is gone*: read the own key once more. If it still has `c`, the head is ours.
//!    So nobody is told "yours" whose lease died while it waited.
//!
//! Compaction, a closed stream and silence lead back to the read of step 3, never to a conclusion.
//!
//! # Guarantees
//!
//! At every revision at most one key is the oldest; whoever is told "yours" was the oldest at the
//! revision that is returned with it. In order of joining. `c` rises from holder to holder: a
//! fencing token.
//!
//! # Failure
//!
//! A waiter whose call is dropped deletes its key in the background, guarded by `c`, so that it cannot
//! free a later holder of the same key; if that fails, the lease does it. A joining Txn without answer
//! is sent again: it is idempotent. When it is given up, a key that came in all the same is looked for
//! in the background for 30 s, and deleted, if its suffix was made for the call alone.
//!
//! # Interoperates with
//!
//! Go's `concurrency.Mutex` and `Election`, etcd's Lock and Election services: the same keys, the same
//! order.
//!
//! # Cost
//!
//! Free: 1 round trip. Else 1 to join, 2 to stand in line (the watches are opened at once), 1 when it
//! is our turn; 2 more for each predecessor that gives up out of turn.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{
    Applied, Compare, DeleteRequest, ErrorKind, EventFilter, EventKind, Header, Key, KeyRange,
    KeyValue, LeaseId, PutRequest, RangeRequest, Revision, Store, Txn, TxnOpResponse, WatchRequest,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::retry::{self, Backoff};
use crate::watch::{Lookout, Nudge};
use crate::{Error, Result};

/// How long a dropped waiter's key is worth asking for; the lease is the backstop.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// Whose keys count as standing before one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbours {
    /// All keys under the prefix, as etcd's services and Go's recipes count them.
    All,
    /// Keys directly under the prefix, so that `a/b/...` does not stand in the line of `a`.
    Direct,
}

/// Whether others can join with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suffix {
    /// The suffix was made for this call alone.
    Unique,
    /// Another call may use it too, as one with the same lease does: it joins at the same place.
    Shared,
}

/// How to join a line.
#[derive(Debug, Clone)]
pub struct Join {
    /// The line: a name with `/` appended.
    pub prefix: Key,
    /// What follows the prefix in the own key.
    pub suffix: Bytes,
    /// Whether the suffix is this call's alone.
    pub sharing: Suffix,
    /// The own key's value.
    pub value: Bytes,
    /// The own key's lease, which somebody else keeps alive.
    pub lease: LeaseId,
    /// Who else is in the line.
    pub neighbours: Neighbours,
    /// How long to bear a store that does not answer.
    pub patience: Duration,
}

/// A place in a line. Dropping it leaves the line, unless it was joined by another call or
/// [kept](Place::keep).
#[derive(Debug)]
pub struct Place {
    store: Arc<dyn Store>,
    runtime: Handle,
    key: Key,
    created: Revision,
    patience: Duration,
    /// The pair that was there already.
    found: Option<KeyValue>,
    /// Those before, the nearest last.
    before: Vec<(Revision, Key)>,
    /// The answer that showed the own key in place when nobody was before it.
    head: Option<Header>,
    leave_on_drop: bool,
}

/// Joins a line.
///
/// # Cancel safety
///
/// When this is dropped, the line is left in the background.
///
/// # Errors
///
/// [`ErrorKind::LeaseNotFound`] when there is no such lease, or what else the store answered.
pub async fn join(store: Arc<dyn Store>, join: Join) -> Result<Place> {
    let runtime = crate::runtime()?;
    let (answer, answered) = oneshot::channel();
    let task = {
        let runtime = runtime.clone();
        async move {
            // If the caller has left, the place comes back, and is left in its turn.
            drop(answer.send(join_now(store, join, runtime).await));
        }
    };
    runtime.spawn(task);
    answered.await.unwrap_or(Err(Error::NoRuntime))
}

async fn join_now(store: Arc<dyn Store>, join: Join, runtime: Handle) -> Result<Place> {
    let key = join.prefix.join(&join.suffix);
    let line = || RangeRequest::new(KeyRange::prefix(join.prefix.clone())).keys_only();
    let put = PutRequest::new(key.clone(), join.value.clone()).with_lease(join.lease);
    let txn = Txn::new()
        .when([Compare::absent(key.clone())])
        .and_then([synod_store::TxnOp::from(put), line().into()])
        .or_else([RangeRequest::new(key.clone()), line()]);
    let deadline = Instant::now() + join.patience;
    let mut backoff = Backoff::new();
    let mut doubt = false;
    let response = loop {
        let error = match tokio::time::timeout_at(deadline, store.txn(txn.clone())).await {
            Ok(Ok(response)) => break response,
            Ok(Err(error)) => error,
            Err(_) => {
                synod_store::Error::from_kind(ErrorKind::Timeout).with_applied(Applied::Maybe)
            }
        };
        doubt |= error.is_maybe_applied();
        if error.is_transient() && Instant::now() < deadline {
            backoff.wait().await;
        } else if doubt {
            if join.sharing == Suffix::Unique {
                // Else a key that nobody knows of would stand in the line as long as its lease.
                runtime.spawn(leave_unseen(store, key));
            }
            return Err(error.with_applied(Applied::Maybe).into());
        } else {
            return Err(error.into());
        }
    };
    let header = response.header;
    let joined = response.succeeded;
    let malformed = || {
        Error::from(synod_store::Error::new(
            ErrorKind::Other,
            "the store's answer makes no sense",
        ))
    };
    let mut responses = response.responses.into_iter();
    let own = responses.next().ok_or_else(malformed)?;
    let line = responses
        .next()
        .and_then(TxnOpResponse::into_range)
        .ok_or_else(malformed)?;
    let found = if joined {
        None
    } else {
        own.into_range()
            .and_then(|range| range.kvs.into_iter().next())
    };
    let created = match (&found, joined) {
        (Some(kv), _) => kv.create_revision,
        (None, true) => header.revision,
        (None, false) => return Err(malformed()),
    };
    let direct = |key: &Key| {
        key.strip_prefix(join.prefix.as_bytes())
            .is_some_and(|suffix| !suffix.contains(&b'/'))
    };
    let mut before: Vec<(Revision, Key)> = line
        .kvs
        .into_iter()
        .filter(|kv| kv.create_revision < created)
        .filter(|kv| join.neighbours == Neighbours::All || direct(&kv.key))
        .map(|kv| (kv.create_revision, kv.key))
        .collect();
    before.sort();
    // A key that was found after a lost answer is this call's own, if nobody else can know it.
    let own = joined || (doubt && join.sharing == Suffix::Unique);
    let head = before.is_empty().then_some(header);
    Ok(Place {
        store,
        runtime,
        key,
        created,
        patience: join.patience,
        found: found.filter(|_| !own),
        before,
        head,
        leave_on_drop: own,
    })
}

/// How the own key and the one before it stand.
struct Standing {
    header: Header,
    predecessor_there: bool,
}

impl Place {
    /// The own key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The own key's create revision: the place in the line, and the fencing token.
    #[must_use]
    pub fn created(&self) -> Revision {
        self.created
    }

    /// The pair that another call had put before this one joined at the same place.
    #[must_use]
    pub fn found(&self) -> Option<&KeyValue> {
        self.found.as_ref()
    }

    /// How many were before when last counted.
    #[must_use]
    pub fn position(&self) -> usize {
        self.before.len()
    }

    /// Waits until nobody is before. Returns the header of the answer that showed it.
    ///
    /// Ends when `over` does, as with the session's end.
    ///
    /// # Cancel safety
    ///
    /// The place stays in the line until it is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`] when `over` ended or the own key is gone; or what the store answered
    /// after not having been reached for the patience.
    pub async fn wait(&mut self, over: impl Future<Output = ()> + Send) -> Result<Header> {
        tokio::select! {
            // Asked first: whose session has ended is told nothing else.
            biased;
            () = over => Err(Error::SessionLost),
            header = self.wait_in_line() => header,
        }
    }

    async fn wait_in_line(&mut self) -> Result<Header> {
        if let Some(header) = self.head.take() {
            return Ok(header);
        }
        if self.before.is_empty() {
            return Ok(self.stand(None).await?.header);
        }
        let mut own: Option<Lookout> = None;
        while let Some((created, key)) = self.before.last().cloned() {
            let open = |key: &Key| {
                let request = WatchRequest::new(key.clone()).without(EventFilter::NoPut);
                let store = Arc::clone(&self.store);
                retry::insist(self.patience, move || {
                    Lookout::open(Arc::clone(&store), request.clone())
                })
            };
            // Both at once; the own watch is kept from one predecessor to the next.
            let (mut lookout, mut own_lookout) = match own.take() {
                Some(own) => (open(&key).await?, own),
                None => tokio::try_join!(open(&key), open(&self.key))?,
            };
            loop {
                let standing = self.stand(Some((created, &key))).await?;
                if !standing.predecessor_there {
                    self.before.pop();
                    if self.before.is_empty() {
                        return Ok(standing.header);
                    }
                    break;
                }
                // A deletion of either ends the wait, and so does any doubt: then both are read.
                let read = standing.header.revision;
                let gone = tokio::select! {
                    nudge = lookout.next(read) => deleted(nudge)?,
                    nudge = own_lookout.next(read) => { deleted(nudge)?; false }
                };
                if gone {
                    self.before.pop();
                    if self.before.is_empty() {
                        return Ok(self.stand(None).await?.header);
                    }
                    break;
                }
            }
            own = Some(own_lookout);
        }
        Ok(self.stand(None).await?.header)
    }

    /// Reads the own key, and the predecessor's, at one revision.
    async fn stand(&self, predecessor: Option<(Revision, &Key)>) -> Result<Standing> {
        let get = |key: &Key| RangeRequest::new(key.clone()).keys_only();
        let keys = [Some(&self.key), predecessor.map(|(_, key)| key)];
        let txn = Txn::new().and_then(keys.into_iter().flatten().map(get));
        let response = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
        let header = response.header;
        let mut created = response.responses.into_iter().map(|response| {
            let kv = response
                .into_range()
                .and_then(|range| range.kvs.into_iter().next());
            kv.map(|kv| kv.create_revision)
        });
        if created.next().flatten() != Some(self.created) {
            return Err(Error::SessionLost);
        }
        let there = created.next().flatten();
        let predecessor_there = predecessor.is_some_and(|(revision, _)| there == Some(revision));
        Ok(Standing {
            header,
            predecessor_there,
        })
    }

    /// Keeps the place when this is dropped: the key stays until its lease ends or it is deleted.
    /// Returns the key.
    #[must_use]
    pub fn keep(mut self) -> Key {
        self.leave_on_drop = false;
        self.key.clone()
    }

    /// Leaves the line, or gives up its head. False when the key had gone already.
    ///
    /// # Cancel safety
    ///
    /// The line is left in the background then.
    ///
    /// # Errors
    ///
    /// What the store answered after not having been reached for the patience; the key stays until
    /// its lease ends.
    pub async fn leave(mut self) -> Result<bool> {
        let left = leave(&*self.store, &self.key, self.created, self.patience).await;
        self.leave_on_drop &= left.is_err();
        left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.leave_on_drop {
            return;
        }
        let (store, key, created) = (Arc::clone(&self.store), self.key.clone(), self.created);
        self.runtime.spawn(async move {
            if let Err(error) = leave(&*store, &key, created, CLEAN_UP).await {
                tracing::debug!(%key, %error, "a waiter's key is left to its lease");
            }
        });
    }
}

/// Whether the watched key was deleted; false for anything that must be looked into.
fn deleted(nudge: Result<Nudge>) -> Result<bool> {
    match nudge {
        Ok(Nudge::Events(events)) => Ok(events.iter().any(|event| event.kind == EventKind::Delete)),
        Ok(Nudge::Read) => Ok(false),
        // The read that follows bears the trouble, or tells of it.
        Err(error) if error.is_transient() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes a key that this call alone can have made, once it is there: a copy of the request may
/// still be on its way.
pub(crate) async fn leave_unseen(store: Arc<dyn Store>, key: Key) {
    let deadline = Instant::now() + CLEAN_UP;
    let request = RangeRequest::new(key.clone()).keys_only();
    let mut backoff = Backoff::new();
    while Instant::now() < deadline {
        let created = match store.range(request.clone()).await {
            Ok(range) => range.kvs.first().map(|kv| kv.create_revision),
            Err(_) => None,
        };
        if let Some(created) = created {
            if let Err(error) = leave(&*store, &key, created, CLEAN_UP).await {
                tracing::debug!(%key, %error, "a waiter's key is left to its lease");
            }
            return;
        }
        backoff.wait().await;
    }
}

/// Deletes a key if it is still the one that was created then. Idempotent.
async fn leave(
    store: &dyn Store,
    key: &Key,
    created: Revision,
    patience: Duration,
) -> Result<bool> {
    let txn = Txn::new()
        .when([Compare::created_at(key.clone(), created)])
        .and_then([DeleteRequest::new(key.clone())]);
    let response = retry::read(patience, || store.txn(txn.clone())).await?;
    Ok(response.succeeded)
}
