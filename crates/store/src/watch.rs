//! Watches: what happens to a range of keys, in order, each revision whole.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};

use crate::{Header, KeyRange, KeyValue, Result, Revision};

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was put.
    Put,
    /// It was deleted, by a request or because its lease ended.
    Delete,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The pair as it was put; of a deleted one only the key and, as its modification revision,
    /// when it was deleted.
    pub kv: KeyValue,
    /// The pair before, when asked for, unless the key was just created or the pair's revision has
    /// been compacted.
    pub prev_kv: Option<KeyValue>,
}

impl Event {
    /// Whether the event created its key.
    #[must_use]
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}

/// A kind of events to leave out of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventFilter {
    /// Leave puts out.
    NoPut,
    /// Leave deletes out.
    NoDelete,
}

/// Asks for a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct WatchRequest {
    /// Which keys.
    pub range: KeyRange,
    /// The first revision to report; [`Revision::ZERO`] for the one after now. A revision that is
    /// still to come is waited for in silence.
    pub start_revision: Revision,
    /// Report the pairs before each change too.
    pub prev_kv: bool,
    /// Report from time to time, while nothing happens, how far the watch is.
    pub progress_notify: bool,
    /// Events to leave out.
    pub filters: Vec<EventFilter>,
}

impl WatchRequest {
    /// Watches `range` from now on. A single key converts to a range.
    pub fn new(range: impl Into<KeyRange>) -> WatchRequest {
        WatchRequest {
            range: range.into(),
            start_revision: Revision::ZERO,
            prev_kv: false,
            progress_notify: false,
            filters: Vec::new(),
        }
    }

    /// Watches from `revision` on, which belongs to it.
    pub fn starting_at(mut self, revision: Revision) -> WatchRequest {
        self.start_revision = revision;
        self
    }

    /// Asks for the pairs before each change.
    pub fn with_prev_kv(mut self) -> WatchRequest {
        self.prev_kv = true;
        self
    }

    /// Asks for a sign of progress from time to time.
    pub fn with_progress_notify(mut self) -> WatchRequest {
        self.progress_notify = true;
        self
    }

    /// Leaves a kind of events out.
    pub fn without(mut self, filter: EventFilter) -> WatchRequest {
        if !self.filters.contains(&filter) {
            self.filters.push(filter);
        }
        self
    }

    /// Whether an event of this kind passes the filters.
    #[must_use]
    pub fn wants(&self, kind: EventKind) -> bool {
        let filter = match kind {
            EventKind::Put => EventFilter::NoPut,
            EventKind::Delete => EventFilter::NoDelete,
        };
        !self.filters.contains(&filter)
    }
}

/// Events that a watch delivers at once: one or more revisions, each of them whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchBatch {
    /// The revision that the answer spoke of: that of the last event, or a later one while the
    /// watch catches up. Resume after the last *event's* revision, never after this one.
    pub revision: Revision,
    /// The events: in order of revision, and in the order of operations within one.
    pub events: Vec<Event>,
}

/// What a [`Watch`] yields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchItem {
    /// Changes.
    Events(WatchBatch),
    /// Every change up to and including this revision has been delivered.
    Progress(Revision),
    /// History that the watch needs is gone; the last item. Whoever watches reads the state anew
    /// and watches from there: nothing may be concluded from the gap.
    Compacted {
        /// The oldest revision that can still be watched from.
        compact_revision: Revision,
    },
}

type ItemStream = Pin<Box<dyn Stream<Item = Result<WatchItem>> + Send>>;

/// A watch that stands: a stream of [`WatchItem`]s. Dropping it ends it.
///
/// The stream ends only after [`WatchItem::Compacted`] or an error.
#[must_use = "a watch reports nothing unless it is polled, and ends when it is dropped"]
pub struct Watch {
    header: Header,
    items: ItemStream,
    progress: Arc<dyn Fn() + Send + Sync>,
}

impl Watch {
    /// A watch for a store to return: the header of the moment from which it stands, its items, and
    /// what to call when [`Watch::request_progress`] is.
    pub fn new(
        header: Header,
        items: impl Stream<Item = Result<WatchItem>> + Send + 'static,
        progress: impl Fn() + Send + Sync + 'static,
    ) -> Watch {
        Watch {
            header,
            items: Box::pin(items),
            progress: Arc::new(progress),
        }
    }

    /// The store's header when the watch was made: a watch from now reports every change after
    /// this revision.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// Asks for a [`WatchItem::Progress`], which comes in its place among the items. A lossy store
    /// may lose the request.
    pub fn request_progress(&self) {
        (self.progress)();
    }

    /// What [`Watch::request_progress`] calls, for use while the watch itself is borrowed.
    #[must_use]
    pub fn progress_handle(&self) -> Arc<dyn Fn() + Send + Sync> {
        Arc::clone(&self.progress)
    }

    /// The same watch with each item passed through `map`.
    pub fn map_items(
        self,
        map: impl FnMut(Result<WatchItem>) -> Result<WatchItem> + Send + 'static,
    ) -> Watch {
        Watch {
            header: self.header,
            items: Box::pin(self.items.map(map)),
            progress: self.progress,
        }
    }
}

impl Stream for Watch {
    type Item = Result<WatchItem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}
