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
}

impl Changed {
    pub(super) fn keys(&self) -> &[StoredKey] {
        match self {
            Changed::One(key) => std::slice::from_ref(key),
            Changed::Many(keys) => keys,
        }
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
        let keys = self.changed_at(revision);
        let key = keys.get(index)?;
        let history = self.history(key)?;
        let mut made = history.made_at(revision);
        let first = made.next()?;
        // A transaction may put a key and delete it again; then the key is listed twice.
        if made.next().is_none() {
            return Some(first);
        }
        let earlier = keys.iter().take(index).filter(|k| *k == key).count();
        history.made_at(revision).nth(earlier)
    }

    /// Applies the changes of the next revision. `leases` learns of each key that leaves a lease or joins one.
    pub(crate) fn apply(
        &mut self,
        changes: Vec<Change>,
        mut leases: impl FnMut(&StoredKey, Option<LeaseId>, Option<LeaseId>),
    ) -> Revision {
        self.head = self.head.next();
        let mut keys = Vec::with_capacity(changes.len());
        for Change { key, version } in changes {
            let before = self.newest(&key).and_then(|version| version.lease);
            if before != version.lease {
                leases(&key, before, version.lease);
            }
            self.insert(&key, version);
            keys.push(key);
        }
        let changed = match <[StoredKey; 1]>::try_from(keys) {
            Ok([key]) => Changed::One(key),
            Err(keys) => Changed::Many(keys.into()),
        };
        self.log.push_back(changed);
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
        self.log_index(revision)
            .and_then(|index| self.log.get(index))
            .map_or(&[], Changed::keys)
    }

    fn log_index(&self, revision: Revision) -> Option<usize> {
        usize::try_from(revision.0.checked_sub(self.log_start.0)?).ok()
    }
}
