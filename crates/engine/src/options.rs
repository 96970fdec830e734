//! [`EngineOptions`]: where the data are, and their bounds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::journal;

/// How much history an engine keeps by itself. Beyond it the oldest revisions are compacted; explicit compactions go on
/// top.
///
/// A watch that is further behind than the history reaches ends as compacted, so it should cover the longest pause that
/// a watcher is to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// The last so many revisions, but no more superseded data than the [default](EngineOptions) bound.
    Revisions(u64),
    /// What was current at some moment in this period, but no more superseded data than the default bound. Right after a
    /// restart, history counts as made at the restart.
    Period(Duration),
    /// Everything, until it is compacted by request. The quota counts it.
    Unbounded,
}

/// How an engine is opened.
///
/// | bound | default |
/// |---|---|
/// | quota | 2 GiB |
/// | history | 1,000,000 revisions; 128 MiB of superseded data, or a quarter of the quota if that is less |
/// | operations in a transaction | 128 |
/// | size of a request | 1.5 MiB |
/// | sign of progress of an idle watch | every 10 min |
///
/// Every acknowledged write is durable; that is no option.
#[derive(Debug, Clone)]
#[must_use]
pub struct EngineOptions {
    pub(crate) path: Option<PathBuf>,
    pub(crate) quota_bytes: u64,
    pub(crate) retention: Retention,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) name: String,
    pub(crate) client_urls: Vec<String>,
    pub(crate) progress_interval: Duration,
    /// A snapshot is written when the log is longer than this, and than the data.
    pub(crate) snapshot_bytes: u64,
    pub(crate) journal: journal::Options,
    pub(crate) sync_observer: Option<Arc<dyn SyncObserver>>,
}

/// Told of each sync of a store in a directory: for metrics.
pub trait SyncObserver: std::fmt::Debug + Send + Sync + 'static {
    /// `changes` were made durable together, or not, and it took so long. Called by the thread that does all writes:
    /// keep it short.
    fn synced(&self, took: Duration, changes: u64, succeeded: bool);
}

/// The bounds of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_txn_ops: usize,
    pub(crate) max_request_bytes: usize,
}

/// The most superseded data that are kept by default.
const SUPERSEDED_BYTES: u64 = 128 << 20;

impl EngineOptions {
    fn new(path: Option<PathBuf>) -> EngineOptions {
        EngineOptions {
            path,
            quota_bytes: 2 << 30,
            retention: Retention::Revisions(1_000_000),
            limits: Limits {
                max_txn_ops: 128,
                max_request_bytes: 1536 << 10,
            },
            clock: Arc::new(SystemClock),
            name: "default".to_owned(),
            client_urls: Vec::new(),
            progress_interval: Duration::from_secs(600),
            snapshot_bytes: 64 << 20,
            journal: journal::Options::default(),
            sync_observer: None,
        }
    }

    /// A store that is gone with its process.
    pub fn memory() -> EngineOptions {
        EngineOptions::new(None)
    }

    /// A store in the directory `path`, which is made if it is missing. One process at a time has it open.
    pub fn file(path: impl Into<PathBuf>) -> EngineOptions {
        EngineOptions::new(Some(path.into()))
    }

    /// The most bytes that data, history and leases may take up together, counted with 128 bytes for each version beside
    /// its key and value, and 256 for each lease. Beyond it puts and lease grants are refused with
    /// [`ErrorKind::NoSpace`](synod_store::ErrorKind::NoSpace) until enough is deleted *and* compacted: 1/16 below the
    /// quota the alarm takes itself back.
    pub fn with_quota_bytes(mut self, bytes: u64) -> EngineOptions {
        self.quota_bytes = bytes;
        self
    }

    /// How much history is kept.
    pub fn with_retention(mut self, retention: Retention) -> EngineOptions {
        self.retention = retention;
        self
    }

    /// The most conditions, and the most operations of each branch, in a transaction; 128 by default. A nested one gets what its
    /// parent's largest list leaves, all together 16 times as many. What they look at and show together is bounded as
    /// well: 4 million keys if it writes, or if it reads slower than others compact; 256 MiB.
    pub fn with_max_txn_ops(mut self, operations: usize) -> EngineOptions {
        self.limits.max_txn_ops = operations;
        self
    }

    /// The largest request, in bytes.
    pub fn with_max_request_bytes(mut self, bytes: usize) -> EngineOptions {
        self.limits.max_request_bytes = bytes;
        self
    }

    /// The clock that leases live by; the system's by default.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> EngineOptions {
        self.clock = clock;
        self
    }

    /// The name that the member list shows.
    pub fn with_name(mut self, name: impl Into<String>) -> EngineOptions {
        self.name = name.into();
        self
    }

    /// Where clients reach a server of this store, for the member list.
    pub fn with_client_urls<U: Into<String>>(
        mut self,
        urls: impl IntoIterator<Item = U>,
    ) -> EngineOptions {
        self.client_urls = urls.into_iter().map(Into::into).collect();
        self
    }

    /// How long a watch that asked for it stays silent before it reports its progress.
    pub fn with_progress_interval(mut self, interval: Duration) -> EngineOptions {
        self.progress_interval = interval;
        self
    }

    /// Whom to tell of each sync.
    pub fn with_sync_observer(mut self, observer: Arc<dyn SyncObserver>) -> EngineOptions {
        self.sync_observer = Some(observer);
        self
    }

    /// The most superseded bytes that automatic compaction leaves; `None` when it does nothing.
    pub(crate) fn superseded_bytes(&self) -> Option<u64> {
        (self.retention != Retention::Unbounded).then(|| SUPERSEDED_BYTES.min(self.quota_bytes / 4))
    }
}
