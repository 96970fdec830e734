//! The live watches, and handing changes to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use synod_store::{Event, Revision, WatchRequest};

use super::index::{Index, Live};
use super::watcher::{End, Mode, Queue, Watcher};
use crate::mvcc::State;

/// All watches of an engine.
///
/// Locks are taken in the order hub, queue; the state's lock before either or not at all.
#[derive(Debug)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    /// Watches that exist, live or behind.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Inner {
    live: Index,
    /// Every change up to this revision was handed to the live watches.
    dispatched: Revision,
    /// Live watches that start later, and whose sign of progress has to wait for that.
    awaiting: HashMap<u64, Arc<Watcher>>,
    /// Live watches that want to hear of progress while nothing happens.
    notified: HashMap<u64, Arc<Watcher>>,
    end: Option<End>,
    next_id: u64,
}

/// What came of the wish to go live.
pub(super) enum Joined {
    /// It is live.
    Yes,
    /// There is more history to read first.
    Behind,
    /// Everything has ended.
    Ended(End),
}

impl Hub {
    pub(crate) fn new(dispatched: Revision) -> Hub {
        Hub {
            inner: Mutex::new(Inner {
                live: Index::default(),
                dispatched,
                awaiting: HashMap::new(),
                notified: HashMap::new(),
                end: None,
                next_id: 0,
            }),
            count: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many watches there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many watches are live.
    #[cfg(test)]
    pub(crate) fn live(&self) -> usize {
        self.lock().live.len()
    }

    /// Makes a watch, which is behind.
    pub(super) fn add(&self, request: WatchRequest) -> Arc<Watcher> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id = inner.next_id.wrapping_add(1);
        Arc::new(Watcher::new(id, request))
    }

    /// Forgets a watch.
    pub(super) fn remove(&self, watcher: &Watcher) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        let mut inner = self.lock();
        inner.live.remove(watcher);
        inner.awaiting.remove(&watcher.id);
        inner.notified.remove(&watcher.id);
    }

    /// Makes a watch live that has seen everything below `next`.
    pub(super) fn join(&self, watcher: &Arc<Watcher>, next: Revision, now: Duration) -> Joined {
        let mut inner = self.lock();
        if let Some(end) = &inner.end {
            return Joined::Ended(end.clone());
        }
        if next <= inner.dispatched {
            return Joined::Behind;
        }
        inner.live.insert(Live {
            watcher: Arc::clone(watcher),
            from: next,
        });
        if watcher.request.progress_notify {
            inner.notified.insert(watcher.id, Arc::clone(watcher));
        }
        let dispatched = inner.dispatched;
        let mut queue = watcher.queue();
        queue.mode = Mode::Live;
        queue.quiet_since = now;
        if queue.progress_asked {
            inner.report(watcher, &mut queue, dispatched);
        }
        Joined::Yes
    }

    /// Puts a sign of progress behind everything that was delivered.
    pub(super) fn request_progress(&self, watcher: &Arc<Watcher>) {
        let waker = {
            let mut inner = self.lock();
            let dispatched = inner.dispatched;
            let mut queue = watcher.queue();
            match queue.mode {
                Mode::Live => inner.report(watcher, &mut queue, dispatched),
                Mode::Behind(_) => queue.progress_asked = true,
            }
            queue.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Hands every change up to `upto`, which is published, to the watches it concerns, and wakes each of them once.
    pub(crate) fn dispatch(&self, state: &State, upto: Revision, now: Duration) {
        let mut wakers = Vec::new();
        {
            let mut inner = self.lock();
            let touched = if inner.live.len() == 0 {
                HashMap::new()
            } else {
                inner.collect(state, upto)
            };
            for (watcher, events) in touched.into_values() {
                let first = events.first().map(|event| event.kv.mod_revision);
                let mut queue = watcher.queue();
                queue.quiet_since = now;
                if !queue.push_events(events) {
                    queue.mode = Mode::Behind(first.unwrap_or(upto));
                    inner.live.remove(&watcher);
                    inner.notified.remove(&watcher.id);
                }
                wakers.extend(queue.waker.take());
            }
            inner.dispatched = upto;
            wakers.extend(inner.report_awaiting());
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Reports progress to the watches that asked for it and were quiet for `interval`. Returns when it should be called
    /// next.
    pub(crate) fn tick(&self, now: Duration, interval: Duration) -> Option<Duration> {
        let mut wakers = Vec::new();
        let mut next = None;
        {
            let inner = self.lock();
            for watcher in inner.notified.values() {
                let mut queue = watcher.queue();
                let due = queue.quiet_since.saturating_add(interval);
                let due = if due > now {
                    due
                } else {
                    if watcher.may_report(inner.dispatched) {
                        queue.push_progress(inner.dispatched);
                        wakers.extend(queue.waker.take());
                    }
                    queue.quiet_since = now;
                    now.saturating_add(interval)
                };
                next = Some(next.map_or(due, |next: Duration| next.min(due)));
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        next
    }

    /// Ends all watches, now and later.
    pub(crate) fn end(&self, end: &End) {
        let mut wakers = Vec::new();
        {
            let mut inner = self.lock();
            inner.end = Some(end.clone());
            for live in inner.live.iter() {
                let mut queue = live.watcher.queue();
                queue.end = Some(end.clone());
                wakers.extend(queue.waker.take());
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Inner {
    /// The events since the last dispatch, for each watch that they concern.
    fn collect(&self, state: &State, upto: Revision) -> HashMap<u64, (Arc<Watcher>, Vec<Event>)> {
        let mut touched: HashMap<u64, (Arc<Watcher>, Vec<Event>)> = HashMap::new();
        let mut revision = self.dispatched.next();
        while revision <= upto {
            for (index, key) in state.changed_at(revision).iter().enumerate() {
                // Made once for all watches, and only if there is one.
                let mut plain: Option<Event> = None;
                let mut with_prev: Option<Event> = None;
                self.live.for_each(key, |live| {
                    if revision < live.from {
                        return;
                    }
                    let request = &live.watcher.request;
                    let made = if request.prev_kv {
                        &mut with_prev
                    } else {
                        &mut plain
                    };
                    if made.is_none() {
                        *made = state.event(revision, index, request.prev_kv);
                    }
                    if let Some(event) = made.as_ref().filter(|event| request.wants(event.kind)) {
                        touched
                            .entry(live.watcher.id)
                            .or_insert_with(|| (Arc::clone(&live.watcher), Vec::new()))
                            .1
                            .push(event.clone());
                    }
                });
            }
            revision = revision.next();
        }
        touched
    }

    /// Reports progress now, or once the watch has begun.
    fn report(&mut self, watcher: &Arc<Watcher>, queue: &mut Queue, dispatched: Revision) {
        if watcher.may_report(dispatched) {
            queue.push_progress(dispatched);
        } else {
            self.awaiting.insert(watcher.id, Arc::clone(watcher));
        }
    }

    fn report_awaiting(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let dispatched = self.dispatched;
        self.awaiting.retain(|_, watcher| {
            if !watcher.may_report(dispatched) {
                return true;
            }
            let mut queue = watcher.queue();
            match queue.mode {
                Mode::Live => {
                    queue.push_progress(dispatched);
                    wakers.extend(queue.waker.take());
                }
                Mode::Behind(_) => queue.progress_asked = true,
            }
            false
        });
        wakers
    }
}
