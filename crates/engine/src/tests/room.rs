//! What the operations of one transaction may look at and show together.

use synod_store::{
    Compare, CompareOp, DeleteRequest, ErrorKind, KeyRange, PutRequest, RangeRequest, Result,
    Revision, Store, Txn, TxnOp, TxnResponse,
};

use super::memory;
use crate::Engine;

/// Puts so many keys, each with so many bytes.
async fn fill(store: &Engine, keys: usize, bytes: usize) {
    let numbers: Vec<usize> = (0..keys).collect();
    let value = vec![b'x'; bytes];
    let some = if bytes > 1000 { 1 } else { 128 };
    for numbers in numbers.chunks(some) {
        let puts = numbers
            .iter()
            .map(|number| TxnOp::from(PutRequest::new(format!("k{number:06}"), value.clone())));
        store.txn(Txn::new().and_then(puts)).await.unwrap();
    }
}

fn all() -> KeyRange {
    KeyRange::prefix("k")
}

fn times(count: usize, op: impl Into<TxnOp>) -> Vec<TxnOp> {
    vec![op.into(); count]
}

async fn head(store: &Engine) -> Revision {
    store.status().await.unwrap().header.revision
}

/// It was refused for what it looks at, and nothing of it was applied.
async fn refused(store: &Engine, txn: Txn) {
    let before = head(store).await;
    let refused = store.txn(txn).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooManyOperations);
    assert!(refused.message().contains("together"), "{refused}");
    assert_eq!(head(store).await, before);
    let written = store.range(RangeRequest::new("z")).await.unwrap();
    assert_eq!(written.count, 0);
}

#[tokio::test]
async fn writes_wait_for_no_more_than_so_many_keys() {
    let store = memory();
    // Shown, 20,000 pairs are a page of 2,048 for each 256 of them.
    fill(&store, 20_000, 1).await;
    let with_put = |ops: Vec<TxnOp>| {
        Txn::new().and_then(times(1, PutRequest::new("z", "")).into_iter().chain(ops))
    };
    let show = || RangeRequest::new(all());
    refused(&store, with_put(times(40, show()))).await;
    // Counting them is looking at them; so are conditions and deletions, which find nothing a second time.
    let counts = || RangeRequest::new(all()).count_only();
    let nested = TxnOp::from(Txn::new().and_then(times(50, counts())));
    refused(&store, with_put(times(6, nested))).await;
    let condition = Compare::version(all(), CompareOp::Greater, 0);
    let conditions = TxnOp::from(Txn::new().when(vec![condition; 100]));
    refused(&store, with_put(times(3, conditions))).await;
    refused(
        &store,
        with_put(times(
            6,
            Txn::new().and_then(times(50, DeleteRequest::new(all()))),
        )),
    )
    .await;

    let answer = |answer: Result<TxnResponse>| answer.unwrap().responses.len();
    // One alone is never too long, and twenty are not.
    assert_eq!(answer(store.txn(with_put(times(20, show()))).await), 21);
    store.delete(DeleteRequest::new("z")).await.unwrap();
    // Who only reads holds nobody up.
    assert_eq!(
        answer(store.txn(Txn::new().and_then(times(30, show()))).await),
        30
    );
}

#[tokio::test]
async fn an_answer_shows_no_more_than_so_many_bytes() {
    let store = memory();
    // 20 MB.
    fill(&store, 20, 1_000_000).await;
    let shows = |count: usize| Txn::new().and_then(times(count, RangeRequest::new(all())));
    refused(&store, shows(20)).await;
    refused(
        &store,
        shows(20).and_then(times(1, PutRequest::new("z", ""))),
    )
    .await;
    let answer = store.txn(shows(12)).await.unwrap();
    assert_eq!(answer.responses.len(), 12);
    // Keys alone are small.
    let keys = RangeRequest::new(all()).keys_only();
    let answer = store.txn(Txn::new().and_then(times(120, keys))).await;
    assert_eq!(answer.unwrap().responses.len(), 120);
}
