//! Callers that share a claim, and acknowledgements that go together: nobody loses by it.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use synod_store::DeleteRequest;

use super::*;
use crate::testing::{FAULTS, runtime, until};

/// So many items, and what a first take finds out.
async fn filled(faulty: &Faulty, count: usize) -> Queue {
    let queue = faulty.client(LONG).queue("q");
    let values = (0..=count).map(|number| format!("{number:03}"));
    queue.enqueue_many(values).await.unwrap();
    queue.take().await.unwrap().ack().await.unwrap();
    queue
}

fn values(deliveries: &[Delivery]) -> BTreeSet<String> {
    deliveries.iter().map(value).collect()
}

/// Nothing is in the queue, nor beside it.
async fn assert_clean(faulty: &Faulty) {
    assert!(keys(&faulty.engine, "q/").await.is_empty());
    let beside = keys(&faulty.engine, "__synod/queue/").await;
    assert!(beside.is_empty(), "{beside:?}");
}

#[tokio::test]
async fn who_takes_and_acknowledges_at_once_shares_the_round_trips() {
    for faulty in both() {
        let queue = filled(&faulty, 50).await;
        let before = faulty.txns();
        let taken = join_all((0..50).map(|_| queue.take())).await;
        let taken: Vec<Delivery> = taken.into_iter().map(Result::unwrap).collect();
        // At best one for all, after the values were read.
        assert!(faulty.txns() - before <= 6, "{}", faulty.txns() - before);
        assert_eq!(values(&taken).len(), 50);
        assert!(taken.iter().all(|delivery| delivery.attempt() == 1));
        let owners = marker_leases(&faulty.engine, "queue/q").await;
        let leases: BTreeSet<LeaseId> = owners.iter().copied().collect();
        assert_eq!((owners.len(), leases.len()), (50, 50), "a lease each");
        let before = faulty.txns();
        let acked = join_all(taken.into_iter().map(Delivery::ack)).await;
        assert!(acked.iter().all(Result::is_ok));
        assert!(faulty.txns() - before <= 3, "{}", faulty.txns() - before);
        assert_clean(&faulty).await;
    }
}

#[tokio::test]
async fn many_are_taken_in_order_and_those_that_came_back_with_their_count() {
    for faulty in both() {
        let queue = filled(&faulty, 12).await;
        assert!(queue.take_many(0).await.unwrap().is_empty());
        let first = queue.take_many(5).await.unwrap();
        let order: Vec<String> = first.iter().map(value).collect();
        assert_eq!(order, ["001", "002", "003", "004", "005"]);
        for delivery in first {
            delivery.nack().await.unwrap();
        }
        let mut rest = Vec::new();
        while rest.len() < 12 {
            rest.extend(queue.take_many(100).await.unwrap());
        }
        for delivery in &rest {
            let again = value(delivery).as_str() <= "005";
            assert_eq!(delivery.attempt(), if again { 2 } else { 1 });
        }
        assert_eq!(values(&rest).len(), 12);
        join_all(rest.into_iter().map(Delivery::ack)).await;
        assert_clean(&faulty).await;
    }
}

#[tokio::test]
async fn the_most_urgent_are_taken_together_and_in_order() {
    for faulty in both() {
        let queue = faulty.client(LONG).priority_queue("q");
        for number in 0..20u16 {
            let value = format!("{:02}", 19 - number);
            queue.enqueue(value, 19 - number).await.unwrap();
        }
        let mut taken: Vec<Delivery> = Vec::new();
        while taken.len() < 18 {
            let max = (18 - taken.len()).min(7);
            taken.extend(queue.take_many(max).await.unwrap());
        }
        // What comes now is before all that is left, though looks need not begin at the start.
        queue.enqueue("first", 3).await.unwrap();
        while taken.len() < 21 {
            taken.extend(queue.take_many(2).await.unwrap());
        }
        let order: Vec<String> = taken.iter().map(value).collect();
        let mut expected: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
        expected.insert(18, "first".to_owned());
        assert_eq!(order, expected);
        assert!(queue.try_take().await.unwrap().is_none());
        let acked = join_all(taken.into_iter().map(Delivery::ack)).await;
        assert!(acked.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn who_leaves_a_shared_claim_takes_nothing_with_it() {
    for faulty in both() {
        let queue = filled(&faulty, 8).await;
        faulty.close_gate(0);
        let take = || {
            let queue = queue.clone();
            tokio::spawn(async move { queue.take().await })
        };
        let takers: Vec<_> = (0..8).map(|_| take()).collect();
        assert!(faulty.wait_at_gate().await);
        for taker in &takers[..3] {
            taker.abort();
        }
        // It has come too late for that claim, and gets what one of those left.
        let late = take();
        faulty.open_gate();
        let mut taken = Vec::new();
        for (number, taker) in takers.into_iter().enumerate() {
            match taker.await {
                Ok(delivery) => taken.push(delivery.unwrap()),
                Err(error) => assert!(error.is_cancelled() && number < 3),
            }
        }
        taken.push(late.await.unwrap().unwrap());
        while let Some(delivery) = queue
            .take_timeout(Duration::from_millis(300))
            .await
            .unwrap()
        {
            taken.push(delivery);
        }
        // An attempt that nobody has seen does not count.
        assert!(taken.iter().all(|delivery| delivery.attempt() == 1));
        assert_eq!((taken.len(), values(&taken).len()), (8, 8));
        join_all(taken.into_iter().map(Delivery::ack)).await;
        assert_clean(&faulty).await;
    }
}

#[tokio::test]
async fn a_delivery_that_was_taken_back_fails_alone() {
    for faulty in both() {
        let queue = filled(&faulty, 6).await;
        let taken = queue.take_many(6).await.unwrap();
        assert_eq!(taken.len(), 6);
        let all: BTreeSet<LeaseId> = marker_leases(&faulty.engine, "queue/q")
            .await
            .into_iter()
            .collect();
        let lost = *all.first().unwrap();
        faulty.engine.lease_revoke(lost).await.unwrap();
        let names: Vec<String> = taken.iter().map(value).collect();
        let acked = join_all(taken.into_iter().map(Delivery::ack)).await;
        let ended: Vec<&String> = names
            .iter()
            .zip(&acked)
            .filter(|(_, acked)| matches!(acked, Err(Error::DeliveryEnded { .. })))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(ended.len(), 1, "{acked:?}");
        assert_eq!(acked.iter().filter(|acked| acked.is_ok()).count(), 5);
        assert_eq!(drain(&queue).await, [(ended[0].clone(), 2)]);
        assert_clean(&faulty).await;
    }
}

#[tokio::test]
async fn what_is_joined_happens_once_whatever_is_lost() {
    let mut scripts: Vec<Vec<Fault>> = FAULTS.map(|fault| vec![fault]).into();
    scripts.extend(FAULTS.map(|fault| vec![Fault::Lose, fault]));
    for script in scripts {
        for returned in [false, true] {
            let faulty = Faulty::new();
            let queue = filled(&faulty, 5).await;
            // The leases and values are there: the next call that changes something is the claim.
            let first = queue.take_many(5).await.unwrap();
            let attempt = if returned { 2 } else { 1 };
            let mut backs = Vec::new();
            for delivery in first {
                if returned {
                    delivery.nack().await.unwrap();
                } else {
                    backs.push(delivery.unseen());
                }
            }
            join_all(backs).await;
            faulty.script(script.clone());
            let taken = queue.take_many(5).await.unwrap();
            faulty.deliver_late().await;
            assert_eq!(taken.len(), 5, "{script:?}");
            assert_eq!(values(&taken).len(), 5, "{script:?}");
            let counted = |delivery: &Delivery| delivery.attempt() == attempt;
            assert!(taken.iter().all(counted), "{script:?}");
            faulty.script(script.clone());
            let acked = join_all(taken.into_iter().map(Delivery::ack)).await;
            assert!(acked.iter().all(Result::is_ok), "{script:?}: {acked:?}");
            faulty.deliver_late().await;
            assert!(queue.try_take().await.unwrap().is_none());
            assert_clean(&faulty).await;
        }
    }
}

#[tokio::test]
async fn a_count_that_was_left_behind_is_nobodys() {
    for faulty in both() {
        let queue = filled(&faulty, 2).await;
        let first = queue.take_many(2).await.unwrap();
        let key = first[0].key().clone();
        for delivery in first {
            delivery.nack().await.unwrap();
        }
        // Taken out by a consumer of Go's, which leaves the count; then something else has its key.
        let delete = DeleteRequest::new(key.clone());
        faulty.engine.delete(delete).await.unwrap();
        let put = PutRequest::new(key, "new");
        faulty.engine.put(put).await.unwrap();
        let taken = queue.take_many(2).await.unwrap();
        let attempts: Vec<(String, u32)> = taken
            .iter()
            .map(|delivery| (value(delivery), delivery.attempt()))
            .collect();
        assert_eq!(attempts, [("002".to_owned(), 2), ("new".to_owned(), 1)]);
        join_all(taken.into_iter().map(Delivery::ack)).await;
        assert_clean(&faulty).await;
    }
}

#[tokio::test]
async fn callers_that_give_up_on_an_empty_queue_leave_nothing_behind() {
    for faulty in both() {
        let queue = filled(&faulty, 0).await;
        for _ in 0..20 {
            let taken = queue.take_timeout(Duration::from_millis(5)).await.unwrap();
            assert!(taken.is_none());
        }
        assert_eq!(queue.handle().takers_in_line(), 0);
    }
}

#[test]
fn whose_acknowledgement_ends_with_anothers_runtime_is_told_that_it_may_have_happened() {
    let (dying, living) = (runtime(), runtime());
    let faulty = Faulty::over(engine(), Replies::Certain);
    let queue = living.block_on(filled(&faulty, 4));
    let mut taken = living.block_on(queue.take_many(4)).unwrap();
    let handle = queue.handle();
    let standing = || handle.depot().acks.standing();
    faulty.close_gate(0);
    // Two stand at the gate, and the others wait for them.
    let first: Vec<_> = taken
        .drain(..2)
        .enumerate()
        .map(|(number, delivery)| {
            let ack = dying.spawn(delivery.ack());
            living.block_on(until(|| standing() == (0, number + 1)));
            ack
        })
        .collect();
    let second: Vec<_> = taken
        .into_iter()
        .map(|delivery| living.spawn(delivery.ack()))
        .collect();
    living.block_on(until(|| standing() == (2, 2)));
    faulty.close_gate_behind(2);
    for ack in first {
        dying.block_on(ack).unwrap().unwrap();
    }
    living.block_on(async { assert!(faulty.wait_at_gate().await) });
    drop(dying);
    for ack in second {
        let error = living.block_on(ack).unwrap().unwrap_err();
        assert!(error.is_maybe_committed(), "{error}");
    }
    faulty.open_gate();
}
