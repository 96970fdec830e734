//! Tasks that draw numbers: each gets one of its own, none is left out.
//!
//! Run it with `cargo run -p synod --example stm`, or give it the URL of a store:
//! `cargo run -p synod --example stm -- http://127.0.0.1:2379`. It prints which number each of five
//! tasks has drawn, in any order, and then `drawn: 1 2 3 4 5`.

use synod::store::KeyRange;
use synod::{Client, Error, Tx};

/// Draws the next number, and notes who has it. Runs again when another was faster.
async fn draw(tx: &Tx, name: &str) -> Result<u64, Error> {
    let last = tx.get("example/last").await?.unwrap_or_default();
    let number = String::from_utf8_lossy(&last).parse().unwrap_or(0) + 1;
    tx.put("example/last", number.to_string());
    tx.put(format!("example/drawn/{number}"), name.to_owned());
    Ok(number)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;
    let stm = client.stm();

    let drawn = KeyRange::prefix("example/drawn/");
    stm.run(async |tx| {
        tx.delete("example/last");
        for (key, _) in tx.range(drawn.clone()).await? {
            tx.delete(key);
        }
        Ok(())
    })
    .await?;

    let mut tasks = tokio::task::JoinSet::new();
    for task in 1..=5 {
        let stm = stm.clone();
        tasks.spawn(async move {
            let name = format!("task {task}");
            let number = stm.run(async |tx| draw(&tx, &name).await).await?;
            println!("{name} has drawn {number}");
            Ok::<_, Error>(())
        });
    }
    for outcome in tasks.join_all().await {
        outcome?;
    }

    let numbers = stm.run(async |tx| tx.range(drawn.clone()).await).await?;
    let numbers: Vec<String> = numbers
        .iter()
        .map(|(key, _)| key.to_string().replace("example/drawn/", ""))
        .collect();
    println!("drawn: {}", numbers.join(" "));
    client.close().await
}
