//! What the consumer of a queue knows of it; how it finds out stands in `finding.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use synod_store::{Key, Revision};
use tokio::time::Instant;

use super::aim::Aim;
use super::claiming::CHAIN;
use super::keys::LAG;
use super::look::{Candidate, Look};
use super::order::Order;
use super::pulse::Pulse;
use crate::settle::MAX_OPS;
use crate::watch::Lookout;

/// How long the watch of an empty queue stays open without a caller.
pub(super) const LINGER: Duration = Duration::from_millis(200);

/// With so few candidates left an exact order keeps its watch: each thing that comes may be the first.
const NEARBY: usize = 32;

/// A consumer that is alone keeps its watch while no more than so many items, of so many bytes, are known
/// and not yet taken: each comes to it once, by itself, and a look would read no fewer. Further behind, it
/// would only hold in memory what the store holds too.
pub(super) const AHEAD: (usize, usize) = (2048, 4 << 20);

/// After so many looks in a row, each soon after the one before, that saw the whole of a queue, a
/// consumer that is alone opens a watch instead of looking again and again.
const SHORT_LOOKS: u32 = 4;

/// How many of its claims a consumer remembers, until the watch has told of them.
const CLAIMS: usize = 32;

/// How long nobody else must have been met for a consumer to take itself to be alone.
const ALONE: Duration = Duration::from_secs(1);

/// What the task knows of the queue; it outlives the task.
#[derive(Debug)]
pub(super) struct Intake {
    /// Items that were there when they were seen, in the order in which they come out.
    pub(super) window: VecDeque<Candidate>,
    /// The revision up to which everything is known that comes out before the window's last.
    pub(super) seen: Revision,
    /// Whether a claim was lost in a way that leaves open what of the window is left.
    pub(super) doubted: bool,
    /// Below this all items were gone: at this revision if the order is exact, else as a hint.
    pub(super) cursor: (Key, Revision),
    /// Where the cursor moves once the window is used up.
    pub(super) next_cursor: Option<(Key, Revision)>,
    pub(super) full_look_due: Instant,
    /// The largest value among those seen last; `None` while nothing is known.
    pub(super) largest: Option<usize>,
    /// The largest value taken since the last look.
    pub(super) taken: Option<usize>,
    /// How far others get between two claims.
    pub(super) aim: Aim,
    /// Which revisions the store had reached when.
    pub(super) pulse: Pulse,
    /// Where looks may end, so that the store need not count a long queue.
    pub(super) ends: Vec<Key>,
    /// Whether there may be more behind the window.
    pub(super) more: bool,
    /// How many candidates are tried one after the other.
    pub(super) chain: usize,
    /// The most operations that the store takes in a Txn.
    pub(super) max_ops: usize,
    /// How long to hold back at most before a claim of what came just now, as others saw it too.
    pub(super) spread: Duration,
    /// Whether the window came through the watch just now.
    pub(super) fresh: bool,
    /// The watch of a queue that was empty, or nearly, and the revision up to which the window knows
    /// everything.
    pub(super) lookout: Option<(Lookout, Revision)>,
    /// The highest key that the watch has brought.
    pub(super) highest: Option<Key>,
    /// How many looks in a row saw the whole queue, and when the last did.
    short_looks: (u32, Instant),
    /// When somebody else was last seen to take something.
    others: Option<Instant>,
    /// The revisions of the last claims: the watch tells of them too.
    pub(super) mine: VecDeque<Revision>,
    /// Whether keys that are no items may lie among those of the window.
    pub(super) strangers: bool,
    /// How many of the next claims are made key by key.
    pub(super) apart: u32,
}

/// Below this a pause is not worth its timer.
const SHORTEST: Duration = Duration::from_micros(500);

impl Intake {
    pub(super) fn new(start: Key) -> Intake {
        Intake {
            window: VecDeque::new(),
            seen: Revision::ZERO,
            doubted: false,
            cursor: (start, Revision::ZERO),
            next_cursor: None,
            full_look_due: Instant::now(),
            largest: None,
            taken: None,
            aim: Aim::default(),
            pulse: Pulse::default(),
            ends: Vec::new(),
            more: false,
            chain: CHAIN.0,
            max_ops: MAX_OPS,
            spread: Duration::ZERO,
            fresh: false,
            lookout: None,
            highest: None,
            short_looks: (0, Instant::now()),
            others: None,
            mine: VecDeque::new(),
            strangers: false,
            apart: 0,
        }
    }

    /// A claim has taken something at this revision.
    pub(super) fn claimed(&mut self, revision: Revision) {
        self.pulse.note(revision);
        if self.mine.len() >= CLAIMS {
            self.mine.pop_front();
        }
        self.mine.push_back(revision);
    }

    /// Somebody else takes from this queue too.
    pub(super) fn met(&mut self) {
        self.others = Some(Instant::now());
    }

    /// The largest value that is known of, if any is.
    pub(super) fn size(&self) -> Option<usize> {
        self.taken.max(self.largest)
    }

    /// Whether nobody else seems to take from this queue.
    pub(super) fn is_alone(&self) -> bool {
        !self.aim.meets_others() && self.others.is_none_or(|met| met.elapsed() >= ALONE)
    }

    /// Whether the watch is worth keeping while so much is known that was not taken yet.
    pub(super) fn keeps_watch<O: Order>(&self) -> bool {
        let known = self.window.len();
        if O::EXACT {
            return known <= NEARBY;
        }
        let bytes = known.saturating_mul(self.largest.unwrap_or(0));
        known == 0 || (self.is_alone() && known <= AHEAD.0 && bytes <= AHEAD.1)
    }

    /// Lets the watch go: what comes from now on is for a look to find.
    pub(super) fn close_watch<O: Order>(&mut self, order: &O) {
        let Some(_) = self.lookout.take() else { return };
        self.more = true;
        // Looks had nothing to do meanwhile: the next need not begin where the last one did.
        if let Some(highest) = self.highest.take()
            && let Some(cursor) = order.behind(&highest)
        {
            let cursor = cursor.max(self.cursor.0.clone());
            self.next_cursor = Some((cursor, Revision::ZERO));
        }
    }

    /// Takes note of a look that saw the whole queue; whether a watch would save the next ones.
    pub(super) fn looks_often(&mut self) -> bool {
        let (count, last) = self.short_looks;
        let count = if last.elapsed() > LINGER { 0 } else { count };
        self.short_looks = (count.saturating_add(1), Instant::now());
        count >= SHORT_LOOKS
    }

    /// Where the next look may begin when all of this one is taken, if `hint` is far enough behind its
    /// last item.
    pub(super) fn cursor_behind(&self, hint: Key, look: &Look) -> Key {
        // What was there so long ago nobody puts anything before any more.
        let settled = self.pulse.before(LAG);
        let old = look
            .items
            .iter()
            .filter(|item| item.mod_revision <= settled);
        match old.map(|item| &item.key).max() {
            Some(last) if *last >= hint => last.successor(),
            _ => hint,
        }
    }

    /// Leaves what is left of the window to the next look.
    pub(super) fn look_again(&mut self) {
        let lowest = self.window.iter().map(|item| &item.key).min();
        if let (Some((cursor, _)), Some(lowest)) = (&mut self.next_cursor, lowest)
            && lowest < cursor
        {
            *cursor = lowest.clone();
        }
        self.window.clear();
        // It tells of what comes, not of what was there.
        self.lookout = None;
    }

    /// Whether to leave the window to others for a while.
    pub(super) fn holds_back(&self) -> bool {
        self.fresh && self.spread >= SHORTEST && self.lookout.is_some()
    }
}
