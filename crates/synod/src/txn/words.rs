//! Short words for the operations of a [`Txn`](super::Txn).

use bytes::Bytes;
use synod_store::{DeleteRequest, Key, KeyRange, LeaseId, PutRequest, RangeRequest, TxnOp};

/// Reads a key, or all keys of a range.
///
/// For limits, orders and older revisions make a [`RangeRequest`] and convert it.
pub fn get(range: impl Into<KeyRange>) -> TxnOp {
    RangeRequest::new(range).into()
}

/// Puts a value under a key, without a lease.
pub fn put(key: impl Into<Key>, value: impl Into<Bytes>) -> TxnOp {
    PutRequest::new(key, value).into()
}

/// Puts a value under a key that goes when the lease does.
pub fn put_with_lease(key: impl Into<Key>, value: impl Into<Bytes>, lease: LeaseId) -> TxnOp {
    PutRequest::new(key, value).with_lease(lease).into()
}

/// Deletes a key, or all keys of a range.
pub fn delete(range: impl Into<KeyRange>) -> TxnOp {
    DeleteRequest::new(range).into()
}

/// A transaction inside another: give it conditions and operations, and convert it to a [`TxnOp`].
pub fn nested() -> synod_store::Txn {
    synod_store::Txn::new()
}
