//! [`Place`]: a place in a line, from which it is waited for the head.

use std::future::Future;
use std::time::Duration;

use synod_store::{Header, Key, KeyValue, LeaseId, RangeRequest, Revision, Store, Txn, TxnOp};
use tokio::runtime::Handle;

use super::clean::leave;
use super::vigil::Vigil;
use super::{Line, Neighbours, Vigils};
use crate::{Client, Error, Result, retry};

/// A place in a line. Dropping it leaves the line, unless it was joined by another call or
/// [kept](Place::keep).
#[derive(Debug)]
pub struct Place {
    pub(super) vigils: Vigils,
    pub(super) runtime: Handle,
    pub(super) key: Key,
    pub(super) line: Line,
    pub(super) created: Revision,
    pub(super) lease: LeaseId,
    pub(super) patience: Duration,
    /// The pair that was there already.
    pub(super) found: Option<KeyValue>,
    /// How many are before.
    pub(super) position: usize,
    /// The last of them.
    pub(super) nearest: Option<(Revision, Key)>,
    /// The answer that showed the own key in place when nobody was before it.
    pub(super) head: Option<Header>,
    pub(super) leave_on_drop: bool,
    /// Copies of the joining Txn may still be on their way.
    pub(super) doubt: bool,
}

impl Place {
    /// A key that the caller has put, in a line that it reckons up itself. With `doubt`, copies of the
    /// Txn that put it may still be on their way.
    pub(crate) fn of_own_key(
        client: &Client,
        runtime: Handle,
        key: Key,
        created: Revision,
        lease: LeaseId,
        doubt: bool,
    ) -> Place {
        Place {
            vigils: client.vigils().clone(),
            runtime,
            line: Line::of(&key, &Neighbours::Direct),
            key,
            created,
            lease,
            patience: client.timeout(),
            found: None,
            position: 0,
            nearest: None,
            head: None,
            leave_on_drop: true,
            doubt,
        }
    }

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
        self.position
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
        let mut own: Option<Vigil> = None;
        let mut before: Option<(Key, Vigil)> = None;
        loop {
            let Some((created, nearest)) = self.nearest.clone() else {
                let header = self.look().await?;
                if self.nearest.is_none() {
                    return Ok(header);
                }
                continue;
            };
            // Both at once; the own one is kept from one predecessor to the next.
            let (mut vigil, own) = match (before.take(), &mut own) {
                (Some((key, vigil)), Some(own)) if key == nearest => (vigil, own),
                (_, Some(own)) => (
                    self.vigils.open(&nearest, created, self.patience).await?,
                    own,
                ),
                (_, own) => {
                    let opening = tokio::try_join!(
                        self.vigils.open(&nearest, created, self.patience),
                        self.vigils.open(&self.key, self.created, self.patience),
                    );
                    let (vigil, opened) = opening?;
                    (vigil, own.insert(opened))
                }
            };
            let header = self.look().await?;
            match &self.nearest {
                None => return Ok(header),
                Some((created, key)) if *key == nearest => {
                    let created = *created;
                    self.watch(own, &mut vigil, &nearest, created, header.revision)
                        .await?;
                    self.nearest = None;
                }
                Some(_) => {}
            }
            before = Some((nearest, vigil));
        }
    }

    /// Waits until the key before is gone. An error when the own one is.
    async fn watch(
        &self,
        own: &mut Vigil,
        before: &mut Vigil,
        key: &Key,
        created: Revision,
        mut read: Revision,
    ) -> Result<()> {
        loop {
            let gone = tokio::select! {
                gone = own.gone(read) => {
                    if gone? {
                        return Err(Error::SessionLost);
                    }
                    false
                }
                gone = before.gone(read) => gone?,
            };
            if gone {
                return Ok(());
            }
            let get = |key: &Key| RangeRequest::new(key.clone()).keys_only();
            let (there, header) = self.read([get(&self.key), get(key)]).await?;
            if there.first().map(|kv| kv.create_revision) != Some(created) {
                return Ok(());
            }
            read = header.revision;
        }
    }

    /// Reads the own key and who is before it, at one revision.
    async fn look(&mut self) -> Result<Header> {
        let own = RangeRequest::new(self.key.clone()).keys_only();
        let before = self.line.reads_before(self.created);
        let reads: Vec<_> = [own].into_iter().chain(before).collect();
        let (mut others, header) = self.read(reads).await?;
        others.retain(|kv| self.line.counts(&kv.key));
        self.count(others.into_iter());
        Ok(header)
    }

    /// Reads at one revision, the own key first. An error when that is not there any more; else the
    /// pairs of the other reads.
    async fn read(
        &self,
        reads: impl IntoIterator<Item = RangeRequest>,
    ) -> Result<(Vec<KeyValue>, Header)> {
        let txn = Txn::new().and_then(reads.into_iter().map(TxnOp::from));
        let store = self.vigils.store();
        let response = retry::read(self.patience, || store.txn(txn.clone())).await?;
        let mut ranges = response.responses.into_iter().map(|response| {
            let range = response.into_range();
            range.map(|range| range.kvs).unwrap_or_default()
        });
        let own = ranges.next().unwrap_or_default();
        if own.first().map(|kv| kv.create_revision) != Some(self.created) {
            return Err(Error::SessionLost);
        }
        Ok((ranges.flatten().collect(), response.header))
    }

    /// Keeps the place when this is dropped: the key stays until its lease ends or it is deleted.
    /// Returns the key.
    #[must_use]
    pub fn keep(mut self) -> Key {
        self.leave_on_drop = false;
        self.key.clone()
    }

    /// Leaves the line, or gives up its head. False when the key had gone already. When an answer
    /// was lost, and the key is gone on asking again, that is taken for one's own doing: true.
    ///
    /// # Cancel safety
    ///
    /// The line is left in the background then.
    ///
    /// # Errors
    ///
    /// What the store answered after not having been reached for the patience. It is asked on in the
    /// background as long as the lease lives.
    pub async fn leave(mut self) -> Result<bool> {
        let left = leave(
            &**self.vigils.store(),
            &self.key,
            self.created,
            self.patience,
        )
        .await;
        if left.is_ok() && self.leave_on_drop {
            self.leave_on_drop = false;
            self.watch_for_copies();
        }
        left
    }

    fn watch_for_copies(&self) {
        if self.doubt {
            let leftovers = self.vigils.leftovers();
            leftovers.expect_copies(&self.runtime, self.key.clone(), self.lease);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.leave_on_drop {
            return;
        }
        let (vigils, runtime) = (self.vigils.clone(), self.runtime.clone());
        let (key, lease, created) = (self.key.clone(), self.lease, self.created);
        let patience = self.patience;
        self.runtime.spawn(async move {
            if let Err(error) = leave(&**vigils.store(), &key, created, patience).await {
                tracing::debug!(%key, %error, "a waiter's key could not be deleted yet");
                vigils.leftovers().add(&runtime, key, lease, created);
            }
        });
        self.watch_for_copies();
    }
}
