//! Waiting a moment for the callers who are about to come back.
//!
//! Callers whose writes shared a sync get their answers together, and most of them have the next write at hand. The
//! first to come back finds the journal idle. If it got a sync of its own, all others would wait for that one and share
//! the next: half of the syncs would be for one write each. So the writer waits until as many are there as it has just
//! answered and found waiting, though
//! - only for half of what a sync takes, and never longer than [`LONGEST`];
//! - not at all for a lone caller, who is all that is expected;
//! - ever more rarely while those who were expected do not come, since they may be slow, or gone for good.

use std::time::Duration;

/// The longest wait, however slow the disk is.
const LONGEST: Duration = Duration::from_micros(500);
/// Where a sync takes less than twice this, as on a store that does not sync, a wait gains nothing.
const SHORTEST: Duration = Duration::from_micros(20);
/// The most turns without a wait after one that was in vain.
const MOST_SKIPPED: u32 = 64;

/// What tells whether a wait is worth its time.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// How many commands may come: those just answered, and those that waited then.
    expected: usize,
    /// How long a sync takes, smoothed.
    sync: Duration,
    /// Turns left without a wait.
    skip: u32,
    /// Turns without a wait after the next one that is in vain.
    penalty: u32,
}

impl Gather {
    /// Notes how long it took to make a group durable.
    pub(super) fn synced(&mut self, took: Duration) {
        self.sync = self
            .sync
            .saturating_mul(7)
            .saturating_add(took)
            .checked_div(8)
            .unwrap_or_default();
    }

    /// Notes who may come back: a group of `commands` is answered now, while `waiting` more are queued.
    pub(super) fn answered(&mut self, commands: usize, waiting: usize) {
        self.expected = commands.saturating_add(waiting);
    }

    /// How long to wait for more than the `commands` at hand, if at all. Asked once a turn.
    pub(super) fn patience(&mut self, commands: usize) -> Option<Duration> {
        if commands >= self.expected {
            return None;
        }
        let patience = self.sync.checked_div(2)?.min(LONGEST);
        if patience < SHORTEST {
            return None;
        }
        if self.skip > 0 {
            self.skip = self.skip.saturating_sub(1);
            return None;
        }
        Some(patience)
    }

    /// Whether there is nobody left to wait for.
    pub(super) fn is_complete(&self, commands: usize) -> bool {
        commands >= self.expected
    }

    /// Notes what a wait has brought: the group grew from `before` to `after` commands.
    pub(super) fn waited(&mut self, before: usize, after: usize) {
        let missing = self.expected.saturating_sub(before);
        let came = after.saturating_sub(before);
        if came.saturating_mul(2) >= missing {
            self.penalty = 0;
        } else {
            self.penalty = self.penalty.saturating_mul(2).clamp(1, MOST_SKIPPED);
            self.skip = self.penalty;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_slow_disk() -> Gather {
        let mut gather = Gather::default();
        for _ in 0..100 {
            gather.synced(Duration::from_micros(200));
        }
        gather
    }

    #[test]
    fn a_lone_caller_never_waits() {
        let mut gather = on_a_slow_disk();
        for _ in 0..10 {
            gather.answered(1, 0);
            assert_eq!(gather.patience(1), None);
        }
    }

    #[test]
    fn two_who_take_turns_are_brought_together() {
        let mut gather = on_a_slow_disk();
        gather.answered(1, 1);
        assert!(gather.patience(1).is_some());
        assert!(!gather.is_complete(1) && gather.is_complete(2));
    }

    #[test]
    fn a_wait_is_bounded_by_the_disk_and_by_a_constant() {
        let mut gather = on_a_slow_disk();
        gather.answered(64, 0);
        let patience = gather.patience(3).unwrap();
        assert!(patience <= Duration::from_micros(100) && patience >= Duration::from_micros(90));
        for _ in 0..100 {
            gather.synced(Duration::from_secs(1));
        }
        assert_eq!(gather.patience(3), Some(LONGEST));
        for _ in 0..1000 {
            gather.synced(Duration::ZERO);
        }
        assert_eq!(gather.patience(3), None, "no sync, no wait");
    }

    #[test]
    fn waits_in_vain_become_rare_and_one_that_pays_restores_them() {
        let mut gather = on_a_slow_disk();
        let mut waits = 0;
        for _ in 0..1000 {
            gather.answered(64, 0);
            if gather.patience(1).is_some() {
                gather.waited(1, 2);
                waits += 1;
            }
        }
        assert!((5..30).contains(&waits), "{waits}");
        while gather.patience(1).is_none() {}
        gather.waited(1, 60);
        assert!(gather.patience(1).is_some());
        gather.waited(1, 60);
        assert!(gather.patience(1).is_some());
    }
}
