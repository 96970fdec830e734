//! Items go in and come out at once.
//!
//! On connections of their own: each producer puts an item a call, into the lane of the next consumer;
//! each consumer watches its lane and deletes an item a Txn. Nobody loses a race.
//!
//! On one connection: each task puts or deletes many items a Txn; one watch tells what came, and hands
//! it round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use synod_wire::etcdserverpb as pb;
use synod_wire::mvccpb::KeyValue;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::Bench;
use crate::measure::{Row, Run};
use crate::queue::{claim, is_shared};
use crate::store::{Conn, delete, mod_is, op_delete, op_put, prefix_end, put};

/// How long a consumer looks for items after the producers' end.
const SILENCE: Duration = Duration::from_millis(200);

pub(crate) async fn transfer(bench: &Bench) -> Result<Row> {
    if is_shared(&bench.options) {
        return joined(bench).await;
    }
    let options = &bench.options;
    let producers = bench
        .cluster
        .conns(options.connections, options.producers)
        .await?;
    let consumers = bench
        .cluster
        .conns(options.connections, options.consumers)
        .await?;
    let mut watches = Vec::new();
    for (lane, conn) in consumers.iter().enumerate() {
        let lane = format!("{}{lane:04}/", bench.prefix);
        let end = prefix_end(&lane);
        watches.push(conn.watch(lane, end).await?);
    }
    let run = Run::start(options);
    let mut workers = JoinSet::new();
    for (conn, mut watch) in consumers.into_iter().zip(watches) {
        let run = run.clone();
        workers.spawn(async move {
            loop {
                let events = match tokio::time::timeout(SILENCE, watch.next()).await {
                    Ok(events) => events?,
                    Err(_) if run.over() => return Ok(()),
                    Err(_) => continue,
                };
                for item in events.into_iter().filter_map(|event| event.kv) {
                    // What has no version is the trace of a claim.
                    if run.over() || item.version != 1 {
                        continue;
                    }
                    let began = Instant::now();
                    ensure!(claim(&conn, &item.key, item.mod_revision).await?);
                    run.done(began, 1);
                }
            }
        });
    }
    for (task, conn) in producers.into_iter().enumerate() {
        let (run, prefix) = (run.clone(), bench.prefix.clone());
        let value = Bytes::from(vec![b'v'; options.value_size]);
        let lanes = options.consumers.max(1);
        workers.spawn(async move {
            let mut number = task;
            while !run.over() {
                let key = format!("{prefix}{:04}/{task:04}/{number:016}", number % lanes);
                conn.put(put(key, value.clone())).await?;
                number += 1;
            }
            Ok(())
        });
    }
    run.join(workers).await?;
    Ok(run.row(options, "items", false))
}

/// How many Txns each side has under way: more only wait in the server.
const UNDER_WAY: usize = 4;

async fn joined(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    let conn = bench.cluster.shared();
    let prefix = bench.prefix.clone();
    let mut watch = conn.watch(prefix.clone(), prefix_end(&prefix)).await?;
    let run = Run::start(options);
    let each = usize::from(options.batch);
    // The producers stay ahead by so many items at most.
    let room = Arc::new(Semaphore::new(each * UNDER_WAY * 4));
    let (hand, handed) = mpsc::unbounded_channel::<Vec<KeyValue>>();
    let handed = Arc::new(Mutex::new(handed));
    let mut workers = JoinSet::new();
    let over = run.clone();
    workers.spawn(async move {
        let mut waiting: Vec<KeyValue> = Vec::new();
        loop {
            let events = match tokio::time::timeout(SILENCE, watch.next()).await {
                Ok(events) => events?,
                Err(_) if over.over() => return Ok(()),
                Err(_) => Vec::new(),
            };
            let items = events.into_iter().filter_map(|event| event.kv);
            waiting.extend(items.filter(|item| item.version == 1));
            while !waiting.is_empty() {
                let rest = waiting.split_off(waiting.len().min(each));
                let some = std::mem::replace(&mut waiting, rest);
                // The consumers end first.
                let _ = hand.send(some);
            }
        }
    });
    for _ in 0..options.consumers.min(UNDER_WAY) {
        let (run, conn, handed, room) = (run.clone(), conn.clone(), handed.clone(), room.clone());
        workers.spawn(async move {
            loop {
                let next = async { handed.lock().await.recv().await };
                let items = match tokio::time::timeout(SILENCE, next).await {
                    Ok(Some(items)) => items,
                    Ok(None) => return Ok(()),
                    Err(_) if run.over() => return Ok(()),
                    Err(_) => continue,
                };
                if run.over() {
                    return Ok(());
                }
                let began = Instant::now();
                claim_all(&conn, &items).await?;
                run.done(began, u64::try_from(items.len())?);
                room.add_permits(items.len());
            }
        });
    }
    for task in 0..options.producers.min(UNDER_WAY) {
        let (run, conn, room) = (run.clone(), conn.clone(), room.clone());
        let prefix = format!("{prefix}{task:04}/");
        let value = Bytes::from(vec![b'v'; options.value_size]);
        workers.spawn(async move {
            let mut number = 0;
            while !run.over() {
                let room = room.acquire_many(u32::try_from(each)?);
                match tokio::time::timeout(SILENCE, room).await {
                    Ok(room) => room.context("closed")?.forget(),
                    Err(_) => continue,
                }
                let request = pb::TxnRequest {
                    success: (0..each)
                        .map(|n| op_put(put(format!("{prefix}{:016}", number + n), value.clone())))
                        .collect(),
                    ..Default::default()
                };
                conn.txn(request).await?;
                number += each;
            }
            Ok(())
        });
    }
    run.join(workers).await?;
    Ok(run.row(options, "items", false))
}

/// Takes items that nobody else has, in one Txn.
async fn claim_all(conn: &Conn, items: &[KeyValue]) -> Result<()> {
    let request = pb::TxnRequest {
        compare: items
            .iter()
            .map(|item| mod_is(item.key.clone(), item.mod_revision))
            .collect(),
        success: items
            .iter()
            .map(|item| op_delete(delete(item.key.clone())))
            .collect(),
        failure: Vec::new(),
    };
    ensure!(conn.txn(request).await?.succeeded, "an item was gone");
    Ok(())
}
