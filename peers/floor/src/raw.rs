//! The store's own calls, one after another in each task.

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
