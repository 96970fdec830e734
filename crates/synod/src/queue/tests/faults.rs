//! Every answer lost, every request late: the effect is there once or never.

use super::*;
use crate::Result;

/// Every sequence of at most two faults, at each of the first `calls` calls.
pub(crate) fn scripts(calls: usize) -> Vec<Vec<Fault>> {
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
pub(crate) async fn for_each_script<F: Future<Output = ()> + Send + 'static>(
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

/// Makes a call whose claim happens without an answer, after which all history is forgotten before anybody can
/// ask what it was.
async fn without_answer_and_history<T: Send + 'static>(
    faulty: &Faulty,
    call: impl Future<Output = Result<T>> + Send + 'static,
) -> T {
    let before = faulty.txns();
    faulty.close_gate(0);
    let call = tokio::spawn(call);
    txn_at_gate(faulty, before).await;
    lose_with_history(faulty).await;
    call.await.unwrap().unwrap()
}

/// The Txn at the gate happens without an answer, after which all history is forgotten.
async fn lose_with_history(faulty: &Faulty) {
    faulty.script([Fault::Lose]);
    faulty.let_one_more_through();
    assert!(faulty.wait_at_gate().await, "what became of the claim");
    faulty.forget_history().await.unwrap();
    faulty.open_gate();
}

/// A store with a queue of so many values, of a client in which nothing else is on its way.
async fn filled(count: usize) -> (Faulty, Queue) {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    let values: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    queue.enqueue_many(&values).await.unwrap();
    until(|| faulty.ranges() >= 2).await;
    (faulty, queue)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_takes_first_outlives_a_lost_answer_and_its_history() {
    // What it takes after that, too: of the sample, and of what the look had seen besides.
    for taken in [0, 1, 20] {
        let (faulty, queue) = filled(40).await;
        for number in 0..taken {
            assert_eq!(queue.dequeue().await.unwrap(), number.to_string());
        }
        let call = async move { queue.dequeue().await };
        let value = without_answer_and_history(&faulty, call).await;
        assert_eq!(value, taken.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_takes_first_outlives_them_also_when_it_is_more_than_the_sample() {
    for count in [9, 16] {
        let (faulty, queue) = filled(40).await;
        let call = async move { queue.dequeue_many(count).await };
        let values = without_answer_and_history(&faulty, call).await;
        let first: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        assert_eq!(values, first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_left_outlives_them_also_behind_the_sample() {
    let (faulty, queue) = filled(40).await;
    let before = faulty.txns();
    faulty.close_gate(0);
    let call = tokio::spawn(async move { queue.dequeue().await });
    txn_at_gate(&faulty, before).await;
    let other = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
    assert_eq!(other.dequeue_many(8).await.unwrap().len(), 8);
    // The claim of the first finds it gone; the next one may take any that it has seen.
    let before = faulty.txns();
    faulty.let_one_more_through();
    txn_at_gate(&faulty, before).await;
    lose_with_history(&faulty).await;
    assert_eq!(call.await.unwrap().unwrap(), "8");
}

#[tokio::test]
async fn small_values_between_large_ones_are_not_read_together_with_them() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    let value = |number: usize| vec![b'v'; if number.is_multiple_of(2) { 100_000 } else { 1 }];
    queue.enqueue_many((0..300).map(value)).await.unwrap();
    for number in 0..290 {
        assert_eq!(queue.dequeue().await.unwrap(), value(number));
    }
    // Nothing is looked at twice: the window, and what is left.
    assert_eq!(queue.stats().looks, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_taken_at_once_outlive_a_lost_answer_and_their_history() {
    for taken in [0, 1, 20] {
        let (faulty, queue) = filled(40).await;
        for number in 0..taken {
            assert_eq!(queue.dequeue().await.unwrap(), number.to_string());
        }
        let call = async move { queue.dequeue_many(5).await };
        let values = without_answer_and_history(&faulty, call).await;
        let expected: Vec<String> = (taken..taken + 5)
            .map(|number| number.to_string())
            .collect();
        assert_eq!(values, expected);
    }
}

/// Whoever competes with others keeps what it is to take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_value_outlives_a_lost_answer_and_its_history_among_competitors() {
    let (faulty, mine) = filled(800).await;
    let others = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy).client(LONG);
    let others = others.queue("q");
    for _ in 0..200 {
        mine.try_dequeue().await.unwrap().unwrap();
        for _ in 0..2 {
            others.try_dequeue().await.unwrap().unwrap();
        }
    }
    let call = async move { mine.dequeue().await };
    assert_eq!(without_answer_and_history(&faulty, call).await, "600");
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_rightly() {
    for fault in FAULTS {
        for late in [false, true] {
            for same_client in [false, true] {
                let faulty = Faulty::new();
                let client = faulty.client(LONG);
                let queue = client.queue("q");
                queue.enqueue("before").await.unwrap();
                faulty.script([fault]);
                // After the first copy nothing gets through.
                faulty.close_gate(1);
                let enqueue = overdue_at_gate(&faulty, queue.enqueue("a"));
                let error = enqueue.await.expect_err("nothing can answer");
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
                    Resolution::Otherwise | Resolution::Forgotten => panic!("{fault:?} {late}"),
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
    let queue = faulty.client(LONG).queue("q");
    queue.enqueue("before").await.unwrap();
    faulty.always(Some(Fault::Refuse));
    let enqueue = overdue_in_trouble(&faulty, queue.enqueue("a"));
    let error = enqueue.await.unwrap_err();
    assert!(!error.is_maybe_committed(), "{error:?}");
    assert!(error.is_retryable(), "{error:?}");
    faulty.always(None);
    assert_eq!(drain(&faulty.engine, "q").await, ["before"]);
}

#[tokio::test]
async fn a_doubt_stays_a_doubt_when_later_copies_are_refused() {
    for (fault, resolution) in [
        (Fault::Lose, Resolution::Happened),
        (Fault::Drop, Resolution::NeverWill),
    ] {
        let faulty = Faulty::new();
        let client = faulty.client(LONG);
        let queue = client.queue("q");
        queue.enqueue("before").await.unwrap();
        faulty.script(std::iter::once(fault).chain([Fault::Refuse; 1000]));
        let enqueue = overdue_in_trouble(&faulty, queue.enqueue("a"));
        let error = enqueue.await.unwrap_err();
        let token = error.token().unwrap_or_else(|| panic!("{error:?}"));
        let other = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy).client(LONG);
        assert_eq!(other.resolve(token).await.unwrap(), resolution);
        faulty.script([]);
        // Its own client hears of it too, and agrees.
        assert_eq!(client.resolve(token).await.unwrap(), resolution);
    }
}
