//! What the consumer of a queue knows of it, and how it finds out: looks, the watch of an empty
//! queue, and holding back where others race for the same items.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use synod_store::{Event, EventKind, Key, Revision, WatchRequest};
use tokio::time::Instant;

use super::aim::Aim;
use super::consumer::{CHAIN, Core};
use super::desk::Demand;
use super::keys::LAG;
use super::look::{Candidate, Look, WINDOW, in_order, look_until};
use super::order::Order;
use super::pulse::Pulse;
use crate::settle::MAX_OPS;
use crate::watch::{Lookout, Nudge};
use crate::{Result, retry};

/// Looks read values along while none of the last was larger.
const SMALL: usize = 4096;

/// How long the watch of an empty queue stays open without a caller.
const LINGER: Duration = Duration::from_millis(200);

/// With this many candidates nobody holds back: each consumer finds one for itself.
const PLENTY: usize = 8;

/// With so few candidates left an exact order keeps its watch: each thing that comes may be the first.
const NEARBY: usize = 32;

/// A consumer that is alone keeps its watch while no more than so many items, of so many bytes, are known
/// and not yet taken: each comes to it once, by itself, and a look would read no fewer. Further behind, it
/// would only hold in memory what the store holds too.
const AHEAD: (usize, usize) = (2048, 4 << 20);

/// After so many looks in a row, each soon after the one before, that saw the whole of a queue, a
/// consumer that is alone opens a watch instead of looking again and again.
const SHORT_LOOKS: u32 = 4;

/// How many of its claims a consumer remembers, until the watch has told of them.
const CLAIMS: usize = 32;

/// How long nobody else must have been met for a consumer to take itself to be alone.
const ALONE: Duration = Duration::from_secs(1);

/// The pause after a watch that fell.
const PAUSE: Duration = Duration::from_millis(50);

/// How much further than the last window a look goes before it asks for more: at first, and then.
const FURTHER: [u64; 2] = [2, 16];

/// How long after a lost claim its cause may take to come through the watch.
const NEWS: Duration = Duration::from_millis(100);

/// A look from the very start is due after this many times what the last one took, so that they
/// cost at most a twentieth of the time, but no later than the second number says.
const FULL_LOOK: (u32, Duration) = (20, Duration::from_secs(5));

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
    highest: Option<Key>,
    /// How many looks in a row saw the whole queue, and when the last did.
    short_looks: (u32, Instant),
    /// When somebody else was last seen to take something.
    others: Option<Instant>,
    /// The revisions of the last claims: the watch tells of them too.
    mine: VecDeque<Revision>,
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
    fn looks_often(&mut self) -> bool {
        let (count, last) = self.short_looks;
        let count = if last.elapsed() > LINGER { 0 } else { count };
        self.short_looks = (count.saturating_add(1), Instant::now());
        count >= SHORT_LOOKS
    }

    /// Where the next look may begin when all of this one is taken, if `hint` is far enough behind its
    /// last item.
    fn cursor_behind(&self, hint: Key, look: &Look) -> Key {
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

impl<O: Order> Core<O> {
    /// Keeps the watch of an empty queue a moment longer. False when there is nothing to wait for.
    pub(super) async fn linger(&self, intake: &mut Intake) -> bool {
        if intake.lookout.is_none() {
            return false;
        }
        tokio::select! {
            () = self.wake.notified() => true,
            () = self.settle.closing() => {
                intake.close_watch(&self.order);
                false
            }
            () = tokio::time::sleep(LINGER) => {
                intake.close_watch(&self.order);
                false
            }
        }
    }

    /// Finds out what is in the queue, or waits until there is something.
    pub(super) async fn fill(&self, intake: &mut Intake, demand: &Demand) -> Result<()> {
        if let Some(cursor) = intake.next_cursor.take() {
            intake.cursor = cursor;
        }
        let start = self.order.start();
        if let Some((lookout, seen)) = &mut intake.lookout {
            if !demand.tries {
                let nudge = tokio::select! {
                    nudge = lookout.next(*seen) => nudge,
                    () = self.wake.notified() => return Ok(()),
                };
                let nudge = match nudge {
                    Err(error) if error.is_transient() => {
                        // The look that follows bears the trouble, or tells of it.
                        tracing::debug!(%error, "the watch of a queue fell");
                        intake.lookout = None;
                        tokio::time::sleep(PAUSE).await;
                        return Ok(());
                    }
                    nudge => nudge?,
                };
                if let Nudge::Events(events) = nudge {
                    self.accept_events(intake, events);
                    return Ok(());
                }
            }
            // The watch stands: what this read misses will come as an event.
            let look = self.look(intake, start, demand).await?;
            self.conclude(intake, look, demand);
            return Ok(());
        }
        let full = O::EXACT || Instant::now() >= intake.full_look_due || intake.cursor.0 == *start;
        let from = if full {
            start.clone()
        } else {
            intake.cursor.0.clone()
        };
        let mut look = self.look(intake, &from, demand).await?;
        if look.items.is_empty() && !full {
            // The cursor is a hint: only the whole queue can be empty.
            look = self.look(intake, start, demand).await?;
        }
        let empty = look.items.is_empty();
        let short = !O::EXACT && look.items.len() < WINDOW && intake.is_alone();
        self.conclude(intake, look, demand);
        let often = short && !demand.tries && intake.looks_often();
        if (empty || often) && demand.waits {
            // The watch first, then the read that it completes.
            let lookout = self.open().await?;
            let look = self.look(intake, start, demand).await?;
            intake.lookout = Some((lookout, look.revision));
            self.conclude(intake, look, demand);
        }
        Ok(())
    }

    /// Takes in what the watch has to tell by now, so that nothing gathers there.
    pub(super) fn absorb(&self, intake: &mut Intake) {
        while let Some((lookout, seen)) = &mut intake.lookout {
            match lookout.next(*seen).now_or_never() {
                Some(Ok(Nudge::Events(events))) => self.accept_events(intake, events),
                // The watch fell: what is known is as old as the last event.
                Some(_) => intake.close_watch(&self.order),
                None => break,
            }
            if !intake.keeps_watch::<O>() && intake.window.len() > AHEAD.0 {
                intake.close_watch(&self.order);
            }
        }
    }

    /// A claim was lost because something of the window is gone, or something has come before it:
    /// finds out which.
    pub(super) async fn catch_up(&self, intake: &mut Intake, demand: &Demand) -> Result<()> {
        intake.doubted = false;
        if let Some((lookout, seen)) = &mut intake.lookout {
            // Whatever it was, the watch tells of it.
            match tokio::time::timeout(NEWS, lookout.next(*seen)).await {
                Ok(Ok(Nudge::Events(events))) => {
                    self.accept_events(intake, events);
                    return Ok(());
                }
                Ok(Err(_)) => intake.lookout = None,
                Ok(Ok(Nudge::Read)) | Err(_) => {}
            }
        }
        intake.window.clear();
        intake.next_cursor = None;
        let look = self.look(intake, self.order.start(), demand).await?;
        self.conclude(intake, look, demand);
        Ok(())
    }

    async fn open(&self) -> Result<Lookout> {
        let request = WatchRequest::new(self.order.range());
        retry::insist(self.patience, || {
            Lookout::open(Arc::clone(&self.store), request.clone())
        })
        .await
    }

    async fn look(&self, intake: &mut Intake, from: &Key, demand: &Demand) -> Result<Look> {
        intake.largest = intake.taken.take().or(intake.largest);
        // Of what a consumer among many sees it takes little: then the claim brings the value, as one
        // of several items does anyhow.
        let with_values = intake.largest.is_some_and(|largest| largest <= SMALL)
            && !intake.aim.meets_others()
            && (O::EXACT || demand.wanted <= 1);
        let begun = Instant::now();
        let (cursor, since) = &intake.cursor;
        let whole = from == self.order.start();
        let proof = whole.then(|| self.order.proof(cursor, *since)).flatten();
        let from = if proof.is_some() { cursor } else { from };
        let proof = proof.unwrap_or_default();
        let order = &self.order;
        self.stats.look();
        let look = look_until(
            &*self.store,
            order,
            from,
            &intake.ends,
            &proof,
            with_values,
            self.patience,
        )
        .await?;
        if whole {
            let pause = (begun.elapsed() * FULL_LOOK.0).min(FULL_LOOK.1);
            intake.full_look_due = Instant::now() + pause;
        }
        Ok(look)
    }

    /// Takes in what a look saw.
    fn conclude(&self, intake: &mut Intake, look: Look, demand: &Demand) {
        intake.seen = look.revision;
        intake.pulse.note(look.revision);
        intake.strangers = look.strangers;
        intake.ends.clear();
        if let Some((_, seen)) = &mut intake.lookout {
            *seen = (*seen).max(look.revision);
        }
        if look.items.is_empty() {
            self.desk.lock().answer_tries(demand.before);
            return;
        }
        if look.items.len() >= WINDOW {
            // There may be more that is older than the revision from which events count.
            intake.lookout = None;
            if let (Some(first), Some(last)) = (&look.first, &look.last) {
                let ends = FURTHER.map(|times| self.order.beyond(first, last, times));
                intake.ends.extend(ends.into_iter().flatten());
            }
        }
        intake.next_cursor = look
            .last
            .as_ref()
            .and_then(|last| self.order.behind(last))
            .map(|cursor| (intake.cursor_behind(cursor, &look), Revision::ZERO));
        let sizes = look
            .items
            .iter()
            .filter_map(|item| item.value.as_ref().map(|v| v.len()));
        intake.largest = sizes.max().or(intake.largest);
        for item in &look.items {
            self.order.saw(&item.key);
        }
        intake.more = look.items.len() >= WINDOW;
        intake.aim.looked();
        intake.window = look.items;
    }

    /// Takes in what came through the watch.
    fn accept_events(&self, intake: &mut Intake, events: Vec<Event>) {
        // Gone, or put anew: what was seen before is no candidate any more. What this consumer has taken
        // itself it does not know any more, nor what was never there before.
        let is_known = |event: &&Event| match event.kind {
            EventKind::Delete => !intake.mine.contains(&event.kv.mod_revision),
            EventKind::Put => event.kv.version > 1,
        };
        let changed = events.iter().filter(is_known);
        let changed: HashSet<&Key> = changed.map(|event| &event.kv.key).collect();
        let known = intake.window.len();
        if !changed.is_empty() {
            intake.window.retain(|item| !changed.contains(&item.key));
        }
        if intake.window.len() < known {
            intake.met();
        }
        let mut told = HashSet::new();
        let several = events.len() > 1;
        // Of several events of a key the last tells how it is.
        for event in events.into_iter().rev() {
            let revision = event.kv.mod_revision;
            if let Some((_, seen)) = &mut intake.lookout {
                *seen = (*seen).max(revision);
            }
            intake.seen = intake.seen.max(revision);
            let is_last = !several || told.insert(event.kv.key.clone());
            if !is_last || event.kind == EventKind::Delete {
                continue;
            }
            if !self.order.is_item(&event.kv.key) {
                intake.strangers = true;
                continue;
            }
            self.order.saw(&event.kv.key);
            if !O::EXACT && event.kv.key < intake.cursor.0 {
                intake.cursor.0 = event.kv.key.clone();
            }
            if intake.highest.as_ref() < Some(&event.kv.key) {
                intake.highest = Some(event.kv.key.clone());
            }
            intake.largest = intake.largest.max(Some(event.kv.value.len()));
            intake.window.push_back(Candidate::new(event.kv, true));
            intake.fresh = true;
        }
        in_order(&self.order, intake.window.make_contiguous());
    }

    /// Leaves what came just now to others for a random while: every consumer has seen it, and but
    /// one would lose its claim. What they take meanwhile is seen through the watch.
    pub(super) async fn hold_back(&self, intake: &mut Intake) -> Result<()> {
        intake.fresh = false;
        let until = Instant::now() + intake.spread.mul_f64(rand::random::<f64>());
        while !intake.window.is_empty() && intake.window.len() < PLENTY {
            let Some((lookout, seen)) = &mut intake.lookout else {
                break;
            };
            match tokio::time::timeout_at(until, lookout.next(*seen)).await {
                Ok(Ok(Nudge::Events(events))) => self.accept_events(intake, events),
                Err(_) => break,
                // The watch fell: what it missed is looked for when the window is used up.
                Ok(_) => {
                    intake.close_watch(&self.order);
                    break;
                }
            }
        }
        intake.fresh = false;
        Ok(())
    }
}
