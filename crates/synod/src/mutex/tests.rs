//! The mutex over a network that misbehaves.

use std::time::Duration;

use synod_store::{KeyRange, RangeRequest, Store};

use crate::testing::{Faulty, until_async};

async fn count(faulty: &Faulty, prefix: &str) -> u64 {
    let range = KeyRange::prefix(prefix);
    let request = RangeRequest::new(range).count_only();
    faulty.engine.range(request).await.unwrap().count
}

#[tokio::test]
async fn a_free_lock_costs_one_round_trip() {
    let faulty = Faulty::new();
    let mutex = faulty.client(Duration::from_secs(5)).mutex("m");
    mutex.lock().await.unwrap().unlock().await.unwrap();
    let (txns, ranges, watches) = (faulty.txns(), faulty.ranges(), faulty.watches());
    let guard = mutex.lock().await.unwrap();
    assert_eq!(faulty.txns() - txns, 1);
    assert!(mutex.try_lock().await.unwrap().is_none());
    assert_eq!(faulty.txns() - txns, 2);
    guard.unlock().await.unwrap();
    assert_eq!(faulty.txns() - txns, 3);
    assert_eq!((faulty.ranges(), faulty.watches()), (ranges, watches));
    assert_eq!(count(&faulty, "m/").await, 0);
}

#[tokio::test]
async fn a_dropped_guard_releases_in_the_background() {
    let faulty = Faulty::new();
    let mutex = faulty.client(Duration::from_secs(5)).mutex("m");
    drop(mutex.lock().await.unwrap());
    until_async(async || count(&faulty, "m/").await == 0).await;
}
