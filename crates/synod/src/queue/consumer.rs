//! The consumer of one queue in one client: a task that looks, waits, and claims for all its local
//! callers together.
//!
//! One claim is on its way at a time; it takes as many items as callers wait. The task runs while
//! somebody waits (or an item has to go back), and a moment longer.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use synod_store::Store;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::delivery::Taker;
use super::desk::{Demand, Desk, Item, Ticket};
use super::intake::Intake;
use super::line::Line;
use super::order::Order;
use super::stats::Stats;
use crate::clock::Clock;
use crate::settle::{Outcome, Settle};
use crate::slot::Slot;
use crate::{Client, Error, Result};

/// How often a caller asks again because the runtime of another has ended.
const RESTARTS: usize = 8;

/// What the handles of one queue in one client share.
#[derive(Debug)]
pub(crate) struct Core<O: Order> {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) settle: Settle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) patience: Duration,
    pub(crate) order: O,
    pub(super) desk: Slot<Desk>,
    pub(super) wake: Notify,
    pub(super) line: Slot<Line<O::Entry>>,
    pub(crate) stats: Stats,
    intake: Mutex<Intake>,
    /// Those who take reliably, once there are any.
    pub(super) taker: Slot<Weak<Taker<O>>>,
    /// When a caller that did not wait last looked at what may be due; the first call does not.
    glanced: Slot<Instant>,
}

impl<O: Order> Core<O> {
    /// What handles share of the queue of this order in this client.
    pub(crate) fn new(order: O, client: &Client) -> Core<O> {
        let start = order.start().clone();
        Core {
            store: client.shared_store(),
            settle: client.settle(),
            clock: client.clock(),
            patience: client.timeout(),
            order,
            desk: Slot::new(Desk::new(O::EXACT)),
            wake: Notify::new(),
            line: Slot::default(),
            stats: Stats::default(),
            intake: Mutex::new(Intake::new(start)),
            taker: Slot::default(),
            glanced: Slot::new(Instant::now()),
        }
    }

    /// Whether the last time that this said yes was so long ago.
    pub(super) fn glances(&self, every: Duration) -> bool {
        let mut glanced = self.glanced.lock();
        let due = glanced.elapsed() >= every;
        if due {
            *glanced = Instant::now();
        }
        due
    }

    /// Asks for up to `max` items.
    pub(crate) fn ask(self: &Arc<Core<O>>, max: usize, waits: bool) -> Result<Ticket<O>> {
        let runtime = crate::runtime()?;
        let (receiver, start) = self.desk.lock().ask(max, waits);
        self.kick(start, &runtime);
        Ok(Ticket::new(Arc::clone(self), runtime, receiver))
    }

    /// Asks for up to `max` items, and again when the task that was to answer has ended with another
    /// caller's runtime.
    async fn items(self: &Arc<Core<O>>, max: usize, waits: bool) -> Result<Vec<Item>> {
        let mut restarts = RESTARTS;
        loop {
            match self.ask(max, waits)?.await {
                Err(Error::NoRuntime) if restarts > 0 => {
                    restarts = restarts.saturating_sub(1);
                    // If it was the runtime of this caller, this is where it ends too.
                    tokio::task::yield_now().await;
                }
                answer => return answer,
            }
        }
    }

    /// Takes the first item; waits for one.
    pub(crate) async fn next(self: &Arc<Core<O>>) -> Result<Bytes> {
        loop {
            // An empty answer goes only to those who do not wait.
            if let Some(item) = self.items(1, true).await?.pop() {
                return Ok(item.value);
            }
        }
    }

    /// Takes the first item, if there is one.
    pub(crate) async fn next_now(self: &Arc<Core<O>>) -> Result<Option<Bytes>> {
        let item = self.items(1, false).await?.pop();
        Ok(item.map(|item| item.value))
    }

    /// Takes up to `max` items; waits for the first.
    pub(crate) async fn next_many(self: &Arc<Core<O>>, max: usize) -> Result<Vec<Bytes>> {
        if max == 0 {
            return Ok(Vec::new());
        }
        loop {
            let items = self.items(max, true).await?;
            if !items.is_empty() {
                return Ok(items.into_iter().map(|item| item.value).collect());
            }
        }
    }

    /// A caller has left; these items were on their way to it.
    pub(super) fn left(self: &Arc<Core<O>>, items: Vec<Item>, runtime: &Handle) {
        if items.is_empty() {
            // The task may wait for an item that nobody wants any more.
            self.wake.notify_one();
        } else {
            let start = self.desk.lock().give_back(items);
            self.kick(start, runtime);
        }
    }

    fn kick(self: &Arc<Core<O>>, start: bool, runtime: &Handle) {
        if start {
            let alive = Alive {
                core: Arc::clone(self),
                retired: false,
            };
            self.settle
                .spawn(runtime, "queue.consumer", Arc::clone(self).run(alive));
        } else {
            self.wake.notify_one();
        }
    }

    async fn run(self: Arc<Core<O>>, mut alive: Alive<O>) {
        let mut intake = self.intake.lock().await;
        loop {
            let demand = self.desk.lock().demand();
            let nobody = demand.wanted == 0;
            if !demand.surplus.is_empty() {
                let put_back = Arc::clone(&self).put_back_all(demand.surplus);
                self.settle
                    .spawn(&Handle::current(), "queue.put_back", put_back);
            }
            let demand = Demand {
                surplus: Vec::new(),
                ..demand
            };
            let begun = Instant::now();
            let claims = !nobody && !intake.window.is_empty();
            let step = if nobody {
                if !self.linger(&mut intake).await && self.desk.lock().retire() {
                    alive.retired = true;
                    return;
                }
                Ok(())
            } else if intake.window.is_empty() {
                self.fill(&mut intake, &demand).await
            } else if intake.doubted {
                self.catch_up(&mut intake, &demand).await
            } else if intake.holds_back() {
                self.hold_back(&mut intake).await
            } else {
                self.claim(&mut intake, &demand, begun).await
            };
            if let Err(error) = step {
                tracing::debug!(%error, "a queue cannot be read");
                // Whatever is known may be wrong.
                intake.window.clear();
                // What was in the window is still there.
                intake.next_cursor = None;
                intake.lookout = None;
                intake.doubted = false;
                self.desk.lock().fail(&error, begun, Duration::ZERO);
            }
            if claims {
                // Those who were just answered may come again at once: they share the next claim.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for something that takes as long as the store cannot be reached, and tells callers
    /// whose patience ends meanwhile.
    pub(super) async fn attend<T>(&self, future: impl Future<Output = T>, since: Instant) -> T {
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

    /// Puts items back one after the other, so that those of one producer stay in their order.
    async fn put_back_all(self: Arc<Core<O>>, mut items: Vec<Item>) {
        items.sort_by(|a, b| a.key.cmp(&b.key));
        for item in items {
            self.put_back(item).await;
        }
    }

    /// Puts an item back that nobody here wants, under its own key.
    async fn put_back(&self, item: Item) {
        let back = match self.settle.run_to_end(self.order.back(&item)).await {
            Ok(Outcome::Done { .. }) => Ok(()),
            // Somebody uses the key by now.
            Ok(Outcome::GuardsFalse) => O::back_elsewhere(self, &item).await,
            Err(error) => Err(error),
        };
        if let Err(error) = back {
            tracing::error!(key = %item.key, %error, "an item could not be put back");
            // It may be back all the same: not to be handed out a second time.
            if !error.is_maybe_committed() {
                self.desk.lock().keep(item);
            }
        }
    }
}

/// Tells the callers when the task ends otherwise than by retiring, as with its runtime, also when it
/// has not begun.
struct Alive<O: Order> {
    core: Arc<Core<O>>,
    retired: bool,
}

impl<O: Order> Drop for Alive<O> {
    fn drop(&mut self) {
        if !self.retired {
            self.core.desk.lock().abort();
        }
    }
}
