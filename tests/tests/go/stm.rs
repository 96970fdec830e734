//! STM: Go and Rust tasks move money between the same accounts at once. On one node: with more, Go's
//! STM can ask a member for a revision that it does not have yet, and fails.

use bytes::Bytes;
use rand::Rng;
use synod::{Client, Isolation};
use synod_tests::beside_go;
use synod_tests::go::Beside;
use synod_tests::wait;

use crate::common::{ACCOUNT, ACCOUNTS, VALIDATING, open, sum};

const TASKS: usize = 3;
const TRANSFERS: usize = 25;

/// Moves half of one account's balance to another.
async fn transfer(client: &Client, level: Isolation) {
    let (from, to) = {
        let mut chance = rand::rng();
        let mut account = || format!("{ACCOUNT}{}", chance.random_range(0..ACCOUNTS));
        (account(), account())
    };
    let stm = client.stm().with_isolation(level);
    let moved = stm.run(|tx| {
        let (from, to) = (from.clone(), to.clone());
        async move {
            let have = balance(tx.get(from.as_str()).await?);
            if from == to {
                return Ok(());
            }
            let other = balance(tx.get(to.as_str()).await?);
            tx.put(from, (have - have / 2).to_string());
            tx.put(to, (other + have / 2).to_string());
            Ok(())
        }
    });
    moved.await.unwrap();
}

fn balance(value: Option<Bytes>) -> u64 {
    let value = value.expect("the account is there");
    std::str::from_utf8(&value).unwrap().parse().unwrap()
}

beside_go! {
    async fn no_level_that_validates_loses_money(beside: Beside) {
        let go = beside.go();
        let client = beside.client().await;
        let levels = [Isolation::SerializableSnapshot, Isolation::Serializable, Isolation::RepeatableReads];
        for (theirs, ours) in VALIDATING.into_iter().zip(levels) {
            open(&client).await;
            let (tasks, transfers) = (TASKS.to_string(), TRANSFERS.to_string());
            let bank = go.begin(&["stm.bank", theirs, ACCOUNT, &ACCOUNTS.to_string(), &tasks, &transfers]);
            let mut working = Vec::new();
            for _ in 0..TASKS {
                let client = beside.client().await;
                working.push(tokio::spawn(async move {
                    for _ in 0..TRANSFERS {
                        transfer(&client, ours).await;
                    }
                }));
            }
            bank.ok().await;
            for task in working {
                wait::soon("the transfers", task).await.unwrap();
            }
            assert_eq!(sum(&client).await, 500, "{theirs}");
        }
    }
}
