//! Tests of transactions: what they see, what they refuse, what they cost, and faults.

mod board;
mod ends;
mod faults;
mod joined;
mod levels;
mod limits;
mod reads;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use synod_store::{DeleteRequest, PutRequest, RangeRequest};

use super::*;
use crate::testing::Faulty;
use crate::{Client, Error, Result};

const PATIENCE: Duration = Duration::from_secs(60);

const LEVELS: [Isolation; 4] = [
    Isolation::SerializableSnapshot,
    Isolation::Serializable,
    Isolation::RepeatableReads,
    Isolation::ReadCommitted,
];

/// The first three compare what was read when they commit.
fn validates(level: Isolation) -> bool {
    LEVELS[..3].contains(&level)
}

/// The first two read one state.
fn is_snapshot(level: Isolation) -> bool {
    LEVELS[..2].contains(&level)
}

/// One client whose store is certain, and one whose store loses answers.
fn clients() -> [(Faulty, Client); 2] {
    use synod_store::Replies;
    [Replies::Certain, Replies::Lossy].map(|replies| {
        let faulty = Faulty::over(crate::testing::engine(), replies);
        let client = faulty.client(PATIENCE);
        (faulty, client)
    })
}

async fn put(client: &Client, key: &str, value: &str) {
    let put = PutRequest::new(key, value.to_owned());
    client.store().put(put).await.unwrap();
}

async fn delete(client: &Client, key: &str) {
    client
        .store()
        .delete(DeleteRequest::new(key))
        .await
        .unwrap();
}

async fn get(client: &Client, key: &str) -> Option<String> {
    let kvs = client
        .store()
        .range(RangeRequest::new(key))
        .await
        .unwrap()
        .kvs;
    kvs.into_iter().next().map(|kv| text(&kv.value))
}

fn text(value: &[u8]) -> String {
    String::from_utf8(value.to_vec()).unwrap()
}

fn number(value: Option<Bytes>) -> i64 {
    value.map_or(0, |value| text(&value).parse().unwrap())
}

/// True the first time.
#[derive(Default)]
struct Once(AtomicU32);

impl Once {
    fn first(&self) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst) == 0
    }
}

async fn increment(tx: &Tx, key: &str) -> Result<()> {
    let count = number(tx.get(key).await?);
    tx.put(key, (count + 1).to_string());
    Ok(())
}
