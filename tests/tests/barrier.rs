//! The barrier on every store: in process, served, and on real etcd clusters.

use std::time::Duration;

use futures_util::StreamExt;
use synod::store::{EventKind, PutRequest, RangeRequest, WatchItem, WatchRequest};
use synod::{Barrier, Client, Error, Result};
use synod_tests::stores::TestStore;
use synod_tests::{each_store, wait};
use tokio::task::JoinHandle;

/// Long enough for a wait that should not end to show that it does.
const MOMENT: Duration = Duration::from_millis(200);

/// A client with a connection of its own.
async fn client(store: &TestStore) -> Client {
    store.another_client().await
}

fn waiting(barrier: &Barrier) -> JoinHandle<Result<()>> {
    let barrier = barrier.clone();
    tokio::spawn(async move { barrier.wait().await })
}

async fn put(client: &Client, key: &str) {
    let put = PutRequest::new(key, "");
    client.store().put(put).await.unwrap();
}

/// Goes through, soon.
async fn through(waiter: JoinHandle<Result<()>>) {
    wait::soon("a waiter goes on", waiter)
        .await
        .unwrap()
        .unwrap();
}

async fn closed_for_a_moment(barrier: &Barrier) {
    assert!(!barrier.wait_timeout(MOMENT).await.unwrap());
}

each_store! {
    async fn one_holds_another_releases_and_all_go_on(store: TestStore) {
        let holder = client(&store).await.barrier("b");
        holder.wait().await.unwrap();
        holder.hold().await.unwrap();
        let mut waiters = Vec::new();
        for _ in 0..4 {
            let barrier = client(&store).await.barrier("b");
            closed_for_a_moment(&barrier).await;
            waiters.extend((0..10).map(|_| waiting(&barrier)));
        }
        assert!(client(&store).await.barrier("b").release().await.unwrap());
        for waiter in waiters {
            through(waiter).await;
        }
        // Who comes late goes through, and there is nothing left to release.
        holder.wait().await.unwrap();
        assert!(!holder.release().await.unwrap());
        assert!(!holder.is_held().await.unwrap());
    }

    async fn it_can_be_held_again_and_again(store: TestStore) {
        let holder = client(&store).await.barrier("b");
        let other = client(&store).await.barrier("b");
        for _ in 0..20 {
            holder.hold().await.unwrap();
            let waiters = [waiting(&other), waiting(&holder)];
            assert!(other.is_held().await.unwrap());
            assert!(holder.release().await.unwrap());
            for waiter in waiters {
                through(waiter).await;
            }
        }
    }

    async fn a_second_hold_is_told_who_holds(store: TestStore) {
        let options = synod::ConnectOptions::new("memory:").with_identity("anna@host");
        let holder = options.over(store.another().await).barrier("b");
        holder.hold().await.unwrap();
        for barrier in [client(&store).await.barrier("b"), holder.clone()] {
            let error = barrier.hold().await.unwrap_err();
            assert!(
                matches!(&error, Error::Held { holder: Some(holder), .. } if holder == "anna@host"),
                "{error}"
            );
            assert!(error.to_string().contains("held by anna@host"), "{error}");
        }
        holder.release().await.unwrap();
        // Go's recipe says nothing of itself.
        put(holder.client(), "b").await;
        let error = holder.hold().await.unwrap_err();
        assert!(matches!(error, Error::Held { holder: None, .. }), "{error}");
        assert!(holder.release().await.unwrap());
        holder.hold().await.unwrap();
    }

    /// Go's wait sleeps for ever when another key was written between hold and release.
    async fn issue_16223_other_keys_move_the_revision(store: TestStore) {
        let holder = client(&store).await.barrier("b");
        let other = client(&store).await.barrier("b");
        holder.hold().await.unwrap();
        put(holder.client(), "another").await;
        let early = waiting(&other);
        closed_for_a_moment(&holder).await;
        put(holder.client(), "another").await;
        let late = waiting(&client(&store).await.barrier("b"));
        put(holder.client(), "another").await;
        holder.release().await.unwrap();
        through(early).await;
        through(late).await;
    }

    /// Go's wait takes the first key that begins with the barrier's name for the barrier.
    async fn issue_16156_a_longer_key_is_another(store: TestStore) {
        let barrier = client(&store).await.barrier("a");
        for key in ["a0", "a/b", "a/"] {
            put(barrier.client(), key).await;
        }
        wait::soon("it is open", barrier.wait()).await.unwrap();
        assert!(!barrier.is_held().await.unwrap());
        barrier.hold().await.unwrap();
        let waiter = waiting(&barrier);
        closed_for_a_moment(&barrier).await;
        assert!(barrier.release().await.unwrap());
        through(waiter).await;
        let left = RangeRequest::new("a0");
        assert_eq!(barrier.client().store().range(left).await.unwrap().count, 1);
    }

    /// Go's wait returns with success when its watch falls to a compaction; its queue panics.
    async fn issue_17198_compaction_while_blocked(store: TestStore) {
        let holder = client(&store).await.barrier("b");
        let other = client(&store).await.barrier("b");
        holder.hold().await.unwrap();
        let waiter = waiting(&other);
        closed_for_a_moment(&holder).await;
        for _ in 0..3 {
            for _ in 0..20 {
                put(holder.client(), "another").await;
            }
            let store = holder.client().store();
            let now = store.range(RangeRequest::new("b")).await.unwrap().header.revision;
            store.compact(now, false).await.unwrap();
            closed_for_a_moment(&holder).await;
            assert!(!waiter.is_finished());
        }
        holder.release().await.unwrap();
        through(waiter).await;
    }

    async fn a_dead_holders_lease_releases(store: TestStore) {
        let holding = client(&store).await;
        let session = holding.session().await.unwrap();
        let holder = holding.barrier("b").with_session(&session);
        holder.hold().await.unwrap();
        let other = client(&store).await.barrier("b");
        let waiter = waiting(&other);
        closed_for_a_moment(&other).await;
        // As when the time to live of a dead process has run out.
        other.client().store().lease_revoke(session.lease()).await.unwrap();
        through(waiter).await;
        let error = holder.hold().await.unwrap_err();
        assert!(error.is_session_lost(), "{error}");
        // One without a lease outlives its holder.
        holding.barrier("b").hold().await.unwrap();
        holding.close().await.unwrap();
        closed_for_a_moment(&other).await;
        assert!(other.release().await.unwrap());
    }

    async fn old_go_waiters_see_a_put_and_then_a_deletion(store: TestStore) {
        let client = client(&store).await;
        let session = client.session().await.unwrap();
        let barrier = client.barrier("b").with_session(&session).wake_old_go_waiters();
        barrier.hold().await.unwrap();
        let mut watch = client.store().watch(WatchRequest::new("b")).await.unwrap();
        assert!(barrier.release().await.unwrap());
        let mut events = Vec::new();
        while events.len() < 2 {
            let item = wait::soon("an event", watch.next()).await.unwrap().unwrap();
            let WatchItem::Events(batch) = item else { panic!("{item:?}") };
            events.extend(batch.events);
        }
        let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventKind::Put, EventKind::Delete]);
        assert!(events[0].kv.mod_revision < events[1].kv.mod_revision);
        // What is put is what was there.
        assert_eq!(events[0].kv.lease, Some(session.lease()));
        assert!(!events[0].kv.value.is_empty());
        assert!(!barrier.release().await.unwrap());
    }
}

#[tokio::test]
async fn names_that_cannot_be_are_refused() {
    let client = Client::connect("memory:").await.unwrap();
    let error = client.barrier("__synod/x").hold().await.unwrap_err();
    assert!(matches!(error, Error::ReservedName { .. }), "{error}");
    let error = client.barrier("").wait().await.unwrap_err();
    assert_eq!(error.kind(), Some(synod::store::ErrorKind::EmptyKey));
}
