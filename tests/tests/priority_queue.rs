//! The priority queue on every store: in process, served, and on real etcd clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use synod::store::{
    Compare, CompareOp, EventKind, Key, KeyRange, PutRequest, RangeRequest, Revision, SortOrder,
    SortTarget, Store, Txn, WatchItem, WatchRequest,
};
use synod::{Client, ConnectOptions, Error, Resolution};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_tests::bridge::{Bridge, Mode};
use synod_tests::etcd::EtcdConfig;
use synod_tests::stores::TestStore;
use synod_tests::{each_store, etcd_or_skip, wait};
use tokio::sync::watch;

/// A client with a connection of its own, as another process has it.
async fn another(store: &TestStore) -> Client {
    store.another_client().await
}

/// Puts a value in with the steps of Go's recipe, which begins anew whenever another was first.
async fn go_enqueue(store: &dyn Store, name: &str, value: &str, priority: u16) -> Key {
    let prefix = format!("{name}/{priority:05}");
    for _ in 0..10_000 {
        let last = RangeRequest::new(KeyRange::prefix(prefix.as_str()))
            .with_limit(1)
            .sorted_by(SortTarget::Key, SortOrder::Descending);
        let read = store.range(last).await.unwrap();
        let number = read.kvs.first().map_or(0, |kv| {
            let key = kv.key.to_string();
            let (_, number) = key.rsplit_once('/').unwrap();
            number.parse::<u64>().unwrap() + 1
        });
        let key = Key::from(format!("{prefix}/{number:016}"));
        let base = Key::from(format!("__{prefix}"));
        let next = read.header.revision.next();
        let unchanged = Compare::mod_revision(base.clone(), CompareOp::Less, next);
        let txn = Txn::new().when([unchanged]).and_then([
            PutRequest::new(base, ""),
            PutRequest::new(key.clone(), value.to_owned()),
        ]);
        if store.txn(txn).await.unwrap().succeeded {
            return key;
        }
    }
    panic!("always too late");
}

/// Takes the first item out with the steps of Go's recipe; `None` when there is none.
async fn go_dequeue(store: &dyn Store, name: &str) -> Option<String> {
    loop {
        let first = RangeRequest::new(KeyRange::prefix(format!("{name}/"))).with_limit(1);
        let first = store.range(first).await.unwrap().kvs.pop()?;
        let txn = Txn::new()
            .when([Compare::modified_at(first.key.clone(), first.mod_revision)])
            .and_then([synod::store::DeleteRequest::new(first.key)]);
        if store.txn(txn).await.unwrap().succeeded {
            return Some(String::from_utf8(first.value.to_vec()).unwrap());
        }
    }
}

/// What happens to a queue from now on.
async fn record(store: &dyn Store, name: &str) -> synod::store::Watch {
    let now = store.range(RangeRequest::new("nothing")).await.unwrap();
    let request = WatchRequest::new(KeyRange::prefix(format!("{name}/")));
    let request = request.starting_at(now.header.revision.next());
    store.watch(request).await.unwrap()
}

/// Replays what was recorded: no item was ever overwritten, and each one that was taken was the
/// first at its revision. Returns how many were taken.
async fn check(mut watch: synod::store::Watch, store: &dyn Store, name: &str) -> usize {
    let end = Key::from(format!("{name}/the end"));
    let last = PutRequest::new(end.clone(), "");
    let last = store.put(last).await.unwrap().header.revision;
    let mut live = BTreeSet::new();
    let mut taken = 0;
    let mut seen = Revision::ZERO;
    while seen < last {
        let Some(Ok(WatchItem::Events(batch))) = wait::soon("an event", watch.next()).await else {
            panic!("the history has an end");
        };
        let of_one_revision = batch
            .events
            .chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision);
        for events in of_one_revision {
            let (mut gone, mut new) = (Vec::new(), Vec::new());
            for event in events {
                seen = event.kv.mod_revision;
                let key = event.kv.key.clone();
                if event.kind == EventKind::Delete {
                    gone.push(key);
                } else {
                    assert!(event.is_create(), "{key:?} was overwritten");
                    new.push(key);
                }
            }
            gone.sort();
            let first: Vec<Key> = live.iter().take(gone.len()).cloned().collect();
            assert_eq!(gone, first, "at {seen}");
            taken += gone.len();
            live.retain(|key| !gone.contains(key));
            live.extend(new);
        }
    }
    assert_eq!(live.into_iter().collect::<Vec<_>>(), [end]);
    taken
}

each_store! {
    async fn lower_numbers_first_and_equal_ones_in_order(store: TestStore) {
        let queue = store.client().priority_queue("q");
        for (value, priority) in [("d", 3), ("a", 1), ("c", 2), ("b", 1)] {
            queue.enqueue(value, priority).await.unwrap();
        }
        let other = another(&store).await.priority_queue("q");
        for expected in ["a", "b", "c", "d"] {
            assert_eq!(other.dequeue().await.unwrap(), expected);
        }
        queue.enqueue_many([("last", u16::MAX), ("first", 0)]).await.unwrap();
        let listed = other.list(9).await.unwrap();
        let priorities: Vec<u16> = listed.iter().map(|item| item.priority).collect();
        assert_eq!(priorities, [0, u16::MAX]);
        assert_eq!(listed[1].key, Key::from("q/65535/0000000000000000"));
        assert_eq!(other.clear().await.unwrap(), 2);
        assert!(queue.is_empty().await.unwrap());
    }

    /// Producers of both languages at the ends of two priorities, and our consumers with connections of
    /// their own, some of whom leave before they are served.
    async fn producers_and_consumers(store: TestStore) {
        const PRODUCERS: usize = 4;
        const CONSUMERS: usize = 4;
        const ITEMS: usize = 1_000;
        let recorded = record(&*store.store(), "q").await;
        let mut producers = Vec::new();
        for producer in 0..PRODUCERS {
            let client = another(&store).await;
            producers.push(tokio::spawn(async move {
                let queue = client.priority_queue("q");
                for number in 0..ITEMS / PRODUCERS {
                    let value = format!("{producer} {number}");
                    let priority = if rand::random_ratio(1, 4) { 3 } else { 300 };
                    if producer == 0 {
                        go_enqueue(&**client.store(), "q", &value, priority).await;
                    } else {
                        queue.enqueue(value, priority).await.unwrap();
                    }
                }
            }));
        }
        let taken = Arc::new(watch::Sender::new(0));
        let mut consumers = Vec::new();
        for consumer in 0..CONSUMERS {
            let client = another(&store).await;
            let taken = Arc::clone(&taken);
            consumers.push(tokio::spawn(async move {
                let queue = client.priority_queue("q");
                let mut values = Vec::new();
                while *taken.borrow() < ITEMS {
                    // One of them has little patience.
                    let patience = if consumer == 0 { 2 } else { 200 };
                    let patience = Duration::from_millis(patience);
                    if let Some(value) = queue.dequeue_timeout(patience).await.unwrap() {
                        taken.send_modify(|taken| *taken += 1);
                        values.push(String::from_utf8(value.to_vec()).unwrap());
                    }
                }
                drop(queue);
                client.close().await.unwrap();
                values
            }));
        }
        for producer in producers {
            producer.await.unwrap();
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for consumer in consumers {
            for value in consumer.await.unwrap() {
                *seen.entry(value).or_default() += 1;
            }
        }
        assert_eq!(seen.len(), ITEMS, "nothing is lost");
        assert!(seen.values().all(|&times| times == 1), "nothing comes twice");
        assert!(check(recorded, &*store.store(), "q").await >= ITEMS);
    }

    /// WIRE: "writers must guard on and re-put the base, or a concurrent Go enqueue can overwrite".
    async fn producers_of_both_languages_on_one_priority(store: TestStore) {
        const EACH: usize = 60;
        let recorded = record(&*store.store(), "q").await;
        let mut producers = Vec::new();
        for producer in 0..4 {
            let client = another(&store).await;
            producers.push(tokio::spawn(async move {
                let queue = client.priority_queue("q");
                for number in 0..EACH {
                    let value = format!("{producer} {number:03}");
                    if producer % 2 == 0 {
                        queue.enqueue(value, 7).await.unwrap();
                    } else {
                        go_enqueue(&**client.store(), "q", &value, 7).await;
                    }
                }
            }));
        }
        for producer in producers {
            producer.await.unwrap();
        }
        let queue = store.client().priority_queue("q");
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for turn in 0..4 * EACH {
            let value = if turn % 2 == 0 {
                let value = queue.try_dequeue().await.unwrap().unwrap();
                String::from_utf8(value.to_vec()).unwrap()
            } else {
                go_dequeue(&*store.store(), "q").await.unwrap()
            };
            let (producer, number) = value.split_once(' ').unwrap();
            let before = last.insert(producer.to_owned(), number.to_owned());
            assert!(before < Some(number.to_owned()), "{value} after {before:?}");
        }
        assert_eq!(queue.try_dequeue().await.unwrap(), None);
        assert_eq!(check(recorded, &*store.store(), "q").await, 4 * EACH);
    }

    async fn gos_numbers_begin_anew_under_a_consumer_of_ours(store: TestStore) {
        let raw = store.store();
        let queue = store.client().priority_queue("q");
        for round in 0..5 {
            for number in 0..4 {
                let key = go_enqueue(&*raw, "q", &number.to_string(), 7).await;
                assert_eq!(key, Key::from(format!("q/00007/{number:016}")), "{round}");
            }
            for number in 0..4 {
                assert_eq!(queue.dequeue().await.unwrap(), number.to_string());
            }
        }
        queue.enqueue("ours", 7).await.unwrap();
        go_enqueue(&*raw, "q", "Go's", 7).await;
        assert_eq!(go_dequeue(&*raw, "q").await.unwrap(), "ours");
        assert_eq!(queue.dequeue().await.unwrap(), "Go's");
    }

    async fn an_urgent_item_overtakes_what_was_read_before(store: TestStore) {
        let queue = store.client().priority_queue("q");
        let other = another(&store).await.priority_queue("q");
        let patient = (0..300).map(|number| (format!("{number:03}"), 500));
        other.enqueue_many(patient).await.unwrap();
        for number in 0..40 {
            assert_eq!(queue.dequeue().await.unwrap(), format!("{number:03}"));
            let urgent = format!("urgent {number}");
            if number % 2 == 0 {
                other.enqueue(&urgent, 499 - number).await.unwrap();
            } else {
                go_enqueue(&*store.store(), "q", &urgent, 499 - number).await;
            }
            // It was in before the call.
            assert_eq!(queue.dequeue().await.unwrap(), urgent);
        }
        assert_eq!(queue.len().await.unwrap(), 260);
    }

    async fn a_blocked_dequeue_gets_what_another_client_puts(store: TestStore) {
        let consumer = store.client().priority_queue("q");
        let producer = another(&store).await.priority_queue("q");
        for number in 0..20 {
            let waiting = tokio::spawn({
                let consumer = consumer.clone();
                async move { consumer.dequeue().await }
            });
            let value = number.to_string();
            producer.enqueue(&value, number).await.unwrap();
            assert_eq!(wait::soon("it", waiting).await.unwrap().unwrap(), value);
        }
    }

    async fn compaction_under_a_blocked_dequeue(store: TestStore) {
        let (raw, queue) = (store.store(), another(&store).await.priority_queue("q"));
        let waiting = tokio::spawn(async move { queue.dequeue().await });
        for _ in 0..30 {
            let put = raw.put(PutRequest::new("other", "")).await.unwrap();
            // Other tests compact the same etcd.
            let _ = raw.compact(put.header.revision, false).await;
        }
        store.client().priority_queue("q").enqueue("a", 9).await.unwrap();
        assert_eq!(wait::soon("it", waiting).await.unwrap().unwrap(), "a");
    }

    async fn a_dropped_dequeue_loses_nothing(store: TestStore) {
        let client = store.client();
        let queue = client.priority_queue("q");
        let producer = another(&store).await.priority_queue("q");
        let mut taken = Vec::new();
        for number in 0..100_u16 {
            producer.enqueue(number.to_string(), number % 7).await.unwrap();
            let patience = Duration::from_micros(u64::from(number) * 20);
            taken.extend(queue.dequeue_timeout(patience).await.unwrap());
        }
        while taken.len() < 100 {
            let next = queue.dequeue();
            taken.push(wait::soon("an item that went back", next).await.unwrap());
        }
        assert_eq!(producer.try_dequeue().await.unwrap(), None);
        let mut numbers: Vec<u32> = taken
            .iter()
            .map(|value| std::str::from_utf8(value).unwrap().parse().unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }

    /// A queue named `a` never takes an item of `ab`, nor a priority queue one of a queue.
    async fn neighbours_are_left_alone(store: TestStore) {
        let raw = store.store();
        for key in ["ab/00001/0000000000000000", "a/x/1", "a", "a/00001/0000000000000000/x"] {
            raw.put(PutRequest::new(key, "no")).await.unwrap();
        }
        let client = store.client();
        let (queue, plain) = (client.priority_queue("a"), client.queue("a"));
        assert_eq!(queue.try_dequeue().await.unwrap(), None);
        plain.enqueue_many((0..300).map(|number| number.to_string())).await.unwrap();
        assert_eq!(queue.try_dequeue().await.unwrap(), None);
        queue.enqueue_many([("yes", 1), ("yes too", 30_000)]).await.unwrap();
        assert_eq!((queue.len().await.unwrap(), plain.len().await.unwrap()), (2, 300));
        assert_eq!(plain.dequeue().await.unwrap(), "0");
        assert_eq!(queue.dequeue().await.unwrap(), "yes");
        assert_eq!(queue.peek().await.unwrap().unwrap().value, "yes too");
        assert_eq!(queue.clear().await.unwrap(), 1);
        assert_eq!(plain.clear().await.unwrap(), 299);
        let left = RangeRequest::new(KeyRange::prefix("a")).count_only();
        assert_eq!(raw.range(left).await.unwrap().count, 4);
    }

    async fn large_values(store: TestStore) {
        let queue = store.client().priority_queue("q");
        let large = vec![7; 1 << 20];
        queue.enqueue_many([(&large, 3), (&large, 1), (&large, 2)]).await.unwrap();
        for _ in 0..3 {
            assert_eq!(queue.dequeue().await.unwrap(), large);
        }
        let error = queue.enqueue(vec![7; 2 << 20], 1).await.unwrap_err();
        assert!(matches!(error, Error::ValueTooLarge { .. }), "{error:?}");
        assert!(queue.is_empty().await.unwrap());
    }
}

/// A client that reaches a cluster over this bridge alone: it asks for no other members.
async fn over(bridge: &Bridge, options: ConnectOptions) -> Client {
    let etcd = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    options.over(Arc::new(EtcdStore::connect(etcd).await.unwrap()))
}

/// The reply to each third push or pop is lost on its way, and the connection with it.
#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_lose_nothing_and_repeat_nothing() {
    let etcd = etcd_or_skip!();
    let bridge = Bridge::to(&etcd.url()).await;
    let client = over(&bridge, ConnectOptions::new("")).await;
    let healthy = Client::connect(etcd.url()).await.unwrap();
    let recorded = record(&**healthy.store(), "q").await;
    let queue = client.priority_queue("q");
    let mut taken = Vec::new();
    for number in 0..30 {
        // Whatever is asked from now on is answered into the void, until that has happened.
        let replied = bridge.replied_bytes();
        let lose = async {
            let swallowed = async || bridge.replied_bytes() > replied;
            wait::until("a swallowed reply", swallowed).await;
            bridge.reset();
            bridge.set(Mode::Pass);
        };
        let (value, priority) = (format!("{number:02}"), number / 10);
        if number % 3 == 0 {
            bridge.set(Mode::SwallowReplies);
            let (pushed, ()) = tokio::join!(queue.enqueue(&value, priority), lose);
            pushed.unwrap();
        } else if number % 3 == 1 {
            queue.enqueue(&value, priority).await.unwrap();
            bridge.set(Mode::SwallowReplies);
            let (popped, ()) = tokio::join!(queue.dequeue(), lose);
            taken.push(popped.unwrap());
        } else {
            queue.enqueue(&value, priority).await.unwrap();
        }
    }
    while let Some(value) = healthy.priority_queue("q").try_dequeue().await.unwrap() {
        taken.push(value);
    }
    let expected: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    assert_eq!(taken, expected);
    assert_eq!(check(recorded, &**healthy.store(), "q").await, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_resolved_by_another_client() {
    let etcd = etcd_or_skip!();
    for reaches in [true, false] {
        let bridge = Bridge::to(&etcd.url()).await;
        let options = ConnectOptions::new("").with_timeout(wait::BRIEF);
        let client = over(&bridge, options).await;
        let queue = client.priority_queue(format!("q{reaches}"));
        queue.enqueue("before", 7).await.unwrap();
        bridge.set(if reaches {
            Mode::HoldReplies
        } else {
            Mode::Hold
        });
        let error = queue.enqueue("in doubt", 7).await.unwrap_err();
        let token = error.token().unwrap_or_else(|| panic!("{error:?}")).clone();
        let healthy = Client::connect(etcd.url()).await.unwrap();
        let resolution = healthy.resolve(&token).await.unwrap();
        let expected = if reaches {
            Resolution::Happened
        } else {
            Resolution::NeverWill
        };
        assert_eq!(resolution, expected);
        bridge.set(Mode::Pass);
        // The end of the priority may have moved.
        let after = queue.enqueue("after", 7);
        wait::soon("an enqueue after it", after).await.unwrap();
        let left = healthy.priority_queue(format!("q{reaches}")).list(9).await;
        let left: Vec<_> = left.unwrap().into_iter().map(|item| item.value).collect();
        if reaches {
            assert_eq!(left, ["before", "in doubt", "after"]);
        } else {
            assert_eq!(left, ["before", "after"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_between_push_and_pop() {
    let etcd = etcd_or_skip!(EtcdConfig::new().nodes(3));
    // An election may take long on a busy machine.
    let options = ConnectOptions::new(etcd.url()).with_timeout(wait::PATIENCE);
    let producer = options.clone().connect().await.unwrap();
    let consumer = options.connect().await.unwrap();
    let waiting = tokio::spawn({
        let queue = consumer.priority_queue("waiting");
        async move { queue.dequeue().await }
    });
    let queue = producer.priority_queue("q");
    queue.enqueue_many([("b", 2), ("a", 1)]).await.unwrap();
    etcd.kill(etcd.leader().await);
    let queue = consumer.priority_queue("q");
    let popped = wait::soon("a pop without the old leader", queue.dequeue_many(2)).await;
    assert_eq!(popped.unwrap(), ["a", "b"]);
    let queue = producer.priority_queue("waiting");
    wait::soon("a push without the old leader", queue.enqueue("c", 3))
        .await
        .unwrap();
    let popped = wait::soon("the blocked pop", waiting).await.unwrap();
    assert_eq!(popped.unwrap(), "c");
}

/// A user may read and write the queue, but not the books that Go's recipes keep outside its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_for_the_name_alone_is_too_little() {
    let etcd = etcd_or_skip!();
    for command in [
        "user add root:hunter2",
        "user grant-role root root",
        "role add jobs",
        "role grant-permission jobs --prefix=true readwrite q/",
        "role grant-permission jobs --prefix=true readwrite __synod/",
        "user add worker:secret",
        "user grant-role worker jobs",
        "auth enable",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let done = etcd.etcdctl(&words).await;
        assert!(done.status.success(), "{command}: {done:?}");
    }
    let worker = Client::builder(etcd.url())
        .with_user("worker", "secret")
        .await
        .unwrap();
    let queue = worker.priority_queue("q");
    for error in [
        queue.enqueue("a", 1).await.unwrap_err(),
        queue.enqueue_many([("a", 1)]).await.unwrap_err(),
    ] {
        let denied = matches!(error, Error::PriorityQueueDenied { .. });
        assert!(denied && error.to_string().contains("__q/"), "{error:?}");
    }
    let root = ["--user", "root:hunter2"];
    let grant = "role grant-permission jobs --prefix=true readwrite __q/";
    let words: Vec<&str> = root.into_iter().chain(grant.split(' ')).collect();
    let done = etcd.etcdctl(&words).await;
    assert!(done.status.success(), "{done:?}");
    queue.enqueue("a", 1).await.unwrap();
    assert_eq!(queue.dequeue().await.unwrap(), "a");
}
