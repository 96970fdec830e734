//! Callers that are dropped at every step.

use super::*;

/// How a caller is dropped while its call stands at the n-th step.
async fn drop_at_step(replies: Replies, step: usize, waits: bool) {
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
    // There are two steps at least.
    assert!(stops_at_gate(&faulty).await || step >= 2 || faulty.wait_at_gate().await);
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
async fn a_dropped_dequeue_hands_its_item_to_the_next_local_caller() {
    // Certain: a client that sweeps dead lanes has calls of its own on their way.
    let faulty = Faulty::over(engine(), Replies::Certain);
    let queue = faulty.client(LONG).queue("q");
    queue.enqueue("a").await.unwrap();
    // The look and then the claim: it stands at the gate.
    faulty.close_gate(1);
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    assert!(faulty.wait_at_gate().await);
    let mut second = Box::pin(queue.dequeue());
    // The second waits at the desk behind the first, which goes.
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let before = faulty.txns();
    faulty.open_gate();
    assert_eq!(second.await.unwrap(), "a");
    // It did not have to be put back and taken again.
    assert_eq!(faulty.txns(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_was_handed_over_but_never_fetched_goes_on() {
    for again in [true, false] {
        let faulty = Faulty::new();
        let client = faulty.client(LONG);
        let queue = client.queue("q");
        queue.enqueue("a").await.unwrap();
        {
            let mut caller = std::pin::pin!(queue.dequeue());
            assert!(futures_util::poll!(caller.as_mut()).is_pending());
            let left = async || queue.len().await.unwrap();
            until_async(async || left().await == 0).await;
            // The claim has been answered; the item lies in the caller's hand, unseen.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if again {
            let next = tokio::time::timeout(LONG, queue.dequeue()).await;
            assert_eq!(next.expect("the item").unwrap(), "a");
        } else {
            client.close().await.unwrap();
            assert_eq!(drain(&faulty.engine, "q").await, ["a"]);
        }
    }
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
        tokio::select! {
            stopped = faulty.wait_at_gate() => assert!(stopped, "step {step}"),
            () = until(|| caller.is_finished()) => assert!(step >= 3, "step {step}"),
        }
        caller.abort();
        let finished = caller.await.is_ok();
        faulty.open_gate();
        client.close().await.unwrap();
        let left = drain(&faulty.engine, "q").await;
        assert!(left.len() <= 1, "step {step}: {left:?}");
        if finished {
            assert_eq!(left.len(), 1, "step {step}");
        }
    }
}
