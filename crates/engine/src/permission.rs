//! Requests on behalf of somebody who may not write every key: what they reach by way of a lease is checked where it is
//! known.
//!
//! Ending a lease deletes its keys, and a key that is attached to a lease goes when that does. So whoever ends a lease, or
//! attaches to one, must be allowed to write all of its keys. Which these are only the writer knows: what was read before
//! the request was sent lacks the puts that wait for their sync. It is the writer that asks the [`Permission`], for the
//! keys that the lease has at the request's own place in the order of all changes.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::Bound;
use std::sync::Arc;

use synod_store::{
    LeaseId, LeaseRevokeResponse, PutLease, PutRequest, PutResponse, Result, Txn, TxnOp,
    TxnResponse,
};

use crate::Engine;
use crate::mvcc::StoredKey;
use crate::writer::Command;

/// What somebody may write.
///
/// It is asked by the thread that does all writes: keep it quick.
pub trait Permission: Debug + Send + Sync + 'static {
    /// How far it goes from this key on.
    fn reach(&self, key: &[u8]) -> Reach<'_>;
}

/// How far a [`Permission`] goes from a key on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach<'a> {
    /// This key may not be written.
    Nowhere,
    /// It may be, and every key behind it and before this one. Told so that not each of very many keys is asked for.
    To(&'a [u8]),
    /// It may be, and every key behind it.
    End,
}

/// What a transaction needs to be allowed to do.
#[derive(Debug)]
pub(crate) struct Guard {
    /// The leases that any of its puts attaches to, in the branch that is not taken, too.
    pub(crate) leases: Vec<LeaseId>,
    pub(crate) permission: Arc<dyn Permission>,
}

impl Guard {
    /// None for a transaction that attaches to no lease.
    pub(crate) fn of(txn: &Txn, permission: Arc<dyn Permission>) -> Option<Box<Guard>> {
        let mut leases = Vec::new();
        attached(txn, &mut leases);
        leases.sort_unstable();
        leases.dedup();
        (!leases.is_empty()).then(|| Box::new(Guard { leases, permission }))
    }
}

fn attached(txn: &Txn, leases: &mut Vec<LeaseId>) {
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            TxnOp::Put(put) => {
                if let PutLease::Attach(lease) = put.lease {
                    leases.push(lease);
                }
            }
            TxnOp::Txn(txn) => attached(txn, leases),
            TxnOp::Range(_) | TxnOp::Delete(_) => {}
        }
    }
}

/// Whether a key among these, of which only those count that `counts` says, is not covered. What is covered is leapt over,
/// however many keys that are.
pub(crate) fn any_beyond(
    keys: &BTreeSet<StoredKey>,
    permission: &dyn Permission,
    counts: impl Fn(&StoredKey) -> bool,
) -> bool {
    let mut from = Bound::Unbounded;
    while let Some(key) = keys.range::<[u8], _>((from, Bound::Unbounded)).next() {
        from = match permission.reach(key) {
            Reach::End => return false,
            Reach::To(end) if end > key.as_ref() => Bound::Included(end),
            Reach::Nowhere if counts(key) => return true,
            Reach::To(_) | Reach::Nowhere => Bound::Excluded(key.as_ref()),
        };
    }
    false
}

impl Engine {
    /// As [`lease_revoke`](synod_store::Store::lease_revoke), for somebody who may not write every key.
    ///
    /// # Cancel safety
    ///
    /// As that of the store's method.
    ///
    /// # Errors
    ///
    /// Also [`ErrorKind::PermissionDenied`](synod_store::ErrorKind::PermissionDenied) when a key that would be deleted
    /// may not be written; the lease stays then.
    pub async fn lease_revoke_as(
        &self,
        id: LeaseId,
        permission: Arc<dyn Permission>,
    ) -> Result<LeaseRevokeResponse> {
        let permission = Some(permission);
        let command = |reply| Command::Revoke {
            id,
            permission,
            reply,
        };
        self.shared().ask(0, command).await
    }

    /// As [`put`](synod_store::Store::put), for somebody who may not write every key. Whether this key may be written, the
    /// caller has seen.
    ///
    /// # Cancel safety
    ///
    /// As that of the store's method.
    ///
    /// # Errors
    ///
    /// Also [`ErrorKind::PermissionDenied`](synod_store::ErrorKind::PermissionDenied) when another key of the lease that
    /// it attaches to may not be written.
    pub async fn put_as(
        &self,
        request: PutRequest,
        permission: Arc<dyn Permission>,
    ) -> Result<PutResponse> {
        self.run_put(request, Some(permission)).await
    }

    /// As [`txn`](synod_store::Store::txn), for somebody who may not write every key. Whether the keys that it names may
    /// be read and written, the caller has seen.
    ///
    /// # Cancel safety
    ///
    /// As that of the store's method.
    ///
    /// # Errors
    ///
    /// Also [`ErrorKind::PermissionDenied`](synod_store::ErrorKind::PermissionDenied) when a key may not be written of a
    /// lease that one of its puts would attach to, whichever branch is taken.
    pub async fn txn_as(&self, txn: Txn, permission: Arc<dyn Permission>) -> Result<TxnResponse> {
        self.run_txn(txn, Some(permission)).await
    }
}
