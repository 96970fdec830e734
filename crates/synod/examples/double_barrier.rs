//! Three workers go through two phases, which all begin together and end together.
//!
//! Run it with `cargo run -p synod --example double_barrier`, or give it the URL of a store:
//! `cargo run -p synod --example double_barrier -- http://127.0.0.1:2379`. It prints three lines of
//! phase 1 and then three of phase 2, never mixed, though the workers take their time.

use std::time::Duration;

use synod::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;

    let mut workers = tokio::task::JoinSet::new();
    for number in 1..=3 {
        // A handle is one participant.
        let barrier = client.double_barrier("example/phases", 3);
        workers.spawn(async move {
            for phase in 1..=2 {
                barrier.enter().await?;
                tokio::time::sleep(Duration::from_millis(50 * number)).await;
                println!("phase {phase}: worker {number} is done");
                barrier.leave().await?;
            }
            Ok::<_, Error>(())
        });
    }
    for outcome in workers.join_all().await {
        outcome?;
    }
    client.close().await
}
