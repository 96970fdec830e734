//! Callers that are dropped at every step.

use super::*;

/// How a caller is dropped while its call stands at the n-th step.
async fn drop_at_step(replies: Replies, step: usize, waits: bool) {
    let faulty = Faulty::over(engine(), replies);
    let healthy = Client::from_store(Arc::clone(&faulty.engine)).priority_queue("q");
    let client = faulty.client(LONG);
    let queue = client.priority_queue("q");
    if !waits {
        healthy.enqueue_many([("a", 1), ("b", 2)]).await.unwrap();
    }
    faulty.close_gate(step);
    let caller = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    // There are two steps at least.
    assert!(stops_at_gate(&faulty).await || step >= 2 || faulty.wait_at_gate().await);
    if waits {
        healthy.enqueue_many([("a", 1), ("b", 2)]).await.unwrap();
    }
    caller.abort();
    let got = match caller.await {
        Ok(value) => vec![value.unwrap()],
        Err(_) => Vec::new(),
    };
    faulty.open_gate();
    drop(queue);
    client.close().await.unwrap();
    // An item that was on its way is at its old place again.
    let left = drain(&faulty.engine, "q").await;
    assert_eq!(
        [got, left].concat(),
        ["a", "b"],
        "step {step}, waits {waits}, {replies:?}"
    );
    check_history(&faulty.engine, "q").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_dequeue_loses_nothing_at_any_step() {
    for replies in [Replies::Certain, Replies::Lossy] {
        for waits in [false, true] {
            for step in 0..10 {
                drop_at_step(replies, step, waits).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_dropped_at_any_step_is_in_once_or_not() {
    for step in 0..7 {
        let faulty = Faulty::new();
        let client = faulty.client(LONG);
        let queue = client.priority_queue("q");
        faulty.close_gate(step);
        let caller = tokio::spawn({
            let queue = queue.clone();
            async move { queue.enqueue("a", 7).await }
        });
        tokio::select! {
            stopped = faulty.wait_at_gate() => assert!(stopped, "step {step}"),
            () = until(|| caller.is_finished()) => assert!(step >= 4, "step {step}"),
        }
        caller.abort();
        let finished = caller.await.is_ok();
        faulty.open_gate();
        // The next one does not wait for the one that left.
        queue.enqueue("b", 7).await.unwrap();
        client.close().await.unwrap();
        let mut left = drain(&faulty.engine, "q").await;
        left.sort();
        assert!(left == ["b"] || left == ["a", "b"], "step {step}: {left:?}");
        if finished {
            assert_eq!(left.len(), 2, "step {step}");
        }
    }
}

#[tokio::test]
async fn an_item_whose_key_is_in_use_goes_to_the_end_of_its_priority() {
    // Certain: a client that sweeps dead lanes has calls of its own on their way.
    let faulty = Faulty::over(engine(), Replies::Certain);
    let client = faulty.client(LONG);
    let queue = client.priority_queue("q");
    queue.enqueue("a", 7).await.unwrap();
    // The claim is on its way when its caller leaves.
    faulty.close_gate(1);
    let caller = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    assert!(faulty.wait_at_gate().await, "the claim");
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    faulty.close_gate(0);
    assert!(faulty.wait_at_gate().await, "on its way back");
    // Go finds the priority empty, and begins anew.
    let key = go_enqueue(&*faulty.engine, "q", "Go's", 7).await;
    assert_eq!(key, Key::from("q/00007/0000000000000000"));
    faulty.open_gate();
    client.close().await.unwrap();
    assert_eq!(drain(&faulty.engine, "q").await, ["Go's", "a"]);
    check_history(&faulty.engine, "q").await;
}
