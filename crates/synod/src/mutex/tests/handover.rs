//! The lock handed over in memory: to whom, how long, and never once it may be another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use synod_store::{DeleteRequest, RangeRequest, Revision, Store};
use tokio::task::JoinHandle;

use super::{TTL, client, count, in_line, locking, until_empty};
use crate::clock::ManualClock;
use crate::mutex::{Mutex, MutexGuard};
use crate::slot::Slot;
use crate::testing::{Fault, Faulty, runtime, soon, until, until_async};
use crate::txn::{get, put};
use crate::{ConnectOptions, Error, Result};

fn handed_over(faulty: &Faulty) -> Mutex {
    client(faulty).mutex("m").local_handover()
}

/// So many wait for the lock, in this order.
async fn queue(mutex: &Mutex, tasks: usize) -> Vec<JoinHandle<Result<MutexGuard>>> {
    let baton = mutex.baton.clone().unwrap();
    let before = baton.waiting();
    let mut waiting = Vec::new();
    for number in 1..=tasks {
        waiting.push(locking(mutex));
        // Each comes to its place before the next.
        until(|| baton.waiting() == before + number).await;
    }
    waiting
}

#[tokio::test]
async fn many_turns_cost_two_round_trips_in_all() {
    let faulty = Faulty::new();
    let mutex = handed_over(&faulty);
    mutex.lock().await.unwrap().unlock().await.unwrap();
    let txns = faulty.txns();
    let mut guard = mutex.lock().await.unwrap();
    let (token, key) = (guard.fencing_token(), guard.key().clone());
    for (turn, task) in queue(&mutex, 30).await.into_iter().enumerate() {
        assert_eq!((guard.fencing_token(), guard.turn()), (token, turn as u64));
        guard.unlock().await.unwrap();
        guard = task.await.unwrap().unwrap();
    }
    assert_eq!(guard.key(), &key);
    guard.check().await.unwrap();
    guard.unlock().await.unwrap();
    // To join, and to leave.
    assert_eq!(faulty.txns() - txns, 2);
    assert_eq!(count(&faulty, "m/").await, 0);
    assert!(mutex.lock().await.unwrap().fencing_token() > token);
}

#[tokio::test]
async fn a_dropped_guard_is_handed_on_and_one_without_waiters_unlocks() {
    let faulty = Faulty::new();
    let mutex = handed_over(&faulty);
    let guard = mutex.lock().await.unwrap();
    let token = guard.fencing_token();
    let lost = tokio::spawn(guard.lost());
    let waiting = queue(&mutex, 1).await.remove(0);
    drop(guard);
    let next = waiting.await.unwrap().unwrap();
    assert_eq!((next.fencing_token(), next.turn()), (token, 1));
    soon(lost).await.unwrap();
    drop(next);
    until_empty(&faulty).await;
}

#[tokio::test]
async fn who_has_left_is_passed_over() {
    let faulty = Faulty::new();
    let mutex = handed_over(&faulty);
    let guard = mutex.lock().await.unwrap();
    let mut waiting = queue(&mutex, 4).await;
    let short = Duration::from_millis(10);
    assert!(mutex.lock_timeout(short).await.unwrap().is_none());
    for at in [0, 2] {
        waiting[at].abort();
        assert!((&mut waiting[at]).await.unwrap_err().is_cancelled());
    }
    drop(guard);
    let second = waiting.remove(1).await.unwrap().unwrap();
    drop(second);
    drop(waiting.remove(2).await.unwrap().unwrap());
    until_empty(&faulty).await;
}

#[tokio::test]
async fn when_all_have_left_nobody_stands_in_the_line() {
    let faulty = Faulty::new();
    let other = client(&faulty).mutex("m").lock().await.unwrap();
    let mutex = handed_over(&faulty);
    let waiting = in_line(&faulty, &mutex, 2).await;
    waiting.abort();
    until_async(async || count(&faulty, "m/").await == 1).await;
    let again = in_line(&faulty, &mutex, 2).await;
    other.unlock().await.unwrap();
    again.await.unwrap().unwrap().unlock().await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_nobody_drives_holds_nobody_up_for_ever() {
    for dropped in [false, true] {
        let faulty = Faulty::new();
        let client = faulty.client(Duration::from_secs(2));
        let mutex = client.mutex("m").local_handover();
        let guard = mutex.lock().await.unwrap();
        let token = guard.fencing_token();
        guard.txn().and_then([put("value", "0")]).await.unwrap();
        let waiting = queue(&mutex, 1).await.remove(0);
        faulty.close_gate(0);
        let mut writing = Box::pin(guard.txn().and_then([put("value", "1")]).into_future());
        tokio::select! {
            biased;
            _ = &mut writing => panic!("the gate is closed"),
            came = faulty.wait_at_gate() => assert!(came),
        }
        faulty.open_gate();
        if dropped {
            drop(guard);
        } else {
            soon(guard.unlock()).await.unwrap();
        }
        let next = soon(waiting).await.unwrap().unwrap();
        assert!(next.fencing_token() > token, "nobody knows what it may do");
        drop(writing);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_leave_at_any_moment_strand_nobody() {
    let faulty = Faulty::new();
    let mutex = handed_over(&faulty);
    let mut tasks = Vec::new();
    for number in 0..8_u64 {
        let mutex = mutex.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..100 {
                let time = Duration::from_micros((number * 37 + round * 11) % 300);
                drop(mutex.lock_timeout(time).await.unwrap());
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    soon(mutex.lock()).await.unwrap().unlock().await.unwrap();
    until_empty(&faulty).await;
}

#[tokio::test]
async fn a_try_takes_what_nobody_has_or_wants() {
    let faulty = Faulty::new();
    let mutex = handed_over(&faulty);
    let guard = mutex.try_lock().await.unwrap().unwrap();
    let txns = faulty.txns();
    assert!(mutex.try_lock().await.unwrap().is_none());
    assert_eq!(faulty.txns(), txns, "it is known here");
    let waiting = queue(&mutex, 1).await.remove(0);
    guard.unlock().await.unwrap();
    let next = waiting.await.unwrap().unwrap();
    assert_eq!(next.turn(), 1);
    next.unlock().await.unwrap();
    let _other = client(&faulty).mutex("m").lock().await.unwrap();
    assert!(mutex.try_lock().await.unwrap().is_none());
    assert_eq!(count(&faulty, "m/").await, 1);
}

/// Locks again and again until told to stop; the most turns that a guard of it has had before it.
fn hog(mutex: &Mutex, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (mutex, stop) = (mutex.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut most = 0;
        while !stop.load(Ordering::Relaxed) {
            let guard = mutex.lock().await.unwrap();
            most = most.max(guard.turn());
            tokio::task::yield_now().await;
            guard.unlock().await.unwrap();
        }
        most
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outsiders_are_not_starved_and_without_them_it_goes_on() {
    let faulty = Faulty::new();
    let mutex = handed_over(&faulty);
    let stop = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..4).map(|_| hog(&mutex, &stop)).collect();
    // Nobody else: many more turns than 64 in one series.
    let turns = async || {
        let guard = mutex.lock().await.unwrap();
        guard.turn()
    };
    until_async(async || turns().await > 1000).await;
    // An outsider comes in again and again.
    let outsider = client(&faulty).mutex("m");
    let mut last = 0;
    for _ in 0..20 {
        let guard = soon(outsider.lock()).await.unwrap();
        assert!(guard.fencing_token() > last);
        last = guard.fencing_token();
        guard.unlock().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for hog in hogs {
        hog.await.unwrap();
    }
    until_empty(&faulty).await;
}

#[tokio::test]
async fn an_outsider_comes_after_64_turns_at_the_latest() {
    let faulty = Faulty::new();
    let mutex = handed_over(&faulty);
    let mut guard = mutex.lock().await.unwrap();
    let token = guard.fencing_token();
    let mut waiting = queue(&mutex, 100).await;
    let outsider = in_line(&faulty, &client(&faulty).mutex("m"), 2).await;
    while guard.fencing_token() == token {
        assert!(guard.turn() < 64, "{}", guard.turn());
        guard.unlock().await.unwrap();
        tokio::select! {
            next = waiting.remove(0) => guard = next.unwrap().unwrap(),
            () = until(|| outsider.is_finished()) => break,
        }
    }
    let other = soon(outsider).await.unwrap().unwrap();
    assert!(other.fencing_token() > token);
    other.unlock().await.unwrap();
}

#[tokio::test]
async fn not_handed_over_once_the_time_of_the_session_is_over() {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let options = ConnectOptions::new("memory:").with_clock(clock.clone());
    let mutex = options
        .over(Arc::new(faulty.clone()))
        .mutex("m")
        .local_handover();
    let guard = mutex.lock().await.unwrap();
    let waiting = queue(&mutex, 3).await;
    until(|| clock.sleepers() > 0).await;
    faulty.always(Some(Fault::Refuse));
    clock.advance(TTL);
    // At once, although nothing has told the waiters yet.
    assert!(guard.unlock().await.unwrap_err().is_session_lost());
    for task in waiting {
        let told = soon(task).await.unwrap();
        assert!(matches!(told, Err(Error::SessionLost)), "{told:?}");
    }
}

#[tokio::test]
async fn not_handed_over_once_the_key_is_gone() {
    let faulty = Faulty::new();
    let mutex = handed_over(&faulty);
    let guard = mutex.lock().await.unwrap();
    let token = guard.fencing_token();
    let waiting = queue(&mutex, 1).await.remove(0);
    let created = Revision(guard.fencing_token());
    let baton = mutex.baton.clone().unwrap();
    let delete = DeleteRequest::new(guard.key().clone());
    faulty.engine.delete(delete).await.unwrap();
    until(|| baton.outsiders().saw_end_of(guard.key(), created)).await;
    assert!(matches!(guard.unlock().await, Err(Error::NotOwner { .. })));
    let next = soon(waiting).await.unwrap().unwrap();
    assert!(next.fencing_token() > token);
    next.check().await.unwrap();
}

#[tokio::test]
async fn a_lease_that_is_revoked_ends_the_series_for_the_session_given() {
    let faulty = Faulty::new();
    let client = client(&faulty);
    let session = client.session().ttl(TTL).await.unwrap();
    let mutex = client.mutex("m").with_session(&session).local_handover();
    let guard = mutex.lock().await.unwrap();
    let waiting = queue(&mutex, 2).await;
    // Another session's baton is another.
    assert!(
        client
            .mutex("m")
            .local_handover()
            .try_lock()
            .await
            .unwrap()
            .is_none()
    );
    session.close().await.unwrap();
    assert!(guard.unlock().await.unwrap_err().is_session_lost());
    for task in waiting {
        assert!(soon(task).await.unwrap().unwrap_err().is_session_lost());
    }
    assert_eq!(count(&faulty, "m/").await, 0);
}

#[tokio::test]
async fn a_transaction_of_an_earlier_turn_does_nothing() {
    let faulty = Faulty::new();
    let mutex = handed_over(&faulty);
    let guard = mutex.lock().await.unwrap();
    let late = guard.txn().and_then([put("value", "late")]);
    let waiting = queue(&mutex, 1).await.remove(0);
    guard.unlock().await.unwrap();
    let next = waiting.await.unwrap().unwrap();
    assert!(matches!(late.await, Err(Error::NotOwner { .. })));
    let read = next.txn().and_then([get("value")]).await.unwrap();
    assert!(read.succeeded);
    let there = faulty.engine.range(RangeRequest::new("value")).await;
    assert!(there.unwrap().kvs.is_empty());
}

#[tokio::test]
async fn the_next_turn_begins_when_the_last_ones_transactions_are_settled() {
    for dropped in [false, true] {
        let faulty = Faulty::new();
        let mutex = handed_over(&faulty);
        let guard = mutex.lock().await.unwrap();
        let token = guard.fencing_token();
        // The lane is there already.
        guard.txn().and_then([put("value", "0")]).await.unwrap();
        let waiting = queue(&mutex, 1).await.remove(0);
        faulty.close_gate(0);
        let writing = tokio::spawn(guard.txn().and_then([put("value", "1")]).into_future());
        assert!(faulty.wait_at_gate().await);
        let unlocking = tokio::spawn(async move {
            if dropped {
                drop(guard);
            } else {
                guard.unlock().await.unwrap();
            }
        });
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(!waiting.is_finished(), "the write is on its way");
        faulty.open_gate();
        let next = soon(waiting).await.unwrap().unwrap();
        assert_eq!((next.fencing_token(), next.turn()), (token, 1));
        let there = faulty
            .engine
            .range(RangeRequest::new("value"))
            .await
            .unwrap();
        assert_eq!(there.kvs[0].value, "1");
        assert!(writing.await.unwrap().unwrap().succeeded);
        unlocking.await.unwrap();
    }
}

#[tokio::test]
async fn with_a_transaction_in_doubt_the_lock_goes_back_to_the_store() {
    let faulty = Faulty::new();
    let mutex = handed_over(&faulty);
    let guard = mutex.lock().await.unwrap();
    let token = guard.fencing_token();
    guard.txn().and_then([put("value", "0")]).await.unwrap();
    let waiting = queue(&mutex, 1).await.remove(0);
    faulty.close_gate(0);
    let writing = tokio::spawn(guard.txn().and_then([put("value", "1")]).into_future());
    assert!(faulty.wait_at_gate().await);
    // It may arrive, or not.
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    faulty.open_gate();
    guard.unlock().await.unwrap();
    let next = soon(waiting).await.unwrap().unwrap();
    assert!(
        next.fencing_token() > token,
        "another key, which no copy has"
    );
    assert_eq!(next.turn(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_and_the_pair_of_token_and_turn_rises() {
    let faulty = Faulty::new();
    let inside = Arc::new(AtomicBool::new(false));
    let last = Arc::new(Slot::new((0, 0)));
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for number in 0..10 {
        let client = client(&faulty);
        for _ in 0..if number < 2 { 4 } else { 1 } {
            // Two processes hand over, eight do not.
            let mut mutex = client.mutex("m");
            if number < 2 {
                mutex = mutex.local_handover();
            }
            let (inside, last, done) = (inside.clone(), last.clone(), done.clone());
            tasks.push(tokio::spawn(async move {
                for round in 0..40 {
                    let guard = mutex.lock().await.unwrap();
                    assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                    let pair = (guard.fencing_token(), guard.turn());
                    let before = std::mem::replace(&mut *last.lock(), pair);
                    assert!(pair > before, "{pair:?} after {before:?}");
                    tokio::task::yield_now().await;
                    inside.store(false, Ordering::SeqCst);
                    if round % 3 == 0 {
                        drop(guard);
                    } else {
                        guard.unlock().await.unwrap();
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(done.load(Ordering::Relaxed), 16 * 40);
    until_empty(&faulty).await;
}

#[test]
fn a_runtime_that_ends_takes_nobody_of_another_with_it() {
    let (first, second) = (runtime(), runtime());
    let faulty = second.block_on(async { Faulty::new() });
    let other = second.block_on(async { client(&faulty).mutex("m").lock().await.unwrap() });
    let mutex = second.block_on(async { handed_over(&faulty) });
    // The session lives in the second runtime, the task that stands in the line in the first.
    second.block_on(async {
        let free = mutex.try_lock().await.unwrap();
        assert!(free.is_none());
    });
    let _there = first.block_on(in_line(&faulty, &mutex, 2));
    second.block_on(async {
        let waiting = queue(&mutex, 1).await.remove(0);
        first.shutdown_background();
        other.unlock().await.unwrap();
        soon(waiting)
            .await
            .unwrap()
            .unwrap()
            .unlock()
            .await
            .unwrap();
    });
}

#[tokio::test]
async fn the_store_is_let_go_with_the_last_handle() {
    let store = crate::testing::engine();
    let kept = Arc::downgrade(&store);
    let client = ConnectOptions::new("memory:").over(store);
    let mutex = client.mutex("m").local_handover();
    let guard = mutex.lock().await.unwrap();
    let waiting = queue(&mutex, 1).await.remove(0);
    guard.unlock().await.unwrap();
    waiting.await.unwrap().unwrap().unlock().await.unwrap();
    drop(mutex);
    client.close().await.unwrap();
    let closed = Instant::now();
    until(|| kept.strong_count() == 0).await;
    // Not only when the line was not needed for a while: the store's file is to be opened again now.
    let passed = closed.elapsed();
    assert!(passed < Duration::from_secs(2), "{passed:?}");
}
