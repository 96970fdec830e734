//! Three workers wait behind a barrier until the preparations are done.
//!
//! Run it with `cargo run -p synod --example barrier`, or give it the URL of a store:
//! `cargo run -p synod --example barrier -- http://127.0.0.1:2379`. It prints `preparing`, then
//! `released`, then once for each worker that it goes on (all three, in any order).

use std::time::Duration;

use synod::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;

    // With a session, the barrier is released also if this program dies while it prepares.
    let session = client.session().ttl(Duration::from_secs(10)).await?;
    let barrier = client.barrier("example/prepared").with_session(&session);
    barrier.hold().await?;
    println!("preparing");

    let mut workers = tokio::task::JoinSet::new();
    for number in 1..=3 {
        let barrier = client.barrier("example/prepared");
        workers.spawn(async move {
            barrier.wait().await?;
            println!("worker {number} goes on");
            Ok::<_, Error>(())
        });
    }
    // Nobody gets through yet.
    assert!(!barrier.wait_timeout(Duration::from_millis(300)).await?);

    println!("released");
    barrier.release().await?;
    for outcome in workers.join_all().await {
        outcome?;
    }
    session.close().await?;
    client.close().await
}
