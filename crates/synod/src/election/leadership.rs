//! [`Leadership`]: what an elected candidate holds.

use std::fmt;
use std::future::Future;

use bytes::Bytes;
use synod_store::{Compare, Key, PutLease, PutRequest, RangeRequest, Revision, Txn, TxnOpResponse};
use tokio::sync::Mutex;

use crate::hold::Hold;
use crate::slot::Slot;
use crate::{Result, Session, retry};

/// Being the leader, until this is dropped or [resigned](Leadership::resign), the session is lost, or
/// the key is deleted by somebody else.
///
/// A leader that is frozen or cut off may be replaced without noticing at once: let what it writes
/// depend on [`Leadership::is_owner`], or give others its [`Leadership::fencing_token`].
#[must_use = "who drops its leadership resigns at once"]
pub struct Leadership {
    hold: Hold,
    /// At which revision the key is known to have been put last.
    put: Mutex<Revision>,
    value: Slot<Bytes>,
}

impl Leadership {
    pub(super) fn new(hold: Hold, value: Bytes) -> Leadership {
        Leadership {
            put: Mutex::new(hold.created()),
            value: Slot::new(value),
            hold,
        }
    }

    /// The candidate's key.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.hold.key()
    }

    /// What was proclaimed last through this.
    #[must_use]
    pub fn value(&self) -> Bytes {
        self.value.lock().clone()
    }

    /// The session under which this is held.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.hold.session()
    }

    /// A number that is higher than that of every leader before: who is given one lower than one it
    /// has seen is being talked to by a leader of the past.
    #[must_use]
    pub fn fencing_token(&self) -> u64 {
        self.hold.created().0
    }

    /// True in a transaction for as long as this leads: what a transaction with it writes, no leader of
    /// the past has written.
    pub fn is_owner(&self) -> Compare {
        self.hold.is_owner()
    }

    /// Asks the store whether this still leads. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`](crate::Error::SessionLost), [`Error::NotOwner`](crate::Error::NotOwner) when the key was deleted by somebody
    /// else, or what the store answered.
    pub async fn check(&self) -> Result<()> {
        self.hold.check().await
    }

    /// Waits until this leads no more: the session is lost, or the key was deleted.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.hold.lost()
    }

    /// Changes the proposal, for all who ask or observe; the leader stays the same. One round trip.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the value may be proclaimed or not; a later `proclaim` prevails over it
    /// in any case.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`](crate::Error::SessionLost) or [`Error::NotOwner`](crate::Error::NotOwner) when another leads now, or nobody:
    /// nothing was changed. Else what the store answered; when that
    /// [is in doubt](crate::Error::is_maybe_committed), the value may be proclaimed, or become so before the
    /// next.
    pub fn proclaim<V: AsRef<[u8]>>(
        &self,
        value: V,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, V> {
        let value = Bytes::copy_from_slice(value.as_ref());
        async move {
            let mut put = self.put.lock().await;
            *put = self.put(&value, *put).await?;
            *self.value.lock() = value;
            Ok(())
        }
    }

    /// Puts the value if the key was put last at `known`, or finds out when it was. Returns when the
    /// value was put.
    async fn put(&self, value: &Bytes, mut known: Revision) -> Result<Revision> {
        let key = self.hold.key();
        let mut doubt = false;
        loop {
            self.hold.session().check()?;
            let put = PutRequest {
                lease: PutLease::Keep,
                ..PutRequest::new(key.clone(), value.clone())
            };
            let txn = Txn::new()
                .when([Compare::modified_at(key.clone(), known)])
                .and_then([put])
                .or_else([RangeRequest::new(key.clone())]);
            let sent = retry::txn(&**self.hold.store(), &txn, self.hold.patience()).await;
            doubt |= sent.doubt;
            let response = sent.answer?;
            if response.succeeded {
                return Ok(response.header.revision);
            }
            let mut responses = response.responses.into_iter();
            let found = responses.next().and_then(TxnOpResponse::into_range);
            let own = found
                .and_then(|range| range.kvs.into_iter().next())
                .filter(|kv| kv.create_revision == self.hold.created());
            match own {
                None => return Err(self.hold.not_owner()),
                // It had arrived, and its answer was lost.
                Some(own) if doubt && own.value == *value => return Ok(own.mod_revision),
                Some(own) => known = own.mod_revision,
            }
        }
    }

    /// Gives the leadership up, so that the next candidate is elected. One round trip.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, it goes on in the background.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`](crate::Error::SessionLost) or [`Error::NotOwner`](crate::Error::NotOwner) when it had been lost before. When the
    /// store could not be reached for the client's timeout, what it answered: resigning goes on in the
    /// background, with the lease's end as the backstop.
    pub async fn resign(self) -> Result<()> {
        self.hold.release().await
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership")
            .field("key", self.key())
            .field("fencing_token", &self.fencing_token())
            .finish_non_exhaustive()
    }
}
