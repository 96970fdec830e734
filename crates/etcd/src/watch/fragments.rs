//! Answers that come in pieces, made whole: a revision is never delivered in two parts.
//!
//! A server splits what is too large for one message, which may be many revisions at once. Those
//! that are complete are passed on with each piece, so that no more is kept than one revision.

use synod_store::Event;

/// The piece of a revision that is still incomplete.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    kept: Vec<Event>,
}

impl Joiner {
    /// Takes the events of a message, of which `more` are to follow in the next one, and returns
    /// those whose revisions are complete.
    pub(crate) fn join(&mut self, events: Vec<Event>, more: bool) -> Vec<Event> {
        let mut all = std::mem::take(&mut self.kept);
        if all.is_empty() {
            all = events;
        } else {
            all.extend(events);
        }
        if more && let Some(last) = all.last().map(|event| event.kv.mod_revision) {
            let complete = all.partition_point(|event| event.kv.mod_revision < last);
            self.kept = all.split_off(complete);
        }
        all
    }

    /// Forgets what was kept: it will be sent again.
    pub(crate) fn clear(&mut self) {
        self.kept = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::events;
    use super::*;

    fn joined(joiner: &mut Joiner, revisions: &[u64], more: bool) -> Vec<u64> {
        let events = joiner.join(events(revisions), more);
        events.iter().map(|event| event.kv.mod_revision.0).collect()
    }

    #[test]
    fn a_whole_answer_passes() {
        assert_eq!(joined(&mut Joiner::default(), &[1, 2, 2], false), [1, 2, 2]);
    }

    #[test]
    fn a_revision_in_pieces_is_kept_until_it_is_whole() {
        let mut joiner = Joiner::default();
        assert_eq!(joined(&mut joiner, &[1, 2], true), [1]);
        assert_eq!(joined(&mut joiner, &[2, 2], true), [0; 0]);
        assert_eq!(joined(&mut joiner, &[2, 3, 3], true), [2, 2, 2, 2]);
        assert_eq!(joined(&mut joiner, &[], true), [0; 0]);
        assert_eq!(joined(&mut joiner, &[3, 4], false), [3, 3, 3, 4]);
        assert_eq!(joined(&mut joiner, &[5], false), [5]);
    }

    #[test]
    fn what_was_kept_is_forgotten_with_the_stream() {
        let mut joiner = Joiner::default();
        assert_eq!(joined(&mut joiner, &[1, 2], true), [1]);
        joiner.clear();
        assert_eq!(joined(&mut joiner, &[2, 2], false), [2, 2]);
    }
}
