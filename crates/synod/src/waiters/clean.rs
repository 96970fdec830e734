//! Keys that must not stay: deleting one's own, and looking for late copies of it.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{Compare, DeleteRequest, Key, RangeRequest, Revision, Store, Txn};
use tokio::time::Instant;

use crate::Result;
use crate::retry::{self, Backoff};

/// How long a dropped waiter's key is worth asking for; the lease is the backstop.
const CLEAN_UP: Duration = Duration::from_secs(30);

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

/// Deletes a key for a caller who has left.
pub(super) async fn leave_unwatched(store: &dyn Store, key: &Key, created: Revision) {
    if let Err(error) = leave(store, key, created, CLEAN_UP).await {
        tracing::debug!(%key, %error, "a waiter's key is left to its lease");
    }
}

/// Deletes a key that one call alone can have made, whenever it is there: copies of the request may
/// still be on their way.
pub(crate) async fn leave_unseen(store: Arc<dyn Store>, key: Key) {
    let deadline = Instant::now() + CLEAN_UP;
    let request = RangeRequest::new(key.clone()).keys_only();
    let mut backoff = Backoff::new();
    while Instant::now() < deadline {
        let created = match store.range(request.clone()).await {
            Ok(range) => range.kvs.first().map(|kv| kv.create_revision),
            Err(_) => None,
        };
        if let Some(created) = created {
            leave_unwatched(&*store, &key, created).await;
        }
        backoff.wait().await;
    }
}
