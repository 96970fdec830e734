//! Where a watch goes on after a break: at the first revision that was not delivered.
//!
//! That is, of what is known, the latest of:
//!
//! - the revision asked for,
//! - the revision after the one at which a watch *from now* was created,
//! - the revision after the last event that was delivered,
//! - the revision after a progress that can be relied on.
//!
//! Never the revision after an answer's header: it can be ahead of the events.

use synod_store::{Event, Revision};

/// How far a watch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tracker {
    /// The revision asked for at first, before which nothing is reported.
    start: Revision,
    /// The first revision that was not delivered; `None` before a watch from now has been created.
    next: Option<Revision>,
}

impl Tracker {
    /// A watch from this revision on; [`Revision::ZERO`] for the one after now.
    pub(crate) fn new(start: Revision) -> Tracker {
        Tracker {
            start,
            next: (!start.is_zero()).then_some(start),
        }
    }

    /// The revision to ask for.
    pub(crate) fn start(self) -> Revision {
        self.next.unwrap_or(Revision::ZERO)
    }

    /// The watch was created when the store was at this revision.
    pub(crate) fn created(&mut self, at: Revision) {
        self.next.get_or_insert(at.next());
    }

    /// Events came. Those that were delivered before are taken out: a member that is behind, or one
    /// whose idea of *now* was an earlier one, may send them.
    pub(crate) fn events(&mut self, events: &mut Vec<Event>) {
        if let Some(next) = self.next {
            events.retain(|event| event.kv.mod_revision >= next);
        }
        if let Some(last) = events.last() {
            self.next = Some(last.kv.mod_revision.next());
        }
    }

    /// A progress came that promises everything up to this revision. Returns whether it says
    /// anything.
    pub(crate) fn progress(&mut self, revision: Revision) -> bool {
        let next = revision.next();
        if revision < self.start {
            return false;
        }
        if self.next.is_some_and(|known| known > next) {
            return false;
        }
        self.next = Some(next);
        true
    }

    /// Whether everything up to this revision has been delivered, as far as is known.
    #[cfg(test)]
    pub(crate) fn is_past(self, revision: Revision) -> bool {
        self.next.is_some_and(|next| next > revision)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::events;
    use super::*;

    fn revisions(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.kv.mod_revision.0).collect()
    }

    #[test]
    fn a_watch_from_now_resumes_after_its_creation() {
        let mut tracker = Tracker::new(Revision::ZERO);
        assert_eq!(tracker.start(), Revision::ZERO);
        tracker.created(Revision(7));
        assert_eq!(tracker.start(), Revision(8));
        // Created again on another member, which is further: nothing is skipped.
        tracker.created(Revision(9));
        assert_eq!(tracker.start(), Revision(8));
    }

    #[test]
    fn a_watch_resumes_after_the_last_event() {
        let mut tracker = Tracker::new(Revision(3));
        tracker.created(Revision(9));
        assert_eq!(tracker.start(), Revision(3));
        let mut batch = events(&[3, 5, 5]);
        tracker.events(&mut batch);
        assert_eq!(revisions(&batch), [3, 5, 5]);
        assert_eq!(tracker.start(), Revision(6));
    }

    #[test]
    fn nothing_is_delivered_twice() {
        let mut tracker = Tracker::new(Revision::ZERO);
        tracker.created(Revision(4));
        let mut batch = events(&[3, 4, 5]);
        tracker.events(&mut batch);
        assert_eq!(revisions(&batch), [5]);
        let mut batch = events(&[4, 5]);
        tracker.events(&mut batch);
        assert_eq!(revisions(&batch), [0; 0]);
        assert_eq!(tracker.start(), Revision(6));
    }

    #[test]
    fn a_progress_moves_on_and_never_back() {
        let mut tracker = Tracker::new(Revision(5));
        // A watch from a revision to come is silent.
        assert!(!tracker.progress(Revision(4)));
        assert_eq!(tracker.start(), Revision(5));
        assert!(tracker.progress(Revision(8)));
        assert_eq!(tracker.start(), Revision(9));
        assert!(tracker.progress(Revision(8)));
        assert!(!tracker.progress(Revision(7)));
        assert!(tracker.is_past(Revision(8)) && !tracker.is_past(Revision(9)));
    }
}
