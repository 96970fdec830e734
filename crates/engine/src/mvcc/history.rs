//! The versions of one key.

use std::sync::Arc;

use bytes::Bytes;
use synod_store::{Key, KeyValue, LeaseId, Revision};

/// A key as the state holds it: one allocation, shared by the map, the log and the leases.
pub(crate) type StoredKey = Arc<[u8]>;

/// A value as the state holds it: its bytes and their count of owners in one allocation. A `Bytes` would be twice as
/// wide, and makes a second allocation for the count when it is first shared.
pub(crate) type StoredValue = Arc<[u8]>;

/// What a key was set to at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// When.
    pub(crate) modified: Revision,
    /// When the key was created; zero for a deletion.
    pub(crate) created: Revision,
    /// How many times it was put since; zero for a deletion.
    pub(crate) version: u64,
    /// The lease that it is attached to.
    pub(crate) lease: Option<LeaseId>,
    /// The value; `None` says that the key was deleted.
    pub(crate) value: Option<StoredValue>,
}

impl Version {
    /// The deletion of a key.
    pub(crate) fn deletion(modified: Revision) -> Version {
        Version {
            modified,
            created: Revision::ZERO,
            version: 0,
            lease: None,
            value: None,
        }
    }

    /// Whether this is a value and no deletion.
    pub(crate) fn is_live(&self) -> bool {
        self.value.is_some()
    }

    /// The pair as it is shown to a reader.
    pub(crate) fn to_pair(&self, key: &[u8]) -> KeyValue {
        KeyValue {
            key: Key::from(key),
            value: self.value.as_ref().map(shared).unwrap_or_default(),
            ..self.to_bare_pair(key)
        }
    }

    /// The pair without its value.
    pub(crate) fn to_bare_pair(&self, key: &[u8]) -> KeyValue {
        KeyValue {
            key: Key::from(key),
            value: Bytes::new(),
            create_revision: self.created,
            mod_revision: self.modified,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// The value as readers take it, without a copy of its bytes.
fn shared(value: &StoredValue) -> Bytes {
    if value.is_empty() {
        Bytes::new()
    } else {
        Bytes::from_owner(StoredValue::clone(value))
    }
}

/// All versions of one key that are still needed, at least one.
///
/// The newest lies in place, since most keys have no other: a million keys cost no million small vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    newest: Version,
    /// Oldest first. Boxed, since a key without older versions should pay one word for them.
    #[expect(
        clippy::box_collection,
        reason = "one word a key instead of three, and most keys have none"
    )]
    older: Option<Box<Vec<Version>>>,
}

impl History {
    pub(crate) fn new(first: Version) -> History {
        History {
            newest: first,
            older: None,
        }
    }

    pub(crate) fn newest(&self) -> &Version {
        &self.newest
    }

    fn older(&self) -> &[Version] {
        self.older.as_deref().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn push(&mut self, version: Version) {
        let before = std::mem::replace(&mut self.newest, version);
        self.older.get_or_insert_default().push(before);
    }

    /// Takes the newest version back. `Err` with it when there is no other, so that the key must go.
    pub(crate) fn pop(&mut self) -> Result<Version, Version> {
        match self.older.as_mut().and_then(|older| older.pop()) {
            Some(before) => {
                if self.older().is_empty() {
                    self.older = None;
                }
                Ok(std::mem::replace(&mut self.newest, before))
            }
            None => Err(self.newest.clone()),
        }
    }

    /// What the key was as of `at`, a deletion included; `None` when it was not there yet.
    pub(crate) fn at(&self, at: Revision) -> Option<&Version> {
        if self.newest.modified <= at {
            return Some(&self.newest);
        }
        let older = self.older();
        let after = older.partition_point(|version| version.modified <= at);
        older.get(after.checked_sub(1)?)
    }

    /// The version made at exactly `at` after `before` others of the same revision.
    pub(crate) fn made_at(&self, at: Revision, before: usize) -> Option<&Version> {
        let older = self.older();
        let first = older.partition_point(|version| version.modified < at);
        let place = first.saturating_add(before);
        let version = match older.get(place) {
            None if place == older.len() => Some(&self.newest),
            version => version,
        };
        version.filter(|version| version.modified == at)
    }

    /// How many of the newest versions were made at `at`.
    pub(crate) fn newest_at(&self, at: Revision) -> usize {
        if self.newest.modified != at {
            return 0;
        }
        let older = self.older();
        let first = older.partition_point(|version| version.modified < at);
        older.len().saturating_sub(first).saturating_add(1)
    }

    /// Drops what no reader at or above `floor` can see, and gives each dropped version to `dropped`. False when
    /// nothing is left, so that the key itself must go.
    ///
    /// Versions made at `floor` all stay, deletions too: a watch may start there.
    pub(crate) fn prune(&mut self, floor: Revision, mut dropped: impl FnMut(&Version)) -> bool {
        let below = |version: &Version| version.modified < floor;
        if let Some(older) = self.older.as_mut() {
            let made_below = older.partition_point(below);
            // The last version below the floor is still what a reader at the floor sees, unless one was made there
            // or it is a deletion.
            let next = older.get(made_below).unwrap_or(&self.newest);
            let seen = next.modified > floor
                && made_below
                    .checked_sub(1)
                    .and_then(|last| older.get(last))
                    .is_some_and(Version::is_live);
            let drop = match (below(next), seen) {
                // Even the newest is below the floor: it alone can be seen.
                (true, _) => older.len(),
                (false, true) => made_below.saturating_sub(1),
                (false, false) => made_below,
            };
            older.drain(..drop).for_each(|version| dropped(&version));
            if older.is_empty() {
                self.older = None;
            } else if older.capacity() > 64 && older.len() < older.capacity() / 4 {
                older.shrink_to_fit();
            }
        }
        if self.older.is_none() && below(&self.newest) && !self.newest.is_live() {
            dropped(&self.newest);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(at: u64) -> Version {
        Version {
            modified: Revision(at),
            created: Revision(at),
            version: 1,
            lease: None,
            value: Some(at.to_string().into_bytes().into()),
        }
    }

    fn history(versions: &[Version]) -> History {
        let mut history = History::new(versions[0].clone());
        versions[1..]
            .iter()
            .for_each(|version| history.push(version.clone()));
        history
    }

    fn revisions(history: &History) -> Vec<u64> {
        let older = history.older().iter();
        older
            .chain([&history.newest])
            .map(|version| version.modified.0)
            .collect()
    }

    /// A million keys pay for each byte of these, and for the free places beside them in the map's nodes.
    #[test]
    fn a_version_stays_small() {
        assert_eq!(size_of::<Version>(), 48);
        assert_eq!(size_of::<History>(), 56);
        assert_eq!(size_of::<StoredKey>(), 16);
    }

    #[test]
    fn a_value_is_shared_with_its_readers_and_not_copied() {
        let version = put(7);
        let stored = version.value.as_ref().unwrap().as_ptr();
        let pair = version.to_pair(b"k");
        assert_eq!(pair.value.as_ptr(), stored);
        assert_eq!(version.to_bare_pair(b"k").value, Bytes::new());
        drop(version);
        assert_eq!(pair.value, "7", "the reader's share keeps it alive");
    }

    #[test]
    fn each_revision_sees_the_version_before_it() {
        let history = history(&[put(3), put(5), Version::deletion(Revision(8))]);
        let seen = |at| history.at(Revision(at)).map(|version| version.modified.0);
        assert_eq!(
            [2, 3, 4, 5, 7, 8, 9].map(seen),
            [None, Some(3), Some(3), Some(5), Some(5), Some(8), Some(8)]
        );
    }

    #[test]
    fn pruning_keeps_what_the_floor_sees_and_all_that_was_made_there() {
        let all = [put(3), put(5), Version::deletion(Revision(8)), put(9)];
        for (floor, left) in [
            (2, vec![3, 5, 8, 9]),
            (4, vec![3, 5, 8, 9]),
            (5, vec![5, 8, 9]),
            (7, vec![5, 8, 9]),
            (8, vec![8, 9]),
            (9, vec![9]),
            (20, vec![9]),
        ] {
            let mut history = history(&all);
            let mut dropped = 0;
            assert!(history.prune(Revision(floor), |_| dropped += 1));
            assert_eq!(revisions(&history), left, "floor {floor}");
            assert_eq!(dropped, 4 - left.len());
        }
    }

    #[test]
    fn a_deletion_goes_with_its_key_once_it_is_below_the_floor() {
        let all = [put(3), Version::deletion(Revision(8))];
        let mut history = history(&all);
        assert!(history.prune(Revision(8), |_| ()));
        assert_eq!(revisions(&history), [8]);
        assert!(!history.prune(Revision(9), |_| ()));
    }

    #[test]
    fn several_versions_of_one_revision_stay_together() {
        let all = [put(3), put(5), Version::deletion(Revision(5)), put(7)];
        let mut history = history(&all);
        let made = |at, before| history.made_at(Revision(at), before).cloned();
        assert_eq!(
            [made(5, 0), made(5, 1), made(5, 2)],
            [Some(put(5)), Some(Version::deletion(Revision(5))), None]
        );
        assert_eq!([made(7, 0), made(7, 1)], [Some(put(7)), None]);
        assert_eq!([made(4, 0), made(8, 0)], [None, None]);
        assert_eq!(history.newest_at(Revision(7)), 1);
        assert_eq!(history.newest_at(Revision(5)), 0);
        assert_eq!(history.at(Revision(5)).map(Version::is_live), Some(false));
        assert!(history.prune(Revision(5), |_| ()));
        assert_eq!(revisions(&history), [5, 5, 7]);
        assert!(history.prune(Revision(6), |_| ()));
        assert_eq!(revisions(&history), [7]);
    }

    #[test]
    fn versions_can_be_taken_back() {
        let mut history = history(&[put(3), put(5)]);
        assert_eq!(history.pop().map(|version| version.modified.0), Ok(5));
        assert_eq!(history.pop().map_err(|version| version.modified.0), Err(3));
    }
}
