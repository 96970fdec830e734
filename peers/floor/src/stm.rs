//! A bank in one process, whose accounts nobody else changes.
//!
//! A transfer locks its two accounts in this process, so no commit fails. Plain: what the last commit
//! left is known, so a transfer is one guarded Txn. Two trips: it is read first.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use synod_wire::etcdserverpb as pb;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::Bench;
use crate::args::Variant;
use crate::measure::{Row, Run};
use crate::store::{Conn, get, mod_is, op_put, op_range, put, revision};

/// What is in an account.
#[derive(Debug, Clone, Copy)]
struct Account {
    balance: u64,
    /// When it was written.
    revision: i64,
}

pub(crate) async fn bank(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    let mut accounts = Vec::new();
    for number in 0..usize::from(options.accounts) {
        let request = put(format!("{}{number}", bench.prefix), "1000");
        let revision = bench.cluster.shared().put(request).await?;
        accounts.push(Mutex::new(Account {
            balance: 1000,
            revision,
        }));
    }
    let accounts = Arc::new(accounts);
    let conns = bench
        .cluster
        .conns(options.connections, options.tasks)
        .await?;
    let run = Run::start(options);
    let mut workers = JoinSet::new();
    for conn in conns {
        let teller = Teller {
            conn,
            accounts: accounts.clone(),
            prefix: bench.prefix.clone(),
            read: options.variant == Variant::TwoTrips,
        };
        let run = run.clone();
        workers.spawn(async move {
            while !run.over() {
                let began = Instant::now();
                teller.transfer().await?;
                run.done(began, 1);
                if run.counting() {
                    run.count("attempts", 1);
                }
            }
            Ok(())
        });
    }
    run.join(workers).await?;
    Ok(run.row(options, "transfers", false))
}

struct Teller {
    conn: Conn,
    accounts: Arc<Vec<Mutex<Account>>>,
    prefix: String,
    /// Read before each transfer.
    read: bool,
}

impl Teller {
    /// Moves half of what is in one account to another.
    async fn transfer(&self) -> Result<()> {
        let count = self.accounts.len();
        let first = rand::rng().random_range(0..count);
        let second = (first + rand::rng().random_range(1..count)) % count;
        // In the same order everywhere.
        let (low, high) = (first.min(second), first.max(second));
        let mut one = self.accounts.get(low).context("no account")?.lock().await;
        let mut other = self.accounts.get(high).context("no account")?.lock().await;
        let keys = [low, high].map(|number| format!("{}{number}", self.prefix));
        if self.read {
            [*one, *other] = self.read_both(&keys).await?;
        }
        let moved = if first == low {
            let half = one.balance / 2;
            (one.balance - half, other.balance + half)
        } else {
            let half = other.balance / 2;
            (one.balance + half, other.balance - half)
        };
        let [low_key, high_key] = keys;
        let request = pb::TxnRequest {
            compare: vec![
                mod_is(low_key.clone(), one.revision),
                mod_is(high_key.clone(), other.revision),
            ],
            success: vec![
                op_put(put(low_key, moved.0.to_string())),
                op_put(put(high_key, moved.1.to_string())),
            ],
            failure: Vec::new(),
        };
        let done = self.conn.txn(request).await?;
        ensure!(done.succeeded, "somebody else changed an account");
        let revision = revision(done.header.as_ref());
        (one.balance, other.balance) = moved;
        (one.revision, other.revision) = (revision, revision);
        Ok(())
    }

    async fn read_both(&self, keys: &[String; 2]) -> Result<[Account; 2]> {
        let request = pb::TxnRequest {
            success: keys.iter().map(|key| op_range(get(key.clone()))).collect(),
            ..Default::default()
        };
        let answer = self.conn.txn(request).await?;
        let mut accounts = Vec::new();
        for response in answer.responses {
            let Some(pb::response_op::Response::ResponseRange(range)) = response.response else {
                bail!("another answer than asked for");
            };
            let kv = range.kvs.first().context("an account is gone")?;
            accounts.push(Account {
                balance: std::str::from_utf8(&kv.value)?.parse()?,
                revision: kv.mod_revision,
            });
        }
        match accounts.as_slice() {
            [one, other] => Ok([*one, *other]),
            _ => bail!("not two accounts"),
        }
    }
}
