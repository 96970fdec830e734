//! Capacity, ids, and dead letters.

use super::*;

#[tokio::test]
async fn a_full_queue_takes_no_more() {
    for faulty in both() {
        let queue = faulty.client(LONG).queue("q").with_capacity(3);
        // Keys of others below the name do not count.
        for key in ["q/7/x", "q/00007/0000000000000000", "q/x"] {
            faulty.engine.put(PutRequest::new(key, "")).await.unwrap();
        }
        queue.enqueue("a").await.unwrap();
        let late = EnqueueOptions::new().with_delay(Duration::from_secs(3600));
        queue.enqueue_with("late", late).await.unwrap();
        let taken = queue.take().await.unwrap();
        match queue.enqueue_many(["b", "c"]).await {
            Err(Error::Partial { done: 1, source }) => match *source {
                Error::QueueFull { name, capacity } => {
                    assert_eq!((name.as_str(), capacity), ("q", 3))
                }
                other => panic!("{other}"),
            },
            other => panic!("{other:?}"),
        }
        // On its way and delayed is not gone; given back is not new.
        taken.nack().await.unwrap();
        assert!(matches!(
            queue.enqueue("d").await,
            Err(Error::QueueFull { .. })
        ));
        // Who has no capacity may all the same.
        queue
            .clone()
            .with_capacity(None)
            .enqueue("e")
            .await
            .unwrap();
        for _ in 0..2 {
            queue.take().await.unwrap().ack().await.unwrap();
        }
        queue.enqueue("f").await.unwrap();
        assert!(matches!(
            queue.enqueue("g").await,
            Err(Error::QueueFull { .. })
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_put_in_once_however_many_try() {
    for faulty in both() {
        let mut producers = Vec::new();
        for number in 0..8 {
            let client = if number % 2 == 0 {
                stranger(&faulty)
            } else {
                faulty.client(LONG)
            };
            let queue = client
                .queue("q")
                .with_capacity((number % 3 == 0).then_some(100));
            producers.push(tokio::spawn(async move {
                let mut new = 0;
                for id in 0..20 {
                    let options = EnqueueOptions::new().with_id(format!("id {id}"));
                    let put = queue.enqueue_with(id.to_string(), options).await.unwrap();
                    new += usize::from(put.is_new());
                }
                new
            }));
        }
        let mut new = 0;
        for producer in producers {
            new += producer.await.unwrap();
        }
        assert_eq!(new, 20);
        assert_eq!(faulty.client(LONG).queue("q").len().await.unwrap(), 20);
    }
}

#[tokio::test]
async fn an_id_outlives_its_item_and_not_its_window() {
    for faulty in both() {
        let client = faulty.client(LONG);
        let queue = client.queue("q");
        let put = async |id: &str| {
            let options = EnqueueOptions::new().with_id(id);
            queue.enqueue_with("a", options).await.unwrap()
        };
        assert_eq!(put("1").await, Enqueued::New);
        assert_eq!(put("2").await, Enqueued::New);
        assert_eq!(drain(&queue).await.len(), 2);
        assert_eq!(put("1").await, Enqueued::AlreadyThere);
        let marks = keys(&faulty.engine, "__synod/queue/q/once/").await;
        // One lease for both, which lasts at least as long as the window.
        assert_eq!(marks.len(), 2);
        assert_eq!(marks[0].lease, marks[1].lease);
        let lease = marks[0].lease.unwrap();
        let life = faulty
            .engine
            .lease_time_to_live(lease, false)
            .await
            .unwrap();
        assert!(life.remaining.unwrap() >= Duration::from_secs(300));
        faulty.engine.lease_revoke(lease).await.unwrap();
        assert_eq!(put("1").await, Enqueued::New);
        // They stay when their client goes.
        client.clone().close().await.unwrap();
        assert_eq!(keys(&faulty.engine, "__synod/queue/q/once/").await.len(), 1);
    }
}

#[tokio::test]
async fn dead_letters_are_listed_requeued_and_cleared() {
    for faulty in both() {
        let client = faulty.client(LONG);
        let queue = client.queue("q").with_max_attempts(1);
        let dead = queue.dead();
        assert!(dead.is_empty().await.unwrap());
        let values: Vec<String> = (0..70).map(|number| number.to_string()).collect();
        queue.enqueue_many(&values).await.unwrap();
        for _ in &values {
            queue.take().await.unwrap().nack().await.unwrap();
        }
        assert_eq!(dead.len().await.unwrap(), 70);
        let letters = dead.list(66).await.unwrap();
        let listed: Vec<&[u8]> = letters.iter().map(|letter| &letter.value[..]).collect();
        assert_eq!(
            listed,
            values[..66]
                .iter()
                .map(String::as_bytes)
                .collect::<Vec<_>>()
        );
        assert!(letters.iter().all(|letter| letter.attempts == 1));
        assert!(letters[0].died.elapsed().unwrap() < Duration::from_secs(60));

        assert!(dead.requeue(&letters[3].key).await.unwrap());
        assert!(!dead.requeue(&letters[3].key).await.unwrap());
        assert_eq!(drain(&queue).await, [("3".to_owned(), 1)]);
        let wrong = dead.requeue(&letters[3].item).await;
        assert!(matches!(wrong, Err(Error::InvalidArgument(_))), "{wrong:?}");

        assert_eq!(dead.requeue_all().await.unwrap(), 69);
        assert_eq!(queue.len().await.unwrap(), 69);
        for _ in 0..69 {
            let delivery = queue.take().await.unwrap();
            assert_eq!(delivery.attempt(), 1);
            delivery.nack().await.unwrap();
        }
        assert_eq!(dead.clear().await.unwrap(), 69);
        assert_eq!(dead.clear().await.unwrap(), 0);
        assert!(keys(&faulty.engine, "__synod/queue/").await.is_empty());
    }
}

#[tokio::test]
async fn what_was_counted_is_not_overtaken() {
    for faulty in both() {
        let slow = faulty.client(LONG).queue("q").with_capacity(2);
        slow.enqueue("a").await.unwrap();
        // It has counted, and is about to put the last one in.
        faulty.close_gate(1);
        let putting = tokio::spawn({
            let slow = slow.clone();
            async move { slow.enqueue("b").await }
        });
        assert!(faulty.wait_at_gate().await);
        let other = stranger(&faulty).queue("q").with_capacity(2);
        other.enqueue("c").await.unwrap();
        faulty.open_gate();
        let put = putting.await.unwrap();
        assert!(matches!(put, Err(Error::QueueFull { .. })), "{put:?}");
        assert_eq!(slow.len().await.unwrap(), 2);
    }
}

#[tokio::test]
async fn among_many_on_their_way_only_orphans_are_returned() {
    const MANY: usize = 600;
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    let values: Vec<String> = (0..MANY).map(|number| number.to_string()).collect();
    queue.enqueue_many(&values).await.unwrap();
    let mut held = Vec::new();
    while held.len() < MANY {
        held.push(queue.take().await.unwrap());
    }
    let leases = marker_leases(&faulty.engine, "queue/q").await;
    assert_eq!(leases.len(), MANY);
    for lease in leases.iter().step_by(3) {
        faulty.engine.lease_revoke(*lease).await.unwrap();
    }
    let other = stranger(&faulty).queue("q");
    let waiting = tokio::spawn(async move {
        let mut taken = Vec::new();
        while taken.len() < MANY / 3 {
            taken.push(other.take().await.unwrap());
        }
        taken
    });
    let taken = waiting.await.unwrap();
    assert!(taken.iter().all(|delivery| delivery.attempt() == 2));
    let (mut acked, mut ended) = (0, 0);
    for delivery in held.into_iter().chain(taken) {
        match delivery.ack().await {
            Ok(()) => acked += 1,
            Err(Error::DeliveryEnded { .. }) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((acked, ended), (MANY, MANY / 3));
    assert!(
        keys(&faulty.engine, "__synod/queue/q/taken")
            .await
            .is_empty()
    );
}
