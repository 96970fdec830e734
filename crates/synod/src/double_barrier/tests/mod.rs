//! The double barrier against stores that lose answers, delay requests and stop at every step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use synod_store::{KeyRange, RangeRequest, Replies, Store};

use crate::testing::{Fault, Faulty, engine, until_async};
use crate::{Client, DoubleBarrier};

mod faults;
mod model;
mod oracle;
mod runtimes;

const LONG: Duration = Duration::from_secs(60);

/// A client on a network of its own.
fn over(engine: &Arc<dyn Store>, replies: Replies) -> Faulty {
    Faulty::over(Arc::clone(engine), replies)
}

fn barrier(client: &Client, count: usize, go: bool) -> DoubleBarrier {
    let barrier = client.double_barrier("d", u32::try_from(count).unwrap());
    if go { barrier.go_compatible() } else { barrier }
}

/// The places that are taken, in either layout.
async fn places(engine: &Arc<dyn Store>) -> usize {
    let all = RangeRequest::new(KeyRange::all()).keys_only();
    let kvs = engine.range(all).await.unwrap().kvs;
    kvs.iter().filter(|kv| oracle::is_place(&kv.key)).count()
}

/// Participants that go through rounds; each checks that nobody is ahead or behind.
async fn rounds(clients: Vec<Client>, rounds: usize, go: bool) {
    let count = clients.len();
    let entered = Arc::new(AtomicUsize::new(0));
    let left = Arc::new(AtomicUsize::new(0));
    let tasks = clients.into_iter().map(|client| {
        let (entered, left) = (Arc::clone(&entered), Arc::clone(&left));
        tokio::spawn(async move {
            let barrier = barrier(&client, count, go);
            for round in 1..=rounds {
                entered.fetch_add(1, Ordering::SeqCst);
                barrier.enter().await.unwrap();
                assert!(entered.load(Ordering::SeqCst) >= round * count);
                assert_eq!(barrier.round(), (!go).then_some(round as u64));
                left.fetch_add(1, Ordering::SeqCst);
                barrier.leave().await.unwrap();
                assert!(left.load(Ordering::SeqCst) >= round * count);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_enter_together_and_leave_together_again_and_again() {
    for go in [false, true] {
        for count in [1, 2, 3, 8] {
            let engine = engine();
            let client = Client::from_store(Arc::clone(&engine));
            rounds(vec![client; count], 20, go).await;
            let client = |_| over(&engine, Replies::Lossy).client(LONG);
            let clients = (0..count).map(client).collect();
            until_async(async || places(&engine).await == 0).await;
            drop::<Vec<Client>>(clients);
        }
    }
    for go in [false, true] {
        for count in [1, 2, 3, 8] {
            let engine = engine();
            let client = |_| over(&engine, Replies::Lossy).client(LONG);
            rounds((0..count).map(client).collect(), 20, go).await;
            oracle::check(&engine, count, go).await;
        }
    }
}

#[tokio::test]
async fn a_round_costs_two_txns_a_participant() {
    let engine = engine();
    let (one, two) = (over(&engine, Replies::Lossy), over(&engine, Replies::Lossy));
    let (first, second) = (one.client(LONG), two.client(LONG));
    let (first, second) = (barrier(&first, 2, false), barrier(&second, 2, false));
    let round = async || {
        let (a, b) = tokio::join!(first.enter(), second.enter());
        a.and(b).unwrap();
        let (a, b) = tokio::join!(first.leave(), second.leave());
        a.and(b).unwrap();
    };
    for _ in 0..3 {
        round().await;
    }
    // On a busy machine a wait may last so long that it looks after itself, which costs more.
    for _ in 0..20 {
        let before = (one.txns(), one.ranges(), one.watches());
        for _ in 0..10 {
            round().await;
        }
        if (one.txns(), one.ranges(), one.watches()) == (before.0 + 20, before.1, before.2) {
            return;
        }
    }
    panic!("no ten rounds cost two Txns each");
}
