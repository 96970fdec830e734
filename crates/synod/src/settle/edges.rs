//! Tests: what a token says later, records that are swept too early, and outages.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{Compare, Key, KeyRange, PutRequest, RangeRequest, Replies, Store};

use crate::clock::{Clock, ManualClock};
use crate::testing::{Fault, Faulty, overdue_at_gate, pass, until_async};
use crate::{Client, ConnectOptions, Resolution, Token};

const LONG: Duration = Duration::from_secs(60);

async fn lanes(store: &Arc<dyn Store>) -> Vec<Key> {
    let request = RangeRequest::new(KeyRange::prefix("__synod/lane/")).keys_only();
    let kvs = store.range(request).await.unwrap().kvs;
    kvs.into_iter().map(|kv| kv.key).collect()
}

/// Another process on the same store.
fn stranger(faulty: &Faulty) -> Client {
    Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy).client(LONG)
}

/// A client's first operation happens, but its caller is told that this is not known.
async fn told_unknown(faulty: &Faulty) -> (Client, Token) {
    let client = faulty.client(LONG);
    // Lease, fence, operation; its repetition stands at the gate.
    faulty.script([Fault::None, Fault::None, Fault::Lose]);
    faulty.close_gate(3);
    let queue = client.queue("q");
    let enqueue = overdue_at_gate(faulty, queue.enqueue("a"));
    let error = enqueue.await.unwrap_err();
    faulty.open_gate();
    let token = error.token().expect("the outcome is open").clone();
    assert_eq!(client.resolve(&token).await.unwrap(), Resolution::Happened);
    (client, token)
}

#[tokio::test]
async fn an_open_outcome_stays_on_record_when_its_client_closes() {
    let faulty = Faulty::new();
    let (client, token) = told_unknown(&faulty).await;
    client.close().await.unwrap();
    let resolution = stranger(&faulty).resolve(&token).await.unwrap();
    assert_eq!(resolution, Resolution::Happened);
}

/// Found by the simulation: a transaction that met a conflict, and lost that answer, was said to have happened.
#[tokio::test]
async fn a_transaction_whose_conditions_were_false_has_not_happened() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    let put = PutRequest::new("key", "theirs");
    faulty.engine.put(put).await.unwrap();
    // Lease, fence, transaction; its repetition stands at the gate.
    faulty.script([Fault::None, Fault::None, Fault::Lose]);
    faulty.close_gate(3);
    let txn = client.txn().when([Compare::absent("key")]);
    let txn = txn.and_then([PutRequest::new("key", "mine")]);
    let txn = txn.or_else([RangeRequest::new("key")]);
    let error = overdue_at_gate(&faulty, txn).await.unwrap_err();
    faulty.open_gate();
    let token = error.token().expect("the outcome is open").clone();
    // As the lane says, and as the client itself knows.
    let resolution = stranger(&faulty).resolve(&token).await.unwrap();
    assert_eq!(resolution, Resolution::Otherwise);
    assert_eq!(client.resolve(&token).await.unwrap(), Resolution::Otherwise);
}

#[tokio::test]
async fn an_open_outcome_stays_on_record_while_its_client_goes_on() {
    let faulty = Faulty::new();
    let (client, token) = told_unknown(&faulty).await;
    for _ in 0..40 {
        client.queue("q").enqueue("more").await.unwrap();
    }
    let resolution = stranger(&faulty).resolve(&token).await.unwrap();
    assert_eq!(resolution, Resolution::Happened);
}

#[tokio::test]
async fn many_open_outcomes_do_not_use_up_the_lanes() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    client.queue("q").enqueue("first").await.unwrap();
    let mut tokens = Vec::new();
    for number in 0..40 {
        faulty.script([Fault::Lose]);
        faulty.close_gate(1);
        let queue = client.queue("q");
        let enqueue = queue.enqueue(number.to_string());
        let error = overdue_at_gate(&faulty, enqueue).await;
        faulty.open_gate();
        let Some(token) = error.as_ref().unwrap_err().token() else {
            // The records of an epoch are used up: lease and fence of the next one.
            client.queue("q").enqueue(number.to_string()).await.unwrap();
            continue;
        };
        assert_eq!(client.resolve(token).await.unwrap(), Resolution::Happened);
        tokens.push(token.clone());
    }
    assert_eq!(client.queue("q").len().await.unwrap(), 41);
    assert!(tokens.len() > 30, "{}", tokens.len());
    for token in tokens {
        let resolution = stranger(&faulty).resolve(&token).await.unwrap();
        assert_eq!(resolution, Resolution::Happened);
    }
}

#[tokio::test]
async fn an_operation_whose_record_was_swept_is_not_done_again() {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let client = |faulty: &Faulty| {
        let options = ConnectOptions::new("memory:")
            .with_clock(clock.clone())
            .with_timeout(LONG);
        options.over(Arc::new(faulty.clone()))
    };
    let partitioned = client(&faulty).queue("q");
    partitioned.enqueue("a").await.unwrap();
    faulty.script([Fault::Lose]);
    faulty.close_gate(1);
    let enqueue = tokio::spawn(async move { partitioned.enqueue("b").await });
    assert!(faulty.wait_at_gate().await);
    // For two hours nothing gets through; its lease ends, and others sweep.
    for lease in faulty.engine.leases().await.unwrap().leases {
        faulty.engine.lease_revoke(lease).await.unwrap();
    }
    let swept = lanes(&faulty.engine).await;
    clock.advance(Duration::from_secs(7200));
    let other = Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy);
    let other = client(&other);
    other.queue("other").enqueue("c").await.unwrap();
    until_async(async || !lanes(&faulty.engine).await.contains(&swept[0])).await;
    faulty.open_gate();
    let error = enqueue.await.unwrap().expect_err("nobody can know");
    assert!(error.is_maybe_committed(), "{error}");
    let resolution = other.resolve(error.token().unwrap()).await.unwrap();
    assert_eq!(resolution, Resolution::Forgotten);
    assert_eq!(other.queue("q").len().await.unwrap(), 2);
}

#[tokio::test]
async fn callers_who_left_leave_nothing_that_waits_for_a_dead_store() {
    let faulty = Faulty::new();
    let client = faulty.client(LONG);
    for begun in [false, true] {
        if begun {
            faulty.always(None);
            client.queue("q").enqueue("first").await.unwrap();
        }
        faulty.always(Some(Fault::Drop));
        let enqueues = (0..200).map(|_| {
            let queue = client.queue("q");
            tokio::spawn(async move { queue.enqueue("x").await.unwrap_err() })
        });
        let enqueues: Vec<_> = enqueues.collect();
        until_async(async || {
            pass(LONG).await;
            enqueues.iter().all(tokio::task::JoinHandle::is_finished)
        })
        .await;
        for enqueue in enqueues {
            enqueue.await.unwrap();
        }
        // Those in the lanes must find out what became of them; the others have nothing to find out.
        let settle = client.settle();
        until_async(async || settle.inner.tasks.len() <= 16).await;
    }
}

#[tokio::test]
async fn lanes_of_the_living_do_not_hide_those_of_the_dead() {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let lane = |epoch: u128, seconds: u64| {
        let key = format!("__synod/lane/{epoch:032x}/0");
        PutRequest::new(key, format!("{:032x} 0 {seconds}", 1))
    };
    let now = clock.unix_nanos() / 1_000_000_000;
    for epoch in 1..=300 {
        faulty.engine.put(lane(epoch, now)).await.unwrap();
    }
    let dead = lane(u128::MAX, now - 7200);
    let key = dead.key.clone();
    faulty.engine.put(dead).await.unwrap();
    let options = ConnectOptions::new("memory:").with_clock(clock.clone());
    let client = options.over(Arc::new(faulty.clone()));
    client.queue("q").enqueue("a").await.unwrap();
    until_async(async || !lanes(&faulty.engine).await.contains(&key)).await;
    assert!(lanes(&faulty.engine).await.len() >= 300);
}
