//! The barrier and the double barrier.

use std::sync::Arc;

use synod::{Barrier, Client, DoubleBarrier};
use tokio::task::JoinSet;

use crate::bench::{Bench, Sheet};

/// Spawns a wait on each.
fn waiters(barriers: impl IntoIterator<Item = Barrier>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for barrier in barriers {
        tasks.spawn(async move { barrier.wait().await.unwrap() });
    }
    tasks
}

pub(crate) async fn barrier(bench: &Bench, sheet: &mut Sheet) {
    let holder = bench.peer().await;
    let other = bench.peer().await;
    let barrier = holder.client.barrier("b");
    let (held, counts) = holder.counted.measure(barrier.hold()).await;
    held.unwrap();
    sheet.alone(bench, "hold", "", counts);
    let (held, counts) = other
        .counted
        .measure(other.client.barrier("b").hold())
        .await;
    held.unwrap_err();
    sheet.alone(bench, "hold", "held", counts);
    let (held, counts) = holder.counted.measure(barrier.is_held()).await;
    assert!(held.unwrap());
    sheet.alone(bench, "is_held", "", counts);

    let one = other.client.barrier("b");
    let wait = async { waiters([one.clone()]) };
    let (wait, counts) = other.counted.measure(wait).await;
    sheet.alone(bench, "wait", "held, until it waits", counts);
    let (tasks, counts) = other.counted.measure(async { waiters(vec![one; 9]) }).await;
    sheet.alone(bench, "wait", "held, 9 more of the client", counts);
    let (released, counts) = holder.counted.measure(barrier.release()).await;
    assert!(released.unwrap());
    sheet.alone(bench, "release", "by the holder", counts);
    tokio::join!(wait.join_all(), tasks.join_all());

    let (passed, counts) = other
        .counted
        .measure(other.client.barrier("b").wait())
        .await;
    passed.unwrap();
    sheet.alone(bench, "wait", "open", counts);
    barrier.hold().await.unwrap();
    let stranger = bench.peer().await;
    let theirs = stranger.client.barrier("b");
    let (released, counts) = stranger.counted.measure(theirs.release()).await;
    assert!(released.unwrap());
    sheet.alone(bench, "release", "by somebody else", counts);

    for (situation, clients) in [
        ("10 waiters, a client each", bench.crowd(10).await),
        ("10 waiters of a client", {
            let one = bench.peer().await;
            (vec![one.client; 10], one.counted)
        }),
    ] {
        barrier.hold().await.unwrap();
        let (clients, counted) = clients;
        let wait = async { waiters(clients.iter().map(|client| client.barrier("b"))) };
        let (tasks, counts) = counted.measure(wait).await;
        sheet.many(bench, "wait, until it waits", situation, counts, 10);
        let release = async {
            barrier.release().await.unwrap();
            tasks.join_all().await
        };
        let (_, counts) = counted.measure(release).await;
        sheet.many(bench, "wait, once released", situation, counts, 10);
    }
}

/// All enter, then all leave.
async fn round(handles: &[Arc<DoubleBarrier>]) {
    let mut tasks = JoinSet::new();
    for handle in handles {
        let handle = Arc::clone(handle);
        tasks.spawn(async move { handle.enter().await.unwrap() });
    }
    tasks.join_all().await;
    let mut tasks = JoinSet::new();
    for handle in handles {
        let handle = Arc::clone(handle);
        tasks.spawn(async move { handle.leave().await.unwrap() });
    }
    tasks.join_all().await;
}

pub(crate) async fn double_barrier(bench: &Bench, sheet: &mut Sheet) {
    let mut crowds: Vec<(String, Vec<Client>, _)> = Vec::new();
    for size in [2, 8, 32] {
        let (clients, counted) = bench.crowd(size).await;
        crowds.push((format!("{size} clients"), clients, counted));
    }
    for size in [8, 32] {
        let one = bench.peer().await;
        let clients = vec![one.client; size];
        crowds.push((format!("{size} tasks of a client"), clients, one.counted));
    }
    for (situation, clients, counted) in crowds {
        let size = clients.len();
        let count = u32::try_from(size).unwrap();
        let handles: Vec<Arc<DoubleBarrier>> = clients
            .iter()
            .map(|client| Arc::new(client.double_barrier(format!("d, {situation}"), count)))
            .collect();
        let (_, counts) = counted.measure(round(&handles)).await;
        sheet.many(
            bench,
            "enter + leave, the first round",
            &situation,
            counts,
            size,
        );
        let rounds = async {
            for _ in 0..4 {
                round(&handles).await;
            }
        };
        let (_, counts) = counted.measure(rounds).await;
        sheet.many(
            bench,
            "enter + leave, later rounds",
            &situation,
            counts,
            size * 4,
        );
    }
}
