//! [`Member`]: one whose key is among the waiters, until it has left.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{Compare, CompareOp, DeleteRequest, ErrorKind, Key, RangeRequest, Revision, Txn};
use tokio::time::Instant;

use super::hall::{Hall, Own, Step};
use crate::double_barrier::{Stay, while_kept};
use crate::errand::errand;
use crate::retry::Backoff;
use crate::sight::View;
use crate::{Error, Result, Session, retry};

/// How long one who is not the last waits for the last to publish.
const GRACE: Duration = Duration::from_millis(100);

/// A key among the waiters. Dropping it deletes the key in the background.
#[derive(Debug)]
pub(in crate::double_barrier) struct Member {
    hall: Arc<Hall>,
    session: Session,
    count: usize,
    own: Own,
    /// When the round was full, once that is known.
    full: Option<Revision>,
    out: bool,
    /// Dropped once the key is deleted.
    stay: Stay,
}

impl Member {
    pub(super) fn new(
        hall: Arc<Hall>,
        session: Session,
        count: usize,
        own: Own,
        stay: Stay,
    ) -> Member {
        Member {
            hall,
            session,
            count,
            own,
            full: None,
            out: false,
            stay,
        }
    }

    /// Bows out if there were enough without this one when its key was created. Who is not among
    /// the first then must not take their round for its own.
    pub(super) async fn check_room(
        &mut self,
        count: Option<u64>,
        then: RangeRequest,
    ) -> Result<()> {
        let hall = &self.hall;
        let count = match count {
            Some(count) => count,
            None => {
                let read = retry::read(hall.patience, || hall.store.range(then.clone())).await;
                match read {
                    Ok(range) => range.count,
                    // Too long ago to know: as if there had been enough.
                    Err(error) if error.kind() == Some(ErrorKind::Compacted) => u64::MAX,
                    Err(error) => return Err(error),
                }
            }
        };
        if usize::try_from(count).unwrap_or(usize::MAX) > self.count {
            hall.delete(&self.own, None).await?;
            self.out = true;
            return Err(hall.too_many(self.count));
        }
        Ok(())
    }

    pub(in crate::double_barrier) fn session(&self) -> &Session {
        &self.session
    }

    /// Waits until the round is full.
    pub(in crate::double_barrier) async fn wait_full(&mut self) -> Result<()> {
        if self.full.is_none() {
            let full = while_kept(&self.session, self.watch_round()).await?;
            self.full = Some(full);
        }
        self.session.check()
    }

    async fn watch_round(&self) -> Result<Revision> {
        let (hall, own) = (&self.hall, &self.own);
        let runtime = self.session.runtimes().first;
        let mut patient = true;
        let mut behind = Revision::ZERO;
        loop {
            let next = |view: &View| {
                let step = hall.step(view, own, self.count);
                step.filter(|_| view.revision > behind)
            };
            let (last, seen, ready, counted) = match hall.sight.find(&runtime, next).await? {
                Step::Lost => return Err(Error::SessionLost),
                Step::Full(full) => return Ok(full),
                Step::Publish {
                    last,
                    seen,
                    ready,
                    counted,
                } => (last, seen, ready, counted),
            };
            if !last && patient {
                // The one who completed the round is about to say so, unless it has died.
                patient = false;
                let said = |view: &View| match hall.step(view, own, self.count) {
                    Some(Step::Full(full)) => Some(full),
                    _ => None,
                };
                if let Ok(full) = tokio::time::timeout(GRACE, hall.sight.find(&runtime, said)).await
                {
                    return full;
                }
            } else if let Some(full) = hall.publish(own, ready, &counted).await? {
                return Ok(full);
            } else {
                // A key of these has changed, or the first copy's answer was lost: a view to come
                // shows which.
                behind = seen;
                patient = true;
            }
        }
    }

    /// Bows out, unless the round is full: then false, and the key stays.
    pub(in crate::double_barrier) async fn withdraw(&mut self) -> Result<bool> {
        if self.full.is_some() {
            return Ok(false);
        }
        let (hall, own) = (&self.hall, &self.own);
        let txn = Txn::new()
            .when([
                Compare::created_at(own.key.clone(), own.created),
                Compare::mod_revision(hall.ready.clone(), CompareOp::Less, own.created),
            ])
            .and_then([synod_store::TxnOp::from(DeleteRequest::new(
                own.key.clone(),
            ))])
            .or_else([
                RangeRequest::new(own.key.clone()).keys_only(),
                RangeRequest::new(hall.ready.clone()).keys_only(),
            ]);
        let response = retry::read(hall.patience, || hall.store.txn(txn.clone())).await?;
        if response.succeeded {
            self.out = true;
            return Ok(true);
        }
        let mut found = response.responses.into_iter().map(|response| {
            let range = response.into_range();
            range.and_then(|range| range.kvs.into_iter().next())
        });
        let created = found.next().flatten().map(|kv| kv.create_revision);
        let ready = found.next().flatten().map(|kv| kv.mod_revision);
        match (created, ready) {
            (Some(created), Some(ready)) if created == own.created => {
                self.full = Some(ready);
                Ok(false)
            }
            // Gone by an earlier copy of this Txn, or with the lease: not in the round either way.
            _ => {
                self.out = true;
                self.session.check().map(|()| true)
            }
        }
    }

    /// Leaves, and waits for the others of the round until the deadline. False when some were still
    /// inside then.
    pub(in crate::double_barrier) async fn leave(
        mut self,
        deadline: Option<Instant>,
    ) -> Result<bool> {
        let Some(full) = self.full else {
            return Err(Error::SessionLost);
        };
        let waited = match deadline {
            None => Ok(self.leave_now(full).await),
            Some(deadline) => tokio::time::timeout_at(deadline, self.leave_now(full)).await,
        };
        if let Ok(over) = waited {
            return over.map(|()| true);
        }
        if !self.out {
            self.hall.delete(&self.own, None).await?;
            self.out = true;
        }
        Ok(false)
    }

    async fn leave_now(&mut self, full: Revision) -> Result<()> {
        let hall = Arc::clone(&self.hall);
        let own = self.own.clone();
        let runtime = self.session.runtimes().first;
        let of_round = |view: &View| {
            let mut waiters = hall.waiters(view);
            waiters.retain(|(created, _, _)| *created <= full);
            waiters
        };
        // Whether the own key is the lowest: no other of the round is put again, so this stays.
        let lowest = |view: &View| {
            if view.revision < full {
                return None;
            }
            let waiters = of_round(view);
            let there = |key: &Key| *key == own.key;
            if !waiters.iter().any(|(_, _, key)| there(key)) {
                return Some(Err(Error::SessionLost));
            }
            let lowest = waiters.iter().min_by_key(|(_, modified, _)| *modified);
            Some(Ok(lowest.is_some_and(|(_, _, key)| there(key))))
        };
        if !hall.sight.find(&runtime, lowest).await?? {
            self.delete(None).await?;
            // Those of the round were there when it was full, the own one too, and none is put again: once none is
            // left, none will be. No view has to be as new as the answer to the own deletion, which may be that of a
            // later copy: what others write elsewhere since then is not seen here.
            let alone = |view: &View| {
                let none = of_round(view).is_empty();
                (view.revision >= full && none).then_some(())
            };
            return hall.sight.find(&runtime, alone).await;
        }
        let alone = |view: &View| {
            let waiters = of_round(view);
            if !waiters.iter().any(|(_, _, key)| *key == own.key) {
                return (view.revision >= full).then_some(Err(Error::SessionLost));
            }
            (waiters.len() == 1).then(|| Ok(view.modified(&hall.ready)))
        };
        let ready = hall.sight.find(&runtime, alone).await??;
        self.delete(Some(ready)).await
    }

    /// Deletes the own key.
    async fn delete(&mut self, flag: Option<Revision>) -> Result<()> {
        let there = self.hall.delete(&self.own, flag).await?;
        self.out = true;
        match there {
            Some(true) => Ok(()),
            Some(false) => Err(Error::SessionLost),
            // Gone by an earlier copy whose answer was lost, or with the session.
            None => self.session.check(),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.out {
            return;
        }
        let (hall, own) = (Arc::clone(&self.hall), self.own.clone());
        let (session, stay) = (self.session.clone(), Arc::clone(&self.stay));
        let (settle, runtimes) = (&self.hall.settle, session.runtimes());
        errand(settle, runtimes, "double_barrier.leave", move || {
            let (hall, own) = (Arc::clone(&hall), own.clone());
            let (session, stay) = (session.clone(), Arc::clone(&stay));
            async move {
                let mut backoff = Backoff::new();
                // As long as the session lives nobody else deletes it.
                while let Err(error) = hall.delete(&own, None).await {
                    tracing::debug!(key = %own.key, %error, "a waiter's key could not be deleted");
                    if !session.is_alive() || hall.settle.is_abandoned() {
                        return;
                    }
                    backoff.wait().await;
                }
                drop(stay);
            }
        });
    }
}
