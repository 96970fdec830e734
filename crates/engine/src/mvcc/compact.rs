//! Forgetting, in pages.
//!
//! A key has something to forget at revision *c* only if it changed between the last compaction and *c*: else its one
//! version below is still what a reader at *c* sees. So the log names the keys to look at, and compaction costs what
//! was written since the last one, however many keys there are.

use synod_store::Revision;

use super::state::{State, cost};

/// A log of so few revisions is not worth shrinking.
const LEAST_LOG: usize = 4096;

/// How far pruning has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pruned {
    /// Everything below is pruned.
    floor: Revision,
    /// How many keys of the log's first entry are done.
    offset: usize,
    /// Whether they are done only as far as the floor at that entry wants it.
    at_floor: bool,
}

impl State {
    /// Prunes up to `budget` changes towards `floor`, or the compacted revision if that is lower. True when there is
    /// more to do.
    pub(crate) fn prune(&mut self, floor: Revision, mut budget: usize) -> bool {
        let floor = floor.min(self.compacted());
        if self.pruned.at_floor && self.log_start < floor {
            // The floor has risen: what had to stay of these keys may go now.
            self.pruned.at_floor = false;
            self.pruned.offset = 0;
        }
        while self.log_start < floor && !self.log.is_empty() {
            if !self.prune_revision(self.log_start, floor, &mut budget) {
                return true;
            }
            self.log.pop_front();
            self.log_start = self.log_start.next();
        }
        self.shrink_log();
        if self.pruned.floor < floor {
            // What was made at the floor stays in the log, but what it replaced can go.
            self.pruned.at_floor = true;
            if !self.prune_revision(floor, floor, &mut budget) {
                return true;
            }
            self.pruned.at_floor = false;
            self.pruned.floor = floor;
        }
        false
    }

    /// Gives back what the log took when it was far longer. Growing again costs less than was saved: it halves at least.
    fn shrink_log(&mut self) {
        if self.log.capacity() > LEAST_LOG && self.log.len() < self.log.capacity() / 4 {
            self.log.shrink_to(self.log.len().saturating_mul(2));
        }
    }

    /// Prunes the keys that `revision` changed; false when the budget ran out before.
    fn prune_revision(&mut self, revision: Revision, floor: Revision, budget: &mut usize) -> bool {
        let keys = self.changed_at(revision).get(self.pruned.offset..);
        let left = keys.map_or(0, <[_]>::len);
        let page: Vec<_> = keys
            .unwrap_or_default()
            .iter()
            .take(*budget)
            .cloned()
            .collect();
        for key in &page {
            self.prune_key(key, floor);
        }
        // An entry costs something even when it is empty.
        *budget = budget.saturating_sub(page.len().max(1));
        if page.len() < left {
            self.pruned.offset = self.pruned.offset.saturating_add(page.len());
            return false;
        }
        self.pruned.offset = 0;
        true
    }

    fn prune_key(&mut self, key: &[u8], floor: Revision) {
        let Some(history) = self.keys.get_mut(key) else {
            return;
        };
        let mut freed = 0_u64;
        let keep = history.prune(floor, |version| {
            freed = freed.saturating_add(cost(key, version));
        });
        self.total_bytes = self.total_bytes.saturating_sub(freed);
        if !keep {
            self.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Change, StoredKey, Version};
    use super::*;

    fn put(state: &mut State, key: &str) {
        let version = Version {
            modified: state.head().next(),
            created: state.head().next(),
            version: 1,
            lease: None,
            value: Some(b"v".as_slice().into()),
        };
        let key = StoredKey::from(key.as_bytes());
        state.apply(vec![Change { key, version }], |_, _, _| ());
    }

    fn delete(state: &mut State, keys: &[&str]) {
        let changes = keys.iter().map(|key| Change {
            key: StoredKey::from(key.as_bytes()),
            version: Version::deletion(state.head().next()),
        });
        let changes = changes.collect();
        state.apply(changes, |_, _, _| ());
    }

    #[test]
    fn pages_end_where_one_pass_would() {
        let mut whole = State::new();
        for turn in 0..40 {
            put(&mut whole, ["a", "b", "c", "d"][turn % 4]);
            if turn == 30 {
                delete(&mut whole, &["a", "b", "c", "d"]);
            }
        }
        let mut paged = State::new();
        std::mem::swap(&mut paged, &mut whole);
        let mut whole = State::new();
        for turn in 0..40 {
            put(&mut whole, ["a", "b", "c", "d"][turn % 4]);
            if turn == 30 {
                delete(&mut whole, &["a", "b", "c", "d"]);
            }
        }
        for floor in [5, 17, 32, 33, 41] {
            whole.set_compacted(Revision(floor));
            paged.set_compacted(Revision(floor));
            assert!(!whole.prune(Revision(floor), usize::MAX));
            let mut pages = 0;
            while paged.prune(Revision(floor), 1) {
                pages += 1;
                assert!(pages < 1000);
            }
            assert_eq!(whole.keys, paged.keys);
            assert_eq!(whole.log, paged.log);
            assert_eq!(whole.total_bytes, paged.total_bytes);
        }
        assert_eq!(whole.live_keys, 4);
        assert_eq!(whole.keys.len(), 4);
    }

    #[test]
    fn everything_superseded_is_gone_after_a_compaction_to_the_head() {
        let mut state = State::new();
        for _ in 0..10 {
            put(&mut state, "a");
            put(&mut state, "b");
        }
        delete(&mut state, &["a"]);
        put(&mut state, "c");
        let head = state.head();
        state.set_compacted(head);
        assert!(!state.prune(head, usize::MAX));
        assert_eq!(state.superseded_bytes(), 0);
        assert_eq!(state.keys.len(), 2);
    }

    #[test]
    fn the_log_gives_its_memory_back_and_keeps_what_is_left() {
        let mut state = State::new();
        for turn in 0..LEAST_LOG * 3 {
            put(&mut state, ["a", "b", "c"][turn % 3]);
        }
        let grown = state.log.capacity();
        let head = state.head();
        let floor = Revision(head.0 - 100);
        state.set_compacted(floor);
        assert!(!state.prune(floor, usize::MAX));
        assert!(state.log.capacity() < grown / 4, "{}", state.log.capacity());
        assert_eq!(state.changed_at(head).len(), 1);
        assert_eq!(state.changed_at(floor).len(), 1);
        assert!(state.changed_at(floor.prev()).is_empty());
    }

    #[test]
    fn nothing_stays_when_the_floor_rises_while_pages_are_left() {
        for pages in 0..12 {
            let mut state = State::new();
            let keys = ["a", "b", "c", "d"];
            keys.iter().for_each(|key| put(&mut state, key));
            delete(&mut state, &keys);
            let floor = state.head();
            put(&mut state, "e");
            state.set_compacted(floor);
            for _ in 0..pages {
                state.prune(floor, 1);
            }
            let head = state.head();
            state.set_compacted(head);
            assert!(!state.prune(head, usize::MAX));
            assert_eq!(state.superseded_bytes(), 0, "after {pages} pages");
            assert_eq!(state.keys.len(), 1, "after {pages} pages");
        }
    }
}
