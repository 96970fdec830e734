//! Many tasks of one client on one lock, and keys that are used again.

use std::time::Duration;

use synod_store::{KeyRange, RangeRequest, Store};

use super::{client, count, in_line, locking, until_empty};
use crate::testing::{Fault, Faulty, until_async};

#[tokio::test]
async fn of_many_tasks_few_stand_in_the_line_and_all_come_in_order() {
    const TASKS: usize = 60;
    let faulty = Faulty::new();
    let mutex = client(&faulty).mutex("m");
    let first = mutex.lock().await.unwrap();
    let answered = faulty.answered();
    let mut tasks = Vec::new();
    for number in 0..TASKS as u64 {
        // The holder does not count.
        tasks.push(in_line(&faulty, &mutex, (number + 2).min(17)).await);
    }
    let mut guard = first;
    let mut token = guard.fencing_token();
    for task in tasks {
        assert!(count(&faulty, "m/").await <= 17);
        guard.unlock().await.unwrap();
        guard = task.await.unwrap().unwrap();
        assert!(guard.fencing_token() > token);
        token = guard.fencing_token();
    }
    // Whoever reads the line reads no more than those few.
    let answered = faulty.answered() - answered;
    assert!(answered <= TASKS * 17 * 4, "{answered} pairs");
    drop(guard);
    until_empty(&faulty).await;
}

#[tokio::test]
async fn who_leaves_before_it_stands_in_the_line_leaves_nothing() {
    let faulty = Faulty::new();
    let client = client(&faulty);
    let mutex = client.mutex("m");
    let first = mutex.lock().await.unwrap();
    let mut standing = Vec::new();
    for number in 0..16 {
        standing.push(in_line(&faulty, &mutex, number + 2).await);
    }
    let session = client.session().await.unwrap();
    let doomed = mutex.clone().with_session(&session);
    let short = Duration::from_millis(20);
    assert!(mutex.lock_timeout(short).await.unwrap().is_none());
    let waiting = locking(&doomed);
    tokio::task::yield_now().await;
    session.close().await.unwrap();
    assert!(waiting.await.unwrap().unwrap_err().is_session_lost());
    assert_eq!(count(&faulty, "m/").await, 17);
    let last = locking(&mutex);
    for task in standing {
        task.abort();
    }
    first.unlock().await.unwrap();
    last.await.unwrap().unwrap().unlock().await.unwrap();
    until_empty(&faulty).await;
}

#[tokio::test]
async fn a_key_is_used_again_only_when_nothing_can_make_it_anew() {
    let faulty = Faulty::new();
    let mutex = client(&faulty).mutex("m");
    let first = mutex.lock().await.unwrap();
    let (key, token) = (first.key().clone(), first.fencing_token());
    first.unlock().await.unwrap();
    let second = mutex.lock().await.unwrap();
    assert_eq!(second.key(), &key);
    assert!(second.fencing_token() > token);
    second.unlock().await.unwrap();
    for fault in [Fault::Lose, Fault::Drop, Fault::Late, Fault::Overtaken] {
        faulty.script([fault]);
        let doubtful = mutex.lock().await.unwrap();
        let key = doubtful.key().clone();
        doubtful.unlock().await.unwrap();
        let next = mutex.lock().await.unwrap();
        assert_ne!(next.key(), &key, "{fault:?}");
        // A late copy makes a key that nobody has, and that goes.
        faulty.deliver_late().await;
        until_async(async || count(&faulty, "m/").await == 1).await;
        next.check().await.unwrap();
        next.unlock().await.unwrap();
    }
    until_empty(&faulty).await;
}

#[tokio::test]
async fn two_keys_that_stand_at_once_differ() {
    let faulty = Faulty::new();
    let mutex = client(&faulty).mutex("m");
    for _ in 0..5 {
        let first = mutex.lock().await.unwrap();
        let second = in_line(&faulty, &mutex, 2).await;
        let all = RangeRequest::new(KeyRange::prefix("m/"));
        assert_eq!(faulty.engine.range(all).await.unwrap().kvs.len(), 2);
        drop(first);
        drop(second.await.unwrap().unwrap());
        until_empty(&faulty).await;
    }
}
