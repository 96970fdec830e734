//! [`Place`]: a place in a line, from which it is waited for the head.

use std::future::Future;
use std::time::Duration;

use synod_store::{
    Header, Key, KeyValue, LeaseId, RangeRequest, Revision, Store, Txn, TxnOp, TxnResponse,
};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::clean::leave;
use super::vigil::Vigil;
use super::{Line, Neighbours, Vigils};
use crate::errand::Runtimes;
use crate::span;
use crate::{Client, Error, Result, Session, retry};

/// A place in a line. Dropping it leaves the line, unless it was joined by another call or
/// [kept](Place::keep).
#[derive(Debug)]
pub struct Place {
    pub(super) vigils: Vigils,
    /// Where the session is kept, or the line was joined if that is not known.
    pub(super) home: Handle,
    pub(super) key: Key,
    pub(super) line: Line,
    pub(super) created: Revision,
    pub(super) lease: LeaseId,
    pub(super) patience: Duration,
    /// The pair that was there already.
    pub(super) found: Option<KeyValue>,
    /// The number in the own key, if it may be used again once the key is gone.
    pub(super) number: Option<u64>,
    /// When the line was seen last.
    pub(super) seen: Revision,
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
        session: &Session,
        key: Key,
        created: Revision,
        doubt: bool,
    ) -> Place {
        Place {
            vigils: client.vigils().clone(),
            home: session.home().clone(),
            line: Line::of(&key, &Neighbours::Direct),
            key,
            created,
            lease: session.lease(),
            patience: client.timeout(),
            found: None,
            number: None,
            seen: created,
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
        let watch_own = Instant::now() + self.vigils.own_watch();
        let mut own: Option<Vigil> = None;
        let mut before: Option<(Key, Vigil)> = None;
        loop {
            let Some((created, nearest)) = self.nearest.clone() else {
                let header = self.look(Some(self.seen)).await?;
                if self.nearest.is_none() {
                    return Ok(header);
                }
                continue;
            };
            let mut vigil = match before.take() {
                Some((key, vigil)) if key == nearest => vigil,
                _ => self.vigils.open(&nearest, created, self.patience).await?,
            };
            if !vigil.tells_after(self.seen) {
                let least = vigil.since().map(|since| since.max(self.seen));
                let header = self.look(least).await?;
                match &self.nearest {
                    None => return Ok(header),
                    Some((anew, key)) if *key == nearest && *anew == created => {}
                    Some(_) => {
                        before = Some((nearest, vigil));
                        continue;
                    }
                }
            }
            let gone = self.watch(&mut own, watch_own, &mut vigil, &nearest, created);
            self.seen = self.seen.max(gone.await?);
            self.nearest = None;
        }
    }

    /// Waits until the key before is gone. Returns a revision at which it was. An error when the own
    /// one is, which is watched from some moment on.
    async fn watch(
        &self,
        own: &mut Option<Vigil>,
        watch_own: Instant,
        before: &mut Vigil,
        key: &Key,
        created: Revision,
    ) -> Result<Revision> {
        let mut read = self.seen;
        loop {
            let gone = match own {
                Some(own) => tokio::select! {
                    gone = own.gone(read) => {
                        if gone?.is_some() {
                            return Err(Error::SessionLost);
                        }
                        None
                    }
                    gone = before.gone(read) => gone?,
                },
                None => match tokio::time::timeout_at(watch_own, before.gone(read)).await {
                    Ok(gone) => gone?,
                    Err(_) => {
                        let opening = self.vigils.open(&self.key, self.created, self.patience);
                        *own = Some(opening.await?);
                        None
                    }
                },
            };
            if let Some(gone) = gone {
                return Ok(gone);
            }
            let get = |key: &Key| RangeRequest::new(key.clone()).keys_only();
            let (there, header) = self.read([get(&self.key), get(key)], None).await?;
            if there.first().map(|kv| kv.create_revision) != Some(created) {
                return Ok(header.revision);
            }
            read = header.revision;
        }
    }

    /// Reads the own key and who is before it; see [`Place::read`].
    async fn look(&mut self, least: Option<Revision>) -> Result<Header> {
        let own = RangeRequest::new(self.key.clone()).keys_only();
        let before = self.line.reads_before(self.created);
        let reads: Vec<_> = [own].into_iter().chain(before).collect();
        let (mut others, header) = self.read(reads, least).await?;
        others.retain(|kv| self.line.counts(&kv.key));
        self.count(others.into_iter());
        self.seen = header.revision;
        Ok(header)
    }

    /// Reads at one revision, the own key first. An error when that is not there any more; else the
    /// pairs of the other reads.
    ///
    /// When it suffices that the revision is not before `least`, the member of the cluster that is
    /// asked answers by itself, if it has come so far: as it told of `least`, it has, unless another
    /// one is asked by now. Then all are asked, as without `least`.
    async fn read(
        &self,
        reads: impl IntoIterator<Item = RangeRequest>,
        least: Option<Revision>,
    ) -> Result<(Vec<KeyValue>, Header)> {
        let reads: Vec<_> = reads.into_iter().collect();
        let mut response = None;
        if let Some(least) = least {
            let own = reads.iter().cloned().map(RangeRequest::serializable);
            let answer = self.ask(own).await?;
            response = Some(answer).filter(|answer| answer.header.revision >= least);
        }
        let response = match response {
            Some(response) => response,
            None => self.ask(reads).await?,
        };
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

    async fn ask(&self, reads: impl IntoIterator<Item = RangeRequest>) -> Result<TxnResponse> {
        let txn = Txn::new().and_then(reads.into_iter().map(TxnOp::from));
        let store = self.vigils.store();
        retry::read(self.patience, || store.txn(txn.clone())).await
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
            if let Some(number) = self.free_number() {
                self.vigils.numbers().give_back(number);
            }
        }
        left
    }

    /// The number in the own key, if nothing can make that key again once it is deleted.
    fn free_number(&self) -> Option<u64> {
        self.number.filter(|_| !self.doubt)
    }

    fn watch_for_copies(&self) {
        if self.doubt {
            let leftovers = self.vigils.leftovers();
            leftovers.expect_copies(&self.home, self.key.clone(), self.lease);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.leave_on_drop {
            return;
        }
        let leaving = Leaving {
            vigils: self.vigils.clone(),
            home: self.home.clone(),
            key: self.key.clone(),
            lease: self.lease,
            created: self.created,
            number: self.free_number(),
            left: false,
        };
        // As long as the key can stay, tasks run there.
        Runtimes::of(&self.home)
            .first
            .spawn(span::task("line.leave", leaving.run(self.patience)));
        self.watch_for_copies();
    }
}

/// A key that is being deleted. If that does not come about, it is left to [`Leftovers`](super::leftovers):
/// also when the runtime has ended, or ends in the middle.
struct Leaving {
    vigils: Vigils,
    home: Handle,
    key: Key,
    lease: LeaseId,
    created: Revision,
    number: Option<u64>,
    left: bool,
}

impl Leaving {
    async fn run(mut self, patience: Duration) {
        let store = self.vigils.store();
        match leave(&**store, &self.key, self.created, patience).await {
            Ok(_) => {
                self.left = true;
                if let Some(number) = self.number {
                    self.vigils.numbers().give_back(number);
                }
            }
            Err(error) => {
                tracing::debug!(key = %self.key, %error, "a key could not be deleted yet")
            }
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if !self.left {
            let leftovers = self.vigils.leftovers();
            leftovers.add(&self.home, self.key.clone(), self.lease, self.created);
        }
    }
}
