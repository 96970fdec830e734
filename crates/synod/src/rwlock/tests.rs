//! The readers-writer lock over a network that misbehaves.

use std::time::Duration;

use crate::testing::Faulty;

#[tokio::test]
async fn readers_share_and_writers_do_not() {
    let faulty = Faulty::new();
    let lock = faulty.client(Duration::from_secs(5)).rwlock("rw");
    let one = lock.read().await.unwrap();
    let two = lock.try_read().await.unwrap().unwrap();
    assert!(lock.try_write().await.unwrap().is_none());
    one.unlock().await.unwrap();
    assert!(lock.try_write().await.unwrap().is_none());
    two.unlock().await.unwrap();
    let writer = lock.try_write().await.unwrap().unwrap();
    assert!(lock.try_write().await.unwrap().is_none());
    assert!(lock.try_read().await.unwrap().is_none());
    writer.unlock().await.unwrap();
}
