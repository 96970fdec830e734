//! Six workers share two connections to something that bears no more.
//!
//! Run it with `cargo run -p synod --example semaphore`, or give it the URL of a store:
//! `cargo run -p synod --example semaphore -- http://127.0.0.1:2379`. It prints `worker N begins` and
//! `worker N ends` for six workers, never more than two of them between the two, then
//! `all connections at once`, and at the end `2 of 2 are free`.

use std::time::Duration;

use synod::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;
    // Everybody who uses this name must give the same number.
    let connections = client.semaphore("example/connections", 2);

    let mut workers = tokio::task::JoinSet::new();
    for number in 1..=6 {
        let connections = connections.clone();
        workers.spawn(async move {
            let permit = connections.acquire().await?;
            println!("worker {number} begins");
            tokio::time::sleep(Duration::from_millis(50)).await;
            println!("worker {number} ends");
            permit.release().await
        });
    }
    for worked in workers.join_all().await {
        worked?;
    }

    let all = connections.acquire_many(2).await?;
    println!("all connections at once");
    assert!(connections.try_acquire().await?.is_none());
    all.release().await?;

    let free = connections.available_permits().await?;
    println!("{free} of {} are free", connections.permits());
    client.close().await
}
