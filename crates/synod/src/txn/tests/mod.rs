//! Tests: branches, fences, budgets, and answers that get lost.

mod recalled;

use std::time::Duration;

use synod_store::{Key, Store};

use super::*;
use crate::testing::{FAULTS, Fault, Faulty, overdue_at_gate, overdue_in_trouble};

const PATIENCE: Duration = Duration::from_secs(60);

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

#[tokio::test]
async fn what_does_not_fit_is_refused_before_it_is_sent() {
    let faulty = Faulty::new();
    let client = faulty.client(PATIENCE);
    let keys = |count: usize| (0..count).map(|number| format!("k{number}"));
    let puts = |count: usize| keys(count).map(|key| put(key, ""));
    let absent = |count: usize| keys(count).map(Compare::absent);
    let gets = |count: usize| keys(count).map(get);
    let fits = [
        client.txn().and_then(puts(125)),
        client.txn().or_else(puts(125)).and_then(puts(125)),
        client.txn().when(absent(126)).and_then(puts(125)),
        client.txn().when(absent(128)).and_then(gets(128)),
        client.txn().and_then([nested().and_then(puts(124))]),
    ];
    for txn in fits {
        txn.await.unwrap();
    }
    let before = faulty.txns();
    let fence = Compare::absent("fence");
    for (txn, expected) in [
        (client.txn().and_then(puts(126)), ("operations", 126, 125)),
        (client.txn().or_else(puts(200)), ("operations", 200, 125)),
        (
            client.txn().when(absent(127)).and_then(puts(1)),
            ("compares", 127, 126),
        ),
        (
            client.txn().when(absent(129)).and_then(gets(2)),
            ("compares", 129, 128),
        ),
        (
            client.txn().and_then([nested().and_then(puts(125))]),
            ("operations", 126, 125),
        ),
        (
            client.txn().fenced(fence.clone()).and_then(puts(125)),
            ("operations", 125, 124),
        ),
        (
            client.txn().fenced(fence).and_then(gets(128)),
            ("operations", 128, 127),
        ),
    ] {
        match txn.await {
            Err(Error::TooManyOperations {
                what,
                needed,
                limit,
            }) => assert_eq!((what, needed, limit), expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(faulty.txns(), before);
}

#[tokio::test]
async fn what_the_store_refuses_is_its_error_and_nothing_happens() {
    use synod_store::{ErrorKind, LeaseId};
    let lease = LeaseId::new(77).unwrap();
    for client in [
        Faulty::new().client(PATIENCE),
        Client::connect("memory:").await.unwrap(),
    ] {
        for (ops, kind) in [
            (vec![put("k", "1"), put("k", "2")], ErrorKind::DuplicateKey),
            (vec![put("k", "1"), delete("k")], ErrorKind::DuplicateKey),
            (vec![put("", "1")], ErrorKind::EmptyKey),
            (
                vec![put("k", "1"), put_with_lease("l", "1", lease)],
                ErrorKind::LeaseNotFound,
            ),
            (vec![put("k", vec![0; 2 << 20])], ErrorKind::TooLarge),
        ] {
            let error = client.txn().and_then(ops).await.unwrap_err();
            assert_eq!(error.kind(), Some(kind), "{error}");
            assert!(!error.is_maybe_committed(), "{error}");
        }
        let left = client.txn().and_then([get("k")]).await.unwrap();
        assert_eq!(left.range(0).unwrap().count, 0);
    }
}

/// Its lease ends while it is not known whether the first copy has arrived.
#[tokio::test]
async fn a_lease_that_ends_under_it_is_the_error_of_a_lease() {
    let faulty = Faulty::new();
    let client = faulty.client(PATIENCE);
    let session = client.session().await.unwrap();
    client.txn().and_then([put("k", "1")]).await.unwrap();
    faulty.script([Fault::Late]);
    faulty.close_gate(1);
    let leased = put_with_lease("leased", "", session.lease());
    let running = tokio::spawn(client.txn().and_then([leased]).into_future());
    assert!(faulty.wait_at_gate().await);
    faulty.engine.lease_revoke(session.lease()).await.unwrap();
    faulty.open_gate();
    let error = running.await.unwrap().unwrap_err();
    assert!(error.is_session_lost(), "{error}");
    faulty.deliver_late().await;
    let left = client.txn().and_then([get("leased")]).await.unwrap();
    assert_eq!(left.range(0).unwrap().count, 0);
}

#[tokio::test]
async fn an_unknown_outcome_has_a_token() {
    let faulty = Faulty::new();
    let client = faulty.client(PATIENCE);
    client.txn().and_then([put("k", "1")]).await.unwrap();
    faulty.script([Fault::Lose]);
    faulty.close_gate(1);
    let txn = client.txn().and_then([put("k", "2")]);
    let error = overdue_at_gate(&faulty, txn).await.unwrap_err();
    faulty.open_gate();
    let resolution = client.resolve(error.token().unwrap()).await.unwrap();
    assert_eq!(resolution, crate::Resolution::Happened);
}

/// A read that meets trouble is asked again, for the client's timeout.
#[tokio::test]
async fn reads_are_repeated() {
    let faulty = Faulty::new();
    let client = faulty.client(PATIENCE);
    faulty.always(Some(Fault::Refuse));
    let read = client.txn().and_then([get("k")]);
    let error = overdue_in_trouble(&faulty, read.clone()).await;
    let error = error.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(faulty.txns() > 1);
    let running = tokio::spawn(read.into_future());
    faulty.always(None);
    assert!(running.await.unwrap().unwrap().succeeded);
}

#[tokio::test]
async fn a_delete_that_would_take_the_own_keys_along_is_refused() {
    for client in [
        Faulty::new().client(PATIENCE),
        Client::connect("memory:").await.unwrap(),
    ] {
        client.txn().and_then([put("k", "1")]).await.unwrap();
        for range in [
            KeyRange::all(),
            KeyRange::prefix("_"),
            KeyRange::between("A", "z"),
        ] {
            let inside = nested().or_else([delete(range.clone())]);
            for ops in [delete(range), inside.into()] {
                let error = client.txn().and_then([ops]).await.unwrap_err();
                assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
            }
        }
        let rest = client.txn().and_then([delete(KeyRange::From("a".into()))]);
        assert_eq!(text(&rest.await.unwrap().responses[0]), "deleted 1");
    }
}
