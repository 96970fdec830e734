//! Reads of the current revision while others write and compact so fast that it is gone before they are done.

use std::future::Future;
use std::pin::pin;

use futures_util::future::join;
use synod_store::{Compare, CompareOp, ErrorKind, Store, Txn, TxnOp};

use super::*;
use crate::Retention;

/// So many are read in 20 pages where they are shown; a read gives way after 16.
const KEYS: usize = 5000;

async fn fill(store: &Engine) {
    let numbers: Vec<usize> = (0..KEYS).collect();
    for numbers in numbers.chunks(128) {
        let puts = numbers
            .iter()
            .map(|number| TxnOp::from(PutRequest::new(format!("k{number:06}"), "v")));
        store.txn(Txn::new().and_then(puts)).await.unwrap();
    }
}

fn all() -> RangeRequest {
    RangeRequest::new(KeyRange::prefix("k"))
}

/// Overwrites the last key that is read, and compacts all that was before.
async fn overwrite(store: &Engine) -> Revision {
    let at = put(store, "kz", "v").await;
    store.compact(at, false).await.unwrap();
    // What this turn of the writer could forget is gone before the next one begins.
    put(store, "z", "").await;
    at
}

/// Overwrites and compacts before a read begins, and whenever it gives way; its answer, and how often it did.
async fn outrun<T>(store: &Engine, read: impl Future<Output = T>) -> (T, Vec<Revision>) {
    let mut read = pin!(read);
    let mut turns = vec![overwrite(store).await];
    loop {
        if let Some(answer) = read.as_mut().now_or_never() {
            return (answer, turns);
        }
        turns.push(overwrite(store).await);
    }
}

fn nothing_is_superseded(store: &Engine) {
    assert_eq!(store.shared().state().superseded_bytes(), 0);
}

/// The third attempt gives way, too: what is written meanwhile does not wait for it, and it sees none of that.
#[tokio::test]
async fn a_read_that_is_outrun_holds_up_nobody_and_ends() {
    let store = memory();
    fill(&store).await;
    let (found, turns) = outrun(&store, store.range(all())).await;
    let found = found.unwrap();
    assert_eq!(turns.len(), 4, "{turns:?}");
    // It began for the third time after the third overwriting, and one more put.
    assert_eq!(found.header.revision, turns[2].next());
    assert_eq!(found.kvs.len(), KEYS + 1);
    assert_eq!(found.kvs[KEYS].mod_revision, turns[2]);

    // Two ranges of 20 pages each, and a condition that takes three.
    let compare = Compare::version(KeyRange::prefix("k"), CompareOp::Greater, 0);
    let txn = Txn::new().when([compare]).and_then([all(), all()]);
    let (answer, turns) = outrun(&store, store.txn(txn)).await;
    let answer = answer.unwrap();
    assert_eq!(turns.len(), 5, "{turns:?}");
    assert!(answer.succeeded);
    assert_eq!(answer.header.revision, turns[2].next());
    for response in answer.responses {
        let found = response.into_range().unwrap();
        assert_eq!(found.kvs.len(), KEYS + 1);
        assert_eq!(found.kvs[KEYS].mod_revision, turns[2]);
    }

    // A pair that is hashed counts 2: five pages a pass.
    let (hash, turns) = outrun(&store, store.hash_kv(Revision::ZERO)).await;
    assert_eq!(
        (hash.unwrap().hash_revision, turns.len()),
        (turns[0].next(), 1)
    );

    store
        .compact(put(&store, "z", "").await, true)
        .await
        .unwrap();
    nothing_is_superseded(&store);
}

/// What was asked for by its revision is refused as ever: that is what the asker has to know.
#[tokio::test]
async fn a_read_of_a_revision_that_is_compacted_meanwhile_says_so() {
    let store = memory();
    fill(&store).await;
    let at = overwrite(&store).await;
    let (refused, _) = outrun(&store, store.range(all().at(at))).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Compacted);
    let at = overwrite(&store).await;
    let mut read = store.txn(Txn::new().and_then([all(), all().at(at)]));
    assert!((&mut read).now_or_never().is_none());
    let (refused, _) = outrun(&store, read).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Compacted);
}

/// Who waits for the space waits for the read as well, and no longer.
#[tokio::test]
async fn what_a_read_has_kept_is_forgotten_when_it_ends_or_is_dropped() {
    let store = memory();
    fill(&store).await;
    for ends in [true, false] {
        let mut read = store.range(all());
        for _ in 0..3 {
            assert!((&mut read).now_or_never().is_none());
            overwrite(&store).await;
        }
        assert!(store.shared().state().superseded_bytes() > 0);
        let at = put(&store, "z", "").await;
        let mut compaction = store.compact(at, true);
        assert!((&mut compaction).now_or_never().is_none());
        let finish = async {
            if ends {
                assert!(read.await.is_ok());
            } else {
                drop(read);
            }
        };
        let both = join(compaction, finish);
        let (compacted, ()) = tokio::time::timeout(Duration::from_secs(20), both)
            .await
            .expect("the space is not free");
        compacted.unwrap();
        nothing_is_superseded(&store);
        assert_eq!(store.shared().oldest_held(), None);
    }
}

/// There may always be another read that has something later kept.
#[tokio::test]
async fn who_waits_for_space_does_not_wait_for_reads_of_what_is_later() {
    let store = memory();
    put(&store, "k", "1").await;
    let earlier = store.shared().hold();
    let asked = put(&store, "k", "2").await;
    let mut compaction = store.compact(asked, true);
    assert!((&mut compaction).now_or_never().is_none());
    put(&store, "k", "3").await;
    let later = store.shared().hold();
    store
        .compact(put(&store, "k", "4").await, false)
        .await
        .unwrap();
    assert!((&mut compaction).now_or_never().is_none());
    drop(earlier);
    let answer = tokio::time::timeout(Duration::from_secs(20), compaction);
    answer.await.expect("it waits for all").unwrap();
    assert_eq!(store.shared().oldest_held(), Some(later.revision()));
    drop(later);
    let end = put(&store, "k", "5").await;
    store.compact(end, true).await.unwrap();
    nothing_is_superseded(&store);
}

/// While its revision is kept, a transaction may look at no more than one that writes.
#[tokio::test]
async fn a_transaction_that_is_outrun_has_no_more_than_so_much_kept() {
    let store = memory();
    fill(&store).await;
    // Of 20 pages each: 100 of them are 2,000 pages of about 2,048 that there is room for.
    let shows = |count: usize| Txn::new().and_then(vec![all(); count]);
    let (answer, _) = outrun(&store, store.txn(shows(100))).await;
    assert_eq!(answer.unwrap().responses.len(), 100);
    let (refused, _) = outrun(&store, store.txn(shows(128))).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooManyOperations);
    assert!(refused.message().contains("together"), "{refused}");
    // Conditions are looked at as well, two whole pages each. Only the range behind them gives way.
    let condition = Compare::version(KeyRange::prefix("k"), CompareOp::Greater, 0);
    let nested = TxnOp::from(Txn::new().when(vec![condition; 100]));
    let txn = || Txn::new().and_then(vec![nested.clone(); 16].into_iter().chain([all().into()]));
    let (refused, _) = outrun(&store, store.txn(txn())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::TooManyOperations);
    // Nothing is kept for those that nobody outruns.
    assert_eq!(store.txn(shows(128)).await.unwrap().responses.len(), 128);
    assert!(store.txn(txn()).await.unwrap().succeeded);
}

/// What is kept cannot be forgotten, so that compacting more and more would take the history from all others.
#[tokio::test]
async fn history_is_not_compacted_for_space_that_is_kept() {
    let options = EngineOptions::memory()
        .with_quota_bytes(4 << 20)
        .with_retention(Retention::Revisions(1_000_000));
    let store = Engine::open(options).unwrap();
    let value = "v".repeat(10_000);
    let held = store.shared().hold();
    let compacted = || store.shared().state().compacted();
    // 1 MiB may be superseded, and a sixteenth more.
    while compacted() == Revision::ZERO {
        let at = put(&store, "k", &value).await;
        assert!(at < Revision(300));
    }
    let once = compacted();
    for _ in 0..50 {
        put(&store, "k", &value).await;
    }
    assert_eq!(compacted(), once);
    drop(held);
    while store.shared().state().superseded_bytes() > (17 << 20) / 16 {
        let at = put(&store, "k", "").await;
        assert!(at < Revision(1000), "too much history stays");
    }
}
