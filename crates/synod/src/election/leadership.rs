//! [`Leadership`]: what an elected candidate holds.

use std::future::Future;

use bytes::Bytes;
use synod_store::{Compare, PutLease, PutRequest, RangeRequest, Revision, TxnOpResponse};
use tokio::sync::Mutex;

use crate::slot::Slot;
use crate::span::traced;
use crate::waiters::{Hold, guard};
use crate::{Result, retry};

guard! {
    /// Being the leader. Dropping it resigns in the background; [`Leadership::resign`] also says whether it
    /// led to the end.
    ///
    /// *Having it is no proof*: a leader that was stopped or cut off for longer than its session lives may
    /// have been replaced. Give [`Leadership::fencing_token`] to those it commands, or write with
    /// [`Leadership::txn`].
    #[must_use = "who drops its leadership resigns"]
    Leadership(Hold) {
        value: Slot<Bytes>,
        /// When the key is known to have been put last.
        put: Mutex<Revision>,
    },
    resign as "synod.election.resign"
}

impl Leadership {
    /// The leader whose hold this is, with what it proclaimed when it stood for election.
    pub(super) fn elected(hold: Hold, value: Bytes) -> Leadership {
        let put = Mutex::new(hold.created());
        Leadership::new(hold, Slot::new(value), put)
    }

    /// What was proclaimed last through this.
    #[must_use]
    pub fn value(&self) -> Bytes {
        self.value.lock().clone()
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
        traced!("synod.election.proclaim", key = self.key(), async move {
            let mut put = self.put.lock().await;
            *put = self.put(&value, *put).await?;
            *self.value.lock() = value;
            Ok(())
        })
        .under(self.session().lease())
        .fenced(self.fencing_token())
    }

    /// Puts the value if the key was put last at `known`, or finds out when it was. Returns when the
    /// value was put.
    async fn put(&self, value: &Bytes, mut known: Revision) -> Result<Revision> {
        let key = self.hold.key();
        let client = self.hold.client();
        let mut doubt = false;
        loop {
            self.hold.session().check()?;
            let put = PutRequest {
                lease: PutLease::Keep,
                ..PutRequest::new(key.clone(), value.clone())
            };
            let txn = synod_store::Txn::new()
                .when([Compare::modified_at(key.clone(), known)])
                .and_then([put])
                .or_else([RangeRequest::new(key.clone())]);
            let sent = retry::txn(&**client.store(), &txn, client.timeout()).await;
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
                None => return Err(self.hold.was_lost()),
                // It had arrived, and its answer was lost.
                Some(own) if doubt && own.value == *value => return Ok(own.mod_revision),
                Some(own) => known = own.mod_revision,
            }
        }
    }
}
