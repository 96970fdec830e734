//! One watch of a stream.

use std::sync::Arc;

use futures_util::stream::AbortHandle;
use synod_store::{Header, Revision, WatchItem};

use crate::state::{Counted, Share};

/// One watch.
pub(super) struct Watcher {
    pub(super) serial: u64,
    pub(super) end: AbortHandle,
    pub(super) header: Header,
    pub(super) start: Revision,
    pub(super) fragment: bool,
    /// Everything up to this revision has been delivered.
    pub(super) delivered: Revision,
    /// Whether a request for progress waits for it.
    pub(super) behind: bool,
    pub(super) ask: Arc<dyn Fn() + Send + Sync>,
    pub(super) notify: Option<Notify>,
    pub(super) _counted: Counted,
    /// What it takes of the bound on all watches.
    pub(super) _share: Share,
}

/// The state of a watch that wants a sign of progress from time to time.
#[derive(Default)]
pub(super) struct Notify {
    /// Whether it told something since the last time.
    pub(super) busy: bool,
    /// Whether its next sign of progress goes to the client.
    pub(super) due: bool,
}

/// An item, with the watch that it comes from. `None` at the watch's end.
pub(super) type Tagged = (i64, u64, Option<synod_store::Result<WatchItem>>);
