//! How the consumer's task finds out what is in its queue: looks, the watch of an empty queue, and
//! holding back where others race for the same items.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use synod_store::{Event, EventKind, Key, KeyRange, RangeRequest, Replies, Revision, WatchRequest};
use tokio::time::Instant;

use super::consumer::Core;
use super::desk::Demand;
use super::intake::{AHEAD, Intake, LINGER};
use super::look::{Candidate, Look, WINDOW, in_order, look_until};
use super::order::Order;
use super::run::FEW;
use crate::watch::{Lookout, Nudge};
use crate::{Result, retry};

/// Looks read values along while none of the last was larger.
const SMALL: usize = 4096;

/// So do looks of a consumer among many, which takes little of what it sees, where answers get lost.
const SMALL_AMONG: usize = 256;

/// So many values are read of what a client sees first, when it does not know yet how large they are.
const SAMPLE: u64 = 8;

/// With this many candidates nobody holds back: each consumer finds one for itself.
const PLENTY: usize = 8;

/// The pause after a watch that fell.
const PAUSE: Duration = Duration::from_millis(50);

/// How much further than the last window a look goes before it asks for more: at first, and then.
const FURTHER: [u64; 2] = [2, 16];

/// How long after a lost claim its cause may take to come through the watch.
const NEWS: Duration = Duration::from_millis(100);

/// A look from the very start is due after this many times what the last one took, so that they
/// cost at most a twentieth of the time, but no later than the second number says.
const FULL_LOOK: (u32, Duration) = (20, Duration::from_secs(5));

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
        self.look_anew(intake, demand).await
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
        let with_values = self.wants_values(intake, demand);
        let begun = Instant::now();
        let (cursor, since) = &intake.cursor;
        let whole = from == self.order.start();
        let proof = whole.then(|| self.order.proof(cursor, *since)).flatten();
        let from = if proof.is_some() { cursor } else { from };
        let proof = proof.unwrap_or_default();
        let order = &self.order;
        self.stats.look();
        let mut look = look_until(
            &*self.store,
            order,
            from,
            &intake.ends,
            &proof,
            with_values,
            self.patience,
        )
        .await
        .inspect_err(|_| {
            if with_values {
                // It may have been too much for the time: measured anew, next time.
                intake.largest = None;
            }
        })?;
        if whole {
            let pause = (begun.elapsed() * FULL_LOOK.0).min(FULL_LOOK.1);
            intake.full_look_due = Instant::now() + pause;
        }
        if intake.largest.is_none() && self.is_lossy() && demand.wanted <= FEW {
            self.sample(&mut look).await?;
        }
        Ok(look)
    }

    pub(super) fn is_lossy(&self) -> bool {
        self.store.replies() == Replies::Lossy
    }

    /// Whether values are to be known before they are taken.
    ///
    /// Of what a consumer among many sees it takes little: then the claim brings the value, unless its answer could get
    /// lost. The value that a lost answer carried is in the history, and whoever compacts all of that
    /// before the consumer is back (`etcdctl compact` and `defrag` in one go) takes the value with it.
    fn wants_values(&self, intake: &Intake, demand: &Demand) -> bool {
        let (among, few) = match self.store.replies() {
            Replies::Lossy => (SMALL_AMONG, FEW),
            Replies::Certain => (0, 1),
        };
        let most = match intake.aim.meets_others() {
            true => among,
            false => SMALL,
        };
        let is_small = intake
            .size()
            .is_some_and(|largest| largest <= most && most > 0);
        is_small && (O::EXACT || demand.wanted <= few)
    }

    /// Adds the first few values to a look that saw keys alone.
    async fn sample(&self, look: &mut Look) -> Result<()> {
        let (Some(first), Some(last)) = (&look.first, &look.last) else {
            return Ok(());
        };
        let range = KeyRange::Between(first.clone(), last.successor());
        let request = RangeRequest::new(range).with_limit(SAMPLE);
        let page = retry::read(self.patience, || self.store.range(request.clone())).await?;
        for kv in page.kvs {
            let mut items = look.items.iter_mut();
            let known =
                items.find(|item| (&item.key, item.mod_revision) == (&kv.key, kv.mod_revision));
            if let Some(item) = known {
                item.value = Some(kv.value);
            }
        }
        Ok(())
    }

    /// Whether a claim that may take any of the first `reach` would take a value that is not known and
    /// should be: it was seen when sizes were not known yet, and is so small that it can be read along.
    pub(super) fn lacks_values(&self, intake: &Intake, demand: &Demand, reach: usize) -> bool {
        // Who has just met others is about to look at keys alone again, if values are larger.
        let stays = intake.is_alone() || intake.size() <= Some(SMALL_AMONG);
        let mut within = intake.window.iter().take(reach);
        self.is_lossy()
            && demand.wanted <= FEW
            && stays
            && self.wants_values(intake, demand)
            && within.any(|item: &Candidate| item.value.is_none())
    }

    /// Looks once more, from the start.
    pub(super) async fn look_anew(&self, intake: &mut Intake, demand: &Demand) -> Result<()> {
        intake.window.clear();
        intake.next_cursor = None;
        let look = self.look(intake, self.order.start(), demand).await?;
        self.conclude(intake, look, demand);
        Ok(())
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
