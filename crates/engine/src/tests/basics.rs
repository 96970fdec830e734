//! What a first user does with the engine.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use synod_store::{
    Compare, DeleteRequest, ErrorKind, EventKind, KeyRange, LeaseGrantRequest, LeaseId, PutRequest,
    RangeRequest, Revision, Store, Txn, TxnOp, WatchItem, WatchRequest,
};

use super::*;
use crate::ManualClock;

#[tokio::test]
async fn put_read_delete() {
    let store = memory();
    let put = store.put(PutRequest::new("a", "1")).await.unwrap();
    assert_eq!(put.header.revision, Revision(2));
    assert!(put.header.cluster_id != 0 && put.header.member_id != 0 && put.header.raft_term != 0);
    store.put(PutRequest::new("b", "2")).await.unwrap();
    let range = store
        .range(RangeRequest::new(KeyRange::all()).with_limit(1))
        .await
        .unwrap();
    assert_eq!((range.kvs.len(), range.count, range.more), (1, 2, true));
    let gone = store
        .delete(DeleteRequest::new("a").with_prev_kv())
        .await
        .unwrap();
    assert_eq!(gone.deleted, 1);
    assert_eq!(gone.prev_kvs[0].value, "1");
    let gone = store.delete(DeleteRequest::new("a")).await.unwrap();
    assert_eq!((gone.deleted, gone.header.revision), (0, Revision(4)));
    let old = store
        .range(RangeRequest::new("a").at(Revision(3)))
        .await
        .unwrap();
    assert_eq!(
        (old.kvs[0].value.as_ref(), old.header.revision),
        (&b"1"[..], Revision(4))
    );
    store.close().await.unwrap();
    let closed = store.put(PutRequest::new("a", "1")).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_transaction_reads_what_it_wrote_and_nests() {
    let store = memory();
    let nested = Txn::new()
        .when([Compare::absent("a")])
        .and_then([TxnOp::from(RangeRequest::new(KeyRange::prefix("a")))]);
    let txn = Txn::new()
        .and_then([TxnOp::from(PutRequest::new("a", "1")), nested.into()])
        .when([Compare::absent("a")]);
    let answer = store.txn(txn.clone()).await.unwrap();
    assert!(answer.succeeded);
    assert_eq!(answer.header.revision, Revision(2));
    let nested = answer.responses[1].clone().into_txn().unwrap();
    assert!(
        nested.succeeded,
        "conditions are decided before anything is written"
    );
    assert_eq!(nested.header.revision, Revision::ZERO);
    let range = nested.responses[0].clone().into_range().unwrap();
    assert_eq!((range.kvs.len(), range.header.revision), (1, Revision(2)));
    assert!(!store.txn(txn).await.unwrap().succeeded);
}

#[tokio::test]
async fn a_watch_sees_the_past_and_the_present() {
    let store = memory();
    for value in ["1", "2"] {
        store.put(PutRequest::new("a", value)).await.unwrap();
    }
    let mut past = store
        .watch(WatchRequest::new("a").starting_at(Revision(2)))
        .await
        .unwrap();
    let mut now = store
        .watch(WatchRequest::new(KeyRange::prefix("a")))
        .await
        .unwrap();
    assert_eq!(now.header().revision, Revision(3));
    store.delete(DeleteRequest::new("a")).await.unwrap();
    let put = |revision| (EventKind::Put, "a".to_owned(), revision);
    let delete = (EventKind::Delete, "a".to_owned(), 4);
    assert_eq!(events(&mut past, 3).await, [put(2), put(3), delete.clone()]);
    assert_eq!(events(&mut now, 1).await, [delete]);
    now.request_progress();
    assert_eq!(next(&mut now).await, WatchItem::Progress(Revision(4)));
    store.compact(Revision(3), true).await.unwrap();
    let mut lost = store
        .watch(WatchRequest::new("a").starting_at(Revision(2)))
        .await
        .unwrap();
    let compact_revision = Revision(3);
    assert_eq!(
        next(&mut lost).await,
        WatchItem::Compacted { compact_revision }
    );
    assert!(lost.next().await.is_none());
    assert_eq!(store.stats().watchers, 3);
    drop((past, now, lost));
    assert_eq!(store.stats().watchers, 0);
}

#[tokio::test]
async fn a_lease_takes_its_keys_along() {
    let clock = ManualClock::new();
    let options = EngineOptions::memory().with_clock(Arc::new(clock.clone()));
    let store = Engine::open(options).unwrap();
    let id = LeaseId::new(7).unwrap();
    let second = Duration::from_secs(1);
    let grant = LeaseGrantRequest::new(second).with_id(id);
    assert_eq!(store.lease_grant(grant).await.unwrap().ttl, 2 * second);
    for key in ["b", "a"] {
        store
            .put(PutRequest::new(key, "v").with_lease(id))
            .await
            .unwrap();
    }
    let mut watch = store
        .watch(WatchRequest::new(KeyRange::all()))
        .await
        .unwrap();
    clock.advance(second);
    store.lease_keep_alive(id).await.unwrap();
    clock.advance(second);
    let left = store.lease_time_to_live(id, true).await.unwrap();
    assert_eq!((left.remaining, left.keys.len()), (Some(second), 2));
    clock.advance(second);
    let delete = |key: &str| (EventKind::Delete, key.to_owned(), 4);
    assert_eq!(events(&mut watch, 2).await, [delete("a"), delete("b")]);
    let gone = store.lease_keep_alive(id).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::LeaseNotFound);
    assert_eq!(
        store.lease_time_to_live(id, true).await.unwrap().remaining,
        None
    );
}
