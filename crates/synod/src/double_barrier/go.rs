//! The layout of etcd's Go recipe, for rounds that Go programs take part in.
//!
//! # Key layout
//!
//! ```text
//! key                  value         lease          written by          deleted by
//! NAME/waiters/NANOS   identity      the session's  the participant     the participant, or the lease's end
//! NAME/ready           empty         none           whoever sees that   the last to leave
//!                                                   all are there
//! ```
//!
//! `NANOS` is the wall clock in nanoseconds, in decimal. Go leaves the value empty, and reads none.
//!
//! # Protocol
//!
//! All that a participant needs to know is in one range, `[NAME/ready, end of NAME/waiters*)`, which is
//! watched once for all participants of a client. Let `c` be the own key's create revision.
//!
//! *Enter*:
//! 1. Read the waiters. As many as the count or more: too many.
//! 2. `If create(own)=0 Then put(own), count the waiters`, through a lane. More than the count: delete
//!    it, too many.
//! 3. In each view at `c` or later: the own key is not there: the session is lost. `ready` was put
//!    after `c`: the round is full. Of the waiters created after `ready` was last put (those before are
//!    leaving) there are enough: the one who completed them publishes at once, the others after a
//!    moment, should that one have died: `If create(own)=c and mod(ready) is as seen and the counted
//!    keys are those that were seen Then put(ready)`.
//!
//! *Bow out*: `If create(own)=c and mod(ready)<c Then delete(own)`.
//!
//! *Leave* of a round that was full at `f`, when `ready` was put:
//! 1. The one with the lowest modification revision of those created up to `f` stays until it is the
//!    only one of them; the others delete their keys, and wait until none is left. (Go's processes
//!    wait for the lowest to go, and expect it to wait for the others.)
//! 2. The only one: `If create(own)=c Then delete(own)`, and `ready` if it is still as seen.
//!
//! Keys created after `f` are newcomers, who are not waited for.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    Compare, CompareOp, DeleteRequest, ErrorKind, Key, KeyRange, PutRequest, RangeRequest,
    Revision, Store, Txn,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use crate::retry::Backoff;
use crate::settle::{Outcome, Settle, Work};
use crate::sight::{Sight, View};
use crate::{Client, Error, Resolution, Result, Session, Token, retry, session};

/// How long one who is not the last waits for the last to publish.
const GRACE: Duration = Duration::from_millis(100);

/// The most keys that are compared when the round is published, within etcd's limit of a Txn.
const COMPARED: usize = 100;

/// What all participants of one double barrier in one client share.
#[derive(Debug)]
pub(super) struct Hall {
    name: Key,
    waiters: Key,
    ready: Key,
    store: Arc<dyn Store>,
    settle: Settle,
    patience: Duration,
    runtime: Handle,
    sight: Sight,
}

/// A key among the waiters. Dropping it deletes the key in the background.
#[derive(Debug)]
pub(super) struct Member {
    hall: Arc<Hall>,
    session: Session,
    count: usize,
    own: Own,
    /// When the round was full, once that is known.
    full: Option<Revision>,
    out: bool,
    /// Dropped once the key is deleted.
    stay: Option<DropGuard>,
}

/// The own key, and when it was created.
#[derive(Debug, Clone)]
struct Own {
    key: Key,
    created: Revision,
}

/// What a view says to one who waits.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Lost,
    Full(Revision),
    /// All are there, and nobody has said so.
    Publish {
        /// Whether the own key completed them.
        last: bool,
        /// The view's revision.
        seen: Revision,
        /// When `ready` was put last.
        ready: Revision,
        /// Who they are.
        counted: Vec<(Revision, Key)>,
    },
}

impl Hall {
    pub(super) fn of(client: &Client, name: &Key, runtime: &Handle) -> Arc<Hall> {
        client.registry().get("double-barrier/go", name, || {
            let (waiters, ready) = (name.join("/waiters"), name.join("/ready"));
            let range = match KeyRange::prefix(waiters.clone()) {
                KeyRange::Between(_, end) => KeyRange::between(ready.clone(), end),
                _ => KeyRange::from(ready.clone()),
            };
            let store = client.shared_store();
            Hall {
                name: name.clone(),
                sight: Sight::open(Arc::clone(&store), runtime, range, client.timeout()),
                waiters,
                ready,
                store,
                settle: client.settle(),
                patience: client.timeout(),
                runtime: runtime.clone(),
            }
        })
    }

    fn too_many(&self, count: usize) -> Error {
        Error::TooManyParticipants {
            name: self.name.to_string(),
            count: u64::try_from(count).unwrap_or(u64::MAX),
        }
    }

    /// The waiters by create revision, with their modification revisions.
    fn waiters(&self, view: &View) -> Vec<(Revision, Revision, Key)> {
        let mut waiters: Vec<_> = view
            .kvs
            .values()
            .filter(|kv| kv.key.starts_with(self.waiters.as_bytes()))
            .map(|kv| (kv.create_revision, kv.mod_revision, kv.key.clone()))
            .collect();
        waiters.sort();
        waiters
    }

    fn step(&self, view: &View, own: &Own, count: usize) -> Option<Step> {
        if view.revision < own.created {
            return None;
        }
        let ready = view.modified(&self.ready);
        let waiters = self.waiters(view);
        let own_there =
            |(created, _, key): &(_, _, Key)| *created == own.created && *key == own.key;
        if !waiters.iter().any(own_there) {
            return Some(Step::Lost);
        }
        if ready > own.created {
            return Some(Step::Full(ready));
        }
        let counted: Vec<_> = waiters
            .into_iter()
            .map(|(created, _, key)| (created, key))
            .filter(|(created, _)| *created > ready)
            .take(count)
            .collect();
        let mine = counted.iter().position(|(_, key)| *key == own.key);
        (counted.len() >= count).then_some(Step::Publish {
            last: mine == count.checked_sub(1),
            seen: view.revision,
            ready,
            counted,
        })
    }

    /// Says that all are there, if they still are. `None` when something has changed.
    async fn publish(
        &self,
        own: &Own,
        ready: Revision,
        counted: &[(Revision, Key)],
    ) -> Result<Option<Revision>> {
        let others = counted
            .iter()
            .filter(|(_, key)| *key != own.key)
            .rev()
            .take(COMPARED);
        let txn = Txn::new()
            .when([
                Compare::created_at(own.key.clone(), own.created),
                Compare::modified_at(self.ready.clone(), ready),
            ])
            .when(others.map(|(created, key)| Compare::created_at(key.clone(), *created)))
            .and_then([PutRequest::new(self.ready.clone(), "")]);
        // A second copy finds another modification revision; what the first did is seen then.
        let response = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
        Ok(response.succeeded.then_some(response.header.revision))
    }

    /// Deletes the own key, and the flag if it is as seen. Returns whether the key was still there, if
    /// that is known: a Txn that was sent again may have found what it did itself. And the revision.
    async fn delete(&self, own: &Own, flag: Option<Revision>) -> Result<(Option<bool>, Revision)> {
        let mut txn = Txn::new()
            .when([Compare::created_at(own.key.clone(), own.created)])
            .and_then([DeleteRequest::new(own.key.clone())]);
        if let Some(ready) = flag {
            txn = txn.and_then([Txn::new()
                .when([Compare::modified_at(self.ready.clone(), ready)])
                .and_then([DeleteRequest::new(self.ready.clone())])]);
        }
        let mut again = None;
        let send = || {
            again = Some(again.is_some());
            self.store.txn(txn.clone())
        };
        let response = retry::read(self.patience, send).await?;
        let known = response.succeeded || again == Some(false);
        let there = known.then_some(response.succeeded);
        Ok((there, response.header.revision))
    }
}

/// Puts the own key among the waiters.
///
/// The Txn runs in a task: when the caller goes, the key is deleted again.
pub(super) async fn join(
    client: &Client,
    hall: &Arc<Hall>,
    session: Session,
    count: usize,
    stay: DropGuard,
) -> Result<Member> {
    let (answer, answered) = oneshot::channel();
    let task = {
        let (client, hall) = (client.clone(), Arc::clone(hall));
        async move {
            // A caller who has gone gives the key back, which is deleted then.
            drop(answer.send(join_now(&client, hall, session, count, stay).await));
        }
    };
    hall.settle
        .spawn(&hall.runtime, "double_barrier.enter", task);
    answered.await.unwrap_or(Err(Error::NoRuntime))
}

async fn join_now(
    client: &Client,
    hall: Arc<Hall>,
    session: Session,
    count: usize,
    stay: DropGuard,
) -> Result<Member> {
    session.check()?;
    let request = RangeRequest::new(KeyRange::prefix(hall.waiters.clone())).count_only();
    let there = retry::read(hall.patience, || hall.store.range(request.clone())).await?;
    if usize::try_from(there.count).unwrap_or(usize::MAX) >= count {
        return Err(hall.too_many(count));
    }
    let mut stamp = client.clock().unix_nanos();
    loop {
        let key = hall.waiters.join(format!("/{stamp}"));
        let put = PutRequest::new(key.clone(), client.identity()).with_lease(session.lease());
        let range = RangeRequest::new(KeyRange::prefix(hall.waiters.clone())).count_only();
        let work = Work::new(
            vec![Compare::absent(key.clone())],
            vec![put.into(), range.clone().into()],
        );
        match hall.settle.run(work).await {
            Ok(Outcome::Done {
                revision,
                responses,
                ..
            }) => {
                // From here on the key is deleted if this fails.
                let mut member = Member {
                    hall,
                    session,
                    count,
                    own: Own {
                        key,
                        created: revision,
                    },
                    full: None,
                    out: false,
                    stay: Some(stay),
                };
                let count = responses
                    .and_then(|responses| responses.into_iter().nth(1)?.into_range())
                    .map(|range| range.count);
                member.check_room(count, range.at(revision)).await?;
                return Ok(member);
            }
            // Another has the same nanosecond.
            Ok(Outcome::GuardsFalse) => {
                stamp = client.clock().unix_nanos().max(stamp.saturating_add(1));
            }
            Err(error) => {
                if let Some(token) = error.token() {
                    let task = give_up(Arc::clone(&hall), session.clone(), key, token.clone());
                    hall.settle
                        .spawn(&hall.runtime, "double_barrier.give_up", async move {
                            task.await;
                            drop(stay);
                        });
                }
                return Err(session::lease_gone(&session, error));
            }
        }
    }
}

/// Deletes a key that was put or not, once that is known. The lease is the backstop.
async fn give_up(hall: Arc<Hall>, session: Session, key: Key, token: Token) {
    while session.is_alive() && !hall.settle.is_abandoned() {
        match hall.settle.resolve(&token).await {
            Ok(Resolution::NeverWill) => return,
            Ok(_) => {}
            Err(_) => continue,
        }
        // Only a call that found nobody at this nanosecond can have put it under this lease.
        let txn = Txn::new()
            .when([Compare::lease(
                key.clone(),
                CompareOp::Equal,
                Some(session.lease()),
            )])
            .and_then([DeleteRequest::new(key.clone())]);
        let deleted = retry::read(hall.patience, || hall.store.txn(txn.clone())).await;
        if deleted.is_ok() {
            return;
        }
    }
}

impl Member {
    /// Bows out if there were enough without this one when its key was created. Who is not among
    /// the first then must not take their round for its own.
    async fn check_room(&mut self, count: Option<u64>, then: RangeRequest) -> Result<()> {
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

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Waits until the round is full.
    pub(super) async fn wait_full(&mut self) -> Result<()> {
        if self.full.is_none() {
            let over = self.session.lost();
            let full = tokio::select! {
                // Asked first: whose session has ended is told nothing else.
                biased;
                () = over => return Err(Error::SessionLost),
                full = self.watch_round() => full?,
            };
            self.full = Some(full);
        }
        self.session.check()
    }

    async fn watch_round(&self) -> Result<Revision> {
        let (hall, own) = (&self.hall, &self.own);
        let mut patient = true;
        let mut behind = Revision::ZERO;
        loop {
            let next = |view: &View| {
                let step = hall.step(view, own, self.count);
                step.filter(|_| view.revision > behind)
            };
            let (last, seen, ready, counted) = match hall.sight.find(next).await? {
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
                if let Ok(full) = tokio::time::timeout(GRACE, hall.sight.find(said)).await {
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
    pub(super) async fn withdraw(&mut self) -> Result<bool> {
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
    pub(super) async fn leave(mut self, deadline: Option<Instant>) -> Result<bool> {
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
        if !hall.sight.find(lowest).await?? {
            let since = self.delete(None).await?;
            let alone = |view: &View| {
                let none = of_round(view).is_empty();
                (view.revision >= since && none).then_some(())
            };
            return hall.sight.find(alone).await;
        }
        let alone = |view: &View| {
            let waiters = of_round(view);
            if !waiters.iter().any(|(_, _, key)| *key == own.key) {
                return (view.revision >= full).then_some(Err(Error::SessionLost));
            }
            (waiters.len() == 1).then(|| Ok(view.modified(&hall.ready)))
        };
        let ready = hall.sight.find(alone).await??;
        self.delete(Some(ready)).await.map(drop)
    }

    /// Deletes the own key; returns when.
    async fn delete(&mut self, flag: Option<Revision>) -> Result<Revision> {
        let (there, revision) = self.hall.delete(&self.own, flag).await?;
        self.out = true;
        match there {
            Some(true) => {}
            Some(false) => return Err(Error::SessionLost),
            // Gone by an earlier copy whose answer was lost, or with the session.
            None => self.session.check()?,
        }
        Ok(revision)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.out {
            return;
        }
        let (hall, own) = (Arc::clone(&self.hall), self.own.clone());
        let (session, stay) = (self.session.clone(), self.stay.take());
        self.hall
            .settle
            .spawn(&self.hall.runtime, "double_barrier.leave", async move {
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
            });
    }
}
