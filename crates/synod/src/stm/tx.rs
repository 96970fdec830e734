//! [`Tx`]: one attempt of a transaction, as its closure sees it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use synod_store::{Key, KeyRange, LeaseId, Revision};

use super::attempt::Attempt;
use super::sets::Sets;
use crate::txn::overlap;
use crate::{Error, Result};

/// One attempt of a transaction: its closure reads and writes through this.
///
/// Writes are kept here until the closure has returned; reads see them. Whatever a method returns
/// as an error, the closure may return too, by `?`.
pub struct Tx {
    attempt: Arc<Attempt>,
}

impl Tx {
    pub(super) fn of(attempt: Arc<Attempt>) -> Tx {
        Tx { attempt }
    }

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
    /// When the attempt runs on what another transaction of the client is about to commit
    /// ([`Stm::with_joined_commits`](super::Stm::with_joined_commits)), this waits for that commit.
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
        self.attempt.settle(&key).await?;
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
