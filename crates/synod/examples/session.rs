//! One session under a lock, an election and a semaphore: they end together.
//!
//! Run it with `cargo run -p synod --example session`, or give it the URL of a store:
//! `cargo run -p synod --example session -- http://127.0.0.1:2379`. It prints `alive`, the three
//! things that it holds, `closed`, and then that each of the three is lost.

use std::time::Duration;

use futures_util::StreamExt;
use synod::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;
    let session = client.session().ttl(Duration::from_secs(10)).await?;

    // What becomes of the session, as it happens.
    let mut states = session.states();
    let watcher = tokio::spawn(async move {
        while let Some(state) = states.next().await {
            println!("the session is {state:?}");
        }
    });

    let lock = client.mutex("example/lock").with_session(&session);
    let lock = lock.lock().await?;
    let election = client.election("example/leader").with_session(&session);
    let leadership = election.campaign("this process").await?;
    let pool = client.semaphore("example/pool", 3).with_session(&session);
    let permit = pool.acquire().await?;
    println!("holding {}", lock.key());
    println!("holding {}", leadership.key());
    println!("holding {}", permit.key());

    let all_lost = [
        tokio::spawn(lock.lost()),
        tokio::spawn(leadership.lost()),
        tokio::spawn(permit.lost()),
    ];
    session.close().await?;
    for lost in all_lost {
        lost.await.map_err(|_| Error::NoRuntime)?;
        println!("one of them is lost");
    }
    watcher.await.map_err(|_| Error::NoRuntime)?;
    client.close().await
}
