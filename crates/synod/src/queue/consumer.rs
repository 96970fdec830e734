//! The consumer of one queue in one client: a task that looks, waits, and claims for all its local
//! callers together.
//!
//! One claim is on its way at a time; it takes as many items as callers wait. The task runs while
//! somebody waits (or an item has to go back), and a moment longer.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    Compare, ErrorKind, Event, EventKind, Key, PutRequest, RangeRequest, Revision, Store,
    WatchRequest,
};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::claim::{Plan, before, fill_in};
use super::desk::{Demand, Desk, Item, Ticket};
use super::keys::{Keys, Stamps};
use super::look::{Candidate, Look, in_order, look};
use crate::clock::Clock;
use crate::settle::{MAX_OPS, Outcome, Settle, Work};
use crate::slot::Slot;
use crate::watch::{Lookout, Nudge};
use crate::{Error, Result, retry};

/// The most items that one claim takes.
const BATCH: usize = 100;

/// The most bytes that one claim asks for, by what is known of the values' sizes.
const CLAIM_BYTES: usize = 8 << 20;

/// How many items a claim takes while their size is not known.
const UNKNOWN_BATCH: usize = 8;

/// Looks read values along while none of the last was larger.
const SMALL: usize = 4096;

/// How many candidates a claim of one item tries: at first, and at most. Each is a Txn inside the
/// one before, which are two messages, and protobuf decoders stop at 100.
const CHAIN: (usize, usize) = (8, 32);

/// How long the watch of an empty queue stays open without a caller.
const LINGER: Duration = Duration::from_millis(200);

/// How much longer, or shorter, a consumer holds back after a claim that it lost, or won: with
/// these it loses about one in six. And the longest time.
const SPREAD: (f64, f64, Duration) = (2.0, 0.87, Duration::from_millis(100));

/// With this many candidates nobody holds back: each consumer finds one for itself.
const PLENTY: usize = 8;

/// The pause after a watch that fell.
const PAUSE: Duration = Duration::from_millis(50);

/// A look from the very start is due after this many times what the last one took, so that they
/// cost at most a twentieth of the time, but no later than the second number says.
const FULL_LOOK: (u32, Duration) = (20, Duration::from_secs(5));

/// What the handles of one queue in one client share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) store: Arc<dyn Store>,
    pub(super) settle: Settle,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) patience: Duration,
    pub(super) keys: Keys,
    pub(super) stamps: Stamps,
    desk: Slot<Desk>,
    wake: Notify,
    intake: Mutex<Intake>,
}

/// What the task knows of the queue; it outlives the task.
#[derive(Debug)]
struct Intake {
    /// Items that were there when they were seen, in the order in which they come out.
    window: VecDeque<Candidate>,
    /// Below this all items were gone when last seen: a hint.
    cursor: Key,
    /// Where the cursor moves once the window is used up.
    next_cursor: Option<Key>,
    full_look_due: Instant,
    /// The largest value among those seen last; `None` while nothing is known.
    largest: Option<usize>,
    /// The largest value taken since the last look.
    taken: Option<usize>,
    /// How many candidates a claim of one item tries.
    chain: usize,
    /// The most operations that the store takes in a Txn.
    max_ops: usize,
    /// How long to hold back at most before a claim of what came just now, as others saw it too.
    spread: Duration,
    /// Whether the window came through the watch just now.
    fresh: bool,
    /// The watch of an empty queue, and the revision up to which the window knows everything.
    lookout: Option<(Lookout, Revision)>,
}

/// Below this a pause is not worth its timer.
const SHORTEST: Duration = Duration::from_micros(500);

impl Intake {
    /// Whether to leave the window to others for a while.
    fn holds_back(&self) -> bool {
        self.fresh && self.spread >= SHORTEST && self.lookout.is_some()
    }
}

impl Core {
    pub(super) fn new(
        name: &Key,
        store: Arc<dyn Store>,
        settle: Settle,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Core {
        let keys = Keys::new(name);
        let intake = Intake {
            window: VecDeque::new(),
            cursor: keys.start().clone(),
            next_cursor: None,
            full_look_due: Instant::now(),
            largest: None,
            taken: None,
            chain: CHAIN.0,
            max_ops: MAX_OPS,
            spread: Duration::ZERO,
            fresh: false,
            lookout: None,
        };
        Core {
            store,
            settle,
            clock,
            patience,
            keys,
            stamps: Stamps::default(),
            desk: Slot::default(),
            wake: Notify::new(),
            intake: Mutex::new(intake),
        }
    }

    /// Asks for up to `max` items.
    pub(super) fn ask(self: &Arc<Core>, max: usize, waits: bool) -> Result<Ticket> {
        let runtime = crate::runtime()?;
        let (receiver, start) = self.desk.lock().ask(max, waits);
        self.kick(start, &runtime);
        Ok(Ticket::new(Arc::clone(self), runtime, receiver))
    }

    /// A caller has left; these items were on their way to it.
    pub(super) fn left(self: &Arc<Core>, items: Vec<Item>, runtime: &Handle) {
        if items.is_empty() {
            // The task may wait for an item that nobody wants any more.
            self.wake.notify_one();
        } else {
            let start = self.desk.lock().give_back(items);
            self.kick(start, runtime);
        }
    }

    fn kick(self: &Arc<Core>, start: bool, runtime: &Handle) {
        if start {
            self.settle.spawn(runtime, Arc::clone(self).run());
        } else {
            self.wake.notify_one();
        }
    }

    async fn run(self: Arc<Core>) {
        let mut alive = Alive {
            core: &self,
            retired: false,
        };
        let mut intake = self.intake.lock().await;
        loop {
            let demand = self.desk.lock().demand();
            let nobody = demand.wanted == 0;
            for item in demand.surplus {
                self.settle
                    .spawn(&Handle::current(), Arc::clone(&self).put_back(item));
            }
            let demand = Demand {
                surplus: Vec::new(),
                ..demand
            };
            let begun = Instant::now();
            let step = if nobody {
                if !self.linger(&mut intake).await && self.desk.lock().retire() {
                    alive.retired = true;
                    return;
                }
                Ok(())
            } else if intake.window.is_empty() {
                self.fill(&mut intake, &demand).await
            } else if intake.holds_back() {
                self.hold_back(&mut intake).await
            } else {
                self.claim(&mut intake, demand.wanted, begun).await
            };
            if let Err(error) = step {
                tracing::debug!(%error, "a queue cannot be read");
                // Whatever is known may be wrong.
                intake.window.clear();
                intake.lookout = None;
                self.desk.lock().fail(&error, begun, Duration::ZERO);
            }
        }
    }

    /// Keeps the watch of an empty queue a moment longer. False when there is nothing to wait for.
    async fn linger(&self, intake: &mut Intake) -> bool {
        if intake.lookout.is_none() {
            return false;
        }
        tokio::select! {
            () = self.wake.notified() => true,
            () = self.settle.closing() => {
                intake.lookout = None;
                false
            }
            () = tokio::time::sleep(LINGER) => {
                intake.lookout = None;
                false
            }
        }
    }

    /// Finds out what is in the queue, or waits until there is something.
    async fn fill(&self, intake: &mut Intake, demand: &Demand) -> Result<()> {
        if let Some(cursor) = intake.next_cursor.take() {
            intake.cursor = cursor;
        }
        let start = self.keys.start();
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
            let look = self.look(intake, start).await?;
            self.conclude(intake, look, demand);
            return Ok(());
        }
        let full = Instant::now() >= intake.full_look_due || intake.cursor == *start;
        let from = if full {
            start.clone()
        } else {
            intake.cursor.clone()
        };
        let mut look = self.look(intake, &from).await?;
        if look.items.is_empty() && !full {
            // The cursor is a hint: only the whole queue can be empty.
            look = self.look(intake, start).await?;
        }
        let empty = look.items.is_empty();
        self.conclude(intake, look, demand);
        if empty && demand.waits {
            // The watch first, then the read that it completes.
            let lookout = self.open().await?;
            let look = self.look(intake, start).await?;
            intake.lookout = Some((lookout, look.revision));
            self.conclude(intake, look, demand);
        }
        Ok(())
    }

    async fn open(&self) -> Result<Lookout> {
        let request = WatchRequest::new(self.keys.range());
        retry::insist(self.patience, || {
            Lookout::open(Arc::clone(&self.store), request.clone())
        })
        .await
    }

    async fn look(&self, intake: &mut Intake, from: &Key) -> Result<Look> {
        intake.largest = intake.taken.take().or(intake.largest);
        let with_values = intake.largest.is_some_and(|largest| largest <= SMALL);
        let begun = Instant::now();
        let look = look(&*self.store, &self.keys, from, with_values, self.patience).await?;
        if from == self.keys.start() {
            let pause = (begun.elapsed() * FULL_LOOK.0).min(FULL_LOOK.1);
            intake.full_look_due = Instant::now() + pause;
        }
        Ok(look)
    }

    /// Takes in what a look saw.
    fn conclude(&self, intake: &mut Intake, look: Look, demand: &Demand) {
        if let Some((_, seen)) = &mut intake.lookout {
            *seen = (*seen).max(look.revision);
        }
        if look.items.is_empty() {
            self.desk.lock().answer_tries(demand.before);
            return;
        }
        intake.next_cursor = look.last.as_ref().map(Key::successor);
        let sizes = look
            .items
            .iter()
            .filter_map(|item| item.value.as_ref().map(|v| v.len()));
        intake.largest = sizes.max().or(intake.largest);
        for stamp in look
            .items
            .iter()
            .filter_map(|item| self.keys.stamp(&item.key))
        {
            self.stamps.saw(stamp);
        }
        intake.window = look.items;
    }

    /// Takes in what came through the watch.
    fn accept_events(&self, intake: &mut Intake, events: Vec<Event>) {
        for event in events {
            if let Some((_, seen)) = &mut intake.lookout {
                *seen = (*seen).max(event.kv.mod_revision);
            }
            if !self.keys.is_item(&event.kv.key) {
                continue;
            }
            // Gone, or put anew: what was seen before is no candidate any more.
            intake
                .window
                .retain(|candidate| candidate.key != event.kv.key);
            if event.kind == EventKind::Delete {
                continue;
            }
            if let Some(stamp) = self.keys.stamp(&event.kv.key) {
                self.stamps.saw(stamp);
            }
            if event.kv.key < intake.cursor {
                intake.cursor = event.kv.key.clone();
            }
            intake.window.push_back(Candidate::new(event.kv, true));
            intake.fresh = true;
        }
        in_order(intake.window.make_contiguous());
    }

    /// Leaves what came just now to others for a random while: every consumer has seen it, and but
    /// one would lose its claim. What they take meanwhile is seen through the watch.
    async fn hold_back(&self, intake: &mut Intake) -> Result<()> {
        intake.fresh = false;
        let until = Instant::now() + intake.spread.mul_f64(rand::random::<f64>());
        while !intake.window.is_empty() && intake.window.len() < PLENTY {
            let Some((lookout, seen)) = &mut intake.lookout else {
                break;
            };
            match tokio::time::timeout_at(until, lookout.next(*seen)).await {
                Ok(Ok(Nudge::Events(events))) => self.accept_events(intake, events),
                // A fallen watch is looked into when the window is used up.
                Ok(_) | Err(_) => break,
            }
        }
        intake.fresh = false;
        Ok(())
    }

    /// Takes the first items of the window, and hands them out.
    async fn claim(&self, intake: &mut Intake, wanted: usize, begun: Instant) -> Result<()> {
        intake.fresh = false;
        let plan = self.plan(intake, wanted);
        let claim = self.settle.run_to_end(plan.work(&intake.window));
        let (mut taken, revision, responses) = match self.attend(claim, begun).await {
            Ok(Outcome::Done {
                alternative,
                revision,
                responses,
            }) => {
                intake.spread = intake.spread.mul_f64(SPREAD.1);
                intake.chain = match alternative {
                    0 => intake.chain.saturating_sub(1).max(CHAIN.0),
                    late if late > intake.chain / 2 => intake.chain.saturating_mul(2).min(CHAIN.1),
                    _ => intake.chain,
                };
                (
                    plan.taken(&mut intake.window, alternative),
                    revision,
                    responses,
                )
            }
            Ok(Outcome::GuardsFalse) => {
                // Lost: at first hold back for as long as a claim takes.
                let longer = begun.elapsed().max(intake.spread.mul_f64(SPREAD.0));
                intake.spread = longer.min(SPREAD.2);
                intake.chain = intake.chain.saturating_mul(2).min(CHAIN.1);
                plan.missed(&mut intake.window);
                return Ok(());
            }
            // The store's limit is lower than etcd's.
            Err(error)
                if error.kind() == Some(ErrorKind::TooManyOperations) && intake.max_ops > 8 =>
            {
                intake.max_ops /= 2;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(responses) = responses {
            fill_in(&mut taken, responses);
        }
        let mut items = VecDeque::with_capacity(taken.len());
        for candidate in taken {
            let value = match candidate.value {
                Some(value) => value,
                None => match self
                    .attend(self.recover(&candidate.key, revision), begun)
                    .await
                {
                    Some(value) => value,
                    None => {
                        let error = Error::ItemLost {
                            key: candidate.key.to_string(),
                        };
                        tracing::error!(%error);
                        self.desk.lock().fail(&error, begun, Duration::ZERO);
                        continue;
                    }
                },
            };
            intake.taken = Some(intake.taken.unwrap_or(0).max(value.len()));
            items.push_back(Item {
                key: candidate.key,
                value,
            });
        }
        let mut desk = self.desk.lock();
        let left = desk.hand_out(items);
        if !left.is_empty() {
            // The callers have left meanwhile: the next turn puts these back.
            desk.give_back(left.into());
        }
        drop(desk);
        if !intake.window.is_empty() {
            // There is more than is wanted: events would only repeat what the next look sees.
            intake.lookout = None;
        }
        Ok(())
    }

    fn plan(&self, intake: &Intake, wanted: usize) -> Plan {
        let known = intake.taken.max(intake.largest);
        let by_size = match known {
            Some(size) => CLAIM_BYTES / size.max(1),
            None => UNKNOWN_BATCH,
        };
        let by_limit = intake.max_ops.saturating_sub(8);
        let batch = wanted
            .min(intake.window.len())
            .min(BATCH)
            .min(by_size)
            .min(by_limit)
            .max(1);
        let room = self.settle.room(intake.max_ops, batch, batch);
        let rest = if batch == 1 {
            intake.window.len().saturating_sub(1)
        } else {
            batch
        };
        Plan {
            batch,
            singles: room.min(intake.chain).min(rest),
        }
    }

    /// Reads the value of an item that was taken at `revision`, when the answer that carried it was
    /// lost. `None` when that history is gone.
    async fn recover(&self, key: &Key, revision: Revision) -> Option<bytes::Bytes> {
        let request = RangeRequest::new(key.clone()).at(before(revision));
        loop {
            match retry::read(self.patience, || self.store.range(request.clone())).await {
                Ok(response) => return response.kvs.into_iter().next().map(|kv| kv.value),
                Err(error) if error.is_transient() && !self.settle.is_abandoned() => {}
                Err(_) => return None,
            }
        }
    }

    /// Waits for something that takes as long as the store cannot be reached, and tells callers
    /// whose patience ends meanwhile.
    async fn attend<T>(&self, future: impl Future<Output = T>, since: Instant) -> T {
        tokio::pin!(future);
        let step = self.patience.max(Duration::from_millis(4)) / 4;
        loop {
            if let Ok(done) = tokio::time::timeout(step, &mut future).await {
                return done;
            }
            let error = Error::Timeout {
                after: self.patience,
            };
            self.desk.lock().fail(&error, since, self.patience);
        }
    }

    /// Puts an item back that nobody here wants, under its own key.
    async fn put_back(self: Arc<Core>, mut item: Item) {
        loop {
            let put = PutRequest::new(item.key.clone(), item.value.clone());
            let work = Work::new(vec![Compare::absent(item.key.clone())], vec![put.into()]);
            match self.settle.run_to_end(work).await {
                Ok(Outcome::Done { .. }) => return,
                // Somebody uses the key by now.
                Ok(Outcome::GuardsFalse) => {
                    item.key = self.keys.item(self.stamps.take(self.clock.unix_nanos(), 1));
                }
                Err(error) => {
                    tracing::error!(key = %item.key, %error, "an item could not be put back");
                    self.desk.lock().keep(item);
                    return;
                }
            }
        }
    }
}

/// Tells the callers when the task ends otherwise than by retiring, as with its runtime.
struct Alive<'c> {
    core: &'c Core,
    retired: bool,
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        if !self.retired {
            self.core.desk.lock().abort();
        }
    }
}
