//! Enqueues of several callers that go together, and claims for several callers.

use super::faults::{for_each_script, scripts};
use super::*;
use crate::Result;
use tokio::task::JoinHandle;

/// Waits until more callers than these are in line or on their way.
async fn lined_up(queue: &Queue, before: usize) {
    let begin = std::time::Instant::now();
    while queue.core.in_line() <= before {
        assert!(begin.elapsed() < LONG, "nobody has come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Starts so many enqueues, one after the other.
async fn start(queue: &Queue, numbers: std::ops::Range<usize>) -> Vec<JoinHandle<Result<()>>> {
    let mut calls = Vec::new();
    for number in numbers {
        let before = queue.core.in_line();
        let call = tokio::spawn({
            let queue = queue.clone();
            async move { queue.enqueue(format!("{number:03}")).await }
        });
        calls.push(call);
        // In line, or on its way.
        lined_up(queue, before).await;
    }
    calls
}

/// A queue whose line is held up: as many calls as may be on their way stand at the gate.
async fn held_up(
    faulty: &Faulty,
    timeout: Duration,
) -> (Client, Queue, Vec<JoinHandle<Result<()>>>) {
    let client = faulty.client(timeout);
    let queue = client.queue("q");
    queue.enqueue("before").await.unwrap();
    if faulty.replies() == Replies::Lossy {
        // Its sweep of dead lanes has been at the gate.
        while faulty.ranges() < 2 {
            tokio::task::yield_now().await;
        }
    }
    faulty.close_gate(0);
    let first = start(&queue, 0..Fifo::FLYING).await;
    (client, queue, first)
}

async fn numbers(faulty: &Faulty) -> Vec<String> {
    let values = drain(&faulty.engine, "q").await;
    let text = |value: Bytes| String::from_utf8(value.to_vec()).unwrap();
    values.into_iter().map(text).skip(1).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_come_while_others_are_on_their_way_go_together_in_order() {
    for replies in [Replies::Certain, Replies::Lossy] {
        let faulty = Faulty::over(engine(), replies);
        let (client, queue, mut calls) = held_up(&faulty, LONG).await;
        calls.extend(start(&queue, Fifo::FLYING..100).await);
        let before = faulty.txns();
        faulty.open_gate();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(faulty.txns() - before, 1, "99 values in one Txn");
        let stats = queue.stats();
        assert_eq!((stats.enqueued, stats.puts), (101, Fifo::FLYING as u64 + 2));
        client.close().await.unwrap();
        // The first went on its own: the others go when it has landed.
        let expected: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
        let (alone, together) = expected.split_at(Fifo::FLYING);
        let (mut first, others): (Vec<_>, Vec<_>) = numbers(&faulty)
            .await
            .into_iter()
            .partition(|number| alone.contains(number));
        first.sort();
        assert_eq!(first, alone, "{replies:?}");
        assert_eq!(others, together, "{replies:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_takes_nobody_along() {
    for sent in [false, true] {
        let faulty = Faulty::new();
        let (client, queue, mut calls) = held_up(&faulty, LONG).await;
        calls.extend(start(&queue, Fifo::FLYING..10).await);
        if sent {
            // Those on their way get through; the joined one stands at the gate.
            faulty.close_gate_behind(Fifo::FLYING);
            for call in calls.drain(..Fifo::FLYING) {
                call.await.unwrap().unwrap();
            }
            assert!(faulty.wait_at_gate().await);
        }
        let gone = calls.remove(if sent { 5 - Fifo::FLYING } else { 5 });
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        faulty.open_gate();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        client.close().await.unwrap();
        let numbers = numbers(&faulty).await;
        let others = numbers.iter().filter(|number| *number != "005").count();
        assert_eq!(others, 9);
        // On its way it goes with the others; in line it never goes.
        assert_eq!(numbers.len(), if sent { 10 } else { 9 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joined_values_go_in_once_whatever_is_lost() {
    for_each_script(scripts(4), move |script| async move {
        let faulty = Faulty::new();
        let (client, queue, mut calls) = held_up(&faulty, LONG).await;
        calls.extend(start(&queue, Fifo::FLYING..8).await);
        faulty.script(script.clone());
        faulty.open_gate();
        for call in calls {
            let done = call.await.unwrap();
            done.unwrap_or_else(|error| panic!("{script:?}: {error}"));
        }
        faulty.deliver_late().await;
        client.close().await.unwrap();
        let mut numbers = numbers(&faulty).await;
        numbers.sort();
        let expected: Vec<String> = (0..8).map(|number| format!("{number:03}")).collect();
        assert_eq!(numbers, expected, "{script:?}");
        faulty.deliver_late().await;
        assert!(drain(&faulty.engine, "q").await.is_empty(), "{script:?}");
    })
    .await;
}

#[tokio::test]
async fn callers_whose_outcome_is_unknown_share_a_token_that_tells() {
    for fault in [Fault::Lose, Fault::Drop, Fault::Late] {
        let faulty = Faulty::new();
        let (client, queue, mut calls) = held_up(&faulty, LONG).await;
        calls.extend(start(&queue, Fifo::FLYING..6).await);
        faulty.close_gate_behind(Fifo::FLYING);
        for call in calls.drain(..Fifo::FLYING) {
            call.await.unwrap().unwrap();
        }
        assert!(faulty.wait_at_gate().await);
        // The joined Txn meets the fault; nothing gets through after it.
        faulty.script([fault]);
        faulty.let_one_more_through();
        assert!(faulty.wait_at_gate().await, "the next copy");
        pass(LONG).await;
        let mut tokens = Vec::new();
        for call in calls {
            let error = call.await.unwrap().expect_err("nothing can answer");
            tokens.push(error.token().unwrap_or_else(|| panic!("{error}")).clone());
        }
        tokens.dedup();
        assert_eq!(tokens.len(), 1);
        faulty.open_gate();
        let mut resolutions = Vec::new();
        for _ in 0..4 {
            resolutions.push(client.resolve(&tokens[0]).await.unwrap());
        }
        resolutions.dedup();
        faulty.deliver_late().await;
        client.close().await.unwrap();
        let joined = numbers(&faulty).await.len() - Fifo::FLYING;
        let together = 6 - Fifo::FLYING;
        match resolutions[..] {
            [Resolution::Happened] => assert_eq!(joined, together, "{fault:?}"),
            [Resolution::NeverWill] => assert_eq!(joined, 0, "{fault:?}"),
            _ => panic!("{fault:?}: {resolutions:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_refuses_is_refused_to_its_caller_alone() {
    for replies in [Replies::Certain, Replies::Lossy] {
        let faulty = Faulty::over(engine(), replies);
        let (client, queue, mut calls) = held_up(&faulty, LONG).await;
        calls.extend(start(&queue, Fifo::FLYING..5).await);
        let large = tokio::spawn({
            let queue = queue.clone();
            async move { queue.enqueue(vec![0; 2000]).await }
        });
        lined_up(&queue, 5).await;
        calls.extend(start(&queue, 5..9).await);
        faulty.limit_bytes(1500);
        faulty.open_gate();
        let error = large.await.unwrap().unwrap_err();
        assert!(
            matches!(error, Error::ValueTooLarge { size: 2000, .. }),
            "{error}"
        );
        for call in calls {
            call.await.unwrap().unwrap();
        }
        client.close().await.unwrap();
        let mut numbers = numbers(&faulty).await;
        numbers.sort();
        let expected: Vec<String> = (0..9).map(|number| format!("{number:03}")).collect();
        assert_eq!(numbers, expected, "{replies:?}");
    }
}

#[tokio::test]
async fn who_waits_in_line_for_too_long_is_not_sent() {
    let faulty = Faulty::new();
    let (client, queue, mut calls) = held_up(&faulty, LONG).await;
    calls.extend(start(&queue, Fifo::FLYING..4).await);
    pass(LONG).await;
    for call in calls.drain(Fifo::FLYING..) {
        let error = call.await.unwrap().unwrap_err();
        // It has left the line, or was on its way as the first had given up.
        assert!(error.is_timeout(), "{error}");
        if !error.is_maybe_committed() {
            assert!(matches!(error, Error::Timeout { .. }), "{error}");
        }
    }
    for call in calls {
        assert!(call.await.unwrap().unwrap_err().is_maybe_committed());
    }
    faulty.open_gate();
    client.close().await.unwrap();
}

#[test]
fn a_runtime_that_ends_leaves_others_in_line() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let client = faulty.client(LONG);
    let queue = client.queue("q");
    let (dying, living) = (runtime(), runtime());
    dying.block_on(queue.enqueue("before")).unwrap();
    faulty.close_gate(0);
    let first = dying.block_on(start(&queue, 0..Fifo::FLYING));
    let second = living.block_on(start(&queue, Fifo::FLYING..5));
    // With it end the calls on their way, and the task that was to send the others.
    drop(dying);
    drop(first);
    faulty.open_gate();
    living.block_on(async {
        for call in second {
            call.await.unwrap().unwrap();
        }
        let mut numbers = numbers(&faulty).await;
        // They have entered the line anew, in any order.
        numbers.sort();
        let expected: Vec<String> = (2..5).map(|number| format!("{number:03}")).collect();
        assert_eq!(numbers[numbers.len() - 3..], expected);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joined_claim_loses_nothing_when_callers_leave() {
    for replies in [Replies::Certain, Replies::Lossy] {
        for step in 0..5 {
            let faulty = Faulty::over(engine(), replies);
            let healthy = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
            let values: Vec<String> = (0..6).map(|number| number.to_string()).collect();
            healthy.enqueue_many(&values).await.unwrap();
            let client = faulty.client(LONG);
            let queue = client.queue("q");
            faulty.close_gate(step);
            let mut callers = Vec::new();
            for _ in 0..6 {
                let queue = queue.clone();
                callers.push(tokio::spawn(async move { queue.dequeue().await }));
            }
            stops_at_gate(&faulty).await;
            for caller in callers.iter().step_by(2) {
                caller.abort();
            }
            faulty.open_gate();
            let mut all = Vec::new();
            for caller in callers {
                match tokio::time::timeout(LONG, caller).await.expect("an item") {
                    Ok(value) => all.push(value.unwrap()),
                    Err(left) => assert!(left.is_cancelled()),
                }
            }
            drop(queue);
            client.close().await.unwrap();
            all.extend(drain(&faulty.engine, "q").await);
            all.sort();
            assert_eq!(all, values, "step {step}, {replies:?}");
        }
    }
}
