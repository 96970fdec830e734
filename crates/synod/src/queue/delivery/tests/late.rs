//! Delays.

use futures_util::FutureExt;

use super::*;
use crate::queue::delivery::tender::LONGER;

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

/// How long a dequeue waits before it asks when the next item is due.
const A_WHILE: Duration = Duration::from_secs(1);

/// Puts a value in for later, and dies.
async fn put_and_die(engine: &Arc<dyn Store>, value: &str, delay: Duration) {
    let producer = Faulty::over(Arc::clone(engine), Replies::Lossy);
    let queue = with_clock(&producer, &Arc::new(ManualClock::new())).queue("q");
    queue.enqueue_with(value, after(delay)).await.unwrap();
    producer.always(Some(Fault::Drop));
}

/// One item, taken out for good in this way.
async fn one(queue: &Queue, takes: bool) -> String {
    if takes {
        let delivery = queue.take().await.unwrap();
        let value = value(&delivery);
        delivery.ack().await.unwrap();
        return value;
    }
    String::from_utf8(queue.dequeue().await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn who_waits_wakes_for_it_although_its_producer_is_dead() {
    for (takes, waits_first) in [(true, true), (true, false), (false, true), (false, false)] {
        for faulty in both() {
            let clock = Arc::new(ManualClock::new());
            let queue = with_clock(&faulty, &clock).queue("q");
            if !waits_first {
                put_and_die(&faulty.engine, "a", MINUTE).await;
                put_and_die(&faulty.engine, "b", 2 * MINUTE).await;
            }
            let waiting =
                tokio::spawn(async move { [one(&queue, takes).await, one(&queue, takes).await] });
            // The queue's own watch, and two beside it.
            until(|| faulty.watches() >= 1).await;
            pass(A_WHILE).await;
            until(|| faulty.watches() >= 3).await;
            if waits_first {
                put_and_die(&faulty.engine, "b", 2 * MINUTE).await;
                put_and_die(&faulty.engine, "a", MINUTE).await;
            }
            for left in [1, 0] {
                // It knows when the next is due, and only waits for that moment.
                until(|| clock.sleepers() > 0).await;
                clock.advance(MINUTE);
                let prefix = "__synod/queue/q/later/";
                until_async(async || keys(&faulty.engine, prefix).await.len() == left).await;
                if takes && left == 1 {
                    // Who takes one after the other knows nothing of the next before it waits again.
                    until_async(async || keys(&faulty.engine, "q/").await.is_empty()).await;
                }
            }
            assert_eq!(
                soon(waiting).await.unwrap(),
                ["a", "b"],
                "{takes} {waits_first}"
            );
        }
    }
}

#[tokio::test]
async fn a_blocked_dequeue_of_a_priority_queue_wakes_for_it() {
    for faulty in both() {
        let clock = Arc::new(ManualClock::new());
        let producer = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy);
        let delayed = with_clock(&producer, &Arc::new(ManualClock::new())).priority_queue("q");
        let queue = with_clock(&faulty, &clock).priority_queue("q");
        let waiting = tokio::spawn(async move { queue.dequeue_many(2).await.unwrap() });
        until(|| faulty.watches() >= 1).await;
        pass(A_WHILE).await;
        delayed.enqueue_with("a", 3, after(MINUTE)).await.unwrap();
        producer.always(Some(Fault::Drop));
        drop(delayed);
        until(|| clock.sleepers() > 0).await;
        clock.advance(MINUTE);
        assert_eq!(soon(waiting).await.unwrap(), ["a"]);
    }
}

#[tokio::test]
async fn who_asks_again_and_again_gets_it_when_it_is_due() {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let queue = with_clock(&faulty, &clock).queue("q");
    // More than a round moves, and one later.
    for number in 0..70 {
        put_and_die(&faulty.engine, &number.to_string(), MINUTE).await;
    }
    put_and_die(&faulty.engine, "last", 2 * MINUTE).await;
    let txns = faulty.txns();
    for _ in 0..10 {
        assert_eq!(queue.try_dequeue().await.unwrap(), None);
    }
    assert_eq!(faulty.txns(), txns + 1, "it looks beside the queue once");
    clock.advance(MINUTE);
    for _ in 0..70 {
        assert!(queue.try_dequeue().await.unwrap().is_some());
    }
    assert_eq!(queue.try_dequeue().await.unwrap(), None);
    clock.advance(MINUTE);
    assert_eq!(queue.try_dequeue().await.unwrap().unwrap(), "last");
}

#[tokio::test]
async fn who_never_waits_brings_it_too() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let clock = Arc::new(ManualClock::new());
    let queue = with_clock(&faulty, &clock).queue("q");
    let fill: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    queue.enqueue_many(&fill).await.unwrap();
    put_and_die(&faulty.engine, "a", MINUTE).await;
    put_and_die(&faulty.engine, "b", 2 * MINUTE).await;
    let left = async || keys(&faulty.engine, "__synod/queue/q/later/").await.len();
    queue.dequeue().await.unwrap();
    assert!(!queue.handle().depot().knows_a_due_time(), "not at once");
    pass(Duration::from_secs(30)).await;
    queue.dequeue().await.unwrap();
    // It has heard of both, and asks for nothing before the first is due.
    until(|| queue.handle().depot().knows_a_due_time()).await;
    queue.dequeue().await.unwrap();
    assert_eq!(left().await, 2);
    for rest in [1, 0] {
        clock.advance(MINUTE);
        queue.dequeue().await.unwrap();
        until_async(async || left().await == rest).await;
    }
}

#[tokio::test]
async fn an_alarm_brings_all_that_is_due() {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let queue = with_clock(&faulty, &clock).queue("q");
    for number in 0..70 {
        let number = number.to_string();
        queue.enqueue_with(number, after(MINUTE)).await.unwrap();
    }
    until(|| clock.sleepers() > 0).await;
    // Each time the clock moves, one that waits for it may go on.
    until_async(async || {
        clock.advance(MINUTE);
        keys(&faulty.engine, "q/").await.len() == 70
    })
    .await;
}

#[tokio::test]
async fn who_may_not_look_beside_the_queue_does_not_ask_without_end() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let clock = Arc::new(ManualClock::new());
    let queue = with_clock(&faulty, &clock).queue("q");
    let waiting = tokio::spawn(async move { queue.dequeue().await.unwrap() });
    until(|| faulty.watches() == 1 && faulty.ranges() >= 2).await;
    faulty.always(Some(Fault::Deny));
    pass(A_WHILE).await;
    until(|| faulty.watches() == 2).await;
    for _ in 0..20 {
        pass(Duration::from_millis(500)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(faulty.watches(), 2, "in ten seconds");
    // It may from now on, and hears of it in half a minute.
    faulty.always(None);
    put_and_die(&faulty.engine, "a", MINUTE).await;
    pass(Duration::from_secs(30)).await;
    until(|| faulty.watches() >= 4 && clock.sleepers() > 0).await;
    clock.advance(MINUTE);
    assert_eq!(soon(waiting).await.unwrap(), "a");
}

#[tokio::test]
async fn the_watches_end_with_the_last_handle_or_when_nobody_waits() {
    for drops in [true, false] {
        let faulty = Faulty::new();
        let queue = faulty.client(LONG).queue("q");
        let mut waiting = Box::pin(queue.dequeue());
        assert!((&mut waiting).now_or_never().is_none());
        until(|| faulty.watches() >= 1).await;
        pass(A_WHILE).await;
        assert!((&mut waiting).now_or_never().is_none());
        until(|| faulty.watches() >= 3).await;
        drop(waiting);
        let depot = Arc::downgrade(queue.handle().depot());
        if !drops {
            until(|| !queue.handle().depot().is_tended()).await;
            continue;
        }
        drop(queue);
        // Sooner than they would if somebody could come again.
        for _ in 0..LONGER - 2 {
            pass(Duration::from_millis(200)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(depot.strong_count(), 0);
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
