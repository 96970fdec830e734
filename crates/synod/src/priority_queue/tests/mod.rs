//! The priority queue against a store that loses answers, delays requests and stops at every step.

use std::sync::Arc;

use futures_util::StreamExt;
use synod_store::{
    Compare, CompareOp, EventKind, KeyRange, PutRequest, RangeRequest, Replies, SortOrder,
    SortTarget, Store, Txn, WatchItem, WatchRequest,
};

use super::*;
use crate::testing::{
    FAULTS, Fault, Faulty, WatchEnd, engine, overdue_at_gate, overdue_in_trouble, pass, soon,
    stops_at_gate, txn_at_gate, until, until_async,
};
use crate::{ConnectOptions, Error};

mod cancel;
mod exact;
mod faults;
mod join;
mod order;
mod race;

const LONG: Duration = Duration::from_secs(60);

/// What is left in the queue, as a healthy client sees it.
async fn drain(store: &Arc<dyn Store>, name: &str) -> Vec<Bytes> {
    let queue = Client::from_store(Arc::clone(store)).priority_queue(name);
    let mut values = Vec::new();
    while let Some(value) = queue.try_dequeue().await.unwrap() {
        values.push(value);
    }
    values
}

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) {
    store
        .put(PutRequest::new(key, value.to_owned()))
        .await
        .unwrap();
}

/// Puts a value in with the steps of Go's recipe; returns its key, or `None` when another was first.
async fn go_enqueue_once(store: &dyn Store, name: &str, value: &str, priority: u16) -> Option<Key> {
    let prefix = format!("{name}/{priority:05}");
    let last = RangeRequest::new(KeyRange::prefix(prefix.as_str()))
        .with_limit(1)
        .sorted_by(SortTarget::Key, SortOrder::Descending);
    let read = store.range(last).await.unwrap();
    let number = read.kvs.first().map_or(0, |kv| {
        let key = kv.key.to_string();
        let (_, number) = key.rsplit_once('/').unwrap();
        number.parse::<u64>().unwrap() + 1
    });
    let key = Key::from(format!("{prefix}/{number:016}"));
    let base = Key::from(format!("__{prefix}"));
    let unchanged =
        Compare::mod_revision(base.clone(), CompareOp::Less, read.header.revision.next());
    let txn = Txn::new().when([unchanged]).and_then([
        PutRequest::new(base, ""),
        PutRequest::new(key.clone(), value.to_owned()),
    ]);
    let response = store.txn(txn).await.unwrap();
    response.succeeded.then_some(key)
}

/// Puts a value in as Go does, which begins anew whenever another was first.
async fn go_enqueue(store: &dyn Store, name: &str, value: &str, priority: u16) -> Key {
    for _ in 0..10_000 {
        if let Some(key) = go_enqueue_once(store, name, value, priority).await {
            return key;
        }
    }
    panic!("always too late");
}

/// Replays everything that has happened to a queue: no item was ever overwritten, and each one that
/// was taken was the first at its revision. Returns how many were taken.
async fn check_history(store: &Arc<dyn Store>, name: &str) -> usize {
    let prefix = format!("{name}/");
    let now = store.range(RangeRequest::new("nothing")).await.unwrap();
    let mut watch = store
        .watch(WatchRequest::new(KeyRange::prefix(prefix.as_str())).starting_at(Revision(1)))
        .await
        .unwrap();
    put(store, &format!("{prefix}the end"), "").await;
    let mut live = std::collections::BTreeSet::new();
    let mut taken = 0;
    let mut seen = Revision(1);
    while seen <= now.header.revision {
        let item = tokio::time::timeout(LONG, watch.next()).await;
        let Some(Ok(WatchItem::Events(batch))) = item.expect("an event") else {
            panic!("the history has an end");
        };
        for revision in batch
            .events
            .chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision)
        {
            let mut gone: Vec<Key> = Vec::new();
            let mut new: Vec<Key> = Vec::new();
            for event in revision {
                seen = event.kv.mod_revision;
                match event.kind {
                    EventKind::Delete => gone.push(event.kv.key.clone()),
                    _ => {
                        assert!(event.is_create(), "{:?} was overwritten", event.kv.key);
                        new.push(event.kv.key.clone());
                    }
                }
            }
            let first: Vec<Key> = live.iter().take(gone.len()).cloned().collect();
            gone.sort();
            assert_eq!(gone, first, "at {seen}");
            taken += gone.len();
            live.retain(|key| !gone.contains(key));
            live.extend(new);
        }
    }
    taken
}
