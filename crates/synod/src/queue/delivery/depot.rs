//! [`Depot`]: what the takers of one queue in one client share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use synod_store::{
    Compare, ErrorKind, EventKind, Key, PutRequest, RangeRequest, Revision, Txn, TxnOp,
    TxnOpResponse, WatchRequest,
};
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;

use super::claim::{Claim, Meaning, tries};
use super::held::{Delivery, Held};
use super::keys::{Beside, Id};
use super::leases::Leases;
use super::record::{Record, decode_tries, encode_tries};
use super::stock::{Offer, Stock};
use super::tender::Tender;
use super::{Options, PAUSE};
use crate::queue::consumer::Core;
use crate::queue::look::{Candidate, look};
use crate::retry;
use crate::settle::Outcome;
use crate::slot::Slot;
use crate::watch::{Lookout, Nudge};
use crate::{Client, Error, Result};

/// Looks read values along while none of the last was larger.
const SMALL: usize = 4096;

/// How many offers a claim tries once one was lost to another client.
const CHAIN: usize = 6;

/// A look from the very start is due after this long.
const FULL_LOOK: Duration = Duration::from_secs(5);

/// How much longer, or shorter, to hold back after a claim that was lost, or won; and the longest.
const SPREAD: (f64, f64, Duration) = (2.0, 0.87, Duration::from_millis(100));

/// How often an item whose place was taken meanwhile is offered another one.
pub(super) const PLACES: usize = 8;

/// What the takers of one queue in one client share.
#[derive(Debug)]
pub(crate) struct Depot {
    pub(super) core: Arc<Core>,
    /// The queue's name and a slash.
    pub(super) prefix: Key,
    pub(super) beside: Beside,
    pub(super) identity: Bytes,
    pub(super) leases: Arc<Leases>,
    stock: Slot<Stock>,
    looker: Mutex<Looker>,
    watching: Mutex<Option<(Lookout, Revision)>>,
    /// How many callers wait for an item to come.
    waiting: AtomicUsize,
    race: Slot<Race>,
    pub(super) tender: Tender,
}

/// Where the next look begins, and what the last one saw.
#[derive(Debug)]
struct Looker {
    cursor: Key,
    next_cursor: Option<Key>,
    full_due: Instant,
    largest: Option<usize>,
}

/// How hard others try for the same items.
#[derive(Debug, Default)]
struct Race {
    spread: Duration,
    /// Whether the last claim was lost.
    lost: bool,
    /// Whether the stock came through the watch just now, to everybody.
    fresh: bool,
}

impl Depot {
    pub(crate) fn new(client: &Client, core: Arc<Core>, name: &Key) -> Depot {
        let leases = Leases::new(
            Arc::clone(&core.store),
            Arc::clone(&core.clock),
            core.settle.clone(),
            core.patience,
        );
        let cursor = core.keys.start().clone();
        Depot {
            prefix: name.join("/"),
            beside: Beside::new(&client.own_prefix("queue", name)),
            identity: client.identity(),
            leases: Arc::new(leases),
            stock: Slot::default(),
            looker: Mutex::new(Looker {
                cursor,
                next_cursor: None,
                full_due: Instant::now(),
                largest: None,
            }),
            watching: Mutex::new(None),
            waiting: AtomicUsize::new(0),
            race: Slot::default(),
            tender: Tender::default(),
            core,
        }
    }

    /// Takes the first item; waits for one if asked to.
    pub(super) async fn take(
        self: &Arc<Depot>,
        client: &Client,
        options: Options,
        waits: bool,
    ) -> Result<Option<Delivery>> {
        let runtime = crate::runtime()?;
        self.tend_when_due(&runtime);
        let patience = Instant::now() + self.core.patience;
        loop {
            self.hold_back().await;
            let popped = {
                let lost = self.race.lock().lost;
                self.stock.lock().pop(if lost { CHAIN } else { 1 })
            };
            if popped.is_empty() {
                match self.find(waits).await {
                    Ok(true) => continue,
                    Ok(false) => return Ok(None),
                    Err(error) if waits && error.is_transient() && Instant::now() < patience => {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let (answer, answered) = oneshot::channel();
            let (depot, client) = (Arc::clone(self), client.clone());
            // A task of its own: the caller may leave while the claim is on its way.
            self.core.settle.spawn(&runtime, async move {
                let taken = depot.claim(popped, options, client).await;
                if let Err(Ok(Some(unwanted))) = answer.send(taken) {
                    unwanted.unseen().await;
                }
            });
            if let Some(delivery) = answered.await.unwrap_or(Err(Error::NoRuntime))? {
                return Ok(Some(delivery));
            }
        }
    }

    /// Leaves what came just now to others for a random while: everybody has seen it.
    async fn hold_back(&self) {
        let spread = {
            let mut race = self.race.lock();
            if !std::mem::take(&mut race.fresh) {
                return;
            }
            race.spread
        };
        if spread > Duration::from_micros(500) {
            tokio::time::sleep(spread.mul_f64(rand::random())).await;
        }
    }

    fn raced(&self, won: bool, took: Duration) {
        let mut race = self.race.lock();
        race.lost = !won;
        race.spread = if won {
            race.spread.mul_f64(SPREAD.1)
        } else {
            took.max(race.spread.mul_f64(SPREAD.0)).min(SPREAD.2)
        };
    }

    /// Moves the first of the offers that is still there.
    async fn claim(
        self: &Arc<Depot>,
        offers: Vec<Offer>,
        options: Options,
        client: Client,
    ) -> Result<Option<Delivery>> {
        let mut popped = Popped {
            depot: self,
            offers,
        };
        popped.offers = self.with_values(std::mem::take(&mut popped.offers)).await?;
        let mut grants = 3usize;
        loop {
            let lease = self.leases.get(options.visibility).await?;
            let claim = Claim {
                beside: &self.beside,
                prefix: &self.prefix,
                id: Id::draw(),
                lease,
                identity: self.identity.clone(),
                most: options.max_attempts,
            };
            let Some((work, meanings)) = claim.work(&popped.offers) else {
                self.leases.give_back(lease);
                return Ok(None);
            };
            let begun = Instant::now();
            let (alternative, revision, responses) = match self.core.settle.run_to_end(work).await {
                Ok(Outcome::Done {
                    alternative,
                    revision,
                    responses,
                }) => (alternative, revision, responses),
                Ok(Outcome::GuardsFalse) => {
                    self.leases.give_back(lease);
                    self.raced(false, begun.elapsed());
                    self.stock.lock().gone(&std::mem::take(&mut popped.offers));
                    return Ok(None);
                }
                // It ran out, or somebody revoked it: nothing was attached to it.
                Err(error) if error.kind() == Some(ErrorKind::LeaseNotFound) && grants > 0 => {
                    grants = grants.saturating_sub(1);
                    continue;
                }
                Err(error) => {
                    let too_much = matches!(
                        error.kind(),
                        Some(ErrorKind::TooLarge | ErrorKind::TooManyOperations)
                    );
                    if !error.is_maybe_committed() {
                        self.leases.give_back(lease);
                    }
                    if too_much && popped.offers.len() > 1 {
                        let rest = popped.offers.split_off(1);
                        self.stock.lock().give_back(rest);
                        continue;
                    }
                    return Err(popped.too_large(error));
                }
            };
            let (index, taken) = match meanings.get(alternative) {
                Some(Meaning::Taken(index)) => (*index, true),
                Some(Meaning::Returned(index)) => (*index, false),
                None => (0, false),
            };
            let rest = popped.offers.split_off(index.min(popped.offers.len()));
            self.stock
                .lock()
                .gone(&std::mem::replace(&mut popped.offers, rest));
            if !taken {
                self.leases.give_back(lease);
                let attempts = match responses.and_then(tries) {
                    Some(attempts) => attempts,
                    None => self.tries(popped.offers.first()).await?,
                };
                if let Some(offer) = popped.offers.first_mut() {
                    offer.attempts = Some(attempts);
                }
                continue;
            }
            self.raced(true, Duration::ZERO);
            let rest = popped.offers.split_off(popped.offers.len().min(1));
            let Some(offer) = popped.offers.first() else {
                return Ok(None);
            };
            let record = claim.record(offer);
            let key = offer.item.key.clone();
            let mut stock = self.stock.lock();
            stock.gone(&std::mem::take(&mut popped.offers));
            stock.give_back(rest);
            drop(stock);
            let held = Held::new(
                Arc::clone(self),
                client,
                claim.id,
                revision,
                key,
                record,
                lease,
            );
            return Ok(Some(Delivery::new(held)?));
        }
    }

    /// How often an offer was handed out, when the answer that said so was lost.
    async fn tries(&self, offer: Option<&Offer>) -> Result<u32> {
        let Some(offer) = offer else { return Ok(0) };
        let place = offer
            .item
            .key
            .strip_prefix(self.prefix.as_bytes())
            .unwrap_or_default();
        let request = RangeRequest::new(self.beside.tries(place));
        let read = || self.core.store.range(request.clone());
        let kvs = retry::read(self.core.patience, read).await?.kvs;
        // Of the same revision as the item, or the item is gone and the claim will say so.
        let of_item = kvs
            .first()
            .filter(|kv| kv.mod_revision == offer.item.mod_revision);
        Ok(of_item.and_then(|kv| decode_tries(&kv.value)).unwrap_or(0))
    }

    /// Reads the values of offers that were seen without. Those that are gone by now are left out.
    async fn with_values(&self, offers: Vec<Offer>) -> Result<Vec<Offer>> {
        if offers.iter().all(|offer| offer.item.value.is_some()) {
            return Ok(offers);
        }
        let mut popped = Popped {
            depot: self,
            offers,
        };
        let reads = popped
            .offers
            .iter()
            .map(|offer| RangeRequest::new(offer.item.key.clone()));
        let txn = Txn::new().and_then(reads);
        let answer = retry::read(self.core.patience, || self.core.store.txn(txn.clone())).await?;
        let mut gone = Vec::new();
        let mut there = Vec::new();
        let responses = answer.responses.into_iter().map(TxnOpResponse::into_range);
        for (mut offer, range) in std::mem::take(&mut popped.offers)
            .into_iter()
            .zip(responses)
        {
            let kv = range.and_then(|range| range.kvs.into_iter().next());
            match kv.filter(|kv| kv.mod_revision == offer.item.mod_revision) {
                Some(kv) => {
                    offer.item.value = Some(kv.value);
                    there.push(offer);
                }
                None => gone.push(offer),
            }
        }
        self.stock.lock().gone(&gone);
        let largest = there
            .iter()
            .filter_map(|offer| offer.item.value.as_ref())
            .map(Bytes::len);
        if let Some(largest) = largest.max() {
            self.looker.lock().await.largest = Some(largest);
        }
        Ok(there)
    }

    /// Finds something to take. False when the queue is empty and the caller does not wait.
    async fn find(self: &Arc<Depot>, waits: bool) -> Result<bool> {
        if self.look().await?.is_some() || self.look_after().await? {
            return Ok(true);
        }
        if waits {
            self.wait().await?;
        }
        Ok(waits)
    }

    /// Returns what is due or has lost its owner, and looks whether there is something then.
    async fn look_after(self: &Arc<Depot>) -> Result<bool> {
        Ok(self.round().await?.moved > 0)
    }

    /// Looks for items. `None` when there are some, else the revision at which there were none.
    async fn look(&self) -> Result<Option<()>> {
        let mut looker = self.looker.lock().await;
        if !self.stock.lock().is_empty() {
            return Ok(Some(()));
        }
        let found = self.look_once(&mut looker).await?;
        Ok(found.0.then_some(()))
    }

    /// One look, from the cursor and then from the start; whether it found something, and at which
    /// revision.
    async fn look_once(&self, looker: &mut Looker) -> Result<(bool, Revision)> {
        let start = self.core.keys.start();
        if let Some(cursor) = looker.next_cursor.take() {
            looker.cursor = cursor;
        }
        let full = Instant::now() >= looker.full_due || looker.cursor == *start;
        let from = if full {
            start.clone()
        } else {
            looker.cursor.clone()
        };
        let mut seen = self.look_from(looker, &from).await?;
        if !seen.0 && !full {
            seen = self.look_from(looker, start).await?;
        }
        Ok(seen)
    }

    async fn look_from(&self, looker: &mut Looker, from: &Key) -> Result<(bool, Revision)> {
        let core = &self.core;
        let with_values = looker.largest.is_some_and(|largest| largest <= SMALL);
        self.stock.lock().look();
        let seen = look(&*core.store, &core.keys, from, with_values, core.patience).await?;
        if from == core.keys.start() {
            looker.full_due = Instant::now() + FULL_LOOK;
        }
        looker.next_cursor = seen.last.as_ref().map(|last| core.keys.behind(last));
        let sizes = seen
            .items
            .iter()
            .filter_map(|item| item.value.as_ref().map(Bytes::len));
        looker.largest = sizes.max().or(looker.largest);
        for stamp in seen
            .items
            .iter()
            .filter_map(|item| core.keys.stamp(&item.key))
        {
            core.stamps.saw(stamp);
        }
        let mut stock = self.stock.lock();
        stock.looked(seen.items);
        Ok((!stock.is_empty(), seen.revision))
    }

    /// Waits until there may be something to take.
    async fn wait(self: &Arc<Depot>) -> Result<()> {
        let _waiting = Waiting::new(self);
        let _tended = self.tended()?;
        let mut watching = self.watching.lock().await;
        // Whoever waited before may have left something.
        if !self.stock.lock().is_empty() {
            return Ok(());
        }
        let doubt = self.stock.lock().take_doubt();
        if watching.is_none() || doubt {
            let lookout = match watching.take() {
                Some((lookout, _)) => lookout,
                None => self.open().await?,
            };
            let revision = self.look_at_all().await?;
            *watching = Some((lookout, revision));
            if !self.stock.lock().is_empty() {
                return Ok(());
            }
        }
        while let Some((lookout, seen)) = watching.as_mut() {
            let events = match lookout.next(*seen).await {
                Ok(Nudge::Events(events)) => events,
                Ok(Nudge::Read) => {
                    *seen = self.look_at_all().await?;
                    if !self.stock.lock().is_empty() {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => {
                    // Nothing is concluded: the look that follows tells, or bears the trouble.
                    *watching = None;
                    return if error.is_transient() {
                        Ok(())
                    } else {
                        Err(error)
                    };
                }
            };
            let mut stock = self.stock.lock();
            for event in events {
                *seen = (*seen).max(event.kv.mod_revision);
                if !self.core.keys.is_item(&event.kv.key) {
                    continue;
                }
                match event.kind {
                    EventKind::Delete => stock.left(&event.kv.key),
                    EventKind::Put => {
                        if let Some(stamp) = self.core.keys.stamp(&event.kv.key) {
                            self.core.stamps.saw(stamp);
                        }
                        stock.came(Candidate::new(event.kv, true));
                    }
                }
            }
            if !stock.is_empty() {
                self.race.lock().fresh = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// A look from the very start, whose revision a watch goes on from.
    async fn look_at_all(&self) -> Result<Revision> {
        let mut looker = self.looker.lock().await;
        let start = self.core.keys.start().clone();
        Ok(self.look_from(&mut looker, &start).await?.1)
    }

    async fn open(&self) -> Result<Lookout> {
        let request = WatchRequest::new(self.core.keys.range());
        retry::insist(self.core.patience, || {
            Lookout::open(Arc::clone(&self.core.store), request.clone())
        })
        .await
    }

    /// What puts an item into the queue: under its own key, or under a new one.
    pub(super) fn entry(&self, record: &Record, anew: bool) -> Landing {
        let own = self.prefix.join(&record.place);
        let key = if anew || !self.core.keys.is_item(&own) {
            let now = self.core.clock.unix_nanos();
            self.core.keys.item(self.core.stamps.take(now, 1))
        } else {
            own
        };
        let mut ops = vec![PutRequest::new(key.clone(), record.payload.clone()).into()];
        if record.attempts > 0 {
            let place = key.strip_prefix(self.prefix.as_bytes()).unwrap_or_default();
            let tries = self.beside.tries(place);
            ops.push(PutRequest::new(tries, encode_tries(record.attempts)).into());
        }
        Landing {
            guards: vec![Compare::absent(key)],
            ops,
        }
    }

    /// What makes a dead letter of an item.
    pub(super) fn burial(&self, record: &Record) -> Landing {
        let key = self.beside.dead(self.core.clock.unix_nanos(), Id::draw());
        Landing {
            guards: Vec::new(),
            ops: vec![PutRequest::new(key, record.encode()).into()],
        }
    }

    /// What delays an item.
    pub(super) fn delay(&self, record: &Record, delay: Duration) -> Landing {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        let due = self.core.clock.unix_nanos().saturating_add(nanos);
        let key = self.beside.later(due, Id::draw());
        Landing {
            guards: Vec::new(),
            ops: vec![PutRequest::new(key, record.encode()).into()],
        }
    }
}

/// Where an item goes when it ends to be on its way: part of a Txn.
#[derive(Debug)]
pub(super) struct Landing {
    pub(super) guards: Vec<Compare>,
    pub(super) ops: Vec<TxnOp>,
}

/// Offers of which nobody knows what became of them if their claim ends early.
struct Popped<'d> {
    depot: &'d Depot,
    offers: Vec<Offer>,
}

impl Popped<'_> {
    fn too_large(&self, error: Error) -> Error {
        let size = self
            .offers
            .first()
            .and_then(|offer| offer.item.value.as_ref().map(Bytes::len));
        match (error, size) {
            (Error::Store(source), Some(size)) if source.kind() == ErrorKind::TooLarge => {
                Error::ValueTooLarge { size, source }
            }
            (error, _) => error,
        }
    }
}

impl Drop for Popped<'_> {
    fn drop(&mut self) {
        self.depot.stock.lock().forget(&self.offers);
    }
}

/// A caller that waits for an item; after the last one the watch ends.
struct Waiting<'d>(&'d Depot);

impl<'d> Waiting<'d> {
    fn new(depot: &'d Depot) -> Waiting<'d> {
        depot.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(depot)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::Relaxed) == 1
            && let Ok(mut watching) = self.0.watching.try_lock()
        {
            *watching = None;
        }
    }
}
