//! Deliveries of a priority queue.

use super::*;
use crate::PriorityQueue;

async fn taken(queue: &PriorityQueue) -> Option<(String, u32)> {
    let delivery = queue.try_take().await.unwrap()?;
    let taken = (value(&delivery), delivery.attempt());
    delivery.ack().await.unwrap();
    Some(taken)
}

fn item(value: &str, attempt: u32) -> Option<(String, u32)> {
    Some((value.to_owned(), attempt))
}

#[tokio::test]
async fn the_most_urgent_is_taken_first_and_goes_back_to_its_place() {
    for faulty in both() {
        let queue = faulty.client(LONG).priority_queue("q");
        queue
            .enqueue_many([("3", 3), ("1a", 1), ("2", 2), ("1b", 1)])
            .await
            .unwrap();
        let first = queue.take().await.unwrap();
        assert_eq!(value(&first), "1a");
        let key = first.key().clone();
        first.nack().await.unwrap();
        let again = queue.take().await.unwrap();
        assert_eq!(
            (value(&again).as_str(), again.attempt(), again.key()),
            ("1a", 2, &key)
        );
        // Something more urgent comes while it is on its way.
        stranger(&faulty)
            .priority_queue("q")
            .enqueue("0", 0)
            .await
            .unwrap();
        assert_eq!(taken(&queue).await, item("0", 1));
        again.nack().await.unwrap();
        for expected in [
            item("1a", 3),
            item("1b", 1),
            item("2", 1),
            item("3", 1),
            None,
        ] {
            assert_eq!(taken(&queue).await, expected);
        }
        let left = keys(&faulty.engine, "__synod/priority_queue/").await;
        let left: Vec<String> = left.into_iter().map(|kv| kv.key.to_string()).collect();
        assert_eq!(left, ["__synod/priority_queue/q/back"]);
    }
}

#[tokio::test]
async fn a_place_that_is_in_use_is_not_overwritten() {
    for faulty in both() {
        let queue = faulty.client(LONG).priority_queue("q");
        for how in 0..3 {
            queue.enqueue("a", 7).await.unwrap();
            let delivery = queue.take().await.unwrap();
            // The priority is empty, so a producer that knows nothing of numbers given begins anew.
            let put = PutRequest::new(delivery.key().clone(), "b");
            faulty.engine.put(put).await.unwrap();
            faulty
                .engine
                .put(PutRequest::new("__q/00007", ""))
                .await
                .unwrap();
            match how {
                0 => delivery.nack().await.unwrap(),
                1 => drop(delivery),
                _ => {
                    run_out(&faulty.engine, "priority_queue/q").await;
                    drop(delivery);
                }
            }
            let mut all = Vec::new();
            while all.len() < 2 {
                let delivery = queue.take().await.unwrap();
                all.push(value(&delivery));
                delivery.ack().await.unwrap();
            }
            all.sort();
            assert_eq!(all, ["a", "b"], "{how}");
        }
    }
}

#[tokio::test]
async fn delays_ids_and_room_work_here_too() {
    for faulty in both() {
        let clock = Arc::new(ManualClock::new());
        let queue = with_clock(&faulty, &clock)
            .priority_queue("q")
            .with_capacity(4);
        let minute = Duration::from_secs(60);
        let late = EnqueueOptions::new().with_delay(minute).with_id("late");
        assert!(
            queue
                .enqueue_with("late", 1, late.clone())
                .await
                .unwrap()
                .is_new()
        );
        assert!(!queue.enqueue_with("late", 1, late).await.unwrap().is_new());
        queue.enqueue("b", 5).await.unwrap();
        queue.enqueue_many([("a", 1), ("c", 9)]).await.unwrap();
        assert!(matches!(
            queue.enqueue("d", 0).await,
            Err(Error::QueueFull { .. })
        ));
        clock.advance(minute);
        // It becomes the last of its priority when it is due.
        let dead = queue.clone().with_max_attempts(1);
        for expected in ["a", "late"] {
            let mut found = queue.try_take().await.unwrap().unwrap();
            if value(&found) != expected {
                // Nobody has looked for what is due before there was nothing else.
                found.nack().await.unwrap();
                until_async(async || queue.len().await.unwrap() == 3).await;
                found = queue.try_take().await.unwrap().unwrap();
            }
            assert_eq!(value(&found), expected);
            found.ack().await.unwrap();
        }
        dead.take().await.unwrap().nack().await.unwrap();
        let letters = queue.dead().list(9).await.unwrap();
        assert_eq!((letters.len(), &letters[0].value[..]), (1, &b"b"[..]));
        assert_eq!(queue.dead().requeue_all().await.unwrap(), 1);
        assert_eq!(taken(&queue).await, item("b", 1));
        assert_eq!(taken(&queue).await, item("c", 1));
    }
}

#[tokio::test]
async fn who_waits_takes_what_comes_and_what_comes_back() {
    for faulty in both() {
        let queue = faulty.client(LONG).priority_queue("q");
        let other = stranger(&faulty).priority_queue("q");
        for round in 0..10 {
            let waiting = tokio::spawn({
                let queue = queue.clone();
                async move { queue.take().await.unwrap() }
            });
            other.enqueue(round.to_string(), round).await.unwrap();
            let first = waiting.await.unwrap();
            assert_eq!(value(&first), round.to_string());
            let waiting = tokio::spawn({
                let other = other.clone();
                async move { other.take().await.unwrap() }
            });
            run_out(&faulty.engine, "priority_queue/q").await;
            let second = waiting.await.unwrap();
            assert_eq!((value(&second), second.attempt()), (round.to_string(), 2));
            second.ack().await.unwrap();
            assert!(matches!(
                first.ack().await,
                Err(Error::DeliveryEnded { .. })
            ));
        }
    }
}
