//! Deliveries against a store that loses answers, delays requests and stops at every step.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{Key, KeyRange, KeyValue, LeaseId, RangeRequest, Replies, Store};

use super::Delivery;
use crate::testing::{FAULTS, Fault, Faulty, engine, until_async};
use crate::{Client, Error, Queue};

mod basic;

const LONG: Duration = Duration::from_secs(20);

/// All keys under a prefix.
async fn keys(store: &Arc<dyn Store>, prefix: &str) -> Vec<KeyValue> {
    let request = RangeRequest::new(KeyRange::prefix(prefix.to_owned()));
    store.range(request).await.unwrap().kvs
}

/// The leases under the markers of deliveries.
async fn marker_leases(store: &Arc<dyn Store>, queue: &str) -> Vec<LeaseId> {
    let prefix = format!("__synod/queue/{queue}/taken-by/");
    let kvs = keys(store, &prefix).await;
    kvs.into_iter().filter_map(|kv| kv.lease).collect()
}

/// What the store does when a bound runs out.
async fn run_out(store: &Arc<dyn Store>, queue: &str) {
    for lease in marker_leases(store, queue).await {
        store.lease_revoke(lease).await.unwrap();
    }
}

fn both() -> [Faulty; 2] {
    [Replies::Certain, Replies::Lossy].map(|replies| Faulty::over(engine(), replies))
}
