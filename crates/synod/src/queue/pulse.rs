//! [`Pulse`]: which revision the store had reached a while ago. Pure, but for the clock.

use std::collections::VecDeque;
use std::time::Duration;

use synod_store::Revision;
use tokio::time::Instant;

/// How far apart moments that are kept lie.
const STEP: Duration = Duration::from_millis(100);

/// How many are kept: they reach back further than anybody asks.
const KEPT: usize = 32;

/// Moments, and the revisions that the store had reached by then: what has no higher one was there.
#[derive(Debug, Default)]
pub(super) struct Pulse(VecDeque<(Instant, Revision)>);

impl Pulse {
    /// The store has just answered from this revision.
    pub(super) fn note(&mut self, revision: Revision) {
        self.note_at(Instant::now(), revision);
    }

    fn note_at(&mut self, now: Instant, revision: Revision) {
        let due = self
            .0
            .back()
            .is_none_or(|(last, _)| now.saturating_duration_since(*last) >= STEP);
        if due {
            self.0.push_back((now, revision));
        }
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// A revision that the store had reached so long ago; zero when that is not known.
    pub(super) fn before(&self, ago: Duration) -> Revision {
        self.before_at(Instant::now(), ago)
    }

    fn before_at(&self, now: Instant, ago: Duration) -> Revision {
        let old = self
            .0
            .iter()
            .rev()
            .find(|(at, _)| now.saturating_duration_since(*at) >= ago);
        old.map_or(Revision::ZERO, |(_, revision)| *revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_as_old_as_it_is_said_to_be() {
        let mut pulse = Pulse::default();
        let begin = Instant::now();
        let ms = Duration::from_millis;
        for turn in 0..1000 {
            pulse.note_at(begin + ms(turn * 10), Revision(turn));
        }
        let now = begin + ms(10_000);
        assert_eq!(pulse.before_at(now, ms(2000)), Revision(800));
        assert_eq!(pulse.before_at(now, ms(2050)), Revision(790));
        assert_eq!(pulse.before_at(now, ms(60_000)), Revision::ZERO);
        assert!(pulse.0.len() <= KEPT);
        assert_eq!(Pulse::default().before(ms(0)), Revision::ZERO);
    }
}
