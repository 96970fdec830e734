//! [`Factory`]: makes stores of the kind under test, and says what is known to be wrong with them.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;

use crate::{BoxFuture, Store};

use super::check::Failure;

/// A store to run cases on, with what keeps it alive.
pub struct Instance {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Dropped after the store: a process, a directory.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl Instance {
    /// A store that needs nothing else to live.
    pub fn new(store: impl Store) -> Instance {
        Instance {
            store: Arc::new(store),
            keep: Box::new(()),
        }
    }

    /// The same store with something that has to live as long as it does.
    #[must_use]
    pub fn keeping(mut self, keep: impl Any + Send + Sync) -> Instance {
        self.keep = Box::new((self.keep, keep));
        self
    }
}

impl Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// What a case needs of its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Needs {
    /// Nobody else writes to it while the case runs; what was written before does not matter.
    Quiet,
    /// Nothing: other cases may run on it at the same time.
    Company,
    /// At revision 1.
    Fresh,
    /// Can be closed and opened again.
    Restart,
    /// Has a storage quota of [`Needs::QUOTA`] bytes.
    Quota,
}

impl Needs {
    /// The quota of [`Needs::Quota`], in bytes.
    pub const QUOTA: u64 = 4 * 1024 * 1024;
}

/// A known fault of one kind of store, which excuses the cases that name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quirk {
    /// etcd before 3.5.18: the delete event of the compact revision itself is missing from a watch
    /// that starts there (etcd-io/etcd#19179).
    DeleteMissingAtCompactRevision,
    /// etcd before 3.5.15: compacting at the revision of a delete drops its event for watches that
    /// have yet to catch up (etcd-io/etcd#18089).
    CompactionDropsDelete,
    /// etcd before 3.5.22: a watch from a future revision is told of progress and of events before
    /// it (etcd-io/etcd#20221).
    FutureWatchNotSilent,
    /// etcd before 3.5.8: a progress notification overtakes events (etcd-io/etcd#15220).
    ProgressOvertakesEvents,
    /// etcd before 3.5.7: a full store refuses transactions that put nothing (etcd-io/etcd#13429).
    TxnWithoutPutNeedsSpace,
    /// A namespace: of a range of all greater keys it makes one that ends where the prefix does,
    /// and a delete with an end conflicts with a put that it covers, in one transaction.
    EveryRangeEnds,
}

impl Quirk {
    /// What etcd 3.5.1 gets wrong.
    pub const ETCD_3_5_1: &'static [Quirk] = &[
        Quirk::DeleteMissingAtCompactRevision,
        Quirk::CompactionDropsDelete,
        Quirk::FutureWatchNotSilent,
        Quirk::ProgressOvertakesEvents,
        Quirk::TxnWithoutPutNeedsSpace,
    ];
}

/// Makes stores of the kind under test.
pub trait Factory: Debug + Send + Sync {
    /// A store at revision 1 that nobody else uses.
    fn fresh(&self) -> BoxFuture<'_, Result<Instance, Failure>>;

    /// Whether this kind of store keeps its data when it is closed.
    fn can_restart(&self) -> bool {
        false
    }

    /// Closes a store in whatever manner (a crash too) and opens it again on the same data. Only
    /// asked of a factory that [can](Factory::can_restart).
    fn restart(&self, instance: Instance) -> BoxFuture<'_, Result<Instance, Failure>> {
        drop(instance);
        Box::pin(async { Err(Failure::new("this kind of store keeps nothing")) })
    }

    /// A store at revision 1 with a storage quota of so many bytes; `None` when it cannot have one.
    fn with_quota(&self, bytes: u64) -> BoxFuture<'_, Result<Option<Instance>, Failure>> {
        let _ = bytes;
        Box::pin(async { Ok(None) })
    }

    /// What is known to be wrong with this kind of store.
    fn quirks(&self) -> &[Quirk] {
        &[]
    }
}
