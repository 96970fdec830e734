//! Three keys that change together or not at all.
//!
//! Run it with `cargo run -p synod --example txn`, or give it the URL of a store:
//! `cargo run -p synod --example txn -- http://127.0.0.1:2379`. It prints `seat 7 is anna's` twice:
//! bert comes too late, and is told who has the seat.

use synod::txn::{Compare, CompareOp, delete, get, put};
use synod::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;
    client.txn().and_then([delete("example/seat/7")]).await?;

    for guest in ["anna", "bert"] {
        let answer = client
            .txn()
            // The seat is free: nobody has put the key.
            .when([Compare::absent("example/seat/7")])
            .and_then([
                put("example/seat/7", guest),
                put(format!("example/guest/{guest}"), "7"),
                get("example/seat/7"),
            ])
            .or_else([get("example/seat/7")])
            .await?;
        // The last operation of either list has read the seat.
        let seat = answer.range(answer.responses.len() - 1);
        let owner = seat.and_then(|seat| seat.kvs.first()).map(|kv| &kv.value);
        let owner = String::from_utf8_lossy(owner.map_or(b"", |owner| owner));
        println!("seat 7 is {owner}'s");
    }

    // Given back by anna alone, with her ticket.
    let back = client
        .txn()
        .when([Compare::value("example/seat/7", CompareOp::Equal, "anna")])
        .and_then([delete("example/seat/7"), delete("example/guest/anna")])
        .await?;
    assert!(back.succeeded);
    client.close().await
}
