//! The queue and the priority queue.

use std::time::Duration;

use synod::delivery::EnqueueOptions;
use synod_tests::wait;
use tokio::task::JoinSet;

use crate::bench::{Bench, Sheet, VALUE};

/// One function for both, as they have the same operations: `$make` makes a handle from a client, `$item`
/// is what an enqueue is given.
macro_rules! queue_sheet {
    ($name:ident, $make:ident, $with:ident, $($item:expr),+) => {
        pub(crate) async fn $name(bench: &Bench, sheet: &mut Sheet) {
            let name = concat!(stringify!($make), "-jobs");
            let maker = bench.peer().await;
            let source = maker.client.$make(name);
            let fill = async |items: usize| {
                source.enqueue_many((0..items).map(|_| ($($item),+))).await.unwrap();
            };

            let new = bench.elsewhere().stranger();
            let queue = new.client.$make(name);
            let (put, mut counts) = new.counted.measure(queue.enqueue($($item),+)).await;
            put.unwrap();
            // The sweep in the background may come before the client's own first record, or after it.
            (counts.keys_read, counts.bytes_in) = (0, 0);
            sheet.alone(bench, "enqueue", "a client's first call", counts);

            fill(1).await;
            let (put, counts) = maker.counted.measure(source.enqueue($($item),+)).await;
            put.unwrap();
            sheet.alone(bench, "enqueue", "one value", counts);
            let (_, counts) = maker.counted.measure(fill(100)).await;
            sheet.alone(bench, "enqueue_many", "100 values", counts);

            let options = EnqueueOptions::new().with_id("an id");
            let with_id = source.$with($($item,)+ options);
            let (put, counts) = maker.counted.measure(with_id).await;
            assert!(put.unwrap().is_new());
            sheet.alone(bench, "enqueue_with", "an id, the first of the client", counts);
            let options = EnqueueOptions::new().with_delay(Duration::from_secs(1000));
            let (put, counts) = maker.counted.measure(source.$with($($item,)+ options)).await;
            put.unwrap();
            sheet.alone(bench, "enqueue_with", "a delay", counts);
            let bounded = source.clone().with_capacity(1000);
            let (put, counts) = maker.counted.measure(bounded.enqueue($($item),+)).await;
            put.unwrap();
            sheet.alone(bench, "enqueue", "a capacity", counts);

            fill(700).await;
            let taker = bench.peer().await;
            let queue = taker.client.$make(name);
            for (call, situation) in [("dequeue", "full, the first"), ("dequeue", "full, the next")] {
                let (item, counts) = taker.counted.measure(queue.dequeue()).await;
                assert_eq!(item.unwrap().as_ref(), VALUE);
                sheet.alone(bench, call, situation, counts);
            }
            let (items, counts) = taker.counted.measure(queue.dequeue_many(100)).await;
            let found = items.unwrap().len();
            sheet.alone(bench, "dequeue_many", &format!("full, up to 100: {found} items"), counts);

            let (item, counts) = taker.counted.measure(queue.peek()).await;
            assert!(item.unwrap().is_some());
            sheet.alone(bench, "peek", "full", counts);
            let (length, counts) = taker.counted.measure(queue.len()).await;
            sheet.alone(bench, "len", &format!("{} items", length.unwrap()), counts);
            let (list, counts) = taker.counted.measure(queue.list(10)).await;
            assert_eq!(list.unwrap().len(), 10);
            sheet.alone(bench, "list", "10 of many", counts);

            let taker = bench.peer().await;
            let queue = taker.client.$make(name);
            for situation in ["full, the first", "full, the next", "full, one more"] {
                let (taken, counts) = taker.counted.measure(queue.take()).await;
                sheet.alone(bench, "take", situation, counts);
                let taken = taken.unwrap();
                if situation == "full, the first" {
                    let (acked, counts) = taker.counted.measure(taken.ack()).await;
                    acked.unwrap();
                    sheet.alone(bench, "ack", "", counts);
                } else if situation == "full, the next" {
                    let (back, counts) = taker.counted.measure(taken.nack()).await;
                    back.unwrap();
                    sheet.alone(bench, "nack", "", counts);
                } else {
                    taken.ack().await.unwrap();
                }
            }

            let (cleared, counts) = taker.counted.measure(queue.clear()).await;
            sheet.alone(bench, "clear", &format!("{} items", cleared.unwrap()), counts);

            // A name of its own: nothing is there, and nothing was.
            let name = concat!(stringify!($make), "-empty");
            let source = maker.client.$make(name);
            source.enqueue($($item),+).await.unwrap();
            source.dequeue().await.unwrap();
            let queue = taker.client.$make(name);
            for situation in ["empty, the first", "empty, the next"] {
                let (item, counts) = taker.counted.measure(queue.try_dequeue()).await;
                assert_eq!(item.unwrap(), None);
                sheet.alone(bench, "try_dequeue", situation, counts);
            }
            for situation in ["empty, the first", "empty, the next"] {
                let (taken, counts) = taker.counted.measure(queue.try_take()).await;
                assert!(taken.unwrap().is_none());
                sheet.alone(bench, "try_take", situation, counts);
            }
            let task = {
                let queue = queue.clone();
                async move { queue.dequeue().await.unwrap() }
            };
            let (task, counts) = taker.counted.spawn(task).await;
            sheet.alone(bench, "dequeue", "empty, until it waits", counts);
            let comes = async {
                source.enqueue($($item),+).await.unwrap();
                task.await.unwrap()
            };
            let (item, counts) = taker.counted.measure(comes).await;
            assert_eq!(item.as_ref(), VALUE);
            sheet.alone(bench, "dequeue", "waiting, an item comes", counts);
            let task = {
                let queue = queue.clone();
                async move { queue.take().await.unwrap() }
            };
            let (task, counts) = taker.counted.spawn(task).await;
            sheet.alone(bench, "take", "empty, until it waits", counts);
            let comes = async {
                source.enqueue($($item),+).await.unwrap();
                task.await.unwrap()
            };
            let (taken, counts) = taker.counted.measure(comes).await;
            sheet.alone(bench, "take", "waiting, an item comes", counts);
            taken.ack().await.unwrap();

            let patient = bench.peer().await;
            patient.counted.settled().await;
            let before = patient.counted.counts();
            let task = tokio::spawn({
                let queue = patient.client.$make(name);
                async move { queue.dequeue().await.unwrap() }
            });
            let watches = || patient.counted.counts().watches - before.watches;
            wait::until("it asks for what is delayed", || async { watches() >= 3 }).await;
            patient.counted.settled().await;
            let counts = patient.counted.counts() - before;
            sheet.alone(bench, "dequeue", "empty, waits a second", counts);
            source.enqueue($($item),+).await.unwrap();
            assert_eq!(task.await.unwrap().as_ref(), VALUE);

            // Many at once, each a queue of its own.
            let (clients, counted) = bench.crowd(8).await;
            let name = concat!(stringify!($make), "-many");
            let source = maker.client.$make(name);
            let producers = |clients: Vec<synod::Client>, items: usize| async move {
                let mut tasks = JoinSet::new();
                for client in clients {
                    let queue = client.$make(name);
                    tasks.spawn(async move {
                        for _ in 0..items {
                            queue.enqueue($($item),+).await.unwrap();
                        }
                    });
                }
                tasks.join_all().await;
            };
            let consumers = |clients: Vec<synod::Client>, items: usize| async move {
                let mut tasks = JoinSet::new();
                for client in clients {
                    let queue = client.$make(name);
                    tasks.spawn(async move {
                        for _ in 0..items {
                            queue.dequeue().await.unwrap();
                        }
                    });
                }
                tasks.join_all().await;
            };
            let takers = |clients: Vec<synod::Client>, items: usize| async move {
                let mut tasks = JoinSet::new();
                for client in clients {
                    let queue = client.$make(name);
                    tasks.spawn(async move {
                        for _ in 0..items {
                            queue.take().await.unwrap().ack().await.unwrap();
                        }
                    });
                }
                tasks.join_all().await;
            };
            let (_, counts) = counted.measure(producers(clients.clone(), 25)).await;
            sheet.many(bench, "enqueue", "8 clients", counts, 200);
            let (_, counts) = counted.measure(consumers(clients.clone(), 25)).await;
            sheet.many(bench, "dequeue", "8 clients, full", counts, 200);
            let all = async { tokio::join!(producers(clients.clone(), 25), consumers(clients.clone(), 25)) };
            let (_, counts) = counted.measure(all).await;
            sheet.many(bench, "enqueue + dequeue", "8 + 8 tasks, a client each two", counts, 200);
            source.enqueue_many((0..80).map(|_| ($($item),+))).await.unwrap();
            let (_, counts) = counted.measure(takers(clients, 10)).await;
            sheet.many(bench, "take + ack", "8 clients, full", counts, 80);

            let one = bench.peer().await;
            let clients = vec![one.client.clone(); 16];
            let (_, counts) = one.counted.measure(producers(clients.clone(), 20)).await;
            sheet.many(bench, "enqueue", "16 tasks of a client", counts, 320);
            let (_, counts) = one.counted.measure(consumers(clients.clone(), 20)).await;
            sheet.many(bench, "dequeue", "16 tasks of a client, full", counts, 320);
            let all = async { tokio::join!(producers(clients.clone(), 20), consumers(clients.clone(), 20)) };
            let (_, counts) = one.counted.measure(all).await;
            sheet.many(bench, "enqueue + dequeue", "16 + 16 tasks of a client", counts, 320);
            source.enqueue_many((0..160).map(|_| ($($item),+))).await.unwrap();
            let (_, counts) = one.counted.measure(takers(clients, 10)).await;
            sheet.many(bench, "take + ack", "16 tasks of a client, full", counts, 160);
            assert_eq!(wait::soon("the length", source.len()).await.unwrap(), 0);
        }
    };
}

queue_sheet!(queue, queue, enqueue_with, VALUE);
queue_sheet!(priority_queue, priority_queue, enqueue_with, VALUE, 5u16);
