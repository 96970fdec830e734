//! Registers: compare and swap, and reads.

use std::future::IntoFuture;

use rand::Rng;
use synod::store::{Compare, Revision, TxnResponse};
use synod::txn::{get, put};

use super::{Spawner, Task, text, value};
use crate::history::{Answer, Args, Call};

/// How many registers there are.
const REGISTERS: u32 = 3;

pub(super) fn spawn(spawner: &mut Spawner<'_>) {
    spawner.spawn("swap", swaps);
    spawner.spawn("read", reads);
}

fn register(task: &mut Task) -> String {
    let number = task.rng.random_range(0..REGISTERS);
    format!("{}{number}", task.primitive.prefix())
}

fn answer(response: &TxnResponse) -> Answer {
    let kv = response.range(0).and_then(|range| range.kvs.first());
    Answer {
        yes: Some(response.succeeded),
        value: kv.map(|kv| text(&kv.value)),
        revision: Some(response.header.revision.0),
        ..Answer::default()
    }
}

async fn swaps(mut task: Task) {
    let mut known: std::collections::HashMap<String, Revision> = Default::default();
    while task.goes_on().await {
        let (key, new) = (register(&mut task), task.unique());
        let seen = known.get(&key).copied().unwrap_or_default();
        let txn = task.client().txn();
        let run = txn
            .when([Compare::modified_at(key.as_str(), seen)])
            .and_then([put(key.as_str(), new.clone())])
            .or_else([get(key.as_str())])
            .into_future();
        let args = Args {
            keys: vec![key.clone()],
            number: Some(seen.0),
            ..value(new)
        };
        let Some(response) = task.op(Call::Swap, args, run, answer).await else {
            known.remove(&key);
            continue;
        };
        let found = response.range(0).and_then(|range| range.kvs.first());
        let modified = match (response.succeeded, found) {
            (true, _) => response.header.revision,
            (false, Some(kv)) => kv.mod_revision,
            (false, None) => Revision::ZERO,
        };
        known.insert(key, modified);
    }
}

async fn reads(mut task: Task) {
    while task.goes_on().await {
        let key = register(&mut task);
        let run = task
            .client()
            .txn()
            .and_then([get(key.as_str())])
            .into_future();
        let args = Args {
            keys: vec![key],
            ..Args::default()
        };
        task.op(Call::Read, args, run, answer).await;
    }
}
