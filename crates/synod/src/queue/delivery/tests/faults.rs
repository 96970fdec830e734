//! Every answer lost, every request late: nothing is lost, nothing acknowledged twice.

use futures_util::StreamExt;

use super::*;
use crate::testing::{FAULTS, overdue_at_gate};

/// Every sequence of at most two faults, at each of the first `calls` calls.
fn scripts(calls: usize) -> Vec<Vec<Fault>> {
    let mut scripts = vec![vec![]];
    for first in 0..calls {
        for fault in FAULTS {
            let one = [vec![Fault::None; first], vec![fault]].concat();
            for gap in 0..3 {
                for second in FAULTS {
                    scripts.push([one.clone(), vec![Fault::None; gap], vec![second]].concat());
                }
            }
            scripts.push(one);
        }
    }
    scripts
}

async fn for_each_script<F: Future<Output = ()> + Send + 'static>(
    scripts: Vec<Vec<Fault>>,
    check: impl Fn(Vec<Fault>) -> F,
) {
    let mut checks = futures_util::stream::iter(scripts)
        .map(|script| tokio::spawn(check(script)))
        .buffer_unordered(32);
    while let Some(outcome) = checks.next().await {
        outcome.unwrap();
    }
}

/// What a healthy client finds: in the queue, and among the dead letters.
async fn left(faulty: &Faulty) -> (Vec<(String, u32)>, usize) {
    let queue = stranger(faulty).queue("q");
    (drain(&queue).await, queue.dead().len().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_and_an_ack_happen_once_whatever_is_lost() {
    for_each_script(scripts(7), |script| async move {
        let faulty = Faulty::new();
        stranger(&faulty)
            .queue("q")
            .enqueue_many(["a", "b"])
            .await
            .unwrap();
        let queue = faulty.client(LONG).queue("q");
        faulty.script(script.clone());
        for expected in ["a", "b"] {
            let delivery = queue.take().await.unwrap();
            assert_eq!(
                (value(&delivery).as_str(), delivery.attempt()),
                (expected, 1),
                "{script:?}"
            );
            delivery
                .ack()
                .await
                .unwrap_or_else(|error| panic!("{script:?}: {error}"));
        }
        faulty.deliver_late().await;
        assert_eq!(left(&faulty).await, (vec![], 0), "{script:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nack_happens_once_whatever_is_lost() {
    for_each_script(scripts(6), |script| async move {
        let faulty = Faulty::new();
        stranger(&faulty).queue("q").enqueue("a").await.unwrap();
        let queue = faulty.client(LONG).queue("q").with_max_attempts(3);
        faulty.script(script.clone());
        for attempt in 1..=2 {
            let delivery = queue.take().await.unwrap();
            assert_eq!(delivery.attempt(), attempt, "{script:?}");
            delivery
                .nack()
                .await
                .unwrap_or_else(|error| panic!("{script:?}: {error}"));
            faulty.deliver_late().await;
        }
        assert_eq!(keys(&faulty.engine, "q/").await.len(), 1, "{script:?}");
        queue.take().await.unwrap().nack().await.unwrap();
        faulty.deliver_late().await;
        assert_eq!(left(&faulty).await, (vec![], 1), "{script:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_is_returned_once_whatever_is_lost() {
    for_each_script(scripts(4), |script| async move {
        let faulty = Faulty::new();
        let dead = stranger(&faulty).queue("q");
        dead.enqueue("a").await.unwrap();
        let lost = dead.take().await.unwrap();
        run_out(&faulty.engine, "queue/q").await;
        let queue = faulty.client(LONG).queue("q");
        faulty.script(script.clone());
        let delivery = queue.take().await.unwrap();
        assert_eq!(delivery.attempt(), 2, "{script:?}");
        assert!(lost.ack().await.is_err(), "{script:?}");
        delivery
            .ack()
            .await
            .unwrap_or_else(|error| panic!("{script:?}: {error}"));
        faulty.deliver_late().await;
        assert_eq!(left(&faulty).await, (vec![], 0), "{script:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_enqueue_with_an_id_happens_once_whatever_is_lost() {
    for_each_script(scripts(4), |script| async move {
        let faulty = Faulty::new();
        let queue = faulty.client(LONG).queue("q").with_capacity(5);
        faulty.script(script.clone());
        let options = EnqueueOptions::new()
            .with_id("1")
            .with_delay(Duration::from_millis(1));
        for round in 0..2 {
            let put = queue.enqueue_with("a", options.clone()).await;
            let put = put.unwrap_or_else(|error| panic!("{script:?}: {error}"));
            assert_eq!(put.is_new(), round == 0, "{script:?}");
            faulty.deliver_late().await;
        }
        let delivery = stranger(&faulty).queue("q").take().await.unwrap();
        delivery.ack().await.unwrap();
        faulty.deliver_late().await;
        assert_eq!(left(&faulty).await, (vec![], 0), "{script:?}");
    })
    .await;
}

#[tokio::test]
async fn an_ack_that_nobody_answers_is_unknown_and_can_be_resolved() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let queue = client.queue("q");
    queue.enqueue("a").await.unwrap();
    let delivery = queue.take().await.unwrap();
    faulty.script([Fault::Lose]);
    faulty.close_gate(1);
    let ack = overdue_at_gate(&faulty, delivery.ack());
    let error = ack.await.unwrap_err();
    faulty.open_gate();
    let token = error.token().expect("the outcome is open").clone();
    assert_eq!(
        client.resolve(&token).await.unwrap(),
        crate::Resolution::Happened
    );
    assert_eq!(left(&faulty).await, (vec![], 0));
}

#[tokio::test]
async fn a_lease_that_is_gone_before_its_claim_is_replaced() {
    for faulty in both() {
        let queue = faulty.client(LONG).queue("q");
        queue.enqueue_many(["a", "b"]).await.unwrap();
        let first = queue.take().await.unwrap();
        let lease = marker_leases(&faulty.engine, "queue/q").await[0];
        first.ack().await.unwrap();
        faulty.engine.lease_revoke(lease).await.unwrap();
        let second = queue.take().await.unwrap();
        assert_eq!(value(&second), "b");
        second.ack().await.unwrap();
    }
}

#[tokio::test]
async fn consumers_that_are_cut_off_lose_nothing_and_at_the_end_it_is_a_dead_letter() {
    for replies in [Replies::Certain, Replies::Lossy] {
        let engine = engine();
        let healthy = Client::from_store(Arc::clone(&engine))
            .queue("q")
            .with_max_attempts(10);
        healthy.enqueue("a").await.unwrap();
        for attempt in 1..=10 {
            let faulty = Faulty::over(Arc::clone(&engine), replies);
            let queue = faulty.client(LONG).queue("q").with_max_attempts(10);
            let delivery = queue.take().await.unwrap();
            assert_eq!(delivery.attempt(), attempt);
            // Nothing that it sends arrives any more.
            faulty.always(Some(Fault::Drop));
            run_out(&engine, "queue/q").await;
            drop((delivery, queue));
        }
        assert!(healthy.try_take().await.unwrap().is_none());
        let letters = healthy.dead().list(9).await.unwrap();
        assert_eq!((letters.len(), letters[0].attempts), (1, 10));
    }
}

#[tokio::test]
async fn an_extension_that_nobody_answers_leaves_the_delivery_with_its_taker() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let queue = client.queue("q").with_visibility(Duration::from_secs(5));
    queue.enqueue("a").await.unwrap();
    let delivery = queue.take().await.unwrap();
    // The lease is granted; the marker is moved to it, and nobody says so.
    faulty.script([Fault::None, Fault::Lose]);
    faulty.close_gate(2);
    let extend = delivery.extend(Duration::from_secs(50));
    let error = overdue_at_gate(&faulty, extend).await.unwrap_err();
    faulty.open_gate();
    assert!(error.is_maybe_committed(), "{error}");
    // Whichever lease it is on, it is renewed with all of them.
    delivery.extend(Duration::from_secs(5)).await.unwrap();
    assert!(delivery.remaining() <= Duration::from_secs(5));
    delivery.extend(Duration::from_secs(60)).await.unwrap();
    delivery.ack().await.unwrap();
    client.resolve(error.token().unwrap()).await.unwrap();
    assert_eq!(left(&faulty).await, (vec![], 0));
    assert!(keys(&faulty.engine, "__synod/queue/").await.is_empty());
}
