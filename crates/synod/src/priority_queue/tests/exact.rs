//! What comes out is the first there is, whatever a consumer has read before.

use super::*;

/// A queue whose consumer has read what is in it, up to 256 items.
async fn with_window(entries: &[(&str, u16)]) -> (Faulty, PriorityQueue) {
    let faulty = Faulty::new();
    let healthy = Client::from_store(Arc::clone(&faulty.engine)).priority_queue("q");
    healthy.enqueue_many(entries.iter().copied()).await.unwrap();
    let queue = faulty.client(LONG).priority_queue("q");
    assert_eq!(queue.dequeue().await.unwrap(), entries[0].0);
    (faulty, queue)
}

#[tokio::test]
async fn an_urgent_item_overtakes_those_that_were_read_before() {
    let (faulty, queue) = with_window(&[("1", 5), ("2", 5), ("3", 6), ("4", 7)]).await;
    let other = Client::from_store(Arc::clone(&faulty.engine)).priority_queue("q");
    other.enqueue("urgent", 2).await.unwrap();
    assert_eq!(queue.dequeue().await.unwrap(), "urgent");
    go_enqueue(&*faulty.engine, "q", "Go's", 0).await;
    assert_eq!(queue.dequeue().await.unwrap(), "Go's");
    other.enqueue("less urgent", 6).await.unwrap();
    let mut rest = Vec::new();
    while rest.len() < 4 {
        rest.extend(queue.dequeue_many(9).await.unwrap());
    }
    assert_eq!(rest, ["2", "3", "less urgent", "4"]);
    check_history(&faulty.engine, "q").await;
}

#[tokio::test]
async fn an_urgent_item_that_comes_during_a_claim_is_not_passed_by() {
    let (faulty, queue) = with_window(&[("1", 5), ("2", 5), ("3", 5)]).await;
    // The claim stands at the gate.
    faulty.close_gate(0);
    let taken = tokio::spawn(async move { queue.dequeue().await });
    assert!(faulty.wait_at_gate().await);
    let other = Client::from_store(Arc::clone(&faulty.engine)).priority_queue("q");
    other.enqueue("urgent", 4).await.unwrap();
    faulty.open_gate();
    assert_eq!(taken.await.unwrap().unwrap(), "urgent");
    assert_eq!(drain(&faulty.engine, "q").await, ["2", "3"]);
    check_history(&faulty.engine, "q").await;
}

#[tokio::test]
async fn what_goes_into_the_same_priority_disturbs_no_claim() {
    let (faulty, queue) = with_window(&[("1", 5), ("2", 5), ("3", 5)]).await;
    let other = Client::from_store(Arc::clone(&faulty.engine)).priority_queue("q");
    other.enqueue("4", 5).await.unwrap();
    other.enqueue("5", 9).await.unwrap();
    let before = faulty.txns() + faulty.ranges();
    for expected in ["2", "3"] {
        assert_eq!(queue.dequeue().await.unwrap(), expected);
    }
    assert_eq!(
        faulty.txns() + faulty.ranges() - before,
        2,
        "one Txn an item"
    );
    for expected in ["4", "5"] {
        assert_eq!(queue.dequeue().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn what_comes_back_comes_out_before_what_others_have_read() {
    let (faulty, queue) = with_window(&[("1", 5), ("2", 5), ("3", 5), ("4", 5)]).await;
    let other = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy);
    let client = other.client(LONG);
    let theirs = client.priority_queue("q");
    assert_eq!(theirs.dequeue().await.unwrap(), "2");
    // Their claim of the next is on its way when its caller leaves.
    other.close_gate(0);
    let caller = tokio::spawn({
        let theirs = theirs.clone();
        async move { theirs.dequeue().await }
    });
    assert!(other.wait_at_gate().await);
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    other.open_gate();
    drop(theirs);
    client.close().await.unwrap();
    for expected in ["3", "4"] {
        assert_eq!(queue.dequeue().await.unwrap(), expected);
    }
    assert_eq!(queue.try_dequeue().await.unwrap(), None);
    check_history(&faulty.engine, "q").await;
}

#[tokio::test]
async fn numbers_that_begin_anew_below_a_cursor_are_found() {
    let (faulty, queue) = with_window(&[("1", 5), ("2", 5), ("3", 6)]).await;
    assert_eq!(queue.dequeue().await.unwrap(), "2");
    // The window is used up to 3; priority 5 is empty, and Go's numbers begin anew.
    let key = go_enqueue(&*faulty.engine, "q", "anew", 5).await;
    assert_eq!(key, Key::from("q/00005/0000000000000000"));
    for expected in ["anew", "3"] {
        assert_eq!(queue.dequeue().await.unwrap(), expected);
    }
    for (value, priority) in [("a", 6), ("b", 6), ("c", 5), ("d", 0)] {
        go_enqueue(&*faulty.engine, "q", value, priority).await;
    }
    for expected in ["d", "c", "a", "b"] {
        assert_eq!(queue.dequeue().await.unwrap(), expected);
    }
    assert_eq!(queue.try_dequeue().await.unwrap(), None);
    check_history(&faulty.engine, "q").await;
}

#[tokio::test]
async fn an_item_goes_to_nobody_who_came_after_it_was_taken() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).priority_queue("q");
    let other = Client::from_store(Arc::clone(&faulty.engine)).priority_queue("q");
    other.enqueue("patient", 5).await.unwrap();
    let mut second = Box::pin(queue.dequeue());
    {
        let mut first = std::pin::pin!(queue.dequeue());
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        // It has been taken for the first caller, and lies in its hand, unseen.
        until_async(async || other.len().await.unwrap() == 0).await;
        other.enqueue("urgent", 1).await.unwrap();
        assert!(futures_util::poll!(second.as_mut()).is_pending());
    }
    // The first has left; the second came when something more urgent was there.
    assert_eq!(second.await.unwrap(), "urgent");
    assert_eq!(queue.dequeue().await.unwrap(), "patient");
    check_history(&faulty.engine, "q").await;
}

#[tokio::test]
async fn a_lost_claim_is_explained_by_the_watch() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let queue = faulty.client(LONG).priority_queue("q");
    let other = Client::from_store(Arc::clone(&faulty.engine)).priority_queue("q");
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    until(|| faulty.watches() >= 1 && faulty.ranges() >= 2).await;
    // Its claim stands at the gate when something more urgent comes.
    faulty.close_gate(0);
    other.enqueue("patient", 5).await.unwrap();
    assert!(faulty.wait_at_gate().await, "the claim");
    other.enqueue("urgent", 1).await.unwrap();
    let reads = faulty.ranges();
    faulty.open_gate();
    assert_eq!(waiting.await.unwrap().unwrap(), "urgent");
    assert_eq!(queue.dequeue().await.unwrap(), "patient");
    assert_eq!(faulty.ranges(), reads, "the watch has told all of it");
}

#[tokio::test]
async fn ten_thousand_items_cost_a_bounded_number_of_requests_each() {
    const ITEMS: usize = 10_000;
    let faulty = Faulty::over(engine(), Replies::Certain);
    let healthy = Client::from_store(Arc::clone(&faulty.engine)).priority_queue("q");
    let entries = (0..ITEMS).map(|number| (format!("{number:05}"), 7));
    healthy.enqueue_many(entries).await.unwrap();
    let queue = faulty.client(LONG).priority_queue("q");
    let requests = || faulty.txns() + faulty.ranges();
    let mut before = requests();
    let mut cost = || {
        let cost = requests() - before;
        before += cost;
        cost
    };
    queue.enqueue("new", 7).await.unwrap();
    let first = cost();
    assert!(
        first <= 6,
        "{first} requests to find the end of the priority"
    );
    for _ in 0..100 {
        queue.enqueue("new", 7).await.unwrap();
    }
    assert_eq!(cost(), 100, "then one each");
    // Somebody else is at the same end.
    healthy.enqueue("theirs", 7).await.unwrap();
    cost();
    queue.enqueue("new", 7).await.unwrap();
    let after_other = cost();
    assert!(after_other <= 3, "{after_other}");
    let read = faulty.answered();
    assert!(read <= 600, "{read} keys were read to put 102 in");
    for number in 0..ITEMS {
        assert_eq!(queue.dequeue().await.unwrap(), format!("{number:05}"));
    }
    let cost = cost();
    // A look for each 256, the last of them short of it: only that one reads its two guessed ends and
    // what lies behind them, three pages instead of one.
    assert!(
        cost <= ITEMS + ITEMS / 256 + 3,
        "{cost} requests for {ITEMS} items"
    );
    let read = faulty.answered() - read;
    assert!(read <= ITEMS + 2 * 256, "{read} keys were read");
    assert_eq!(queue.len().await.unwrap(), 103);
}
