//! What was before a restart is there after it.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    ErrorKind, KeyRange, LeaseGrantRequest, PutRequest, Revision, Store, Txn, TxnOp,
};

use super::*;
use crate::journal::Sim;
use crate::{ManualClock, verify};

/// A store with some of everything.
async fn fill(store: &Engine, round: u64) {
    let id = lease(i64::try_from(round).unwrap() + 1);
    let grant = LeaseGrantRequest::new(Duration::from_secs(30)).with_id(id);
    store.lease_grant(grant).await.unwrap();
    for key in ["a", "b", "c"] {
        put(store, key, &format!("{round}{key}")).await;
    }
    store
        .put(PutRequest::new("leased", "x").with_lease(id))
        .await
        .unwrap();
    delete(store, KeyRange::between("b", "d")).await;
    let txn = Txn::new().and_then([
        TxnOp::from(PutRequest::new("z", "1")),
        PutRequest::new("y", "2").into(),
        Txn::new().and_then([PutRequest::new("w", "3")]).into(),
        Txn::new()
            .and_then([synod_store::DeleteRequest::new("w")])
            .into(),
    ]);
    store.txn(txn).await.unwrap();
    if round % 3 == 2 {
        store.lease_revoke(id).await.unwrap();
    }
}

#[tokio::test]
async fn a_restart_changes_nothing_but_the_term() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Engine::open(EngineOptions::file(dir.path())).unwrap();
    let mut store = open();
    for round in 0..12 {
        fill(&store, round).await;
        match round % 4 {
            1 => store.defragment().await.unwrap(),
            2 => {
                let head = store.status().await.unwrap().header.revision;
                store
                    .compact(Revision(head.0 - 5), round == 6)
                    .await
                    .unwrap();
            }
            _ => {}
        }
        // Pruning goes on in the background; a state that is loaded is pruned at once.
        let head = store.status().await.unwrap().header;
        store
            .compact(Revision(head.revision.0 - 3), true)
            .await
            .unwrap();
        let before = everything(&store).await;
        if round % 2 == 0 {
            store.close().await.unwrap();
        }
        drop(store);
        let report = verify(dir.path()).unwrap();
        assert_eq!(report.damage, None);
        assert_eq!(report.revision, head.revision.0);
        assert_eq!((report.opened, report.torn_tail), (round + 1, false));
        store = open();
        assert_eq!(everything(&store).await, before);
        let after = store.status().await.unwrap();
        assert_eq!(after.header.raft_term, round + 2);
        assert_eq!(after.header.member_id, head.member_id);
        assert!(after.raft_index > 0 && after.db_size > 0);
    }
}

#[tokio::test]
async fn leases_have_their_whole_time_again() {
    let clock = ManualClock::new();
    let sim = Sim::default();
    let options = || EngineOptions::file("/d").with_clock(Arc::new(clock.clone()));
    let store = Engine::open_in(sim.clone(), options()).unwrap();
    let grant = LeaseGrantRequest::new(Duration::from_secs(10)).with_id(lease(1));
    store.lease_grant(grant).await.unwrap();
    store
        .put(PutRequest::new("k", "v").with_lease(lease(1)))
        .await
        .unwrap();
    clock.advance(Duration::from_secs(9));
    let left = store.lease_time_to_live(lease(1), false).await.unwrap();
    assert_eq!(left.remaining, Some(Duration::from_secs(1)));
    store.close().await.unwrap();
    clock.advance(Duration::from_secs(100));
    let store = Engine::open_in(sim, options()).unwrap();
    let left = store.lease_time_to_live(lease(1), true).await.unwrap();
    assert_eq!(left.remaining, Some(Duration::from_secs(10)));
    assert_eq!(left.keys.len(), 1);
    let mut watch = store
        .watch(synod_store::WatchRequest::new("k"))
        .await
        .unwrap();
    clock.advance(Duration::from_secs(10));
    assert_eq!(events(&mut watch, 1).await[0].0, EventKind::Delete);
}

#[tokio::test]
async fn a_directory_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Engine::open(EngineOptions::file(dir.path())).unwrap();
    let second = Engine::open(EngineOptions::file(dir.path())).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::InUse);
    assert!(
        second.message().contains("have one process serve it"),
        "{second}"
    );
    assert_eq!(verify(dir.path()).unwrap_err().kind(), ErrorKind::InUse);
    // A watch does not keep a store open.
    let mut watch = store
        .watch(synod_store::WatchRequest::new("k"))
        .await
        .unwrap();
    drop(store);
    let store = Engine::open(EngineOptions::file(dir.path())).unwrap();
    let ended = watch.next().await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Closed);
    assert!(watch.next().await.is_none());
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert!(verify(dir.path()).unwrap().damage.is_none());
}

#[tokio::test]
async fn a_long_log_is_replaced_by_a_snapshot_while_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = EngineOptions::file(dir.path());
    options.snapshot_bytes = 1 << 20;
    let store = Engine::open(options).unwrap();
    let value = "v".repeat(10_000);
    for turn in 0..1500 {
        put(&store, &format!("k{}", turn % 7), &value).await;
        if turn % 100 == 0 {
            let head = store.status().await.unwrap().header.revision;
            let _ = store
                .compact(Revision(head.0.saturating_sub(50)), false)
                .await;
        }
    }
    let head = store.status().await.unwrap().header.revision;
    store.compact(head, true).await.unwrap();
    let before = everything(&store).await;
    store.close().await.unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(report.has_snapshot && report.damage.is_none(), "{report:?}");
    assert!(report.records < 1500, "{report:?}");
    let store = Engine::open(EngineOptions::file(dir.path())).unwrap();
    assert_eq!(everything(&store).await, before);
}
