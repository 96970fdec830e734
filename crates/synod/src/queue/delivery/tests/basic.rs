//! What deliveries do when nothing goes wrong but what they are made for.

use super::*;

#[tokio::test]
async fn an_acknowledged_item_is_gone() {
    for faulty in both() {
        let queue = faulty.client(LONG).queue("q");
        queue.enqueue_many(["a", "b"]).await.unwrap();
        for value in ["a", "b"] {
            let delivery = queue.take().await.unwrap();
            assert_eq!(
                (delivery.value().as_ref(), delivery.attempt()),
                (value.as_bytes(), 1)
            );
            assert!(delivery.remaining() > Duration::from_secs(25));
            delivery.ack().await.unwrap();
        }
        assert!(queue.try_take().await.unwrap().is_none());
        assert!(keys(&faulty.engine, "__synod/queue/").await.is_empty());
        assert!(keys(&faulty.engine, "q/").await.is_empty());
    }
}

#[tokio::test]
async fn an_item_that_is_given_back_comes_again() {
    for faulty in both() {
        let queue = faulty.client(LONG).queue("q");
        queue.enqueue_many(["a", "b"]).await.unwrap();
        let first = queue.take().await.unwrap();
        let key = first.key().clone();
        first.nack().await.unwrap();
        // Its payload stands bare in the queue, where anybody can read it.
        let items = keys(&faulty.engine, "q/").await;
        assert_eq!(items.len(), 2);
        assert!(
            items
                .iter()
                .any(|item| item.key == key && item.value == "a")
        );
        // It went behind what was there.
        let mut order = Vec::new();
        for _ in 0..2 {
            let delivery = queue.take().await.unwrap();
            order.push((delivery.value().clone(), delivery.attempt()));
            delivery.ack().await.unwrap();
        }
        assert_eq!(order, [("b".into(), 1), ("a".into(), 2)]);
        assert!(keys(&faulty.engine, "__synod/queue/").await.is_empty());
    }
}

#[tokio::test]
async fn a_dropped_delivery_comes_again() {
    for faulty in both() {
        let queue = faulty.client(LONG).queue("q");
        queue.enqueue("a").await.unwrap();
        drop(queue.take().await.unwrap());
        let again = queue.take().await.unwrap();
        assert_eq!(again.attempt(), 2);
        again.ack().await.unwrap();
    }
}

#[tokio::test]
async fn an_item_whose_bound_ran_out_goes_to_one_who_waits() {
    for faulty in both() {
        let taker = faulty.client(LONG).queue("q");
        let waiter = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy);
        let waiter = waiter.client(LONG).queue("q");
        taker.enqueue("a").await.unwrap();
        let first = taker.take().await.unwrap();
        let waiting = tokio::spawn(async move { waiter.take().await.unwrap() });
        run_out(&faulty.engine, "q").await;
        let second = waiting.await.unwrap();
        assert_eq!((second.value().as_ref(), second.attempt()), (&b"a"[..], 2));
        match first.ack().await {
            Err(Error::DeliveryEnded { key }) => assert_eq!(key, second.key().to_string()),
            other => panic!("{other:?}"),
        }
        second.ack().await.unwrap();
        assert!(keys(&faulty.engine, "q/").await.is_empty());
    }
}

#[tokio::test]
async fn after_the_last_attempt_it_is_a_dead_letter() {
    for faulty in both() {
        let queue = faulty.client(LONG).queue("q").with_max_attempts(3);
        queue.enqueue("a").await.unwrap();
        for attempt in 1..=3 {
            let delivery = queue.try_take().await.unwrap().expect("it comes again");
            assert_eq!(
                (delivery.attempt(), delivery.is_last_attempt()),
                (attempt, attempt == 3)
            );
            if attempt == 2 {
                delivery.nack().await.unwrap();
            } else {
                run_out(&faulty.engine, "q").await;
                assert!(matches!(
                    delivery.ack().await,
                    Err(Error::DeliveryEnded { .. })
                ));
            }
        }
        assert!(queue.try_take().await.unwrap().is_none());
        assert_eq!(keys(&faulty.engine, "__synod/queue/q/dead/").await.len(), 1);
        assert_eq!(keys(&faulty.engine, "__synod/queue/q/").await.len(), 1);
    }
}
