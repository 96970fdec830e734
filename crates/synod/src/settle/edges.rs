//! Tests: what a token says later, records that are swept too early, and outages.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{Key, KeyRange, PutRequest, RangeRequest, Replies, Store};

use crate::clock::{Clock, ManualClock};
use crate::testing::{Fault, Faulty, until_async};
use crate::{Client, ConnectOptions, Resolution, Token};

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

async fn lanes(store: &Arc<dyn Store>) -> Vec<Key> {
    let request = RangeRequest::new(KeyRange::prefix("__synod/lane/")).keys_only();
    let kvs = store.range(request).await.unwrap().kvs;
    kvs.into_iter().map(|kv| kv.key).collect()
}

/// Another process on the same store.
fn stranger(faulty: &Faulty) -> Client {
    Faulty::over(Arc::clone(&faulty.engine), Replies::Lossy).client(LONG)
}

/// A client's first operation happens, but its caller is told that this is not known.
async fn told_unknown(faulty: &Faulty) -> (Client, Token) {
    let client = faulty.client(SHORT);
    // Lease, fence, operation; its repetition stands at the gate.
    faulty.script([Fault::None, Fault::None, Fault::Lose]);
    faulty.close_gate(3);
    let error = client.queue("q").enqueue("a").await.unwrap_err();
    faulty.open_gate();
    let token = error.token().expect("the outcome is open").clone();
    assert_eq!(client.resolve(&token).await.unwrap(), Resolution::Happened);
    (client, token)
}

#[tokio::test]
async fn an_open_outcome_stays_on_record_when_its_client_closes() {
    let faulty = Faulty::new();
    let (client, token) = told_unknown(&faulty).await;
    client.close().await.unwrap();
    let resolution = stranger(&faulty).resolve(&token).await.unwrap();
    assert_eq!(resolution, Resolution::Happened);
}

#[tokio::test]
async fn an_open_outcome_stays_on_record_while_its_client_goes_on() {
    let faulty = Faulty::new();
    let (client, token) = told_unknown(&faulty).await;
    for _ in 0..40 {
        client.queue("q").enqueue("more").await.unwrap();
    }
    let resolution = stranger(&faulty).resolve(&token).await.unwrap();
    assert_eq!(resolution, Resolution::Happened);
}

#[tokio::test]
async fn many_open_outcomes_do_not_use_up_the_lanes() {
    let faulty = Faulty::new();
    let client = faulty.client(SHORT);
    client.queue("q").enqueue("first").await.unwrap();
    let mut tokens = Vec::new();
    for number in 0..40 {
        faulty.script([Fault::Lose]);
        faulty.close_gate(1);
        let error = client.queue("q").enqueue(number.to_string()).await;
        faulty.open_gate();
        let Some(token) = error.as_ref().unwrap_err().token() else {
            // The records of an epoch are used up: lease and fence of the next one.
            client.queue("q").enqueue(number.to_string()).await.unwrap();
            continue;
        };
        assert_eq!(client.resolve(token).await.unwrap(), Resolution::Happened);
        tokens.push(token.clone());
    }
    assert_eq!(client.queue("q").len().await.unwrap(), 41);
    assert!(tokens.len() > 30, "{}", tokens.len());
    for token in tokens {
        let resolution = stranger(&faulty).resolve(&token).await.unwrap();
        assert_eq!(resolution, Resolution::Happened);
    }
}
