//! [`View`]: a semaphore at one revision, and who of its line has its permits. Pure.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use synod_store::{Event, EventKind, Key, KeyValue, Revision};

use super::keys::{Keys, parse};

/// A ticket's place in the line: its create revision, and its key, which breaks ties.
pub(super) type Spot = (Revision, Key);

/// A semaphore at one revision.
#[derive(Debug)]
pub(super) struct View {
    keys: Keys,
    revision: Revision,
    total: Option<Bytes>,
    line: BTreeMap<Spot, u32>,
    created: HashMap<Key, Revision>,
}

/// What a view says of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has its permits.
    Granted,
    /// It waits.
    Waiting,
    /// It is for more permits than there are.
    TooMany(u32),
    /// It is not there any more.
    Gone,
}

impl View {
    /// What was read at `revision`: the record of the total, and the tickets.
    pub(super) fn new(
        keys: &Keys,
        revision: Revision,
        total: Option<Bytes>,
        tickets: Vec<KeyValue>,
    ) -> View {
        let mut view = View {
            keys: keys.clone(),
            revision,
            total,
            line: BTreeMap::new(),
            created: HashMap::new(),
        };
        for kv in tickets {
            view.put(kv);
        }
        view
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// The number of permits; `None` while there is no record of it, or a damaged one.
    pub(super) fn total(&self) -> Option<u32> {
        parse(self.total.as_ref()?)
    }

    fn put(&mut self, kv: KeyValue) {
        if let Some(permits) = self.keys.permits(&kv.key) {
            self.created.insert(kv.key.clone(), kv.create_revision);
            self.line.insert((kv.create_revision, kv.key), permits);
        }
    }

    pub(super) fn apply(&mut self, event: Event) {
        self.revision = self.revision.max(event.kv.mod_revision);
        let is_total = event.kv.key == *self.keys.total();
        match (event.kind, is_total) {
            (EventKind::Put, true) => self.total = Some(event.kv.value),
            (EventKind::Delete, true) => self.total = None,
            (EventKind::Put, false) => self.put(event.kv),
            (EventKind::Delete, false) => {
                if let Some(created) = self.created.remove(&event.kv.key) {
                    self.line.remove(&(created, event.kv.key));
                }
            }
        }
    }

    /// How the tickets stand.
    pub(super) fn standings(&self) -> Standings<'_> {
        Standings {
            view: self,
            total: self.total(),
            last: self.last_granted(),
        }
    }

    /// The last of those whose permits, with those of all before, are no more than there are.
    /// Whoever stands behind one that waits waits too.
    fn last_granted(&self) -> Option<&Spot> {
        let total = u64::from(self.total()?);
        let sums = self.line.iter().scan(0_u64, |sum, (spot, &permits)| {
            *sum += u64::from(permits);
            Some((spot, *sum))
        });
        let granted = sums.take_while(|(_, sum)| *sum <= total);
        granted.last().map(|(spot, _)| spot)
    }

    /// How many permits nobody has.
    pub(super) fn available(&self) -> u32 {
        let Some(total) = self.total() else { return 0 };
        let Some(last) = self.last_granted() else {
            return total;
        };
        let granted = self.line.range(..=last).map(|(_, permits)| permits);
        granted.fold(total, |left, permits| left.saturating_sub(*permits))
    }

    /// The record of the total, as it is.
    pub(super) fn record(&self) -> Option<&Bytes> {
        self.total.as_ref()
    }
}

/// A view, reckoned up.
#[derive(Debug)]
pub(super) struct Standings<'v> {
    view: &'v View,
    total: Option<u32>,
    last: Option<&'v Spot>,
}

impl Standings<'_> {
    /// How a ticket stands.
    pub(super) fn of(&self, spot: &Spot) -> Standing {
        match (self.view.line.get(spot), self.total) {
            (None, _) if spot.0 <= self.view.revision => Standing::Gone,
            // The view is older than the ticket.
            (None, _) => Standing::Waiting,
            // Nobody is given anything while it is not known how much there is.
            (Some(_), None) => Standing::Waiting,
            (Some(&own), Some(total)) if own > total => Standing::TooMany(total),
            (Some(_), Some(_)) if self.last.is_some_and(|last| spot <= last) => Standing::Granted,
            (Some(_), Some(_)) => Standing::Waiting,
        }
    }
}
