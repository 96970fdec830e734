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
        run_out(&faulty.engine, "queue/q").await;
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
                run_out(&faulty.engine, "queue/q").await;
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

#[tokio::test]
async fn a_sequence_of_takes_costs_two_transactions_each_and_one_lease() {
    for faulty in both() {
        let queue = faulty.client(LONG).queue("q");
        let values: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        queue.enqueue_many(&values).await.unwrap();
        // What the first one finds out serves the others.
        queue.take().await.unwrap().ack().await.unwrap();
        let (txns, ranges) = (faulty.txns(), faulty.ranges());
        let before = faulty.engine.leases().await.unwrap().leases.len();
        for expected in &values[1..] {
            let delivery = queue.take().await.unwrap();
            assert_eq!(value(&delivery), *expected);
            delivery.ack().await.unwrap();
        }
        // And one look, which brings the values along.
        assert!(
            faulty.txns() - txns <= 2 * 49 + 4,
            "{}",
            faulty.txns() - txns
        );
        assert!(
            faulty.ranges() - ranges <= 3,
            "{}",
            faulty.ranges() - ranges
        );
        assert_eq!(faulty.engine.leases().await.unwrap().leases.len(), before);
    }
}

#[tokio::test]
async fn a_client_that_closes_leaves_nothing() {
    for faulty in both() {
        let client = faulty.client(LONG);
        let queue = client.queue("q");
        queue.enqueue_many(["a", "b"]).await.unwrap();
        queue.take().await.unwrap().ack().await.unwrap();
        drop(queue.take().await.unwrap());
        client.close().await.unwrap();
        assert_eq!(keys(&faulty.engine, "q/").await.len(), 1);
        let left = keys(&faulty.engine, "__synod/").await;
        // The item that went back was handed out once.
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(
            left[0]
                .key
                .to_string()
                .starts_with("__synod/queue/q/tries/")
        );
        assert!(faulty.engine.leases().await.unwrap().leases.is_empty());
    }
}

#[tokio::test]
async fn an_extended_delivery_lasts_longer() {
    for faulty in both() {
        let queue = faulty
            .client(LONG)
            .queue("q")
            .with_visibility(Duration::from_secs(5));
        queue.enqueue("a").await.unwrap();
        let delivery = queue.take().await.unwrap();
        assert!(delivery.remaining() <= Duration::from_secs(5));
        let short = marker_leases(&faulty.engine, "queue/q").await;
        delivery.extend(Duration::from_secs(4)).await.unwrap();
        assert_eq!(marker_leases(&faulty.engine, "queue/q").await, short);
        delivery.extend(Duration::from_secs(100)).await.unwrap();
        assert!(delivery.remaining() > Duration::from_secs(90));
        let long = marker_leases(&faulty.engine, "queue/q").await;
        assert_ne!(long, short);
        // The lease that it began with means nothing any more.
        faulty.engine.lease_revoke(short[0]).await.ok();
        assert!(
            stranger(&faulty)
                .queue("q")
                .try_take()
                .await
                .unwrap()
                .is_none()
        );
        delivery.ack().await.unwrap();
        assert!(keys(&faulty.engine, "__synod/queue/").await.is_empty());
    }
}

#[tokio::test]
async fn a_delivery_that_has_ended_cannot_be_extended_nor_given_back() {
    for faulty in both() {
        let queue = faulty.client(LONG).queue("q");
        queue.enqueue("a").await.unwrap();
        for end in 0..4 {
            let delivery = queue.take().await.unwrap();
            assert_eq!(delivery.attempt(), end + 1);
            run_out(&faulty.engine, "queue/q").await;
            let ended = match end {
                0 => delivery.extend(Duration::from_secs(1)).await,
                1 => delivery.extend(Duration::from_secs(1000)).await,
                2 => delivery.nack_after(Duration::from_secs(9)).await,
                _ => delivery.nack().await,
            };
            assert!(
                matches!(ended, Err(Error::DeliveryEnded { .. })),
                "{end}: {ended:?}"
            );
        }
        assert_eq!(drain(&queue).await, [("a".to_owned(), 5)]);
    }
}

#[tokio::test]
async fn a_cancelled_take_loses_nothing_and_counts_nothing() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    queue.enqueue("a").await.unwrap();
    drop(queue.take().await.unwrap());
    until_async(async || keys(&faulty.engine, "q/").await.len() == 1).await;
    // Its claim is on its way when the caller leaves.
    for _ in 0..5 {
        faulty.close_gate(0);
        let taking = tokio::spawn({
            let queue = queue.clone();
            async move { queue.take().await }
        });
        assert!(faulty.wait_at_gate().await);
        taking.abort();
        faulty.open_gate();
        assert!(taking.await.unwrap_err().is_cancelled());
    }
    let delivery = queue.take().await.unwrap();
    assert_eq!(delivery.attempt(), 2);
    delivery.ack().await.unwrap();
    assert!(keys(&faulty.engine, "q/").await.is_empty());
}

#[tokio::test]
async fn what_others_take_out_leaves_no_count_behind() {
    for faulty in both() {
        let client = faulty.client(LONG);
        let queue = client.queue("q");
        queue.enqueue_many(["a", "b"]).await.unwrap();
        for _ in 0..2 {
            queue.take().await.unwrap().nack().await.unwrap();
        }
        assert_eq!(
            keys(&faulty.engine, "__synod/queue/q/tries/").await.len(),
            2
        );
        // A plain dequeue, as Go's, knows nothing of it.
        assert_eq!(queue.dequeue().await.unwrap(), "a");
        let other = stranger(&faulty).queue("q");
        let waiting =
            tokio::spawn(async move { (other.take().await.unwrap(), other.take().await) });
        until_async(async || {
            keys(&faulty.engine, "__synod/queue/q/tries/")
                .await
                .is_empty()
        })
        .await;
        waiting.abort();
        // And an item put in again under that key is a new one.
        let key = format!("q/{}", 1_790_000_000_000_000_000u64);
        for attempt in [1, 2] {
            if attempt == 1 {
                faulty
                    .engine
                    .put(PutRequest::new(key.clone(), "c"))
                    .await
                    .unwrap();
            }
            let delivery = loop {
                let delivery = queue.take().await.unwrap();
                if value(&delivery) == "c" {
                    break delivery;
                }
                delivery.ack().await.unwrap();
            };
            assert_eq!(delivery.attempt(), attempt);
            delivery.nack().await.unwrap();
        }
        faulty
            .engine
            .put(PutRequest::new(key.clone(), "d"))
            .await
            .unwrap();
        let delivery = queue.take().await.unwrap();
        assert_eq!((value(&delivery).as_str(), delivery.attempt()), ("d", 1));
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_foreign_record_stays_where_it_is() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    for key in [
        "taken/00000000000000000000000000000001",
        "taken/x",
        "taken-by/x",
        "later/x",
        "dead/x",
    ] {
        let key = format!("__synod/queue/q/{key}");
        faulty
            .engine
            .put(PutRequest::new(key, "9 of a later version"))
            .await
            .unwrap();
    }
    assert!(queue.try_take().await.unwrap().is_none());
    assert!(queue.dead().list(9).await.unwrap().is_empty());
    queue.enqueue("a").await.unwrap();
    assert_eq!(drain(&queue).await, [("a".to_owned(), 1)]);
    assert_eq!(keys(&faulty.engine, "__synod/queue/q/").await.len(), 5);
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let queue = Faulty::new().client(LONG).queue("q");
    let day = Duration::from_secs(24 * 60 * 60);
    for bad in [
        queue.clone().with_visibility(Duration::ZERO),
        queue.clone().with_visibility(day * 365 * 101),
        queue.clone().with_max_attempts(0),
    ] {
        assert!(matches!(
            bad.try_take().await,
            Err(Error::InvalidArgument(_))
        ));
    }
    for bad in [
        EnqueueOptions::new().with_delay(day * 365 * 101),
        EnqueueOptions::new().with_id(""),
        EnqueueOptions::new()
            .with_id("a")
            .with_id_window(Duration::ZERO),
    ] {
        assert!(matches!(
            queue.enqueue_with("a", bad).await,
            Err(Error::InvalidArgument(_))
        ));
    }
    assert!(queue.is_empty().await.unwrap());
}

/// Nobody sleeps while there is something: the net under lost events would come far too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_takers_in_few_clients_share_what_comes() {
    const ITEMS: usize = 300;
    for faulty in both() {
        let clients = [faulty.client(LONG), stranger(&faulty), stranger(&faulty)];
        let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
        let mut takers = Vec::new();
        for number in 0..30 {
            let queue = clients[number % 3].queue("q");
            let sender = sender.clone();
            takers.push(tokio::spawn(async move {
                loop {
                    let delivery = queue.take().await.unwrap();
                    let (value, attempt) = (value(&delivery), delivery.attempt());
                    if attempt == 1 && number % 7 == 0 {
                        delivery.nack().await.unwrap();
                    } else {
                        delivery.ack().await.unwrap();
                        sender.send(value).unwrap();
                    }
                }
            }));
        }
        let producer = stranger(&faulty).queue("q");
        let values: Vec<String> = (0..ITEMS).map(|number| number.to_string()).collect();
        for (number, some) in values.chunks(5).enumerate() {
            producer.enqueue_many(some).await.unwrap();
            if number % 4 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let mut all = Vec::new();
        let all_come = async {
            while all.len() < ITEMS {
                all.extend(taken.recv().await);
            }
        };
        let begun = std::time::Instant::now();
        tokio::time::timeout(LONG, all_come)
            .await
            .expect("somebody sleeps");
        assert!(begun.elapsed() < LONG);
        all.sort_by_key(|value| value.parse::<usize>().unwrap());
        assert_eq!(all, values);
        for taker in takers {
            taker.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_takers_of_a_priority_queue_share_what_comes() {
    const ITEMS: usize = 120;
    for faulty in both() {
        let clients = [faulty.client(LONG), stranger(&faulty), stranger(&faulty)];
        let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
        let mut takers = Vec::new();
        for number in 0..12 {
            let queue = clients[number % 3].priority_queue("q");
            let sender = sender.clone();
            takers.push(tokio::spawn(async move {
                loop {
                    let delivery = queue.take().await.unwrap();
                    let value = value(&delivery);
                    delivery.ack().await.unwrap();
                    sender.send(value).unwrap();
                }
            }));
        }
        let producer = stranger(&faulty).priority_queue("q");
        for number in 0..ITEMS {
            let priority = u16::try_from(number % 5).unwrap();
            producer
                .enqueue(number.to_string(), priority)
                .await
                .unwrap();
        }
        let mut all = Vec::new();
        let all_come = async {
            while all.len() < ITEMS {
                all.extend(
                    taken
                        .recv()
                        .await
                        .map(|value| value.parse::<usize>().unwrap()),
                );
            }
        };
        tokio::time::timeout(LONG, all_come)
            .await
            .expect("somebody sleeps");
        all.sort_unstable();
        assert_eq!(all, (0..ITEMS).collect::<Vec<_>>());
        for taker in takers {
            taker.abort();
        }
    }
}
