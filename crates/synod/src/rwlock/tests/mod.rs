//! The readers-writer lock: who waits for whom, and what faults do to it.

mod storm;

use std::time::Duration;

use synod_store::{DeleteRequest, KeyRange, PutRequest, RangeRequest, Store};
use tokio::task::JoinHandle;

use super::{Holders, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::testing::{FAULTS, Fault, Faulty, WatchEnd, stops_at_gate, until, until_async};
use crate::{Client, Error, Result};

const TTL: Duration = Duration::from_secs(60);

fn client(faulty: &Faulty) -> Client {
    faulty.client(TTL)
}

async fn count(faulty: &Faulty) -> u64 {
    let range = KeyRange::prefix("rw/");
    let request = RangeRequest::new(range).count_only();
    faulty.engine.range(request).await.unwrap().count
}

async fn until_count(faulty: &Faulty, keys: u64) {
    until_async(async || count(faulty).await == keys).await;
}

/// Asks for reading in a task, once as many as that stand in the line.
async fn reading(faulty: &Faulty, lock: &RwLock, line: u64) -> JoinHandle<Result<RwLockReadGuard>> {
    let lock = lock.clone();
    let task = tokio::spawn(async move { lock.read().await });
    until_count(faulty, line).await;
    task
}

/// Asks for writing in a task, once as many as that stand in the line.
async fn writing(
    faulty: &Faulty,
    lock: &RwLock,
    line: u64,
) -> JoinHandle<Result<RwLockWriteGuard>> {
    let lock = lock.clone();
    let task = tokio::spawn(async move { lock.write().await });
    until_count(faulty, line).await;
    task
}

#[tokio::test]
async fn readers_share_and_writers_do_not() {
    let faulty = Faulty::new();
    let lock = client(&faulty).rwlock("rw");
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
    assert_eq!(count(&faulty).await, 0);
}

#[tokio::test]
async fn first_come_first_served() {
    let faulty = Faulty::new();
    let lock = client(&faulty).rwlock("rw");
    let first = lock.read().await.unwrap();
    let writer = writing(&faulty, &lock, 2).await;
    // Readers that come after a waiting writer wait for it.
    assert!(lock.try_read().await.unwrap().is_none());
    let second = reading(&faulty, &lock, 3).await;
    let third = reading(&faulty, &lock, 4).await;
    let last = writing(&faulty, &lock, 5).await;
    assert!(!writer.is_finished() && !second.is_finished() && !third.is_finished());
    first.unlock().await.unwrap();
    let writer = writer.await.unwrap().unwrap();
    assert!(!second.is_finished() && !third.is_finished() && !last.is_finished());
    writer.unlock().await.unwrap();
    // Both at once, and the last writer after both, whichever goes first.
    let (second, third) = (
        second.await.unwrap().unwrap(),
        third.await.unwrap().unwrap(),
    );
    third.unlock().await.unwrap();
    second.check().await.unwrap();
    assert!(!last.is_finished());
    second.unlock().await.unwrap();
    let last = last.await.unwrap().unwrap();
    last.unlock().await.unwrap();
    assert_eq!(count(&faulty).await, 0);
}

#[tokio::test]
async fn a_writer_that_gives_up_lets_the_readers_behind_it_in() {
    let faulty = Faulty::new();
    let lock = client(&faulty).rwlock("rw");
    let _first = lock.read().await.unwrap();
    let writer = writing(&faulty, &lock, 2).await;
    let second = reading(&faulty, &lock, 3).await;
    writer.abort();
    let second = second.await.unwrap().unwrap();
    until_count(&faulty, 2).await;
    drop(second);
    until_count(&faulty, 1).await;
}

#[tokio::test]
async fn who_holds_it_is_told() {
    let faulty = Faulty::new();
    let lock = client(&faulty).rwlock("rw");
    assert_eq!(lock.holders().await.unwrap(), Holders::None);
    let one = lock.read().await.unwrap();
    let two = lock.read().await.unwrap();
    let waiting = writing(&faulty, &lock, 3).await;
    let Holders::Readers(readers) = lock.holders().await.unwrap() else {
        panic!("readers have it");
    };
    let tokens: Vec<_> = readers.iter().map(|holder| holder.fencing_token).collect();
    assert_eq!(tokens, [one.fencing_token(), two.fencing_token()]);
    assert!(readers.iter().all(|holder| holder.waiters == 1));
    drop((one, two));
    let writer = waiting.await.unwrap().unwrap();
    let waiting = reading(&faulty, &lock, 2).await;
    match lock.holders().await.unwrap() {
        Holders::Writer(holder) => {
            assert_eq!(&holder.key, writer.key());
            assert_eq!(holder.waiters, 1);
        }
        other => panic!("{other:?}"),
    }
    drop(writer);
    drop(waiting.await.unwrap().unwrap());
}

/// A blocked writer asks nothing until somebody before it has gone (etcd #6408).
#[tokio::test]
async fn issue_6408_nobody_spins() {
    const READERS: usize = 10;
    let faulty = Faulty::new();
    let lock = client(&faulty).rwlock("rw");
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(lock.read().await.unwrap());
    }
    let txns = faulty.txns();
    let writer = writing(&faulty, &lock, READERS as u64 + 1).await;
    let late = reading(&faulty, &lock, READERS as u64 + 2).await;
    until(|| faulty.txns() - txns == 4).await;
    let asked = || faulty.txns() + faulty.ranges() + faulty.watches();
    let before = asked();
    for number in 0..100 {
        let put = PutRequest::new(format!("rw/read/x/{number}"), "");
        faulty.engine.put(put).await.unwrap();
    }
    assert_eq!(asked(), before);
    // In any order: at most a watch and two looks for each, and one unlock.
    while let Some(reader) = readers.pop() {
        assert!(!writer.is_finished());
        reader.unlock().await.unwrap();
    }
    drop(writer.await.unwrap().unwrap());
    drop(late.await.unwrap().unwrap());
    let asked = asked() - before;
    assert!(asked <= 4 * READERS + 10, "{asked}");
}

/// A waiter whose session has ended is told so, and gets no lock (etcd #16221).
#[tokio::test]
async fn issue_16221_no_lock_without_a_lease() {
    for write in [false, true] {
        let faulty = Faulty::new();
        let client = client(&faulty);
        let lock = client.rwlock("rw");
        let holder = lock.write().await.unwrap();
        let doomed = client.session().ttl(TTL).await.unwrap();
        let with_doomed = lock.clone().with_session(&doomed);
        let waiting = tokio::spawn(async move {
            if write {
                with_doomed.write().await.map(drop)
            } else {
                with_doomed.read().await.map(drop)
            }
        });
        until_count(&faulty, 2).await;
        faulty.engine.lease_revoke(doomed.lease()).await.unwrap();
        holder.unlock().await.unwrap();
        let told = waiting.await.unwrap();
        assert!(matches!(told, Err(Error::SessionLost)), "{told:?}");
        drop(lock.try_write().await.unwrap().unwrap());
    }
}

/// A lock below another name is another lock (etcd-io/website #710).
#[tokio::test]
async fn website_710_nested_names_are_apart() {
    let faulty = Faulty::new();
    let client = client(&faulty);
    let outer = client.rwlock("rw").write().await.unwrap();
    for name in ["rw/inner", "rw/read", "rw/write", "rw/write/x"] {
        let inner = client.rwlock(name);
        drop(inner.try_write().await.unwrap().unwrap());
        until_count(&faulty, 1).await;
    }
    let inner = client.rwlock("rw/write").write().await.unwrap();
    outer.unlock().await.unwrap();
    let outer = client.rwlock("rw").try_read().await.unwrap().unwrap();
    outer.unlock().await.unwrap();
    drop(client.rwlock("rw").try_write().await.unwrap().unwrap());
    inner.check().await.unwrap();
}

/// History that is compacted under blocked waiters strands nobody (etcd #21128, #8231).
#[tokio::test]
async fn issue_21128_and_8231_compaction_while_blocked() {
    for end in [WatchEnd::Compacted, WatchEnd::Closed, WatchEnd::Broken] {
        let faulty = Faulty::new();
        let lock = client(&faulty).rwlock("rw");
        let first = lock.write().await.unwrap();
        let readers = [
            reading(&faulty, &lock, 2).await,
            reading(&faulty, &lock, 3).await,
            reading(&faulty, &lock, 4).await,
        ];
        let last = writing(&faulty, &lock, 5).await;
        until(|| faulty.watches() >= 4).await;
        let watches = faulty.watches();
        faulty.end_watches(end);
        until(|| faulty.watches() > watches).await;
        assert!(readers.iter().all(|reader| !reader.is_finished()));
        first.unlock().await.unwrap();
        for reader in readers {
            assert!(!last.is_finished());
            reader.await.unwrap().unwrap().unlock().await.unwrap();
        }
        last.await.unwrap().unwrap().unlock().await.unwrap();
    }
}

/// No key is put twice: Go's side orders by modification revision.
#[tokio::test]
async fn a_key_is_put_once() {
    let faulty = Faulty::new();
    let lock = client(&faulty).rwlock("rw");
    faulty.script([Fault::None, Fault::Lose]);
    let guard = lock.read().await.unwrap();
    let request = RangeRequest::new(guard.key().clone());
    let found = faulty.engine.range(request).await.unwrap().kvs;
    assert_eq!(found[0].version, 1);
    assert_eq!(found[0].mod_revision.0, guard.fencing_token());
    assert!(guard.key().starts_with(b"rw/read/"));
}

#[tokio::test]
async fn a_wait_that_is_dropped_at_any_step_leaves_nothing() {
    for step in 0..6 {
        let faulty = Faulty::new();
        let lock = client(&faulty).rwlock("rw");
        let holder = lock.read().await.unwrap();
        faulty.close_gate(step);
        let waiting = {
            let lock = lock.clone();
            tokio::spawn(async move { lock.write().await })
        };
        stops_at_gate(&faulty).await;
        waiting.abort();
        let _ = waiting.await;
        faulty.open_gate();
        until_count(&faulty, 1).await;
        let short = Duration::from_millis(20);
        assert!(lock.write_timeout(short).await.unwrap().is_none());
        assert!(lock.read_timeout(TTL).await.unwrap().is_some());
        drop(holder);
        until_count(&faulty, 0).await;
    }
}

/// Whatever is lost, delayed or refused: no writer with anyone, and nothing stays behind.
#[tokio::test]
async fn faults_at_every_step_break_nothing() {
    for fault in FAULTS {
        for step in 0..8 {
            let faulty = Faulty::new();
            let lock = client(&faulty).rwlock("rw");
            faulty.script(std::iter::repeat_n(Fault::None, step).chain([fault]));
            for _ in 0..2 {
                let reader = lock.read().await.unwrap();
                assert!(lock.try_write().await.unwrap().is_none());
                reader.check().await.unwrap();
                reader.unlock().await.unwrap();
                let writer = lock.write().await.unwrap();
                assert!(lock.try_read().await.unwrap().is_none());
                writer.check().await.unwrap();
                writer.unlock().await.unwrap();
            }
            faulty.deliver_late().await;
            until_count(&faulty, 0).await;
        }
    }
}

#[tokio::test]
async fn a_guard_that_lost_its_key_says_so() {
    let faulty = Faulty::new();
    let lock = client(&faulty).rwlock("rw");
    let reader = lock.read().await.unwrap();
    let lost = tokio::spawn(reader.lost());
    let delete = DeleteRequest::new(reader.key().clone());
    faulty.engine.delete(delete).await.unwrap();
    lost.await.unwrap();
    let written = reader.txn().and_then([PutRequest::new("result", "")]).await;
    assert!(matches!(written, Err(Error::NotOwner { .. })));
    assert!(matches!(reader.unlock().await, Err(Error::NotOwner { .. })));
}
