//! Three workers share a lock, and what they write is fenced.
//!
//! Run it with `cargo run -p synod --example mutex`, or give it the URL of a store:
//! `cargo run -p synod --example mutex -- http://127.0.0.1:2379`. It prints two turns of each worker,
//! with tokens that rise from turn to turn, then who held the lock last, that a guard of the past is
//! refused, and `all done`.

use synod::store::{DeleteRequest, PutRequest};
use synod::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;
    let mutex = client.mutex("example/printer");

    let mut workers = tokio::task::JoinSet::new();
    for name in ["anna", "bert", "cleo"] {
        let mutex = mutex.clone();
        workers.spawn(async move {
            for _ in 0..2 {
                let guard = mutex.lock().await?;
                println!("{name} prints with token {}", guard.fencing_token());
                let put = PutRequest::new("example/last", name);
                guard.txn().and_then([put]).await?;
                guard.unlock().await?;
            }
            Ok::<_, Error>(())
        });
    }
    for outcome in workers.join_all().await {
        outcome?;
    }

    let guard = mutex.lock().await?;
    if let Some(holder) = mutex.holder().await? {
        let identity = String::from_utf8_lossy(&holder.identity).into_owned();
        println!("held by {identity}, {} wait", holder.waiters);
    }
    // Somebody takes the lock away: the guard is told, and can change nothing any more.
    let key = guard.key().clone();
    client.store().delete(DeleteRequest::new(key)).await?;
    guard.lost().await;
    let put = PutRequest::new("example/last", "too late");
    match guard.txn().and_then([put]).await {
        Err(Error::NotOwner { .. }) => println!("a guard of the past is refused"),
        other => println!("unexpected: {other:?}"),
    }
    println!("all done");
    client.close().await
}
