//! The etcd store against a real etcd: each request of the contract, and the sizes and numbers
//! that streams and answers reach.

use std::time::Duration;

use futures_util::StreamExt;
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_store::{
    Compare, DeleteRequest, ErrorKind, EventKind, KeyRange, LeaseGrantRequest, LeaseId, PutRequest,
    RangeRequest, Replies, Revision, Store, Txn, TxnOp, Watch, WatchItem, WatchRequest,
};
use synod_tests::etcd::Etcd;
use synod_tests::{etcd_or_skip, wait};

async fn connect(etcd: &Etcd) -> EtcdStore {
    let options = EtcdOptions::new(etcd.endpoints());
    EtcdStore::connect(options).await.unwrap()
}

async fn next(watch: &mut Watch) -> WatchItem {
    wait::soon("an item", watch.next()).await.unwrap().unwrap()
}

/// The revisions of a number of events, however many come at once.
async fn revisions(watch: &mut Watch, count: usize) -> Vec<u64> {
    let mut revisions = Vec::new();
    while revisions.len() < count {
        let WatchItem::Events(batch) = next(watch).await else {
            panic!("events");
        };
        revisions.extend(batch.events.iter().map(|event| event.kv.mod_revision.0));
    }
    revisions
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_its_answer() {
    let etcd = etcd_or_skip!();
    let store = connect(&etcd).await;
    assert_eq!(store.replies(), Replies::Lossy);

    let put = store.put(PutRequest::new("a", "1")).await.unwrap();
    assert_eq!(put.header.revision, Revision(2));
    let put = PutRequest::new("a", "2").with_prev_kv();
    let prev = store.put(put).await.unwrap().prev_kv.unwrap();
    assert_eq!(&prev.value[..], b"1");
    let range = store.range(RangeRequest::new("a")).await.unwrap();
    assert_eq!(&range.kvs[0].value[..], b"2");
    let missing = store.range(RangeRequest::new("")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::EmptyKey);

    let txn = Txn::new()
        .when([Compare::absent("b")])
        .and_then([
            TxnOp::from(PutRequest::new("b", "1")),
            RangeRequest::new("b").into(),
        ])
        .or_else([RangeRequest::new("b")]);
    assert!(store.txn(txn.clone()).await.unwrap().succeeded);
    let answer = store.txn(txn).await.unwrap();
    assert!(!answer.succeeded);
    let read = answer.responses[0].clone().into_range().unwrap();
    assert_eq!(read.kvs.len(), 1);
    let delete = DeleteRequest::new(KeyRange::prefix("b"));
    assert_eq!(store.delete(delete).await.unwrap().deleted, 1);

    store.compact(Revision(4), true).await.unwrap();
    let again = store.compact(Revision(4), false).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Compacted);
    let old = store.range(RangeRequest::new("a").at(Revision(2))).await;
    assert_eq!(old.unwrap_err().kind(), ErrorKind::Compacted);

    let status = store.status().await.unwrap();
    assert!(status.version.starts_with("3."), "{}", status.version);
    assert_eq!(store.alarms().await.unwrap(), []);
    let hash = store.hash_kv(Revision::ZERO).await.unwrap();
    assert_eq!(hash.header.revision, Revision(5));
    store.defragment().await.unwrap();
    let members = store.members().await.unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].client_urls, etcd.endpoints());
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_live_while_they_are_renewed_and_take_their_keys_along() {
    let etcd = etcd_or_skip!();
    let store = connect(&etcd).await;
    let ttl = Duration::from_secs(60);
    let lease = store
        .lease_grant(LeaseGrantRequest::new(ttl))
        .await
        .unwrap();
    assert_eq!(lease.ttl, ttl);
    let put = PutRequest::new("a", "1").with_lease(lease.id);
    store.put(put).await.unwrap();

    let renewals = (0..100).map(|_| store.lease_keep_alive(lease.id));
    for renewed in futures_util::future::join_all(renewals).await {
        assert_eq!(renewed.unwrap().ttl, ttl);
    }
    let info = store.lease_time_to_live(lease.id, true).await.unwrap();
    assert_eq!(info.keys, [synod_store::Key::from("a")]);
    assert_eq!(store.leases().await.unwrap().leases, [lease.id]);

    let taken = LeaseGrantRequest::new(ttl).with_id(lease.id);
    let error = store.lease_grant(taken).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseExists);
    assert!(!error.is_maybe_applied());
    let own = LeaseId::new(77).unwrap();
    let asked = LeaseGrantRequest::new(ttl).with_id(own);
    assert_eq!(store.lease_grant(asked).await.unwrap().id, own);

    store.lease_revoke(lease.id).await.unwrap();
    let range = store.range(RangeRequest::new("a")).await.unwrap();
    assert_eq!(range.count, 0);
    let gone = store.lease_keep_alive(lease.id).await.unwrap_err();
    assert!(gone.is_lease_gone());
    let gone = store.lease_revoke(lease.id).await.unwrap_err();
    assert!(gone.is_lease_gone());
    let info = store.lease_time_to_live(lease.id, false).await.unwrap();
    assert_eq!(info.remaining, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_reports_from_any_revision_and_says_when_it_cannot() {
    let etcd = etcd_or_skip!();
    let store = connect(&etcd).await;
    for value in ["1", "2", "3"] {
        store.put(PutRequest::new("a", value)).await.unwrap();
    }
    let past = WatchRequest::new("a").starting_at(Revision(3));
    let mut past = store.watch(past.with_prev_kv()).await.unwrap();
    let mut now = store.watch(WatchRequest::new("a")).await.unwrap();
    assert_eq!(now.header().revision, Revision(4));
    store.delete(DeleteRequest::new("a")).await.unwrap();
    assert_eq!(revisions(&mut past, 3).await, [3, 4, 5]);
    let WatchItem::Events(batch) = next(&mut now).await else {
        panic!("an event");
    };
    assert_eq!(batch.revision, Revision(5));
    assert_eq!(batch.events[0].kind, EventKind::Delete);

    now.request_progress();
    assert_eq!(next(&mut now).await, WatchItem::Progress(Revision(5)));
    past.request_progress();
    assert_eq!(next(&mut past).await, WatchItem::Progress(Revision(5)));

    store.compact(Revision(4), false).await.unwrap();
    let lost = WatchRequest::new("a").starting_at(Revision(2));
    let mut lost = store.watch(lost).await.unwrap();
    let item = next(&mut lost).await;
    let compact_revision = Revision(4);
    assert_eq!(item, WatchItem::Compacted { compact_revision });
    assert!(wait::soon("the end", lost.next()).await.is_none());

    let empty = KeyRange::Between("b".into(), "a".into());
    let error = store.watch(WatchRequest::new(empty)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    // The stream lives on.
    store.put(PutRequest::new("a", "4")).await.unwrap();
    assert_eq!(revisions(&mut now, 1).await, [6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watches_share_a_stream() {
    let etcd = etcd_or_skip!();
    let bridge = synod_tests::bridge::Bridge::to(&etcd.endpoints()[0]).await;
    let options = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    let store = EtcdStore::connect(options).await.unwrap();
    let asked = (0..1000).map(|n| store.watch(WatchRequest::new(format!("k{n}"))));
    let watches = futures_util::future::join_all(asked).await;
    let watches: Vec<Watch> = watches.into_iter().map(Result::unwrap).collect();
    for n in 0..1000 {
        store
            .put(PutRequest::new(format!("k{n}"), ""))
            .await
            .unwrap();
    }
    for (n, mut watch) in watches.into_iter().enumerate() {
        let WatchItem::Events(batch) = next(&mut watch).await else {
            panic!("an event");
        };
        assert_eq!(batch.events.len(), 1);
        assert_eq!(&batch.events[0].kv.key[..], format!("k{n}").as_bytes());
    }
    assert_eq!(bridge.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_and_large_revisions_arrive_whole() {
    let etcd = etcd_or_skip!();
    let store = connect(&etcd).await;
    let megabyte = vec![7; 1 << 20];
    let mut watch = store
        .watch(WatchRequest::new(KeyRange::prefix("big/")).with_prev_kv())
        .await
        .unwrap();
    for n in 0..6 {
        let put = PutRequest::new(format!("big/{n}"), megabyte.clone());
        store.put(put).await.unwrap();
    }
    assert_eq!(revisions(&mut watch, 6).await, [2, 3, 4, 5, 6, 7]);
    let all = RangeRequest::new(KeyRange::prefix("big/"));
    let range = store.range(all).await.unwrap();
    let size: usize = range.kvs.iter().map(|kv| kv.value.len()).sum();
    assert_eq!(size, 6 << 20);
    // One revision whose events, with the values before, come in several messages.
    let delete = DeleteRequest::new(KeyRange::prefix("big/"));
    store.delete(delete).await.unwrap();
    let WatchItem::Events(batch) = next(&mut watch).await else {
        panic!("events");
    };
    assert_eq!(batch.revision, Revision(8));
    let keys: Vec<_> = batch
        .events
        .iter()
        .map(|event| event.kv.key.clone())
        .collect();
    assert_eq!(
        keys,
        (0..6)
            .map(|n| format!("big/{n}").into())
            .collect::<Vec<_>>()
    );
    let prev = batch
        .events
        .iter()
        .map(|event| event.prev_kv.as_ref().unwrap());
    assert!(prev.into_iter().all(|kv| kv.value.len() == 1 << 20));
    // All of it at once, from the past.
    let past = WatchRequest::new(KeyRange::prefix("big/")).starting_at(Revision(2));
    let mut past = store.watch(past).await.unwrap();
    let all = revisions(&mut past, 12).await;
    assert_eq!(all, [2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 8]);

    let huge = PutRequest::new("huge", vec![0; 2 << 20]);
    let error = store.put(huge).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(!error.is_maybe_applied());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_does_not_read_stalls_nobody_and_misses_nothing() {
    let etcd = etcd_or_skip!();
    let store = connect(&etcd).await;
    let mut idle = store
        .watch(WatchRequest::new(KeyRange::prefix("a")))
        .await
        .unwrap();
    let mut busy = store
        .watch(WatchRequest::new(KeyRange::prefix("a")))
        .await
        .unwrap();
    // Several times what is kept for a reader.
    let value = vec![1; 500 << 10];
    let mut expected = Vec::new();
    for n in 0..40 {
        let put = PutRequest::new(format!("a{n}"), value.clone());
        expected.push(store.put(put).await.unwrap().header.revision.0);
        assert_eq!(revisions(&mut busy, 1).await, expected[n..]);
    }
    assert_eq!(revisions(&mut idle, 40).await, expected);
    let last = store.put(PutRequest::new("a", "")).await.unwrap();
    let last = [last.header.revision.0];
    assert_eq!(revisions(&mut idle, 1).await, last);
    assert_eq!(revisions(&mut busy, 1).await, last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_watch_is_cancelled_at_the_server() {
    let etcd = etcd_or_skip!();
    let store = connect(&etcd).await;
    let watchers = || async {
        let url = &etcd.endpoints()[0];
        let address = url.trim_start_matches("http://");
        metric(address, "etcd_debugging_mvcc_watcher_total").await
    };
    let first = store.watch(WatchRequest::new("a")).await.unwrap();
    let second = store.watch(WatchRequest::new("a")).await.unwrap();
    assert_eq!(watchers().await, "2");
    drop(first);
    wait::until("one is cancelled", || async { watchers().await == "1" }).await;
    drop(second);
    wait::until("both are cancelled", || async { watchers().await == "0" }).await;
}

/// A number from a member's metrics.
async fn metric(address: &str, name: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let ask = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    wait::soon("metrics", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    let line = answer.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in the metrics"));
    line.rsplit(' ').next().unwrap_or_default().to_string()
}
