//! Semaphores in one process, over a store that loses answers.

use std::time::Duration;

use synod_store::{KeyRange, RangeRequest, Store};

use crate::testing::{Faulty, until_async};
use crate::{Error, Semaphore, SemaphorePermit};

const TIMEOUT: Duration = Duration::from_secs(10);

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
    let large = large.await.unwrap().unwrap();
    let small = small.await.unwrap().unwrap();
    assert!(token < large.fencing_token() && large.fencing_token() < small.fencing_token());
    assert_eq!(one.available_permits().await.unwrap(), 0);
    drop(large);
    until_tickets(&faulty, 1).await;
    small.release().await.unwrap();
    assert_eq!(one.available_permits().await.unwrap(), 3);
}

#[tokio::test]
async fn another_total_is_an_error() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    drop(client.semaphore("s", 3).acquire().await.unwrap());
    let other = client.semaphore("s", 4);
    let disagreement = Error::Disagreement {
        name: "s".into(),
        what: "number of permits",
        stored: 3,
        asked: 4,
    };
    for error in [
        other.acquire().await.unwrap_err(),
        other.try_acquire().await.unwrap_err(),
        other.available_permits().await.unwrap_err(),
    ] {
        assert_eq!(error.to_string(), disagreement.to_string());
    }
    until_tickets(&faulty, 0).await;
}
