//! Two producers and two consumers share a queue.
//!
//! Run it with `cargo run -p synod --example queue`, or give it the URL of a store:
//! `cargo run -p synod --example queue -- http://127.0.0.1:2379`. It prints each of the six jobs
//! once, those of one producer in order, and then `all done`.

use std::time::Duration;

use synod::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;
    let jobs = client.queue("example/jobs");

    let mut producers = tokio::task::JoinSet::new();
    for name in ["anna", "bert"] {
        let jobs = jobs.clone();
        producers.spawn(async move {
            for number in 1..=3 {
                jobs.enqueue(format!("job {number} of {name}")).await?;
            }
            Ok::<_, Error>(())
        });
    }

    let mut consumers = tokio::task::JoinSet::new();
    for number in 1..=2 {
        let jobs = jobs.clone();
        consumers.spawn(async move {
            // Gives up when nothing has come for a second.
            while let Some(job) = jobs.dequeue_timeout(Duration::from_secs(1)).await? {
                println!("consumer {number}: {}", String::from_utf8_lossy(&job));
            }
            Ok::<_, Error>(())
        });
    }

    for outcome in producers
        .join_all()
        .await
        .into_iter()
        .chain(consumers.join_all().await)
    {
        outcome?;
    }
    println!("all done");
    client.close().await
}
