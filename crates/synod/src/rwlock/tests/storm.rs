//! Many clients, each with a bad network of its own: by lot, requests are lost, refused, late or
//! answered in vain. Then it becomes quiet, and everything is as it should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use synod_store::{KeyRange, PutRequest, RangeRequest, Replies};
use tokio::task::JoinSet;

use crate::testing::{FAULTS, Fault, Faulty, engine, until_async};
use crate::{Error, Result, RwLock};

const CLIENTS: u64 = 5;
const TURNS: usize = 12;
const WRITER: i64 = 1000;

/// Who is inside: readers count one each, a writer a thousand.
type Inside = Arc<AtomicI64>;

/// One turn. Returns the writer's token.
async fn turn(lock: &RwLock, inside: &Inside, lot: u32) -> Result<Option<u64>> {
    if lot < 4 {
        let guard = lock.write().await?;
        assert_eq!(inside.fetch_add(WRITER, Ordering::SeqCst), 0);
        let token = guard.fencing_token();
        let put = PutRequest::new("last", format!("{token:020}"));
        assert!(guard.txn().and_then([put]).await?.succeeded);
        inside.fetch_sub(WRITER, Ordering::SeqCst);
        guard.unlock().await?;
        return Ok(Some(token));
    }
    if lot < 8 {
        let guard = lock.read().await?;
        assert!(inside.fetch_add(1, Ordering::SeqCst) < WRITER);
        guard.check().await?;
        inside.fetch_sub(1, Ordering::SeqCst);
        guard.unlock().await?;
    } else if lot == 8 {
        let patience = Duration::from_millis(3);
        drop(lock.write_timeout(patience).await?);
    } else if let Some(guard) = lock.try_read().await? {
        assert!(inside.fetch_add(1, Ordering::SeqCst) < WRITER);
        inside.fetch_sub(1, Ordering::SeqCst);
        drop(guard);
    }
    Ok(None)
}

async fn storm(seed: u64) {
    let engine = engine();
    let inside = Inside::default();
    let mut networks = Vec::new();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let mut lots = StdRng::seed_from_u64(seed * CLIENTS + number);
        let network = Faulty::over(Arc::clone(&engine), Replies::Lossy);
        let faults: Vec<_> = (0..200)
            .map(|_| match lots.random_bool(0.2) {
                true => *FAULTS.choose(&mut lots).unwrap(),
                false => Fault::None,
            })
            .collect();
        network.script(faults);
        networks.push(network.clone());
        let inside = Arc::clone(&inside);
        clients.spawn(async move {
            let client = network.client(Duration::from_secs(20));
            let lock = client.rwlock("rw");
            let mut tokens = Vec::new();
            for _ in 0..TURNS {
                tokens.extend(turn(&lock, &inside, lots.random_range(0..10)).await?);
            }
            Ok::<_, Error>((client, tokens))
        });
    }
    let mut last = 0;
    // Kept until the end: with a client its session would end, and hide what was left behind.
    let mut kept = Vec::new();
    for outcome in clients.join_all().await {
        let (client, tokens) = outcome.unwrap();
        assert!(tokens.is_sorted(), "seed {seed}: {tokens:?}");
        last = last.max(tokens.last().copied().unwrap_or(0));
        kept.push(client);
    }
    for network in &networks {
        network.deliver_late().await;
    }
    until_async(async || {
        let keys = RangeRequest::new(KeyRange::prefix("rw/")).count_only();
        engine.range(keys).await.unwrap().count == 0
    })
    .await;
    if last > 0 {
        let read = engine.range(RangeRequest::new("last")).await.unwrap();
        assert_eq!(read.kvs[0].value, format!("{last:020}"), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_breaks_nothing() {
    for seed in 0..12 {
        let ended = tokio::time::timeout(Duration::from_secs(60), storm(seed)).await;
        assert!(ended.is_ok(), "seed {seed} does not end");
    }
}
