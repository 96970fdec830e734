//! The readers-writer lock on every store: in process, served, and on real etcd clusters.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::Rng;
use synod::rwlock::Holders;
use synod::store::{
    DeleteRequest, Key, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Store,
};
use synod::{Client, Error, RwLock, RwLockReadGuard, RwLockWriteGuard};
use synod_tests::stores::TestStore;
use synod_tests::{each_store, wait};
use tokio::task::{JoinHandle, JoinSet};

async fn count(store: &dyn Store) -> u64 {
    let request = RangeRequest::new(KeyRange::prefix("rw/")).count_only();
    store.range(request).await.unwrap().count
}

async fn until_count(store: &TestStore, keys: u64) {
    let store = store.store();
    wait::until(format!("{keys} keys of the lock"), || async {
        count(&*store).await == keys
    })
    .await;
}

/// A client with a connection of its own, as another process has it.
async fn another(store: &TestStore) -> Client {
    store.another_client().await
}

/// Asks for reading in a task, once as many as that stand in the line.
async fn reading(
    store: &TestStore,
    lock: &RwLock,
    line: u64,
) -> JoinHandle<Result<RwLockReadGuard, Error>> {
    let lock = lock.clone();
    let task = tokio::spawn(async move { lock.read().await });
    until_count(store, line).await;
    task
}

/// Asks for writing in a task, once as many as that stand in the line.
async fn writing(
    store: &TestStore,
    lock: &RwLock,
    line: u64,
) -> JoinHandle<Result<RwLockWriteGuard, Error>> {
    let lock = lock.clone();
    let task = tokio::spawn(async move { lock.write().await });
    until_count(store, line).await;
    task
}

each_store! {
    /// Eight clients read and write by lot: no writer with anyone, and tokens of writers rise.
    async fn eight_contenders(store: TestStore) {
        const CONTENDERS: usize = 8;
        const TURNS: usize = 10;
        // How many readers are inside; a writer counts as a thousand.
        let inside = Arc::new(AtomicI64::new(0));
        let mut contenders = JoinSet::new();
        for _ in 0..CONTENDERS {
            let client = another(&store).await;
            let inside = Arc::clone(&inside);
            contenders.spawn(async move {
                let lock = client.rwlock("rw");
                let mut written = Vec::new();
                for _ in 0..TURNS {
                    if rand::rng().random_bool(0.4) {
                        let guard = lock.write().await.unwrap();
                        assert_eq!(inside.fetch_add(1000, Ordering::SeqCst), 0);
                        let put = PutRequest::new("last", guard.fencing_token().to_string());
                        assert!(guard.txn().and_then([put]).await.unwrap().succeeded);
                        written.push(guard.fencing_token());
                        assert_eq!(inside.fetch_sub(1000, Ordering::SeqCst), 1000);
                        guard.unlock().await.unwrap();
                    } else {
                        let guard = lock.read().await.unwrap();
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 1000);
                        guard.check().await.unwrap();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        guard.unlock().await.unwrap();
                    }
                }
                written
            });
        }
        let tokens = contenders.join_all().await;
        assert!(tokens.iter().all(|own| own.is_sorted()));
        // What the last writer wrote is what stayed.
        if let Some(last) = tokens.into_iter().flatten().max() {
            let read = store.store().range(RangeRequest::new("last")).await.unwrap();
            assert_eq!(read.kvs[0].value, last.to_string());
        }
        until_count(&store, 0).await;
    }

    /// First come, first served: a waiting writer is not overtaken by readers, nor the other way round.
    async fn first_come_first_served(store: TestStore) {
        let (one, two) = (another(&store).await.rwlock("rw"), another(&store).await.rwlock("rw"));
        let first = one.read().await.unwrap();
        let writer = writing(&store, &two, 2).await;
        let second = reading(&store, &one, 3).await;
        let third = reading(&store, &two, 4).await;
        let last = writing(&store, &one, 5).await;
        assert!(two.try_read().await.unwrap().is_none());
        assert!(matches!(one.holders().await.unwrap(), Holders::Readers(held) if held.len() == 1));
        first.unlock().await.unwrap();
        let writer = wait::soon("the writer", writer).await.unwrap().unwrap();
        assert!(!second.is_finished() && !third.is_finished() && !last.is_finished());
        match one.holders().await.unwrap() {
            Holders::Writer(holder) => assert_eq!((&holder.key, holder.waiters), (writer.key(), 3)),
            other => panic!("{other:?}"),
        }
        writer.unlock().await.unwrap();
        let second = wait::soon("a reader", second).await.unwrap().unwrap();
        let third = wait::soon("a reader", third).await.unwrap().unwrap();
        assert!(!last.is_finished());
        second.unlock().await.unwrap();
        third.check().await.unwrap();
        assert!(!last.is_finished());
        third.unlock().await.unwrap();
        wait::soon("the last", last).await.unwrap().unwrap().unlock().await.unwrap();
        until_count(&store, 0).await;
    }

    /// A waiter whose session has ended is told so, and gets no lock; the others go on (etcd #16221).
    async fn issue_16221_no_lock_without_a_lease(store: TestStore) {
        let client = another(&store).await;
        let lock = store.client().rwlock("rw");
        let holder = lock.write().await.unwrap();
        for write in [false, true] {
            let doomed = client.session().ttl(Duration::from_secs(60)).await.unwrap();
            let with_doomed = client.rwlock("rw").with_session(&doomed);
            let waiting = tokio::spawn(async move {
                if write {
                    with_doomed.write().await.map(drop)
                } else {
                    with_doomed.read().await.map(drop)
                }
            });
            until_count(&store, 2).await;
            store.store().lease_revoke(doomed.lease()).await.unwrap();
            let told = wait::soon("the waiter's end", waiting).await.unwrap();
            assert!(matches!(told, Err(Error::SessionLost)), "{told:?}");
        }
        holder.unlock().await.unwrap();
        lock.try_write().await.unwrap().unwrap().unlock().await.unwrap();
    }

    /// A dead writer and a dead reader let the others in when their leases have run out.
    async fn dead_holders(store: TestStore) {
        let lock = store.client().rwlock("rw");
        for write in [true, false] {
            let dead = another(&store).await;
            let session = dead.session().ttl(wait::BRIEF).await.unwrap();
            let theirs = dead.rwlock("rw").with_session(&session);
            let (writer, reader) = if write {
                (Some(theirs.write().await.unwrap()), None)
            } else {
                (None, Some(theirs.read().await.unwrap()))
            };
            session.orphan();
            let next = wait::soon("the lock", lock.write()).await.unwrap();
            if let Some(writer) = writer {
                assert!(writer.fencing_token() < next.fencing_token());
                assert!(matches!(writer.unlock().await, Err(Error::SessionLost)));
            }
            if let Some(reader) = reader {
                assert!(matches!(reader.unlock().await, Err(Error::SessionLost)));
            }
            next.unlock().await.unwrap();
        }
    }

    /// Keys as etcd's Go recipes write them stand in the same line.
    async fn keys_of_others(store: TestStore) {
        let raw = store.store();
        let lease = raw.lease_grant(LeaseGrantRequest::new(Duration::from_secs(60)));
        let lease = lease.await.unwrap().id;
        let lock = store.client().rwlock("rw");
        let put = |key: &str| raw.put(PutRequest::new(key, "").with_lease(lease));
        put("rw/read/1700000000000000001").await.unwrap();
        assert!(lock.try_write().await.unwrap().is_none());
        lock.try_read().await.unwrap().unwrap().unlock().await.unwrap();
        let writer = writing(&store, &lock, 2).await;
        put("rw/write/1700000000000000002").await.unwrap();
        let reader = reading(&store, &lock, 4).await;
        let delete = |key: &str| raw.delete(DeleteRequest::new(key));
        delete("rw/read/1700000000000000001").await.unwrap();
        let writer = wait::soon("the writer", writer).await.unwrap().unwrap();
        assert!(!reader.is_finished());
        writer.unlock().await.unwrap();
        until_count(&store, 2).await;
        assert!(!reader.is_finished());
        delete("rw/write/1700000000000000002").await.unwrap();
        let reader = wait::soon("the reader", reader).await.unwrap().unwrap();
        // What Go's side compares is the modification revision.
        let own = raw.range(RangeRequest::new(reader.key().clone())).await.unwrap().kvs;
        assert_eq!(own[0].mod_revision.0, reader.fencing_token());
        reader.unlock().await.unwrap();
    }

    /// A lock below another name is another lock (etcd-io/website #710).
    async fn website_710_nested_names(store: TestStore) {
        let client = store.client();
        let inner = client.rwlock("rw/inner").write().await.unwrap();
        let deeper = client.rwlock("rw/write").write().await.unwrap();
        let outer = client.rwlock("rw").try_write().await.unwrap().unwrap();
        outer.unlock().await.unwrap();
        client.rwlock("rw").try_read().await.unwrap().unwrap().unlock().await.unwrap();
        inner.unlock().await.unwrap();
        deeper.unlock().await.unwrap();
    }

    /// Compaction while waiters are blocked and other keys move the revision (etcd #21128, #8231).
    async fn issue_21128_and_8231_compaction(store: TestStore) {
        let lock = store.client().rwlock("rw");
        let first = lock.write().await.unwrap();
        let readers = [
            reading(&store, &lock, 2).await,
            reading(&store, &lock, 3).await,
            reading(&store, &lock, 4).await,
        ];
        let writer = writing(&store, &lock, 5).await;
        for _ in 0..20 {
            let put = store.store().put(PutRequest::new("else", "")).await.unwrap();
            // Another test of the same cluster may have compacted further.
            let _ = store.store().compact(put.header.revision, true).await;
        }
        assert!(readers.iter().all(|reader| !reader.is_finished()) && !writer.is_finished());
        first.unlock().await.unwrap();
        for reader in readers {
            wait::soon("a reader", reader).await.unwrap().unwrap().unlock().await.unwrap();
        }
        wait::soon("the writer", writer).await.unwrap().unwrap().unlock().await.unwrap();
    }

    /// An unlock with an old token frees nobody (etcd #22082).
    async fn issue_22082_an_old_token(store: TestStore) {
        let lock = store.client().rwlock("rw");
        let old = lock.write().await.unwrap();
        let key: Key = old.key().clone();
        store.store().delete(DeleteRequest::new(key.clone())).await.unwrap();
        wait::soon("the loss", old.lost()).await;
        let now = lock.write().await.unwrap();
        store.store().put(PutRequest::new(key, "")).await.unwrap();
        assert!(matches!(old.unlock().await, Err(Error::NotOwner { .. })));
        now.check().await.unwrap();
        assert_eq!(count(&*store.store()).await, 2);
        now.unlock().await.unwrap();
    }

    /// Whoever gives up leaves nothing, and lets those behind it go on.
    async fn nothing_stays(store: TestStore) {
        let lock = another(&store).await.rwlock("rw");
        let first = lock.read().await.unwrap();
        let writer = writing(&store, &lock, 2).await;
        let second = reading(&store, &lock, 3).await;
        writer.abort();
        let second = wait::soon("the reader", second).await.unwrap().unwrap();
        until_count(&store, 2).await;
        let short = Duration::from_millis(50);
        assert!(lock.write_timeout(short).await.unwrap().is_none());
        drop((first, second));
        lock.write().await.unwrap().unlock().await.unwrap();
        until_count(&store, 0).await;
    }
}
