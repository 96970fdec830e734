//! One watch and its queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use synod_store::{Error, ErrorKind, Event, Revision, WatchBatch, WatchItem, WatchRequest};

/// A queue that holds so many events takes no more: its watch falls behind and reads history instead.
const MAX_EVENTS: usize = 4096;
/// The same for the bytes of their keys and values.
const MAX_BYTES: usize = 4 << 20;

/// Why every watch ends.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) kind: ErrorKind,
    pub(crate) message: Arc<str>,
}

impl End {
    pub(crate) fn error(&self) -> Error {
        Error::new(self.kind, self.message.as_ref())
    }
}

/// One watch.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(super) id: u64,
    pub(super) request: WatchRequest,
    queue: Mutex<Queue>,
}

/// Whether events come by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The writer queues them.
    Live,
    /// The consumer reads history, from this revision on.
    Behind(Revision),
}

/// Events for one or many watches.
#[derive(Debug)]
pub(super) struct Shared {
    events: Vec<Event>,
    /// The bytes of their keys and values. Each watch counts them in full: which of them takes its share last, nobody
    /// knows.
    bytes: usize,
}

impl Shared {
    /// None if there are none.
    pub(super) fn new(events: Vec<Event>) -> Option<Arc<Shared>> {
        let bytes = weight(&events);
        (!events.is_empty()).then(|| Arc::new(Shared { events, bytes }))
    }
}

#[cfg(test)]
impl Shared {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

#[derive(Debug)]
enum Item {
    Events(Arc<Shared>),
    Progress(Revision),
}

/// What was delivered and not yet taken.
#[derive(Debug)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    events: usize,
    bytes: usize,
    pub(super) mode: Mode,
    /// A sign of progress was asked for when this was published, and comes as soon as it is true.
    pub(super) progress_asked: Option<Revision>,
    pub(super) end: Option<End>,
    /// When something was delivered last.
    pub(super) quiet_since: Duration,
    pub(super) waker: Option<Waker>,
}

fn weight(events: &[Event]) -> usize {
    events.iter().fold(0, |sum: usize, event| {
        let prev = event
            .prev_kv
            .as_ref()
            .map_or(0, |kv| kv.value.len().saturating_add(kv.key.len()));
        sum.saturating_add(event.kv.key.len())
            .saturating_add(event.kv.value.len())
            .saturating_add(prev)
    })
}

impl Watcher {
    /// A watch that is behind by everything, as its request says.
    pub(super) fn new(id: u64, request: WatchRequest) -> Watcher {
        let mode = Mode::Behind(request.start_revision);
        Watcher {
            id,
            request,
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                events: 0,
                bytes: 0,
                mode,
                progress_asked: None,
                end: None,
                quiet_since: Duration::ZERO,
                waker: None,
            }),
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be told that everything up to `revision` was delivered: not when it starts beyond the next.
    pub(super) fn may_report(&self, revision: Revision) -> bool {
        revision.next() >= self.request.start_revision
    }
}

impl Queue {
    /// Queues events; when there is no room, unless they are the only ones, returns the revision of the first.
    pub(super) fn push_events(&mut self, shared: Arc<Shared>) -> Result<(), Revision> {
        let Some(first) = shared.events.first() else {
            return Ok(());
        };
        let count = self.events.saturating_add(shared.events.len());
        let bytes = self.bytes.saturating_add(shared.bytes);
        if self.events > 0 && (count > MAX_EVENTS || bytes > MAX_BYTES) {
            return Err(first.kv.mod_revision);
        }
        self.events = count;
        self.bytes = bytes;
        self.items.push_back(Item::Events(shared));
        Ok(())
    }

    /// Queues a sign of progress; it takes the place of one that nobody has taken yet.
    pub(super) fn push_progress(&mut self, revision: Revision) {
        self.progress_asked = None;
        if let Some(Item::Progress(last)) = self.items.back_mut() {
            *last = revision;
        } else {
            self.items.push_back(Item::Progress(revision));
        }
    }

    /// Takes the next item. Here, in the consumer's task, shared events are copied.
    pub(super) fn pop(&mut self) -> Option<WatchItem> {
        let shared = match self.items.pop_front()? {
            Item::Progress(revision) => return Some(WatchItem::Progress(revision)),
            Item::Events(shared) => shared,
        };
        self.events = self.events.saturating_sub(shared.events.len());
        self.bytes = self.bytes.saturating_sub(shared.bytes);
        let events = match Arc::try_unwrap(shared) {
            Ok(own) => own.events,
            Err(shared) => shared.events.clone(),
        };
        let revision = events.last().map(|event| event.kv.mod_revision);
        Some(WatchItem::Events(WatchBatch {
            revision: revision.unwrap_or_default(),
            events,
        }))
    }
}

#[cfg(test)]
mod tests {
    use synod_store::{EventKind, KeyValue};

    use super::*;

    fn events(count: usize, bytes: usize) -> Arc<Shared> {
        let kv = KeyValue {
            value: vec![0; bytes].into(),
            ..KeyValue::default()
        };
        let event = Event {
            kind: EventKind::Put,
            kv,
            prev_kv: None,
        };
        Shared::new(vec![event; count]).unwrap()
    }

    #[test]
    fn a_queue_is_bounded_in_events_and_bytes_but_holds_any_one_batch() {
        let watcher = Watcher::new(0, WatchRequest::new("k"));
        let mut queue = watcher.queue();
        assert!(queue.push_events(events(MAX_EVENTS * 2, 0)).is_ok());
        assert!(queue.push_events(events(1, 0)).is_err());
        queue.pop();
        assert!(queue.push_events(events(MAX_EVENTS, 0)).is_ok());
        assert!(queue.push_events(events(1, 0)).is_err());
        queue.pop();
        assert!(queue.push_events(events(1, MAX_BYTES * 2)).is_ok());
        assert!(queue.push_events(events(1, 1)).is_err());
        queue.pop();
        assert!(queue.push_events(events(2, MAX_BYTES / 4)).is_ok());
        assert!(queue.push_events(events(2, MAX_BYTES / 4)).is_ok());
        assert!(queue.push_events(events(1, 1)).is_err());
        assert_eq!(queue.items.len(), 2);
    }

    #[test]
    fn signs_of_progress_do_not_pile_up() {
        let watcher = Watcher::new(0, WatchRequest::new("k"));
        let mut queue = watcher.queue();
        queue.push_progress(Revision(3));
        queue.push_progress(Revision(4));
        assert_eq!(queue.pop(), Some(WatchItem::Progress(Revision(4))));
        assert_eq!(queue.pop(), None);
    }
}
