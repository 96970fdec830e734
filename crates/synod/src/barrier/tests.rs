//! The barrier against a store that loses answers and whose watches fall.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{DeleteRequest, PutRequest, Replies};
use tokio::task::JoinHandle;

use crate::testing::{FAULTS, Fault, Faulty, WatchEnd, engine, overdue_in_trouble, runtime, until};
use crate::{Barrier, Client, Error, Result};

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(20);

fn waiting(barrier: &Barrier) -> JoinHandle<Result<()>> {
    let barrier = barrier.clone();
    tokio::spawn(async move { barrier.wait().await })
}

async fn through(waiter: JoinHandle<Result<()>>) {
    let waited = tokio::time::timeout(LONG, waiter).await;
    waited.expect("it is open").unwrap().unwrap();
}

#[tokio::test]
async fn it_is_held_and_released() {
    for client in [Client::from_store(engine()), Faulty::new().client(LONG)] {
        let barrier = client.barrier("b");
        barrier.wait().await.unwrap();
        barrier.hold().await.unwrap();
        let error = client.barrier("b").hold().await.unwrap_err();
        let pid = std::process::id().to_string();
        assert!(
            matches!(&error, Error::Held { holder: Some(holder), .. } if holder.ends_with(&pid)),
            "{error}"
        );
        assert!(!barrier.wait_timeout(MOMENT).await.unwrap());
        let waiters: Vec<_> = (0..10).map(|_| waiting(&client.barrier("b"))).collect();
        assert!(barrier.release().await.unwrap());
        for waiter in waiters {
            through(waiter).await;
        }
        assert!(!barrier.release().await.unwrap());
        assert!(!barrier.is_held().await.unwrap());
    }
}

#[tokio::test]
async fn all_who_wait_in_a_client_share_one_watch() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let client = faulty.client(LONG);
    let holder = Client::from_store(Arc::clone(&faulty.engine)).barrier("b");
    holder.hold().await.unwrap();
    let waiters: Vec<_> = (0..50).map(|_| waiting(&client.barrier("b"))).collect();
    // One read a waiter, and one under the watch.
    until(|| faulty.ranges() == 51).await;
    assert_eq!(faulty.watches(), 1);
    holder.release().await.unwrap();
    for waiter in waiters {
        through(waiter).await;
    }
    assert_eq!((faulty.watches(), faulty.ranges()), (1, 51));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_again_uses_the_watch_of_a_moment_ago() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let client = faulty.client(LONG);
    let holder = Client::from_store(Arc::clone(&faulty.engine)).barrier("b");
    for round in 0..5 {
        holder.hold().await.unwrap();
        let waiter = waiting(&client.barrier("b"));
        // The first reads twice, and those after it once.
        until(|| faulty.ranges() == round + 2).await;
        tokio::time::sleep(MOMENT).await;
        assert!(
            !waiter.is_finished(),
            "it believes what was before the hold"
        );
        holder.release().await.unwrap();
        through(waiter).await;
    }
    assert_eq!(faulty.watches(), 1);
    // Nothing of it is left when the client has closed.
    let store = Arc::downgrade(&client.shared_store());
    client.close().await.unwrap();
    assert_eq!(store.strong_count(), 0);
}

/// A runtime that does nothing unless somebody waits in it.
#[test]
fn no_watch_is_left_to_a_runtime_that_may_stand_still() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = Client::from_store(engine());
    let barrier = client.barrier("b");
    runtime.block_on(async {
        barrier.hold().await.unwrap();
        let waiter = waiting(&barrier);
        tokio::time::sleep(MOMENT).await;
        barrier.release().await.unwrap();
        through(waiter).await;
        barrier.hold().await.unwrap();
    });
    let driven = tokio::runtime::Runtime::new().unwrap();
    driven.block_on(async {
        let waiter = waiting(&barrier);
        tokio::time::sleep(MOMENT).await;
        barrier.release().await.unwrap();
        through(waiter).await;
    });
    drop(runtime);
}

/// A watch is kept up in the runtime of its first waiter.
#[test]
fn a_waiter_outlives_the_runtime_of_the_watch_that_it_shares() {
    let (first, second) = (runtime(), runtime());
    let client = Client::from_store(engine());
    let barrier = client.barrier("b");
    let holder = client.barrier("b");
    second.block_on(async {
        holder.hold().await.unwrap();
        let guest = first.spawn({
            let barrier = barrier.clone();
            async move { barrier.wait().await }
        });
        tokio::time::sleep(MOMENT).await;
        let waiter = waiting(&barrier);
        tokio::time::sleep(MOMENT).await;
        first.shutdown_background();
        guest.await.unwrap_err();
        tokio::time::sleep(MOMENT).await;
        assert!(!waiter.is_finished());
        holder.release().await.unwrap();
        through(waiter).await;
    });
}

#[tokio::test]
async fn the_holder_releases_in_one_round_trip() {
    let faulty = Faulty::new();
    let barrier = faulty.client(LONG).barrier("b");
    barrier.hold().await.unwrap();
    let before = (faulty.txns(), faulty.ranges());
    assert!(barrier.release().await.unwrap());
    assert_eq!((faulty.txns(), faulty.ranges()), (before.0 + 1, before.1));
}

#[tokio::test]
async fn nothing_is_concluded_from_a_watch_that_falls() {
    for end in [WatchEnd::Compacted, WatchEnd::Closed, WatchEnd::Broken] {
        for in_the_gap in [false, true] {
            let faulty = Faulty::new();
            let barrier = faulty.client(LONG).barrier("b");
            let holder = Client::from_store(Arc::clone(&faulty.engine)).barrier("b");
            holder.hold().await.unwrap();
            let waiter = waiting(&barrier);
            until(|| faulty.ranges() >= 2).await;
            faulty.close_gate(0);
            faulty.end_watches(end);
            tokio::time::sleep(MOMENT).await;
            assert!(!waiter.is_finished(), "{end:?}");
            if in_the_gap {
                // No watch stands that could tell.
                holder.release().await.unwrap();
            }
            faulty.open_gate();
            if !in_the_gap {
                until(|| faulty.watches() >= 2).await;
                tokio::time::sleep(MOMENT).await;
                assert!(!waiter.is_finished(), "{end:?}");
                holder.release().await.unwrap();
            }
            through(waiter).await;
        }
    }
}

#[tokio::test]
async fn who_waited_through_a_release_goes_on_though_it_is_held_again() {
    let faulty = Faulty::new();
    let barrier = faulty.client(LONG).barrier("b");
    let holder = Client::from_store(Arc::clone(&faulty.engine)).barrier("b");
    holder.hold().await.unwrap();
    // Held anew between the waiter's first read and the read under its watch.
    faulty.close_gate(1);
    let waiter = waiting(&barrier);
    assert!(faulty.wait_at_gate().await);
    assert!(holder.release().await.unwrap());
    holder.hold().await.unwrap();
    faulty.open_gate();
    through(waiter).await;
    assert!(!barrier.wait_timeout(MOMENT).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hold_and_release_happens_once_whatever_is_lost() {
    for first in FAULTS {
        for second in [Fault::None].into_iter().chain(FAULTS) {
            for at in 0..5 {
                let faulty = Faulty::new();
                let client = faulty.client(LONG);
                let barrier = client.barrier("b").wake_old_go_waiters();
                let script = vec![Fault::None; at];
                faulty.script(script.into_iter().chain([first, second]));
                for _ in 0..2 {
                    barrier.hold().await.unwrap();
                    assert!(barrier.is_held().await.unwrap());
                    assert!(barrier.release().await.unwrap());
                    assert!(!barrier.is_held().await.unwrap());
                }
                // Another holds: no late copy of ours may release it, or hold it when it is free.
                let other = Client::from_store(Arc::clone(&faulty.engine)).barrier("b");
                other.hold().await.unwrap();
                faulty.deliver_late().await;
                assert!(other.is_held().await.unwrap(), "{first:?} {second:?} {at}");
                other.release().await.unwrap();
                faulty.deliver_late().await;
                assert!(!other.is_held().await.unwrap(), "{first:?} {second:?} {at}");
            }
        }
    }
}

#[tokio::test]
async fn a_hint_that_is_old_releases_what_stands() {
    let store = engine();
    let barrier = Client::from_store(Arc::clone(&store)).barrier("b");
    barrier.hold().await.unwrap();
    store.delete(DeleteRequest::new("b")).await.unwrap();
    store.put(PutRequest::new("b", "go")).await.unwrap();
    assert!(barrier.release().await.unwrap());
    assert!(!barrier.is_held().await.unwrap());
}

#[tokio::test]
async fn a_store_that_is_gone_is_reported_within_the_timeout() {
    let faulty = Faulty::new();
    let barrier = faulty.client(LONG).barrier("b");
    barrier.hold().await.unwrap();
    let waiter = waiting(&barrier);
    until(|| faulty.ranges() >= 2).await;
    faulty.always(Some(Fault::Refuse));
    faulty.end_watches(WatchEnd::Broken);
    let waited = overdue_in_trouble(&faulty, waiter).await;
    let error = waited.unwrap().unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_hold_with_a_lease_that_is_gone_ends_the_session() {
    for replies in [Replies::Certain, Replies::Lossy] {
        let faulty = Faulty::over(engine(), replies);
        let client = faulty.client(LONG);
        let session = client.session().await.unwrap();
        client.store().lease_revoke(session.lease()).await.unwrap();
        let barrier = client.barrier("b").with_session(&session);
        let error = barrier.hold().await.unwrap_err();
        assert!(matches!(error, Error::SessionLost), "{error}");
        assert!(!session.is_alive());
        assert!(!barrier.is_held().await.unwrap());
    }
}
