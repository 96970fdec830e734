//! The double barrier, step by step and by lot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::Client;
use crate::testing::{Faulty, engine};

const LONG: Duration = Duration::from_secs(20);

/// Participants that go through rounds; each checks that nobody is ahead or behind.
async fn rounds(clients: Vec<Client>, rounds: usize, go: bool) {
    let count = clients.len();
    let entered = Arc::new(AtomicUsize::new(0));
    let left = Arc::new(AtomicUsize::new(0));
    let tasks = clients.into_iter().map(|client| {
        let (entered, left) = (Arc::clone(&entered), Arc::clone(&left));
        tokio::spawn(async move {
            let mut barrier = client.double_barrier("d", u32::try_from(count).unwrap());
            if go {
                barrier = barrier.go_compatible();
            }
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
            let client = Client::from_store(engine());
            rounds(vec![client; count], 20, go).await;
            let engine = engine();
            let client =
                |_| Faulty::over(Arc::clone(&engine), synod_store::Replies::Lossy).client(LONG);
            rounds((0..count).map(client).collect(), 20, go).await;
        }
    }
}
