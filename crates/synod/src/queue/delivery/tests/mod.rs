//! Deliveries against a store that loses answers, delays requests and stops at every step.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{KeyRange, KeyValue, LeaseId, PutRequest, RangeRequest, Replies, Store};

use super::{Delivery, EnqueueOptions, Enqueued};
use crate::clock::ManualClock;
use crate::testing::{Fault, Faulty, engine, pass, soon, until, until_async};
use crate::{Client, ConnectOptions, Error, Queue};

mod basic;
mod faults;
mod joined;
mod late;
mod overtaken;
mod priority;
mod room;
mod strange;

const LONG: Duration = Duration::from_secs(60);

/// All keys under a prefix.
async fn keys(store: &Arc<dyn Store>, prefix: &str) -> Vec<KeyValue> {
    let request = RangeRequest::new(KeyRange::prefix(prefix.to_owned()));
    store.range(request).await.unwrap().kvs
}

/// The leases under the markers of deliveries.
async fn marker_leases(store: &Arc<dyn Store>, queue: &str) -> Vec<LeaseId> {
    let prefix = format!("__synod/{queue}/taken-by/");
    let kvs = keys(store, &prefix).await;
    kvs.into_iter().filter_map(|kv| kv.lease).collect()
}

/// What the store does when the bounds of all deliveries run out.
async fn run_out(store: &Arc<dyn Store>, queue: &str) {
    for lease in marker_leases(store, queue).await {
        store.lease_revoke(lease).await.unwrap();
    }
}

/// A store whose answers are certain, and one that can lose them.
fn both() -> [Faulty; 2] {
    [Replies::Certain, Replies::Lossy].map(|replies| Faulty::over(engine(), replies))
}

/// Another process on the same store.
fn stranger(faulty: &Faulty) -> Client {
    Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy).client(LONG)
}

fn with_clock(faulty: &Faulty, clock: &Arc<ManualClock>) -> Client {
    let options = ConnectOptions::new("memory:").with_timeout(LONG);
    options
        .with_clock(clock.clone())
        .over(Arc::new(faulty.clone()))
}

fn value(delivery: &Delivery) -> String {
    String::from_utf8(delivery.value().to_vec()).unwrap()
}

/// Takes and acknowledges all there is.
async fn drain(queue: &Queue) -> Vec<(String, u32)> {
    let mut drained = Vec::new();
    while let Some(delivery) = queue.try_take().await.unwrap() {
        drained.push((value(&delivery), delivery.attempt()));
        delivery.ack().await.unwrap();
    }
    drained
}
