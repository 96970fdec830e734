//! Many producers and consumers at once.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_callers_share_claims_and_looks() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    let values: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    queue.enqueue_many(&values).await.unwrap();
    let before = faulty.txns();
    for _ in 0..200 {
        queue.dequeue().await.unwrap();
    }
    assert_eq!(faulty.txns() - before, 200, "one Txn an item");
    // One that sees how large they are, and one that knows them.
    assert_eq!(queue.stats().looks, 2, "two looks for all of them");
    assert_eq!(
        faulty.watches(),
        0,
        "a queue that holds something needs no watch"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_of_other_processes_lose_few_claims() {
    let engine = engine();
    let healthy = Client::from_store(Arc::clone(&engine)).queue("q");
    let values: Vec<String> = (0..800).map(|number| number.to_string()).collect();
    healthy.enqueue_many(&values).await.unwrap();
    let mut consumers = Vec::new();
    let mut stores = Vec::new();
    for _ in 0..8 {
        let faulty = Faulty::over(Arc::clone(&engine), Replies::Lossy);
        let queue = faulty.client(LONG).queue("q");
        stores.push(faulty);
        consumers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Some(value) = queue.try_dequeue().await.unwrap() {
                taken.push(String::from_utf8(value.to_vec()).unwrap());
            }
            taken
        }));
    }
    let mut all = Vec::new();
    for consumer in consumers {
        let taken = consumer.await.unwrap();
        // Each consumer takes in order.
        let numbers: Vec<u32> = taken.iter().map(|value| value.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        all.extend(taken);
    }
    all.sort_by_key(|value| value.parse::<u32>().unwrap());
    assert_eq!(all, values);
    let txns: usize = stores.iter().map(Faulty::txns).sum();
    assert!(txns <= 800 * 6 / 5, "{txns} Txns for 800 items");
}

/// Each writer's values, by writer, as they were taken.
async fn writers_and_readers(stores: Vec<Client>, items: usize) {
    let count = 4;
    let mut writers = Vec::new();
    for writer in 0..count {
        let queue = stores[writer % stores.len()].queue("q");
        writers.push(tokio::spawn(async move {
            for number in 0..items / count {
                queue.enqueue(format!("{writer} {number}")).await.unwrap();
            }
        }));
    }
    // Nobody gives up while items are there: an item that is on its way to whoever leaves goes back, and comes
    // out after those that were behind it.
    let done = tokio::sync::watch::Sender::new(0);
    let mut readers = Vec::new();
    for reader in 0..count {
        let queue: Queue = stores[reader % stores.len()].queue("q");
        let done = done.clone();
        readers.push(tokio::spawn(async move {
            let mut all = done.subscribe();
            let mut taken = Vec::new();
            loop {
                let value = tokio::select! {
                    value = queue.dequeue() => value.unwrap(),
                    _ = all.wait_for(|done| *done == items) => return taken,
                };
                taken.push(String::from_utf8(value.to_vec()).unwrap());
                done.send_modify(|done| *done += 1);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut seen: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for reader in readers {
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for value in reader.await.unwrap() {
            let (writer, number) = value.split_once(' ').unwrap();
            let (writer, number) = (writer.parse().unwrap(), number.parse().unwrap());
            *seen.entry((writer, number)).or_default() += 1;
            // What one reader takes of one writer is in order.
            if let Some(last) = last.insert(writer, number) {
                assert!(last < number, "writer {writer}: {number} after {last}");
            }
        }
    }
    assert_eq!(seen.len(), items, "nothing is lost");
    assert!(
        seen.values().all(|&times| times == 1),
        "nothing comes twice"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_writers_and_four_readers_in_one_client() {
    writers_and_readers(vec![Client::from_store(engine())], 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_writers_and_four_readers_in_four_clients_over_a_network() {
    let engine = engine();
    let client = |_| Faulty::over(Arc::clone(&engine), Replies::Lossy).client(LONG);
    writers_and_readers((0..4).map(client).collect(), 10_000).await;
}
