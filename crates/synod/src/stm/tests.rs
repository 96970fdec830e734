//! Tests of transactions.

use std::time::Duration;

use synod_store::{KeyRange, PutRequest};

use super::*;
use crate::testing::Faulty;
use crate::{Client, Result};

const PATIENCE: Duration = Duration::from_secs(20);

async fn transfer(tx: &Tx, from: usize, to: usize) -> Result<()> {
    let keys = [from, to].map(|account| format!("accts/{account}"));
    let balances = tx.get_many(&keys).await?;
    let read = |index: usize| -> i64 {
        let value = balances[index].as_ref().unwrap();
        std::str::from_utf8(value).unwrap().parse().unwrap()
    };
    let half = read(0) / 2;
    if from != to {
        tx.put(&keys[0], (read(0) - half).to_string());
        tx.put(&keys[1], (read(1) + half).to_string());
    }
    Ok(())
}

async fn bank(client: &Client, isolation: Isolation) -> i64 {
    for account in 0..5 {
        let put = PutRequest::new(format!("accts/{account}"), "100");
        client.store().put(put).await.unwrap();
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let stm = client.stm().with_isolation(isolation);
        tasks.spawn(async move {
            for _ in 0..100 {
                let (from, to) = (rand::random_range(0..5), rand::random_range(0..5));
                stm.run(async |tx| transfer(&tx, from, to).await)
                    .await
                    .unwrap();
            }
        });
    }
    tasks.join_all().await;
    let accounts = KeyRange::prefix("accts/");
    let stm = client.stm();
    let balances = stm
        .run(async |tx| tx.range(accounts.clone()).await)
        .await
        .unwrap();
    assert_eq!(balances.len(), 5);
    let number = |value: &[u8]| std::str::from_utf8(value).unwrap().parse::<i64>().unwrap();
    balances.iter().map(|(_, value)| number(value)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_kept() {
    for isolation in [
        Isolation::SerializableSnapshot,
        Isolation::Serializable,
        Isolation::RepeatableReads,
    ] {
        let client = Client::connect("memory:").await.unwrap();
        assert_eq!(bank(&client, isolation).await, 500);
        let client = Faulty::new().client(PATIENCE);
        assert_eq!(bank(&client, isolation).await, 500);
    }
}
