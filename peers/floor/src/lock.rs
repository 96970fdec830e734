//! A lock among contenders that stand in a ring and never leave it.
//!
//! Each has a key in the line and a standing watch on the keys of the one before it. The holder gives
//! back and lines up again in one Txn, which deletes its key and puts the next; the one behind it sees
//! the deletion and holds. So a hand-over is one Txn and one event.

use std::time::Instant;

use anyhow::{Result, ensure};
use synod_wire::etcdserverpb as pb;
use tokio::task::JoinSet;

use crate::Bench;
use crate::measure::{Row, Run};
use crate::store::{delete, is_delete, op_delete, op_put, prefix_end, put, version_is};

pub(crate) async fn cycle(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    let tasks = options.tasks;
    let conns = bench.cluster.conns(options.connections, tasks).await?;
    let prefix = &bench.prefix;
    let of = |task: usize| format!("{prefix}{task:04}/");
    let mut watches = Vec::new();
    for (task, conn) in conns.iter().enumerate() {
        let before = of((task + tasks - 1) % tasks.max(1));
        let end = prefix_end(&before);
        watches.push(conn.watch(before, end).await?);
    }
    for (task, conn) in conns.iter().enumerate() {
        conn.put(put(format!("{}{:016}", of(task), 0), "")).await?;
    }
    let run = Run::start(options);
    let mut workers = JoinSet::new();
    for (task, (conn, mut watch)) in conns.into_iter().zip(watches).enumerate() {
        let own = of(task);
        let run = run.clone();
        workers.spawn(async move {
            let mut joined = Instant::now();
            let mut waiting = task != 0 && tasks > 1;
            let mut turn = 0u64;
            loop {
                if waiting && !watch.expect().await?.iter().any(is_delete) {
                    continue;
                }
                waiting = tasks > 1;
                run.done(joined, 1);
                joined = Instant::now();
                let held = format!("{own}{turn:016}");
                if run.over() {
                    // The next one holds after this, and ends as well.
                    conn.delete(delete(held)).await?;
                    return Ok(());
                }
                turn += 1;
                let request = pb::TxnRequest {
                    compare: vec![version_is(held.clone(), 1)],
                    success: vec![
                        op_delete(delete(held)),
                        op_put(put(format!("{own}{turn:016}"), "")),
                    ],
                    failure: Vec::new(),
                };
                ensure!(conn.txn(request).await?.succeeded, "the lock was lost");
            }
        });
    }
    run.join(workers).await?;
    Ok(run.row(options, "cycles", false))
}
