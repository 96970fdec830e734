//! Delays.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn after(delay: Duration) -> EnqueueOptions {
    EnqueueOptions::new().with_delay(delay)
}

#[tokio::test]
async fn a_delayed_item_comes_when_it_is_due_and_not_before() {
    for faulty in both() {
        let clock = Arc::new(ManualClock::new());
        let queue = with_clock(&faulty, &clock).queue("q");
        for (value, minutes) in [("c", 3), ("a", 1), ("b", 2)] {
            let put = queue
                .enqueue_with(value, after(MINUTE * minutes))
                .await
                .unwrap();
            assert_eq!(put, Enqueued::New);
        }
        assert!(keys(&faulty.engine, "q/").await.is_empty());
        assert!(queue.try_take().await.unwrap().is_none());
        for expected in ["a", "b", "c"] {
            clock.advance(MINUTE - Duration::from_nanos(1));
            assert!(queue.try_take().await.unwrap().is_none());
            clock.advance(Duration::from_nanos(1));
            assert_eq!(drain(&queue).await, [(expected.to_owned(), 1)]);
        }
        assert!(keys(&faulty.engine, "__synod/queue/").await.is_empty());
    }
}

#[tokio::test]
async fn who_waits_wakes_for_it_although_its_producer_is_dead() {
    for (faulty, takes) in both().into_iter().zip([true, false]) {
        let clock = Arc::new(ManualClock::new());
        let producer = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy);
        let delayed = with_clock(&producer, &Arc::new(ManualClock::new())).queue("q");
        let waiting = tokio::spawn({
            let queue = with_clock(&faulty, &clock).queue("q");
            async move {
                if takes {
                    let delivery = queue.take().await.unwrap();
                    let value = value(&delivery);
                    delivery.ack().await.unwrap();
                    return value;
                }
                // Who takes out for good looks around when it has waited a while.
                String::from_utf8(queue.dequeue().await.unwrap().to_vec()).unwrap()
            }
        });
        delayed.enqueue_with("a", after(MINUTE)).await.unwrap();
        producer.always(Some(Fault::Drop));
        drop(delayed);
        if takes {
            // Its tender has heard of it, and waits for the moment.
            until_async(async || clock.sleepers() > 0).await;
        }
        clock.advance(MINUTE);
        assert_eq!(waiting.await.unwrap(), "a");
    }
}

#[tokio::test]
async fn its_producer_brings_it_to_those_who_know_nothing_of_delays() {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let queue = with_clock(&faulty, &clock).queue("q");
    queue.enqueue_with("b", after(2 * MINUTE)).await.unwrap();
    queue.enqueue_with("a", after(MINUTE)).await.unwrap();
    for (count, _) in ["a", "b"].iter().enumerate() {
        until_async(async || clock.sleepers() > 0).await;
        clock.advance(MINUTE);
        until_async(async || keys(&faulty.engine, "q/").await.len() == count + 1).await;
    }
    let values: Vec<_> = keys(&faulty.engine, "q/")
        .await
        .into_iter()
        .map(|kv| kv.value)
        .collect();
    assert_eq!(values, ["a", "b"]);
}

#[tokio::test]
async fn an_item_given_back_for_later_comes_later() {
    for faulty in both() {
        let clock = Arc::new(ManualClock::new());
        let queue = with_clock(&faulty, &clock).queue("q").with_max_attempts(2);
        queue.enqueue("a").await.unwrap();
        let first = queue.take().await.unwrap();
        let key = first.key().clone();
        first.nack_after(MINUTE).await.unwrap();
        assert!(queue.try_take().await.unwrap().is_none());
        clock.advance(MINUTE);
        let second = queue.take().await.unwrap();
        assert_eq!((second.attempt(), second.key()), (2, &key));
        // After the last attempt there is no later.
        second.nack_after(MINUTE).await.unwrap();
        let dead = queue.dead().list(9).await.unwrap();
        assert_eq!(dead.len(), 1);
        assert_eq!(
            (&dead[0].item, dead[0].attempts, &dead[0].value[..]),
            (&key, 2, &b"a"[..])
        );
    }
}

#[tokio::test]
async fn many_at_once_move_each_once() {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let producer = with_clock(&faulty, &clock).queue("q");
    for number in 0..100 {
        producer
            .enqueue_with(number.to_string(), after(MINUTE))
            .await
            .unwrap();
    }
    clock.advance(MINUTE);
    let mut movers = Vec::new();
    for _ in 0..4 {
        let other = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy);
        let queue = with_clock(&other, &clock).queue("q");
        movers.push(tokio::spawn(async move { drain(&queue).await }));
    }
    let mut values = Vec::new();
    for mover in movers {
        values.extend(mover.await.unwrap().into_iter().map(|(value, _)| value));
    }
    values.extend(drain(&producer).await.into_iter().map(|(value, _)| value));
    let mut numbers: Vec<u32> = values.iter().map(|value| value.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert!(keys(&faulty.engine, "__synod/queue/q/").await.is_empty());
}
