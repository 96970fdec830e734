//! Tests: branches, fences, budgets, and answers that get lost.

use std::time::Duration;

use synod_store::{Key, Store};

use super::*;
use crate::testing::{FAULTS, Fault, Faulty};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn one_branch_runs() {
    for faulty in [false, true] {
        let client = if faulty {
            Faulty::new().client(PATIENCE)
        } else {
            Client::connect("memory:").await.unwrap()
        };
        let create = || {
            client
                .txn()
                .when([Compare::absent("k")])
                .and_then([put("k", "v"), get("k")])
                .or_else([get("k")])
        };
        let first = create().await.unwrap();
        assert!(first.succeeded);
        assert_eq!(first.responses.len(), 2);
        let second = create().await.unwrap();
        assert!(!second.succeeded);
        let kv = second.responses[0]
            .clone()
            .into_range()
            .unwrap()
            .kvs
            .remove(0);
        assert_eq!((kv.key, kv.value), (Key::from("k"), "v".into()));
        assert_eq!(kv.mod_revision, first.header.revision);
    }
}

#[tokio::test]
async fn whatever_is_lost_it_happens_once_and_is_answered() {
    for fault in FAULTS {
        for present in [false, true] {
            let faulty = Faulty::new();
            let client = faulty.client(PATIENCE);
            client.txn().and_then([put("b", "old")]).await.unwrap();
            if present {
                client.txn().and_then([put("k", "old")]).await.unwrap();
            }
            faulty.script([fault]);
            let answer = client
                .txn()
                .when([Compare::absent("k")])
                .and_then([
                    get("b"),
                    put("k", "new"),
                    get("k"),
                    nested()
                        .when([Compare::absent("b")])
                        .and_then([put("c", "")])
                        .or_else([delete("b")])
                        .into(),
                    delete(KeyRange::prefix("b")),
                ])
                .or_else([put("b", "newer"), get("b"), delete("nothing")])
                .await
                .unwrap();
            faulty.deliver_late().await;
            assert_eq!(answer.succeeded, !present, "{fault:?}");
            let texts: Vec<String> = answer.responses.iter().map(text).collect();
            let expected = if present {
                vec!["put", "b=newer", "deleted 0"]
            } else {
                vec!["b=old", "put", "k=new", "false(deleted 1)", "deleted 0"]
            };
            assert_eq!(texts, expected, "{fault:?}");
            let kvs = faulty
                .engine
                .range(RangeRequest::new("k"))
                .await
                .unwrap()
                .kvs;
            assert_eq!(kvs[0].version, 1, "{fault:?}");
        }
    }
}

fn text(response: &TxnOpResponse) -> String {
    match response {
        TxnOpResponse::Range(range) => {
            let kvs = range.kvs.iter();
            kvs.map(|kv| format!("{}={}", kv.key, Key::from(kv.value.clone())))
                .collect::<Vec<_>>()
                .join(" ")
        }
        TxnOpResponse::Put(_) => "put".to_owned(),
        TxnOpResponse::Delete(delete) => format!("deleted {}", delete.deleted),
        TxnOpResponse::Txn(txn) => {
            let inner: Vec<String> = txn.responses.iter().map(text).collect();
            format!("{}({})", txn.succeeded, inner.join(" "))
        }
    }
}

#[tokio::test]
async fn a_fence_that_fell_lets_nothing_through() {
    for fault in [Fault::None, Fault::Lose, Fault::Drop, Fault::Overtaken] {
        let faulty = Faulty::new();
        let client = faulty.client(PATIENCE);
        let held = client.txn().and_then([put("lock", "")]).await.unwrap();
        let fenced = |revision| {
            client
                .txn()
                .fenced(Compare::created_at("lock", revision))
                .when([Compare::absent("k")])
                .or_else([delete("k")])
        };
        faulty.script([fault]);
        let put_it = fenced(held.header.revision).and_then([put("k", "v")]);
        assert!(put_it.await.unwrap().succeeded);
        assert!(!fenced(held.header.revision).await.unwrap().succeeded);
        let read = fenced(held.header.revision).and_then([get("lock")]);
        assert_eq!(text(&read.await.unwrap().responses[0]), "lock=");
        client.txn().and_then([delete("lock")]).await.unwrap();
        client.txn().and_then([put("lock", "")]).await.unwrap();
        faulty.script([fault]);
        let error = fenced(held.header.revision).and_then([put("k", "v")]).await;
        assert!(
            matches!(&error, Err(Error::NotOwner { key }) if key == "lock"),
            "{error:?}"
        );
        faulty.deliver_late().await;
        let left = client.txn().and_then([get("k")]).await.unwrap();
        assert_eq!(text(&left.responses[0]), "");
    }
}
