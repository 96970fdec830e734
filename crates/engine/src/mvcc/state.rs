//! All keys with their histories, the log of what changed at each revision, and the counters.

use std::collections::{BTreeMap, VecDeque};

use synod_store::{LeaseId, Revision};

use super::compact::Pruned;
use super::history::{History, StoredKey, Version};

/// What a version is counted for beside the bytes of its key and value: the places in the map and in the log.
pub(super) const OVERHEAD: u64 = 128;

/// One key set to one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: StoredKey,
    pub(crate) version: Version,
}

impl Change {
    /// What it will be counted for.
    pub(crate) fn cost(&self) -> u64 {
        cost(&self.key, &self.version)
    }
}

pub(super) fn cost(key: &[u8], version: &Version) -> u64 {
    let value = version.value.as_ref().map_or(0, |value| value.len());
    (key.len() as u64)
        .saturating_add(value as u64)
        .saturating_add(OVERHEAD)
}

/// The keys that one revision changed, in the order of its operations. Nearly always it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    One(StoredKey),
    Many(Box<[StoredKey]>),
    /// Some key more than once: a transaction may delete a key and put it again.
    Again(Box<Again>),
}

/// What a revision changed that changed some key more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Again {
    keys: Box<[StoredKey]>,
    /// The index of each change whose key was changed before in this revision, and how often it was. In order.
    repeats: Box<[(usize, usize)]>,
}

impl Changed {
    fn new(keys: Vec<StoredKey>, repeats: Vec<(usize, usize)>) -> Changed {
        if !repeats.is_empty() {
            return Changed::Again(Box::new(Again {
                keys: keys.into(),
                repeats: repeats.into(),
            }));
        }
        match <[StoredKey; 1]>::try_from(keys) {
            Ok([key]) => Changed::One(key),
            Err(keys) => Changed::Many(keys.into()),
        }
    }

    pub(super) fn keys(&self) -> &[StoredKey] {
        match self {
            Changed::One(key) => std::slice::from_ref(key),
            Changed::Many(keys) => keys,
            Changed::Again(again) => &again.keys,
        }
    }

    /// How often the key of the `index`th change was changed before it. Tells, too, at how many changes it looked.
    fn before(&self, index: usize) -> (usize, usize) {
        let Changed::Again(again) = self else {
            return (0, 0);
        };
        let mut looked = 0;
        let found = again.repeats.binary_search_by(|(at, _)| {
            looked += 1;
            at.cmp(&index)
        });
        let repeat = found.ok().and_then(|place| again.repeats.get(place));
        (repeat.map_or(0, |(_, before)| *before), looked)
    }
}

/// All keys, all revisions that are still readable, and those not yet published.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) keys: BTreeMap<StoredKey, History>,
    /// What each revision changed: the first entry is that of `log_start`.
    pub(super) log: VecDeque<Changed>,
    pub(super) log_start: Revision,
    /// The last revision applied; published or not.
    head: Revision,
    /// The oldest revision that can be read; `None` before the first compaction.
    compacted: Option<Revision>,
    pub(super) pruned: Pruned,
    pub(super) live_keys: u64,
    pub(super) live_bytes: u64,
    pub(super) total_bytes: u64,
}

impl State {
    /// An empty state at revision 1.
    pub(crate) fn new() -> State {
        State::starting_at(Revision(1), None)
    }

    /// An empty state whose next revision is the one after `head`.
    pub(crate) fn starting_at(head: Revision, compacted: Option<Revision>) -> State {
        State {
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            log_start: head.next(),
            head,
            compacted,
            pruned: Pruned::default(),
            live_keys: 0,
            live_bytes: 0,
            total_bytes: 0,
        }
    }

    pub(crate) fn head(&self) -> Revision {
        self.head
    }

    /// The oldest revision that can be read, zero while none was compacted.
    pub(crate) fn compacted(&self) -> Revision {
        self.compacted.unwrap_or(Revision::ZERO)
    }

    /// As `compacted`, but telling a compaction at zero from none.
    pub(crate) fn compaction(&self) -> Option<Revision> {
        self.compacted
    }

    /// Makes everything below `revision` unreadable; `prune` gives the memory back.
    pub(crate) fn set_compacted(&mut self, revision: Revision) {
        self.compacted = Some(revision);
    }

    pub(crate) fn live_keys(&self) -> u64 {
        self.live_keys
    }

    /// Bytes of what can be read now.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of everything.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes of what was overwritten or deleted and not yet forgotten.
    pub(crate) fn superseded_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.live_bytes)
    }

    /// How many revisions can be read.
    pub(crate) fn revisions(&self) -> u64 {
        self.head.0.saturating_sub(self.compacted().0)
    }

    /// The key as it is held here already, so that its bytes are kept once.
    pub(crate) fn stored_key(&self, key: &[u8]) -> Option<&StoredKey> {
        self.keys.get_key_value(key).map(|(key, _)| key)
    }

    /// The history of a key.
    pub(super) fn history(&self, key: &[u8]) -> Option<&History> {
        self.keys.get(key)
    }

    /// The newest version of a key, published or not.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<&Version> {
        self.keys.get(key).map(History::newest)
    }

    /// All live keys that are attached to a lease.
    pub(crate) fn leased_keys(&self) -> impl Iterator<Item = (&StoredKey, LeaseId)> {
        self.keys
            .iter()
            .filter_map(|(key, history)| Some((key, history.newest().lease?)))
    }

    /// What `revision` changed, in the order of its operations.
    pub(crate) fn changes_of(&self, revision: Revision) -> Vec<(&StoredKey, &Version)> {
        let keys = self.changed_at(revision);
        keys.iter()
            .enumerate()
            .filter_map(|(index, key)| Some((key, self.version_of(revision, index)?)))
            .collect()
    }

    /// The version that the `index`th change of `revision` made.
    pub(super) fn version_of(&self, revision: Revision, index: usize) -> Option<&Version> {
        let changed = self.changed(revision)?;
        let history = self.history(changed.keys().get(index)?)?;
        let (before, _) = changed.before(index);
        history.made_at(revision, before)
    }

    /// Applies the changes of the next revision. `leases` learns of each key that leaves a lease or joins one.
    pub(crate) fn apply(
        &mut self,
        changes: Vec<Change>,
        mut leases: impl FnMut(&StoredKey, Option<LeaseId>, Option<LeaseId>),
    ) -> Revision {
        self.head = self.head.next();
        let mut keys = Vec::with_capacity(changes.len());
        let mut repeats = Vec::new();
        for (index, Change { key, version }) in changes.into_iter().enumerate() {
            let history = self.history(&key);
            let before = history.and_then(|history| history.newest().lease);
            let repeat = history.map_or(0, |history| history.newest_at(self.head));
            if before != version.lease {
                leases(&key, before, version.lease);
            }
            if repeat > 0 {
                repeats.push((index, repeat));
            }
            self.insert(&key, version);
            keys.push(key);
        }
        self.log.push_back(Changed::new(keys, repeats));
        self.head
    }

    /// Adds a version and counts it; the log is not touched.
    pub(crate) fn insert(&mut self, key: &StoredKey, version: Version) {
        let new = cost(key, &version);
        self.total_bytes = self.total_bytes.saturating_add(new);
        if version.is_live() {
            self.live_bytes = self.live_bytes.saturating_add(new);
            self.live_keys = self.live_keys.saturating_add(1);
        }
        match self.keys.get_mut(key) {
            None => {
                self.keys
                    .insert(StoredKey::clone(key), History::new(version));
            }
            Some(history) => {
                let before = history.newest();
                if before.is_live() {
                    self.live_bytes = self.live_bytes.saturating_sub(cost(key, before));
                    self.live_keys = self.live_keys.saturating_sub(1);
                }
                history.push(version);
            }
        }
    }

    /// Takes back every revision above `to`: they could not be made durable.
    pub(crate) fn roll_back(
        &mut self,
        to: Revision,
        mut leases: impl FnMut(&StoredKey, Option<LeaseId>, Option<LeaseId>),
    ) {
        while self.head > to {
            let Some(changed) = self.log.pop_back() else {
                break;
            };
            for key in changed.keys().iter().rev() {
                let Some(history) = self.keys.get_mut(key) else {
                    continue;
                };
                let (gone, last) = match history.pop() {
                    Ok(version) => (version, false),
                    Err(version) => (version, true),
                };
                let before = (!last).then(|| history.newest()).filter(|v| v.is_live());
                let lease = before.and_then(|version| version.lease);
                if let Some(before) = before {
                    self.live_bytes = self.live_bytes.saturating_add(cost(key, before));
                    self.live_keys = self.live_keys.saturating_add(1);
                }
                self.total_bytes = self.total_bytes.saturating_sub(cost(key, &gone));
                if gone.is_live() {
                    self.live_bytes = self.live_bytes.saturating_sub(cost(key, &gone));
                    self.live_keys = self.live_keys.saturating_sub(1);
                }
                if gone.lease != lease {
                    leases(key, gone.lease, lease);
                }
                if last {
                    self.keys.remove(key);
                }
            }
            self.head = self.head.prev();
        }
    }

    /// The keys that `revision` changed, in the order of its operations.
    pub(crate) fn changed_at(&self, revision: Revision) -> &[StoredKey] {
        self.changed(revision).map_or(&[], Changed::keys)
    }

    fn changed(&self, revision: Revision) -> Option<&Changed> {
        self.log.get(self.log_index(revision)?)
    }

    fn log_index(&self, revision: Revision) -> Option<usize> {
        usize::try_from(revision.0.checked_sub(self.log_start.0)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: usize = 3000;

    fn put(revision: Revision, version: u64) -> Version {
        Version {
            modified: revision,
            created: revision,
            version,
            lease: None,
            value: Some(version.to_string().into_bytes().into()),
        }
    }

    fn key(number: usize) -> StoredKey {
        StoredKey::from(format!("k{number:06}").into_bytes())
    }

    /// Deletes all keys and puts every third of them again, the last one first; one key is put over and over.
    fn again(revision: Revision) -> Vec<Change> {
        let change = |number, version| Change {
            key: key(number),
            version,
        };
        let mut changes: Vec<Change> = (0..KEYS)
            .map(|number| change(number, Version::deletion(revision)))
            .collect();
        for number in (0..KEYS).rev().step_by(3) {
            changes.push(change(number, put(revision, 1)));
            changes.push(change(7, put(revision, number as u64)));
        }
        changes
    }

    fn one(revision: Revision) -> Vec<Change> {
        vec![Change {
            key: key(7),
            version: put(revision, 1),
        }]
    }

    #[test]
    fn a_revision_that_changes_keys_again_tells_each_change_in_its_order() {
        let mut state = State::new();
        let mut made = Vec::new();
        for changes in [one, again, again, one, again] {
            let changes = changes(state.head().next());
            made.push(changes.clone());
            let revision = state.apply(changes, |_, _, _| ());
            assert_eq!(made.len() as u64 + 1, revision.0);
        }
        let told = |state: &State, revision: u64| -> Vec<Change> {
            let changes = state.changes_of(Revision(revision)).into_iter();
            let change = |(key, version): (&StoredKey, &Version)| Change {
                key: StoredKey::clone(key),
                version: version.clone(),
            };
            changes.map(change).collect()
        };
        for (made, revision) in made.iter().zip(2..) {
            assert_eq!(told(&state, revision), *made, "revision {revision}");
        }
        // So they do when later ones were taken back, and earlier ones forgotten.
        state.roll_back(Revision(5), |_, _, _| ());
        state.set_compacted(Revision(4));
        assert!(!state.prune(Revision(4), usize::MAX));
        assert!(told(&state, 3).is_empty());
        for revision in [4, 5] {
            assert_eq!(told(&state, revision), made[revision as usize - 2]);
        }
        assert!(told(&state, 6).is_empty());
        let keys: Vec<&StoredKey> = made[2].iter().map(|change| &change.key).collect();
        assert!(state.changed_at(Revision(4)).iter().eq(keys));
    }

    /// A revision with many changes of which many are repeats is read while others wait.
    #[test]
    fn which_change_of_its_key_a_change_is_takes_few_looks() {
        let mut state = State::new();
        let changes = again(state.head().next());
        let count = changes.len();
        let revision = state.apply(changes, |_, _, _| ());
        let changed = state.changed(revision).unwrap();
        for index in 0..count {
            let (_, looked) = changed.before(index);
            assert!(looked <= 12, "{looked} looks for change {index} of {count}");
        }
    }

    /// Most revisions change one key, and each pays for this.
    #[test]
    fn a_place_in_the_log_stays_small() {
        assert_eq!(size_of::<Changed>(), 24);
        let mut state = State::new();
        for changes in [one, again] {
            let changes = changes(state.head().next());
            state.apply(changes, |_, _, _| ());
        }
        let other = |number| Change {
            key: key(number),
            version: put(state.head().next(), 1),
        };
        let changes = vec![other(1), other(2)];
        state.apply(changes, |_, _, _| ());
        let kinds: Vec<_> = state.log.iter().collect();
        assert!(matches!(
            kinds[..],
            [Changed::One(_), Changed::Again(_), Changed::Many(_)]
        ));
    }
}
