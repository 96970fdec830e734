//! Many producers and consumers at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Producers that put into three priorities, of ours and of Go's, and consumers of which some leave
/// before they are served. Nothing is lost, nothing twice, nothing overwritten; who takes, takes the
/// first there is; what one producer put into one priority is in order.
async fn producers_and_consumers(store: Arc<dyn Store>, clients: Vec<Client>, items: usize) {
    const PRODUCERS: usize = 4;
    let mut producers = Vec::new();
    for producer in 0..PRODUCERS {
        let queue = clients[producer % clients.len()].priority_queue("q");
        let store = Arc::clone(&store);
        producers.push(tokio::spawn(async move {
            for number in 0..items / PRODUCERS {
                let value = format!("{producer} {number}");
                let priority = [1, 7, 7][rand::random_range(0..3)];
                if producer == 0 {
                    go_enqueue(&*store, "q", &value, priority).await;
                } else {
                    queue.enqueue(&value, priority).await.unwrap();
                }
            }
        }));
    }
    let done = Arc::new(AtomicUsize::new(0));
    let mut consumers = Vec::new();
    for consumer in 0..4 {
        let queue = clients[consumer % clients.len()].priority_queue("q");
        let done = Arc::clone(&done);
        consumers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            while done.load(Ordering::SeqCst) < items {
                let wait = Duration::from_micros(rand::random_range(100..50_000));
                if let Some(value) = queue.dequeue_timeout(wait).await.unwrap() {
                    done.fetch_add(1, Ordering::SeqCst);
                    taken.push(String::from_utf8(value.to_vec()).unwrap());
                }
            }
            taken
        }));
    }
    for producer in producers {
        producer.await.unwrap();
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for consumer in consumers {
        for value in tokio::time::timeout(LONG * 3, consumer)
            .await
            .unwrap()
            .unwrap()
        {
            *seen.entry(value).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), items, "nothing is lost");
    assert!(
        seen.values().all(|&times| times == 1),
        "nothing comes twice"
    );
    assert!(check_history(&store, "q").await >= items);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_and_consumers_of_one_client() {
    let store = engine();
    let client = Client::from_store(Arc::clone(&store));
    producers_and_consumers(store, vec![client], 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_and_consumers_of_four_clients_over_a_network() {
    let store = engine();
    let client = |_| Faulty::over(Arc::clone(&store), Replies::Lossy).client(LONG);
    let clients = (0..4).map(client).collect();
    producers_and_consumers(store, clients, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_of_other_processes_lose_few_claims() {
    let engine = engine();
    let healthy = Client::from_store(Arc::clone(&engine)).priority_queue("q");
    let entries: Vec<(String, u16)> = (0..800).map(|n| (format!("{n:03}"), n / 100)).collect();
    healthy.enqueue_many(entries.clone()).await.unwrap();
    let mut consumers = Vec::new();
    let mut stores = Vec::new();
    for _ in 0..8 {
        let faulty = Faulty::over(Arc::clone(&engine), Replies::Lossy);
        let queue = faulty.client(LONG).priority_queue("q");
        stores.push(faulty);
        consumers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Some(value) = queue.try_dequeue().await.unwrap() {
                taken.push(value);
            }
            taken
        }));
    }
    let mut all = Vec::new();
    for consumer in consumers {
        let taken = consumer.await.unwrap();
        assert!(taken.is_sorted(), "each takes in order: {taken:?}");
        all.extend(taken);
    }
    all.sort();
    assert_eq!(
        all,
        entries
            .into_iter()
            .map(|(value, _)| value)
            .collect::<Vec<_>>()
    );
    let txns: usize = stores.iter().map(Faulty::txns).sum();
    assert!(txns <= 800 * 6 / 5, "{txns} Txns for 800 items");
    check_history(&engine, "q").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_producers_of_one_priority_each_keep_their_order() {
    let engine = engine();
    let mut producers = Vec::new();
    for producer in 0..6 {
        let engine = Arc::clone(&engine);
        let faulty = Faulty::over(Arc::clone(&engine), Replies::Lossy);
        producers.push(tokio::spawn(async move {
            let queue = faulty.client(LONG).priority_queue("q");
            for number in 0..100 {
                let value = format!("{producer} {number:03}");
                if producer % 2 == 0 {
                    queue.enqueue(&value, 7).await.unwrap();
                } else {
                    go_enqueue(&*engine, "q", &value, 7).await;
                }
            }
        }));
    }
    for producer in producers {
        producer.await.unwrap();
    }
    let all = drain(&engine, "q").await;
    assert_eq!(all.len(), 600, "nothing is lost");
    for producer in 0..6 {
        let start = format!("{producer} ");
        let own: Vec<&Bytes> = all
            .iter()
            .filter(|v| v.starts_with(start.as_bytes()))
            .collect();
        assert_eq!(own.len(), 100);
        assert!(own.is_sorted());
    }
    check_history(&engine, "q").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_that_wait_for_several_priorities_disturb_each_other_little() {
    const ITEMS: usize = 800;
    let engine = engine();
    let done = Arc::new(AtomicUsize::new(0));
    let (mut stores, mut consumers, mut producers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..8 {
        let faulty = Faulty::over(Arc::clone(&engine), Replies::Lossy);
        let queue = faulty.client(LONG).priority_queue("q");
        stores.push(faulty);
        let done = Arc::clone(&done);
        consumers.push(tokio::spawn(async move {
            while done.load(Ordering::SeqCst) < ITEMS {
                let wait = Duration::from_millis(200);
                if queue.dequeue_timeout(wait).await.unwrap().is_some() {
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        }));
    }
    for priority in 0..4 {
        let faulty = Faulty::over(Arc::clone(&engine), Replies::Lossy);
        let queue = faulty.client(LONG).priority_queue("q");
        producers.push(tokio::spawn(async move {
            for number in 0..ITEMS / 4 {
                queue.enqueue(number.to_string(), priority).await.unwrap();
            }
        }));
    }
    for task in producers.into_iter().chain(consumers) {
        task.await.unwrap();
    }
    let requests = |faulty: &Faulty| faulty.txns() + faulty.ranges();
    let requests: usize = stores.iter().map(requests).sum();
    assert!(
        requests <= ITEMS * 3,
        "{requests} requests for {ITEMS} items"
    );
    check_history(&engine, "q").await;
}
