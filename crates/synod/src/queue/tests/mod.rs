//! The queue against a store that loses answers, delays requests and stops at every step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use synod_store::{PutRequest, Replies, Store};

use super::keys::Fifo;
use super::order::Order;
use crate::clock::{Clock, ManualClock};
use crate::testing::{
    FAULTS, Fault, Faulty, WatchEnd, engine, overdue_at_gate, overdue_in_trouble, pass, runtime,
    stops_at_gate, txn_at_gate, until, until_async,
};
use crate::{Client, ConnectOptions, Error, Queue, Resolution};

mod cancel;
mod edges;
pub(crate) mod faults;
mod join;
mod order;
mod race;
mod reach;
mod run;

const LONG: Duration = Duration::from_secs(60);

/// What is left in the queue, as a healthy client sees it.
async fn drain(store: &Arc<dyn Store>, name: &str) -> Vec<Bytes> {
    let queue = Client::from_store(Arc::clone(store)).queue(name);
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
