//! Ten tasks move money between five accounts, a hundred times each: none is lost.
//!
//! Run it with `cargo run -p synod --example bank`, or give it the URL of a store:
//! `cargo run -p synod --example bank -- http://127.0.0.1:2379`. It prints a line for each account, such
//! as `account accts/0: 87`, and then `account sum is 500`.

use rand::random_range;
use synod::store::KeyRange;
use synod::txn::put;
use synod::{Client, Error, Tx};

async fn balance(tx: &Tx, account: &str) -> Result<u64, Error> {
    let text = tx.get(account).await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).parse().unwrap_or(0))
}

/// Moves half of what the one account holds to the other.
async fn transfer(tx: &Tx, from: &str, to: &str) -> Result<(), Error> {
    let half = balance(tx, from).await? / 2;
    tx.put(from, (balance(tx, from).await? - half).to_string());
    tx.put(to, (balance(tx, to).await? + half).to_string());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    let client = Client::connect(url.as_deref().unwrap_or("memory:")).await?;
    let stm = client.stm();
    for number in 0..5 {
        let account = put(format!("accts/{number}"), "100");
        client.txn().and_then([account]).await?;
    }

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let stm = stm.clone();
        tasks.spawn(async move {
            for _ in 0..100 {
                let [from, to] = [(); 2].map(|()| format!("accts/{}", random_range(0..5)));
                stm.run(async |tx| transfer(&tx, &from, &to).await).await?;
            }
            Ok::<_, Error>(())
        });
    }
    for outcome in tasks.join_all().await {
        outcome?;
    }

    let mut sum = 0;
    let accounts = KeyRange::prefix("accts/");
    for (account, balance) in stm.run(async |tx| tx.range(accounts.clone()).await).await? {
        let balance = String::from_utf8_lossy(&balance).parse().unwrap_or(0);
        println!("account {account}: {balance}");
        sum += balance;
    }
    println!("account sum is {sum}");
    client.close().await
}
