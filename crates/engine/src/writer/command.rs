//! What the writer is asked.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    Alarm, AlarmKind, CompactResponse, LeaseGrantResponse, LeaseId, LeaseRevokeResponse, Result,
    Revision, Txn, TxnResponse,
};
use tokio::sync::oneshot;

use super::snapshot::Plan;
use crate::permission::{Guard, Permission};
use crate::record::NoteChange;

/// Where an answer goes. Whoever asked may have gone away: then it is dropped.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// One request. Puts and deletes come as transactions of one operation.
#[derive(Debug)]
pub(crate) enum Command {
    /// Run a transaction that was [checked](crate::check::txn).
    Txn {
        txn: Txn,
        /// Whether a branch holds a put, which a full store refuses.
        puts: bool,
        /// Of somebody who may not write every key.
        guard: Option<Box<Guard>>,
        reply: Reply<TxnResponse>,
    },
    /// Grant a lease.
    Grant {
        id: Option<LeaseId>,
        ttl: Duration,
        reply: Reply<LeaseGrantResponse>,
    },
    /// End a lease.
    Revoke {
        id: LeaseId,
        /// Of somebody who may not write every key.
        permission: Option<Arc<dyn Permission>>,
        reply: Reply<LeaseRevokeResponse>,
    },
    /// Forget history, and with `physical` answer when that is done.
    Compact {
        revision: Revision,
        physical: bool,
        reply: Reply<CompactResponse>,
    },
    /// Take alarms back; answer those that stood.
    Disarm {
        kind: AlarmKind,
        reply: Reply<Vec<Alarm>>,
    },
    /// Answer once everything before is settled, leases that are due included.
    Settle { reply: Reply<()> },
    /// Write a snapshot, and answer when the log before it is gone.
    Defragment { reply: Reply<()> },
    /// Write notes, all or none.
    Note {
        changes: Vec<NoteChange>,
        reply: Reply<()>,
    },
    /// Answer what a copy of the store holds; nothing that it needs is pruned until it is dropped.
    Export { reply: Reply<Plan> },
    /// The snapshot's thread ends.
    SnapshotDone,
    /// Look at the clock, and at what else may be due.
    Wake,
    /// Settle everything before, then let go of the data.
    Close { reply: Option<Reply<()>> },
}

/// A command on its way.
#[derive(Debug)]
pub(crate) struct Queued {
    /// What it counts against the bound on waiting requests.
    pub(crate) size: usize,
    pub(crate) command: Command,
}
