//! The mutex: cost, order, guards and what stays behind.

mod crowd;
mod faults;
mod handover;

use std::time::Duration;

use synod_store::{Compare, DeleteRequest, KeyRange, PutRequest, RangeRequest, Store, TxnOp};
use tokio::task::JoinHandle;

use super::{Mutex, MutexGuard};
use crate::testing::{Faulty, runtime, stops_at_gate, until, until_async};
use crate::{Client, Error, Result};

const TTL: Duration = Duration::from_secs(60);

fn client(faulty: &Faulty) -> Client {
    faulty.client(TTL)
}

async fn count(faulty: &Faulty, prefix: &str) -> u64 {
    let range = KeyRange::prefix(prefix);
    let request = RangeRequest::new(range).count_only();
    faulty.engine.range(request).await.unwrap().count
}

async fn until_empty(faulty: &Faulty) {
    until_async(async || count(faulty, "m/").await == 0).await;
}

fn locking(mutex: &Mutex) -> JoinHandle<Result<MutexGuard>> {
    let mutex = mutex.clone();
    tokio::spawn(async move { mutex.lock().await })
}

/// Locks in a task, once as many as that stand in the line.
async fn in_line(faulty: &Faulty, mutex: &Mutex, line: u64) -> JoinHandle<Result<MutexGuard>> {
    let task = locking(mutex);
    until_async(async || count(faulty, "m/").await == line).await;
    task
}

#[tokio::test]
async fn a_free_lock_costs_one_round_trip() {
    let faulty = Faulty::new();
    let mutex = client(&faulty).mutex("m");
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
async fn a_wait_costs_what_is_promised() {
    let faulty = Faulty::new();
    let mutex = client(&faulty).mutex("m");
    let first = mutex.lock().await.unwrap();
    let (txns, ranges) = (faulty.txns(), faulty.ranges());
    let second = in_line(&faulty, &mutex, 2).await;
    // The own key is watched after a while.
    until(|| faulty.txns() - txns >= 2 && faulty.watches() == 2).await;
    // Events of others wake nobody.
    for number in 0..50 {
        let put = PutRequest::new(format!("m/x/{number}"), "");
        faulty.engine.put(put).await.unwrap();
    }
    first.unlock().await.unwrap();
    let second = second.await.unwrap().unwrap();
    // Join, a read when the own key's watch stands, the first one's unlock, look; another look if anything
    // happened between the join and the first watch.
    let took = faulty.txns() - txns;
    assert!((4..=5).contains(&took), "{took}");
    assert_eq!(faulty.ranges(), ranges);
    drop(second);
}

#[tokio::test]
async fn each_of_many_waiters_takes_few_round_trips() {
    const WAITERS: u64 = 15;
    let faulty = Faulty::new();
    let mutex = client(&faulty).mutex("m");
    let first = mutex.lock().await.unwrap();
    let txns = faulty.txns();
    let mut waiters = Vec::new();
    for number in 0..WAITERS {
        waiters.push(in_line(&faulty, &mutex, number + 2).await);
    }
    until(|| faulty.watches() == 3).await;
    let mut guard = first;
    let mut token = guard.fencing_token();
    for waiter in waiters {
        guard.unlock().await.unwrap();
        guard = waiter.await.unwrap().unwrap();
        assert!(guard.fencing_token() > token);
        token = guard.fencing_token();
    }
    // One to join, one when it is their turn, one to unlock the one before; one more where a watch was
    // opened, and one where the wait took long.
    let took = faulty.txns() - txns;
    let waiters = WAITERS as usize;
    assert!((3 * waiters..=5 * waiters).contains(&took), "{took}");
    assert_eq!(faulty.watches(), 3);
    drop(guard);
    until_empty(&faulty).await;
}

#[tokio::test]
async fn a_dropped_guard_releases_in_the_background() {
    let faulty = Faulty::new();
    let mutex = client(&faulty).mutex("m");
    let guard = mutex.lock().await.unwrap();
    let waiting = in_line(&faulty, &mutex, 2).await;
    drop(guard);
    drop(waiting.await.unwrap().unwrap());
    until_empty(&faulty).await;
}

#[tokio::test]
async fn a_guard_outlives_its_mutex_and_its_client() {
    let faulty = Faulty::new();
    let guard = {
        let client = client(&faulty);
        client.mutex("m").lock().await.unwrap()
    };
    guard.check().await.unwrap();
    assert_eq!(count(&faulty, "m/").await, 1);
    guard.unlock().await.unwrap();
    assert_eq!(count(&faulty, "m/").await, 0);
    // With the last handle the session goes too.
    until_async(async || faulty.engine.leases().await.unwrap().leases.is_empty()).await;
}

#[tokio::test]
async fn closing_the_client_ends_what_its_guards_hold() {
    let faulty = Faulty::new();
    let client = client(&faulty);
    let mutex = client.mutex("m");
    let guard = mutex.lock().await.unwrap();
    let lost = tokio::spawn(guard.lost());
    client.close().await.unwrap();
    lost.await.unwrap();
    assert_eq!(count(&faulty, "m/").await, 0);
    assert!(matches!(guard.check().await, Err(Error::SessionLost)));
    assert!(matches!(guard.unlock().await, Err(Error::SessionLost)));
    // Other handles stay usable, under another session.
    mutex.lock().await.unwrap().unlock().await.unwrap();
}

#[tokio::test]
async fn a_fenced_transaction_fails_once_the_lock_is_lost() {
    let faulty = Faulty::new();
    let guard = client(&faulty).mutex("m").lock().await.unwrap();
    let put = || guard.txn().and_then([PutRequest::new("result", "1")]);
    assert!(put().await.unwrap().succeeded);
    let own = TxnOp::from(PutRequest::new("result", "2"));
    let by_hand = synod_store::Txn::new()
        .when([guard.is_owner()])
        .and_then([own]);
    assert!(faulty.engine.txn(by_hand.clone()).await.unwrap().succeeded);
    let lost = tokio::spawn(guard.lost());
    let delete = DeleteRequest::new(guard.key().clone());
    faulty.engine.delete(delete).await.unwrap();
    lost.await.unwrap();
    assert!(matches!(put().await, Err(Error::NotOwner { .. })));
    assert!(!faulty.engine.txn(by_hand).await.unwrap().succeeded);
    assert!(matches!(guard.check().await, Err(Error::NotOwner { .. })));
    assert!(matches!(guard.unlock().await, Err(Error::NotOwner { .. })));
}

#[tokio::test]
async fn a_lock_that_is_dropped_at_any_step_leaves_nothing() {
    for held in [false, true] {
        for step in 0..6 {
            let faulty = Faulty::new();
            let mutex = client(&faulty).mutex("m");
            let holder = if held { mutex.lock().await.ok() } else { None };
            faulty.close_gate(step);
            let task = locking(&mutex);
            stops_at_gate(&faulty).await;
            task.abort();
            let _ = task.await;
            faulty.open_gate();
            drop(holder);
            until_empty(&faulty).await;
        }
    }
}

#[tokio::test]
async fn a_timeout_leaves_nothing() {
    let faulty = Faulty::new();
    let mutex = client(&faulty).mutex("m");
    let guard = mutex.lock().await.unwrap();
    let short = Duration::from_millis(20);
    assert!(mutex.lock_timeout(short).await.unwrap().is_none());
    until_async(async || count(&faulty, "m/").await == 1).await;
    guard.unlock().await.unwrap();
    assert!(mutex.lock_timeout(TTL).await.unwrap().is_some());
}

/// A key that somebody put by hand holds the lock until it is deleted.
#[tokio::test]
async fn a_key_without_a_lease_counts() {
    let faulty = Faulty::new();
    let mutex = client(&faulty).mutex("m");
    faulty
        .engine
        .put(PutRequest::new("m/by-hand", "the operator"))
        .await
        .unwrap();
    let holder = mutex.holder().await.unwrap().unwrap();
    assert_eq!((holder.lease, holder.waiters), (None, 0));
    assert!(mutex.try_lock().await.unwrap().is_none());
    let waiting = in_line(&faulty, &mutex, 2).await;
    let gone = synod_store::Txn::new()
        .when([Compare::created_at(
            "m/by-hand",
            synod_store::Revision(holder.fencing_token),
        )])
        .and_then([DeleteRequest::new("m/by-hand")]);
    assert!(faulty.engine.txn(gone).await.unwrap().succeeded);
    drop(waiting.await.unwrap().unwrap());
}

#[test]
fn a_guard_may_be_dropped_in_another_runtime_or_in_none() {
    let (first, second) = (runtime(), runtime());
    let faulty = first.block_on(async { Faulty::new() });
    let mutex = first.block_on(async { client(&faulty).mutex("m") });
    for elsewhere in [true, false] {
        let guard = first.block_on(mutex.lock()).unwrap();
        if elsewhere {
            second.block_on(async { drop(guard) });
        } else {
            drop(guard);
        }
        first.block_on(until_empty(&faulty));
    }
    // The runtime of the lock is gone: the lease is the backstop, and nothing panics.
    let guard = second.block_on(mutex.lock()).unwrap();
    second.shutdown_background();
    drop(guard);
    drop(first);
}

#[tokio::test]
async fn names_of_its_own_records_are_refused() {
    let client = client(&Faulty::new());
    let refused = client.mutex("__synod/x").lock().await;
    assert!(matches!(refused, Err(Error::ReservedName { .. })));
}

#[tokio::test]
async fn everything_may_be_sent_to_other_threads() {
    fn sent<T: Send + 'static>(value: T) -> T {
        value
    }
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    let client = client(&Faulty::new());
    let (mutex, lock) = (client.mutex("m"), client.rwlock("rw"));
    shared(&mutex);
    shared(&lock);
    let (other, other_lock) = (mutex.clone(), lock.clone());
    let guard = sent(async move { other.lock().await }).await.unwrap();
    let reader = sent(async move { other_lock.read().await }).await.unwrap();
    shared(&guard);
    shared(&reader);
    drop(sent(guard.lost()));
    sent(guard.unlock()).await.unwrap();
    sent(reader.unlock()).await.unwrap();
}
