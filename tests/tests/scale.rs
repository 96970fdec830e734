//! Many at once: a thousand who wait at a barrier, a thousand tasks on a lock, ten thousand watches,
//! and queues in which a lot lies. Nothing here depends on how fast a machine is; times and memory are
//! printed (`--nocapture`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use synod::Client;
use synod_engine::{Engine, EngineOptions};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_store::{KeyRange, PutRequest, Replies, Store, Txn, Watch, WatchItem, WatchRequest};
use synod_tests::cli::{Home, Served};
use synod_tests::counted::{Counted, Counts};
use synod_tests::stores::{Kind, TestStore, run};
use synod_tests::wait;
use tokio::task::JoinSet;

/// Resident memory of a process, in MiB; `None` where the system does not say.
fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

fn told(what: &str, begin: Instant) {
    let memory = resident(std::process::id());
    println!(
        "{what}: {:?}, {memory:?} MiB in this process",
        begin.elapsed()
    );
}

/// `size` waiters on one barrier, spread over the clients, all pass once it is released.
async fn barrier(holder: &Client, clients: &[Client], size: usize) {
    let begin = Instant::now();
    let barrier = holder.barrier("gate");
    barrier.hold().await.unwrap();
    let (stands, mut standing) = tokio::sync::mpsc::channel(size);
    let mut waiters = JoinSet::new();
    for client in clients.iter().cycle().take(size) {
        let (barrier, stands) = (client.barrier("gate"), stands.clone());
        waiters.spawn(async move {
            stands.send(()).await.unwrap();
            barrier.wait().await.unwrap();
        });
    }
    for _ in 0..size {
        standing.recv().await.unwrap();
    }
    // None of them has passed: it is held.
    assert!(barrier.is_held().await.unwrap());
    assert!(waiters.try_join_next().is_none());
    told(
        &format!("{size} waiters have called, {} clients", clients.len()),
        begin,
    );
    let begin = Instant::now();
    assert!(barrier.release().await.unwrap());
    assert_eq!(waiters.join_all().await.len(), size);
    told(&format!("{size} waiters have passed"), begin);
}

async fn barrier_of_one_client(store: TestStore) {
    barrier(&store.client(), &[store.client()], 1000).await;
}

async fn barrier_of_100_clients(store: TestStore) {
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(store.another_client().await);
    }
    barrier(&store.client(), &clients, 1000).await;
}

async fn thousand_on_a_lock(store: TestStore) {
    lock(store, 1000).await;
}

async fn hundreds_on_a_lock(store: TestStore) {
    lock(store, 200).await;
}

/// Tasks of one client take a lock, each once: never two at once, all of them, and in the order of
/// their tokens.
async fn lock(store: TestStore, size: usize) {
    let begin = Instant::now();
    let client = store.client();
    let inside = Arc::new(AtomicBool::new(false));
    let tokens = Arc::new(tokio::sync::Mutex::new(Vec::with_capacity(size)));
    let mut tasks = JoinSet::new();
    for _ in 0..size {
        let (mutex, inside) = (client.mutex("lock"), Arc::clone(&inside));
        let tokens = Arc::clone(&tokens);
        tasks.spawn(async move {
            let guard = mutex.lock().await.unwrap();
            assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
            tokens.lock().await.push(guard.fencing_token());
            assert!(inside.swap(false, Ordering::SeqCst));
            guard.unlock().await.unwrap();
        });
    }
    assert_eq!(tasks.join_all().await.len(), size);
    let tokens = tokens.lock().await;
    assert_eq!(tokens.len(), size);
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    told(&format!("{size} tasks had the lock"), begin);
}

macro_rules! on {
    ($($kind:ident $name:ident $test:ident;)+) => {
        $(#[test]
        fn $name() {
            run(Kind::$kind, $test);
        })+
    };
}

on! {
    Memory a_thousand_waiters_of_one_client_in_memory barrier_of_one_client;
    Served a_thousand_waiters_of_one_client_served barrier_of_one_client;
    Etcd3 a_thousand_waiters_of_one_client_etcd3 barrier_of_one_client;
    Memory a_thousand_waiters_of_100_clients_in_memory barrier_of_100_clients;
    Served a_thousand_waiters_of_100_clients_served barrier_of_100_clients;
    Etcd3 a_thousand_waiters_of_100_clients_etcd3 barrier_of_100_clients;
    Memory a_thousand_tasks_on_a_lock_in_memory thousand_on_a_lock;
    Served hundreds_of_tasks_on_a_lock_served hundreds_on_a_lock;
    Etcd1 hundreds_of_tasks_on_a_lock_etcd1 hundreds_on_a_lock;
}

/// The next event of a watch.
async fn event(watch: &mut Watch) {
    loop {
        match watch.next().await {
            Some(Ok(WatchItem::Events(batch))) => {
                assert_eq!(batch.events.len(), 1);
                return;
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The next event of each.
async fn events(watches: &mut [Watch]) {
    let mut waiting: FuturesUnordered<_> = watches.iter_mut().map(event).collect();
    while waiting.next().await.is_some() {}
}

/// Half of the watches are on one prefix, half each on a key of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watches_on_a_server() {
    const CONNECTIONS: usize = 4;
    const EACH: usize = 1250;
    /// Far more than it takes, far less than a watch that costs a task and a buffer would.
    const MOST: u64 = 1024;
    let home = Home::new();
    let mut served = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let pid = served.process().pid();
    let memory = |when: &str| {
        let memory = resident(pid);
        println!("the server {when}: {memory:?} MiB");
        assert!(memory.is_none_or(|mib| mib < MOST), "{memory:?} MiB {when}");
    };
    memory("before");
    let begin = Instant::now();
    let (mut stores, mut shared, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for connection in 0..CONNECTIONS {
        let store = EtcdStore::connect(EtcdOptions::new([&served.url]))
            .await
            .unwrap();
        let watch = async |range: KeyRange| store.watch(WatchRequest::new(range)).await.unwrap();
        let prefix = (0..EACH).map(|_| watch(KeyRange::prefix("hot/")));
        shared.extend(
            stream::iter(prefix)
                .buffer_unordered(64)
                .collect::<Vec<_>>()
                .await,
        );
        let keys = (0..EACH).map(|key| watch(KeyRange::one(format!("own/{connection}/{key:04}"))));
        own.extend(stream::iter(keys).buffered(64).collect::<Vec<_>>().await);
        stores.push(store);
    }
    told("10,000 watches stand", begin);
    let all = 2 * (CONNECTIONS * EACH) as u64;
    served.watched(&home, all..=all).await;
    memory("with 10,000 watches");

    let begin = Instant::now();
    let store = &stores[0];
    store.put(PutRequest::new("hot/1", "x")).await.unwrap();
    events(&mut shared).await;
    told("5,000 watches have seen a put", begin);
    let begin = Instant::now();
    for connection in 0..CONNECTIONS {
        for chunk in 0..EACH.div_ceil(100) {
            let keys = chunk * 100..EACH.min(chunk * 100 + 100);
            let puts = keys.map(|key| PutRequest::new(format!("own/{connection}/{key:04}"), "x"));
            store.txn(Txn::new().and_then(puts)).await.unwrap();
        }
    }
    events(&mut own).await;
    told("5,000 watches have seen a put of their own", begin);
    memory("after the events");

    drop((shared, own));
    served.watched(&home, ..=0).await;
    memory("when they are gone");
    drop(stores);
    assert_eq!(served.stop().await, Some(0));
}

/// How many items the deep queue has: `SYNOD_SCALE_ITEMS`, or 20,000.
fn depth() -> usize {
    let items = std::env::var("SYNOD_SCALE_ITEMS");
    items.map_or(20_000, |items| {
        items.parse().expect("SYNOD_SCALE_ITEMS is a number")
    })
}

/// What a new client asks to get 1,000 items out of a queue of this depth, one by one, behind this many
/// that others took before.
macro_rules! thousand {
    ($name:ident, $make:ident, |$number:ident| $item:expr) => {
        async fn $name(depth: usize, dead: usize) -> Counts {
            let engine: Arc<dyn Store> = Arc::new(Engine::open(EngineOptions::memory()).unwrap());
            let source = Client::from_store(Arc::clone(&engine)).$make("deep");
            let begin = Instant::now();
            source
                .enqueue_many((0..depth + dead).map(|$number| $item))
                .await
                .unwrap();
            let mut left = dead;
            while left > 0 {
                left -= source.dequeue_many(left.min(100)).await.unwrap().len();
            }
            told(&format!("{depth} items behind {dead} dead keys"), begin);
            let counted = Counted::over(engine, Replies::Certain).with_latency(Duration::ZERO);
            let queue = Client::from_store(Arc::new(counted.clone())).$make("deep");
            let begin = Instant::now();
            for _ in 0..1000 {
                let item = wait::soon("an item", queue.dequeue()).await.unwrap();
                assert_eq!(item.len(), 100);
            }
            told(&format!("1,000 of {depth} items"), begin);
            counted.counts()
        }
    };
}

thousand!(from_queue, queue, |number| format!("{number:0100}"));
thousand!(from_priority_queue, priority_queue, |number| (
    format!("{number:0100}"),
    u16::try_from(number % 10).unwrap()
));

/// The same calls for the same items, however many lie behind them or were there before.
fn assert_flat(shallow: Counts, deep: Counts) {
    println!("shallow: {shallow:?}\ndeep:    {deep:?}");
    // One look more or less: where the last one was due depends on the moment.
    assert!(deep.calls() <= shallow.calls() + 2, "{shallow:?} {deep:?}");
    assert!(
        deep.keys_read <= shallow.keys_read + 600,
        "{shallow:?} {deep:?}"
    );
    assert!(
        deep.bytes_in * 10 <= shallow.bytes_in * 11 + 600_000,
        "{shallow:?} {deep:?}"
    );
}

#[tokio::test]
async fn a_dequeue_reads_no_more_from_a_deep_queue() {
    // Deep enough that both looks are full ones.
    let shallow = from_queue(1500, 0).await;
    assert_flat(shallow, from_queue(depth(), 0).await);
    assert_flat(shallow, from_queue(1500, 5000).await);
}

#[tokio::test]
async fn a_dequeue_reads_no_more_from_a_deep_priority_queue() {
    let shallow = from_priority_queue(1500, 0).await;
    assert_flat(shallow, from_priority_queue(depth(), 0).await);
    assert_flat(shallow, from_priority_queue(1500, 5000).await);
}
