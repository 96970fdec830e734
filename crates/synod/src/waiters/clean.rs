//! Deleting a key of one's own.

use std::time::Duration;

use synod_store::{Compare, DeleteRequest, Key, Revision, Store, Txn};

use crate::{Result, retry};

/// Deletes a key if it is still the one that was created then. False when it had gone already; after
/// a lost answer that cannot be told, and nobody else is expected to have deleted it: true.
pub(super) async fn leave(
    store: &dyn Store,
    key: &Key,
    created: Revision,
    patience: Duration,
) -> Result<bool> {
    let txn = Txn::new()
        .when([Compare::created_at(key.clone(), created)])
        .and_then([DeleteRequest::new(key.clone())]);
    let sent = retry::txn(store, &txn, patience).await;
    Ok(sent.answer?.succeeded || sent.doubt)
}
