//! The priority queue: the lower number first, whoever put it; both languages number the items of one
//! priority together.

use std::collections::{BTreeMap, BTreeSet};

use synod::PriorityQueue;
use synod_tests::beside_go;
use synod_tests::go::{Beside, waits};
use synod_tests::wait;
use tokio::sync::mpsc;

async fn pop(queue: &PriorityQueue) -> String {
    let value = wait::soon("an item", queue.dequeue()).await.unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

beside_go! {
    async fn lower_numbers_come_first(beside: Beside) {
        let (go, queue) = (beside.go(), beside.client().await.priority_queue("q"));
        for round in ["a", "b"] {
            for (number, priority) in [3_u16, 1, 2, 1, 65535, 0].into_iter().enumerate() {
                let value = format!("{round} {priority} {number}");
                // In the second round each puts what the other has put in the first.
                if (number % 2 == 0) == (round == "a") {
                    go.ok(&["pq.push", "q", &value, &priority.to_string()]).await;
                } else {
                    queue.enqueue(value, priority).await.unwrap();
                }
            }
        }
        let sorted = [
            "a 0 5", "b 0 5", "a 1 1", "a 1 3", "b 1 1", "b 1 3", "a 2 2", "b 2 2", "a 3 0", "b 3 0",
            "a 65535 4", "b 65535 4",
        ];
        for (number, value) in sorted.into_iter().enumerate() {
            let popped = if number % 3 == 0 {
                go.ok(&["pq.pop", "q"]).await
            } else {
                pop(&queue).await
            };
            assert_eq!(popped, value);
        }
        assert!(queue.is_empty().await.unwrap());
    }

    async fn a_blocked_consumer_gets_what_the_other_language_puts(beside: Beside) {
        let (go, queue) = (beside.go(), beside.client().await.priority_queue("q"));
        let mut waiting = go.begin(&["pq.pop", "q"]);
        waiting.assert_waits().await;
        queue.enqueue("from Rust", 7).await.unwrap();
        assert_eq!(waiting.ok().await, "from Rust");
        let consumer = queue.clone();
        let waiting = waits("dequeue", async move { pop(&consumer).await }).await;
        go.ok(&["pq.push", "q", "from Go", "7"]).await;
        assert_eq!(waiting.await.unwrap(), "from Go");
    }

    /// Two producers of each language put into one priority at once: nothing is overwritten, and what
    /// one producer puts stays in order.
    async fn nothing_is_overwritten_in_one_priority(beside: Beside) {
        const ITEMS: usize = 25;
        let programs = [beside.go(), beside.go()];
        let items = ITEMS.to_string();
        let mut pushing = Vec::new();
        for (go, name) in programs.iter().zip(["go0", "go1"]) {
            pushing.push(go.begin(&["pq.push-many", "q", name, &items, "7"]));
        }
        let mut producers = Vec::new();
        for name in ["rust0", "rust1"] {
            let queue = beside.client().await.priority_queue("q");
            producers.push(tokio::spawn(async move {
                for number in 0..ITEMS {
                    queue.enqueue(format!("{name} {number}"), 7).await.unwrap();
                }
            }));
        }
        for call in pushing {
            call.ok().await;
        }
        for producer in producers {
            wait::soon("the items are put", producer).await.unwrap();
        }
        let queue = beside.client().await.priority_queue("q");
        assert_eq!(queue.len().await.unwrap(), 4 * ITEMS);
        let mut next: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..4 * ITEMS {
            let value = if number % 2 == 0 {
                programs[0].ok(&["pq.pop", "q"]).await
            } else {
                pop(&queue).await
            };
            let (producer, number) = value.split_once(' ').unwrap();
            let expected = next.entry(producer.to_owned()).or_default();
            assert_eq!(number, expected.to_string(), "of {producer}");
            *expected += 1;
        }
        assert!(queue.is_empty().await.unwrap());
    }

    /// Producers and consumers of both languages at once, in several priorities.
    async fn nothing_is_lost_or_taken_twice(beside: Beside) {
        const ITEMS: usize = 25;
        const PRIORITIES: [u16; 2] = [1, 2];
        let (taken, mut all) = mpsc::unbounded_channel();
        let go = beside.go();
        let mut popped = go.begin(&["pq.pop-all", "q"]);
        let sender = taken.clone();
        let theirs = tokio::spawn(async move {
            loop {
                sender.send(popped.event().await.swap_remove(0)).unwrap();
            }
        });
        let queue = beside.client().await.priority_queue("q");
        let ours = tokio::spawn(async move {
            loop {
                taken.send(pop(&queue).await).unwrap();
            }
        });
        let producer = beside.go();
        let mut pushing = Vec::new();
        let mut producers = Vec::new();
        for priority in PRIORITIES {
            let (name, items) = (format!("go{priority}"), ITEMS.to_string());
            pushing.push(producer.begin(&["pq.push-many", "q", &name, &items, &priority.to_string()]));
            let queue = beside.client().await.priority_queue("q");
            producers.push(tokio::spawn(async move {
                for number in 0..ITEMS {
                    let value = format!("rust{priority} {number}");
                    queue.enqueue(value, priority).await.unwrap();
                }
            }));
        }
        let mut seen = BTreeSet::new();
        for _ in 0..ITEMS * PRIORITIES.len() * 2 {
            let value = wait::soon("an item", all.recv()).await.unwrap();
            assert!(seen.insert(value.clone()), "{value} comes twice");
        }
        for call in pushing {
            call.ok().await;
        }
        for producer in producers {
            producer.await.unwrap();
        }
        assert!(!theirs.is_finished() && !ours.is_finished(), "a consumer failed");
        theirs.abort();
        ours.abort();
        for name in ["go", "rust"] {
            for priority in PRIORITIES {
                for number in 0..ITEMS {
                    let value = format!("{name}{priority} {number}");
                    assert!(seen.contains(&value), "{value} is lost");
                }
            }
        }
        let queue = beside.client().await.priority_queue("q");
        assert!(queue.is_empty().await.unwrap());
    }

    /// Go keeps the books of the priority queue `q` under `__q/`, where its consumer of a priority
    /// queue `__q` takes them for items. Ours does not.
    async fn the_books_of_one_queue_are_no_items_of_another(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.ok(&["pq.push", "q", "1", "7"]).await;
        client.priority_queue("q").enqueue("2", 7).await.unwrap();
        let other = client.priority_queue("__q");
        assert_eq!(other.try_dequeue().await.unwrap(), None);
        assert!(other.is_empty().await.unwrap());
        assert_eq!(go.ok(&["pq.pop", "__q"]).await, "");
        // The items are where they were.
        assert_eq!(pop(&client.priority_queue("q")).await, "1");
        assert_eq!(go.ok(&["pq.pop", "q"]).await, "2");
    }
}
