//! What the takers of one client know of the items in their queue. Pure.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use synod_store::{Key, KeyValue, Revision};

use crate::queue::look::Candidate;
use crate::slot::Slot;

/// The most bytes of values that one claim carries.
const CLAIM_BYTES: usize = 256 << 10;

/// The most offers in one claim while their values are not known, and so their sizes.
const UNKNOWN: usize = 8;

/// An item that may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) item: Candidate,
    /// How often it was handed out before; `None` while that is not known, which is as good as never.
    pub(super) attempts: Option<u32>,
}

impl Offer {
    fn new(item: Candidate) -> Offer {
        Offer {
            item,
            attempts: None,
        }
    }

    fn name(&self) -> (Key, Revision) {
        (self.item.key.clone(), self.item.mod_revision)
    }

    fn size(&self) -> usize {
        self.item.value.as_ref().map_or(0, |value| value.len())
    }
}

/// The offers that no local caller has asked for yet, in order.
#[derive(Debug)]
pub(super) struct Stock {
    offers: VecDeque<Offer>,
    /// Whether they come out by key, else by age.
    by_key: bool,
    /// The revision up to which everything before the offers is known.
    seen: Revision,
    /// Those that a claim is on its way for.
    busy: HashSet<(Key, Revision)>,
    /// Those whose claim ended while a look was on its way, which may have seen them still there.
    settled: HashSet<(Key, Revision)>,
    looking: bool,
    /// Whether an offer was dropped that may still be in the queue.
    doubt: bool,
    /// Likewise, since the last look: the next one must not begin behind it.
    dropped: bool,
    /// How many looks have ended.
    looks: u64,
}

impl Stock {
    pub(super) fn new(by_key: bool) -> Stock {
        Stock {
            offers: VecDeque::new(),
            by_key,
            seen: Revision::ZERO,
            busy: HashSet::new(),
            settled: HashSet::new(),
            looking: false,
            doubt: false,
            dropped: false,
            looks: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }

    /// Whether all that the last look saw was claimed, and nothing was forgotten.
    pub(super) fn is_used_up(&self) -> bool {
        self.offers.is_empty() && self.busy.is_empty() && !self.doubt && !self.dropped
    }

    fn pop(&mut self, count: usize) -> Vec<Offer> {
        let mut bytes = 0usize;
        let mut popped = Vec::new();
        while popped.len() < count {
            let Some(offer) = self.offers.front() else {
                break;
            };
            bytes = bytes.saturating_add(offer.size());
            let unknown = offer.item.value.is_none() && popped.len() >= UNKNOWN;
            if (bytes > CLAIM_BYTES || unknown) && !popped.is_empty() {
                break;
            }
            self.busy.insert(offer.name());
            popped.extend(self.offers.pop_front());
        }
        popped
    }

    /// Offers that were popped and are still there.
    fn give_back(&mut self, offers: Vec<Offer>) {
        for offer in &offers {
            self.busy.remove(&offer.name());
        }
        if !offers.is_empty() {
            self.offers.extend(offers);
            self.sort();
        }
    }

    /// Offers that were popped and are not there any more.
    fn gone(&mut self, offers: &[Offer]) {
        for offer in offers {
            self.busy.remove(&offer.name());
            if self.looking {
                self.settled.insert(offer.name());
            }
        }
    }

    /// Offers that were popped, and of which nothing is known now: what else is known may be wrong.
    fn forget(&mut self, offers: &[Offer]) {
        for offer in offers {
            self.busy.remove(&offer.name());
        }
        if !offers.is_empty() {
            self.offers.clear();
            self.doubt = true;
            self.dropped = true;
        }
    }

    /// Whether there may be more than is known; said once.
    pub(super) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubt)
    }

    /// Whether there may be more than is known.
    pub(super) fn doubts(&self) -> bool {
        self.doubt
    }

    /// Something has happened that is not taken in.
    pub(super) fn doubt(&mut self) {
        self.doubt = true;
    }

    /// Whether what the last look has seen is not used up although nothing of it is known any more;
    /// said once.
    pub(super) fn take_dropped(&mut self) -> bool {
        std::mem::take(&mut self.dropped)
    }

    /// How many looks have ended so far.
    pub(super) fn looks(&self) -> u64 {
        self.looks
    }

    /// A look begins.
    pub(super) fn look(&mut self) {
        self.settled.clear();
        self.looking = true;
    }

    /// A look has ended that saw these items at this revision.
    pub(super) fn looked(
        &mut self,
        items: impl IntoIterator<Item = Candidate>,
        revision: Revision,
    ) {
        // What has come since is known through the watch.
        self.offers
            .retain(|offer| offer.item.mod_revision > revision);
        let newer: HashSet<Key> = self
            .offers
            .iter()
            .map(|offer| offer.item.key.clone())
            .collect();
        let offers = items.into_iter().map(Offer::new).filter(|offer| {
            let name = offer.name();
            let free = !self.busy.contains(&name) && !self.settled.contains(&name);
            free && !newer.contains(&name.0)
        });
        self.offers.extend(offers.collect::<Vec<_>>());
        self.sort();
        self.looking = false;
        self.settled.clear();
        self.looks = self.looks.wrapping_add(1);
        self.seen(revision);
    }

    /// Offers that were seen without their values are looked at anew, with them.
    pub(super) fn forget_bare(&mut self) {
        let before = self.offers.len();
        self.offers.retain(|offer| offer.item.value.is_some());
        let dropped = self.offers.len() < before;
        self.doubt |= dropped;
        self.dropped |= dropped;
    }

    /// Everything that happened up to this revision is known.
    pub(super) fn seen(&mut self, revision: Revision) {
        self.seen = self.seen.max(revision);
    }

    /// Items were put in.
    pub(super) fn came(&mut self, item: Candidate) {
        self.left(&item.key);
        let offer = Offer::new(item);
        if !self.busy.contains(&offer.name()) {
            self.offers.push_back(offer);
            self.sort();
        }
    }

    /// An item is not there any more.
    pub(super) fn left(&mut self, key: &Key) {
        self.offers.retain(|offer| offer.item.key != *key);
    }

    fn sort(&mut self) {
        let by_key = self.by_key;
        self.offers.make_contiguous().sort_by(|a, b| {
            let age = if by_key {
                std::cmp::Ordering::Equal
            } else {
                a.item.mod_revision.cmp(&b.item.mod_revision)
            };
            age.then_with(|| a.item.key.cmp(&b.item.key))
        });
    }
}

/// Offers that a claim is on its way for. If it ends early, nobody knows what became of them.
#[derive(Debug)]
pub(super) struct Popped {
    stock: Arc<Slot<Stock>>,
    pub(super) offers: Vec<Offer>,
    /// The revision up to which everything before them is known.
    pub(super) seen: Revision,
}

impl Popped {
    /// The first offers, at most `count` of them; and whether there are more.
    pub(super) fn pop(stock: &Arc<Slot<Stock>>, count: usize) -> (Popped, bool) {
        let mut known = stock.lock();
        let popped = Popped {
            stock: Arc::clone(stock),
            offers: known.pop(count),
            seen: known.seen,
        };
        (popped, !known.is_empty())
    }

    /// The first `count` are not there any more.
    pub(super) fn gone(&mut self, count: usize) {
        let rest = self.offers.split_off(count.min(self.offers.len()));
        self.stock
            .lock()
            .gone(&std::mem::replace(&mut self.offers, rest));
    }

    /// None of them is there any more.
    pub(super) fn all_gone(&mut self) {
        self.gone(usize::MAX);
    }

    /// All but the first `count` are left to others.
    pub(super) fn keep(&mut self, count: usize) {
        let rest = self.offers.split_off(count.min(self.offers.len()));
        self.stock.lock().give_back(rest);
    }

    /// Leaves to others what is too much for one claim, now that the sizes are known.
    pub(super) fn trim(&mut self) {
        let mut bytes = 0usize;
        let fits = self.offers.iter().take_while(|offer| {
            bytes = bytes.saturating_add(offer.size());
            bytes <= CLAIM_BYTES
        });
        let count = fits.count().max(1);
        self.keep(count);
    }

    /// Takes in what the items hold, one answer for each. Those that are gone are left out. Returns
    /// how large the largest is.
    pub(super) fn add_values(&mut self, values: Vec<Option<KeyValue>>) -> Option<usize> {
        let mut gone = Vec::new();
        let mut largest = None;
        for (mut offer, kv) in std::mem::take(&mut self.offers).into_iter().zip(values) {
            match kv.filter(|kv| kv.mod_revision == offer.item.mod_revision) {
                Some(kv) => {
                    largest = largest.max(Some(kv.value.len()));
                    offer.item.value = Some(kv.value);
                    self.offers.push(offer);
                }
                None => gone.push(offer),
            }
        }
        self.stock.lock().gone(&gone);
        largest
    }
}

impl Drop for Popped {
    fn drop(&mut self) {
        self.stock.lock().forget(&self.offers);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn item(key: &str, revision: u64) -> Candidate {
        Candidate {
            key: Key::from(key.to_owned()),
            mod_revision: Revision(revision),
            value: Some(Bytes::from_static(b"v")),
        }
    }

    fn stock(by_key: bool) -> Arc<Slot<Stock>> {
        Arc::new(Slot::new(Stock::new(by_key)))
    }

    fn drain(stock: &Arc<Slot<Stock>>) -> Vec<String> {
        let (mut popped, _) = Popped::pop(stock, usize::MAX);
        let keys = popped
            .offers
            .iter()
            .map(|offer| offer.item.key.to_string())
            .collect();
        popped.all_gone();
        keys
    }

    #[test]
    fn offers_come_out_by_age_or_by_key() {
        for (by_key, expected) in [(false, ["b", "c", "a"]), (true, ["a", "b", "c"])] {
            let stock = stock(by_key);
            let items = [item("a", 9), item("b", 2)];
            stock.lock().looked(items, Revision(9));
            stock.lock().came(item("c", 5));
            assert_eq!(drain(&stock), expected);
        }
    }

    #[test]
    fn what_a_claim_is_on_its_way_for_is_offered_to_nobody_else() {
        let stock = stock(false);
        stock
            .lock()
            .looked([item("a", 1), item("b", 2)], Revision(2));
        let (mut first, more) = Popped::pop(&stock, 1);
        assert!(more);
        // A look that began before the claim ended has seen it still there.
        stock.lock().look();
        first.all_gone();
        stock
            .lock()
            .looked([item("a", 1), item("b", 2)], Revision(2));
        assert_eq!(drain(&stock), ["b"]);
        // Put anew under the same key it is another.
        stock.lock().came(item("a", 3));
        assert_eq!(drain(&stock), ["a"]);
    }

    #[test]
    fn what_came_after_a_look_is_not_forgotten_by_its_end() {
        let stock = stock(false);
        stock.lock().look();
        stock.lock().came(item("b", 7));
        stock.lock().looked([item("a", 3)], Revision(5));
        assert_eq!(drain(&stock), ["a", "b"]);
    }

    #[test]
    fn a_claim_that_ends_early_leaves_doubt() {
        let stock = stock(false);
        stock
            .lock()
            .looked([item("a", 1), item("b", 2)], Revision(2));
        drop(Popped::pop(&stock, 1));
        let mut stock = stock.lock();
        assert!(stock.is_empty() && stock.take_doubt() && !stock.take_doubt());
    }

    #[test]
    fn a_claim_carries_a_bounded_number_of_bytes() {
        let stock = stock(false);
        let large = |key, revision| Candidate {
            value: Some(Bytes::from(vec![0; CLAIM_BYTES])),
            ..item(key, revision)
        };
        stock
            .lock()
            .looked([large("a", 1), large("b", 2)], Revision(2));
        let (mut popped, more) = Popped::pop(&stock, 9);
        assert_eq!((popped.offers.len(), more), (1, true));
        popped.keep(0);
        assert_eq!(drain(&stock), ["a"]);
    }
}
