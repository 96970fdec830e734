//! Two readers and a writer share a lock.
//!
//! Run it with `cargo run -p synod --example rwlock`, or give it the URL of a store:
//! `cargo run -p synod --example rwlock -- http://127.0.0.1:2379`. It prints that both readers are in
//! together, that the writer waits, then that it is alone, and `all done`.

use synod::rwlock::Holders;
use synod::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;
    let catalogue = client.rwlock("example/catalogue");

    let one = catalogue.read().await?;
    let two = catalogue.read().await?;
    if let Holders::Readers(readers) = catalogue.holders().await? {
        println!("{} readers are in together", readers.len());
    }
    if catalogue.try_write().await?.is_none() {
        println!("a writer would have to wait");
    }

    let writer = {
        let catalogue = catalogue.clone();
        tokio::spawn(async move { catalogue.write().await })
    };
    one.unlock().await?;
    two.unlock().await?;
    let Ok(alone) = writer.await else {
        println!("the writer's task has died");
        return Ok(());
    };
    let alone = alone?;
    println!("the writer is in, with token {}", alone.fencing_token());
    if catalogue.try_read().await?.is_none() {
        println!("and it is alone");
    }
    alone.unlock().await?;
    println!("all done");
    client.close().await
}
