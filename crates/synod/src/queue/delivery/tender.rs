//! The tender of a queue: returns items that have lost their owner, and brings delayed ones when they
//! are due.
//!
//! It moves them into the queue, where every consumer sees them come as any other item. Each move is
//! one guarded Txn that can apply only once, whoever sends it and however late a copy arrives: it
//! compares the modification revision of a key that is never used again. So it needs no lane, and any
//! number of tenders may try.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    Compare, DeleteRequest, Event, EventFilter, EventKind, Key, KeyValue, RangeRequest, Revision,
    Txn, TxnOp, TxnOpResponse, WatchRequest,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::PAUSE;
use super::depot::{Depot, Landing, PLACES};
use super::keys::Id;
use super::record::Record;
use crate::slot::Slot;
use crate::watch::{Lookout, Nudge};
use crate::{Result, retry};

/// How many items on their way one round looks at, and how many delayed ones.
const PAGE: (u64, u64) = (256, 32);

/// How many values are read at once.
const READS: usize = 16;

/// How long the watches stay open without anybody who waits.
const LINGER: Duration = Duration::from_millis(200);

/// The shortest and longest time that a tender leaves a move to others, once one was lost to them.
const SPREAD: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(100));

/// The most alarms of one client for one queue; beyond, others find what is due.
const ALARMS: usize = 4096;

/// An item that is due within this time is waited for by whoever has just looked.
const CLOSE: Duration = Duration::from_secs(1);

/// The state of a queue's tender in one client.
#[derive(Debug, Default)]
pub(super) struct Tender {
    /// How many want it to run.
    wanted: watch::Sender<usize>,
    /// An alarm was set.
    alarm_set: Notify,
    state: Slot<State>,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    /// When the last round began.
    round: Option<Instant>,
    /// Where the next round begins among the items on their way.
    from: Option<Id>,
    /// When delayed items of this client become due, by its clock.
    alarms: BinaryHeap<Reverse<Duration>>,
    /// Whether somebody waits for them.
    alarmed: bool,
}

/// What one round did.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// How many items it moved.
    pub(super) moved: usize,
    /// How many somebody else moved just before.
    lost: usize,
    /// Whether there is more to look at.
    more: bool,
    /// When the next delayed item becomes due, in nanoseconds since 1970.
    due: Option<u64>,
    /// When it read.
    revision: Revision,
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
    /// Has the tender run until what this returns is dropped.
    pub(super) fn tended(self: &Arc<Depot>) -> Result<Tended> {
        let runtime = crate::runtime()?;
        self.tender
            .wanted
            .send_modify(|wanted| *wanted = wanted.saturating_add(1));
        let tended = Tended(Arc::clone(self));
        if !std::mem::replace(&mut self.tender.state.lock().running, true) {
            self.settle.spawn(&runtime, Arc::clone(self).tend());
        }
        Ok(tended)
    }

    /// Whether the last round was so long ago; whoever is told so has one.
    pub(super) fn is_due(&self, every: Duration) -> bool {
        let mut state = self.tender.state.lock();
        let due = !state.running && state.round.is_none_or(|round| round.elapsed() >= every);
        if due {
            state.round = Some(Instant::now());
        }
        due
    }

    /// One round in the background, if the last one was so long ago.
    pub(super) fn tend_when_due(self: &Arc<Depot>, runtime: &Handle, every: Duration) {
        if self.is_due(every) {
            let depot = Arc::clone(self);
            self.settle.spawn(runtime, async move {
                if let Err(error) = depot.round().await {
                    tracing::debug!(%error, "items on their way could not be looked at");
                }
            });
        }
    }

    /// Has a round when a delayed item that this client has put in is due. Should the client die
    /// before, others find it.
    pub(super) fn alarm(self: &Arc<Depot>, delay: Duration) {
        let at = self.clock.now().saturating_add(delay);
        let start = {
            let mut state = self.tender.state.lock();
            if state.alarms.len() < ALARMS {
                state.alarms.push(Reverse(at));
            }
            !std::mem::replace(&mut state.alarmed, true)
        };
        self.tender.alarm_set.notify_one();
        if start {
            match crate::runtime() {
                Ok(runtime) => self.settle.spawn(&runtime, Arc::clone(self).ring()),
                Err(_) => self.tender.state.lock().alarmed = false,
            }
        }
    }

    /// Runs while there are alarms.
    async fn ring(self: Arc<Depot>) {
        let mut running = Running {
            tender: &self.tender,
            which: |state| &mut state.alarmed,
            retired: false,
        };
        loop {
            let next = {
                let mut state = self.tender.state.lock();
                match state.alarms.peek() {
                    Some(Reverse(next)) => *next,
                    None => {
                        state.alarmed = false;
                        running.retired = true;
                        return;
                    }
                }
            };
            tokio::select! {
                () = self.settle.closing() => return,
                () = self.tender.alarm_set.notified() => continue,
                () = self.clock.sleep_until(next) => {}
            }
            let now = self.clock.now();
            {
                let mut state = self.tender.state.lock();
                while state.alarms.peek().is_some_and(|Reverse(at)| *at <= now) {
                    state.alarms.pop();
                }
            }
            let due = match self.round().await {
                Ok(round) => round.due,
                Err(error) => {
                    tracing::debug!(%error, "delayed items could not be looked at");
                    Some(self.clock.unix_nanos())
                }
            };
            // The two clocks need not agree to the nanosecond.
            let rest =
                due.map(|due| Duration::from_nanos(due.saturating_sub(self.clock.unix_nanos())));
            if let Some(rest) = rest.filter(|rest| *rest < CLOSE) {
                let again = self.clock.now().saturating_add(rest.max(PAUSE));
                self.tender.state.lock().alarms.push(Reverse(again));
            }
        }
    }

    /// Runs while it is wanted.
    async fn tend(self: Arc<Depot>) {
        let mut running = Running {
            tender: &self.tender,
            which: |state| &mut state.running,
            retired: false,
        };
        loop {
            let tended = tokio::select! {
                tended = self.tend_once() => tended,
                () = self.settle.closing() => return,
            };
            if let Err(error) = tended {
                tracing::debug!(%error, "a queue could not be tended; trying again");
                tokio::time::sleep(PAUSE).await;
            }
            let mut state = self.tender.state.lock();
            if *self.tender.wanted.borrow() == 0 {
                state.running = false;
                running.retired = true;
                return;
            }
        }
    }

    /// Watches and moves until nobody wants it any more.
    async fn tend_once(&self) -> Result<()> {
        let held = WatchRequest::new(self.beside.all_held()).without(EventFilter::NoPut);
        let later = WatchRequest::new(self.beside.all_later()).without(EventFilter::NoDelete);
        let (mut held, mut later) = (self.watch(held).await?, self.watch(later).await?);
        let mut spread = Duration::ZERO;
        let unwanted = self.tender.unwanted();
        tokio::pin!(unwanted);
        loop {
            let mut round = self.round().await?;
            spread = spread_after(spread, round.lost);
            if round.more {
                continue;
            }
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
                while let Ok(nudge) = tokio::time::timeout_at(end, held.next(round.revision)).await
                {
                    match nudge? {
                        Nudge::Events(events) => self.sort_out(&events, &mut orphans),
                        Nudge::Read => break,
                    }
                }
                let keys: Vec<Key> = std::mem::take(&mut orphans)
                    .into_iter()
                    .map(|id| self.beside.taken(id))
                    .collect();
                let mut done = Round::default();
                self.move_all(keys, &mut done).await?;
                spread = spread_after(spread, done.lost);
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

    /// Waits until it is this time by the wall clock, or about: whoever is woken looks again.
    async fn until(&self, due: Option<u64>) {
        let Some(due) = due else {
            return std::future::pending().await;
        };
        let clock = &self.clock;
        let rest = Duration::from_nanos(due.saturating_sub(clock.unix_nanos()));
        clock.sleep_until(clock.now().saturating_add(rest)).await;
    }

    /// Looks once at what is on its way and at what is delayed, and moves what has to be.
    pub(super) async fn round(&self) -> Result<Round> {
        let from = {
            let mut state = self.tender.state.lock();
            state.round = Some(Instant::now());
            state.from.take()
        };
        let page = |range| RangeRequest::new(range).keys_only().with_limit(PAGE.0);
        let reads: Vec<TxnOp> = match from {
            Some(from) => self
                .beside
                .held_from(from)
                .map(|range| page(range).into())
                .into(),
            None => {
                let ranges = [self.beside.all_taken(), self.beside.all_owners()];
                ranges.map(|range| page(range).into()).into()
            }
        };
        let later = RangeRequest::new(self.beside.all_later())
            .keys_only()
            .with_limit(PAGE.1);
        let txn = Txn::new().and_then(reads).and_then([later]);

        let answer = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
        let mut round = Round {
            revision: answer.header.revision,
            ..Round::default()
        };
        let mut ranges = answer
            .responses
            .into_iter()
            .filter_map(TxnOpResponse::into_range);
        let (taken, owners, later) = (
            ranges.next().unwrap_or_default(),
            ranges.next().unwrap_or_default(),
            ranges.next().unwrap_or_default(),
        );
        let owned: BTreeSet<Id> = owners
            .kvs
            .iter()
            .filter_map(|kv| self.beside.owner_id(&kv.key))
            .collect();
        // Every marker has its item: beyond the last marker of a full page nothing is known.
        let known = owned.last().copied().filter(|_| owners.more);
        let ids = taken
            .kvs
            .iter()
            .filter_map(|kv| self.beside.taken_id(&kv.key));
        let ids: Vec<Id> = ids
            .filter(|id| known.is_none_or(|known| *id <= known))
            .collect();
        if taken.more || owners.more {
            self.tender.state.lock().from = ids.last().map(|id| id.next());
            round.more = from.is_none_or(|from| ids.last().is_some_and(|last| *last > from));
        }
        let now = self.clock.unix_nanos();
        let orphans = ids
            .into_iter()
            .filter(|id| !owned.contains(id))
            .map(|id| self.beside.taken(id));
        let mut keys: Vec<Key> = orphans.collect();
        for kv in &later.kvs {
            match self.beside.due(&kv.key) {
                Some(due) if due <= now => keys.push(kv.key.clone()),
                Some(due) => {
                    round.due = Some(round.due.map_or(due, |first| first.min(due)));
                    break;
                }
                None => {}
            }
        }
        // A page full of due ones is followed by another.
        round.more |= later.more && round.due.is_none();
        self.move_all(keys, &mut round).await?;
        Ok(round)
    }

    /// Moves those of these items that are still where they were seen.
    async fn move_all(&self, keys: Vec<Key>, round: &mut Round) -> Result<()> {
        for keys in keys.chunks(READS) {
            let txn = Txn::new().and_then(keys.iter().cloned().map(RangeRequest::new));
            let answer = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
            for range in answer
                .responses
                .into_iter()
                .filter_map(TxnOpResponse::into_range)
            {
                let moved = match range.kvs.into_iter().next() {
                    Some(kv) => self.move_one(&kv).await?,
                    None => Some(false),
                };
                match moved {
                    Some(true) => round.moved = round.moved.saturating_add(1),
                    Some(false) => round.lost = round.lost.saturating_add(1),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Moves one item to where it belongs now. False when somebody else has; `None` when it cannot be
    /// moved.
    async fn move_one(&self, kv: &KeyValue) -> Result<Option<bool>> {
        let Some(record) = Record::decode(&kv.value) else {
            tracing::warn!(key = %kv.key, "an item beside a queue cannot be read: is it of a later version?");
            return Ok(None);
        };
        // Only what was on its way has used up an attempt.
        let owner = self
            .beside
            .taken_id(&kv.key)
            .map(|id| self.beside.owner(id));
        let mut guards = vec![Compare::modified_at(kv.key.clone(), kv.mod_revision)];
        guards.extend(owner.clone().map(Compare::absent));
        for anew in (0..PLACES).map(|tried| tried > 0) {
            let landing = if owner.is_some() && record.is_used_up() {
                self.burial(&record)
            } else {
                self.entry(&record, anew).await?
            };
            let Landing {
                guards: landing_guards,
                ops,
            } = landing;
            let txn = Txn::new()
                .when(guards.iter().cloned().chain(landing_guards))
                .and_then([DeleteRequest::new(kv.key.clone())])
                .and_then(ops)
                .or_else([Txn::new().when(guards.iter().cloned())]);
            let answer = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
            if answer.succeeded {
                return Ok(Some(true));
            }
            let there = answer
                .responses
                .into_iter()
                .next()
                .and_then(TxnOpResponse::into_txn);
            if !there.is_some_and(|there| there.succeeded) {
                return Ok(Some(false));
            }
            // It is there, so its own key must be taken.
        }
        Ok(None)
    }
}

impl Tender {
    /// Waits until nobody has wanted it for a moment.
    async fn unwanted(&self) {
        let mut wanted = self.wanted.subscribe();
        loop {
            // An error means that the depot is gone.
            if wanted.wait_for(|wanted| *wanted == 0).await.is_err() {
                return;
            }
            let back = wanted.wait_for(|wanted| *wanted > 0);
            if tokio::time::timeout(LINGER, back).await.is_err() {
                return;
            }
        }
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

/// Says that a task does not run any more, also when its runtime ended it.
struct Running<'t> {
    tender: &'t Tender,
    /// What says that it runs.
    which: fn(&mut State) -> &mut bool,
    retired: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.retired {
            *(self.which)(&mut self.tender.state.lock()) = false;
        }
    }
}
