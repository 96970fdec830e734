//! A crash after any call to the disk: all acknowledged is there, nothing is half there, and the story goes on.

use std::time::Duration;

use synod_store::{
    KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Revision, Store, Txn, TxnOp,
};

use super::*;
use crate::EngineOptions;
use crate::journal::Sim;

fn options() -> EngineOptions {
    let mut options = EngineOptions::file("/d");
    options.journal.segment_bytes = 1 << 10;
    options
}

/// How much was acknowledged after how many calls to the disk: the revision, and the compacted one.
struct Acked {
    ops: usize,
    revision: Revision,
    compacted: Revision,
}

async fn history(sim: &Sim) -> Vec<Acked> {
    let store = Engine::open_in(sim.clone(), options()).unwrap();
    let mut acked = Vec::new();
    for turn in 0..14_u64 {
        let id = lease(i64::try_from(turn).unwrap() + 1);
        let grant = LeaseGrantRequest::new(Duration::from_secs(60)).with_id(id);
        store.lease_grant(grant).await.unwrap();
        let txn = Txn::new().and_then([
            TxnOp::from(PutRequest::new("both/a", turn.to_string())),
            PutRequest::new("both/b", turn.to_string())
                .with_lease(id)
                .into(),
        ]);
        let revision = store.txn(txn).await.unwrap().header.revision;
        if turn % 4 == 1 {
            store
                .lease_revoke(lease(i64::try_from(turn).unwrap()))
                .await
                .unwrap();
        }
        if turn % 5 == 3 {
            store.compact(revision, true).await.unwrap();
        }
        if turn % 6 == 4 {
            store.defragment().await.unwrap();
        }
        let hash = store.hash_kv(Revision::ZERO).await.unwrap();
        acked.push(Acked {
            ops: sim.ops(),
            revision: hash.hash_revision,
            compacted: hash.compact_revision,
        });
    }
    store.close().await.unwrap();
    acked
}

#[tokio::test]
async fn whatever_a_crash_leaves_all_acknowledged_is_there_and_nothing_half() {
    let sim = Sim::default();
    let acked = history(&sim).await;
    let mut images = 0;
    for ops in (0..=sim.ops()).step_by(3) {
        let before = acked.iter().rev().find(|acked| acked.ops <= ops);
        let after = acked.iter().find(|acked| acked.ops > ops);
        for (how, image) in sim.images(ops).into_iter().step_by(5) {
            let how = format!("after call {ops}, {how}");
            let store = Engine::open_in(image, options()).unwrap_or_else(|e| panic!("{how}: {e}"));
            let hash = store.hash_kv(Revision::ZERO).await.unwrap();
            if let Some(before) = before {
                assert!(hash.hash_revision >= before.revision, "{how}");
                assert!(hash.compact_revision >= before.compacted, "{how}");
            }
            if let Some(after) = after {
                assert!(hash.hash_revision <= after.revision, "{how}");
            }
            let both = RangeRequest::new(KeyRange::prefix("both/"));
            let both = store.range(both).await.unwrap().kvs;
            match both.as_slice() {
                [a, b] => assert_eq!(
                    (&a.value, a.mod_revision),
                    (&b.value, b.mod_revision),
                    "{how}"
                ),
                // The lease of one was revoked.
                [a] => assert!(a.key.as_ref() == b"both/a" && a.mod_revision < hash.hash_revision),
                [] => assert_eq!(hash.hash_revision, Revision(1), "{how}"),
                other => panic!("{how}: {other:?}"),
            }
            let leases = store.leases().await.unwrap().leases;
            for id in leases {
                store.lease_keep_alive(id).await.unwrap();
            }
            assert_eq!(
                put(&store, "next", "1").await,
                hash.hash_revision.next(),
                "{how}"
            );
            images += 1;
        }
    }
    println!("{} calls, {images} images", sim.ops());
    assert!(images > 200, "the enumeration has lost its bite: {images}");
}

#[tokio::test]
async fn any_call_to_the_disk_may_fail() {
    let calls = {
        let sim = Sim::default();
        history(&sim).await;
        sim.ops()
    };
    let mut poisoned = 0;
    for call in (0..calls).step_by(2) {
        let sim = Sim::default();
        let Ok(store) = Engine::open_in(sim.copy(), options()) else {
            continue;
        };
        drop(store);
        sim.fail_call(call);
        let Ok(store) = Engine::open_in(sim.clone(), options()) else {
            // It could not even be opened; after that it can.
            Engine::open_in(sim.power_loss(), options()).unwrap();
            continue;
        };
        let mut last = Revision(1);
        for turn in 0..12 {
            let value = format!("{turn}{}", "v".repeat(100));
            match store.put(PutRequest::new("k", value)).await {
                Ok(answer) => last = answer.header.revision,
                Err(error) => {
                    assert_eq!(error.kind(), synod_store::ErrorKind::Poisoned, "{error}");
                    poisoned += 1;
                    break;
                }
            }
            if turn == 6 {
                // It may fail without harm: the log is whole.
                let _ = store.defragment().await;
            }
        }
        let seen = store.range(RangeRequest::new("k")).await.unwrap().kvs;
        assert_eq!(seen.first().map_or(1, |kv| kv.mod_revision.0), last.0);
        drop(store);
        for image in [sim.power_loss(), sim.copy()] {
            let store = Engine::open_in(image, options()).unwrap();
            let found = store.range(RangeRequest::new("k")).await.unwrap().kvs;
            let found = found.first().map_or(1, |kv| kv.mod_revision.0);
            assert!(
                found == last.0 || found == last.0 + 1,
                "{found}, acknowledged {last}"
            );
        }
    }
    assert!(poisoned > 5, "{poisoned}");
}
