//! Every answer lost, every request late: the effect is there once or never.

use super::*;
use crate::Resolution;
use crate::queue::tests::faults::{for_each_script, scripts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_happens_once_whatever_is_lost() {
    for early in [false, true] {
        // Lease, fence, the enqueue and its repetitions.
        for_each_script(scripts(5), move |script| async move {
            let faulty = Faulty::new();
            let queue = faulty.client(LONG).priority_queue("q");
            faulty.script(script.clone());
            for (value, priority) in [("b", 2), ("c", 2), ("a", 1)] {
                queue
                    .enqueue(value, priority)
                    .await
                    .unwrap_or_else(|error| panic!("{script:?}: {error}"));
                if early {
                    faulty.deliver_late().await;
                }
            }
            assert_eq!(
                drain(&faulty.engine, "q").await,
                ["a", "b", "c"],
                "{script:?}"
            );
            // Copies that come after all of it change nothing either.
            faulty.deliver_late().await;
            assert!(drain(&faulty.engine, "q").await.is_empty(), "{script:?}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_beside_gos_happens_once_whatever_is_lost() {
    for_each_script(scripts(4), move |script| async move {
        let faulty = Faulty::new();
        let queue = faulty.client(LONG).priority_queue("q");
        queue.enqueue("0", 7).await.unwrap();
        faulty.script(script.clone());
        go_enqueue(&*faulty.engine, "q", "1", 7).await;
        for value in ["2", "3"] {
            let put = queue.enqueue(value, 7).await;
            put.unwrap_or_else(|error| panic!("{script:?}: {error}"));
        }
        go_enqueue(&*faulty.engine, "q", "4", 7).await;
        faulty.deliver_late().await;
        let all = drain(&faulty.engine, "q").await;
        assert_eq!(all, ["0", "1", "2", "3", "4"], "{script:?}");
        faulty.deliver_late().await;
        assert!(drain(&faulty.engine, "q").await.is_empty(), "{script:?}");
        check_history(&faulty.engine, "q").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dequeue_takes_once_whatever_is_lost() {
    for large in [false, true] {
        for_each_script(scripts(5), move |script| async move {
            let faulty = Faulty::new();
            let values: Vec<Vec<u8>> = (b'a'..b'f')
                .map(|byte| vec![byte; if large { 10_000 } else { 1 }])
                .collect();
            let healthy = Client::from_store(Arc::clone(&faulty.engine)).priority_queue("q");
            let entries = values.iter().zip([2, 2, 3, 4, 5]).skip(1);
            healthy.enqueue_many(entries).await.unwrap();
            let queue = faulty.client(LONG).priority_queue("q");
            faulty.script(script.clone());
            let mut taken = Vec::new();
            for number in 0..3 {
                let value = queue.dequeue().await;
                taken.push(value.unwrap_or_else(|error| panic!("{script:?}: {error}")));
                faulty.deliver_late().await;
                if number == 0 {
                    healthy.enqueue(&values[0], 1).await.unwrap();
                    taken.rotate_left(1);
                }
            }
            taken.swap(0, 1);
            taken.extend(drain(&faulty.engine, "q").await);
            assert_eq!(taken, values, "{script:?}");
            check_history(&faulty.engine, "q").await;
        })
        .await;
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_rightly() {
    for fault in FAULTS {
        for late in [false, true] {
            let faulty = Faulty::new();
            let client = faulty.client(LONG);
            let queue = client.priority_queue("q");
            queue.enqueue("before", 7).await.unwrap();
            faulty.script([fault]);
            // After the first copy nothing gets through.
            faulty.close_gate(1);
            let enqueue = overdue_at_gate(&faulty, queue.enqueue("a", 7));
            let error = enqueue.await.expect_err("nothing can answer");
            let Some(token) = error.token().cloned() else {
                panic!("{fault:?}: {error}");
            };
            if late {
                faulty.deliver_late().await;
            }
            faulty.open_gate();
            let resolver = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy).client(LONG);
            let resolution = resolver.resolve(&token).await.unwrap();
            faulty.deliver_late().await;
            // The end of the priority may have moved, or not.
            queue.enqueue("after", 7).await.unwrap();
            let left = drain(&faulty.engine, "q").await;
            match resolution {
                Resolution::Happened => assert_eq!(left, ["before", "a", "after"], "{fault:?}"),
                Resolution::NeverWill => assert_eq!(left, ["before", "after"], "{fault:?}"),
                Resolution::Otherwise | Resolution::Forgotten => panic!("{fault:?} {late}"),
            }
        }
    }
}

#[tokio::test]
async fn an_enqueue_that_was_never_sent_says_so() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).priority_queue("q");
    queue.enqueue("before", 7).await.unwrap();
    for priority in [7, 8] {
        faulty.always(Some(Fault::Refuse));
        let enqueue = queue.enqueue("a", priority);
        let error = overdue_in_trouble(&faulty, enqueue).await.unwrap_err();
        assert!(!error.is_maybe_committed(), "{error:?}");
        assert!(error.is_retryable(), "{error:?}");
    }
    faulty.always(None);
    assert_eq!(drain(&faulty.engine, "q").await, ["before"]);
}

#[tokio::test]
async fn a_timeout_without_end_is_no_overflow() {
    for replies in [Replies::Certain, Replies::Lossy] {
        let faulty = Faulty::over(engine(), replies);
        let client = faulty.client(Duration::MAX);
        let queue = client.priority_queue("q");
        queue.enqueue_many([("b", 2), ("a", 1)]).await.unwrap();
        assert_eq!(queue.len().await.unwrap(), 2);
        assert_eq!(queue.dequeue_many(2).await.unwrap(), ["a", "b"]);
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn producers_that_are_always_first_end_an_enqueue_in_time() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let queue = faulty.client(LONG).priority_queue("q");
    queue.enqueue("before", 7).await.unwrap();
    // Before each of its Txns another producer puts something in.
    faulty.close_gate(0);
    let mine = tokio::spawn(async move { queue.enqueue("a", 7).await });
    for _ in 0..20 {
        assert!(faulty.wait_at_gate().await, "it tries again");
        go_enqueue(&*faulty.engine, "q", "Go's", 7).await;
        faulty.close_gate(0);
    }
    assert!(faulty.wait_at_gate().await, "it tries again");
    go_enqueue(&*faulty.engine, "q", "Go's", 7).await;
    pass(LONG).await;
    faulty.open_gate();
    let error = soon(mine).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    faulty.open_gate();
    let left = drain(&faulty.engine, "q").await;
    assert!(!left.contains(&Bytes::from("a")));
}

#[tokio::test]
async fn an_item_that_cannot_be_put_back_waits_for_the_next_caller() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let queue = client.priority_queue("q");
    queue.enqueue("a", 7).await.unwrap();
    let before = faulty.txns();
    faulty.close_gate(0);
    let caller = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await }
    });
    txn_at_gate(&faulty, before).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    // It goes back although the network stumbles, and its key is Go's meanwhile.
    faulty.script([Fault::None, Fault::Refuse, Fault::Drop, Fault::Lose]);
    faulty.open_gate();
    let healthy = Client::from_store(Arc::clone(&faulty.engine)).priority_queue("q");
    until_async(async || healthy.len().await.unwrap() == 1).await;
    client.close().await.unwrap();
    assert_eq!(drain(&faulty.engine, "q").await, ["a"]);
}
