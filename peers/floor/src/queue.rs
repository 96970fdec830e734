//! A queue of either kind whose keys are numbered, so that everybody knows which is next.
//!
//! To take an item is one guarded delete. What is next is read 256 at a time between two known keys,
//! which costs the server the same at any depth, and behind any number of dead keys.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rand::Rng;
use synod_wire::etcdserverpb as pb;
use synod_wire::mvccpb::KeyValue;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::Bench;
use crate::args::{Connections, Options};
use crate::measure::{PATIENCE, Row, Run};
use crate::store::{Conn, delete, mod_is, op_delete, op_put, prefix_end, put, version_is};

/// How many keys a look reads.
const WINDOW: usize = 256;

/// The keys of a queue, in the order in which they come out.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    /// How many of each priority; `None` for a queue without.
    per_priority: Option<usize>,
}

impl Keys {
    fn new(bench: &Bench) -> Keys {
        let options = &bench.options;
        let all = options.fill_first + options.dead_first;
        let priorities = usize::from(options.priorities);
        Keys {
            prefix: bench.prefix.clone(),
            per_priority: (options.workload == "priority-queue")
                .then(|| all.div_ceil(priorities).max(1)),
        }
    }

    /// The key of the item that comes out as this one.
    pub(crate) fn key(&self, number: usize) -> String {
        match self.per_priority {
            None => format!("{}{number:016}", self.prefix),
            Some(each) => format!("{}{:05}/{:016}", self.prefix, number / each, number % each),
        }
    }
}

/// Leaves nothing but dead keys, for another program to work behind.
pub(crate) async fn bury(bench: &Bench) -> Result<Row> {
    let run = Run::start(&bench.options);
    prepare(bench, &Keys::new(bench)).await?;
    Ok(run.row(&bench.options, "items", false))
}

/// Puts the items in that shall be there, and takes those out that shall have been.
async fn prepare(bench: &Bench, keys: &Keys) -> Result<()> {
    let options = &bench.options;
    let all = options.fill_first + options.dead_first;
    let value = Bytes::from(vec![b'v'; options.value_size]);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..8 {
        let (conn, keys, next) = (bench.cluster.shared(), keys.clone(), next.clone());
        let value = value.clone();
        workers.spawn(async move {
            loop {
                let first = next.fetch_add(100, Ordering::Relaxed);
                if first >= all {
                    return Ok::<_, anyhow::Error>(());
                }
                let numbers = first..(first + 100).min(all);
                conn.txn(pb::TxnRequest {
                    success: numbers
                        .map(|number| op_put(put(keys.key(number), value.clone())))
                        .collect(),
                    ..Default::default()
                })
                .await?;
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let conn = bench.cluster.shared();
    for first in (0..options.dead_first).step_by(1000) {
        let end = (first + 1000).min(options.dead_first);
        let request = pb::DeleteRangeRequest {
            range_end: keys.key(end).into(),
            ..delete(keys.key(first))
        };
        ensure!(conn.delete(request).await? > 0);
    }
    Ok(())
}

/// Only in: one put of a new key an item.
pub(crate) async fn fill(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    prepare(bench, &Keys::new(bench)).await?;
    let conns = bench
        .cluster
        .conns(options.connections, options.producers)
        .await?;
    let run = Run::start(options);
    let next = Arc::new(AtomicU64::new(1 << 32));
    let mut workers = JoinSet::new();
    for conn in conns {
        let (run, next, options) = (run.clone(), next.clone(), options.clone());
        let prefix = bench.prefix.clone();
        workers.spawn(async move {
            let value = Bytes::from(vec![b'v'; options.value_size]);
            while !run.over() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let priority = rand::rng().random_range(0..options.priorities);
                let key = match options.workload.as_str() {
                    "queue" => format!("{prefix}{number:016}"),
                    _ => format!("{prefix}{priority:05}/{number:016}"),
                };
                let began = Instant::now();
                let done = conn.txn(pb::TxnRequest {
                    compare: vec![version_is(key.clone(), 0)],
                    success: vec![op_put(put(key, value.clone()))],
                    failure: Vec::new(),
                });
                ensure!(done.await?.succeeded, "a new key was there");
                run.done(began, 1);
            }
            Ok(())
        });
    }
    run.join(workers).await?;
    Ok(run.row(options, "items", false))
}

/// What is known to be next.
#[derive(Debug)]
struct Window {
    keys: Keys,
    /// How far it was read.
    next: usize,
    end: usize,
    items: VecDeque<KeyValue>,
}

impl Window {
    /// The next item; `None` when there are no more.
    async fn take(&mut self, conn: &Conn) -> Result<Option<KeyValue>> {
        while self.items.is_empty() && self.next < self.end {
            let to = (self.next + WINDOW).min(self.end);
            let request = pb::RangeRequest {
                key: self.keys.key(self.next).into(),
                range_end: self.keys.key(to).into(),
                limit: i64::try_from(WINDOW)?,
                ..Default::default()
            };
            self.items = conn.range(request).await?.into();
            self.next = to;
        }
        Ok(self.items.pop_front())
    }
}

/// Only out: one guarded delete an item.
pub(crate) async fn drain(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    let keys = Keys::new(bench);
    prepare(bench, &keys).await?;
    let conns = bench
        .cluster
        .conns(options.connections, options.consumers)
        .await?;
    let window = Arc::new(Mutex::new(Window {
        keys,
        next: options.dead_first,
        end: options.dead_first + options.fill_first,
        items: VecDeque::new(),
    }));
    let run = Run::start(options);
    let mut workers = JoinSet::new();
    for conn in conns {
        let (run, window) = (run.clone(), window.clone());
        workers.spawn(async move {
            while !run.over() {
                let began = Instant::now();
                let Some(item) = window.lock().await.take(&conn).await? else {
                    return Ok(());
                };
                ensure!(claim(&conn, &item.key, item.mod_revision).await?);
                run.done(began, 1);
            }
            Ok(())
        });
    }
    run.join(workers).await?;
    let empty = {
        let window = window.lock().await;
        window.items.is_empty() && window.next >= window.end
    };
    Ok(run.row(options, "items", empty))
}

/// Takes an item that nobody else has.
pub(crate) async fn claim(conn: &Conn, key: &Bytes, revision: i64) -> Result<bool> {
    let request = pb::TxnRequest {
        compare: vec![mod_is(key.clone(), revision)],
        success: vec![op_delete(delete(key.clone()))],
        failure: Vec::new(),
    };
    Ok(conn.txn(request).await?.succeeded)
}

/// The longest pause before the next item of a queue that is nearly empty. It is drawn at random, so
/// that no clock of the server's can be met.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A consumer whose watch stands, and one item at a time for it.
pub(crate) async fn idle(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    let producer = bench.cluster.conn(options.connections).await?;
    let consumer = bench.cluster.conn(options.connections).await?;
    let prefix = bench.prefix.clone();
    let mut watch = consumer.watch(prefix.clone(), prefix_end(&prefix)).await?;
    let (taken, mut came) = mpsc::unbounded_channel();
    let taking: tokio::task::JoinHandle<Result<()>> = tokio::spawn(async move {
        loop {
            for event in watch.next().await? {
                let Some(item) = event.kv.filter(|kv| kv.version == 1) else {
                    continue;
                };
                ensure!(claim(&consumer, &item.key, item.mod_revision).await?);
                taken.send(Instant::now()).context("nobody counts")?;
            }
        }
    });
    let value = Bytes::from(vec![b'v'; options.value_size]);
    let run = Run::start(options);
    let mut number = 0u64;
    while !run.over() {
        let pause = rand::rng().random_range(0.02..1.0);
        tokio::time::sleep(LONGEST_PAUSE.mul_f64(pause)).await;
        let began = Instant::now();
        let key = format!("{prefix}{number:016}");
        number += 1;
        let put = producer.put(put(key, value.clone()));
        let came = tokio::time::timeout(PATIENCE, came.recv());
        let (_, came) = tokio::try_join!(put, async { Ok(came.await) })?;
        let came = came
            .context("the item does not come")?
            .context("nobody takes")?;
        run.took(came, came.saturating_duration_since(began), 1);
    }
    taking.abort();
    Ok(run.row(options, "items", false))
}

/// Many at once: a Txn that puts, and a Txn that deletes them and returns what they were.
pub(crate) async fn batch(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    // A claim is a compare and a delete; each list has its own limit of 128.
    let conns = bench
        .cluster
        .conns(options.connections, options.tasks)
        .await?;
    let run = Run::start(options);
    let mut workers = JoinSet::new();
    for (task, conn) in conns.into_iter().enumerate() {
        let (run, options) = (run.clone(), options.clone());
        let prefix = format!("{}{task:04}/", bench.prefix);
        workers.spawn(async move { batches(&conn, &run, &options, &prefix).await });
    }
    run.join(workers).await?;
    Ok(run.row(options, "items", false))
}

async fn batches(conn: &Conn, run: &Run, options: &Options, prefix: &str) -> Result<()> {
    let value = Bytes::from(vec![b'v'; options.value_size]);
    let each = u64::from(options.batch);
    let mut number = 0u64;
    while !run.over() {
        let began = Instant::now();
        let keys: Vec<Bytes> = (0..each)
            .map(|n| format!("{prefix}{:016}", number + n).into())
            .collect();
        number += each;
        let puts = conn.txn(pb::TxnRequest {
            success: keys
                .iter()
                .map(|key| op_put(put(key.clone(), value.clone())))
                .collect(),
            ..Default::default()
        });
        puts.await?;
        let claims = conn.txn(pb::TxnRequest {
            compare: keys.iter().map(|key| version_is(key.clone(), 1)).collect(),
            success: keys
                .iter()
                .map(|key| {
                    let mut delete = delete(key.clone());
                    delete.prev_kv = true;
                    op_delete(delete)
                })
                .collect(),
            failure: Vec::new(),
        });
        ensure!(claims.await?.succeeded, "an item was gone");
        run.done(began, each);
    }
    Ok(())
}

/// Whether workers share a connection.
pub(crate) fn is_shared(options: &Options) -> bool {
    options.connections == Connections::Shared
}
