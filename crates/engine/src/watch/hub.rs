//! The live watches, and handing changes to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use synod_store::{Revision, WatchRequest};

use super::index::{Index, Live, Target};
use super::views::{Position, Views};
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
    /// Live watches whose sign of progress has to wait until this revision was handed out: they start later, or it was
    /// published already when they asked. Answers come before events, so whoever has the answer to a write and then
    /// asks must not be told of less.
    awaiting: HashMap<u64, (Arc<Watcher>, Revision)>,
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
        let mut queue = watcher.queue();
        queue.mode = Mode::Live;
        queue.quiet_since = now;
        if let Some(published) = queue.progress_asked {
            inner.report(watcher, &mut queue, published);
        }
        Joined::Yes
    }

    /// Puts a sign of progress behind everything up to `published`.
    pub(super) fn request_progress(&self, watcher: &Arc<Watcher>, published: Revision) {
        let waker = {
            let mut inner = self.lock();
            let mut queue = watcher.queue();
            match queue.mode {
                Mode::Live => inner.report(watcher, &mut queue, published),
                Mode::Behind(_) => queue.progress_asked = Some(published),
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
            for watcher in inner.deliver(state, upto, now, &mut wakers) {
                inner.live.remove(&watcher);
                inner.notified.remove(&watcher.id);
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
    /// Queues the events since the last dispatch at each watch that they concern. Returns the watches without room, which
    /// are behind now.
    fn deliver(
        &self,
        state: &State,
        upto: Revision,
        now: Duration,
        wakers: &mut Vec<Waker>,
    ) -> Vec<Arc<Watcher>> {
        let mut full = Vec::new();
        for (target, changes) in self.concerned(state, upto) {
            let mut views = Views::new(state, &changes);
            for live in target.watches() {
                let request = &live.watcher.request;
                let Some(events) = views.of(request, live.from) else {
                    continue;
                };
                let mut queue = live.watcher.queue();
                queue.quiet_since = now;
                if let Err(first) = queue.push_events(events) {
                    queue.mode = Mode::Behind(first);
                    full.push(Arc::clone(&live.watcher));
                }
                wakers.extend(queue.waker.take());
            }
        }
        full
    }

    /// The changes since the last dispatch in order, for each set of watches that they concern. No watch is in two sets.
    fn concerned(&self, state: &State, upto: Revision) -> Vec<(Target<'_>, Vec<Position>)> {
        let mut concerned: Vec<(Target<'_>, Vec<Position>)> = Vec::new();
        if self.live.len() == 0 {
            return concerned;
        }
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut revision = self.dispatched.next();
        while revision <= upto {
            for (index, key) in state.changed_at(revision).iter().enumerate() {
                self.live.for_each(key, |target| {
                    let place = *places.entry(target.address()).or_insert_with(|| {
                        concerned.push((target, Vec::new()));
                        concerned.len().saturating_sub(1)
                    });
                    if let Some((_, changes)) = concerned.get_mut(place) {
                        changes.push((revision, index));
                    }
                });
            }
            revision = revision.next();
        }
        concerned
    }

    /// Reports progress now, or once `published` was handed out and the watch has begun.
    fn report(&mut self, watcher: &Arc<Watcher>, queue: &mut Queue, published: Revision) {
        let needed = published.max(watcher.request.start_revision.prev());
        if self.dispatched >= needed {
            queue.push_progress(self.dispatched);
        } else {
            self.awaiting
                .insert(watcher.id, (Arc::clone(watcher), needed));
        }
    }

    fn report_awaiting(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let dispatched = self.dispatched;
        self.awaiting.retain(|_, (watcher, needed)| {
            if dispatched < *needed {
                return true;
            }
            let mut queue = watcher.queue();
            match queue.mode {
                Mode::Live => {
                    queue.push_progress(dispatched);
                    wakers.extend(queue.waker.take());
                }
                Mode::Behind(_) => queue.progress_asked = Some(*needed),
            }
            false
        });
        wakers
    }
}

#[cfg(test)]
mod tests {
    use synod_store::WatchItem;

    use super::*;

    /// What was published when progress was asked for may be handed out only later: the answer to a write comes first.
    #[test]
    fn progress_waits_for_what_was_published_when_it_was_asked_for() {
        let hub = Hub::new(Revision(5));
        let watcher = hub.add(WatchRequest::new("k"));
        assert!(matches!(
            hub.join(&watcher, Revision(8), Duration::ZERO),
            Joined::Yes
        ));
        hub.request_progress(&watcher, Revision(5));
        let item = watcher.queue().pop();
        assert_eq!(item, Some(WatchItem::Progress(Revision(5))));
        hub.request_progress(&watcher, Revision(7));
        assert_eq!(watcher.queue().pop(), None);
        let state = State::starting_at(Revision(9), None);
        hub.dispatch(&state, Revision(6), Duration::ZERO);
        assert_eq!(watcher.queue().pop(), None);
        hub.dispatch(&state, Revision(8), Duration::ZERO);
        let item = watcher.queue().pop();
        assert_eq!(item, Some(WatchItem::Progress(Revision(8))));
    }

    #[test]
    fn progress_asked_for_while_behind_waits_for_the_same() {
        let hub = Hub::new(Revision(5));
        let watcher = hub.add(WatchRequest::new("k").starting_at(Revision(3)));
        hub.request_progress(&watcher, Revision(6));
        assert!(matches!(
            hub.join(&watcher, Revision(6), Duration::ZERO),
            Joined::Yes
        ));
        assert_eq!(watcher.queue().pop(), None);
        let state = State::starting_at(Revision(6), None);
        hub.dispatch(&state, Revision(6), Duration::ZERO);
        let item = watcher.queue().pop();
        assert_eq!(item, Some(WatchItem::Progress(Revision(6))));
    }
}
