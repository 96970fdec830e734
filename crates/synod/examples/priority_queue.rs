//! A producer of urgent and of patient jobs, and two workers.
//!
//! Run it with `cargo run -p synod --example priority_queue`, or give it the URL of a store:
//! `cargo run -p synod --example priority_queue -- http://127.0.0.1:2379`. It prints the two jobs of
//! priority 0 first, then those of 5, then those of 9, each once, and then `all done`. (The workers
//! print side by side, so neighbouring lines may change places.)

use std::time::Duration;

use synod::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;
    let jobs = client.priority_queue("example/urgent jobs");

    // The lower number comes out first, whatever went in first.
    for priority in [9, 0, 5] {
        let names = ["anna", "bert"].map(|name| format!("{name}'s job of priority {priority}"));
        jobs.enqueue_many(names.map(|name| (name, priority)))
            .await?;
    }

    let mut workers = tokio::task::JoinSet::new();
    for number in 1..=2 {
        let jobs = jobs.clone();
        workers.spawn(async move {
            // Gives up when nothing has come for a second.
            while let Some(job) = jobs.dequeue_timeout(Duration::from_secs(1)).await? {
                println!("worker {number}: {}", String::from_utf8_lossy(&job));
            }
            Ok::<_, Error>(())
        });
    }
    for outcome in workers.join_all().await {
        outcome?;
    }
    println!("all done");
    client.close().await
}
