//! The consumer's side of a watch: taking what was queued, and reading history while it is behind.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use synod_store::{
    Error, ErrorKind, Event, Header, Key, KeyRange, Result, Revision, Watch, WatchBatch, WatchItem,
    WatchRequest,
};

use super::hub::Joined;
use super::watcher::{Mode, Watcher};
use crate::shared::Shared;

/// A batch from history ends with the revision in which it reaches so many events ...
const BATCH_EVENTS: usize = 512;
/// ... or so many bytes ...
const BATCH_BYTES: usize = 1 << 20;
/// ... or after looking at so many changes.
const BATCH_CHANGES: usize = 4096;
/// After so many batches without an event the task gives way to others.
const BATCHES_A_POLL: usize = 4;

/// Makes a watch that stands when this returns.
pub(crate) fn open(shared: &Arc<Shared>, mut request: WatchRequest) -> Result<Watch> {
    if request.range.start().is_empty() {
        request.range = begin_at_zero(request.range);
    }
    if request.range.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "watcher range is empty",
        ));
    }
    let now = shared.clock.now();
    let start = request.start_revision;
    let watcher = shared.hub.add(request);
    let mut stream = WatchStream {
        shared: Arc::clone(shared),
        watcher,
        ended: false,
    };
    let header = if start.is_zero() {
        stream.join_now(now)?
    } else {
        let header = shared.header();
        if start > header.revision {
            // It waits for the future; if that has come meanwhile, the consumer reads it from history.
            if let Joined::Ended(end) = shared.hub.join(&stream.watcher, start, now) {
                return Err(end.error());
            }
        }
        header
    };
    let progress = {
        let shared = Arc::clone(shared);
        let watcher = Arc::clone(&stream.watcher);
        move || shared.hub.request_progress(&watcher, shared.published())
    };
    Ok(Watch::new(header, stream, progress))
}

/// An empty key stands for the smallest one, as in etcd's watches.
fn begin_at_zero(range: KeyRange) -> KeyRange {
    let zero = Key::from_static(b"\0");
    match range {
        KeyRange::One(_) => KeyRange::One(zero),
        KeyRange::Between(_, end) => KeyRange::Between(zero, end),
        KeyRange::From(_) => KeyRange::From(zero),
    }
}

struct WatchStream {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    ended: bool,
}

/// What one look at history gave.
enum Read {
    Events(WatchBatch),
    /// Nothing for this watch below this revision.
    Nothing,
    Compacted(Revision),
}

impl WatchStream {
    /// Goes live with the change after the current revision.
    fn join_now(&mut self, now: std::time::Duration) -> Result<Header> {
        loop {
            let header = self.shared.header();
            // What is published may not be dispatched yet; what is dispatched is published.
            match self
                .shared
                .hub
                .join(&self.watcher, header.revision.next(), now)
            {
                Joined::Yes => return Ok(header),
                Joined::Behind => {}
                Joined::Ended(end) => return Err(end.error()),
            }
        }
    }

    /// Reads the next batch of history and moves on.
    fn read(&self, next: Revision) -> Read {
        let state = self.shared.state();
        let compacted = state.compacted();
        if next < compacted {
            return Read::Compacted(compacted);
        }
        let published = self.shared.published();
        let request = &self.watcher.request;
        let mut events: Vec<Event> = Vec::new();
        let (mut bytes, mut looked) = (0_usize, 0_usize);
        let mut revision = next;
        while revision <= published
            && events.len() < BATCH_EVENTS
            && bytes < BATCH_BYTES
            && looked < BATCH_CHANGES
        {
            let keys = state.changed_at(revision);
            looked = looked.saturating_add(keys.len().max(1));
            // The pair before is gone when the revision before is.
            let prev = request.prev_kv && revision.prev() >= compacted;
            for (index, key) in keys.iter().enumerate() {
                if !request.range.contains(key) {
                    continue;
                }
                let event = state.event(revision, index, prev);
                if let Some(event) = event.filter(|event| request.wants(event.kind)) {
                    bytes = bytes.saturating_add(event.kv.value.len());
                    events.push(event);
                }
            }
            revision = revision.next();
        }
        drop(state);
        self.watcher.queue().mode = Mode::Behind(revision);
        if events.is_empty() {
            return Read::Nothing;
        }
        Read::Events(WatchBatch {
            revision: published,
            events,
        })
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<WatchItem>>> {
        for _ in 0..BATCHES_A_POLL {
            let next = {
                let mut queue = self.watcher.queue();
                if let Some(item) = queue.pop() {
                    return Poll::Ready(Some(Ok(item)));
                }
                if let Some(end) = &queue.end {
                    self.ended = true;
                    return Poll::Ready(Some(Err(end.error())));
                }
                match queue.mode {
                    Mode::Behind(next) => next,
                    Mode::Live => {
                        // A waker that is still right need not be cloned.
                        match &mut queue.waker {
                            Some(waker) => waker.clone_from(cx.waker()),
                            none => *none = Some(cx.waker().clone()),
                        }
                        return Poll::Pending;
                    }
                }
            };
            match self.read(next) {
                Read::Events(batch) => return Poll::Ready(Some(Ok(WatchItem::Events(batch)))),
                Read::Compacted(compact_revision) => {
                    self.ended = true;
                    return Poll::Ready(Some(Ok(WatchItem::Compacted { compact_revision })));
                }
                Read::Nothing => {
                    let Mode::Behind(next) = self.watcher.queue().mode else {
                        continue;
                    };
                    let now = self.shared.clock.now();
                    if let Joined::Ended(end) = self.shared.hub.join(&self.watcher, next, now) {
                        self.ended = true;
                        return Poll::Ready(Some(Err(end.error())));
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchItem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.step(cx)
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.shared.hub.remove(&self.watcher);
    }
}
