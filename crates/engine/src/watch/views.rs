//! What the watches on one key or range see of the same changes.
//!
//! Watches differ in what they leave out and in whether they want the pair before. Each view is made when the first
//! watch asks for it, and shared by all that see the same: ten thousand watches on a prefix cost one event.

use std::sync::Arc;

use synod_store::{Event, EventKind, Revision, WatchRequest};

use super::watcher::Shared;
use crate::mvcc::State;

/// A revision, and which of its changes.
pub(super) type Position = (Revision, usize);

/// What tells one view of the same changes from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Class {
    prev_kv: bool,
    puts: bool,
    deletes: bool,
    /// The first revision to be seen, or the first there is if that is later.
    from: Revision,
}

/// The views of some changes.
pub(super) struct Views<'a> {
    state: &'a State,
    changes: &'a [Position],
    first: Revision,
    /// At most eight: those of watches that begin within the changes are not kept.
    made: Vec<(Class, Option<Arc<Shared>>)>,
}

impl<'a> Views<'a> {
    /// Of these changes, which are in order.
    pub(super) fn new(state: &'a State, changes: &'a [Position]) -> Views<'a> {
        Views {
            state,
            changes,
            first: changes.first().map_or(Revision::ZERO, |(first, _)| *first),
            made: Vec::new(),
        }
    }

    /// What a watch sees that gets nothing below `from`; `None` if that is nothing.
    pub(super) fn of(&mut self, request: &WatchRequest, from: Revision) -> Option<Arc<Shared>> {
        let class = Class {
            prev_kv: request.prev_kv,
            puts: request.wants(EventKind::Put),
            deletes: request.wants(EventKind::Delete),
            from: from.max(self.first),
        };
        if let Some((_, view)) = self.made.iter().find(|(made, _)| *made == class) {
            return view.clone();
        }
        let view = Shared::new(self.make(class));
        // A view from the first change on is likely asked for again, another hardly.
        if class.from == self.first {
            self.made.push((class, view.clone()));
        }
        view
    }

    fn make(&self, class: Class) -> Vec<Event> {
        self.changes
            .iter()
            .filter(|(revision, _)| *revision >= class.from)
            .filter_map(|(revision, index)| self.state.event(*revision, *index, class.prev_kv))
            .filter(|event| match event.kind {
                EventKind::Put => class.puts,
                EventKind::Delete => class.deletes,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use synod_store::EventFilter;

    use super::*;
    use crate::mvcc::{Change, StoredKey, Version};

    #[test]
    fn a_view_is_made_once_for_all_that_see_the_same() {
        let mut state = State::new();
        let mut changes = Vec::new();
        for _ in 0..3 {
            let revision = state.head().next();
            let change = Change {
                key: StoredKey::from(b"k".as_slice()),
                version: Version::deletion(revision),
            };
            state.apply(vec![change], |_, _, _| ());
            changes.push((revision, 0));
        }
        let (first, last) = (changes[0].0, changes[2].0);
        let mut views = Views::new(&state, &changes);
        let plain = WatchRequest::new("k");
        let one = views.of(&plain, Revision(1)).unwrap();
        let two = views.of(&plain, first).unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        let no_put = plain.clone().without(EventFilter::NoPut);
        let other = views.of(&no_put, first).unwrap();
        assert!(!Arc::ptr_eq(&one, &other));
        let late = views.of(&plain, last).unwrap();
        assert!(!Arc::ptr_eq(&one, &late));
        assert_eq!((one.len(), late.len()), (3, 1));
        let no_delete = plain.without(EventFilter::NoDelete);
        assert!(views.of(&no_delete, first).is_none());
        assert!(views.of(&no_delete, last.next()).is_none());
    }
}
