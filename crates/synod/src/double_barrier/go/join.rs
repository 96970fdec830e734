//! [`join`]: the way in, with an answer that may be lost and a caller who may go.

use std::sync::Arc;

use synod_store::{
    Compare, CompareOp, DeleteRequest, Key, KeyRange, PutRequest, RangeRequest, Txn,
};
use tokio::sync::oneshot;

use super::hall::{Hall, Own};
use super::member::Member;
use crate::double_barrier::Stay;
use crate::errand::errand;
use crate::retry::Backoff;
use crate::settle::{Outcome, Work};
use crate::{Client, Resolution, Result, Session, Token, retry, session};

/// Puts the own key among the waiters.
///
/// The Txn runs in a task, where the session is kept: when the caller goes, or its runtime, the key is deleted again.
pub(in crate::double_barrier) async fn join(
    client: &Client,
    hall: &Arc<Hall>,
    session: Session,
    count: usize,
    stay: Stay,
) -> Result<Member> {
    let runtime = session.runtimes().first;
    hall.sight.open(&runtime);
    let (answer, answered) = oneshot::channel();
    let task = {
        let (client, hall) = (client.clone(), Arc::clone(hall));
        let session = session.clone();
        async move {
            // A caller who has gone gives the key back, which is deleted then.
            drop(answer.send(join_now(&client, hall, session, count, stay).await));
        }
    };
    hall.settle.spawn(&runtime, "double_barrier.enter", task);
    let joined = answered.await;
    joined.unwrap_or_else(|_| Err(session.no_answer_from(&runtime)))
}

async fn join_now(
    client: &Client,
    hall: Arc<Hall>,
    session: Session,
    count: usize,
    stay: Stay,
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
        let mut unseen = Unseen {
            client: client.clone(),
            hall: Arc::clone(&hall),
            session: session.clone(),
            key: key.clone(),
            token: None,
            stay: Some(Arc::clone(&stay)),
        };
        let outcome = hall.settle.run(work).await;
        unseen.token = outcome
            .as_ref()
            .err()
            .and_then(|error| error.token().cloned());
        if unseen.token.is_none() {
            unseen.stay = None;
        }
        drop(unseen);
        match outcome {
            Ok(Outcome::Done {
                revision,
                responses,
                ..
            }) => {
                // From here on the key is deleted if this fails.
                let own = Own {
                    key,
                    created: revision,
                };
                let mut member = Member::new(hall, session, count, own, stay);
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
            Err(error) => return Err(session::lease_gone(&session, error)),
        }
    }
}

/// A key that was put or not: its caller was told a token, or has gone with its runtime. Dropping it deletes the key
/// once that is known, unless there is nothing to stay for. The lease is the backstop.
#[derive(Clone)]
struct Unseen {
    client: Client,
    hall: Arc<Hall>,
    session: Session,
    key: Key,
    token: Option<Token>,
    stay: Option<Stay>,
}

impl Drop for Unseen {
    fn drop(&mut self) {
        let Some(stay) = self.stay.take() else { return };
        // Without anything to stay for: it ends here.
        let unseen = self.clone();
        if self.token.is_none() {
            // Nobody can tell whether a copy is still on its way.
            let leftovers = self.client.vigils().leftovers();
            leftovers.expect_copies(self.session.home(), self.key.clone(), self.session.lease());
        }
        let runtimes = self.session.runtimes();
        let settle = &self.hall.settle;
        errand(settle, runtimes, "double_barrier.give_up", move || {
            let (unseen, stay) = (unseen.clone(), Arc::clone(&stay));
            async move {
                unseen.give_up().await;
                drop(stay);
            }
        });
    }
}

impl Unseen {
    async fn give_up(&self) {
        let (hall, session) = (&self.hall, &self.session);
        let mut backoff = Backoff::new();
        while session.is_alive() && !hall.settle.is_abandoned() {
            match self.try_to_give_up().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(key = %self.key, %error, "a waiter's key could not be given up");
                    backoff.wait().await;
                }
            }
        }
    }

    async fn try_to_give_up(&self) -> Result<()> {
        let hall = &self.hall;
        if let Some(token) = &self.token
            && hall.settle.resolve(token).await? == Resolution::NeverWill
        {
            return Ok(());
        }
        // Only a call that found nobody at this nanosecond can have put it under this lease.
        let lease = Some(self.session.lease());
        let txn = Txn::new()
            .when([Compare::lease(self.key.clone(), CompareOp::Equal, lease)])
            .and_then([DeleteRequest::new(self.key.clone())]);
        retry::read(hall.patience, || hall.store.txn(txn.clone())).await?;
        Ok(())
    }
}
