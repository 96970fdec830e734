//! The etcd store when endpoints, connections and leaders fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_store::{
    Applied, ErrorKind, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Revision, Store,
    Watch, WatchItem, WatchRequest,
};
use synod_tests::bridge::{Bridge, Mode};
use synod_tests::etcd::{Etcd, EtcdConfig};
use synod_tests::ports::Port;
use synod_tests::{etcd_or_skip, wait};

/// How much longer a few requests may take that take milliseconds when nothing is waited for in vain, than the same with
/// nothing but the endpoint that lives: below the shortest timeout that could be the cause.
const AT_ONCE: Duration = Duration::from_millis(1500);

async fn next(watch: &mut Watch) -> WatchItem {
    wait::soon("an item", watch.next()).await.unwrap().unwrap()
}

async fn values(watch: &mut Watch, count: usize) -> Vec<(u64, String)> {
    let mut values = Vec::new();
    while values.len() < count {
        let WatchItem::Events(batch) = next(watch).await else {
            panic!("events");
        };
        values.extend(batch.events.into_iter().map(|event| {
            let value = String::from_utf8_lossy(&event.kv.value).into_owned();
            (event.kv.mod_revision.0, value)
        }));
    }
    values
}

/// Puts until it is acknowledged, as somebody does for whom a second copy does no harm.
async fn put_surely(store: &EtcdStore, key: &str, value: &str) {
    wait::until(format!("{value} is put"), || async {
        store
            .put(PutRequest::new(key, value.to_string()))
            .await
            .is_ok()
    })
    .await;
}

/// How long it takes to connect and to ask for a few things.
async fn a_few_requests(endpoints: impl IntoIterator<Item = String>) -> Duration {
    let begin = Instant::now();
    let options = EtcdOptions::new(endpoints).with_member_sync(None);
    let store = EtcdStore::connect(options).await.unwrap();
    let lease = LeaseGrantRequest::new(Duration::from_secs(60));
    let lease = store.lease_grant(lease).await.unwrap().id;
    for _ in 0..10 {
        store.put(PutRequest::new("a", "1")).await.unwrap();
        store.range(RangeRequest::new("a")).await.unwrap();
        store.lease_keep_alive(lease).await.unwrap();
        drop(store.watch(WatchRequest::new("a")).await.unwrap());
    }
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_costs_nothing() {
    let etcd = etcd_or_skip!();
    let live = etcd.endpoints()[0].clone();
    let (refusing, other) = (Port::reserve(), Port::reserve());
    // It takes connections and never answers.
    let silent = Bridge::to(&live).await;
    silent.set(Mode::Hold);
    let refused = |port: &Port| format!("http://{}", port.address());
    for endpoints in [
        vec![refused(&refusing), live.clone()],
        vec![live.clone(), refused(&refusing), refused(&other)],
        vec![silent.url(), live.clone()],
        vec![silent.url(), refused(&refusing), live.clone()],
    ] {
        // The endpoint tried first is chosen by chance.
        for _ in 0..6 {
            // On a busy machine both take longer, and either may be held up for once: what a dead endpoint
            // costs, it costs again and again.
            let mut late = Vec::new();
            while late.len() < 3 {
                let alone = a_few_requests([live.clone()]).await;
                let took = a_few_requests(endpoints.clone()).await;
                if took < AT_ONCE + alone * 10 {
                    break;
                }
                late.push(format!("{took:?}, and alone {alone:?}"));
            }
            assert!(late.len() < 3, "{endpoints:?}: {late:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_endpoint_in_use_dies_another_takes_over_at_once() {
    let etcd = etcd_or_skip!();
    for broken in [Mode::Refuse, Mode::Hold] {
        let live = etcd.endpoints()[0].clone();
        let (first, second) = (Bridge::to(&live).await, Bridge::to(&live).await);
        // Who waits for this shows in the time that it takes.
        let in_vain = Duration::from_secs(200);
        let options = EtcdOptions::new([first.url(), second.url()])
            .with_member_sync(None)
            .with_request_timeout(in_vain);
        let store = EtcdStore::connect(options).await.unwrap();
        store.put(PutRequest::new("a", "1")).await.unwrap();
        let (used, spare) = match first.connections() {
            0 => (second, first),
            _ => (first, second),
        };
        let mut watch = store.watch(WatchRequest::new("a")).await.unwrap();
        let lease = LeaseGrantRequest::new(Duration::from_secs(60));
        let lease = store.lease_grant(lease).await.unwrap().id;
        used.set(broken);
        let begin = Instant::now();
        // Reads and renewals notice, and go on elsewhere by themselves.
        let (read, renewed) = tokio::join!(
            store.range(RangeRequest::new("a")),
            store.lease_keep_alive(lease)
        );
        read.unwrap();
        renewed.unwrap();
        store.put(PutRequest::new("a", "2")).await.unwrap();
        assert_eq!(values(&mut watch, 1).await[0].1, "2");
        // A silent endpoint is suspected after 1 s and has 2 s to answer; the rest is for a busy machine.
        assert!(begin.elapsed() < in_vain / 4, "{:?}", begin.elapsed());
        assert!(spare.connections() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_miss_nothing_when_leaders_are_killed() {
    let etcd = Arc::new(etcd_or_skip!(3));
    let options = EtcdOptions::new(etcd.endpoints());
    let store = EtcdStore::connect(options.clone()).await.unwrap();
    let reader = EtcdStore::connect(options).await.unwrap();
    let all = WatchRequest::new(KeyRange::prefix("k"));
    let mut watch = reader.watch(all.clone()).await.unwrap();
    let start = watch.header().revision;
    let mut number = 0;
    for _ in 0..3 {
        let leader = etcd.leader().await;
        for burst in 0..2 {
            if burst == 1 {
                etcd.kill(leader);
            }
            for _ in 0..30 {
                number += 1;
                put_surely(&store, &format!("k{}", number % 5), &number.to_string()).await;
            }
        }
        etcd.restart(leader).await;
    }
    put_surely(&store, "k", "end").await;
    let mut seen: Vec<(u64, String)> = Vec::new();
    while seen.last().is_none_or(|(_, value)| value != "end") {
        seen.extend(values(&mut watch, 1).await);
    }
    // Strictly rising revisions: nothing twice, nothing out of order.
    assert!(
        seen.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "{seen:?}"
    );
    // What a watch from the same revision finds on a quiet cluster: nothing missing.
    let again = all.starting_at(start.next());
    let mut again = store.watch(again).await.unwrap();
    assert_eq!(values(&mut again, seen.len()).await, seen);
    // Each put that was acknowledged, in its order; those in doubt may be there twice.
    let mut distinct: Vec<&str> = seen.iter().map(|(_, value)| value.as_str()).collect();
    distinct.dedup();
    let expected: Vec<String> = (1..=number).map(|n| n.to_string()).collect();
    assert_eq!(distinct[..distinct.len() - 1], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_and_renewals_survive_resets() {
    let etcd = etcd_or_skip!();
    let bridge = Bridge::to(&etcd.endpoints()[0]).await;
    let direct = EtcdStore::connect(EtcdOptions::new(etcd.endpoints()))
        .await
        .unwrap();
    let options = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    let store = EtcdStore::connect(options).await.unwrap();
    let lease = LeaseGrantRequest::new(Duration::from_secs(60));
    let lease = direct.lease_grant(lease).await.unwrap().id;
    let mut watch = store
        .watch(WatchRequest::new(KeyRange::prefix("k")))
        .await
        .unwrap();
    let mut expected = Vec::new();
    for round in 0..20 {
        for n in 0..10 {
            let value = format!("{round}.{n}");
            let put = direct
                .put(PutRequest::new("k", value.clone()))
                .await
                .unwrap();
            expected.push((put.header.revision.0, value));
            if n == round % 10 {
                bridge.reset();
            }
        }
        store.lease_keep_alive(lease).await.unwrap();
    }
    assert_eq!(values(&mut watch, expected.len()).await, expected);
    assert!(bridge.accepted() > 10, "{}", bridge.accepted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_history_was_compacted_meanwhile_says_so() {
    let etcd = etcd_or_skip!();
    let bridge = Bridge::to(&etcd.endpoints()[0]).await;
    let direct = EtcdStore::connect(EtcdOptions::new(etcd.endpoints()))
        .await
        .unwrap();
    let options = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    let store = EtcdStore::connect(options).await.unwrap();
    let mut watch = store.watch(WatchRequest::new("k")).await.unwrap();
    bridge.set(Mode::Refuse);
    wait::until("the connection is gone", || async {
        bridge.connections() == 0
    })
    .await;
    for _ in 0..5 {
        direct.put(PutRequest::new("k", "")).await.unwrap();
    }
    direct.compact(Revision(5), true).await.unwrap();
    bridge.set(Mode::Pass);
    let compact_revision = Revision(5);
    let item = next(&mut watch).await;
    assert_eq!(item, WatchItem::Compacted { compact_revision });
    assert!(wait::soon("the end", watch.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_whose_answer_is_lost_is_in_doubt_and_sent_once() {
    let etcd = etcd_or_skip!();
    let bridge = Bridge::to(&etcd.endpoints()[0]).await;
    let direct = EtcdStore::connect(EtcdOptions::new(etcd.endpoints()))
        .await
        .unwrap();
    let options = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    let store = Arc::new(EtcdStore::connect(options).await.unwrap());
    // Lost with the connection. The server may have said something else first, and then not got the put.
    let mut applied = 0;
    for number in 0..20 {
        let key = format!("a{number}");
        bridge.set(Mode::ResetOnReply);
        let put = PutRequest::new(key.clone(), "1");
        let error = store.put(put).await.unwrap_err();
        assert_eq!(error.applied(), Applied::Maybe, "{error:?}");
        assert!(!error.is_retryable() && error.is_transient());
        bridge.set(Mode::Pass);
        let read = store.range(RangeRequest::new(key)).await.unwrap();
        assert!(read.kvs.iter().all(|kv| kv.version == 1), "{:?}", read.kvs);
        applied += read.kvs.len();
        if applied > 0 {
            break;
        }
    }
    assert_eq!(
        applied, 1,
        "an answer was lost after the put had been applied"
    );
    // Not sent at all: repeated until it can be.
    bridge.set(Mode::Refuse);
    wait::until("the connection is gone", || async {
        bridge.connections() == 0
    })
    .await;
    let put = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.put(PutRequest::new("b", "1")).await })
    };
    bridge.set(Mode::Pass);
    put.await.unwrap().unwrap();
    let read = direct.range(RangeRequest::new("b")).await.unwrap();
    assert_eq!(read.kvs[0].version, 1);
    // Refused until the time is up: certainly not applied.
    let options = EtcdOptions::new([bridge.url()])
        .with_member_sync(None)
        .with_request_timeout(Duration::from_millis(500));
    let hasty = EtcdStore::connect(options).await.unwrap();
    bridge.set(Mode::Refuse);
    wait::until("the connection is gone", || async {
        bridge.connections() == 0
    })
    .await;
    let error = hasty.put(PutRequest::new("c", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(error.applied(), Applied::No);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_or_a_revoke_whose_answer_is_lost_is_found_out() {
    let etcd = etcd_or_skip!();
    let bridge = Bridge::to(&etcd.endpoints()[0]).await;
    let options = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    let store = Arc::new(EtcdStore::connect(options).await.unwrap());
    let lose_a_reply = async || {
        let replied = bridge.replied_bytes();
        wait::until("a reply is lost", || async {
            bridge.replied_bytes() > replied
        })
        .await;
        bridge.set(Mode::Pass);
    };
    bridge.set(Mode::ResetOnReply);
    let ttl = Duration::from_secs(60);
    let (lease, ()) = tokio::join!(
        store.lease_grant(LeaseGrantRequest::new(ttl)),
        lose_a_reply()
    );
    let lease = lease.unwrap();
    assert_eq!(lease.ttl, ttl);
    assert_eq!(store.leases().await.unwrap().leases, [lease.id]);
    bridge.set(Mode::ResetOnReply);
    let (revoked, ()) = tokio::join!(store.lease_revoke(lease.id), lose_a_reply());
    revoked.unwrap();
    assert_eq!(store.leases().await.unwrap().leases, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_member_is_left_and_its_return_disturbs_nobody() {
    let etcd = etcd_or_skip!(3);
    // Each in turn: the leader and both followers.
    for index in 0..3 {
        let options = EtcdOptions::new([etcd.endpoints()[index].clone()]);
        let store = EtcdStore::connect(options).await.unwrap();
        // The other members are learned from the one that is named.
        wait::until("the members are learned", || async {
            store
                .members()
                .await
                .is_ok_and(|members| members.len() == 3)
        })
        .await;
        let mut watch = store.watch(WatchRequest::new("k")).await.unwrap();
        etcd.pause(index);
        put_surely(&store, "k", "frozen").await;
        etcd.resume(index);
        put_surely(&store, "k", "back").await;
        let mut seen = Vec::new();
        while seen.last().is_none_or(|(_, value)| value != "back") {
            seen.extend(values(&mut watch, 1).await);
        }
        assert!(
            seen.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "{seen:?}"
        );
        assert_eq!(seen[0].1, "frozen");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_write_is_in_doubt_and_a_read_fails() {
    let etcd: Etcd = etcd_or_skip!(3);
    let options = EtcdOptions::new(etcd.endpoints()).with_request_timeout(Duration::from_secs(2));
    let store = EtcdStore::connect(options).await.unwrap();
    let leader = etcd.leader().await;
    let followers: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    for follower in &followers {
        etcd.pause(*follower);
    }
    let error = store.put(PutRequest::new("a", "1")).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let error = store.range(RangeRequest::new("a")).await.unwrap_err();
    assert!(
        error.is_transient() && !error.is_maybe_applied(),
        "{error:?}"
    );
    for follower in &followers {
        etcd.resume(*follower);
    }
    put_surely(&store, "a", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_in_silence_is_noticed_by_those_who_only_listen() {
    let config = EtcdConfig::new().flag("--grpc-keepalive-min-time=100ms");
    let etcd = etcd_or_skip!(config);
    let live = etcd.endpoints()[0].clone();
    let direct = EtcdStore::connect(EtcdOptions::new([live.clone()]))
        .await
        .unwrap();
    let (first, second) = (Bridge::to(&live).await, Bridge::to(&live).await);
    let short = Duration::from_millis(500);
    let options = EtcdOptions::new([first.url(), second.url()])
        .with_member_sync(None)
        .with_keep_alive(short, short);
    let store = EtcdStore::connect(options).await.unwrap();
    let mut watch = store.watch(WatchRequest::new("k")).await.unwrap();
    let used = if first.connections() > 0 {
        &first
    } else {
        &second
    };
    used.set(Mode::Hold);
    direct.put(PutRequest::new("k", "1")).await.unwrap();
    assert_eq!(values(&mut watch, 1).await[0].1, "1");
}
