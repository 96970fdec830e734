//! The semaphore on every store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use synod::store::{KeyRange, PutRequest, RangeRequest, Store};
use synod::{Error, Semaphore, SemaphorePermit};
use synod_tests::stores::TestStore;
use synod_tests::{each_store, wait};
use tokio::task::JoinHandle;

async fn tickets(store: &dyn Store) -> u64 {
    let line = KeyRange::prefix("__synod/semaphore/s/line/");
    store
        .range(RangeRequest::new(line).count_only())
        .await
        .unwrap()
        .count
}

async fn until_tickets(store: &dyn Store, count: u64) {
    wait::until(format!("{count} tickets"), || async {
        tickets(store).await == count
    })
    .await;
}

/// Begins to wait, and returns when the ticket is in the line.
async fn waiting(
    store: &dyn Store,
    semaphore: &Semaphore,
    permits: u32,
) -> JoinHandle<synod::Result<SemaphorePermit>> {
    let before = tickets(store).await;
    let semaphore = semaphore.clone();
    let task = tokio::spawn(async move { semaphore.acquire_many(permits).await });
    until_tickets(store, before + 1).await;
    task
}

each_store! {
    async fn permits_are_given_in_order(store: TestStore) {
        let one = store.client().semaphore("s", 4);
        let two = store.another_client().await.semaphore("s", 4);
        let store = store.store();
        let held = [one.acquire_many(3).await.unwrap(), two.acquire().await.unwrap()];
        let mut line = Vec::new();
        // Who wants all, then who wants one: nobody overtakes.
        for (semaphore, permits) in [(&one, 4), (&two, 1), (&one, 2)] {
            line.push(waiting(&*store, semaphore, permits).await);
        }
        let [three, single] = held;
        three.release().await.unwrap();
        assert_eq!(two.available_permits().await.unwrap(), 3);
        assert!(two.try_acquire().await.unwrap().is_none());
        assert!(line.iter().all(|waiting| !waiting.is_finished()));
        single.release().await.unwrap();
        let mut line = line.into_iter();
        let mut next = async || wait::soon("the next", line.next().unwrap()).await.unwrap().unwrap();
        let all = next().await;
        assert_eq!(one.available_permits().await.unwrap(), 0);
        all.release().await.unwrap();
        let (single, double) = (next().await, next().await);
        assert!(single.fencing_token() < double.fencing_token());
        assert_eq!(one.available_permits().await.unwrap(), 1);
        drop((single, double));
        until_tickets(&*store, 0).await;
    }

    /// Tasks of several clients take and give back, give up and are dropped: never more permits than
    /// there are, and in the end all are back.
    async fn never_more_than_there_are(store: TestStore) {
        const TOTAL: u32 = 5;
        let held = Arc::new(AtomicU32::new(0));
        let granted = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let semaphore = store.another_client().await.semaphore("s", TOTAL);
            for _ in 0..4 {
                let semaphore = semaphore.clone();
                let (held, granted) = (Arc::clone(&held), Arc::clone(&granted));
                tasks.push(tokio::spawn(async move {
                    for turn in 0..12 {
                        let permits = rand::rng().random_range(1..=TOTAL);
                        let patience = Duration::from_millis(rand::rng().random_range(1..400));
                        // Each in turn: a third of them waits for as long as it takes.
                        let way = turn % 3;
                        let acquired = match way {
                            0 => semaphore.try_acquire_many(permits).await.unwrap(),
                            1 => semaphore.acquire_many_timeout(permits, patience).await.unwrap(),
                            _ => Some(semaphore.acquire_many(permits).await.unwrap()),
                        };
                        let Some(permit) = acquired else { continue };
                        assert_eq!(permit.num_permits(), permits);
                        let all = held.fetch_add(permits, Ordering::SeqCst) + permits;
                        assert!(all <= TOTAL, "{all} of {TOTAL} are held");
                        granted.fetch_add(1, Ordering::SeqCst);
                        permit.check().await.unwrap();
                        held.fetch_sub(permits, Ordering::SeqCst);
                        if rand::random() {
                            permit.release().await.unwrap();
                        }
                    }
                }));
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert!(granted.load(Ordering::SeqCst) >= 48, "{granted:?}");
        until_tickets(&*store.store(), 0).await;
        let free = store.client().semaphore("s", TOTAL).available_permits().await.unwrap();
        assert_eq!(free, TOTAL);
    }

    /// Redisson's issue 4462: the permits of a client that died are lost for ever.
    async fn the_permits_of_the_dead_come_back_redisson_4462(store: TestStore) {
        let client = store.client();
        let session = client.session().ttl(wait::BRIEF).await.unwrap();
        let semaphore = client.semaphore("s", 2).with_session(&session);
        let permits = semaphore.acquire_many(2).await.unwrap();
        let waits = waiting(&*store.store(), &semaphore, 1).await;
        let other = store.another_client().await.semaphore("s", 2);
        let next = waiting(&*store.store(), &other, 2).await;
        // As when the process dies: nobody renews the lease any more, and nobody revokes it.
        session.orphan();
        assert!(waits.await.unwrap().unwrap_err().is_session_lost());
        // Had it died before it could take its place back, the lease would do that too.
        let next = wait::soon("the permits of the dead", next).await.unwrap().unwrap();
        assert_eq!(next.num_permits(), 2);
        assert!(permits.check().await.unwrap_err().is_session_lost());
        assert!(permits.release().await.unwrap_err().is_session_lost());
        next.check().await.unwrap();
    }

    async fn who_waits_survives_compaction(store: TestStore) {
        let semaphore = store.client().semaphore("s", 1);
        let held = semaphore.acquire().await.unwrap();
        let waits = waiting(&*store.store(), &semaphore, 1).await;
        for number in 0..20 {
            let put = PutRequest::new("other", format!("{number}"));
            let revision = store.store().put(put).await.unwrap().header.revision;
            // On a cluster that other tests use too, somebody may have compacted further.
            drop(store.store().compact(revision, false).await);
        }
        assert!(!waits.is_finished());
        held.release().await.unwrap();
        let next = wait::soon("the next", waits).await.unwrap().unwrap();
        next.release().await.unwrap();
    }

    async fn all_agree_on_the_total(store: TestStore) {
        let two = store.client().semaphore("s", 2);
        let three = store.another_client().await.semaphore("s", 3);
        let held = two.acquire_many(2).await.unwrap();
        for error in [
            three.acquire().await.map(drop).unwrap_err(),
            three.try_acquire().await.map(drop).unwrap_err(),
            three.available_permits().await.map(drop).unwrap_err(),
        ] {
            let expected = matches!(error, Error::Disagreement { stored: 2, asked: 3, .. });
            assert!(expected, "{error}");
        }
        let waits = waiting(&*store.store(), &two, 1).await;
        let resized = two.resize(3).await.unwrap();
        let next = wait::soon("the larger one", waits).await.unwrap().unwrap();
        assert_eq!(resized.available_permits().await.unwrap(), 0);
        held.release().await.unwrap();
        let more = three.acquire_many(2).await.unwrap();
        assert!(matches!(two.acquire().await, Err(Error::Disagreement { .. })));
        assert!(matches!(three.remove().await, Err(Error::Held { .. })));
        more.release().await.unwrap();
        next.release().await.unwrap();
        three.remove().await.unwrap();
        two.acquire().await.unwrap().release().await.unwrap();
    }

    /// What is written with a permit is not written once it is lost.
    async fn writes_are_fenced(store: TestStore) {
        let semaphore = store.client().semaphore("s", 1);
        let old = semaphore.acquire().await.unwrap();
        old.txn().and_then([PutRequest::new("k", "old")]).await.unwrap();
        let lost = old.lost();
        let key = old.key().clone();
        store.store().delete(synod::store::DeleteRequest::new(key)).await.unwrap();
        wait::soon("the loss", lost).await;
        let new = semaphore.acquire().await.unwrap();
        assert!(new.fencing_token() > old.fencing_token());
        new.txn().and_then([PutRequest::new("k", "new")]).await.unwrap();
        let late = old.txn().and_then([PutRequest::new("k", "late")]).await;
        assert!(matches!(late, Err(Error::NotOwner { .. })), "{late:?}");
        let stored = store.store().range(RangeRequest::new("k")).await.unwrap();
        assert_eq!(stored.kvs[0].value, "new");
    }
}
