//! What the takers of one client know of the items in their queue. Pure.

use std::collections::{HashSet, VecDeque};

use synod_store::{Key, Revision};

use crate::queue::look::Candidate;

/// The most bytes of values that one claim carries.
const CLAIM_BYTES: usize = 256 << 10;

/// An item that may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) item: Candidate,
    /// How often it was handed out before; `None` while that is not known, which is as good as never.
    pub(super) attempts: Option<u32>,
}

impl Offer {
    pub(super) fn new(item: Candidate) -> Offer {
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
#[derive(Debug, Default)]
pub(super) struct Stock {
    offers: VecDeque<Offer>,
    /// Those that a claim is on its way for.
    busy: HashSet<(Key, Revision)>,
    /// Those whose claim ended while a look was on its way, which may have seen them still there.
    settled: HashSet<(Key, Revision)>,
    looking: bool,
    /// Whether an offer was dropped that may still be in the queue.
    doubt: bool,
}

impl Stock {
    pub(super) fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }

    /// The first offers, at most `count` of them, for one claim.
    pub(super) fn pop(&mut self, count: usize) -> Vec<Offer> {
        let mut bytes = 0usize;
        let mut popped = Vec::new();
        while popped.len() < count {
            let Some(offer) = self.offers.front() else {
                break;
            };
            bytes = bytes.saturating_add(offer.size());
            if bytes > CLAIM_BYTES && !popped.is_empty() {
                break;
            }
            self.busy.insert(offer.name());
            popped.extend(self.offers.pop_front());
        }
        popped
    }

    /// Offers that were popped and are still there.
    pub(super) fn give_back(&mut self, offers: Vec<Offer>) {
        for offer in &offers {
            self.busy.remove(&offer.name());
        }
        let before = self.offers.len();
        self.offers.extend(offers);
        if self.offers.len() > before {
            self.sort();
        }
    }

    /// Offers that were popped and are not there any more.
    pub(super) fn gone(&mut self, offers: &[Offer]) {
        for offer in offers {
            self.busy.remove(&offer.name());
            if self.looking {
                self.settled.insert(offer.name());
            }
        }
    }

    /// Offers that were popped, and of which nothing is known now.
    pub(super) fn forget(&mut self, offers: &[Offer]) {
        for offer in offers {
            self.busy.remove(&offer.name());
        }
        self.doubt |= !offers.is_empty();
    }

    /// Whether there may be more than is known; said once.
    pub(super) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubt)
    }

    /// A look begins.
    pub(super) fn look(&mut self) {
        self.settled.clear();
        self.looking = true;
    }

    /// A look has ended.
    pub(super) fn looked(&mut self, items: impl IntoIterator<Item = Candidate>) {
        self.looking = false;
        let offers = items.into_iter().map(Offer::new);
        let free = |offer: &Offer| {
            let name = offer.name();
            !self.busy.contains(&name) && !self.settled.contains(&name)
        };
        self.offers = offers.filter(free).collect();
        self.settled.clear();
    }

    /// An item was put in.
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
        self.offers.make_contiguous().sort_by(|a, b| {
            let (a, b) = (&a.item, &b.item);
            a.mod_revision
                .cmp(&b.mod_revision)
                .then_with(|| a.key.cmp(&b.key))
        });
    }
}
