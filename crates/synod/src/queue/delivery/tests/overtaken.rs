//! Callers of one client that overtake each other: order, wakefulness and counts stay right.

use std::task::Poll;

use super::*;
use crate::testing::{overdue_in_trouble, soon};

/// Polls a future until `condition` holds.
async fn poll_until<F: Future + Unpin>(future: &mut F, condition: impl Fn() -> bool)
where
    F::Output: std::fmt::Debug,
{
    let begin = std::time::Instant::now();
    while begin.elapsed() < LONG {
        let polled = tokio::time::timeout(Duration::from_millis(2), &mut *future).await;
        assert!(polled.is_err(), "it ended with {polled:?}");
        if condition() {
            return;
        }
    }
    panic!("the condition has not come");
}

/// Polls a future that is not done yet a few times.
async fn poll_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    for _ in 0..20 {
        let polled = std::future::poll_fn(|cx| {
            Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            })
        });
        if let Some(output) = polled.await {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn items_put_in_seconds_apart_are_taken_in_their_order() {
    for faulty in both() {
        let names: Vec<String> = (0..10u64)
            .map(|second| format!("q/{}", 1_790_000_000_000_000_000 + second * 1_000_000_000))
            .collect();
        for name in &names {
            let put = PutRequest::new(name.as_str(), name.clone());
            faulty.engine.put(put).await.unwrap();
        }
        let drained = drain(&faulty.client(LONG).queue("q")).await;
        let values: Vec<String> = drained.into_iter().map(|(value, _)| value).collect();
        assert_eq!(values, names);
    }
}

#[tokio::test]
async fn a_claim_that_fails_leaves_the_order_as_it_is() {
    let faulty = Faulty::new();
    let names: Vec<String> = (0..10u64)
        .map(|second| format!("q/{}", 1_790_000_000_000_000_000 + second * 1_000_000_000))
        .collect();
    for name in &names {
        let put = PutRequest::new(name.as_str(), name.clone());
        faulty.engine.put(put).await.unwrap();
    }
    let queue = faulty.client(LONG).queue("q");
    for name in &names[..2] {
        let delivery = queue.take().await.unwrap();
        assert_eq!(&value(&delivery), name);
        delivery.ack().await.unwrap();
    }
    faulty.script([Fault::Deny]);
    assert!(queue.try_take().await.is_err());
    let rest: Vec<String> = drain(&queue).await.into_iter().map(|(v, _)| v).collect();
    assert_eq!(rest, &names[2..]);
}

#[tokio::test]
async fn an_attempt_that_its_caller_never_sees_does_not_count() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q").with_max_attempts(1);
    queue.enqueue_many(["a", "b", "c"]).await.unwrap();
    for _ in 0..2 {
        queue.take().await.unwrap().ack().await.unwrap();
    }
    let mut take = Box::pin(queue.take());
    let polled = std::future::poll_fn(|cx| Poll::Ready(take.as_mut().poll(cx).is_pending()));
    assert!(polled.await);
    // The claim ends while its caller looks elsewhere, and then leaves.
    until_async(async || !marker_leases(&faulty.engine, "queue/q").await.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(take);
    until_async(async || marker_leases(&faulty.engine, "queue/q").await.is_empty()).await;
    assert!(queue.dead().is_empty().await.unwrap());
    let delivery = soon(queue.take()).await.unwrap();
    assert_eq!((value(&delivery).as_str(), delivery.attempt()), ("c", 1));
}

#[tokio::test]
async fn a_take_waits_no_longer_than_its_client_for_a_store_that_does_not_answer() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let (queue, other) = (client.queue("q"), client.priority_queue("p"));
    queue.enqueue_many(["a", "b", "c", "d"]).await.unwrap();
    let many = ["a", "b", "c", "d"].map(|value| (value, 1));
    other.enqueue_many(many).await.unwrap();
    for _ in 0..2 {
        queue.take().await.unwrap().ack().await.unwrap();
        other.take().await.unwrap().ack().await.unwrap();
    }
    faulty.always(Some(Fault::Drop));
    let failed = overdue_in_trouble(&faulty, queue.try_take()).await.is_err();
    assert!(failed && overdue_in_trouble(&faulty, queue.take()).await.is_err());
    let failed = overdue_in_trouble(&faulty, other.try_take()).await.is_err();
    assert!(failed && overdue_in_trouble(&faulty, other.take()).await.is_err());
    faulty.always(None);
    // What was on its way comes back, and no attempt counts.
    until_async(async || queue.len().await.is_ok_and(|len| len == 2)).await;
    let mut left = drain(&stranger(&faulty).queue("q")).await;
    left.sort();
    assert_eq!(left, [("c".to_owned(), 1), ("d".to_owned(), 1)]);
}

#[tokio::test]
async fn an_extension_that_was_abandoned_is_renewed_with_the_rest() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let queue = client.queue("q").with_visibility(Duration::from_secs(10));
    queue.enqueue("a").await.unwrap();
    let delivery = queue.take().await.unwrap();
    let before = marker_leases(&faulty.engine, "queue/q").await;
    // The grant goes through, the extension is on its way when its caller leaves.
    faulty.close_gate(1);
    let mut extend = Box::pin(delivery.extend(Duration::from_secs(60)));
    assert!(poll_now(&mut extend).await.is_none());
    tokio::select! {
        _ = &mut extend => panic!("it cannot be answered"),
        come = faulty.wait_at_gate() => assert!(come),
    }
    drop(extend);
    faulty.open_gate();
    until_async(async || marker_leases(&faulty.engine, "queue/q").await != before).await;
    let renewals = faulty.keep_alives();
    delivery.extend(Duration::from_secs(10)).await.unwrap();
    // It is not known which of the two keeps the marker.
    assert_eq!(faulty.keep_alives(), renewals + 2);
    delivery.ack().await.unwrap();
}

#[tokio::test]
async fn what_a_look_has_overtaken_does_not_jump_the_queue() {
    for _ in 0..8 {
        let faulty = Faulty::over(engine(), Replies::Certain);
        let queue = faulty.client(LONG).priority_queue("q");
        let watches = faulty.watches();
        let mut waiting = Box::pin(queue.take());
        poll_until(&mut waiting, || faulty.watches() >= watches + 3).await;
        tokio::time::timeout(Duration::from_millis(20), &mut waiting)
            .await
            .unwrap_err();
        // While it does not look, more comes than one look sees.
        let producer = stranger(&faulty).priority_queue("q");
        producer.enqueue("last", 9).await.unwrap();
        producer
            .enqueue_many((0..300).map(|_| ("first", 1)))
            .await
            .unwrap();
        let mut taken = vec![queue.try_take().await.unwrap().unwrap()];
        if let Some(delivery) = poll_now(&mut waiting).await {
            taken.push(delivery.unwrap());
        } else {
            taken.push(soon(waiting).await.unwrap());
        }
        while taken.len() < 300 {
            taken.push(queue.try_take().await.unwrap().unwrap());
        }
        let values: Vec<String> = taken.iter().map(value).collect();
        let jumped = values.iter().position(|value| value == "last");
        assert_eq!(jumped, None, "of {}", values.len());
        for delivery in taken {
            delivery.ack().await.unwrap();
        }
    }
}

#[tokio::test]
async fn who_waits_takes_what_the_claim_of_another_has_left() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let queue = client.queue("q");
    queue.enqueue("before").await.unwrap();
    queue.take().await.unwrap().ack().await.unwrap();
    let watches = faulty.watches();
    let mut waiting = Box::pin(queue.take());
    poll_until(&mut waiting, || faulty.watches() >= watches + 3).await;
    tokio::time::timeout(Duration::from_millis(50), &mut waiting)
        .await
        .unwrap_err();
    stranger(&faulty).queue("q").enqueue("a").await.unwrap();
    // Another looks, and its claim is on its way when the event comes.
    faulty.close_gate(1);
    let other = tokio::spawn({
        let queue = queue.clone();
        async move { queue.try_take().await }
    });
    assert!(faulty.wait_at_gate().await);
    tokio::time::timeout(Duration::from_millis(50), &mut waiting)
        .await
        .unwrap_err();
    faulty.script([Fault::Deny]);
    faulty.open_gate();
    // The claim was for the one who came first, and so is the error. The other may find it then.
    let found = soon(other).await.unwrap().ok().flatten();
    let soon = LONG / 2;
    let delivery = match found {
        Some(delivery) => delivery,
        None => match tokio::time::timeout(soon, waiting).await {
            Ok(Ok(delivery)) => delivery,
            Ok(Err(_)) => queue.take_timeout(soon).await.unwrap().expect("it is lost"),
            Err(_) => panic!("it sleeps"),
        },
    };
    assert_eq!(value(&delivery), "a");
}
