//! Durable before visible: groups, failed appends, full disks, stalls.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use synod_store::{
    Applied, ErrorKind, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Store, WatchRequest,
};

use super::fake::{self, Fate, Hands};
use super::*;
use crate::journal::Sim;
use crate::{Clock, EngineOptions, ManualClock};

fn engine() -> (Engine, Hands) {
    fake::engine(EngineOptions::memory())
}

async fn count(store: &Engine) -> u64 {
    let all = RangeRequest::new(KeyRange::all()).count_only();
    store.range(all).await.unwrap().count
}

/// Sends so many puts that wait for their answers.
fn puts(
    store: &Engine,
    keys: std::ops::Range<u32>,
) -> Vec<tokio::task::JoinHandle<Result<u64, synod_store::Error>>> {
    keys.map(|key| {
        let store = store.clone();
        tokio::spawn(async move {
            let put = PutRequest::new(format!("k{key}"), "v");
            store.put(put).await.map(|answer| answer.header.revision.0)
        })
    })
    .collect()
}

/// Waits until so many puts of [`puts`] lie in the writer's queue; each counts 275 or 276 bytes.
async fn waiting(store: &Engine, requests: usize) {
    for _ in 0..10_000 {
        if store.shared().waiting_bytes() >= requests * 275 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the requests do not come");
}

#[tokio::test]
async fn all_that_waits_shares_one_append_and_is_seen_only_after_it() {
    let (store, hands) = engine();
    let mut watch = store
        .watch(WatchRequest::new(KeyRange::all()))
        .await
        .unwrap();
    let first = puts(&store, 0..1);
    waiting_for_append(&hands).await;
    let rest = puts(&store, 1..65);
    waiting(&store, 64).await;
    assert_eq!(count(&store).await, 0);
    hands.fates.send(Fate::Kept).unwrap();
    waiting_for_append(&hands).await;
    assert_eq!(
        count(&store).await,
        1,
        "the second group is not durable yet"
    );
    assert_eq!(events(&mut watch, 1).await.len(), 1);
    hands.fates.send(Fate::Kept).unwrap();
    let mut revisions = Vec::new();
    for answer in join_all(first.into_iter().chain(rest)).await {
        revisions.push(answer.unwrap().unwrap());
    }
    revisions.sort_unstable();
    assert_eq!(
        revisions,
        (2..67).collect::<Vec<u64>>(),
        "one revision each"
    );
    assert_eq!(*hands.appends.lock().unwrap(), [1, 64]);
    assert_eq!(count(&store).await, 65);
    assert_eq!(events(&mut watch, 64).await.len(), 64);
}

async fn waiting_for_append(hands: &Hands) {
    for _ in 0..100_000 {
        if hands.begun.try_recv().is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    panic!("no append");
}

#[tokio::test]
async fn a_failed_append_poisons() {
    let (store, hands) = engine();
    hands.fates.send(Fate::Kept).unwrap();
    put(&store, "old", "1").await;
    let mut watch = store
        .watch(WatchRequest::new(KeyRange::all()))
        .await
        .unwrap();
    hands.begun.recv().unwrap();
    let failing = puts(&store, 0..1);
    waiting_for_append(&hands).await;
    let later = puts(&store, 1..9);
    waiting(&store, 8).await;
    hands.fates.send(Fate::Failed).unwrap();
    for answer in join_all(failing).await {
        let error = answer.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.applied()),
            (ErrorKind::Poisoned, Applied::Maybe)
        );
        assert!(error.message().contains("input/output error"), "{error}");
    }
    for answer in join_all(later).await {
        let error = answer.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.applied()),
            (ErrorKind::Poisoned, Applied::No)
        );
    }
    assert_eq!(
        hands.appends.lock().unwrap().len(),
        2,
        "nothing was tried again"
    );
    let error = store.put(PutRequest::new("k", "v")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::Poisoned, Applied::No)
    );
    // What was published can be read, and is all that can be.
    assert_eq!(count(&store).await, 1);
    let all = everything_readable(&store).await;
    assert_eq!(all, ["old"]);
    let ended = watch.next().await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Poisoned);
    assert!(watch.next().await.is_none());
    let mut past = store
        .watch(WatchRequest::new(KeyRange::all()).starting_at(Revision(2)))
        .await
        .unwrap();
    assert_eq!(
        events(&mut past, 1).await,
        [(EventKind::Put, "old".to_owned(), 2)]
    );
    assert_eq!(
        past.next().await.unwrap().unwrap_err().kind(),
        ErrorKind::Poisoned
    );
    assert_eq!(store.status().await.unwrap().errors.len(), 1);
}

async fn everything_readable(store: &Engine) -> Vec<String> {
    let found = store
        .range(RangeRequest::new(KeyRange::all()))
        .await
        .unwrap();
    found.kvs.into_iter().map(|kv| kv.key.to_string()).collect()
}

#[tokio::test]
async fn a_full_disk_takes_the_group_back_and_the_next_one_tries_again() {
    let clock = ManualClock::new();
    let (store, hands) = fake::engine(EngineOptions::memory().with_clock(Arc::new(clock.clone())));
    let fate = |fate| hands.fates.send(fate).unwrap();
    (0..3).for_each(|_| fate(Fate::Kept));
    let grant = |id| LeaseGrantRequest::new(Duration::from_secs(5)).with_id(lease(id));
    store.lease_grant(grant(1)).await.unwrap();
    store
        .put(PutRequest::new("a", "1").with_lease(lease(1)))
        .await
        .unwrap();
    put(&store, "b", "1").await;
    let before = everything(&store).await;

    fate(Fate::Full);
    let error = store.put(PutRequest::new("a", "2")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::NoSpace, Applied::No)
    );
    fate(Fate::Full);
    let error = store
        .delete(DeleteRequest::new(KeyRange::all()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    fate(Fate::Full);
    assert_eq!(
        store.lease_grant(grant(2)).await.unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    fate(Fate::Full);
    assert_eq!(
        store.lease_revoke(lease(1)).await.unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    fate(Fate::Full);
    let compact = store.compact(Revision(3), true).await.unwrap_err();
    assert_eq!(compact.kind(), ErrorKind::NoSpace);
    assert_eq!(everything(&store).await, before);
    assert_eq!(store.alarms().await.unwrap().len(), 1);

    // A lease whose end cannot be stored lives on, and ends once there is space.
    fate(Fate::Full);
    clock.advance(Duration::from_secs(5));
    while hands.appends.lock().unwrap().len() < 9 {
        tokio::task::yield_now().await;
    }
    let mut watch = store.watch(WatchRequest::new("a")).await.unwrap();
    fate(Fate::Kept);
    fate(Fate::Kept);
    assert_eq!(put(&store, "b", "2").await, Revision(4));
    assert!(store.alarms().await.unwrap().is_empty());
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        events(&mut watch, 1).await,
        [(EventKind::Delete, "a".to_owned(), 5)]
    );
}

/// A server whose descriptors are used up by strangers does not stop for ever.
#[tokio::test]
async fn without_descriptors_changes_are_refused_until_there_are_some_again() {
    let sim = Sim::default();
    let mut options = EngineOptions::file("/d");
    options.journal.segment_bytes = 4 << 10;
    let store = Engine::open_in(sim.clone(), options.clone()).unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        sim.refuse_descriptors(0, usize::MAX);
        let refused = loop {
            let key = format!("{round}/{:04}", acknowledged.len());
            match store
                .put(PutRequest::new(key.clone(), "v".repeat(100)))
                .await
            {
                Ok(_) => acknowledged.push(key),
                Err(error) => break error,
            }
            assert!(acknowledged.len() < 1000, "it goes on without a file");
        };
        assert_eq!(
            (refused.kind(), refused.applied()),
            (ErrorKind::Unavailable, Applied::No),
            "{refused}"
        );
        let text = refused.message();
        assert!(!cfg!(unix) || text.contains("`ulimit -n`"), "{text}");
        // Nothing of it is seen, it is no full disk, and nothing else has stopped.
        assert_eq!(everything_readable(&store).await, acknowledged);
        assert_eq!(store.alarms().await.unwrap(), []);
        assert_eq!(store.status().await.unwrap().errors, Vec::<String>::new());
        let deleting = DeleteRequest::new(KeyRange::all());
        assert_eq!(
            store.delete(deleting).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        let failed = store.defragment().await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed}");
        // Also not when a snapshot gets further than that.
        sim.refuse_descriptors(3 + round, 1);
        let _ = store.defragment().await;
        sim.refuse_descriptors(0, 0);
        let key = format!("{round}/{:04}", acknowledged.len());
        put(&store, &key, "again").await;
        acknowledged.push(key);
        assert_eq!(everything_readable(&store).await, acknowledged);
        let image = Engine::open_in(sim.power_loss(), options.clone()).unwrap();
        assert_eq!(everything_readable(&image).await, acknowledged);
    }
    store.defragment().await.unwrap();
    store.close().await.unwrap();
    let store = Engine::open_in(sim, options).unwrap();
    assert_eq!(everything_readable(&store).await, acknowledged);
}

/// A clock that runs, by hand.
#[derive(Debug, Default)]
struct Running(Mutex<Duration>);

impl Clock for Running {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

#[tokio::test]
async fn a_stall_is_no_reason_to_end_a_lease() {
    let clock = Arc::new(Running::default());
    let dynamic: Arc<dyn Clock> = Arc::<Running>::clone(&clock);
    let (store, hands) = fake::engine(EngineOptions::memory().with_clock(dynamic));
    (0..2).for_each(|_| hands.fates.send(Fate::Kept).unwrap());
    let grant = |id, ttl| LeaseGrantRequest::new(Duration::from_secs(ttl)).with_id(lease(id));
    store.lease_grant(grant(1, 10)).await.unwrap();
    store.lease_grant(grant(2, 100)).await.unwrap();
    (0..2).for_each(|_| hands.begun.recv().unwrap());
    let slow = puts(&store, 0..1);
    waiting_for_append(&hands).await;
    // The sync takes 20 s; renewals go on meanwhile.
    *clock.0.lock().unwrap() += Duration::from_secs(9);
    store.lease_keep_alive(lease(1)).await.unwrap();
    *clock.0.lock().unwrap() += Duration::from_secs(11);
    hands.fates.send(Fate::Kept).unwrap();
    for answer in join_all(slow).await {
        answer.unwrap().unwrap();
    }
    // Its time was over, but while the store stood still.
    let renewed = store.lease_keep_alive(lease(1)).await.unwrap();
    assert_eq!(renewed.ttl, Duration::from_secs(10));
    let left = store.lease_time_to_live(lease(2), false).await.unwrap();
    assert_eq!(
        left.remaining,
        Some(Duration::from_secs(80)),
        "too short a stall for this one"
    );
}

/// A lease's answers and a read's speak of the same moment.
#[tokio::test]
async fn no_revision_is_seen_before_the_leases_that_belong_to_it() {
    let (store, hands) = engine();
    (0..2).for_each(|_| hands.fates.send(Fate::Kept).unwrap());
    let grant = LeaseGrantRequest::new(Duration::from_secs(60)).with_id(lease(1));
    store.lease_grant(grant).await.unwrap();
    store
        .put(PutRequest::new("k", "v").with_lease(lease(1)))
        .await
        .unwrap();
    (0..2).for_each(|_| hands.begun.recv().unwrap());
    let revoking = tokio::spawn({
        let store = store.clone();
        async move { store.lease_revoke(lease(1)).await }
    });
    waiting_for_append(&hands).await;
    {
        let leases = store.shared().leases();
        hands.fates.send(Fate::Kept).unwrap();
        // Nobody can be told that the lease is gone now; so nobody may see that its key is.
        for _ in 0..100 {
            assert_eq!(store.shared().published(), Revision(2));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(leases.keys(lease(1)).len(), 1);
    }
    revoking.await.unwrap().unwrap();
    assert_eq!(count(&store).await, 0);
}
