//! Reliable deliveries on every store: nothing lost, nothing acknowledged twice, whoever dies.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use synod::delivery::{EnqueueOptions, Enqueued};
use synod::store::{
    Compare, DeleteRequest, KeyRange, LeaseId, PutRequest, RangeRequest, SortOrder, SortTarget,
    Store, Txn,
};
use synod::{Client, Delivery, Error, Queue};
use synod_engine::{Engine, EngineOptions};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_tests::bridge::{Bridge, Mode};
use synod_tests::process::Process;
use synod_tests::stores::{Kind, TestStore};
use synod_tests::{each_store, etcd_or_skip, wait};

/// A client with a connection of its own, as another process has it.
async fn another(store: &TestStore) -> Client {
    store.another_client().await
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.value().to_vec()).unwrap()
}

async fn count(store: &dyn Store, prefix: &str) -> u64 {
    let request = RangeRequest::new(KeyRange::prefix(prefix)).count_only();
    store.range(request).await.unwrap().count
}

/// The leases under the markers of all deliveries of a queue.
async fn marker_leases(store: &dyn Store, queue: &str) -> Vec<LeaseId> {
    let prefix = format!("__synod/{queue}/taken-by/");
    let markers = RangeRequest::new(KeyRange::prefix(prefix));
    let kvs = store.range(markers).await.unwrap().kvs;
    kvs.into_iter().filter_map(|kv| kv.lease).collect()
}

/// Does at once what the store does when the bounds of all deliveries of a queue have run out.
async fn run_out(store: &dyn Store, queue: &str) {
    let leases = marker_leases(store, queue).await;
    assert!(!leases.is_empty());
    for lease in leases {
        // Its owner may have acknowledged meanwhile, and its client may have revoked it.
        let _ = store.lease_revoke(lease).await;
    }
}

/// A consumer with a runtime of its own, which dies while it works on an item: nothing that it might
/// still have wanted to send is sent.
fn die_at_work(store: &TestStore, priority: bool, most: u32) -> (String, u32) {
    std::thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let taken = runtime.block_on(async {
                let client = another(store).await;
                let taking = async {
                    if priority {
                        client
                            .priority_queue("q")
                            .with_max_attempts(most)
                            .take()
                            .await
                    } else {
                        client.queue("q").with_max_attempts(most).take().await
                    }
                };
                let delivery = wait::soon("an item", taking).await.unwrap();
                (text(&delivery), delivery.attempt())
            });
            // What a dropped delivery does it would do in this runtime.
            runtime.shutdown_background();
            taken
        });
        consumer.join().unwrap()
    })
}

const TIMES: u32 = 100;

each_store! {
    async fn a_consumer_that_dies_is_followed_by_another(store: TestStore) {
        let client = store.client();
        let queue = client.queue("q").with_max_attempts(TIMES);
        queue.enqueue("a").await.unwrap();
        for attempt in 1..=TIMES {
            let taken = tokio::task::block_in_place(|| die_at_work(&store, false, TIMES));
            assert_eq!(taken, ("a".to_owned(), attempt));
            assert!(queue.is_empty().await.unwrap(), "nobody else has it");
            run_out(&*store.store(), "queue/q").await;
        }
        // Whoever looks next buries it.
        assert!(queue.try_take().await.unwrap().is_none());
        let letters = queue.dead().list(9).await.unwrap();
        assert_eq!(letters.len(), 1);
        assert_eq!((&letters[0].value[..], letters[0].attempts), (&b"a"[..], TIMES));
        assert_eq!(count(&*store.store(), "q/").await, 0);
        assert_eq!(count(&*store.store(), "__synod/queue/q/").await, 1);
        // And requeued it begins anew.
        assert_eq!(queue.dead().requeue_all().await.unwrap(), 1);
        let delivery = queue.take().await.unwrap();
        assert_eq!((text(&delivery), delivery.attempt()), ("a".to_owned(), 1));
        delivery.ack().await.unwrap();
        assert_eq!(count(&*store.store(), "__synod/queue/q/").await, 0);
    }

    async fn a_consumer_of_a_priority_queue_dies_too(store: TestStore) {
        let queue = store.client().priority_queue("q").with_max_attempts(TIMES);
        queue.enqueue("a", 7).await.unwrap();
        for attempt in 1..=TIMES {
            let taken = tokio::task::block_in_place(|| die_at_work(&store, true, TIMES));
            assert_eq!(taken, ("a".to_owned(), attempt));
            run_out(&*store.store(), "priority_queue/q").await;
        }
        assert!(queue.try_take().await.unwrap().is_none());
        let letters = queue.dead().list(9).await.unwrap();
        assert_eq!((letters.len(), letters[0].attempts), (1, TIMES));
        // Its place is behind what is more urgent, and before what is less.
        queue.enqueue_many([("c", 8), ("0", 0), ("b", 7)]).await.unwrap();
        assert!(queue.dead().requeue(&letters[0].key).await.unwrap());
        for expected in ["0", "a", "b", "c"] {
            let delivery = queue.take().await.unwrap();
            assert_eq!((text(&delivery).as_str(), delivery.attempt()), (expected, 1));
            delivery.ack().await.unwrap();
        }
    }

    async fn nothing_is_lost_and_nothing_acknowledged_twice(store: TestStore) {
        soak(&store).await;
    }

    async fn two_consumers_race(store: TestStore) {
        let producer = store.client().queue("q");
        let values: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let mut consumers = Vec::new();
        let taken = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let queue = another(&store).await.queue("q");
            let taken = Arc::clone(&taken);
            consumers.push(tokio::spawn(async move {
                let mut mine = Vec::new();
                while taken.load(Ordering::SeqCst) < 200 {
                    let patience = Duration::from_millis(50);
                    let Some(delivery) = queue.take_timeout(patience).await.unwrap() else {
                        continue;
                    };
                    assert_eq!(delivery.attempt(), 1, "whatever was lost with a race did not count");
                    mine.push(text(&delivery).parse::<u32>().unwrap());
                    delivery.ack().await.unwrap();
                    taken.fetch_add(1, Ordering::SeqCst);
                }
                mine
            }));
        }
        for value in &values {
            producer.enqueue(value).await.unwrap();
        }
        let mut all = Vec::new();
        for consumer in consumers {
            all.extend(consumer.await.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>());
        assert_eq!(count(&*store.store(), "__synod/queue/q/").await, 0);
    }

    async fn the_store_ends_a_delivery_when_its_bound_has_run_out(store: TestStore) {
        let slow = another(&store).await.queue("q").with_visibility(Duration::from_secs(1));
        slow.enqueue("a").await.unwrap();
        let first = slow.take().await.unwrap();
        // The shortest that stores grant.
        assert!(first.remaining() <= Duration::from_secs(3));
        let other = another(&store).await.queue("q");
        let second = wait::soon("the bound runs out", other.take()).await.unwrap();
        assert!(first.remaining().is_zero(), "not before it said it would");
        assert_eq!((text(&second), second.attempt()), ("a".to_owned(), 2));
        let ended = first.ack().await;
        assert!(matches!(ended, Err(Error::DeliveryEnded { .. })), "{ended:?}");
        second.ack().await.unwrap();
        assert!(other.try_take().await.unwrap().is_none());
    }

    async fn an_extended_delivery_stays_with_its_taker(store: TestStore) {
        let bound = wait::BRIEF;
        let slow = another(&store).await.queue("q").with_visibility(bound);
        slow.enqueue("a").await.unwrap();
        let first = slow.take().await.unwrap();
        let began = first.remaining();
        let other = another(&store).await.queue("q");
        let waiting = tokio::spawn(async move { other.take().await });
        // Kept for longer than it began with, a little at a time, and then at once.
        let mut kept = Duration::ZERO;
        while kept <= began {
            let before = Instant::now();
            first.extend(bound).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            kept += before.elapsed();
        }
        first.extend(Duration::from_secs(60)).await.unwrap();
        assert!(first.remaining() > Duration::from_secs(50));
        assert!(!waiting.is_finished());
        first.ack().await.unwrap();
        assert_eq!(count(&*store.store(), "__synod/queue/q/").await, 0);
        waiting.abort();
    }

    async fn what_comes_back_is_an_item_as_any_other_for_go(store: TestStore) {
        let client = store.client();
        let queue = client.queue("q");
        queue.enqueue_many(["a", "b"]).await.unwrap();
        let taken = queue.take().await.unwrap();
        // What is on its way is nowhere under the name: Go takes everything that begins with it.
        assert_eq!(count(&*store.store(), "q").await, 1);
        taken.nack().await.unwrap();
        assert_eq!(go_dequeue(&*store.store(), "q").await.as_deref(), Some("b"));
        assert_eq!(go_dequeue(&*store.store(), "q").await.as_deref(), Some("a"));
        assert_eq!(go_dequeue(&*store.store(), "q").await, None);
        // And Go's items are taken.
        let put = PutRequest::new("q/1790000000000000001", "c");
        store.store().put(put).await.unwrap();
        let delivery = queue.take().await.unwrap();
        assert_eq!((text(&delivery), delivery.attempt()), ("c".to_owned(), 1));
        delivery.ack().await.unwrap();
    }

    async fn delayed_items_come_in_the_order_in_which_they_are_due(store: TestStore) {
        let (producer, consumer) = (another(&store).await, another(&store).await);
        let mut in_time = false;
        for attempt in 0..7 {
            let name = format!("q{attempt}");
            let (producer, consumer) = (producer.queue(&name), consumer.queue(&name));
            let waiting = tokio::spawn(async move {
                let mut order = Vec::new();
                while order.len() < 4 {
                    let delivery = consumer.take().await.unwrap();
                    order.push(text(&delivery));
                    delivery.ack().await.unwrap();
                }
                order
            });
            // Between two that are due one after the other lie two of these at least, when all go in within one.
            let step = Duration::from_millis(100) * 2_u32.pow(attempt);
            let begin = Instant::now();
            for (value, steps) in [("d", 9), ("b", 5), ("c", 7), ("a", 0)] {
                let options = EnqueueOptions::new().with_delay(step * steps);
                producer.enqueue_with(value, options).await.unwrap();
            }
            in_time = begin.elapsed() < step;
            let order = wait::soon("all are due", waiting).await.unwrap();
            assert_eq!(count(&*store.store(), &format!("__synod/queue/{name}/")).await, 0);
            if in_time {
                assert_eq!(order, ["a", "b", "c", "d"]);
                break;
            }
            // On a busy machine they came too slowly to be due in any order: once more, further apart.
        }
        assert!(in_time, "four items take longer than six seconds");
    }

    async fn eight_producers_never_put_in_more_than_there_is_room_for(store: TestStore) {
        const CAPACITY: u64 = 20;
        let mut producers = Vec::new();
        for producer in 0..8 {
            let queue = another(&store).await.queue("q").with_capacity(CAPACITY);
            producers.push(tokio::spawn(async move {
                let (mut put, mut full) = (0, 0);
                for number in 0..8 {
                    match queue.enqueue(format!("{producer} {number}")).await {
                        Ok(()) => put += 1,
                        Err(Error::QueueFull { capacity: CAPACITY, .. }) => full += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                (put, full)
            }));
        }
        let (mut put, mut full) = (0, 0);
        for producer in producers {
            let (did, did_not) = wait::soon("a producer", producer).await.unwrap();
            (put, full) = (put + did, full + did_not);
        }
        assert_eq!((put, full), (CAPACITY, 64 - CAPACITY));
        let queue = store.client().queue("q").with_capacity(CAPACITY);
        assert_eq!(queue.len().await.unwrap(), 20);
        // On its way is not gone.
        let taken = queue.take().await.unwrap();
        assert!(matches!(queue.enqueue("x").await, Err(Error::QueueFull { .. })));
        taken.ack().await.unwrap();
        queue.enqueue("x").await.unwrap();
    }

    async fn an_id_goes_in_once(store: TestStore) {
        let mut producers = Vec::new();
        for _ in 0..8 {
            let queue = another(&store).await.queue("q");
            producers.push(tokio::spawn(async move {
                let mut put = Vec::new();
                for id in 0..10 {
                    let options = EnqueueOptions::new().with_id(format!("order {id}"));
                    put.push(queue.enqueue_with(id.to_string(), options).await.unwrap());
                }
                put
            }));
        }
        let mut new = [0; 10];
        for producer in producers {
            for (id, put) in producer.await.unwrap().into_iter().enumerate() {
                new[id] += usize::from(put == Enqueued::New);
            }
        }
        assert_eq!(new, [1; 10]);
        assert_eq!(store.client().queue("q").len().await.unwrap(), 10);
    }

    async fn compaction_while_blocked_in_take(store: TestStore) {
        let client = store.client();
        for priority in [false, true] {
            let other = another(&store).await;
            let waiting = tokio::spawn(async move {
                let delivery = if priority {
                    other.priority_queue("pq").take().await.unwrap()
                } else {
                    other.queue("q").take().await.unwrap()
                };
                let value = text(&delivery);
                delivery.ack().await.unwrap();
                value
            });
            for _ in 0..50 {
                let put = client.store().put(PutRequest::new("other", "")).await.unwrap();
                // In a shared cluster another test may have compacted further.
                let _ = client.store().compact(put.header.revision, false).await;
            }
            if priority {
                client.priority_queue("pq").enqueue("a", 3).await.unwrap();
            } else {
                client.queue("q").enqueue("a").await.unwrap();
            }
            assert_eq!(wait::soon("the item", waiting).await.unwrap(), "a");
        }
    }

    async fn large_items_are_taken_too(store: TestStore) {
        let client = store.client();
        let queue = client.queue("q");
        let large = vec![b'x'; 1 << 20];
        queue.enqueue_many([&large, &large]).await.unwrap();
        for attempt in [1, 1, 2] {
            let delivery = queue.take().await.unwrap();
            assert_eq!((delivery.value().len(), delivery.attempt()), (large.len(), attempt));
            if queue.len().await.unwrap() == 1 && attempt == 1 {
                delivery.nack().await.unwrap();
            } else {
                delivery.ack().await.unwrap();
            }
        }
        // What leaves no room for anything beside it can be put in, but only be taken out for good.
        let limit = 3 * 512 * 1024 - 400;
        if queue.enqueue(vec![b'x'; limit]).await.is_ok() && !matches!(store.kind(), Kind::Memory | Kind::File) {
            let error = queue.try_take().await.unwrap_err();
            assert!(matches!(error, Error::ValueTooLarge { .. }), "{error}");
            assert_eq!(queue.dequeue().await.unwrap().len(), limit);
        }
    }
}

/// Takes the first item out with the steps of Go's recipe; `None` when there is none.
async fn go_dequeue(store: &dyn Store, name: &str) -> Option<String> {
    loop {
        let first = RangeRequest::new(KeyRange::prefix(name))
            .with_limit(1)
            .sorted_by(SortTarget::ModRevision, SortOrder::Ascending);
        let first = store.range(first).await.unwrap().kvs.pop()?;
        let txn = Txn::new()
            .when([Compare::modified_at(first.key.clone(), first.mod_revision)])
            .and_then([DeleteRequest::new(first.key)]);
        if store.txn(txn).await.unwrap().succeeded {
            return Some(String::from_utf8(first.value.to_vec()).unwrap());
        }
    }
}

/// Six consumers that acknowledge, give back, forget and lose what they take, each by lot, until each
/// item is acknowledged once or among the dead letters.
async fn soak(store: &TestStore) {
    const ITEMS: usize = 150;
    const CONSUMERS: usize = 6;
    let producer = store.client().queue("q");
    let values: Vec<String> = (0..ITEMS).map(|number| number.to_string()).collect();
    producer.enqueue_many(&values).await.unwrap();
    let acked = Arc::new(std::sync::Mutex::new(BTreeMap::<String, usize>::new()));
    let attempts = Arc::new(std::sync::Mutex::new(
        BTreeMap::<String, BTreeSet<u32>>::new(),
    ));
    let mut consumers = Vec::new();
    for number in 0..CONSUMERS {
        let client = another(store).await;
        let (acked, attempts) = (Arc::clone(&acked), Arc::clone(&attempts));
        consumers.push(tokio::spawn(async move {
            let queue = client.queue("q").with_max_attempts(4);
            loop {
                let delivery = queue.take().await.unwrap();
                let value = text(&delivery);
                let first = attempts
                    .lock()
                    .unwrap()
                    .entry(value.clone())
                    .or_default()
                    .insert(delivery.attempt());
                assert!(
                    first,
                    "{value} was handed out twice as {}",
                    delivery.attempt()
                );
                match rand::random_range(0..6) {
                    0 => match delivery.nack().await {
                        Ok(()) | Err(Error::DeliveryEnded { .. }) => {}
                        Err(error) => panic!("{number}: {error}"),
                    },
                    1 => drop(delivery),
                    2 => std::mem::forget(delivery),
                    3 => {
                        // As if the work had taken too long.
                        for lease in marker_leases(&**client.store(), "queue/q").await {
                            if rand::random_bool(0.3) {
                                let _ = client.store().lease_revoke(lease).await;
                            }
                        }
                        if delivery.ack().await.is_ok() {
                            *acked.lock().unwrap().entry(value).or_default() += 1;
                        }
                    }
                    _ => match delivery.ack().await {
                        Ok(()) => *acked.lock().unwrap().entry(value).or_default() += 1,
                        Err(Error::DeliveryEnded { .. }) => {}
                        Err(error) => panic!("{number}: {error}"),
                    },
                }
            }
        }));
    }
    let dead = producer.dead();
    wait::within(
        Duration::from_secs(120),
        "every item is acknowledged or dead",
        async {
            loop {
                let done = acked.lock().unwrap().len();
                if done + dead.len().await.unwrap() >= ITEMS {
                    return;
                }
                assert!(consumers.iter().all(|consumer| !consumer.is_finished()));
                // Those that were forgotten run out.
                for lease in marker_leases(&*store.store(), "queue/q").await {
                    let _ = store.store().lease_revoke(lease).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        },
    )
    .await;
    for consumer in &consumers {
        consumer.abort();
    }
    for consumer in consumers {
        assert!(consumer.await.unwrap_err().is_cancelled());
    }
    let acked = acked.lock().unwrap().clone();
    let letters = dead.list(ITEMS).await.unwrap();
    let letters: Vec<String> = letters
        .into_iter()
        .map(|letter| {
            assert_eq!(letter.attempts, 4);
            String::from_utf8(letter.value.to_vec()).unwrap()
        })
        .collect();
    assert!(
        acked.values().all(|&times| times == 1),
        "acknowledged twice: {acked:?}"
    );
    let mut all: Vec<&String> = acked.keys().chain(&letters).collect();
    all.sort_by_key(|value| value.parse::<usize>().unwrap());
    assert_eq!(all, values.iter().collect::<Vec<_>>());
    assert!(
        !letters.is_empty() && acked.len() > ITEMS / 2,
        "{} {}",
        letters.len(),
        acked.len()
    );
    assert_eq!(count(&*store.store(), "q/").await, 0);
}

/// A consumer in a process of its own takes the item and is killed (SIGKILL).
fn kill_at_work(url: &str, namespace: &str, most: u32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taker"));
    command
        .args([url, namespace, "q", &most.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut taker = Process::spawn(&mut command, None).unwrap();
    let mut line = String::new();
    let stdout = taker.child().stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    taker.kill();
    line
}

/// Processes that are killed one after the other. `open` opens the store for a moment.
async fn killed<F: Future<Output = Client>>(url: &str, namespace: &str, open: impl Fn() -> F) {
    let client = open().await;
    client.queue("q").enqueue("a").await.unwrap();
    drop(client);
    for attempt in 1..=TIMES {
        let (url, namespace) = (url.to_owned(), namespace.to_owned());
        let killing = move || kill_at_work(&url, &namespace, TIMES);
        let line = tokio::task::spawn_blocking(killing);
        let line = wait::soon("a delivery", line).await.unwrap();
        assert_eq!(line, format!("a {attempt}\n"));
        let client = open().await;
        run_out(&**client.store(), "queue/q").await;
        client.close().await.unwrap();
    }
    let client = open().await;
    let queue = client.queue("q");
    assert!(queue.try_take().await.unwrap().is_none());
    assert_eq!(queue.dead().list(9).await.unwrap()[0].attempts, TIMES);
    assert_eq!(count(&**client.store(), "__synod/queue/q/").await, 1);
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_processes_on_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file:{}", directory.path().join("store").display());
    let open = async || {
        // The lock of a killed process goes with it, but not before it is gone.
        wait::until_some("the store is free", || async {
            Client::connect(&url).await.ok()
        })
        .await
    };
    killed(&url, "", open).await;
}

async fn killed_on(kind: Kind) {
    let Some(store) = TestStore::new(kind).await else {
        synod_tests::skip::report(synod_tests::etcd::NO_ETCD);
        return;
    };
    let url = store.endpoints().join(",");
    killed(&url, store.namespace(), || another(&store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_processes_on_a_server() {
    killed_on(Kind::Served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_processes_on_etcd() {
    killed_on(Kind::Etcd1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_processes_on_three_etcds() {
    killed_on(Kind::Etcd3).await;
}

/// A consumer whose network is cut works on, but what it says in the end is not believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_was_cut_off_too_long_acknowledges_nothing() {
    let etcd = etcd_or_skip!();
    let bridge = Bridge::to(&etcd.url()).await;
    let options = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    let cut_off = Client::from_store(Arc::new(EtcdStore::connect(options).await.unwrap()));
    let healthy = Client::connect(etcd.url()).await.unwrap();
    healthy.queue("q").enqueue("a").await.unwrap();
    let slow = cut_off.queue("q").with_visibility(Duration::from_secs(1));
    let first = slow.take().await.unwrap();
    bridge.set(Mode::Hold);
    let taking = healthy
        .queue("q")
        .take_timeout(wait::PATIENCE)
        .await
        .unwrap();
    let second = taking.expect("its bound runs out");
    assert_eq!(second.attempt(), 2);
    let late = tokio::spawn(async move { first.ack().await });
    // The late acknowledgement arrives while the other works.
    wait::until("it is sent", async || bridge.connections() > 0).await;
    bridge.set(Mode::Pass);
    let ended = wait::soon("an answer", late).await.unwrap();
    assert!(
        matches!(ended, Err(Error::DeliveryEnded { .. })),
        "{ended:?}"
    );
    assert_eq!(second.attempt(), 2);
    second.ack().await.unwrap();
    assert!(healthy.queue("q").try_take().await.unwrap().is_none());
}

/// A store that was closed and opened again knows what was on its way.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_outlive_the_store_that_they_are_in() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let late = EnqueueOptions::new()
        .with_delay(Duration::from_millis(300))
        .with_id("late");
    let before = {
        let (path, late) = (path.clone(), late.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let _at_work = runtime.block_on(async {
                let engine = Engine::open(EngineOptions::file(path)).unwrap();
                let queue: Queue = Client::from_store(Arc::new(engine)).queue("q");
                queue.enqueue_many(["a", "b"]).await.unwrap();
                queue.enqueue_with("c", late).await.unwrap();
                let first = queue.take().await.unwrap();
                queue.take().await.unwrap().nack().await.unwrap();
                first
            });
            // Nothing of what a dropped delivery would do is done.
            runtime.shutdown_background();
        })
    };
    tokio::task::spawn_blocking(|| before.join().unwrap())
        .await
        .unwrap();
    let client = wait::until_some("the store is free", || async {
        let engine = Engine::open(EngineOptions::file(&path)).ok()?;
        Some(Client::from_store(Arc::new(engine)))
    })
    .await;
    let queue = client.queue("q");
    assert_eq!(
        queue.enqueue_with("c", late).await.unwrap(),
        Enqueued::AlreadyThere
    );
    run_out(&**client.store(), "queue/q").await;
    let mut all = BTreeSet::new();
    while all.len() < 3 {
        let delivery = wait::soon("an item", queue.take()).await.unwrap();
        all.insert((text(&delivery), delivery.attempt()));
        delivery.ack().await.unwrap();
    }
    let expected =
        [("a", 2), ("b", 2), ("c", 1)].map(|(value, attempt)| (value.to_owned(), attempt));
    assert_eq!(all, BTreeSet::from(expected));
}
