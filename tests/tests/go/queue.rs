//! The queue: what one language puts, the other takes, in order, once.

use std::collections::{BTreeMap, BTreeSet};

use synod_tests::beside_go;
use synod_tests::go::Beside;
use synod_tests::wait;
use tokio::sync::mpsc;

beside_go! {
    async fn items_come_out_in_the_order_of_both_producers(beside: Beside) {
        let (go, queue) = (beside.go(), beside.client().await.queue("q"));
        for number in 0..20 {
            let value = number.to_string();
            if number % 2 == 0 {
                go.ok(&["queue.push", "q", &value]).await;
            } else {
                queue.enqueue(value).await.unwrap();
            }
        }
        for number in 0..20 {
            let value = if number % 3 == 0 {
                go.ok(&["queue.pop", "q"]).await
            } else {
                String::from_utf8(queue.dequeue().await.unwrap().to_vec()).unwrap()
            };
            assert_eq!(value, number.to_string());
        }
        assert!(queue.is_empty().await.unwrap());
    }

    async fn a_blocked_consumer_gets_what_the_other_language_puts(beside: Beside) {
        let (go, queue) = (beside.go(), beside.client().await.queue("q"));
        let mut waiting = go.begin(&["queue.pop", "q"]);
        waiting.assert_waits().await;
        queue.enqueue("from Rust").await.unwrap();
        assert_eq!(waiting.ok().await, "from Rust");

        let consumer = queue.clone();
        let waiting = synod_tests::go::waits("dequeue", async move { consumer.dequeue().await });
        let waiting = waiting.await;
        go.ok(&["queue.push", "q", "from Go"]).await;
        let value = wait::soon("the item", waiting).await.unwrap().unwrap();
        assert_eq!(value, "from Go");
    }

    /// Two producers and two consumers of each language at once. What one producer puts stays in
    /// order at each consumer.
    async fn nothing_is_lost_or_taken_twice(beside: Beside) {
        const ITEMS: usize = 100;
        const PRODUCERS: [&str; 4] = ["go0", "go1", "rust0", "rust1"];
        let (taken, mut all) = mpsc::unbounded_channel();
        let mut consumers = Vec::new();
        let mut programs = Vec::new();
        for number in 0..2 {
            let go = beside.go();
            let mut popped = go.begin(&["queue.pop-all", "q"]);
            programs.push(go);
            let sender = taken.clone();
            consumers.push(tokio::spawn(async move {
                loop {
                    let value = popped.event().await.swap_remove(0);
                    sender.send((("go", number), value)).unwrap();
                }
            }));
            let queue = beside.client().await.queue("q");
            let sender = taken.clone();
            consumers.push(tokio::spawn(async move {
                loop {
                    let value = queue.dequeue().await.unwrap();
                    let value = String::from_utf8(value.to_vec()).unwrap();
                    sender.send((("rust", number), value)).unwrap();
                }
            }));
        }
        let mut producers = Vec::new();
        for name in PRODUCERS {
            if name.starts_with("go") {
                let go = beside.go();
                producers.push(tokio::spawn(async move {
                    let items = ITEMS.to_string();
                    go.ok(&["queue.push-many", "q", name, &items]).await;
                }));
            } else {
                let queue = beside.client().await.queue("q");
                producers.push(tokio::spawn(async move {
                    for number in 0..ITEMS {
                        queue.enqueue(format!("{name} {number}")).await.unwrap();
                    }
                }));
            }
        }
        let mut seen = BTreeSet::new();
        let mut last = BTreeMap::new();
        for _ in 0..ITEMS * PRODUCERS.len() {
            let (consumer, value) = wait::soon("an item", all.recv()).await.unwrap();
            let (producer, number) = value.split_once(' ').unwrap();
            let number: usize = number.parse().unwrap();
            if let Some(last) = last.insert((consumer, producer.to_owned()), number) {
                assert!(last < number, "{consumer:?} got {value} after {last}");
            }
            assert!(seen.insert(value.clone()), "{value} comes twice");
        }
        for producer in producers {
            producer.await.unwrap();
        }
        for consumer in &consumers {
            assert!(!consumer.is_finished(), "a consumer failed");
            consumer.abort();
        }
        for (name, number) in PRODUCERS.iter().flat_map(|name| (0..ITEMS).map(move |n| (name, n))) {
            assert!(seen.contains(&format!("{name} {number}")), "{name} {number} is lost");
        }
        assert!(beside.client().await.queue("q").is_empty().await.unwrap());
    }

    /// Go's consumer of `q` takes whatever begins with `q`, so also what lies in `q1` (it lists the
    /// name without its slash). Ours takes its own.
    async fn a_queue_named_a_never_takes_an_item_of_ab(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.ok(&["queue.push", "ab", "1"]).await;
        client.queue("ab").enqueue("2").await.unwrap();
        assert_eq!(client.queue("a").try_dequeue().await.unwrap(), None);
        assert!(client.queue("a").is_empty().await.unwrap());
        go.ok(&["queue.push", "a", "3"]).await;
        assert_eq!(client.queue("a").dequeue().await.unwrap(), "3");
        // The same name, asked by Go's recipe.
        assert_eq!(go.ok(&["queue.pop", "a"]).await, "1");
        assert_eq!(client.queue("ab").dequeue().await.unwrap(), "2");
    }

    /// To Go's consumer of the queue `q` the items of a priority queue `q` are items too.
    async fn a_priority_queue_of_the_same_name_is_another(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.ok(&["pq.push", "q", "1", "7"]).await;
        go.ok(&["pq.push", "q", "2", "7"]).await;
        assert_eq!(client.queue("q").try_dequeue().await.unwrap(), None);
        let value = client.priority_queue("q").dequeue().await.unwrap();
        assert_eq!(value, "1");
        assert_eq!(go.ok(&["queue.pop", "q"]).await, "2");
    }
}
