//! The mutex on every store: in process, served, and on real etcd clusters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use synod::store::{
    Compare, DeleteRequest, Key, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Revision,
    Store, TxnOpResponse,
};
use synod::{Client, ConnectOptions, Error, MutexGuard};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_tests::bridge::{Bridge, Mode};
use synod_tests::etcd::Etcd;
use synod_tests::stores::TestStore;
use synod_tests::target::Served;
use synod_tests::{each_store, etcd_or_skip, wait};
use tokio::task::JoinSet;

/// The keys under `prefix`, the oldest first.
async fn line(store: &dyn Store, prefix: &str) -> Vec<(Revision, Key)> {
    let request = RangeRequest::new(KeyRange::prefix(prefix)).keys_only();
    let kvs = store.range(request).await.unwrap().kvs;
    let mut line: Vec<_> = kvs
        .into_iter()
        .map(|kv| (kv.create_revision, kv.key))
        .collect();
    line.sort();
    line
}

async fn until_line(store: &dyn Store, prefix: &str, length: usize) {
    wait::until(format!("{length} keys under {prefix}"), || async {
        line(store, prefix).await.len() == length
    })
    .await;
}

/// A client with a connection of its own, as another process has it.
async fn another(store: &TestStore) -> Client {
    store.another_client().await
}

/// Adds one to the number under `key`, if the lock is still held. Returns the new number.
async fn count_up(client: &Client, guard: &MutexGuard, key: &str) -> u64 {
    let read = guard.txn().and_then([RangeRequest::new(key)]).await;
    let mut responses = read.unwrap().responses.into_iter();
    let found = responses.next().and_then(TxnOpResponse::into_range);
    let found = found.unwrap().kvs.into_iter().next();
    let number = found.map_or(0, |kv| {
        std::str::from_utf8(&kv.value).unwrap().parse().unwrap()
    });
    let next: u64 = number + 1;
    let put = PutRequest::new(key, next.to_string());
    let put = client.txn().when([guard.is_owner()]).and_then([put]);
    assert!(put.await.unwrap().succeeded);
    next
}

each_store! {
    /// Eight clients take turns: never two at once, tokens rise, nothing that they write is lost.
    async fn eight_contenders(store: TestStore) {
        const CONTENDERS: usize = 8;
        const TURNS: usize = 12;
        let inside = Arc::new(AtomicBool::new(false));
        let mut contenders = JoinSet::new();
        for _ in 0..CONTENDERS {
            let client = another(&store).await;
            let inside = Arc::clone(&inside);
            contenders.spawn(async move {
                let mutex = client.mutex("m");
                let mut turns = Vec::new();
                for _ in 0..TURNS {
                    let guard = mutex.lock().await.unwrap();
                    assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                    let number = count_up(&client, &guard, "counter").await;
                    turns.push((number, guard.fencing_token()));
                    assert!(inside.swap(false, Ordering::SeqCst));
                    guard.unlock().await.unwrap();
                }
                turns
            });
        }
        let mut turns: Vec<_> = contenders.join_all().await.into_iter().flatten().collect();
        turns.sort_unstable();
        let numbers = turns.iter().map(|(number, _)| *number);
        assert!(numbers.eq(1..=(CONTENDERS * TURNS) as u64));
        assert!(turns.is_sorted_by(|(_, a), (_, b)| a < b), "{turns:?}");
        until_line(&*store.store(), "m/", 0).await;
    }

    /// Many tasks of one client, which share their watches.
    async fn many_tasks_of_one_client(store: TestStore) {
        const TASKS: u64 = 40;
        let client = store.client();
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let client = client.clone();
            tasks.spawn(async move {
                let guard = client.mutex("m").lock().await.unwrap();
                let number = count_up(&client, &guard, "counter").await;
                guard.unlock().await.unwrap();
                number
            });
        }
        let mut numbers = tasks.join_all().await;
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=TASKS));
    }

    /// The lock goes on to the next when its holder is dead and its lease has run out.
    async fn a_dead_holder(store: TestStore) {
        let dead = another(&store).await;
        let session = dead.session().ttl(wait::BRIEF).await.unwrap();
        let guard = dead.mutex("m").with_session(&session).lock().await.unwrap();
        let client = store.client();
        let mutex = client.mutex("m");
        assert_eq!(mutex.holder().await.unwrap().unwrap().lease, Some(session.lease()));
        // As if the process had gone: nobody renews the lease, nobody deletes the key.
        session.orphan();
        guard.lost().await;
        let next = wait::soon("the lock", mutex.lock()).await.unwrap();
        assert!(next.fencing_token() > guard.fencing_token());
        let late = guard.txn().and_then([PutRequest::new("late", "")]).await;
        assert!(matches!(late, Err(Error::NotOwner { .. })), "{late:?}");
        assert!(matches!(guard.unlock().await, Err(Error::SessionLost)));
        next.check().await.unwrap();
        next.unlock().await.unwrap();
    }

    /// A lease that somebody revokes is noticed by whoever watches, and told to the others when they
    /// ask (etcd #19597).
    async fn issue_19597_a_revoked_lease(store: TestStore) {
        let (holder, waiter) = (another(&store).await, another(&store).await);
        let guard = holder.mutex("m").lock().await.unwrap();
        let session = waiter.session().ttl(Duration::from_secs(60)).await.unwrap();
        let waiting = {
            let mutex = waiter.mutex("m").with_session(&session);
            tokio::spawn(async move { mutex.lock().await })
        };
        until_line(&*store.store(), "m/", 2).await;
        store.store().lease_revoke(session.lease()).await.unwrap();
        let told = wait::soon("the waiter's end", waiting).await.unwrap();
        assert!(matches!(told, Err(Error::SessionLost)), "{told:?}");
        let lost = tokio::spawn(guard.lost());
        let lease = guard.session().lease();
        store.store().lease_revoke(lease).await.unwrap();
        wait::soon("the holder's loss", lost).await.unwrap();
        assert!(guard.check().await.is_err());
        assert!(guard.unlock().await.is_err());
        // Both begin anew, with sessions that live.
        holder.mutex("m").lock().await.unwrap().unlock().await.unwrap();
    }

    /// `try_lock` writes nothing when somebody is there, and deletes nobody else's key (etcd #10756).
    async fn issue_10756_trying(store: TestStore) {
        let (one, two) = (another(&store).await, another(&store).await);
        let guard = one.mutex("m").lock().await.unwrap();
        let waiting = {
            let mutex = one.mutex("m");
            tokio::spawn(async move { mutex.lock().await })
        };
        until_line(&*store.store(), "m/", 2).await;
        let before = line(&*store.store(), "m/").await;
        for client in [&one, &two] {
            assert!(client.mutex("m").try_lock().await.unwrap().is_none());
        }
        assert_eq!(line(&*store.store(), "m/").await, before);
        guard.unlock().await.unwrap();
        let guard = waiting.await.unwrap().unwrap();
        assert_eq!(two.mutex("m").holder().await.unwrap().unwrap().key, *guard.key());
        guard.unlock().await.unwrap();
        let guard = two.mutex("m").try_lock().await.unwrap().unwrap();
        guard.unlock().await.unwrap();
        until_line(&*store.store(), "m/", 0).await;
    }

    /// A lock of a nested name, and a lock around it (etcd-io/website #710).
    async fn website_710_nested_names(store: TestStore) {
        let client = store.client();
        let inner = client.mutex("m/a").lock().await.unwrap();
        let outer = client.mutex("m").try_lock().await.unwrap().unwrap();
        let waiting = {
            let mutex = client.mutex("m");
            tokio::spawn(async move { mutex.lock().await })
        };
        until_line(&*store.store(), "m/", 3).await;
        outer.unlock().await.unwrap();
        waiting.await.unwrap().unwrap().unlock().await.unwrap();
        inner.check().await.unwrap();
        // A name that ends in a slash is another name still.
        let slash = client.mutex("m/").try_lock().await.unwrap().unwrap();
        assert!(slash.key().starts_with(b"m//"));
    }

    /// Compaction while a waiter is blocked and other keys move the revision (etcd #21128, #8231).
    async fn issue_21128_and_8231_compaction(store: TestStore) {
        let client = store.client();
        let guard = client.mutex("m").lock().await.unwrap();
        let other = another(&store).await;
        let waiting: Vec<_> = (0..4).map(|_| {
            let mutex = other.mutex("m");
            tokio::spawn(async move { mutex.lock().await?.unlock().await })
        }).collect();
        until_line(&*store.store(), "m/", 5).await;
        for _ in 0..20 {
            let put = store.store().put(PutRequest::new("else", "")).await.unwrap();
            // Another test of the same cluster may have compacted further.
            let _ = store.store().compact(put.header.revision, true).await;
        }
        assert!(waiting.iter().all(|task| !task.is_finished()));
        guard.unlock().await.unwrap();
        for task in waiting {
            wait::soon("the lock", task).await.unwrap().unwrap();
        }
    }

    /// Keys as etcd's Go package and Lock service write them stand in the same line.
    async fn keys_of_others(store: TestStore) {
        let raw = store.store();
        let lease = raw.lease_grant(LeaseGrantRequest::new(Duration::from_secs(60)));
        let lease = lease.await.unwrap().id;
        let key = Key::from(format!("m/{lease}"));
        let put = PutRequest::new(key.clone(), "").with_lease(lease);
        raw.put(put).await.unwrap();
        let client = store.client();
        let mutex = client.mutex("m");
        let holder = mutex.holder().await.unwrap().unwrap();
        assert_eq!((&holder.key, holder.lease), (&key, Some(lease)));
        assert!(mutex.try_lock().await.unwrap().is_none());
        let waiting = tokio::spawn(async move { mutex.lock().await });
        until_line(&*raw, "m/", 2).await;
        raw.delete(DeleteRequest::new(key)).await.unwrap();
        let guard = wait::soon("the lock", waiting).await.unwrap().unwrap();
        // What Go's side asks: who was created first under the prefix?
        let first = line(&*raw, "m/").await.remove(0);
        assert_eq!(first, (Revision(guard.fencing_token()), guard.key().clone()));
        assert!(guard.key().starts_with(format!("m/{}-", guard.session().lease()).as_bytes()));
        guard.unlock().await.unwrap();
    }

    /// An unlock with an old token frees nobody (etcd #22082).
    async fn issue_22082_an_old_token(store: TestStore) {
        let client = store.client();
        let old = client.mutex("m").lock().await.unwrap();
        let key = old.key().clone();
        store.store().delete(DeleteRequest::new(key.clone())).await.unwrap();
        let now = client.mutex("m").lock().await.unwrap();
        // The old key itself is made anew, too.
        let put = store.store().put(PutRequest::new(key.clone(), "")).await.unwrap();
        assert!(matches!(old.unlock().await, Err(Error::NotOwner { .. })));
        now.check().await.unwrap();
        let there = Compare::created_at(key, put.header.revision);
        let there = client.txn().when([there]).and_then([RangeRequest::new("x")]);
        assert!(there.await.unwrap().succeeded);
        now.unlock().await.unwrap();
    }

    /// Whoever gives up leaves nothing, and the end of a client ends what it holds.
    async fn nothing_stays(store: TestStore) {
        let client = another(&store).await;
        let guard = client.mutex("m").lock().await.unwrap();
        for _ in 0..3 {
            let mutex = client.mutex("m");
            let waiting = tokio::spawn(async move { mutex.lock().await });
            until_line(&*store.store(), "m/", 2).await;
            waiting.abort();
            until_line(&*store.store(), "m/", 1).await;
            let short = Duration::from_millis(50);
            assert!(client.mutex("m").lock_timeout(short).await.unwrap().is_none());
            until_line(&*store.store(), "m/", 1).await;
        }
        let other = client.mutex("other").lock().await.unwrap();
        drop(other);
        until_line(&*store.store(), "other/", 0).await;
        client.close().await.unwrap();
        assert_eq!(line(&*store.store(), "m/").await.len(), 0);
        wait::soon("the guard's end", guard.lost()).await;
    }
}

/// A holder that is cut off: it is told in time, the next one gets in, and what it tries to write
/// afterwards is refused. Its own unlock is bounded (etcd #18082).
async fn cut_off(url: &str) {
    let bridge = Bridge::to(url).await;
    let (timeout, ttl) = (wait::BRIEF / 3, wait::BRIEF);
    let client = async |timeout| {
        // Over this bridge alone: it asks for no other members.
        let options = EtcdOptions::new([bridge.url()]).with_member_sync(None);
        let options = options.with_request_timeout(timeout);
        let store = EtcdStore::connect(options).await.unwrap();
        let options = ConnectOptions::new("").with_timeout(timeout);
        options.with_session_ttl(ttl).over(Arc::new(store))
    };
    // The one is hasty so that its call ends while it is cut off; other calls may take long on a busy machine.
    let (far, hasty) = (client(wait::PATIENCE).await, client(timeout).await);
    let lock_hastily = || async { hasty.mutex("other").lock().await.ok() };
    let near = Client::connect(url).await.unwrap();
    let guard = far.mutex("m").lock().await.unwrap();
    let second = wait::until_some("the other lock", lock_hastily).await;
    let waiting = {
        let mutex = near.mutex("m");
        tokio::spawn(async move { mutex.lock().await })
    };
    until_line(&**near.store(), "m/", 2).await;
    bridge.set(Mode::Hold);
    let error = wait::soon("an error", second.unlock()).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    wait::soon("the loss", guard.lost()).await;
    let next = wait::soon("the lock", waiting).await.unwrap().unwrap();
    assert!(next.fencing_token() > guard.fencing_token());
    bridge.set(Mode::Pass);
    bridge.reset();
    wait::until("the old holder is refused", || async {
        let put = guard.txn().and_then([PutRequest::new("late", "")]);
        matches!(put.await, Err(Error::NotOwner { .. }))
    })
    .await;
    next.check().await.unwrap();
    // They may ask again, as newcomers.
    drop(wait::until_some("the other lock again", lock_hastily).await);
    let again = far.mutex("other").lock().await.unwrap();
    again.unlock().await.unwrap();
    next.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn issue_18082_a_holder_that_is_cut_off_from_a_server() {
    let served = Served::start().await;
    wait::within(wait::TEST_LIMIT, "cut off", cut_off(&served.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issue_18082_a_holder_that_is_cut_off_from_an_etcd() {
    let etcd: Etcd = etcd_or_skip!();
    wait::within(wait::TEST_LIMIT, "cut off", cut_off(&etcd.url())).await;
}

/// Answers that get lost in the network, one after another: still one holder at a time, and each lock
/// is released.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers() {
    let served = Served::start().await;
    let near = Client::connect(served.url()).await.unwrap();
    let bridge = Bridge::to(&served.url()).await;
    let far = Client::connect(bridge.url()).await.unwrap();
    let mut token = {
        // This begins the session.
        let guard = far.mutex("m").lock().await.unwrap();
        let token = guard.fencing_token();
        guard.unlock().await.unwrap();
        token
    };
    for _ in 0..10 {
        // The key is in the store, and the answer is lost.
        bridge.set(Mode::SwallowReplies);
        let locking = {
            let mutex = far.mutex("m");
            tokio::spawn(async move { mutex.lock().await })
        };
        until_line(&**near.store(), "m/", 1).await;
        bridge.set(Mode::Pass);
        bridge.reset();
        let guard = wait::soon("the lock", locking).await.unwrap().unwrap();
        assert!(guard.fencing_token() > token);
        token = guard.fencing_token();
        // The key is gone, and the answer is lost.
        bridge.set(Mode::SwallowReplies);
        let unlocking = tokio::spawn(guard.unlock());
        until_line(&**near.store(), "m/", 0).await;
        bridge.set(Mode::Pass);
        bridge.reset();
        wait::soon("the release", unlocking).await.unwrap().unwrap();
    }
    near.mutex("m")
        .try_lock()
        .await
        .unwrap()
        .unwrap()
        .unlock()
        .await
        .unwrap();
}
