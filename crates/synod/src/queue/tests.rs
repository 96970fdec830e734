//! The queue against a store that loses answers, delays requests and stops at every step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use synod_store::{PutRequest, Replies, Store};

use crate::clock::{Clock, ManualClock};
use crate::testing::{FAULTS, Fault, Faulty, engine};
use crate::{Client, ConnectOptions, Error, Queue, Resolution};

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

/// What is left in the queue, as a healthy client sees it.
async fn drain(store: &Arc<dyn Store>, name: &str) -> Vec<Bytes> {
    let queue = Client::from_store(Arc::clone(store)).queue(name);
    let mut values = Vec::new();
    while let Some(value) = queue.try_dequeue().await.unwrap() {
        values.push(value);
    }
    values
}

/// Every sequence of at most two faults, at each of the first `calls` calls.
fn scripts(calls: usize) -> Vec<Vec<Fault>> {
    let mut scripts = vec![vec![]];
    for first in 0..calls {
        for fault in FAULTS {
            let mut one = vec![Fault::None; first];
            one.push(fault);
            for gap in 0..3 {
                for second in FAULTS {
                    let mut two = one.clone();
                    two.extend(vec![Fault::None; gap]);
                    two.push(second);
                    scripts.push(two);
                }
            }
            scripts.push(one);
        }
    }
    scripts
}

/// Runs a check for every script, some at a time.
async fn for_each_script<F: Future<Output = ()> + Send + 'static>(
    scripts: Vec<Vec<Fault>>,
    check: impl Fn(Vec<Fault>) -> F,
) {
    let mut checks = futures_util::stream::iter(scripts)
        .map(|script| tokio::spawn(check(script)))
        .buffer_unordered(32);
    while let Some(outcome) = checks.next().await {
        outcome.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_happens_once_whatever_is_lost() {
    for early in [false, true] {
        // Lease, fence, the enqueue and its repetitions.
        for_each_script(scripts(5), move |script| async move {
            let faulty = Faulty::new();
            let queue = faulty.client(LONG).queue("q");
            faulty.script(script.clone());
            for value in ["a", "b"] {
                queue
                    .enqueue(value)
                    .await
                    .unwrap_or_else(|error| panic!("{script:?}: {error}"));
                if early {
                    faulty.deliver_late().await;
                }
            }
            assert_eq!(drain(&faulty.engine, "q").await, ["a", "b"], "{script:?}");
            // Copies that come after all of it change nothing either.
            faulty.deliver_late().await;
            assert!(drain(&faulty.engine, "q").await.is_empty(), "{script:?}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dequeue_takes_once_whatever_is_lost() {
    for large in [false, true] {
        for_each_script(scripts(5), move |script| async move {
            let faulty = Faulty::new();
            let values: Vec<Vec<u8>> = (b'a'..b'e')
                .map(|byte| vec![byte; if large { 10_000 } else { 1 }])
                .collect();
            let healthy = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
            healthy.enqueue_many(&values).await.unwrap();
            let queue = faulty.client(LONG).queue("q");
            faulty.script(script.clone());
            let mut taken = Vec::new();
            for _ in 0..3 {
                taken.push(
                    queue
                        .dequeue()
                        .await
                        .unwrap_or_else(|e| panic!("{script:?}: {e}")),
                );
                faulty.deliver_late().await;
            }
            taken.extend(drain(&faulty.engine, "q").await);
            assert_eq!(taken, values, "{script:?}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_is_resolved_rightly() {
    for fault in FAULTS {
        for late in [false, true] {
            for same_client in [false, true] {
                let faulty = Faulty::new();
                let client = faulty.client(SHORT);
                let queue = client.queue("q");
                queue.enqueue("before").await.unwrap();
                faulty.script([fault]);
                // After the first copy nothing gets through.
                faulty.close_gate(1);
                let error = queue.enqueue("a").await.expect_err("nothing can answer");
                if fault == Fault::Refuse {
                    assert!(
                        !error.is_maybe_committed() || error.token().is_some(),
                        "{error}"
                    );
                }
                let Some(token) = error.token().cloned() else {
                    panic!("{fault:?}: {error}");
                };
                if late {
                    faulty.deliver_late().await;
                }
                faulty.open_gate();
                let resolver = if same_client {
                    client.clone()
                } else {
                    // Another process, which has only the text.
                    Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy).client(LONG)
                };
                let token = token.to_string().parse().unwrap();
                let resolution = resolver.resolve(&token).await.unwrap();
                faulty.deliver_late().await;
                let mut left = drain(&faulty.engine, "q").await;
                assert_eq!(left.remove(0), "before");
                match resolution {
                    Resolution::Happened => assert_eq!(left, ["a"], "{fault:?} {late}"),
                    Resolution::NeverWill => assert!(left.is_empty(), "{fault:?} {late}"),
                    Resolution::Forgotten => panic!("{fault:?} {late}"),
                }
                client.close().await.unwrap();
                assert!(
                    drain(&faulty.engine, "q").await.is_empty(),
                    "{fault:?} {late}"
                );
            }
        }
    }
}

#[tokio::test]
async fn an_enqueue_that_was_never_sent_says_so() {
    let faulty = Faulty::new();
    let queue = faulty.client(SHORT).queue("q");
    queue.enqueue("before").await.unwrap();
    faulty.always(Some(Fault::Refuse));
    let error = queue.enqueue("a").await.unwrap_err();
    assert!(!error.is_maybe_committed(), "{error:?}");
    assert!(error.is_retryable(), "{error:?}");
    faulty.always(None);
    assert_eq!(drain(&faulty.engine, "q").await, ["before"]);
}

/// How a caller is dropped while its call stands at the n-th step.
async fn drop_at_step(replies: Replies, step: usize, waits: bool) -> bool {
    let faulty = Faulty::over(engine(), replies);
    let healthy = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
    let client = faulty.client(LONG);
    let queue = client.queue("q");
    if !waits {
        healthy.enqueue("a").await.unwrap();
    }
    faulty.close_gate(step);
    let caller = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    let stopped = faulty.wait_at_gate().await;
    if waits {
        healthy.enqueue("a").await.unwrap();
    }
    caller.abort();
    let got = match caller.await {
        Ok(value) => vec![value.unwrap()],
        Err(_) => Vec::new(),
    };
    faulty.open_gate();
    // In order: what is on its way comes back, then the rest is seen by everybody.
    drop(queue);
    client.close().await.unwrap();
    let left = drain(&faulty.engine, "q").await;
    assert_eq!(
        [got, left].concat(),
        ["a"],
        "step {step}, waits {waits}, {replies:?}"
    );
    stopped
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_dequeue_loses_nothing_at_any_step() {
    for replies in [Replies::Certain, Replies::Lossy] {
        for waits in [false, true] {
            let mut stops = 0;
            for step in 0..10 {
                stops += usize::from(drop_at_step(replies, step, waits).await);
            }
            assert!(stops >= 2, "the gate has stopped nothing");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_dequeue_hands_its_item_to_the_next_local_caller() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    queue.enqueue("a").await.unwrap();
    // The look and then the claim: it stands at the gate.
    faulty.close_gate(1);
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    assert!(faulty.wait_at_gate().await);
    let second = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    // The second waits at the desk behind the first, which goes.
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let before = faulty.txns();
    faulty.open_gate();
    assert_eq!(second.await.unwrap().unwrap(), "a");
    // It did not have to be put back and taken again.
    assert_eq!(faulty.txns(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_dropped_at_any_step_is_in_once_or_not() {
    for step in 0..6 {
        let faulty = Faulty::new();
        let client = faulty.client(LONG);
        let queue = client.queue("q");
        faulty.close_gate(step);
        let caller = tokio::spawn({
            let queue = queue.clone();
            async move { queue.enqueue("a").await }
        });
        let stopped = faulty.wait_at_gate().await;
        caller.abort();
        let finished = caller.await.is_ok();
        faulty.open_gate();
        client.close().await.unwrap();
        let left = drain(&faulty.engine, "q").await;
        assert!(left.len() <= 1, "step {step}: {left:?}");
        if finished {
            assert_eq!(left.len(), 1, "step {step}");
        }
        if step < 3 {
            assert!(stopped, "step {step}");
        }
    }
}

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) {
    store
        .put(PutRequest::new(key, value.to_owned()))
        .await
        .unwrap();
}

#[tokio::test]
async fn keys_as_go_writes_them_come_out_by_modification_revision() {
    let store = engine();
    // Clocks that disagree: the keys are in another order than the puts.
    for (key, value) in [
        ("q/1790000000000000300", "first"),
        ("q/1790000000000000100", "second"),
        ("q/1790000000000000200", "third"),
    ] {
        put(&store, key, value).await;
    }
    // A put on an item moves it to the end.
    put(&store, "q/1790000000000000300", "first, again").await;
    assert_eq!(
        drain(&store, "q").await,
        ["second", "third", "first, again"]
    );
}

#[tokio::test]
async fn a_queue_takes_nothing_of_its_neighbours() {
    let store = engine();
    let neighbours = [
        "ab/1790000000000000000",
        "a/x/1790000000000000000",
        "a/5/1",
        "a/00007/0000000000000000",
        "a/00007/0000000000000001",
        "__a/00007",
        "a",
        "a/name",
        "a//1790000000000000000",
    ];
    for key in neighbours {
        put(&store, key, "not yours").await;
    }
    // More neighbours than fit into one look, below the items.
    for number in 0..600 {
        put(&store, &format!("a/1/{number}"), "not yours").await;
    }
    let queue = Client::from_store(Arc::clone(&store)).queue("a");
    assert_eq!(queue.try_dequeue().await.unwrap(), None);
    assert_eq!(queue.len().await.unwrap(), 0);
    queue.enqueue_many(["1", "2"]).await.unwrap();
    assert_eq!(queue.len().await.unwrap(), 2);
    assert_eq!(queue.peek().await.unwrap().unwrap().value, "1");
    assert_eq!(queue.dequeue().await.unwrap(), "1");
    assert_eq!(queue.clear().await.unwrap(), 1);
    assert_eq!(
        queue
            .dequeue_timeout(Duration::from_millis(20))
            .await
            .unwrap(),
        None
    );
    let all = store
        .range(synod_store::RangeRequest::new(synod_store::KeyRange::all()).count_only())
        .await
        .unwrap();
    assert_eq!(all.count, 609);
}

#[tokio::test]
async fn stamps_rise_with_a_clock_that_falls_behind() {
    let store = engine();
    let clock = Arc::new(ManualClock::new());
    let options = ConnectOptions::new("memory:").with_clock(clock.clone());
    let queue = Client::over(Arc::clone(&store), options).queue("q");
    let mut expected = Vec::new();
    for number in 0..300 {
        clock.set_unix_nanos(1_790_000_000_000_000_000 - 1_000_000 * number);
        queue.enqueue(number.to_string()).await.unwrap();
        expected.push(number.to_string());
    }
    // By key alone, which is what one sees beyond the window.
    let listed = queue.list(usize::MAX).await.unwrap();
    let values: Vec<_> = listed.iter().map(|item| item.value.clone()).collect();
    assert_eq!(values, expected);
    assert!(listed.windows(2).all(|pair| pair[0].key < pair[1].key));
    assert_eq!(drain(&store, "q").await, expected);
    assert!(clock.unix_nanos() < 1_790_000_000_000_000_000);
}

#[tokio::test]
async fn a_client_never_stamps_below_what_it_has_seen() {
    let store = engine();
    put(&store, "q/1999999999999999999", "from the future").await;
    put(&store, "q/9999999999999999999", "from beyond").await;
    let queue = Client::from_store(Arc::clone(&store)).queue("q");
    assert_eq!(queue.dequeue().await.unwrap(), "from the future");
    queue.enqueue("after").await.unwrap();
    assert_eq!(
        queue.list(9).await.unwrap()[1].key.to_string(),
        "q/2000000000000000000"
    );
}

#[tokio::test]
async fn a_blocked_dequeue_survives_compaction() {
    let store = engine();
    let client = Client::from_store(Arc::clone(&store));
    let queue = client.queue("q");
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    for number in 0..50 {
        let put = store
            .put(PutRequest::new("other", number.to_string()))
            .await
            .unwrap();
        store.compact(put.header.revision, true).await.unwrap();
    }
    assert!(!waiting.is_finished());
    Client::from_store(store)
        .queue("q")
        .enqueue("a")
        .await
        .unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "a");
}

#[tokio::test]
async fn an_item_below_the_cursor_is_found() {
    let store = engine();
    let queue = Client::from_store(Arc::clone(&store)).queue("q");
    queue.enqueue("a").await.unwrap();
    assert_eq!(queue.dequeue().await.unwrap(), "a");
    assert_eq!(queue.try_dequeue().await.unwrap(), None);
    put(&store, "q/0000000000000000001", "slow clock").await;
    assert_eq!(queue.try_dequeue().await.unwrap().unwrap(), "slow clock");
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    put(&store, "q/0", "slower clock").await;
    assert_eq!(waiting.await.unwrap().unwrap(), "slower clock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_callers_share_claims_and_looks() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    let values: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    queue.enqueue_many(&values).await.unwrap();
    let before = (faulty.txns(), faulty.ranges());
    for _ in 0..200 {
        queue.dequeue().await.unwrap();
    }
    assert_eq!(faulty.txns() - before.0, 200, "one Txn an item");
    assert!(faulty.ranges() - before.1 <= 2, "one look for all of them");
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
    let done = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut readers = Vec::new();
    for reader in 0..count {
        let queue: Queue = stores[reader % stores.len()].queue("q");
        let done = Arc::clone(&done);
        readers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            while done.load(std::sync::atomic::Ordering::SeqCst) < items {
                let wait = Duration::from_millis(50);
                if let Some(value) = queue.dequeue_timeout(wait).await.unwrap() {
                    done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    taken.push(String::from_utf8(value.to_vec()).unwrap());
                }
            }
            taken
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

#[tokio::test]
async fn a_name_of_synods_own_is_refused() {
    let client = Client::from_store(engine());
    for name in ["__synod", "__synod/lane", "__synod/"] {
        let error = client.queue(name).enqueue("a").await.unwrap_err();
        assert!(matches!(error, Error::ReservedName { .. }), "{error}");
    }
    client.queue("__synodic").enqueue("a").await.unwrap();
}

#[tokio::test]
async fn values_of_any_size_come_out_in_order_and_whole() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    let sizes = [0, 1, 5000, 100_000, 1_000_000, 3, 4096, 4097, 0];
    let values: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![size as u8; size]).collect();
    queue.enqueue_many(&values).await.unwrap();
    let listed = queue.list(20).await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|item| item.value.clone())
            .collect::<Vec<_>>(),
        values
    );
    let mut taken = Vec::new();
    while taken.len() < values.len() {
        taken.extend(queue.dequeue_many(3).await.unwrap());
    }
    assert_eq!(taken, values);
}

#[tokio::test]
async fn the_stream_yields_what_comes() {
    let queue = Client::from_store(engine()).queue("q");
    let stream = queue.stream();
    queue.enqueue_many(["a", "b", "c"]).await.unwrap();
    let taken: Vec<Bytes> = stream.take(3).map(|value| value.unwrap()).collect().await;
    assert_eq!(taken, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_namespace_has_its_own_queue() {
    let store = engine();
    let options = ConnectOptions::new("memory:").with_namespace("ns/");
    let inside = Client::over(Arc::clone(&store), options).queue("q");
    let outside = Client::from_store(Arc::clone(&store)).queue("q");
    let waiting = tokio::spawn({
        let inside = inside.clone();
        async move { inside.dequeue().await }
    });
    outside.enqueue("outside").await.unwrap();
    Client::from_store(store)
        .queue("ns/q")
        .enqueue("inside")
        .await
        .unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "inside");
    assert_eq!(outside.len().await.unwrap(), 1);
}
