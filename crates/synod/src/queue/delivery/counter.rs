//! How callers are served: those who wait together share one claim.
//!
//! Every caller is among the [`Wants`](super::wants::Wants) until a claim is on its way for it, and
//! tries for a turn meanwhile. Whoever gets one leads: it sends a claim for all who are there, in a
//! task of its own, so that nobody's going changes it. What was taken for a caller that has left goes to
//! the next one who wants the same, else back, uncounted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::try_join_all;
use synod_store::{Compare, ErrorKind, Key, RangeRequest, Revision, Txn, TxnOpResponse};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::claim::{Claim, joined, tries};
use super::gate::Gate;
use super::held::{Delivery, Held};
use super::keys::Id;
use super::leases::Lease;
use super::options::Options;
use super::stock::{Offer, Popped};
use super::taker::{GRANTS, Taker, too_large};
use super::wants::{Answer, Want, hand_out};
use super::{PAUSE, ROUNDS};
use crate::queue::{Core, Order};
use crate::settle::Outcome;
use crate::{Client, Error, Result, retry};

/// The most deliveries that one claim takes. Each is a Txn inside it, whose four operations share the
/// budget with the list of all of them.
const BATCH: usize = 100;

/// How many offers a claim for one caller tries once one was lost to another client.
const CHAIN: usize = 6;

/// How often a caller asks again because the runtime of another has ended.
const RESTARTS: usize = 8;

/// A caller's place. When it leaves, what was taken for it goes to others.
struct Place<O: Order>
where
    Core<O>: Gate,
{
    taker: Arc<Taker<O>>,
    runtime: Handle,
    number: u64,
    receiver: oneshot::Receiver<Answer>,
    options: Options,
}

impl<O: Order> Drop for Place<O>
where
    Core<O>: Gate,
{
    fn drop(&mut self) {
        self.receiver.close();
        // Else those who give up on an empty queue, for which no claim is made, would gather.
        self.taker.wants.lock().withdraw(self.number);
        if let Ok(Ok(deliveries)) = self.receiver.try_recv() {
            let deliveries = deliveries.into_iter();
            let deliveries = deliveries
                .map(|delivery| (self.options, delivery))
                .collect();
            self.taker.pass_on(Vec::new(), deliveries, 0, &self.runtime);
        }
    }
}

/// What a caller that tried to lead has come to.
enum Led {
    /// A claim is on its way for it.
    Served,
    /// There is nothing, and it does not wait.
    Empty,
}

impl<O: Order> Taker<O>
where
    Core<O>: Gate,
{
    /// Takes up to `max` of the first items; waits for the first one if asked to. None: there is none.
    pub(super) async fn take(
        self: &Arc<Self>,
        client: &Client,
        options: Options,
        max: usize,
        waits: bool,
    ) -> Result<Vec<Delivery>> {
        let runtime = crate::runtime()?;
        self.depot.tend_when_due(&runtime, ROUNDS);
        let patience = Instant::now() + self.core.patience;
        let mut number = None;
        let mut restarts = RESTARTS;
        loop {
            let mut place = self.ask(number, options, max, &runtime);
            number = Some(place.number);
            let answer = tokio::select! {
                biased;
                answer = &mut place.receiver => answer,
                led = self.lead(client, place.number, waits, patience, &runtime) => {
                    if let Led::Empty = led?
                        && self.wants.lock().withdraw(place.number)
                    {
                        return Ok(Vec::new());
                    }
                    let answer = tokio::time::timeout(self.core.patience, &mut place.receiver);
                    answer.await.map_err(|_| self.late())?
                }
            };
            match answer {
                Ok(Ok(taken)) if taken.is_empty() => {}
                Ok(answer) => return answer,
                // The task that was to answer has ended with another caller's runtime.
                Err(_) if restarts > 0 => {
                    restarts = restarts.saturating_sub(1);
                    tokio::task::yield_now().await;
                }
                Err(_) => return Err(Error::NoRuntime),
            }
        }
    }

    fn ask(
        self: &Arc<Self>,
        again: Option<u64>,
        options: Options,
        max: usize,
        runtime: &Handle,
    ) -> Place<O> {
        let (number, receiver) = self.wants.lock().ask(again, options, max);
        Place {
            taker: Arc::clone(self),
            runtime: runtime.clone(),
            number,
            receiver,
            options,
        }
    }

    /// Sends claims until one is on its way for this caller, by whomever.
    async fn lead(
        self: &Arc<Self>,
        client: &Client,
        number: u64,
        waits: bool,
        patience: Instant,
        runtime: &Handle,
    ) -> Result<Led> {
        loop {
            self.hold_back().await;
            let turn = self.turn().await?;
            if !self.wants.lock().waits(number) {
                return Ok(Led::Served);
            }
            if self.stock.lock().is_empty() {
                drop(turn);
                match self.find(waits).await {
                    Ok(true) => continue,
                    Ok(false) => return Ok(Led::Empty),
                    Err(error) if waits && error.is_transient() && Instant::now() < patience => {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            // A task of its own: the caller may leave while the claim is on its way, or look elsewhere.
            let serving = Arc::clone(self).serve(client.clone(), turn);
            self.core.settle.spawn(runtime, "delivery.take", serving);
        }
    }

    /// Takes items for those who are there, and hands them out.
    async fn serve(self: Arc<Self>, client: Client, turn: OwnedSemaphorePermit) {
        // Who was woken together with the first asks now.
        tokio::task::yield_now().await;
        let (popped, wants, before) = {
            let mut waiting = self.wants.lock();
            if waiting.is_empty() {
                return;
            }
            let wanted = waiting.wanted(BATCH);
            let lost = self.race.lock().lost;
            let chain = if wanted == 1 && lost { CHAIN } else { wanted };
            let (popped, more) = Popped::pop(&self.stock, chain);
            if more {
                self.stocked.notify_one();
            }
            if popped.offers.is_empty() {
                return;
            }
            let wants = waiting.take(popped.offers.len().min(wanted));
            (popped, wants, waiting.next_number())
        };
        let taken = match wants.as_slice() {
            [want] if want.max == 1 || popped.offers.len() == 1 => {
                let options = want.options;
                let taken = self.claim(popped, options, &client).await;
                taken.map(|taken| taken.map(|taken| (options, taken)).into_iter().collect())
            }
            _ => self.claim_all(popped, &wants, &client).await,
        };
        drop(turn);
        self.turns.fetch_add(1, Ordering::Relaxed);
        if self.stock.lock().doubts() {
            // What it leaves may be what another waits for.
            self.stocked.notify_one();
        }
        match taken {
            Ok(taken) => self.pass_on(wants, taken, before, &Handle::current()),
            Err(error) => {
                for want in wants {
                    // It may have left.
                    let _ = want.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Hands out what was taken when callers with numbers below `before` were there.
    fn pass_on(
        &self,
        wants: Vec<Want>,
        taken: VecDeque<(Options, Delivery)>,
        before: u64,
        runtime: &Handle,
    ) {
        // Who comes later may want something that has come before it.
        let before = if O::EXACT { before } else { u64::MAX };
        let next = |options| self.wants.lock().first_like(options, before);
        for unwanted in hand_out(wants, taken, next) {
            self.core
                .settle
                .spawn(runtime, "delivery.give_back", unwanted.unseen());
        }
    }

    /// Moves all of the offers that are still there, for callers in order.
    async fn claim_all(
        &self,
        mut popped: Popped,
        wants: &[Want],
        client: &Client,
    ) -> Result<VecDeque<(Options, Delivery)>> {
        self.add_values(&mut popped).await?;
        let mut grants = GRANTS;
        loop {
            let options = wants
                .iter()
                .flat_map(|want| std::iter::repeat_n(want.options, want.max))
                .take(popped.offers.len());
            let options: Vec<Options> = options.collect();
            popped.keep(options.len());
            let Some(last) = popped.offers.last() else {
                return Ok(VecDeque::new());
            };
            let first: Vec<Compare> = self.core.order.guards(&last.item.key, popped.seen);
            let leases = self.leases(&options, grants < GRANTS).await?;
            let claims = options.iter().zip(&leases).map(|(options, lease)| Claim {
                depot: &self.depot,
                id: Id::draw(),
                lease: *lease,
                most: options.max_attempts,
            });
            let claims: Vec<(Offer, Claim<'_>)> =
                popped.offers.iter().cloned().zip(claims).collect();
            let begun = Instant::now();
            let work = joined(&self.depot, &claims, first);
            let outcome = self.core.settle.run_to_end(work).await;
            if !matches!(outcome, Ok(Outcome::Done { alternative: 0, .. }) | Err(_)) {
                self.free(leases.iter());
            }
            match outcome {
                Ok(Outcome::Done {
                    alternative: 0,
                    revision,
                    responses,
                }) => {
                    let moved = match responses {
                        Some(responses) => succeeded(responses, claims.len()),
                        None => self.marked(&claims, revision).await?,
                    };
                    let gone = moved.iter().filter(|moved| !**moved).count();
                    self.raced(gone.saturating_mul(2) <= moved.len(), begun.elapsed());
                    popped.all_gone();
                    let mut taken = VecDeque::with_capacity(claims.len());
                    let mut last: Option<Key> = None;
                    for (((offer, claim), moved), options) in claims.iter().zip(moved).zip(options)
                    {
                        if !moved {
                            self.free([&claim.lease]);
                            continue;
                        }
                        let (record, key) = (claim.record(offer), offer.item.key.clone());
                        last = Some(key.clone());
                        let (depot, client) = (Arc::clone(&self.depot), client.clone());
                        let held =
                            Held::new(depot, client, claim.id, revision, key, record, claim.lease);
                        taken.push_back((options, Delivery::new(held)?));
                    }
                    if let Some(last) = last {
                        self.took_the_last(&last, revision);
                    }
                    return Ok(taken);
                }
                // Some of them have come back before: now it is known how often they were tried.
                Ok(Outcome::Done { responses, .. }) => {
                    let mut answers = responses.into_iter().flatten();
                    for offer in &mut popped.offers {
                        if offer.attempts.is_none() {
                            let attempts = match answers
                                .next()
                                .and_then(|answer| tries(answer, offer.item.mod_revision))
                            {
                                Some(attempts) => attempts,
                                None => self.tries(Some(&*offer)).await?,
                            };
                            offer.attempts = Some(attempts);
                        }
                    }
                }
                Ok(Outcome::GuardsFalse) => {
                    // They may still be there, behind something that has come.
                    self.raced(false, begun.elapsed());
                    return Ok(VecDeque::new());
                }
                // One ran out, or somebody revoked it: nothing was attached to any of them.
                Err(error) if error.kind() == Some(ErrorKind::LeaseNotFound) && grants > 0 => {
                    grants = grants.saturating_sub(1);
                }
                Err(error) => {
                    let gone = error.kind() == Some(ErrorKind::LeaseNotFound);
                    if !error.is_maybe_committed() && !gone {
                        self.free(leases.iter());
                    }
                    let too_much = matches!(
                        error.kind(),
                        Some(ErrorKind::TooLarge | ErrorKind::TooManyOperations)
                    );
                    if !too_much || popped.offers.len() == 1 {
                        return Err(too_large(error, popped.offers.first()));
                    }
                    popped.keep(popped.offers.len() / 2);
                }
            }
        }
    }

    /// A lease for each delivery. Spare ones, unless those are of no use.
    async fn leases(&self, options: &[Options], anew: bool) -> Result<Vec<Lease>> {
        let leases = &self.depot.leases;
        try_join_all(options.iter().map(async |options| {
            if anew {
                leases.grant(options.visibility).await
            } else {
                leases.get(options.visibility).await
            }
        }))
        .await
    }

    /// Nothing is attached to these leases, and nothing will be.
    fn free<'l>(&self, leases: impl IntoIterator<Item = &'l Lease>) {
        for lease in leases {
            self.depot.leases.give_back(*lease);
        }
    }

    /// Which of the deliveries there are that were taken at `revision`, when the answer was lost. Whose
    /// marker is gone has ended already, if it began.
    async fn marked(&self, claims: &[(Offer, Claim<'_>)], revision: Revision) -> Result<Vec<bool>> {
        let owners = claims.iter().map(|(_, claim)| {
            let owner = self.depot.beside.owner(claim.id);
            RangeRequest::new(owner).keys_only()
        });
        let txn = Txn::new().and_then(owners);
        let answer = loop {
            // It has happened: what nobody learns of comes back only when its bound runs out.
            let read = retry::read(self.core.patience, || self.core.store.txn(txn.clone()));
            match read.await {
                Err(error) if error.is_transient() && !self.core.settle.is_abandoned() => {}
                answer => break answer?,
            }
        };
        let ranges = answer.responses.into_iter().map(TxnOpResponse::into_range);
        let marked = |range: Option<synod_store::RangeResponse>| {
            let marker = range.and_then(|range| range.kvs.into_iter().next());
            marker.is_some_and(|marker| marker.create_revision == revision)
        };
        Ok(ranges.map(marked).collect())
    }
}

/// Which of the Txns in a Txn have done something.
fn succeeded(responses: Vec<TxnOpResponse>, count: usize) -> Vec<bool> {
    let succeeded = responses.into_iter().map(|response| {
        let inner = response.into_txn();
        inner.is_some_and(|inner| inner.succeeded)
    });
    succeeded
        .chain(std::iter::repeat(false))
        .take(count)
        .collect()
}
