//! [`Tx`]: one attempt of a transaction, as its closure sees it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use synod_store::{ErrorKind, Key, KeyRange, LeaseId, RangeRequest, Revision, Txn, TxnOpResponse};
use tokio::sync::Mutex;

use super::sets::{Fetched, Sets, bounded};
use crate::settle::MAX_OPS;
use crate::slot::Slot;
use crate::txn::overlap;
use crate::{Client, Error, Result, retry};

/// One attempt of a transaction: its closure reads and writes through this.
///
/// Writes are kept here until the closure has returned; reads see them. Whatever a method returns
/// as an error, the closure may return too, by `?`.
pub struct Tx {
    attempt: Arc<Attempt>,
}

/// What the closure and whoever runs it share.
pub(super) struct Attempt {
    client: Client,
    /// Gone when the attempt has ended.
    sets: Slot<Option<Sets>>,
    /// Why the attempt cannot go on, and has to be made anew.
    restart: Slot<Option<Error>>,
    /// Held for the first read, which says what state the others are of.
    first: Mutex<()>,
}

/// How an attempt has ended.
pub(super) struct Ended {
    pub(super) sets: Sets,
    pub(super) restart: Option<Error>,
}

impl Attempt {
    pub(super) fn begin(client: &Client, sets: Sets) -> (Arc<Attempt>, Tx) {
        let attempt = Arc::new(Attempt {
            client: client.clone(),
            sets: Slot::new(Some(sets)),
            restart: Slot::default(),
            first: Mutex::new(()),
        });
        let tx = Tx {
            attempt: Arc::clone(&attempt),
        };
        (attempt, tx)
    }

    pub(super) fn end(&self) -> Ended {
        Ended {
            sets: self.sets.lock().take().unwrap_or_default(),
            restart: self.restart.lock().take(),
        }
    }

    fn with<R>(&self, work: impl FnOnce(&mut Sets) -> R) -> Result<R> {
        let mut sets = self.sets.lock();
        sets.as_mut().map(work).ok_or_else(|| {
            Error::InvalidArgument(
                "this attempt of the transaction has ended: use it inside its closure only"
                    .to_owned(),
            )
        })
    }

    /// Reads what `missing` says, if anything, so that it is known.
    async fn read(&self, missing: impl Fn(&mut Sets) -> Vec<KeyRange>) -> Result<()> {
        if self.with(&missing)?.is_empty() {
            return Ok(());
        }
        // Only the first read has to be alone.
        let mut alone = None;
        let mut state = self.with(|sets| (sets.isolation(), sets.snapshot()))?;
        if state.0.is_snapshot() && state.1.is_none() {
            alone = Some(self.first.lock().await);
            state = self.with(|sets| (sets.isolation(), sets.snapshot()))?;
        }
        let (isolation, snapshot) = state;
        // Whoever was before us here may have read it.
        let ranges = self.with(missing)?;
        if ranges.is_empty() {
            return Ok(());
        }
        self.with(|sets| sets.check_count(ranges.len()))??;
        let source = Source {
            at: snapshot,
            stale: !isolation.is_snapshot(),
            bounded: isolation.validates(),
        };
        let fetched = match fetch(&self.client, ranges, source).await {
            Ok(fetched) => fetched,
            Err(error) => {
                // The state that the attempt reads has been compacted away, or the store knows
                // nothing of it any more.
                if matches!(
                    error.kind(),
                    Some(ErrorKind::Compacted | ErrorKind::FutureRevision)
                ) {
                    *self.restart.lock() = Some(error.clone());
                }
                return Err(error);
            }
        };
        self.with(|sets| {
            sets.check_room(&fetched)?;
            sets.note(fetched);
            Ok::<_, Error>(())
        })??;
        drop(alone);
        Ok(())
    }

    /// Reads the keys that are not known yet.
    async fn read_keys(&self, keys: &[Key], known: impl Fn(&mut Sets, &Key) -> bool) -> Result<()> {
        self.read(|sets| {
            let missing: BTreeSet<&Key> = keys.iter().filter(|key| !known(sets, key)).collect();
            missing.into_iter().map(KeyRange::one).collect()
        })
        .await
    }
}

/// Where reads come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// The state of this revision; else the current one.
    pub(super) at: Option<Revision>,
    /// One member may answer alone.
    pub(super) stale: bool,
    /// No more of a range than a commit can compare.
    pub(super) bounded: bool,
}

/// Reads keys and ranges in as few requests as the store allows, all of one state.
pub(super) async fn fetch(
    client: &Client,
    ranges: Vec<KeyRange>,
    source: Source,
) -> Result<Fetched> {
    let store = client.shared_store();
    let mut at = source.at;
    let mut fetched = Fetched::default();
    let request = |range: &KeyRange, at: Option<Revision>| {
        let mut request = if source.bounded {
            bounded(range)
        } else {
            RangeRequest::new(range.clone())
        };
        request.serializable = source.stale;
        request.at(at.unwrap_or_default())
    };
    for chunk in ranges.chunks(MAX_OPS) {
        if let [range] = chunk {
            let request = request(range, at);
            let read = retry::read(client.timeout(), || store.range(request.clone()));
            let response = read.await?;
            if !source.stale {
                at.get_or_insert(response.header.revision);
            }
            fetched.add(range.clone(), response);
            continue;
        }
        let txn = Txn::new().and_then(chunk.iter().map(|range| request(range, at)));
        let response = retry::read(client.timeout(), || store.txn(txn.clone())).await?;
        if !source.stale {
            at.get_or_insert(response.header.revision);
        }
        for (range, response) in chunk.iter().zip(response.responses) {
            if let TxnOpResponse::Range(response) = response {
                fetched.add(range.clone(), response);
            }
        }
    }
    fetched.revision = at.unwrap_or_default();
    Ok(fetched)
}

impl Tx {
    /// The value under a key, as this attempt sees it; `None` when there is none.
    ///
    /// One round trip, none when the attempt has read or written the key before.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind; the key counts as not read.
    ///
    /// # Errors
    ///
    /// What the store answered; [`Error::TooManyOperations`] when the attempt has read more keys
    /// than a commit can compare.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>> {
        let key = key.into();
        let keys = std::slice::from_ref(&key);
        self.attempt
            .read_keys(keys, |sets, key| sets.get(key).is_some())
            .await?;
        self.attempt.with(|sets| sets.get(&key).flatten())
    }

    /// The values under several keys, in their order. Those that the attempt does not know yet are
    /// read in one request.
    ///
    /// # Cancel safety
    ///
    /// As [`Tx::get`].
    ///
    /// # Errors
    ///
    /// As [`Tx::get`].
    pub async fn get_many<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<Key> = keys.into_iter().map(Into::into).collect();
        self.attempt
            .read_keys(&keys, |sets, key| sets.get(key).is_some())
            .await?;
        self.attempt
            .with(|sets| keys.iter().map(|key| sets.get(key).flatten()).collect())
    }

    /// The pairs of a range in key order, as this attempt sees them: with its own writes.
    ///
    /// One round trip. At the levels that read one state, the commit fails when any key of the range
    /// has changed, gone *or come* since. Each key in it counts as read, so a range of more than about
    /// 120 keys is too many.
    ///
    /// # Cancel safety
    ///
    /// As [`Tx::get`].
    ///
    /// # Errors
    ///
    /// As [`Tx::get`]. [`Error::InvalidArgument`] when the range covers Synod's own keys, which change
    /// with every commit.
    pub async fn range(&self, range: impl Into<KeyRange>) -> Result<Vec<(Key, Bytes)>> {
        let range = range.into();
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if let KeyRange::One(key) = range {
            let value = self.get(&key).await?;
            return Ok(value.map(|value| (key, value)).into_iter().collect());
        }
        let own = self.attempt.client.system_prefix();
        if !own.is_empty() && overlap(&KeyRange::prefix(own), &range) {
            return Err(Error::InvalidArgument(format!(
                "a transaction cannot read a range that covers Synod's own keys under {own:?}, which \
                 change with every commit: read the ranges before and after them"
            )));
        }
        self.attempt
            .read(|sets| {
                let covered = sets.covers(&range);
                (!covered).then(|| range.clone()).into_iter().collect()
            })
            .await?;
        self.attempt.with(|sets| sets.range(&range))
    }

    /// When the key was last put, as the store has it: the attempt's own writes have no revision
    /// yet. [`Revision::ZERO`] for a key that does not exist. The key counts as read.
    ///
    /// # Cancel safety
    ///
    /// As [`Tx::get`].
    ///
    /// # Errors
    ///
    /// As [`Tx::get`].
    pub async fn revision(&self, key: impl Into<Key>) -> Result<Revision> {
        let key = key.into();
        let keys = std::slice::from_ref(&key);
        self.attempt
            .read_keys(keys, |sets, key| sets.seen(key).is_some())
            .await?;
        self.attempt
            .with(|sets| sets.seen(&key).unwrap_or_default().revision)
    }

    /// Puts a value under a key, when the transaction commits. The key has no lease then.
    ///
    /// Does nothing once the attempt has ended.
    pub fn put(&self, key: impl Into<Key>, value: impl Into<Bytes>) {
        self.write(|sets| sets.put(key.into(), value.into(), None));
    }

    /// Puts a value under a key that goes when the lease does, when the transaction commits.
    ///
    /// A lease that is gone by then fails the transaction
    /// ([`is_session_lost`](Error::is_session_lost)).
    pub fn put_with_lease(&self, key: impl Into<Key>, value: impl Into<Bytes>, lease: LeaseId) {
        self.write(|sets| sets.put(key.into(), value.into(), Some(lease)));
    }

    /// Deletes a key, when the transaction commits; one that does not exist stays so.
    pub fn delete(&self, key: impl Into<Key>) {
        self.write(|sets| sets.delete(key.into()));
    }

    fn write(&self, write: impl FnOnce(&mut Sets)) {
        // An attempt that has ended writes nothing any more.
        let _ = self.attempt.with(write);
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}
