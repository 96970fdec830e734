//! A barrier: the waiters' watches stand before it is released, so a release is one delete and its
//! event. On one connection, one watch is enough, and tells all tasks.
//!
//! Between the hold and the release passes as much time as the other programs give their waiters to
//! stand: a release that comes at once would find everybody awake, which theirs does not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::Bench;
use crate::args::Connections;
use crate::measure::{Row, Run};
use crate::store::{Conn, delete, is_delete, put};

/// How long the barrier is held, beside what each waiter adds.
const HELD: Duration = Duration::from_millis(20);
const HELD_EACH: Duration = Duration::from_millis(1);

pub(crate) async fn release(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    let key = format!("{}barrier", bench.prefix);
    let conns = match options.connections {
        Connections::Own => {
            bench
                .cluster
                .conns(options.connections, options.waiters)
                .await?
        }
        Connections::Shared => vec![bench.cluster.shared()],
    };
    let (passed, mut passes) = mpsc::unbounded_channel();
    let mut workers = JoinSet::new();
    for conn in conns {
        let waiters = match options.connections {
            Connections::Own => 1,
            Connections::Shared => options.waiters,
        };
        watcher(&mut workers, &conn, &key, waiters, &passed).await?;
    }
    let holder = bench.cluster.conn(options.connections).await?;
    let waiters = u32::try_from(options.waiters)?;
    let held = HELD.saturating_add(HELD_EACH.saturating_mul(waiters));
    let run = Run::start(options);
    while !run.over() {
        holder.put(put(key.clone(), "")).await?;
        tokio::time::sleep(held).await;
        let began = Instant::now();
        let release = async {
            holder.delete(delete(key.clone())).await?;
            Ok::<_, anyhow::Error>(())
        };
        let all = async {
            let mut last = began;
            for _ in 0..options.waiters {
                last = passes.recv().await.context("the waiters are gone")?;
            }
            Ok::<_, anyhow::Error>(last)
        };
        let both = async { tokio::try_join!(release, all) };
        let ((), last) = tokio::select! {
            both = both => both?,
            failed = workers.join_next() => bail!("a waiter failed: {failed:?}"),
            () = tokio::time::sleep(crate::measure::PATIENCE) => bail!("not all waiters passed"),
        };
        run.took(last, last.saturating_duration_since(began), 1);
    }
    Ok(run.row(options, "rounds", false))
}

/// A standing watch, and so many waiters that it tells.
async fn watcher(
    workers: &mut JoinSet<Result<()>>,
    conn: &Conn,
    key: &str,
    waiters: usize,
    passed: &mpsc::UnboundedSender<Instant>,
) -> Result<()> {
    let mut events = conn.watch(key.to_owned(), "").await?;
    let (tell, told) = watch::channel(0u64);
    for _ in 0..waiters {
        let (mut told, passed) = (told.clone(), passed.clone());
        workers.spawn(async move {
            while told.changed().await.is_ok() {
                passed.send(Instant::now()).context("nobody counts")?;
            }
            Ok(())
        });
    }
    workers.spawn(async move {
        loop {
            // Between rounds nothing comes for as long as that takes.
            let releases = events.next().await?.iter().filter(|e| is_delete(e)).count();
            if releases > 0 {
                tell.send_modify(|rounds| *rounds += 1);
            }
        }
    });
    Ok(())
}
