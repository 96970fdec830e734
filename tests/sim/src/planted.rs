//! Stores with a fault, to see that the checkers object.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use synod_store::*;

use crate::plan::Planted;

/// A store that forgets a part of what it was asked.
#[derive(Debug)]
pub(crate) struct Forgetful {
    store: Arc<dyn Store>,
    planted: Planted,
    seen: Mutex<HashSet<String>>,
}

impl Forgetful {
    pub(crate) fn new(store: Arc<dyn Store>, planted: Planted) -> Forgetful {
        Forgetful {
            store,
            planted,
            seen: Mutex::default(),
        }
    }

    /// The transaction without what is forgotten of it.
    fn spoil(&self, txn: &mut Txn) {
        let ignored = |compare: &Compare| match (&compare.operand, self.planted) {
            // Whether a key is as it was read: claims, lanes, what a transaction has read.
            (CompareOperand::ModRevision(_), Planted::IgnoredCompare) => true,
            // Whether the key by which one holds something is still there.
            (CompareOperand::CreateRevision(created), Planted::IgnoredFence) => *created != 0,
            _ => false,
        };
        txn.compares.retain(|compare| !ignored(compare));
        if self.planted == Planted::UnreadCompare {
            // Whether a list that is read and not written is as it was.
            let written = written(txn);
            txn.compares.retain(|compare| {
                let key = compare.range.start();
                !key.starts_with(b"sim/list/") || written.contains(key)
            });
        }
        if self.planted == Planted::AppliedTwice
            && txn.compares.len() > 1
            && !self.seen.lock().unwrap().insert(format!("{txn:?}"))
        {
            txn.compares.clear();
        }
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            if let TxnOp::Txn(inner) = op {
                self.spoil(inner);
            }
        }
    }
}

/// The keys that a transaction may put.
fn written(txn: &Txn) -> HashSet<Key> {
    let mut keys = HashSet::new();
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            TxnOp::Put(put) => {
                keys.insert(put.key.clone());
            }
            TxnOp::Txn(inner) => keys.extend(written(inner)),
            TxnOp::Range(_) | TxnOp::Delete(_) => {}
        }
    }
    keys
}

impl Store for Forgetful {
    fn txn(&self, mut txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        self.spoil(&mut txn);
        self.store.txn(txn)
    }

    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        self.store.range(request)
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        self.store.put(request)
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        self.store.delete(request)
    }

    fn compact(&self, to: Revision, physical: bool) -> BoxFuture<'_, Result<CompactResponse>> {
        self.store.compact(to, physical)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        self.store.watch(request)
    }

    synod_store::forward!(store: lease_grant, lease_revoke, lease_keep_alive, lease_time_to_live, leases, status, alarms, disarm, hash_kv, defragment, members, replies);
}
