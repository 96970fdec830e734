//! The store's own calls, one after another in each task.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use synod_wire::etcdserverpb as pb;
use tokio::task::JoinSet;

use crate::Bench;
use crate::measure::{Row, Run};
use crate::store::{Conn, get, op_put, put, version_is};

pub(crate) async fn run(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    let conns = bench
        .cluster
        .conns(options.connections, options.tasks)
        .await?;
    let one = format!("{}get", bench.prefix);
    let value = vec![b'v'; options.value_size];
    bench.cluster.shared().put(put(one.clone(), value)).await?;
    let run = Run::start(options);
    let mut workers = JoinSet::new();
    for (task, conn) in conns.into_iter().enumerate() {
        let caller = Caller {
            case: options.case.clone(),
            conn,
            prefix: format!("{}{task}/", bench.prefix),
            one: one.clone(),
            value: bytes::Bytes::from(vec![b'v'; options.value_size]),
            batch: u64::from(options.batch),
        };
        let run = run.clone();
        workers.spawn(async move {
            let mut number = 0u64;
            while !run.over() {
                let began = Instant::now();
                let operations = caller.call(number).await?;
                run.done(began, operations);
                number += 1;
            }
            Ok(())
        });
    }
    run.join(workers).await?;
    let unit = match options.case.as_str() {
        "get" => "gets",
        "txn" => "txns",
        _ => "puts",
    };
    Ok(run.row(options, unit, false))
}

/// Puts so many keys, and compacts the history: for whoever measures memory.
pub(crate) async fn load(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    let conn = bench.cluster.shared();
    let value = bytes::Bytes::from(vec![b'v'; options.value_size]);
    let each = usize::from(options.batch);
    let run = Run::start(options);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..8 {
        let (conn, value, next) = (conn.clone(), value.clone(), next.clone());
        let (prefix, all) = (bench.prefix.clone(), options.items);
        workers.spawn(async move {
            loop {
                let first = next.fetch_add(each, Ordering::Relaxed);
                if first >= all {
                    return Ok::<_, anyhow::Error>(());
                }
                let puts = (first..(first + each).min(all))
                    .map(|n| op_put(put(format!("{prefix}{n:016}"), value.clone())));
                conn.txn(pb::TxnRequest {
                    success: puts.collect(),
                    ..Default::default()
                })
                .await?;
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let last = conn.put(put(format!("{}last", bench.prefix), "")).await?;
    conn.compact(last).await?;
    Ok(run.row(options, "keys", false))
}

struct Caller {
    case: String,
    conn: Conn,
    prefix: String,
    one: String,
    value: bytes::Bytes,
    batch: u64,
}

impl Caller {
    /// Returns how many operations it was.
    async fn call(&self, number: u64) -> Result<u64> {
        let key = format!("{}{number:016}", self.prefix);
        match self.case.as_str() {
            "put" => {
                self.conn.put(put(key, self.value.clone())).await?;
                Ok(1)
            }
            "get" => {
                ensure!(self.conn.range(get(self.one.clone())).await?.len() == 1);
                Ok(1)
            }
            "txn" => {
                let done = self.conn.txn(pb::TxnRequest {
                    compare: vec![version_is(key.clone(), 0)],
                    success: vec![op_put(put(key, self.value.clone()))],
                    failure: Vec::new(),
                });
                ensure!(done.await?.succeeded, "a new key was there");
                Ok(1)
            }
            "batch" => {
                let ops =
                    (0..self.batch).map(|n| op_put(put(format!("{key}/{n}"), self.value.clone())));
                let request = pb::TxnRequest {
                    success: ops.collect(),
                    ..Default::default()
                };
                self.conn.txn(request).await?;
                Ok(self.batch)
            }
            other => bail!("no case {other}"),
        }
    }
}
