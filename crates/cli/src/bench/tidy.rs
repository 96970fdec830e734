//! The keys of a measurement: none must be there before it, and none stays.

use synod::Client;
use synod_store::{DeleteRequest, Key, KeyRange, RangeRequest, Result, Store};

/// How many keys one request deletes: a request that deletes a million of them takes longer than a
/// server may take.
const AT_ONCE: u64 = 10_000;

/// The kinds of Synod's own keys that objects have beside those under their name.
const KINDS: [&str; 4] = ["double-barrier", "priority_queue", "queue", "semaphore"];

/// Everything that objects with names below `name/` put into the store.
fn prefixes(name: &str) -> Vec<Key> {
    let own = name.replace('%', "%25").replace('/', "%2F");
    // Priority queues number their items as etcd's Go recipe does: in keys that begin with `__`.
    let mut prefixes = vec![
        Key::from(format!("{name}/")),
        Key::from(format!("__{name}/")),
    ];
    prefixes.extend(KINDS.map(|kind| Key::from(format!("__synod/{kind}/{own}%2F"))));
    prefixes
}

/// Whether there is anything.
pub(crate) async fn exists(client: &Client, name: &str) -> Result<bool> {
    for prefix in prefixes(name) {
        let request = RangeRequest::new(KeyRange::prefix(prefix))
            .keys_only()
            .with_limit(1);
        if !client.store().range(request).await?.kvs.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes everything.
pub(crate) async fn clear(client: &Client, name: &str) -> Result<()> {
    let store = client.store();
    for prefix in prefixes(name) {
        let range = KeyRange::prefix(prefix.clone());
        loop {
            let some = RangeRequest::new(range.clone())
                .keys_only()
                .with_limit(AT_ONCE);
            let found = store.range(some).await?;
            match found.kvs.last() {
                Some(last) if found.more => {
                    let until = KeyRange::between(prefix.clone(), last.key.successor());
                    store.delete(DeleteRequest::new(until)).await?;
                }
                Some(_) => {
                    store.delete(DeleteRequest::new(range)).await?;
                    break;
                }
                None => break,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_stays_and_nothing_else_goes() {
        let client = Client::connect("memory:").await.unwrap();
        client.queue("bench/1").enqueue("near").await.unwrap();
        client
            .priority_queue("bench/10/x")
            .enqueue("near", 1)
            .await
            .unwrap();
        assert!(!exists(&client, "bench/1%").await.unwrap());
        let queue = client.priority_queue("bench/1%/x");
        queue.enqueue("a", 1).await.unwrap();
        client
            .double_barrier("bench/1%/y", 1)
            .enter()
            .await
            .unwrap();
        assert!(exists(&client, "bench/1%").await.unwrap());
        clear(&client, "bench/1%").await.unwrap();
        assert!(!exists(&client, "bench/1%").await.unwrap());
        let left = client
            .store()
            .range(RangeRequest::new(KeyRange::all()).keys_only())
            .await;
        let of_it = |key: &Key| {
            key.as_bytes()
                .windows(3)
                .any(|part| part == b"1%/" || part == b"1%2")
        };
        assert!(!left.unwrap().kvs.iter().any(|kv| of_it(&kv.key)));
        assert_eq!(client.queue("bench/1").len().await.unwrap(), 1);
        assert_eq!(client.priority_queue("bench/10/x").len().await.unwrap(), 1);
    }
}
