//! What the consumer believes of the queue must not outlive the reasons for it.

use super::*;

/// How long a dequeue may take that has nothing to wait for.
const PROMPT: Duration = Duration::from_secs(30);

/// Numbers from 0 on, as values.
fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Takes the first item by a look that was so slow that the next one from the start is not due.
async fn dequeue_slowly(faulty: &Faulty, queue: &Queue) -> Bytes {
    faulty.close_gate(0);
    let taken = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    assert!(faulty.wait_at_gate().await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    faulty.open_gate();
    taken.await.unwrap().unwrap()
}

async fn prompt(queue: &Queue) -> Bytes {
    let taken = tokio::time::timeout(PROMPT, queue.dequeue()).await;
    taken.expect("the queue is not empty").unwrap()
}

#[tokio::test]
async fn an_error_skips_nothing_of_what_was_seen_and_not_taken() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let healthy = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
    healthy.enqueue_many(numbers(300)).await.unwrap();
    let queue = faulty.client(LONG).queue("q");
    assert_eq!(dequeue_slowly(&faulty, &queue).await, "0");
    faulty.script([Fault::Refuse]);
    assert!(queue.dequeue().await.unwrap_err().is_retryable());
    assert_eq!(prompt(&queue).await, "1");
}

#[tokio::test]
async fn a_look_that_saw_only_a_part_leads_to_the_rest() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let queue = faulty.client(LONG).queue("q");
    // A look, the watch; before the look that completes it 300 items come.
    faulty.close_gate(2);
    let waiting = tokio::spawn(async move { queue.dequeue().await });
    assert!(faulty.wait_at_gate().await);
    let healthy = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
    healthy.enqueue_many(numbers(300)).await.unwrap();
    faulty.close_gate(0);
    assert!(faulty.wait_at_gate().await, "the claim");
    // All that the look can have seen is taken by others.
    let mut others = 0;
    while others < 256 {
        others += healthy.dequeue_many(256 - others).await.unwrap().len();
    }
    faulty.open_gate();
    let value = tokio::time::timeout(PROMPT, waiting).await;
    assert_eq!(
        value.expect("the queue is not empty").unwrap().unwrap(),
        "256"
    );
}

/// One try: false when the consumer has not held back long enough for the watch to fall meanwhile.
async fn a_watch_falls_while_a_consumer_holds_back() -> bool {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let queue = faulty.client(LONG).queue("q");
    let healthy = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
    let waiting = tokio::spawn(async move { queue.dequeue().await });
    until(|| faulty.ranges() >= 2).await;
    // A claim that takes long and is lost: next time the consumer holds back.
    faulty.close_gate(0);
    healthy.enqueue("rival's").await.unwrap();
    assert!(faulty.wait_at_gate().await, "the claim");
    assert_eq!(healthy.dequeue().await.unwrap(), "rival's");
    tokio::time::sleep(Duration::from_millis(120)).await;
    faulty.close_gate(0);
    tokio::time::sleep(Duration::from_millis(20)).await;
    healthy.enqueue("bait").await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    faulty.end_watches(WatchEnd::Closed);
    assert!(faulty.wait_at_gate().await, "a watch or a claim");
    if faulty.watches() == 1 {
        waiting.abort();
        return false;
    }
    // What comes before the new watch stands is not reported.
    assert_eq!(healthy.dequeue().await.unwrap(), "bait");
    healthy.enqueue("in the gap").await.unwrap();
    faulty.open_gate();
    let taken = tokio::time::timeout(PROMPT, waiting).await;
    let value = taken.expect("the queue is not empty").unwrap().unwrap();
    assert_eq!(value, "in the gap");
    true
}

#[tokio::test]
async fn a_watch_that_falls_while_a_consumer_holds_back_is_noticed() {
    for _ in 0..20 {
        if a_watch_falls_while_a_consumer_holds_back().await {
            return;
        }
    }
    panic!("the consumer never held back");
}

#[tokio::test]
async fn one_producers_values_stay_in_order_although_anothers_clock_is_ahead() {
    const NOW: u64 = 1_790_000_000_000_000_000;
    const MILLI: u64 = 1_000_000;
    let faulty = Faulty::over(engine(), Replies::Certain);
    let producer = |nanos| {
        let clock = Arc::new(ManualClock::new());
        clock.set_unix_nanos(nanos);
        let options = ConnectOptions::new("memory:").with_clock(clock.clone());
        let queue = options.over(Arc::clone(&faulty.engine)).queue("q");
        (queue, clock)
    };
    let (ahead, _) = producer(NOW + 300 * MILLI);
    let (behind, clock) = producer(NOW);
    ahead.enqueue_many(["x", "y"]).await.unwrap();
    let queue = faulty.client(LONG).queue("q");
    assert_eq!(dequeue_slowly(&faulty, &queue).await, "x");
    behind.enqueue("1").await.unwrap();
    clock.set_unix_nanos(NOW + 600 * MILLI);
    behind.enqueue("2").await.unwrap();
    for expected in ["y", "1", "2"] {
        assert_eq!(prompt(&queue).await, expected);
    }
}

#[tokio::test]
async fn clearing_does_not_run_after_what_comes_meanwhile() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let healthy = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
    healthy.enqueue_many(numbers(10)).await.unwrap();
    let queue = faulty.client(LONG).queue("q");
    faulty.close_gate(1);
    let cleared = tokio::spawn(async move { queue.clear().await });
    assert!(faulty.wait_at_gate().await, "the first deletion");
    healthy.enqueue("new").await.unwrap();
    faulty.open_gate();
    assert_eq!(cleared.await.unwrap().unwrap(), 10);
    assert_eq!(drain(&faulty.engine, "q").await, ["new"]);
}

#[tokio::test]
async fn values_that_go_back_keep_their_order() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let queue = client.queue("q");
    let values = numbers(8);
    queue.enqueue_many(&values).await.unwrap();
    // The claim is on its way when its caller leaves.
    let before = faulty.txns();
    faulty.close_gate(0);
    let caller = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue_many(8).await }
    });
    txn_at_gate(&faulty, before).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    // The first that goes back is held up.
    faulty.script([Fault::None, Fault::Refuse]);
    faulty.open_gate();
    client.close().await.unwrap();
    assert_eq!(drain(&faulty.engine, "q").await, values);
}

#[tokio::test]
async fn an_item_goes_back_although_its_client_is_gone() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    queue.enqueue("a").await.unwrap();
    let before = faulty.txns();
    faulty.close_gate(0);
    let caller = tokio::spawn(async move { queue.dequeue().await });
    txn_at_gate(&faulty, before).await;
    // With it goes the last handle of the client.
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    faulty.script([Fault::None, Fault::Refuse, Fault::Drop]);
    faulty.open_gate();
    let healthy = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
    until_async(async || healthy.len().await.unwrap() == 0).await;
    until_async(async || healthy.len().await.unwrap() == 1).await;
}

#[tokio::test]
async fn a_timeout_without_end_is_no_overflow() {
    for replies in [Replies::Certain, Replies::Lossy] {
        let faulty = Faulty::over(engine(), replies);
        let client = faulty.client(Duration::MAX);
        let queue = client.queue("q");
        queue.enqueue("a").await.unwrap();
        assert_eq!(queue.len().await.unwrap(), 1);
        assert_eq!(queue.dequeue().await.unwrap(), "a");
        client.session().await.unwrap().close().await.unwrap();
        client.close().await.unwrap();
    }
}
