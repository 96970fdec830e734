//! What each level of isolation lets happen, and the next stronger one refuses.
//!
//! Run it with `cargo run -p synod --example isolation`, or give it the URL of a store:
//! `cargo run -p synod --example isolation -- http://127.0.0.1:2379`. In each of four scenes we read,
//! then others commit, then we write. It prints which level commits that, and which runs us again.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use synod::Isolation::{ReadCommitted, RepeatableReads, Serializable, SerializableSnapshot};
use synod::store::KeyRange;
use synod::{Client, Error, Isolation, txn};

/// What we read, what they write, what we write.
const SCENES: [(&str, [&str; 3]); 4] = [
    // Both add one to n, which was the same for both: one addition is lost.
    ("lost update", ["n", "n", "n"]),
    // One of two doctors must stay. Each sees that the other does, and both go.
    ("write skew", ["bert", "bert", "anna"]),
    // We count the guests while a new one comes: the count is wrong.
    ("phantom", ["guest/", "guest/2", "count"]),
    // We write over a value that we have not read, and that is newer than what we have.
    ("blind write", ["a", "b", "b"]),
];
/// Who lets it happen, and who does not.
const LEVELS: [(Isolation, Isolation); 4] = [
    (ReadCommitted, RepeatableReads),
    (ReadCommitted, RepeatableReads),
    (RepeatableReads, Serializable),
    (Serializable, SerializableSnapshot),
];

/// Plays a scene; returns how often our transaction has run.
async fn play(client: &Client, keys: [&str; 3], level: Isolation) -> Result<u32, Error> {
    let [read, theirs, ours] = keys.map(|key| format!("example/isolation/{key}"));
    client.txn().and_then([txn::delete(&theirs)]).await?;
    client.txn().and_then([txn::put(&read, "before")]).await?;
    let (first, stm) = (AtomicBool::new(true), client.stm().with_isolation(level));
    let committed = stm.transact(async |tx| {
        let seen = tx.range(KeyRange::prefix(&read)).await?;
        if first.swap(false, SeqCst) {
            client.txn().and_then([txn::put(&theirs, "theirs")]).await?;
        }
        tx.put(&ours, format!("made of {} keys", seen.len()));
        Ok::<_, Error>(())
    });
    Ok(committed.await?.attempts)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    let client = Client::connect(url.as_deref().unwrap_or("memory:")).await?;
    for ((name, keys), (weaker, stronger)) in SCENES.into_iter().zip(LEVELS) {
        assert_eq!(play(&client, keys, weaker).await?, 1, "{name}");
        assert_eq!(play(&client, keys, stronger).await?, 2, "{name}");
        println!("{name}: {weaker:?} commits it, {stronger:?} runs us again");
    }
    client.close().await
}
