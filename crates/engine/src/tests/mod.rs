//! The engine as a whole: through its public face, on injected clocks, journals and file systems.

mod backup;
mod basics;
mod concurrent;
mod crash;
mod durable;
mod fake;
mod model;
mod outrun;
mod permission;
mod poisoned;
mod random;
mod restart;
mod room;
mod sharing;
mod snapshots;
mod space;
mod watching;

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use synod_store::{
    DeleteRequest, EventKind, KeyRange, LeaseId, PutRequest, RangeRequest, Revision, Store, Watch,
    WatchItem, WatchRequest,
};

use crate::{Engine, EngineOptions};

fn memory() -> Engine {
    Engine::open(EngineOptions::memory()).unwrap()
}

fn lease(id: i64) -> LeaseId {
    LeaseId::new(id).unwrap()
}

async fn put(store: &Engine, key: &str, value: &str) -> Revision {
    let put = PutRequest::new(key, value.to_owned());
    store.put(put).await.unwrap().header.revision
}

async fn delete(store: &Engine, range: KeyRange) -> u64 {
    store
        .delete(DeleteRequest::new(range))
        .await
        .unwrap()
        .deleted
}

/// The next item, which must come soon.
async fn next(watch: &mut Watch) -> WatchItem {
    let item = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
    item.expect("the watch stays silent")
        .expect("the watch ended")
        .unwrap()
}

/// Waits for a condition, which must come soon.
async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    for _ in 0..10_000 {
        if reached().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

/// Whether a watch has nothing to say now.
fn is_silent(watch: &mut Watch) -> bool {
    watch.next().now_or_never().is_none()
}

/// The next `count` events: kind, key and revision.
async fn events(watch: &mut Watch, count: usize) -> Vec<(EventKind, String, u64)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        if let WatchItem::Events(batch) = next(watch).await {
            for event in batch.events {
                let key = event.kv.key.to_string();
                seen.push((event.kind, key, event.kv.mod_revision.0));
            }
        }
    }
    assert_eq!(seen.len(), count, "{seen:?}");
    seen
}

/// Everything that can be asked about a store's data: each readable revision, the history as a watch tells it, the leases.
async fn everything(store: &Engine) -> Vec<String> {
    let mut all = Vec::new();
    let status = store.status().await.unwrap();
    let (head, compacted) = {
        let hash = store.hash_kv(Revision::ZERO).await.unwrap();
        (hash.hash_revision, hash.compact_revision)
    };
    all.push(format!("{head} {compacted} {:?}", status.header.cluster_id));
    let mut revision = compacted.max(Revision(1));
    while revision <= head {
        let range = RangeRequest::new(KeyRange::all()).at(revision);
        let found = store.range(range).await.unwrap();
        all.push(format!("at {revision}: {} {:?}", found.count, found.kvs));
        revision = revision.next();
    }
    let request = WatchRequest::new(KeyRange::all())
        .starting_at(compacted.max(Revision(1)))
        .with_prev_kv();
    let mut watch = store.watch(request).await.unwrap();
    watch.request_progress();
    loop {
        match next(&mut watch).await {
            WatchItem::Events(batch) => {
                all.extend(batch.events.iter().map(|event| format!("{event:?}")));
            }
            WatchItem::Progress(revision) => {
                assert_eq!(revision, head);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let mut leases = store.leases().await.unwrap().leases;
    leases.sort_unstable();
    for id in leases {
        let lease = store.lease_time_to_live(id, true).await.unwrap();
        all.push(format!("lease {id}: {:?} {:?}", lease.granted, lease.keys));
    }
    let stats = store.stats();
    all.push(format!(
        "{} {} {} {}",
        stats.keys, stats.live_bytes, stats.history_bytes, stats.revisions
    ));
    all
}
