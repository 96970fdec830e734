//! A consumer that takes one item, says so, and works on it until it is killed.
//!
//! `taker URL NAMESPACE QUEUE MOST` prints `VALUE ATTEMPT`. It is killed before it can acknowledge
//! anything, so the tests of deliveries see what becomes of the item.

use std::io::Write;

use synod::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, namespace, queue, most] = &args[..] else {
        panic!("taker URL NAMESPACE QUEUE MOST");
    };
    let client = Client::builder(url).with_namespace(namespace).await;
    let queue = client.expect("a store").queue(queue.as_str());
    let most: u32 = most.parse().expect("a number");
    let delivery = queue.with_max_attempts(most).take().await.expect("an item");
    let value = String::from_utf8_lossy(delivery.value()).into_owned();
    println!("{value} {}", delivery.attempt());
    std::io::stdout().flush().expect("somebody reads");
    // Hard at work, and out of the reach of everything that would clean up.
    std::future::pending::<()>().await;
    drop(delivery);
}
