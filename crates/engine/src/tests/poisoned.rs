//! After a write that failed, so that nobody knows what of it is on disk: the store shows what was published before, and
//! nothing else, for as long as it is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use synod_store::{ErrorKind, KeyRange, LeaseGrantRequest, PutRequest, Store, WatchRequest};
use tokio::sync::oneshot;

use super::fake::{self, Fate, Hands};
use super::*;
use crate::writer::Command;
use crate::{Clock, EngineOptions, ManualClock, Wake};

/// Waits until the writer has done everything that was due before.
async fn settled(store: &Engine) {
    // What waits for a turn is answered before the turn ends: the second one waits for that, too.
    for _ in 0..2 {
        let (reply, answer) = oneshot::channel();
        assert!(store.shared().send(Command::Settle { reply }));
        answer.await.unwrap().unwrap();
    }
}

/// Lets a put fail.
async fn poison(store: &Engine, hands: &Hands) {
    hands.fates.send(Fate::Failed).unwrap();
    let error = store.put(PutRequest::new("lost", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
}

#[tokio::test]
async fn what_could_not_be_made_durable_stays_unseen() {
    let clock = ManualClock::new();
    let (store, hands) = fake::engine(EngineOptions::memory().with_clock(Arc::new(clock.clone())));
    (0..2).for_each(|_| hands.fates.send(Fate::Kept).unwrap());
    let grant = LeaseGrantRequest::new(Duration::from_secs(5)).with_id(lease(1));
    store.lease_grant(grant).await.unwrap();
    let put = PutRequest::new("leased", "1").with_lease(lease(1));
    store.put(put).await.unwrap();
    let all = || WatchRequest::new(KeyRange::all());
    let mut watch = store.watch(all()).await.unwrap();
    let before = store.hash_kv(Revision::ZERO).await.unwrap();
    poison(&store, &hands).await;

    // The writer goes on to turn: the clock wakes it, and a lease is due.
    settled(&store).await;
    assert_eq!(store.hash_kv(Revision::ZERO).await.unwrap(), before);
    clock.advance(Duration::from_secs(6));
    settled(&store).await;
    assert_eq!(store.hash_kv(Revision::ZERO).await.unwrap(), before);
    let ended = watch.next().await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Poisoned);
    let mut past = store.watch(all().starting_at(Revision(2))).await.unwrap();
    assert_eq!(
        events(&mut past, 1).await,
        [(EventKind::Put, "leased".to_owned(), 2)]
    );
    assert!(past.next().await.unwrap().is_err());
}

/// A clock that counts how often it is read.
#[derive(Debug, Default)]
struct Counting {
    clock: ManualClock,
    reads: AtomicUsize,
}

impl Clock for Counting {
    fn now(&self) -> Duration {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.clock.now()
    }

    fn is_running(&self) -> bool {
        false
    }

    fn on_change(&self, wake: Wake) {
        self.clock.on_change(wake);
    }
}

#[tokio::test]
async fn leases_that_cannot_end_any_more_do_not_keep_the_writer_busy() {
    let clock = Arc::new(Counting::default());
    let dynamic: Arc<dyn Clock> = Arc::<Counting>::clone(&clock);
    let (store, hands) = fake::engine(EngineOptions::memory().with_clock(dynamic));
    hands.fates.send(Fate::Kept).unwrap();
    let grant = LeaseGrantRequest::new(Duration::from_secs(5)).with_id(lease(1));
    store.lease_grant(grant).await.unwrap();
    poison(&store, &hands).await;
    clock.clock.advance(Duration::from_secs(9));
    settled(&store).await;
    let (mut reads, mut quiet) = (0, 0);
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let before = std::mem::replace(&mut reads, clock.reads.load(Ordering::SeqCst));
        quiet = if reads == before { quiet + 1 } else { 0 };
        if quiet == 50 {
            return;
        }
    }
    panic!("the writer does not come to rest");
}

#[tokio::test]
async fn who_waits_for_a_snapshot_hears_of_the_failure() {
    let (store, hands) = fake::engine(EngineOptions::memory());
    let put = tokio::spawn({
        let store = store.clone();
        async move { store.put(PutRequest::new("k", "v")).await }
    });
    while hands.begun.try_recv().is_err() {
        tokio::task::yield_now().await;
    }
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.defragment().await }
    });
    while store.shared().waiting_bytes() == 0 {
        tokio::task::yield_now().await;
    }
    hands.fates.send(Fate::Failed).unwrap();
    assert!(put.await.unwrap().is_err());
    let answer = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    let error = answer.expect("nobody answers").unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
}

#[tokio::test]
async fn a_store_that_failed_can_be_closed_and_opened_again() {
    let (store, hands) = fake::engine(EngineOptions::memory());
    poison(&store, &hands).await;
    store.close().await.unwrap();
    // The journal is gone, and with it the directory's lock.
    assert!(hands.fates.send(Fate::Kept).is_err());
    let error = store.range(RangeRequest::new("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    store.close().await.unwrap();
}
