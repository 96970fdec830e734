//! Enqueues of several callers, of several priorities, that go together.

use super::*;
use crate::Result;
use crate::queue::tests::faults::{for_each_script, scripts};
use tokio::task::JoinHandle;

/// Holds one enqueue up, and starts so many others behind it, of three priorities in turn.
async fn start(faulty: &Faulty, queue: &PriorityQueue, count: u16) -> Vec<JoinHandle<Result<()>>> {
    queue.enqueue("before", 9).await.unwrap();
    if faulty.replies() == Replies::Lossy {
        // The sweep of dead lanes has been at the gate.
        while faulty.ranges() < 2 {
            tokio::task::yield_now().await;
        }
    }
    faulty.close_gate(0);
    let mut calls = Vec::new();
    for number in 0..count {
        let queue = queue.clone();
        let before = queue.stats().enqueued;
        let waits = queue.core.in_line();
        calls.push(tokio::spawn({
            let queue = queue.clone();
            async move { queue.enqueue(format!("{number:03}"), number % 3).await }
        }));
        // In line, or on its way.
        while queue.core.in_line() == waits && queue.stats().enqueued == before {
            tokio::task::yield_now().await;
        }
    }
    calls
}

async fn left(faulty: &Faulty) -> Vec<String> {
    let values = drain(&faulty.engine, "q").await;
    let text = |value: Bytes| String::from_utf8(value.to_vec()).unwrap();
    values.into_iter().map(text).collect()
}

/// What comes out when all have gone in.
fn expected(count: u16) -> Vec<String> {
    let of = |priority| (0..count).filter(move |number| number % 3 == priority);
    let all = (0..3).flat_map(of).map(|number| format!("{number:03}"));
    all.chain(["before".to_owned()]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_any_priorities_go_together_in_order() {
    for replies in [Replies::Certain, Replies::Lossy] {
        let faulty = Faulty::over(engine(), replies);
        let client = faulty.client(LONG);
        let queue = client.priority_queue("q");
        let calls = start(&faulty, &queue, 60).await;
        let before = queue.stats().puts;
        faulty.open_gate();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(queue.stats().puts - before, 1, "59 values in one Txn");
        client.close().await.unwrap();
        assert_eq!(left(&faulty).await, expected(60), "{replies:?}");
        check_history(&faulty.engine, "q").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joined_values_go_in_once_whatever_is_lost_and_whoever_is_first() {
    for_each_script(scripts(4), move |script| async move {
        let faulty = Faulty::new();
        let client = faulty.client(LONG);
        let queue = client.priority_queue("q");
        let calls = start(&faulty, &queue, 9).await;
        // Another producer has moved the ends of two priorities meanwhile.
        for priority in [1, 2] {
            go_enqueue(&*faulty.engine, "q", "go", priority).await;
        }
        faulty.script(script.clone());
        faulty.open_gate();
        for call in calls {
            let done = call.await.unwrap();
            done.unwrap_or_else(|error| panic!("{script:?}: {error}"));
        }
        faulty.deliver_late().await;
        client.close().await.unwrap();
        let mut left = left(&faulty).await;
        left.retain(|value| value != "go");
        assert_eq!(left, expected(9), "{script:?}");
        faulty.deliver_late().await;
        assert!(drain(&faulty.engine, "q").await.is_empty(), "{script:?}");
        check_history(&faulty.engine, "q").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_priority_without_room_is_refused_to_its_callers_alone() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let queue = client.priority_queue("q");
    put(&faulty.engine, "q/00001/9999999999999999", "in the way").await;
    let calls = start(&faulty, &queue, 7).await;
    faulty.open_gate();
    for (number, call) in calls.into_iter().enumerate() {
        match call.await.unwrap() {
            Err(error) => {
                assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
                assert_eq!(number % 3, 1);
            }
            Ok(()) => assert_ne!(number % 3, 1),
        }
    }
    client.close().await.unwrap();
    assert_eq!(left(&faulty).await.len(), 1 + 5 + 1);
}
