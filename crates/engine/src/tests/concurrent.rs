//! Readers while others write and compact.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use synod_store::{
    Compare, CompareOp, ErrorKind, KeyRange, PutRequest, RangeRequest, Revision, Store, Txn, TxnOp,
};

use super::*;

/// Keys of one group; every transaction sets all of them to one value.
const KEYS: usize = 120;

fn set_all(value: u64) -> Txn {
    Txn::new().and_then((0..KEYS).map(|key| {
        let key = format!("g/{key:05}");
        TxnOp::from(PutRequest::new(key, value.to_string()))
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_read_is_of_one_revision() {
    let store = memory();
    // More keys than fit into a page lie between the group's.
    for page in 0..60 {
        let puts = (0..100).map(|key| PutRequest::new(format!("g/{page:05}/{key}"), ""));
        store.txn(Txn::new().and_then(puts)).await.unwrap();
    }
    store.txn(set_all(0)).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let acked = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let (store, done, acked) = (store.clone(), Arc::clone(&done), Arc::clone(&acked));
        async move {
            for value in 1..=400 {
                let revision = store.txn(set_all(value)).await.unwrap().header.revision;
                acked.store(revision.0, Ordering::SeqCst);
                if value % 3 == 0 {
                    store.compact(revision, value % 2 == 0).await.unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
        }
    });
    let mut readers = Vec::new();
    for reader in 0..4 {
        let (store, done, acked) = (store.clone(), Arc::clone(&done), Arc::clone(&acked));
        readers.push(tokio::spawn(async move {
            let mut reads = 0;
            while !done.load(Ordering::SeqCst) || reads < 5 {
                let before = acked.load(Ordering::SeqCst);
                let mut request = RangeRequest::new(KeyRange::prefix("g/"));
                if reader == 1 {
                    request.revision = Revision(before);
                }
                let found = if reader == 2 {
                    let compare = Compare::version(KeyRange::prefix("g/"), CompareOp::Greater, 0);
                    let txn = Txn::new()
                        .when([compare])
                        .and_then([request.clone(), request]);
                    let mut answer = store.txn(txn).await.unwrap();
                    assert!(answer.succeeded);
                    let second = answer.responses.pop().unwrap().into_range().unwrap();
                    let first = answer.responses.pop().unwrap().into_range().unwrap();
                    assert_eq!(first.kvs, second.kvs);
                    second
                } else {
                    match store.range(request).await {
                        Ok(found) => found,
                        // Only a read of an explicit revision may be outrun.
                        Err(error) => {
                            assert_eq!((reader, error.kind()), (1, ErrorKind::Compacted));
                            continue;
                        }
                    }
                };
                assert_eq!(found.count as usize, 60 * 100 + KEYS);
                let values: Vec<_> = found.kvs.iter().filter(|kv| !kv.value.is_empty()).collect();
                assert_eq!(values.len(), KEYS);
                assert!(values.iter().all(|kv| kv.value == values[0].value));
                assert!(
                    found.header.revision.0 >= before,
                    "an acknowledged write was not seen"
                );
                reads += 1;
            }
            reads
        }));
    }
    writer.await.unwrap();
    for reader in readers {
        assert!(reader.await.unwrap() >= 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_increment_is_lost() {
    let store = memory();
    put(&store, "n", "0").await;
    let adders: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut added = 0;
                while added < 50 {
                    let found = store
                        .range(RangeRequest::new("n"))
                        .await
                        .unwrap()
                        .kvs
                        .remove(0);
                    let number: u64 = String::from_utf8_lossy(&found.value).parse().unwrap();
                    let txn = Txn::new()
                        .when([Compare::modified_at("n", found.mod_revision)])
                        .and_then([PutRequest::new("n", (number + 1).to_string())]);
                    added += u64::from(store.txn(txn).await.unwrap().succeeded);
                }
            })
        })
        .collect();
    for adder in adders {
        adder.await.unwrap();
    }
    let found = store.range(RangeRequest::new("n")).await.unwrap();
    assert_eq!(found.kvs[0].value, "400");
    assert_eq!(found.kvs[0].version, 401);
}
