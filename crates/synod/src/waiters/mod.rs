//! Ordered waiters under a prefix: a line in which each waits for the one before it alone.
//!
//! # Key layout
//!
//! ```text
//! key            value               lease        written by   deleted by
//! PREFIX SUFFIX  the joiner's choice the joiner's the joiner   the joiner, or the lease's end
//! ```
//!
//! `PREFIX` ends in `/`. etcd's locks and elections take the lease in hexadecimal as the suffix. A
//! *line* is the keys under one prefix or more, in the order of their create revisions.
//!
//! # Protocol
//!
//! 1. *Join*: `If create(key)=0 Then put(key, lease), range(LINE) Else get(key), range(LINE)`, keys
//!    only. `c` is the key's create revision; those before it are the keys created before it. Later
//!    ones have higher revisions, so they only ever become fewer.
//! 2. *Nobody before*: the line's head is ours at the revision of that answer. One round trip.
//! 3. *Wait*: watch the nearest before the own key, at now. Had that watch stood when the Txn of 1. was
//!    answered, as one does that was left from another wait, nothing was missed. Else *look*:
//!    `get(key), range(LINE) created before c`, keys only, at one revision. The own one gone, or
//!    created anew: lost. Nobody before: the head is ours, as the same answer shows the own key in place;
//!    so nobody is told "yours" whose lease died while it waited. Another one nearest: watch that. Else
//!    wait until the nearest is gone, and look again: always, also when no look came before.
//!    Who has waited for 100 ms watches the own key too, and reads both: its end is the wait's.
//!    A look asks *one member alone* (a serializable read), and is believed only at revision `r` or later: the one
//!    at which the nearest was gone, or from which on the watch tells. The member that told of it is as far;
//!    another one that is behind is not believed, and the cluster is asked. That is as good as asking the
//!    cluster always: at the answer's revision, not before `r`, the own key was there and the oldest, and it
//!    stays the oldest as long as it is there. What ends it after that, no read could tell: the lease's end
//!    is the session's clock's to notice, another's hand the fencing token's. A read that all members agree
//!    on waits for what others have just proposed, as whoever had the lock does to join again.
//! 4. *Try*: `If create(key)=0 and create(LINE)=0 Then` as above: a key is written only if it is the head.
//!    (Keys of nested names fail this compare without being in the line: then 1. under another key, with
//!    `-2` at its end, as a late copy of the first is deleted; and away again.)
//!
//! Compaction, a closed stream and silence lead back to a read of the watched keys, never to a
//! conclusion.
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
//! free a later holder of the same key; that goes on until the key or its lease is gone. A joining Txn
//! without answer is sent again: it is idempotent as long as the key lives. Once it is deleted, or was
//! given up, or went with its runtime before it was answered, a copy that comes in late is looked for in the
//! background, and deleted, if the suffix was made for the call alone (`leftovers`). The background is the runtime
//! that keeps the session: as long as a key can stay, tasks run there.
//!
//! # Interoperates with
//!
//! Go's `concurrency.Mutex` and `Election`, etcd's Lock and Election services: the same keys, the same
//! order.
//!
//! # Cost
//!
//! Free: 1 round trip. Else 1 to join; 2 to stand in line, none when the watch of the same predecessor
//! is still there, as it is for a second; 1 when it is our turn; 2 more for each that gives up out of turn just before us,
//! and 2 for a wait of more than 100 ms.

mod clean;
mod guard;
mod hold;
mod holder;
mod hub;
mod idle;
mod join;
mod leftovers;
mod numbers;
mod place;
#[cfg(test)]
mod tests;
mod turn;
mod vigil;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{
    Key, KeyRange, KeyValue, LeaseId, RangeRequest, Revision, Store, Txn, TxnOpResponse,
};

use crate::{Result, retry};

pub(crate) use guard::guard;
pub(crate) use hold::{Gate, Hold, Wanted, own_suffix, under_session};
pub use holder::Holder;
pub use place::Place;
pub(crate) use turn::{Settled, Turn};
pub(crate) use vigil::Vigils;

/// Whose keys count as standing before one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Neighbours {
    /// All keys under the prefix, as etcd's services and Go's recipes count them.
    All,
    /// Keys directly under the prefix, so that `a/b/...` does not stand in the line of `a`.
    Direct,
    /// Keys directly under one of these prefixes, as a reader waits for writers alone.
    Under(Vec<Key>),
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

/// The lines of a store, for whoever is not a client: all who join through it share their watches. Cheap
/// to clone.
#[derive(Debug, Clone)]
pub struct Lines(Vigils);

impl Lines {
    /// The lines of this store. Asks nobody.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Lines {
        Lines(Vigils::new(store))
    }

    /// Joins a line. One round trip.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the line is left in the background.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LeaseNotFound`](synod_store::ErrorKind::LeaseNotFound) when there is no such lease,
    /// or what else the store answered.
    pub async fn join(&self, join: Join) -> Result<Place> {
        join::join(&self.0, join, None).await
    }
}

/// The keys among which a place is counted.
#[derive(Debug, Clone)]
struct Line {
    prefixes: Vec<Key>,
    direct: bool,
}

impl Line {
    fn of(prefix: &Key, neighbours: &Neighbours) -> Line {
        let (prefixes, direct) = match neighbours {
            Neighbours::All => (vec![prefix.clone()], false),
            Neighbours::Direct => (vec![prefix.clone()], true),
            Neighbours::Under(prefixes) => (prefixes.clone(), true),
        };
        Line { prefixes, direct }
    }

    /// The reads that show the line.
    fn reads(&self) -> impl Iterator<Item = RangeRequest> + '_ {
        let read = |prefix: &Key| RangeRequest::new(KeyRange::prefix(prefix)).keys_only();
        self.prefixes.iter().map(read)
    }

    /// Reads all who are in the line, the oldest first.
    async fn read(&self, store: &dyn Store, patience: Duration) -> Result<Vec<KeyValue>> {
        let reads = self.prefixes.iter().map(KeyRange::prefix);
        let txn = Txn::new().and_then(reads.map(RangeRequest::new));
        let response = retry::read(patience, || store.txn(txn.clone())).await?;
        let ranges = response.responses.into_iter();
        let mut line: Vec<_> = ranges
            .filter_map(TxnOpResponse::into_range)
            .flat_map(|range| range.kvs)
            .filter(|kv| self.counts(&kv.key))
            .collect();
        line.sort_by(|a, b| (a.create_revision, &a.key).cmp(&(b.create_revision, &b.key)));
        Ok(line)
    }

    /// The reads that show who was there before `created`.
    fn reads_before(&self, created: Revision) -> impl Iterator<Item = RangeRequest> + '_ {
        self.reads().map(move |mut read| {
            read.max_create_revision = Some(created.prev());
            read
        })
    }

    /// Whether a key under one of the prefixes stands in the line.
    fn counts(&self, key: &Key) -> bool {
        let direct = |prefix: &Key| {
            let suffix = key.strip_prefix(prefix.as_bytes());
            suffix.is_some_and(|suffix| !suffix.contains(&b'/'))
        };
        !self.direct || self.prefixes.iter().any(direct)
    }
}
