//! The keys as of one revision, with the writes of an unfinished transaction on top.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Bound;

use synod_store::{KeyRange, Revision};

use super::history::{History, StoredKey, Version};
use super::state::{Change, State};

/// What a transaction has written so far.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    latest: BTreeMap<StoredKey, Version>,
    changes: Vec<Change>,
    /// How many of the changes are in `latest`.
    settled: usize,
}

impl Overlay {
    /// Adds a write, which a look finds after the next [`settle`](Overlay::settle).
    pub(crate) fn set(&mut self, key: StoredKey, version: Version) {
        self.changes.push(Change { key, version });
    }

    /// Lets looks find all writes. Called before an operation, not after it: most transactions have one, after which
    /// nobody looks.
    pub(crate) fn settle(&mut self) {
        for change in self.changes.get(self.settled..).unwrap_or_default() {
            let key = StoredKey::clone(&change.key);
            self.latest.insert(key, change.version.clone());
        }
        self.settled = self.changes.len();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// All writes, in their order.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

/// The keys as of one revision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) state: &'a State,
    pub(crate) at: Revision,
    pub(crate) overlay: Option<&'a Overlay>,
}

impl<'a> View<'a> {
    /// The state as of `at`.
    pub(crate) fn new(state: &'a State, at: Revision) -> View<'a> {
        View {
            state,
            at,
            overlay: None,
        }
    }

    /// The live version of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&'a Version> {
        if let Some(version) = self.overlay.and_then(|overlay| overlay.latest.get(key)) {
            return Some(version).filter(|version| version.is_live());
        }
        self.state
            .history(key)?
            .at(self.at)
            .filter(|version| version.is_live())
    }

    /// Shows `visit` the live versions in `range` beyond `after`, in key order. `visit` says what it cost; when `budget`
    /// is used up the walk stops, and the last key looked at is returned to go on from. A key that is not live costs 1.
    pub(crate) fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        mut budget: usize,
        mut visit: impl FnMut(&'a StoredKey, &'a Version) -> usize,
    ) -> Option<StoredKey> {
        if let KeyRange::One(key) = range {
            if let Some(key) = self.find(key)
                && let Some(version) = self.get(key)
            {
                visit(key, version);
            }
            return None;
        }
        let bounds = bounds(range, after)?;
        let mut merged = Merge {
            state: self.state.keys.range::<[u8], _>(bounds).peekable(),
            overlay: self
                .overlay
                .map(|overlay| overlay.latest.range::<[u8], _>(bounds).peekable()),
        };
        while let Some((key, found)) = merged.next() {
            let version = match found {
                Found::Stored(history) => history.at(self.at),
                Found::Written(version) => Some(version),
            };
            let cost = match version {
                Some(version) if version.is_live() => visit(key, version),
                _ => 1,
            };
            budget = budget.saturating_sub(cost);
            if budget == 0 && merged.state.peek().is_some() {
                return Some(StoredKey::clone(key));
            }
        }
        None
    }

    fn find(&self, key: &[u8]) -> Option<&'a StoredKey> {
        let written = self
            .overlay
            .and_then(|overlay| overlay.latest.get_key_value(key))
            .map(|(key, _)| key);
        written.or_else(|| self.state.stored_key(key))
    }
}

type Bounds<'r> = (Bound<&'r [u8]>, Bound<&'r [u8]>);

/// The map bounds of a range beyond `after`; `None` when nothing can lie between.
fn bounds<'r>(range: &'r KeyRange, after: Option<&'r [u8]>) -> Option<Bounds<'r>> {
    let start = range.start().as_bytes();
    let lower = match after {
        Some(after) if after >= start => Bound::Excluded(after),
        _ => Bound::Included(start),
    };
    let upper = match range {
        KeyRange::One(key) => Bound::Included(key.as_bytes()),
        KeyRange::Between(_, end) => Bound::Excluded(end.as_bytes()),
        KeyRange::From(_) => Bound::Unbounded,
    };
    let empty = match (lower, upper) {
        (_, Bound::Unbounded) => false,
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high))
        | (Bound::Excluded(low), Bound::Included(high)) => low >= high,
        (Bound::Unbounded, _) => false,
    };
    (!empty).then_some((lower, upper))
}

enum Found<'a> {
    Stored(&'a History),
    Written(&'a Version),
}

/// The state's keys and a transaction's, in one order; what the transaction wrote hides what is stored.
struct Merge<'a> {
    state: Peekable<btree_map::Range<'a, StoredKey, History>>,
    overlay: Option<Peekable<btree_map::Range<'a, StoredKey, Version>>>,
}

impl<'a> Merge<'a> {
    fn next(&mut self) -> Option<(&'a StoredKey, Found<'a>)> {
        let stored = self.state.peek().map(|(key, _)| *key);
        let written = self
            .overlay
            .as_mut()
            .and_then(|overlay| overlay.peek().map(|(key, _)| *key));
        match (stored, written) {
            (Some(stored), Some(written)) if written <= stored => {
                if written == stored {
                    self.state.next();
                }
                self.next_written()
            }
            (None, Some(_)) => self.next_written(),
            _ => self
                .state
                .next()
                .map(|(key, history)| (key, Found::Stored(history))),
        }
    }

    fn next_written(&mut self) -> Option<(&'a StoredKey, Found<'a>)> {
        let (key, version) = self.overlay.as_mut()?.next()?;
        Some((key, Found::Written(version)))
    }
}
