//! Settled outcomes at the edges that the queue's enumeration does not reach.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    Compare, DeleteRequest, ErrorKind, Key, KeyRange, PutRequest, RangeRequest, Replies, Store,
};

use super::{Outcome, Work};

use crate::clock::{Clock, ManualClock};
use crate::testing::{Fault, Faulty, overdue_at_gate, runtime, soon, until, until_async};
use crate::{ConnectOptions, Resolution};

const LONG: Duration = Duration::from_secs(60);

async fn keys(store: &Arc<dyn Store>, prefix: &str) -> Vec<Key> {
    let request = RangeRequest::new(KeyRange::prefix(prefix)).keys_only();
    store
        .range(request)
        .await
        .unwrap()
        .kvs
        .into_iter()
        .map(|kv| kv.key)
        .collect()
}

#[tokio::test]
async fn a_late_copy_from_a_dead_session_never_lands() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let queue = client.queue("q");
    queue.enqueue("a").await.unwrap();
    // The first copy is on its way; the session dies before it arrives.
    faulty.script([Fault::Late]);
    faulty.close_gate(1);
    let second = tokio::spawn({
        let queue = queue.clone();
        async move { queue.enqueue("b").await }
    });
    assert!(faulty.wait_at_gate().await);
    for lease in faulty.engine.leases().await.unwrap().leases {
        faulty.engine.lease_revoke(lease).await.unwrap();
    }
    faulty.open_gate();
    second.await.unwrap().unwrap();
    faulty.deliver_late().await;
    assert_eq!(queue.list(9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_a_lane_says_is_final_when_the_session_is_dead() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let queue = client.queue("q");
    queue.enqueue("a").await.unwrap();
    // Applied, and then the answer and the session are lost.
    faulty.script([Fault::Lose]);
    faulty.close_gate(1);
    let second = tokio::spawn({
        let queue = queue.clone();
        async move { queue.enqueue("b").await }
    });
    assert!(faulty.wait_at_gate().await);
    for lease in faulty.engine.leases().await.unwrap().leases {
        faulty.engine.lease_revoke(lease).await.unwrap();
    }
    faulty.open_gate();
    second.await.unwrap().unwrap();
    assert_eq!(queue.list(9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_closed_client_leaves_nothing_of_its_own() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    client.queue("q").enqueue("a").await.unwrap();
    assert_eq!(keys(&faulty.engine, "__synod/").await.len(), 2);
    client.close().await.unwrap();
    assert!(keys(&faulty.engine, "__synod/").await.is_empty());
    assert!(faulty.engine.leases().await.unwrap().leases.is_empty());
    assert_eq!(keys(&faulty.engine, "q/").await.len(), 1);
}

#[tokio::test]
async fn a_certain_store_holds_no_records() {
    let faulty = Faulty::over(crate::testing::engine(), Replies::Certain);
    faulty.client(LONG).queue("q").enqueue("a").await.unwrap();
    assert!(keys(&faulty.engine, "__synod/").await.is_empty());
}

#[tokio::test]
async fn a_system_prefix_can_be_chosen() {
    let faulty = Faulty::new();
    let options = ConnectOptions::new("memory:").with_system_prefix("sys/");
    let client = options.over(Arc::new(faulty.clone()));
    client.queue("q").enqueue("a").await.unwrap();
    assert_eq!(keys(&faulty.engine, "sys/").await.len(), 2);
    assert!(keys(&faulty.engine, "__synod/").await.is_empty());
}

#[tokio::test]
async fn lanes_of_the_dead_are_swept_when_they_are_old() {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let client = || {
        let options = ConnectOptions::new("memory:").with_clock(clock.clone());
        options.over(Arc::new(faulty.clone()))
    };
    client().queue("q").enqueue("a").await.unwrap();
    // The client is gone without a close: its session revokes itself, its lane stays.
    until_async(async || keys(&faulty.engine, "__synod/fence/").await.is_empty()).await;
    let dead = keys(&faulty.engine, "__synod/lane/").await;
    assert_eq!(dead.len(), 1);
    // A record that is none of ours is left alone.
    faulty
        .engine
        .put(PutRequest::new("__synod/lane/x", "y"))
        .await
        .unwrap();

    clock.advance(Duration::from_secs(3000));
    let young = client();
    young.queue("q").enqueue("b").await.unwrap();
    assert_eq!(
        keys(&faulty.engine, "__synod/lane/").await.len(),
        3,
        "too young to be swept"
    );

    clock.advance(Duration::from_secs(700));
    let old = client();
    old.queue("q").enqueue("c").await.unwrap();
    until_async(async || {
        !keys(&faulty.engine, "__synod/lane/")
            .await
            .contains(&dead[0])
    })
    .await;
    // The others' are still there: theirs has not been long ago.
    assert_eq!(keys(&faulty.engine, "__synod/lane/").await.len(), 3);
    young.queue("q").enqueue("d").await.unwrap();
}

#[tokio::test]
async fn a_late_copy_does_not_land_after_its_key_was_taken_and_freed_again() {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let options = ConnectOptions::new("memory:").with_clock(clock.clone());
    let queue = options.over(Arc::new(faulty.clone())).queue("q");
    queue.enqueue("a").await.unwrap();
    let stamp = clock.unix_nanos() + 1_000_000;
    clock.set_unix_nanos(stamp);
    faulty.script([Fault::Late]);
    faulty.close_gate(1);
    let second = tokio::spawn({
        let queue = queue.clone();
        async move { queue.enqueue("b").await }
    });
    assert!(faulty.wait_at_gate().await);
    // A rival has the same nanosecond: the guards of the second copy are false.
    let rival = format!("q/{stamp}");
    faulty
        .engine
        .put(PutRequest::new(rival.clone(), "rival"))
        .await
        .unwrap();
    faulty.open_gate();
    second.await.unwrap().unwrap();
    faulty
        .engine
        .delete(DeleteRequest::new(rival))
        .await
        .unwrap();
    faulty.deliver_late().await;
    let values: Vec<_> = queue
        .list(9)
        .await
        .unwrap()
        .into_iter()
        .map(|item| item.value)
        .collect();
    assert_eq!(values, ["a", "b"]);
}

#[tokio::test]
async fn a_record_that_is_gone_is_no_reason_to_guess() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let queue = client.queue("q");
    queue.enqueue("a").await.unwrap();
    faulty.script([Fault::Lose]);
    faulty.close_gate(1);
    let enqueue = overdue_at_gate(&faulty, queue.enqueue("b"));
    let error = enqueue.await.unwrap_err();
    let token = error.token().unwrap().clone();
    // Somebody wipes the records while the outcome is open.
    for key in keys(&faulty.engine, "__synod/").await {
        faulty.engine.delete(DeleteRequest::new(key)).await.unwrap();
    }
    let other = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy).client(LONG);
    assert_eq!(other.resolve(&token).await.unwrap(), Resolution::Forgotten);
}

#[tokio::test]
async fn more_operations_than_lanes_all_get_their_turn() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let enqueues = (0..100).map(|number| {
        let queue = client.queue("q");
        tokio::spawn(async move { queue.enqueue(number.to_string()).await })
    });
    for enqueue in enqueues.collect::<Vec<_>>() {
        enqueue.await.unwrap().unwrap();
    }
    assert_eq!(client.queue("q").len().await.unwrap(), 100);
    assert!(keys(&faulty.engine, "__synod/lane/").await.len() <= 16);
}

#[tokio::test]
async fn guards_that_were_false_once_stay_so_for_every_copy() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let settle = client.settle();
    // A first operation, so that lease and fence are there.
    client.queue("q").enqueue("a").await.unwrap();
    faulty.script([Fault::Late]);
    faulty.close_gate(1);
    let running = tokio::spawn(async move {
        let put = PutRequest::new("key", "mine");
        let work = Work::new(vec![Compare::absent("key")], vec![put.into()]);
        settle.run(work).await
    });
    assert!(faulty.wait_at_gate().await);
    faulty
        .engine
        .put(PutRequest::new("key", "rival"))
        .await
        .unwrap();
    faulty.open_gate();
    assert!(matches!(running.await.unwrap(), Ok(Outcome::GuardsFalse)));
    // The guards become true again, and only then the first copy arrives.
    faulty
        .engine
        .delete(DeleteRequest::new("key"))
        .await
        .unwrap();
    faulty.deliver_late().await;
    assert!(keys(&faulty.engine, "key").await.is_empty());
}

#[tokio::test]
async fn a_copy_that_outlives_its_client_and_its_lane_never_lands() {
    let faulty = Faulty::new();
    // The lane is new: what the copy compares is that it does not exist.
    faulty.script([Fault::None, Fault::None, Fault::Late]);
    faulty.close_gate(3);
    let client = faulty.client(LONG);
    let queue = client.queue("q");
    let enqueue = overdue_at_gate(&faulty, queue.enqueue("a"));
    let error = enqueue.await.unwrap_err();
    let token = error.token().unwrap().clone();
    faulty.open_gate();
    faulty.always(Some(Fault::Refuse));
    for lease in faulty.engine.leases().await.unwrap().leases {
        faulty.engine.lease_revoke(lease).await.unwrap();
    }
    drop(client);
    let other = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy).client(LONG);
    assert_eq!(other.resolve(&token).await.unwrap(), Resolution::NeverWill);
    // As a sweep would.
    for key in keys(&faulty.engine, "__synod/lane/").await {
        faulty.engine.delete(DeleteRequest::new(key)).await.unwrap();
    }
    faulty.deliver_late().await;
    assert_eq!(other.queue("q").len().await.unwrap(), 0);
}

#[tokio::test]
async fn an_operation_whose_lease_is_gone_is_not_sent_for_ever() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    client.queue("q").enqueue("a").await.unwrap();
    let session = client.session().await.unwrap();
    let put = PutRequest::new("leased", "").with_lease(session.lease());
    let work = Work::new(vec![Compare::absent("leased")], vec![put.into()]);
    // The first copy is lost on its way; before the second the lease ends.
    faulty.script([Fault::Late]);
    faulty.close_gate(1);
    let settle = client.settle();
    let running = tokio::spawn(async move { settle.run(work).await });
    assert!(faulty.wait_at_gate().await);
    faulty.engine.lease_revoke(session.lease()).await.unwrap();
    faulty.open_gate();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Some(synod_store::ErrorKind::LeaseNotFound));
    faulty.deliver_late().await;
    assert!(keys(&faulty.engine, "leased").await.is_empty());
}

#[tokio::test]
async fn a_resend_whose_lease_is_gone_ends_at_once() {
    for (fault, held) in [
        (Fault::Drop, false),
        (Fault::Late, false),
        (Fault::Lose, true),
    ] {
        let faulty = Faulty::new();
        let client = faulty.client(LONG);
        let session = client.session().await.unwrap();
        client.queue("q").enqueue("a").await.unwrap();
        let barrier = client.barrier("b").with_session(&session);
        faulty.script([fault]);
        faulty.close_gate(1);
        let hold = tokio::spawn(async move { barrier.hold().await });
        assert!(faulty.wait_at_gate().await);
        faulty.engine.lease_revoke(session.lease()).await.unwrap();
        faulty.open_gate();
        let hold = tokio::time::timeout(LONG / 4, hold).await.unwrap().unwrap();
        match hold {
            Ok(()) => assert!(held),
            Err(error) => assert!(error.is_session_lost() && !held, "{error}"),
        }
        faulty.deliver_late().await;
        assert_eq!(keys(&faulty.engine, "b").await.len(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_resend_that_is_refused_for_good_is_reported_once_no_copy_can_land() {
    for (first, done) in [
        (Fault::Drop, false),
        (Fault::Late, false),
        (Fault::Lose, true),
    ] {
        let faulty = Faulty::new();
        let client = faulty.client(LONG);
        client.queue("q").enqueue("a").await.unwrap();
        let work = Work::new(
            vec![Compare::absent("k")],
            vec![PutRequest::new("k", "").into()],
        );
        // The grant is taken away between the two copies.
        faulty.script([first, Fault::Deny]);
        let settle = client.settle();
        let running = tokio::spawn(async move { settle.run(work).await });
        match soon(running).await.unwrap() {
            Ok(Outcome::Done { .. }) => assert!(done, "{first:?}"),
            Ok(Outcome::GuardsFalse) => panic!("the guards held"),
            Err(error) => {
                assert_eq!(error.kind(), Some(ErrorKind::PermissionDenied), "{first:?}");
                assert!(!done && !error.is_maybe_committed());
            }
        }
        faulty.deliver_late().await;
        assert_eq!(keys(&faulty.engine, "k").await.len(), usize::from(done));
    }
}

#[test]
fn what_was_on_its_way_when_its_runtime_ended_is_not_denied() {
    let (first, second) = (runtime(), runtime());
    let (faulty, client) = second.block_on(async {
        let faulty = Faulty::new();
        let client = faulty.client(LONG);
        client.queue("q").enqueue("a").await.unwrap();
        (faulty, client)
    });
    faulty.close_gate(0);
    let before = faulty.txns();
    let (settle, handle) = (client.settle(), first.handle().clone());
    let put = PutRequest::new("k", "").into();
    let work = Work::new(vec![Compare::absent("k")], vec![put]);
    let caller = std::thread::spawn(move || handle.block_on(settle.run(work)));
    second.block_on(until(|| faulty.txns() > before));
    first.shutdown_background();
    let error = caller.join().unwrap().unwrap_err();
    faulty.open_gate();
    let token = error.token();
    let token = token
        .unwrap_or_else(|| panic!("a copy may be on its way: {error}"))
        .clone();
    assert!(error.is_maybe_committed());
    second.block_on(async {
        let resolution = client.resolve(&token).await.unwrap();
        let there = keys(&faulty.engine, "k").await.len();
        assert_eq!(resolution == Resolution::Happened, there == 1);
        client.queue("q").enqueue("b").await.unwrap();
    });
}

#[tokio::test]
async fn a_close_does_not_wait_for_who_cannot_begin() {
    let faulty = Faulty::new();
    let client = faulty.client(Duration::from_millis(100));
    faulty.close_gate(0);
    let enqueue = tokio::spawn({
        let queue = client.queue("q");
        async move { queue.enqueue("a").await }
    });
    // The lease is there; its fence waits, and with it whoever wants to begin.
    faulty.let_one_more_through();
    assert!(faulty.wait_at_gate().await);
    assert!(soon(enqueue).await.unwrap().is_err());
    let closed = soon(client.close()).await;
    assert!(closed.is_err_and(|error| error.is_timeout()));
    faulty.open_gate();
}

#[tokio::test]
async fn what_could_not_even_be_sent_has_not_happened() {
    let faulty = Faulty::new();
    let client = faulty.client(Duration::from_millis(200));
    // The answers to the lease that is needed first are lost.
    for fault in [Fault::Drop, Fault::Lose] {
        faulty.always(Some(fault));
        let error = soon(client.queue("q").enqueue("a")).await.unwrap_err();
        assert!(!error.is_maybe_committed(), "{fault:?}: {error:?}");
        faulty.always(None);
        assert!(keys(&faulty.engine, "q/").await.is_empty());
    }
}
