//! Keys, order, names, sizes.

use super::*;
use crate::queue::Order;

#[tokio::test]
async fn lower_numbers_come_out_first_and_equal_ones_as_they_went_in() {
    for client in [Client::from_store(engine()), Faulty::new().client(LONG)] {
        let queue = client.priority_queue("q");
        for (value, priority) in [("third", 3), ("first", 1), ("second", 2), ("first too", 1)] {
            queue.enqueue(value, priority).await.unwrap();
        }
        for expected in ["first", "first too", "second", "third"] {
            assert_eq!(queue.dequeue().await.unwrap(), expected);
        }
        assert_eq!(queue.try_dequeue().await.unwrap(), None);
    }
}

#[tokio::test]
async fn keys_are_those_of_gos_recipe() {
    let store = engine();
    let queue = Client::from_store(Arc::clone(&store)).priority_queue("q");
    queue.enqueue("a", 7).await.unwrap();
    queue
        .enqueue_many([("b", 65_535), ("c", 7), ("d", 0)])
        .await
        .unwrap();
    let all = store
        .range(RangeRequest::new(KeyRange::all()))
        .await
        .unwrap();
    let all: Vec<(String, Bytes)> = all
        .kvs
        .into_iter()
        .map(|kv| {
            assert_eq!(kv.lease, None);
            (kv.key.to_string(), kv.value)
        })
        .collect();
    let expected = [
        ("__q/00000", ""),
        ("__q/00007", ""),
        ("__q/65535", ""),
        ("q/00000/0000000000000000", "d"),
        ("q/00007/0000000000000000", "a"),
        ("q/00007/0000000000000001", "c"),
        ("q/65535/0000000000000000", "b"),
    ];
    assert_eq!(
        all,
        expected.map(|(key, value)| (key.to_owned(), value.into()))
    );
    let listed = queue.list(9).await.unwrap();
    let listed: Vec<(u16, Bytes)> = listed
        .into_iter()
        .map(|item| (item.priority, item.value))
        .collect();
    assert_eq!(
        listed,
        [(0, "d"), (7, "a"), (7, "c"), (65_535, "b")].map(|(p, v)| (p, Bytes::from(v)))
    );
    let first = queue.peek().await.unwrap().unwrap();
    assert_eq!((first.priority, &first.value[..]), (0, &b"d"[..]));
}

#[tokio::test]
async fn go_and_we_take_turns_in_one_priority() {
    let store = engine();
    let queue = Client::from_store(Arc::clone(&store)).priority_queue("q");
    let mut expected = Vec::new();
    for number in 0..20 {
        let value = number.to_string();
        if number % 3 == 0 {
            queue.enqueue(&value, 7).await.unwrap();
        } else {
            go_enqueue(&*store, "q", &value, 7).await;
        }
        expected.push(value);
    }
    assert_eq!(drain(&store, "q").await, expected);
    // Go's numbers begin anew when a priority is empty.
    let key = go_enqueue(&*store, "q", "anew", 7).await;
    assert_eq!(key, Key::from("q/00007/0000000000000000"));
    queue.enqueue("behind it", 7).await.unwrap();
    go_enqueue(&*store, "q", "behind both", 7).await;
    assert_eq!(
        drain(&store, "q").await,
        ["anew", "behind it", "behind both"]
    );
    check_history(&store, "q").await;
}

#[tokio::test]
async fn a_read_of_gos_that_is_overtaken_overwrites_nothing() {
    let store = engine();
    let client = Client::from_store(Arc::clone(&store));
    let queue = client.priority_queue("q");
    queue.enqueue("a", 7).await.unwrap();
    // Go has read that the priority is empty: its Txn carries this revision.
    let taken = queue
        .core
        .ask(1, false)
        .unwrap()
        .await
        .unwrap()
        .pop()
        .unwrap();
    let read = store.range(RangeRequest::new("q/00007")).await.unwrap();
    let base = Key::from("__q/00007");
    let unchanged =
        Compare::mod_revision(base.clone(), CompareOp::Less, read.header.revision.next());
    // Then the item comes back.
    let back = client.settle().run(queue.core.order.back(&taken)).await;
    assert!(matches!(back, Ok(crate::settle::Outcome::Done { .. })));
    let txn = Txn::new().when([unchanged]).and_then([
        PutRequest::new(base, ""),
        PutRequest::new("q/00007/0000000000000000", "Go's"),
    ]);
    assert!(!store.txn(txn).await.unwrap().succeeded);
    assert_eq!(drain(&store, "q").await, ["a"]);
}

#[tokio::test]
async fn a_key_that_somebody_wrote_by_hand_is_not_overwritten() {
    let store = engine();
    let queue = Client::from_store(Arc::clone(&store)).priority_queue("q");
    queue.enqueue("a", 7).await.unwrap();
    // Without the base, as the recipe would have it.
    put(&store, "q/00007/0000000000000001", "by hand").await;
    queue.enqueue("b", 7).await.unwrap();
    assert_eq!(drain(&store, "q").await, ["a", "by hand", "b"]);
}

#[tokio::test]
async fn what_others_put_in_is_compared_although_its_key_is_gone() {
    let store = engine();
    let queue = Client::from_store(Arc::clone(&store)).priority_queue("q");
    queue.enqueue("a", 7).await.unwrap();
    for number in 1..4 {
        let key = go_enqueue(&*store, "q", &number.to_string(), 7).await;
        assert_eq!(key, Key::from(format!("q/00007/{number:016}")));
    }
    // The next number that we knew of is free again, but it is not the end any more.
    let gone = synod_store::DeleteRequest::new("q/00007/0000000000000001");
    store.delete(gone).await.unwrap();
    queue.enqueue("b", 7).await.unwrap();
    assert_eq!(drain(&store, "q").await, ["a", "2", "3", "b"]);
}

#[tokio::test]
async fn numbers_that_are_used_up_are_an_error_until_the_last_is_taken() {
    let store = engine();
    put(&store, "q/00007/9999999999999999", "the last").await;
    let queue = Client::from_store(Arc::clone(&store)).priority_queue("q");
    let error = queue.enqueue("a", 7).await.unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    assert!(
        error.to_string().contains("q/00007/9999999999999999"),
        "{error}"
    );
    queue.enqueue("b", 8).await.unwrap();
    assert_eq!(queue.dequeue().await.unwrap(), "the last");
    queue.enqueue("a", 7).await.unwrap();
    assert_eq!(drain(&store, "q").await, ["a", "b"]);
}

#[tokio::test]
async fn a_priority_queue_and_a_queue_of_one_name_are_apart() {
    let store = engine();
    let client = Client::from_store(Arc::clone(&store));
    let neighbours = [
        "ab/00001/0000000000000000",
        "a/x/00001/0000000000000000",
        "a/00001/x/0000000000000000",
        "a/00001/0000000000000000/x",
        "a/70000/0000000000000000",
        "a",
        "__a/00001",
        "a//00001/0000000000000000",
    ];
    for key in neighbours {
        put(&store, key, "not yours").await;
    }
    // More neighbours than fit into one look, before, between and below the items.
    let plain = client.queue("a");
    let values: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    plain.enqueue_many(&values).await.unwrap();
    for number in 0..600 {
        put(
            &store,
            &format!("a/00001/0000000000000000/{number}"),
            "not yours",
        )
        .await;
    }
    let queue = client.priority_queue("a");
    assert_eq!(queue.try_dequeue().await.unwrap(), None);
    assert_eq!(queue.len().await.unwrap(), 0);
    queue
        .enqueue_many([("2", 40_000), ("1", 1), ("0", 0)])
        .await
        .unwrap();
    assert_eq!(queue.len().await.unwrap(), 3);
    assert_eq!(plain.len().await.unwrap(), 600);
    assert_eq!(queue.peek().await.unwrap().unwrap().value, "0");
    assert_eq!(queue.dequeue().await.unwrap(), "0");
    assert_eq!(queue.dequeue().await.unwrap(), "1");
    assert_eq!(queue.clear().await.unwrap(), 1);
    assert_eq!(plain.dequeue().await.unwrap(), "0");
    assert_eq!(plain.clear().await.unwrap(), 599);
    let waiting = Duration::from_millis(20);
    assert_eq!(queue.dequeue_timeout(waiting).await.unwrap(), None);
    let all = RangeRequest::new(KeyRange::all()).count_only();
    // And the bases of the three priorities, one of which was a neighbour.
    assert_eq!(store.range(all).await.unwrap().count, 8 + 600 + 2);
}

#[tokio::test]
async fn a_name_of_synods_own_is_refused() {
    let client = Client::from_store(engine());
    for name in ["__synod", "__synod/lane", "synod", "synod/lane"] {
        let error = client
            .priority_queue(name)
            .enqueue("a", 1)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::ReservedName { .. }), "{error}");
    }
    client
        .priority_queue("synodic")
        .enqueue("a", 1)
        .await
        .unwrap();
}

#[tokio::test]
async fn many_values_of_many_priorities_take_few_txns() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).priority_queue("q");
    queue.enqueue("before", 9).await.unwrap();
    let entries: Vec<(String, u16)> = (0..500).map(|n| (format!("{n:03}"), n % 5)).collect();
    let before = faulty.txns() + faulty.ranges();
    queue.enqueue_many(entries.clone()).await.unwrap();
    let requests = faulty.txns() + faulty.ranges() - before;
    // (500 values + 5 bases a Txn) / 125, and one look-up.
    assert!(requests <= 6, "{requests}");
    let mut expected = entries;
    expected.sort_by_key(|(_, priority)| *priority);
    expected.push(("before".to_owned(), 9));
    let mut taken = Vec::new();
    while taken.len() < 501 {
        taken.extend(queue.dequeue_many(100).await.unwrap());
    }
    let expected: Vec<String> = expected.into_iter().map(|(value, _)| value).collect();
    assert_eq!(taken, expected);
    check_history(&faulty.engine, "q").await;
}

#[tokio::test]
async fn values_of_any_size_come_out_in_order_and_whole() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).priority_queue("q");
    let sizes = [0, 1, 5000, 100_000, 1_000_000, 3, 4096, 4097, 0];
    let values: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![size as u8; size]).collect();
    let entries = values.iter().zip([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    queue.enqueue_many(entries).await.unwrap();
    let mut taken = Vec::new();
    while taken.len() < values.len() {
        taken.extend(queue.dequeue_many(3).await.unwrap());
    }
    assert_eq!(taken, values);
    let error = queue
        .enqueue_many([(vec![0; 3 << 20], 1)])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ValueTooLarge { .. }), "{error:?}");
    queue.enqueue("after", 1).await.unwrap();
    assert_eq!(queue.dequeue().await.unwrap(), "after");
}

#[tokio::test]
async fn a_blocked_dequeue_survives_compaction() {
    let store = engine();
    let client = Client::from_store(Arc::clone(&store));
    let queue = client.priority_queue("q");
    let waiting = tokio::spawn(async move { queue.dequeue().await });
    for number in 0..50 {
        let put = store
            .put(PutRequest::new("other", number.to_string()))
            .await;
        store
            .compact(put.unwrap().header.revision, true)
            .await
            .unwrap();
    }
    assert!(!waiting.is_finished());
    let other = Client::from_store(store).priority_queue("q");
    other.enqueue("a", 65_535).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "a");
}

#[tokio::test]
async fn a_blocked_dequeue_survives_whatever_ends_its_watch() {
    for end in [WatchEnd::Compacted, WatchEnd::Closed, WatchEnd::Broken] {
        let faulty = Faulty::new();
        let queue = faulty.client(LONG).priority_queue("q");
        let waiting = tokio::spawn(async move { queue.dequeue().await });
        until(|| faulty.watches() >= 1 && faulty.ranges() >= 2).await;
        faulty.end_watches(end);
        go_enqueue(&*faulty.engine, "q", "a", 3).await;
        let value = tokio::time::timeout(LONG, waiting).await.expect("a value");
        assert_eq!(value.unwrap().unwrap(), "a", "{end:?}");
    }
}

#[tokio::test]
async fn a_namespace_has_its_own_queue() {
    let store = engine();
    let options = ConnectOptions::new("memory:").with_namespace("ns/");
    let inside = options.over(Arc::clone(&store)).priority_queue("q");
    let outside = Client::from_store(Arc::clone(&store)).priority_queue("q");
    inside.enqueue_many([("b", 2), ("a", 1)]).await.unwrap();
    outside.enqueue("outside", 0).await.unwrap();
    assert_eq!(inside.dequeue().await.unwrap(), "a");
    assert_eq!(inside.dequeue().await.unwrap(), "b");
    assert_eq!(inside.try_dequeue().await.unwrap(), None);
    assert_eq!(outside.len().await.unwrap(), 1);
}

#[tokio::test]
async fn the_stream_yields_what_comes() {
    let queue = Client::from_store(engine()).priority_queue("q");
    let stream = queue.stream();
    queue
        .enqueue_many([("b", 2), ("c", 3), ("a", 1)])
        .await
        .unwrap();
    let taken: Vec<Bytes> = stream.take(3).map(|value| value.unwrap()).collect().await;
    assert_eq!(taken, ["a", "b", "c"]);
}
