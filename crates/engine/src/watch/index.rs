//! Which live watches a key concerns.
//!
//! Watches on one key are found by the key, those on a short prefix by each length that some watched prefix has, and the
//! rest in a tree of ranges: what nobody watches costs next to nothing, however many watches there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use synod_store::{Key, KeyRange, Revision};

use super::intervals::Intervals;
use super::watcher::Watcher;

/// Prefixes up to this length are looked up one length after the other; longer ones, which could have ever more lengths,
/// are ranges like others.
const LONGEST_PREFIX: usize = 64;

/// A live watch.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) watcher: Arc<Watcher>,
    /// It gets no event below this revision.
    pub(super) from: Revision,
}

type Group = BTreeMap<u64, Live>;

/// Watches that the same changes concern: all on one key, prefix or other range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a>(&'a Group);

impl<'a> Target<'a> {
    /// Tells it from the others as long as the index does not change.
    pub(super) fn address(self) -> usize {
        std::ptr::from_ref(self.0).addr()
    }

    pub(super) fn watches(self) -> impl Iterator<Item = &'a Live> {
        self.0.values()
    }
}

/// The live watches.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<Key, Group>,
    prefixes: HashMap<Key, Group>,
    /// How many prefixes are watched of each length.
    lengths: BTreeMap<usize, usize>,
    others: Intervals<Group>,
    count: usize,
}

/// The prefix that a range is, if it is a short one.
fn prefix(range: &KeyRange) -> Option<Key> {
    if *range == KeyRange::all() {
        return Some(Key::default());
    }
    let start = range.start();
    if start.len() > LONGEST_PREFIX {
        return None;
    }
    (*range == KeyRange::prefix(start)).then(|| start.clone())
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, live: Live) {
        let id = live.watcher.id;
        let range = &live.watcher.request.range;
        let before = if let KeyRange::One(key) = range {
            self.keys.entry(key.clone()).or_default().insert(id, live)
        } else if let Some(prefix) = prefix(range) {
            let length = prefix.len();
            let group = self.prefixes.entry(prefix).or_insert_with(|| {
                let count = self.lengths.entry(length).or_default();
                *count = count.saturating_add(1);
                Group::new()
            });
            group.insert(id, live)
        } else {
            self.others
                .change(range, |group| group.insert(id, live.clone()))
        };
        if before.is_none() {
            self.count = self.count.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, watcher: &Watcher) {
        let id = watcher.id;
        let range = &watcher.request.range;
        let removed = if let KeyRange::One(key) = range {
            let removed = self.keys.get_mut(key).and_then(|group| group.remove(&id));
            if self.keys.get(key).is_some_and(Group::is_empty) {
                self.keys.remove(key);
            }
            removed
        } else if let Some(prefix) = prefix(range) {
            let removed = self
                .prefixes
                .get_mut(&prefix)
                .and_then(|group| group.remove(&id));
            if self.prefixes.get(&prefix).is_some_and(Group::is_empty) {
                self.prefixes.remove(&prefix);
                if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.lengths.remove(&prefix.len());
                    }
                }
            }
            removed
        } else {
            let taken = self
                .others
                .shrink(range, |group| group.remove(&id), Group::is_empty);
            taken.flatten()
        };
        if removed.is_some() {
            self.count = self.count.saturating_sub(1);
        }
    }

    /// Shows `visit` the watches that `key` concerns, without looking at each of them.
    pub(super) fn for_each<'a>(&'a self, key: &[u8], mut visit: impl FnMut(Target<'a>)) {
        if let Some(group) = self.keys.get(key) {
            visit(Target(group));
        }
        for length in self.lengths.keys() {
            let Some(prefix) = key.get(..*length) else {
                break;
            };
            if let Some(group) = self.prefixes.get(prefix) {
                visit(Target(group));
            }
        }
        self.others.for_each(key, |group| visit(Target(group)));
    }

    /// All watches.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Live> {
        self.keys
            .values()
            .chain(self.prefixes.values())
            .chain(self.others.values())
            .flat_map(Group::values)
    }
}

#[cfg(test)]
mod tests {
    use synod_store::WatchRequest;

    use super::*;

    fn ids(index: &Index, key: &str) -> Vec<u64> {
        let mut ids = Vec::new();
        index.for_each(key.as_bytes(), |target| {
            ids.extend(target.watches().map(|live| live.watcher.id));
        });
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_key_finds_exactly_the_watches_whose_range_holds_it() {
        let ranges = [
            KeyRange::one("a/b"),
            KeyRange::prefix("a/"),
            KeyRange::prefix("a"),
            KeyRange::all(),
            KeyRange::between("a/a", "a/c"),
            KeyRange::from("a/c"),
            KeyRange::one("a/b"),
            KeyRange::prefix(b"\xff"),
            KeyRange::between("a/a", "a/c"),
            KeyRange::prefix("l".repeat(LONGEST_PREFIX)),
            KeyRange::prefix("l".repeat(LONGEST_PREFIX + 1)),
        ];
        let mut index = Index::default();
        let watchers: Vec<_> = (0_u64..)
            .zip(&ranges)
            .map(|(id, range)| Arc::new(Watcher::new(id, WatchRequest::new(range.clone()))))
            .collect();
        for watcher in &watchers {
            index.insert(Live {
                watcher: Arc::clone(watcher),
                from: Revision(1),
            });
        }
        assert_eq!(index.len(), ranges.len());
        let long = "l".repeat(LONGEST_PREFIX);
        let longer = "l".repeat(LONGEST_PREFIX + 2);
        let keys = [
            "a", "a/", "a/b", "a/b0", "a/c", "b", "\u{7f}", &long, &longer,
        ];
        for gone in 0..=ranges.len() {
            for key in keys {
                let expected: Vec<u64> = (0_u64..)
                    .zip(&ranges)
                    .skip(gone)
                    .filter(|(_, range)| range.contains(key.as_bytes()))
                    .map(|(id, _)| id)
                    .collect();
                assert_eq!(ids(&index, key), expected, "{key}, {gone} gone");
            }
            assert_eq!(index.iter().count(), ranges.len() - gone);
            if let Some(watcher) = watchers.get(gone) {
                index.remove(watcher);
            }
        }
        assert_eq!(index.len(), 0);
        assert!(index.keys.is_empty() && index.prefixes.is_empty() && index.lengths.is_empty());
        assert_eq!(index.others.values().count(), 0);
    }
}
