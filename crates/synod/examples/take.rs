//! Jobs that are not lost when a worker dies.
//!
//! Run it with `cargo run -p synod --example take`, or give it the URL of a store:
//! `cargo run -p synod --example take -- http://127.0.0.1:2379`. One of the three jobs fails
//! each time, until it is a dead letter: it prints each attempt, then the dead letter, and then `all
//! done`.

use std::time::Duration;

use synod::delivery::EnqueueOptions;
use synod::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;
    let jobs = client.queue("example/take").with_max_attempts(3);

    jobs.enqueue("resize cat.png").await?;
    jobs.enqueue("resize broken.png").await?;
    // Comes a moment later, and only once although it is put in twice.
    let later = EnqueueOptions::new()
        .with_delay(Duration::from_millis(200))
        .with_id("dog");
    for _ in 0..2 {
        let put = jobs.enqueue_with("resize dog.png", later.clone()).await?;
        println!("dog.png: {put:?}");
    }

    // Gives up when nothing has come for two seconds.
    while let Some(job) = jobs.take_timeout(Duration::from_secs(2)).await? {
        let name = String::from_utf8_lossy(job.value()).into_owned();
        println!("{name}: attempt {}", job.attempt());
        if name.contains("broken") {
            // As when the worker dies: without an acknowledgement the item comes again.
            drop(job);
        } else {
            job.ack().await?;
        }
    }

    for letter in jobs.dead().list(10).await? {
        let name = String::from_utf8_lossy(&letter.value);
        println!("dead after {} attempts: {name}", letter.attempts);
    }
    jobs.dead().clear().await?;
    println!("all done");
    client.close().await
}
