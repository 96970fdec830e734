//! [`Taker`]: what the takers of one queue in one client share, and how they take.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use synod_store::{ErrorKind, Key, RangeRequest, Revision, Txn, TxnOpResponse};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::claim::{Claim, Meaning, tries};
use super::depot::Depot;
use super::gate::Gate;
use super::held::{Delivery, Held};
use super::keys::Id;
use super::options::Options;
use super::outlook::{Known, Looker, SMALL, Watching};
use super::record::decode_tries;
use super::stock::{Offer, Popped, Stock};
use super::wants::Wants;
use crate::queue::{Core, Order};
use crate::settle::Outcome;
use crate::slot::Slot;
use crate::{Client, Error, Result, retry};

/// How many claims of one client are on their way at once: while one is, callers gather for the next.
/// Where each item must be the first one there is, the next one has to know how the last one ended.
const TURNS: usize = 2;

/// How much longer, or shorter, to hold back after a claim that was lost, or won; and the longest.
const SPREAD: (f64, f64, Duration) = (2.0, 0.87, Duration::from_millis(100));

/// How often a claim whose lease was gone is tried with another one.
pub(super) const GRANTS: usize = 3;

/// What the takers of one queue in one client share.
#[derive(Debug)]
pub(crate) struct Taker<O: Order> {
    pub(super) core: Arc<Core<O>>,
    pub(super) depot: Arc<Depot>,
    pub(super) stock: Arc<Slot<Stock>>,
    /// There are offers for another one who waits.
    pub(super) stocked: Notify,
    pub(super) looker: Mutex<Looker>,
    /// What claims have found out for the next look. They wait for no look: who looks may be a caller
    /// that nobody polls.
    pub(super) known: Slot<Known>,
    pub(super) watching: Mutex<Watching>,
    /// How many callers wait for an item to come.
    pub(super) waiting: AtomicUsize,
    pub(super) race: Slot<Race>,
    /// The callers.
    pub(super) wants: Slot<Wants>,
    /// Held by each claim that is on its way.
    turn: Arc<Semaphore>,
    /// How many claims have ended.
    pub(super) turns: AtomicUsize,
}

/// How hard others try for the same items.
#[derive(Debug, Default)]
pub(super) struct Race {
    spread: Duration,
    /// Whether the last claim was lost.
    pub(super) lost: bool,
    /// Whether the stock came through the watch just now, to everybody.
    pub(super) fresh: bool,
}

impl<O: Order> Taker<O>
where
    Core<O>: Gate,
{
    /// The one of this queue in this client; a new one when nobody has it.
    pub(super) fn of(client: &Client, core: &Arc<Core<O>>, name: &Key, own: &Key) -> Arc<Taker<O>> {
        let mut known = core.taker.lock();
        if let Some(taker) = Weak::upgrade(&known) {
            return taker;
        }
        let taker = Arc::new(Taker {
            core: Arc::clone(core),
            depot: Arc::new(Depot::new(client, core, name, own)),
            stock: Arc::new(Slot::new(Stock::new(O::EXACT))),
            stocked: Notify::new(),
            known: Slot::default(),
            looker: Mutex::new(Looker::new(core.order.start().clone())),
            watching: Mutex::new(None),
            waiting: AtomicUsize::new(0),
            race: Slot::default(),
            wants: Slot::default(),
            turn: Arc::new(Semaphore::new(if O::EXACT { 1 } else { TURNS })),
            turns: AtomicUsize::new(0),
        });
        *known = Arc::downgrade(&taker);
        taker
    }

    pub(super) fn late(&self) -> Error {
        Error::Timeout {
            after: self.core.patience,
        }
    }

    /// Waits for one's turn, as long as those of others end.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.turn).acquire_owned();
        tokio::pin!(turn);
        loop {
            let before = self.turns.load(Ordering::Relaxed);
            if let Ok(turn) = tokio::time::timeout(self.core.patience, &mut turn).await {
                // It is never closed.
                return turn.map_err(|_| self.late());
            }
            if self.turns.load(Ordering::Relaxed) == before {
                return Err(self.late());
            }
        }
    }

    /// Leaves what came just now to others for a random while: everybody has seen it.
    pub(super) async fn hold_back(&self) {
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

    pub(super) fn raced(&self, won: bool, took: Duration) {
        let mut race = self.race.lock();
        race.lost = !won;
        race.spread = if won {
            race.spread.mul_f64(SPREAD.1)
        } else {
            took.max(race.spread.mul_f64(SPREAD.0)).min(SPREAD.2)
        };
    }

    /// Moves the first of the offers that is still there. `None` when there is none.
    pub(super) async fn claim(
        &self,
        mut popped: Popped,
        options: Options,
        client: &Client,
    ) -> Result<Option<Delivery>> {
        self.add_values(&mut popped).await?;
        let mut grants = GRANTS;
        loop {
            let lease = if grants == GRANTS {
                self.depot.leases.get(options.visibility).await?
            } else {
                // Who revokes one revokes others.
                self.depot.leases.grant(options.visibility).await?
            };
            let claim = Claim {
                depot: &self.depot,
                id: Id::draw(),
                lease,
                most: options.max_attempts,
            };
            let guards = |key: &Key| self.core.order.guards(key, popped.seen);
            let Some((work, meanings)) = claim.work(&popped.offers, guards) else {
                self.depot.leases.give_back(lease);
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
                    self.depot.leases.give_back(lease);
                    self.raced(false, begun.elapsed());
                    if !O::EXACT {
                        popped.all_gone();
                    }
                    // Else they may still be there, behind something that has come.
                    return Ok(None);
                }
                // It ran out, or somebody revoked it: nothing was attached to it.
                Err(error) if error.kind() == Some(ErrorKind::LeaseNotFound) && grants > 0 => {
                    grants = grants.saturating_sub(1);
                    continue;
                }
                Err(error) => {
                    if !error.is_maybe_committed() && error.kind() != Some(ErrorKind::LeaseNotFound)
                    {
                        self.depot.leases.give_back(lease);
                    }
                    let too_much = matches!(
                        error.kind(),
                        Some(ErrorKind::TooLarge | ErrorKind::TooManyOperations)
                    );
                    if too_much && popped.offers.len() > 1 {
                        popped.keep(1);
                        continue;
                    }
                    return Err(too_large(error, popped.offers.first()));
                }
            };
            match meanings.get(alternative) {
                Some(Meaning::Returned(index)) => {
                    self.depot.leases.give_back(lease);
                    popped.gone(*index);
                    let answer = responses.and_then(|responses| responses.into_iter().next());
                    let attempts = match answer.and_then(tries) {
                        Some(attempts) => attempts,
                        None => self.tries(popped.offers.first()).await?,
                    };
                    if let Some(offer) = popped.offers.first_mut() {
                        offer.attempts = Some(attempts);
                    }
                }
                Some(Meaning::Taken(index)) => {
                    self.raced(true, Duration::ZERO);
                    popped.gone(*index);
                    let Some(offer) = popped.offers.first() else {
                        return Ok(None);
                    };
                    let (record, key) = (claim.record(offer), offer.item.key.clone());
                    popped.gone(1);
                    popped.keep(0);
                    self.took_the_last(&key, revision);
                    let depot = Arc::clone(&self.depot);
                    let client = client.clone();
                    let held = Held::new(depot, client, claim.id, revision, key, record, lease);
                    return Ok(Some(Delivery::new(held)?));
                }
                None => return Ok(None),
            }
        }
    }

    /// An item came out, and nothing had come before it: if no other is known, the next look need not
    /// begin before it.
    pub(super) fn took_the_last(&self, key: &Key, revision: Revision) {
        if O::EXACT && self.stock.lock().is_used_up() {
            self.known.lock().proven = Some((key.successor(), revision));
        }
    }

    /// How often an offer was handed out, when the answer that said so was lost.
    pub(super) async fn tries(&self, offer: Option<&Offer>) -> Result<u32> {
        let Some(offer) = offer else { return Ok(0) };
        let tries = self.depot.beside.tries(&self.depot.place(&offer.item.key));
        let request = RangeRequest::new(tries);
        let read = || self.core.store.range(request.clone());
        let kvs = retry::read(self.core.patience, read).await?.kvs;
        // Of the same revision as the item, or the item is gone and the claim will say so.
        let of_item = kvs
            .first()
            .filter(|kv| kv.mod_revision == offer.item.mod_revision);
        Ok(of_item.and_then(|kv| decode_tries(&kv.value)).unwrap_or(0))
    }

    /// Reads the values of offers that were seen without. Those that are gone by now are left out.
    pub(super) async fn add_values(&self, popped: &mut Popped) -> Result<()> {
        if popped.offers.iter().all(|offer| offer.item.value.is_some()) {
            return Ok(());
        }
        let reads = popped
            .offers
            .iter()
            .map(|offer| RangeRequest::new(offer.item.key.clone()));
        let txn = Txn::new().and_then(reads);
        let answer = retry::read(self.core.patience, || self.core.store.txn(txn.clone())).await?;
        let ranges = answer.responses.into_iter().map(TxnOpResponse::into_range);
        let values = ranges.map(|range| range.and_then(|range| range.kvs.into_iter().next()));
        if let Some(largest) = popped.add_values(values.collect()) {
            popped.trim();
            self.known.lock().largest = Some(largest);
            if largest <= SMALL {
                self.stock.lock().forget_bare();
            }
        }
        Ok(())
    }
}

pub(super) fn too_large(error: Error, offer: Option<&Offer>) -> Error {
    let size = offer.and_then(|offer| offer.item.value.as_ref().map(Bytes::len));
    crate::queue::too_large(error, size.unwrap_or_default())
}
