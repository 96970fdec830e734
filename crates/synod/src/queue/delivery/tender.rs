//! The tender of a queue: returns items that have lost their owner, and brings delayed ones when they
//! are due.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{ErrorKind, Event, EventFilter, EventKind, Key, WatchRequest};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::depot::Depot;
use super::keys::Id;
use super::rounds::Round;
use super::{GLANCES, PAUSE};
use crate::slot::Slot;
use crate::watch::{Lookout, Nudge};
use crate::{Result, retry};

/// How long the watches stay open without anybody who waits: so many times this.
const LINGER: Duration = Duration::from_millis(200);

/// For takers, who come to it at once when they wait.
pub(super) const BRIEFLY: u32 = 1;

/// For those who come to it only when they have waited a while, so that consumers who do so for each item open the
/// watches once.
pub(super) const LONGER: u32 = 8;

/// The shortest and longest time that a tender leaves a move to others, once one was lost to them.
const SPREAD: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(100));

/// The state of a queue's tender in one client.
#[derive(Debug, Default)]
pub(super) struct Tender {
    /// How many want it to run.
    wanted: watch::Sender<usize>,
    pub(super) state: Slot<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    running: bool,
    /// For how many times [`LINGER`] the watches stay open.
    linger: u32,
    /// When the last round began.
    pub(super) round: Option<Instant>,
    /// When the next delayed item becomes due, as far as is known.
    pub(super) due: Option<u64>,
    /// Where the next round begins among the items on their way.
    pub(super) from: Option<Id>,
    /// And among the delayed ones, behind those that are due and cannot be moved.
    pub(super) later_from: Option<Key>,
}

/// Keeps the tender running.
#[derive(Debug)]
pub(super) struct Tended(Arc<Depot>);

impl Drop for Tended {
    fn drop(&mut self) {
        let wanted = &self.0.tender.wanted;
        wanted.send_modify(|wanted| *wanted = wanted.saturating_sub(1));
    }
}

impl Depot {
    /// Has the tender run until what this returns is dropped, and `linger` times [`LINGER`] longer.
    pub(super) fn tended(self: &Arc<Depot>, linger: u32) -> Result<Tended> {
        let runtime = crate::runtime()?;
        self.tender
            .wanted
            .send_modify(|wanted| *wanted = wanted.saturating_add(1));
        let tended = Tended(Arc::clone(self));
        let start = {
            let mut state = self.tender.state.lock();
            state.linger = state.linger.max(linger);
            !std::mem::replace(&mut state.running, true)
        };
        if start {
            let running = Running {
                depot: Arc::clone(self),
                retired: false,
            };
            self.settle
                .spawn(&runtime, "delivery.tend", Depot::tend(running));
        }
        Ok(tended)
    }

    /// Whether the last round was so long ago, or an item that it saw is due by now; whoever is told so has one.
    pub(super) fn is_due(&self, every: Duration) -> bool {
        let mut state = self.tender.state.lock();
        let long_ago = |round: Instant| round.elapsed() >= every;
        let due = !state.running && (state.round.is_none_or(long_ago) || self.has_come(state.due));
        if due {
            state.round = Some(Instant::now());
            state.due = None;
        }
        due
    }

    /// Whether a delayed item that was seen is due by now.
    pub(super) fn knows_of_due(&self) -> bool {
        let due = self.tender.state.lock().due;
        self.has_come(due)
    }

    /// Whether a round has seen a delayed item.
    #[cfg(test)]
    pub(super) fn knows_a_due_time(&self) -> bool {
        self.tender.state.lock().due.is_some()
    }

    #[cfg(test)]
    pub(super) fn is_tended(&self) -> bool {
        self.tender.state.lock().running
    }

    fn has_come(&self, due: Option<u64>) -> bool {
        due.is_some_and(|due| due <= self.clock.unix_nanos())
    }

    /// One round in the background, if it [is due](Depot::is_due).
    pub(super) fn tend_when_due(self: &Arc<Depot>, runtime: &Handle, every: Duration) {
        if self.is_due(every) {
            let depot = Arc::clone(self);
            self.settle.spawn(runtime, "delivery.look", async move {
                let round = async {
                    depot.round().await?;
                    depot.tidy().await
                };
                if let Err(error) = round.await {
                    tracing::debug!(%error, "items on their way could not be looked at");
                }
            });
        }
    }

    /// Runs while it is wanted.
    async fn tend(mut running: Running) {
        loop {
            let depot = &running.depot;
            let tending = async {
                if let Err(error) = depot.tend_once().await {
                    tracing::debug!(%error, "a queue could not be tended; trying again");
                    // Who may not do it will not be allowed to at once.
                    let pause = match error.kind() {
                        Some(ErrorKind::PermissionDenied) => GLANCES,
                        _ => PAUSE,
                    };
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = depot.unwanted() => {}
                    }
                }
            };
            tokio::select! {
                () = tending => {}
                () = depot.settle.closing() => return,
            }
            let mut state = depot.tender.state.lock();
            if *depot.tender.wanted.borrow() == 0 {
                state.running = false;
                state.linger = 0;
                running.retired = true;
                return;
            }
        }
    }

    /// Watches and moves until nobody wants it any more.
    async fn tend_once(self: &Arc<Depot>) -> Result<()> {
        let held = WatchRequest::new(self.beside.all_held()).without(EventFilter::NoPut);
        let later = WatchRequest::new(self.beside.all_later()).without(EventFilter::NoDelete);
        let (mut held, mut later) = (self.watch(held).await?, self.watch(later).await?);
        let mut spread = Duration::ZERO;
        let unwanted = self.unwanted();
        tokio::pin!(unwanted);
        loop {
            let mut round = self.round().await?;
            spread = spread_after(spread, round.lost);
            if round.more {
                continue;
            }
            self.tidy().await?;
            let mut orphans = BTreeSet::new();
            loop {
                let again = tokio::select! {
                    () = &mut unwanted => return Ok(()),
                    nudge = held.next(round.revision) => match nudge? {
                        Nudge::Events(events) => {
                            self.sort_out(&events, &mut orphans);
                            false
                        }
                        Nudge::Read => true,
                    },
                    nudge = later.next(round.revision) => match nudge? {
                        Nudge::Events(events) => {
                            let dues = events.iter().filter_map(|event| self.beside.due(&event.kv.key));
                            round.due = dues.chain(round.due).min();
                            self.tender.state.lock().due = round.due;
                            false
                        }
                        Nudge::Read => true,
                    },
                    () = self.until(round.due) => {
                        pause(spread).await;
                        true
                    }
                };
                if again {
                    break;
                }
                if orphans.is_empty() {
                    continue;
                }
                // Everybody has seen it: what others return meanwhile comes through the watch.
                let end = Instant::now() + spread.mul_f64(rand::random());
                let mut gap = false;
                while let Ok(nudge) = tokio::time::timeout_at(end, held.next(round.revision)).await
                {
                    match nudge? {
                        Nudge::Events(events) => self.sort_out(&events, &mut orphans),
                        Nudge::Read => {
                            gap = true;
                            break;
                        }
                    }
                }
                let keys: Vec<Key> = std::mem::take(&mut orphans)
                    .into_iter()
                    .map(|id| self.beside.taken(id))
                    .collect();
                let mut done = Round::default();
                self.move_all(keys, &mut done).await?;
                spread = spread_after(spread, done.lost);
                if gap {
                    break;
                }
            }
        }
    }

    async fn watch(&self, request: WatchRequest) -> Result<Lookout> {
        retry::insist(self.patience, || {
            Lookout::open(Arc::clone(&self.store), request.clone())
        })
        .await
    }

    /// Which items have lost their marker and are still on their way, as the watch tells it.
    fn sort_out(&self, events: &[Event], orphans: &mut BTreeSet<Id>) {
        let deleted = || {
            events
                .iter()
                .filter(|event| event.kind == EventKind::Delete)
        };
        orphans.extend(deleted().filter_map(|event| self.beside.owner_id(&event.kv.key)));
        for id in deleted().filter_map(|event| self.beside.taken_id(&event.kv.key)) {
            orphans.remove(&id);
        }
    }

    /// Waits until nobody has wanted it for a moment, or nobody can any more.
    async fn unwanted(self: &Arc<Depot>) {
        let mut wanted = self.tender.wanted.subscribe();
        'wanted: loop {
            // An error would mean that the depot is gone.
            if wanted.wait_for(|wanted| *wanted == 0).await.is_err() {
                return;
            }
            let slices = self.tender.state.lock().linger;
            for _ in 0..slices {
                let back = wanted.wait_for(|wanted| *wanted > 0);
                if tokio::time::timeout(LINGER, back).await.is_ok() {
                    continue 'wanted;
                }
                // The task alone keeps it, and with it perhaps a store that somebody is about to open again.
                if Arc::strong_count(self) == 1 {
                    return;
                }
            }
            return;
        }
    }

    /// Waits until it is this time by the wall clock, or about: whoever is woken looks again.
    async fn until(&self, due: Option<u64>) {
        let Some(due) = due else {
            return std::future::pending().await;
        };
        let clock = &self.clock;
        let rest = Duration::from_nanos(due.saturating_sub(clock.unix_nanos()));
        clock.sleep_until(clock.now().saturating_add(rest)).await;
    }
}

fn spread_after(spread: Duration, lost: usize) -> Duration {
    if lost > 0 {
        (spread * 2).clamp(SPREAD.0, SPREAD.1)
    } else {
        spread.mul_f64(0.87)
    }
}

async fn pause(spread: Duration) {
    if spread > Duration::from_millis(1) {
        tokio::time::sleep(spread.mul_f64(rand::random())).await;
    }
}

/// Says that the task does not run any more, also when its runtime ended it, or never began it.
struct Running {
    depot: Arc<Depot>,
    retired: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.retired {
            let mut state = self.depot.tender.state.lock();
            state.running = false;
            state.linger = 0;
        }
    }
}
