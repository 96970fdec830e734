//! Transactions with conditions on every store: branches, transactions inside, limits, lost replies.

use std::sync::Arc;

use synod::store::{ErrorKind, KeyRange, PutRequest, Store, TxnOp, TxnOpResponse};
use synod::txn::{Compare, CompareOp, TxnResponse, delete, get, nested, put};
use synod::{Client, ConnectOptions, Error, Resolution};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_tests::bridge::{Bridge, Mode};
use synod_tests::stores::TestStore;
use synod_tests::{each_store, etcd_or_skip, wait};

/// The answers in short: `k=v` for what was read, `put`, `-n` for deletes, inner ones in brackets.
fn short(answer: &TxnResponse) -> String {
    let one = |response: &TxnOpResponse| match response {
        TxnOpResponse::Range(range) => {
            let pairs = range.kvs.iter().map(|kv| {
                let value = String::from_utf8_lossy(&kv.value);
                format!("{}={value}", kv.key)
            });
            pairs.collect::<Vec<_>>().join(",")
        }
        TxnOpResponse::Put(_) => "put".to_owned(),
        TxnOpResponse::Delete(delete) => format!("-{}", delete.deleted),
        TxnOpResponse::Txn(inner) => format!("[{}]", short(inner)),
    };
    let responses: Vec<String> = answer.responses.iter().map(one).collect();
    format!("{}: {}", answer.succeeded, responses.join(" "))
}

each_store! {
    async fn one_of_two_lists_runs(store: TestStore) {
        let client = store.client();
        let create = client
            .txn()
            .when([Compare::absent("k")])
            .and_then([put("k", "1"), put("l", "1"), get(KeyRange::prefix("k"))])
            .or_else([get("k"), delete("l"), get("l")]);
        let first = create.clone().await.unwrap();
        assert_eq!(short(&first), "true: put put k=1");
        let second = create.await.unwrap();
        assert_eq!(short(&second), "false: k=1 -1 ");
        assert!(second.header.revision > first.header.revision);
        let kv = &second.range(0).unwrap().kvs[0];
        assert_eq!(kv.mod_revision, first.header.revision);
        let read = client
            .txn()
            .when([Compare::modified_at("k", first.header.revision)])
            .and_then([get("k")]);
        assert_eq!(short(&read.await.unwrap()), "true: k=1");
    }

    async fn conditions_of_transactions_inside_are_decided_before_anything_runs(store: TestStore) {
        let client = store.client();
        let inner = |key: &str| -> TxnOp {
            nested()
                .when([Compare::absent("k")])
                .and_then([put(key, "as it was")])
                .or_else([get("k")])
                .into()
        };
        let outer = client.txn().and_then([put("k", "1"), inner("a"), inner("b")]);
        let answer = outer.await.unwrap();
        assert_eq!(short(&answer), "true: put [true: put] [true: put]");
        let again = client.txn().and_then([put("k", "2"), inner("a"), inner("b")]);
        let answer = again.await.unwrap();
        assert_eq!(short(&answer), "true: put [false: k=2] [false: k=2]");
    }

    async fn of_many_that_want_a_key_one_creates_it(store: TestStore) {
        let clients = [store.client(), store.another_client().await];
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..20 {
            let client = clients[task % 2].clone();
            tasks.spawn(async move {
                let create = client
                    .txn()
                    .when([Compare::absent("k")])
                    .and_then([put("k", task.to_string())])
                    .or_else([get("k")]);
                create.await.unwrap()
            });
        }
        let answers = tasks.join_all().await;
        let created = answers.iter().filter(|answer| answer.succeeded).count();
        assert_eq!(created, 1);
        let kv = clients[0].txn().and_then([get("k")]).await.unwrap();
        let expected = format!("false: {}", short(&kv).replace("true: ", ""));
        let losers = answers.iter().filter(|answer| !answer.succeeded);
        assert!(losers.map(short).all(|loser| loser == expected));
    }

    async fn as_many_operations_as_the_documentation_says(store: TestStore) {
        let client = store.client();
        let keys = |count: usize| (0..count).map(|number| format!("k{number:03}"));
        let puts = |count| keys(count).map(|key| put(key, ""));
        let absent = |count| keys(count).map(Compare::absent);
        let full = client.txn().when(absent(126)).and_then(puts(125)).or_else(puts(125));
        assert!(full.await.unwrap().succeeded);
        let reading = client.txn().when(absent(128)).or_else(keys(128).map(get));
        assert_eq!(reading.await.unwrap().responses.len(), 128);
        let inside = client.txn().and_then([nested().and_then(puts(124))]);
        assert!(inside.await.unwrap().succeeded);
        for more in [
            client.txn().and_then(puts(126)),
            client.txn().when(absent(127)).and_then(puts(1)),
            client.txn().and_then(keys(129).map(get)),
            client.txn().and_then([nested().and_then(puts(125))]),
        ] {
            let error = more.await.unwrap_err();
            assert!(matches!(error, Error::TooManyOperations { .. }), "{error}");
        }
    }

    async fn what_the_store_refuses_changes_nothing(store: TestStore) {
        let client = store.client();
        for (ops, kind) in [
            (vec![put("k", "1"), put("k", "2")], ErrorKind::DuplicateKey),
            (vec![put("k", "1"), put("", "2")], ErrorKind::EmptyKey),
            (vec![put("k", vec![0; 1_600_000])], ErrorKind::TooLarge),
        ] {
            let error = client.txn().and_then(ops).await.unwrap_err();
            assert_eq!(error.kind(), Some(kind), "{error}");
        }
        let read = client.txn().and_then([get("k")]).await.unwrap();
        assert_eq!(short(&read), "true: ");
        let value = Compare::value("k", CompareOp::NotEqual, "anything");
        assert!(!client.txn().when([value]).await.unwrap().succeeded);
    }
}

/// A client that reaches an etcd over this bridge alone.
async fn over(bridge: &Bridge, options: ConnectOptions) -> Client {
    let etcd = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    options.over(Arc::new(EtcdStore::connect(etcd).await.unwrap()))
}

/// The reply is lost on its way, and the connection with it: it has happened once, and the answer
/// is the one that was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_read_again() {
    let etcd = etcd_or_skip!();
    let bridge = Bridge::to(&etcd.url()).await;
    let client = over(&bridge, ConnectOptions::new("")).await;
    client.txn().and_then([put("n", "before")]).await.unwrap();
    for number in 0..10 {
        let key = format!("k{}", number / 2);
        let txn = client
            .txn()
            .when([Compare::absent(&key)])
            .and_then([get("n"), put(&key, "1"), get(&key)])
            .or_else([delete(&key), put("n", number.to_string())]);
        let replied = bridge.replied_bytes();
        bridge.set(Mode::SwallowReplies);
        let lose = async {
            let swallowed = async || bridge.replied_bytes() > replied;
            wait::until("a swallowed reply", swallowed).await;
            bridge.reset();
            bridge.set(Mode::Pass);
        };
        let (answer, ()) = tokio::join!(txn.into_future(), lose);
        let answer = short(&answer.unwrap());
        if number % 2 == 0 {
            let before = if number == 0 {
                "before".to_owned()
            } else {
                (number - 1).to_string()
            };
            assert_eq!(answer, format!("true: n={before} put {key}=1"));
        } else {
            assert_eq!(answer, "false: -1 put");
        }
    }
    let direct = Client::connect(etcd.url()).await.unwrap();
    let read = direct.txn().and_then([get("n")]).await.unwrap();
    let kv = &read.range(0).unwrap().kvs[0];
    // Put once before, and once each in five of the ten.
    assert_eq!((kv.version, kv.value.as_ref()), (6, b"9".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_is_unknown_is_resolved() {
    let etcd = etcd_or_skip!();
    let direct = Client::connect(etcd.url()).await.unwrap();
    for reaches in [true, false] {
        let bridge = Bridge::to(&etcd.url()).await;
        let options = ConnectOptions::new("").with_timeout(wait::BRIEF);
        let client = over(&bridge, options).await;
        client.txn().and_then([put("k", "before")]).await.unwrap();
        bridge.set(if reaches {
            Mode::HoldReplies
        } else {
            Mode::Hold
        });
        let error = client
            .txn()
            .and_then([put("k", "after")])
            .await
            .unwrap_err();
        let resolution = direct.resolve(error.token().unwrap()).await.unwrap();
        let (expected, value) = if reaches {
            (Resolution::Happened, "after")
        } else {
            (Resolution::NeverWill, "before")
        };
        assert_eq!(resolution, expected);
        // What was held arrives now, and changes nothing any more.
        bridge.set(Mode::Pass);
        let own = wait::soon("its own word", client.resolve(error.token().unwrap()));
        assert_eq!(own.await.unwrap(), expected);
        let read = direct.txn().and_then([get("k")]).await.unwrap();
        assert_eq!(short(&read), format!("true: k={value}"));
        let put = PutRequest::new("k", "").with_prev_kv();
        direct.store().put(put).await.unwrap();
    }
}
