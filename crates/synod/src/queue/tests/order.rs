//! Keys, order, neighbours, sizes.

use super::*;

#[tokio::test]
async fn keys_as_go_writes_them_come_out_by_modification_revision() {
    let store = engine();
    // Clocks that disagree: the keys are in another order than the puts.
    for (key, value) in [
        ("q/1790000000000000300", "first"),
        ("q/1790000000000000200", "second"),
        ("q/1790000000000000100", "third"),
    ] {
        put(&store, key, value).await;
    }
    // A put on an item moves it to the end.
    put(&store, "q/1790000000000000200", "second, again").await;
    assert_eq!(
        drain(&store, "q").await,
        ["first", "third", "second, again"]
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
    let queue = options.over(Arc::clone(&store)).queue("q");
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
async fn a_blocked_dequeue_survives_whatever_ends_its_watch() {
    for end in [WatchEnd::Compacted, WatchEnd::Closed, WatchEnd::Broken] {
        let faulty = Faulty::new();
        let queue = faulty.client(LONG).queue("q");
        let waiting = tokio::spawn(async move { queue.dequeue().await });
        // Two looks before the watch stands, and one after.
        until(|| faulty.watches() >= 1 && faulty.ranges() >= 2).await;
        faulty.end_watches(end);
        put(&faulty.engine, "q/1790000000000000000", "a").await;
        let value = tokio::time::timeout(LONG, waiting).await.expect("a value");
        assert_eq!(value.unwrap().unwrap(), "a", "{end:?}");
    }
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
    let inside = options.over(Arc::clone(&store)).queue("q");
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
