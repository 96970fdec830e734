//! Semaphores in one process, over a store that loses answers.

mod faults;
mod total;

use std::time::Duration;

use synod_store::{DeleteRequest, KeyRange, PutRequest, RangeRequest, Store};

use crate::testing::{
    FAULTS, Fault, Faulty, WatchEnd, overdue_in_trouble, pass, runtime, soon, stops_at_gate, until,
    until_async,
};
use crate::{Error, Semaphore, SemaphorePermit};

const TIMEOUT: Duration = Duration::from_secs(60);

async fn tickets(faulty: &Faulty) -> u64 {
    let range = RangeRequest::new(KeyRange::prefix("__synod/semaphore/s/line/")).count_only();
    faulty.engine.range(range).await.unwrap().count
}

async fn until_tickets(faulty: &Faulty, count: u64) {
    until_async(async || tickets(faulty).await == count).await;
}

type Waiting = tokio::task::JoinHandle<crate::Result<SemaphorePermit>>;

/// Begins to wait, and returns when the ticket is in the line.
async fn waiting(faulty: &Faulty, semaphore: &Semaphore, permits: u32) -> Waiting {
    let before = tickets(faulty).await;
    let semaphore = semaphore.clone();
    let task = tokio::spawn(async move { semaphore.acquire_many(permits).await });
    until_tickets(faulty, before + 1).await;
    task
}

#[tokio::test]
async fn permits_are_given_in_order_and_nobody_overtakes() {
    let faulty = Faulty::new();
    let (one, two) = (faulty.client(TIMEOUT), faulty.client(TIMEOUT));
    let (one, two) = (one.semaphore("s", 3), two.semaphore("s", 3));
    assert_eq!(one.available_permits().await.unwrap(), 3);
    let held = one.acquire_many(2).await.unwrap();
    assert_eq!(
        (held.num_permits(), two.available_permits().await.unwrap()),
        (2, 1)
    );
    let large = waiting(&faulty, &two, 2).await;
    // One permit is free, but somebody waits already.
    let small = waiting(&faulty, &one, 1).await;
    assert!(one.try_acquire().await.unwrap().is_none());
    assert_eq!(tickets(&faulty).await, 3);
    assert!(!large.is_finished() && !small.is_finished());
    let token = held.fencing_token();
    held.release().await.unwrap();
    let large = soon(large).await.unwrap().unwrap();
    let small = soon(small).await.unwrap().unwrap();
    assert!(token < large.fencing_token() && large.fencing_token() < small.fencing_token());
    assert_eq!(one.available_permits().await.unwrap(), 0);
    drop(large);
    until_tickets(&faulty, 1).await;
    small.release().await.unwrap();
    assert_eq!(one.available_permits().await.unwrap(), 3);
}

#[tokio::test]
async fn an_acquire_costs_one_round_trip_when_permits_are_free() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    client.own_session().await.unwrap();
    let semaphore = client.semaphore("s", 2);
    let before = faulty.txns();
    // The first user stores the total on the way.
    let one = semaphore.acquire().await.unwrap();
    let two = semaphore.acquire().await.unwrap();
    one.release().await.unwrap();
    two.release().await.unwrap();
    assert_eq!(
        (faulty.txns() - before, faulty.ranges(), faulty.watches()),
        (4, 0, 0)
    );
}

#[tokio::test]
async fn all_who_wait_in_a_process_share_a_watch() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let held = client.semaphore("s", 1).acquire().await.unwrap();
    let mut line = Vec::new();
    for _ in 0..5 {
        // By handles of their own, too.
        line.push(waiting(&faulty, &client.semaphore("s", 1), 1).await);
    }
    until(|| faulty.watches() > 0).await;
    held.release().await.unwrap();
    for waiting in line {
        soon(waiting)
            .await
            .unwrap()
            .unwrap()
            .release()
            .await
            .unwrap();
    }
    assert_eq!(faulty.watches(), 1);
}

#[tokio::test]
async fn who_gives_up_leaves_the_line() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let semaphore = client.semaphore("s", 2);
    let held = semaphore.acquire().await.unwrap();
    let timeout = Duration::from_millis(20);
    assert!(
        semaphore
            .acquire_many_timeout(2, timeout)
            .await
            .unwrap()
            .is_none()
    );
    until_tickets(&faulty, 1).await;
    let dropped = waiting(&faulty, &semaphore, 2).await;
    let behind = waiting(&faulty, &semaphore, 1).await;
    assert!(!behind.is_finished());
    dropped.abort();
    // One is free, and nobody stands before it any more.
    let behind = soon(behind).await.unwrap().unwrap();
    drop((held, behind));
    until_tickets(&faulty, 0).await;
    // Dropped while it joins.
    for step in 0..2 {
        faulty.close_gate(step);
        let semaphore = semaphore.clone();
        let joining = tokio::spawn(async move { semaphore.acquire().await.map(drop) });
        stops_at_gate(&faulty).await;
        joining.abort();
        let _ = joining.await;
        faulty.open_gate();
        until_tickets(&faulty, 0).await;
    }
}

#[tokio::test]
async fn keys_that_are_no_tickets_count_for_nothing() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    for key in ["__synod/semaphore/s/line/x", "__synod/semaphore/s/other"] {
        faulty.engine.put(PutRequest::new(key, "9")).await.unwrap();
    }
    // Names that contain each other's separators are apart.
    let _other = client.semaphore("s/line", 1).acquire().await.unwrap();
    let semaphore = client.semaphore("s", 1);
    let held = semaphore.try_acquire().await.unwrap().unwrap();
    let waits = tokio::spawn(async move { semaphore.acquire().await });
    until_tickets(&faulty, 3).await;
    held.release().await.unwrap();
    soon(waits).await.unwrap().unwrap().release().await.unwrap();
}
