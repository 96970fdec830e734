//! Watches: complete, in order, whole; slow ones, quiet ones, early and late ones.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    DeleteRequest, ErrorKind, EventFilter, KeyRange, PutRequest, Revision, Store, Txn, TxnOp,
    WatchRequest,
};

use super::*;
use crate::{EngineOptions, ManualClock};

fn put_event(key: &str, revision: u64) -> (EventKind, String, u64) {
    (EventKind::Put, key.to_owned(), revision)
}

#[tokio::test]
async fn a_consumer_that_sleeps_costs_no_more_than_its_queue_and_misses_nothing() {
    let store = memory();
    let mut slow = store.watch(WatchRequest::new("k")).await.unwrap();
    let mut other = store.watch(WatchRequest::new("other")).await.unwrap();
    for value in 0..20_000 {
        let txn = Txn::new().and_then([
            TxnOp::from(PutRequest::new("k", value.to_string())),
            PutRequest::new("k2", "").into(),
        ]);
        store.txn(txn).await.unwrap();
    }
    assert_eq!(
        store.shared().hub.live(),
        1,
        "the slow one is on its own by now"
    );
    put(&store, "other", "1").await;
    assert_eq!(events(&mut other, 1).await.len(), 1);
    let mut expected = 2..20_002;
    while !expected.is_empty() {
        let WatchItem::Events(batch) = next(&mut slow).await else {
            panic!("only events are expected");
        };
        for event in batch.events {
            assert_eq!(Some(event.kv.mod_revision.0), expected.next());
        }
    }
    // It has joined the live ones again.
    put(&store, "k", "last").await;
    assert_eq!(events(&mut slow, 1).await, [put_event("k", 20_003)]);
}

#[tokio::test]
async fn a_consumer_whose_history_is_gone_is_told_after_what_it_had() {
    let store = memory();
    let mut slow = store.watch(WatchRequest::new("k")).await.unwrap();
    for value in 0..6_000 {
        put(&store, "k", &value.to_string()).await;
    }
    let head = store.status().await.unwrap().header.revision;
    store.compact(head, true).await.unwrap();
    let mut last = 1;
    loop {
        match next(&mut slow).await {
            WatchItem::Events(batch) => {
                for event in batch.events {
                    last += 1;
                    assert_eq!(event.kv.mod_revision.0, last);
                }
            }
            WatchItem::Compacted { compact_revision } => {
                assert_eq!(compact_revision, head);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((2..head.0).contains(&last), "{last}");
    assert!(slow.next().await.is_none());
}

#[tokio::test]
async fn filters_and_previous_pairs() {
    let store = memory();
    put(&store, "a", "1").await;
    let no_put = WatchRequest::new("a")
        .starting_at(Revision(2))
        .without(EventFilter::NoPut);
    let no_delete = WatchRequest::new("a")
        .without(EventFilter::NoDelete)
        .with_prev_kv();
    let mut no_put = store.watch(no_put).await.unwrap();
    let mut no_delete = store.watch(no_delete).await.unwrap();
    put(&store, "a", "2").await;
    delete(&store, KeyRange::one("a")).await;
    put(&store, "a", "3").await;
    let WatchItem::Events(batch) = next(&mut no_delete).await else {
        panic!()
    };
    assert_eq!(
        batch.events[0].prev_kv.as_ref().map(|kv| kv.value.as_ref()),
        Some(&b"1"[..])
    );
    let WatchItem::Events(batch) = next(&mut no_delete).await else {
        panic!()
    };
    assert_eq!(
        (
            batch.events[0].prev_kv.is_none(),
            batch.events[0].is_create()
        ),
        (true, true)
    );
    let deleted = (EventKind::Delete, "a".to_owned(), 4);
    assert_eq!(events(&mut no_put, 1).await, [deleted]);
}

/// A deletion without an end goes together with puts of what it deletes: each of these keys changes twice.
#[tokio::test]
async fn what_one_transaction_deletes_and_puts_again_is_seen_in_its_order() {
    const KEYS: usize = 1000;
    let store = memory();
    let key = |number: usize| format!("k{number:04}");
    for first in (0..KEYS).step_by(100) {
        let puts = (first..first + 100).map(|number| PutRequest::new(key(number), "old"));
        store.txn(Txn::new().and_then(puts)).await.unwrap();
    }
    let all = || WatchRequest::new(KeyRange::prefix("k")).with_prev_kv();
    let mut live = store.watch(all()).await.unwrap();
    let again: Vec<usize> = (0..KEYS).rev().step_by(2).collect();
    let nested = again.chunks(100).map(|some| {
        let puts = some.iter().map(|n| PutRequest::new(key(*n), "new"));
        TxnOp::from(Txn::new().and_then(puts))
    });
    let delete = TxnOp::from(DeleteRequest::new(KeyRange::from("\0")));
    let txn = Txn::new().and_then([delete].into_iter().chain(nested));
    let revision = store.txn(txn).await.unwrap().header.revision;
    let mut expected: Vec<_> = (0..KEYS)
        .map(|number| (EventKind::Delete, key(number), "old"))
        .collect();
    expected.extend(again.iter().map(|n| (EventKind::Put, key(*n), "new")));
    let mut late = store.watch(all().starting_at(revision)).await.unwrap();
    for watch in [&mut live, &mut late] {
        let WatchItem::Events(batch) = next(watch).await else {
            panic!("only events are expected");
        };
        let seen: Vec<_> = batch
            .events
            .iter()
            .map(|event| {
                assert_eq!(event.kv.mod_revision, revision);
                let kv = event.prev_kv.as_ref().unwrap_or(&event.kv);
                let value = std::str::from_utf8(&kv.value).unwrap();
                (event.kind, event.kv.key.to_string(), value)
            })
            .collect();
        assert_eq!(seen, expected);
    }
}

/// etcd-io/etcd#19179: a watch from the compacted revision sees a deletion made there.
#[tokio::test]
async fn issue_19179_a_deletion_at_the_compacted_revision_is_seen() {
    let store = memory();
    put(&store, "a", "1").await;
    put(&store, "b", "1").await;
    delete(&store, KeyRange::all()).await;
    store.compact(Revision(4), true).await.unwrap();
    let request = WatchRequest::new(KeyRange::all())
        .starting_at(Revision(4))
        .with_prev_kv();
    let mut watch = store.watch(request).await.unwrap();
    let gone = |key: &str| (EventKind::Delete, key.to_owned(), 4);
    assert_eq!(events(&mut watch, 2).await, [gone("a"), gone("b")]);
    assert_eq!(store.stats().keys, 0);
    put(&store, "c", "1").await;
    store.compact(Revision(5), true).await.unwrap();
    assert_eq!(store.stats().history_bytes, 0);
}

/// etcd-io/etcd#18089: compacting at a deletion drops no event behind it.
#[tokio::test]
async fn issue_18089_nothing_behind_a_compaction_is_lost() {
    let store = memory();
    put(&store, "a", "1").await;
    delete(&store, KeyRange::one("a")).await;
    put(&store, "a", "2").await;
    delete(&store, KeyRange::one("a")).await;
    let mut paused = store
        .watch(WatchRequest::new("a").starting_at(Revision(4)))
        .await
        .unwrap();
    store.compact(Revision(3), true).await.unwrap();
    store.compact(Revision(4), true).await.unwrap();
    let gone = (EventKind::Delete, "a".to_owned(), 5);
    assert_eq!(events(&mut paused, 2).await, [put_event("a", 4), gone]);
}

/// etcd-io/etcd#20221: a watch of the future hears of nothing before it.
#[tokio::test]
async fn issue_20221_the_future_is_waited_for_in_silence() {
    let store = memory();
    let mut future = store
        .watch(WatchRequest::new("a").starting_at(Revision(5)))
        .await
        .unwrap();
    future.request_progress();
    for value in 0..5 {
        put(&store, "a", &value.to_string()).await;
    }
    let mut told = Vec::new();
    while !told.contains(&6) {
        match next(&mut future).await {
            WatchItem::Events(batch) => {
                told.extend(batch.events.iter().map(|event| event.kv.mod_revision.0));
            }
            WatchItem::Progress(revision) => assert!(revision >= Revision(4), "{revision}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, [5, 6]);
    let mut never = store
        .watch(WatchRequest::new("a").starting_at(Revision(99)))
        .await
        .unwrap();
    never.request_progress();
    put(&store, "a", "x").await;
    assert!(is_silent(&mut never));
}

#[tokio::test]
async fn a_quiet_watch_reports_its_progress() {
    let clock = ManualClock::new();
    let options = EngineOptions::memory().with_clock(Arc::new(clock.clone()));
    let store = Engine::open(options).unwrap();
    let request = WatchRequest::new("a").with_progress_notify();
    let mut quiet = store.watch(request.clone()).await.unwrap();
    let mut silent = store.watch(WatchRequest::new("a")).await.unwrap();
    let mut future = store
        .watch(request.starting_at(Revision(50)))
        .await
        .unwrap();
    put(&store, "b", "1").await;
    clock.advance(Duration::from_secs(599));
    put(&store, "b", "2").await;
    assert!(is_silent(&mut quiet));
    clock.advance(Duration::from_secs(1));
    assert_eq!(next(&mut quiet).await, WatchItem::Progress(Revision(3)));
    put(&store, "a", "1").await;
    assert_eq!(events(&mut quiet, 1).await.len(), 1);
    clock.advance(Duration::from_secs(300));
    put(&store, "b", "3").await;
    assert!(is_silent(&mut quiet));
    clock.advance(Duration::from_secs(300));
    assert_eq!(next(&mut quiet).await, WatchItem::Progress(Revision(5)));
    assert_eq!(events(&mut silent, 1).await.len(), 1);
    assert!(is_silent(&mut silent));
    assert!(is_silent(&mut future));
}

#[tokio::test]
async fn a_range_that_holds_nothing_cannot_be_watched() {
    let store = memory();
    let empty = WatchRequest::new(KeyRange::between("b", "b"));
    assert_eq!(
        store.watch(empty).await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert_eq!(store.stats().watchers, 0);
    // An empty key stands for the first one.
    let mut all = store
        .watch(WatchRequest::new(KeyRange::from("")))
        .await
        .unwrap();
    put(&store, "a", "1").await;
    assert_eq!(events(&mut all, 1).await, [put_event("a", 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watches_that_begin_at_any_moment_miss_nothing_and_see_nothing_twice() {
    const WRITES: u64 = 4_000;
    let store = memory();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for write in 0..WRITES {
                let txn = Txn::new().and_then([
                    TxnOp::from(PutRequest::new(format!("k{}", write % 10), "v")),
                    PutRequest::new("k/all", "v").into(),
                ]);
                store.txn(txn).await.unwrap();
            }
        }
    });
    let mut watchers = Vec::new();
    for turn in 0..40_u64 {
        let start = store.status().await.unwrap().header.revision;
        let store = store.clone();
        watchers.push(tokio::spawn(async move {
            let first = start.0.saturating_sub(turn * 20).max(2);
            let request = WatchRequest::new(KeyRange::prefix("k")).starting_at(Revision(first));
            let mut watch = store.watch(request).await.unwrap();
            let mut revision = first;
            while revision <= WRITES + 1 {
                let WatchItem::Events(batch) = next(&mut watch).await else {
                    panic!("only events are expected");
                };
                for pair in batch.events.chunks(2) {
                    let revisions: Vec<u64> = pair.iter().map(|e| e.kv.mod_revision.0).collect();
                    assert_eq!(revisions, [revision, revision]);
                    assert_eq!(pair[1].kv.key.as_ref(), b"k/all");
                    revision += 1;
                }
            }
        }));
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    for watcher in watchers {
        watcher.await.unwrap();
    }
}

#[tokio::test]
async fn ten_thousand_watches_on_single_keys() {
    let store = memory();
    let mut watches = Vec::new();
    for key in 0..10_000 {
        let request = WatchRequest::new(format!("k{key}"));
        watches.push(store.watch(request).await.unwrap());
    }
    for key in (0..10_000).step_by(100) {
        put(&store, &format!("k{key}"), "v").await;
    }
    let request = DeleteRequest::new(KeyRange::prefix("k99"));
    assert_eq!(store.delete(request).await.unwrap().deleted, 1);
    for (key, watch) in watches.iter_mut().enumerate() {
        if key % 100 == 0 {
            events(watch, 1).await;
        }
        if key == 9900 {
            events(watch, 1).await;
        }
        assert!(is_silent(watch));
    }
    assert_eq!(store.stats().watchers, 10_000);
}
