//! How far all watches of a stream are: the answer to a client's request for progress.
//!
//! A client concludes from it that it has seen every change up to the revision in it, on each of its
//! watches. So the answer waits until each of them has delivered that much.

use synod_store::Revision;

/// The requests for progress of one stream. Those that come while one is being answered are
/// answered together after it: they want to know of a later revision.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Requests that no round has taken up yet.
    asked: u64,
    round: Option<Round>,
}

/// The wait for all watches to get to one revision.
#[derive(Debug)]
struct Round {
    revision: Revision,
    /// How many watches are not there yet.
    behind: usize,
    /// How many requests it answers.
    requests: u64,
}

/// What is to be answered: so many times, that everything up to the revision has been delivered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) revision: Revision,
    pub(super) requests: u64,
}

impl Progress {
    /// A client asks.
    pub(super) fn ask(&mut self) {
        self.asked = self.asked.saturating_add(1);
    }

    /// Whether a round should begin.
    pub(super) fn is_due(&self) -> bool {
        self.asked > 0 && self.round.is_none()
    }

    /// Whether watches are being waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.round.is_some()
    }

    /// Begins a round for all requests so far: `behind` watches have still to get to `revision`.
    pub(super) fn begin(&mut self, revision: Revision, behind: usize) -> Option<Reached> {
        self.round = Some(Round {
            revision,
            behind,
            requests: std::mem::take(&mut self.asked),
        });
        self.finish()
    }

    /// Whether a watch that was behind and has delivered everything up to `delivered` is so still.
    pub(super) fn is_behind(&self, delivered: Revision) -> bool {
        self.round
            .as_ref()
            .is_some_and(|round| delivered < round.revision)
    }

    /// One watch that was behind has caught up, or has ended.
    pub(super) fn caught_up(&mut self) -> Option<Reached> {
        if let Some(round) = &mut self.round {
            round.behind = round.behind.saturating_sub(1);
        }
        self.finish()
    }

    fn finish(&mut self) -> Option<Reached> {
        let round = self.round.take_if(|round| round.behind == 0)?;
        Some(Reached {
            revision: round.revision,
            requests: round.requests,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_watches_the_answer_is_immediate() {
        let mut progress = Progress::default();
        assert!(!progress.is_due());
        progress.ask();
        assert!(progress.is_due());
        assert_eq!(
            progress.begin(Revision(5), 0),
            Some(Reached {
                revision: Revision(5),
                requests: 1
            })
        );
        assert!(!progress.is_due() && !progress.is_waiting());
    }

    #[test]
    fn requests_that_come_meanwhile_are_answered_by_the_next_round() {
        let mut progress = Progress::default();
        progress.ask();
        assert_eq!(progress.begin(Revision(5), 2), None);
        progress.ask();
        progress.ask();
        assert!(!progress.is_due());
        assert!(progress.is_behind(Revision(4)) && !progress.is_behind(Revision(5)));
        assert_eq!(progress.caught_up(), None);
        let reached = progress.caught_up().unwrap();
        assert_eq!((reached.revision, reached.requests), (Revision(5), 1));
        assert!(progress.is_due());
        let reached = progress.begin(Revision(9), 0).unwrap();
        assert_eq!((reached.revision, reached.requests), (Revision(9), 2));
    }
}
