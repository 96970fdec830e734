//! What the writer does beside its commands: keeping time, forgetting history, watching the quota.

use std::collections::VecDeque;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use synod_store::Revision;

use super::group::Group;
use super::head::Head;
use super::{Physical, Writer};
use crate::options::Retention;
use crate::shared::Shared;

/// Changes pruned while the state's lock is held once.
const PRUNE_PAGE: usize = 512;
/// While there are leases, the writer looks at the clock at least so often: a longer pause was a stall.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Automatic compaction waits until this part of its bound is exceeded, so that it is rare.
const SLACK: u64 = 16;
/// The files are measured again when the log has grown by so many bytes.
const MEASURE: u64 = 1 << 20;
/// How many moments of a retention period are remembered.
const MOMENTS: u32 = 16;

/// The writer's sense of time, and what it remembers for automatic compaction.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// When leases were looked at last.
    checked: Option<Duration>,
    /// How long it slept since then, on purpose.
    waited: Duration,
    /// What was current when, oldest first; for a retention by time.
    moments: VecDeque<(Duration, Revision)>,
    /// When a watch should hear of its progress.
    progress_due: Option<Duration>,
    pruning: bool,
    /// Whether more would be pruned if nobody had it kept.
    kept: bool,
    /// How much there was when the quota was last found used up.
    pub(super) full_at: u64,
}

impl Upkeep {
    pub(super) fn new(shared: &Shared) -> Upkeep {
        let now = shared.clock.now();
        Upkeep {
            checked: None,
            waited: Duration::ZERO,
            moments: VecDeque::from([(now, shared.published())]),
            progress_due: None,
            pruning: shared.state().compaction().is_some(),
            kept: false,
            full_at: u64::MAX,
        }
    }

    pub(super) fn waited(&mut self, on_purpose: Duration) {
        self.waited = self.waited.saturating_add(on_purpose);
    }

    /// How much longer it was since the last look than the writer meant to wait.
    pub(super) fn stall(&mut self, now: Duration, running: bool) -> Option<Duration> {
        let since = self
            .checked
            .replace(now)
            .map(|last| now.saturating_sub(last));
        let waited = std::mem::take(&mut self.waited);
        // On a clock that is moved by hand a pause says nothing about the writer.
        since
            .filter(|_| running)
            .map(|since| since.saturating_sub(waited))
            .filter(|stall| !stall.is_zero())
    }
}

impl Writer {
    /// How long the writer may sleep; `None` for as long as it likes.
    pub(super) fn wait(&mut self) -> Option<Duration> {
        if self.shared.why_stopped().is_some() {
            return None;
        }
        if self.upkeep.pruning {
            return Some(Duration::ZERO);
        }
        let now = self.shared.clock.now();
        let deadline = self.shared.leases().next_deadline();
        if !self.shared.clock.is_running() {
            // Whoever moves the clock wakes the writer; but there may be more to end than one group takes.
            return deadline.filter(|at| *at <= now).map(|_| Duration::ZERO);
        }
        let lease = deadline.map(|deadline| deadline.saturating_sub(now).min(HEARTBEAT));
        let progress = self.shared.options.progress_interval;
        let progress = (self.shared.hub.len() > 0).then(|| {
            self.upkeep
                .progress_due
                .map_or(progress, |due| due.saturating_sub(now))
        });
        let moment = match self.shared.options.retention {
            Retention::Period(period) => Some(period / MOMENTS),
            _ => None,
        };
        // Nobody may be left to ask: who sees a full disk sends no changes.
        let space = self.until_look();
        // A moment more than zero: a clock that is read a moment too early would make it spin.
        let least = Duration::from_millis(1);
        [lease, progress, moment, space]
            .into_iter()
            .flatten()
            .min()
            .map(|wait| wait.max(least))
    }

    /// After a turn: the quota, progress of quiet watches, old history.
    pub(super) fn maintain(&mut self) {
        if self.shared.why_stopped().is_some() {
            self.upkeep.pruning = false;
            self.disappoint();
            return;
        }
        let now = self.shared.clock.now();
        if self.shared.hub.len() > 0 && self.upkeep.progress_due.is_none_or(|due| due <= now) {
            let interval = self.shared.options.progress_interval;
            self.upkeep.progress_due = self.shared.hub.tick(now, interval);
        }
        self.compact_old(now);
        self.prune();
        self.look_after_snapshot();
        if self.journal.log_bytes().abs_diff(self.measured) > MEASURE {
            self.measure_disk();
        }
        let total = self.used_bytes(&self.shared.state());
        let quota = self.shared.options.quota_bytes;
        if total < quota.saturating_sub(quota / 16).min(self.upkeep.full_at) {
            self.shared.over_quota.store(false, Ordering::Relaxed);
        }
    }

    /// Answers those who wait for what a stopped writer does not do any more.
    fn disappoint(&mut self) {
        // What they asked for beside it, a compaction, is durable; but that is not what they wait for.
        let error = || {
            let kind = synod_store::ErrorKind::Poisoned;
            let error = self.shared.why_stopped();
            error.unwrap_or_else(|| synod_store::Error::from_kind(kind))
        };
        for reply in std::mem::take(&mut self.defragment) {
            let _ = reply.send(Err(error()));
        }
        for Physical { reply, .. } in std::mem::take(&mut self.physical) {
            let _ = reply.send(Err(error().with_applied(synod_store::Applied::Maybe)));
        }
    }

    /// Forgets one page of what was compacted.
    fn prune(&mut self) {
        self.exports.retain(|floor| floor.strong_count() > 0);
        let exports = self.exports.iter().filter_map(Weak::upgrade);
        let exports = exports.map(|floor| *floor);
        let snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.floor);
        let floor = exports.chain(snapshot).min();
        let floor = {
            let mut state = self.shared.state_mut();
            let floor = floor.into_iter().chain(self.shared.oldest_held()).min();
            let floor = floor.unwrap_or(Revision(u64::MAX));
            self.upkeep.pruning = state.prune(floor, PRUNE_PAGE);
            self.upkeep.kept = floor < state.compacted();
            floor
        };
        if !self.upkeep.pruning {
            // What was compacted later, and is kept for somebody, is none of theirs.
            let done = self
                .physical
                .extract_if(.., |waiting| waiting.revision <= floor);
            for Physical { reply, answer, .. } in done {
                let _ = reply.send(Ok(answer));
            }
        }
    }

    /// Compacts what the retention does not cover.
    fn compact_old(&mut self, now: Duration) {
        let Some(target) = self.retention_target(now) else {
            return;
        };
        let base = self.shared.published();
        let mut group = Group::default();
        let shared = std::sync::Arc::clone(&self.shared);
        let compacted = self.compact(&mut Head::new(&shared), &mut group, target);
        if compacted.is_ok() && self.make_durable(&mut group, base).is_ok() {
            self.publish(&mut group);
        }
    }

    /// Up to where history should be compacted now, if anywhere.
    fn retention_target(&mut self, now: Duration) -> Option<Revision> {
        let retention = self.shared.options.retention;
        let most_bytes = self.shared.options.superseded_bytes()?;
        let (compacted, head, revisions, superseded) = {
            let state = self.shared.state();
            (
                state.compacted(),
                state.head(),
                state.revisions(),
                state.superseded_bytes(),
            )
        };
        let by_age = match retention {
            Retention::Revisions(most) => {
                let due = revisions > most.saturating_add(most / SLACK);
                due.then(|| Revision(head.0.saturating_sub(most)))
            }
            Retention::Period(period) => self.outlived(now, period, head),
            Retention::Unbounded => None,
        };
        // Superseded bytes spread about evenly over the revisions: forget the share that is too much. While some of what
        // was compacted already is kept, they would stay too many, and all would be compacted bit by bit.
        let by_bytes = (superseded > most_bytes.saturating_add(most_bytes / SLACK)
            && !self.upkeep.pruning
            && !self.upkeep.kept
            && self.snapshot.is_none())
        .then(|| {
            let excess = u128::from(superseded.saturating_sub(most_bytes));
            let share = u128::from(revisions)
                .saturating_mul(excess)
                .div_ceil(u128::from(superseded.max(1)));
            let share = u64::try_from(share).unwrap_or(u64::MAX).max(1);
            Revision(compacted.0.saturating_add(share).min(head.0))
        });
        by_age.max(by_bytes).filter(|target| *target > compacted)
    }

    /// The last revision that was no longer current when the period began.
    fn outlived(&mut self, now: Duration, period: Duration, head: Revision) -> Option<Revision> {
        let moments = &mut self.upkeep.moments;
        let step = period / MOMENTS;
        if moments
            .back()
            .is_none_or(|(last, _)| now.saturating_sub(*last) >= step)
        {
            moments.push_back((now, head));
        }
        let mut target = None;
        while let Some((at, revision)) = moments.front().copied() {
            if now.saturating_sub(at) < period {
                break;
            }
            target = Some(revision);
            moments.pop_front();
        }
        target
    }
}
