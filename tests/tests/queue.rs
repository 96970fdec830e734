//! The queue on every store: in process, served, and on real etcd clusters.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use synod::store::{ErrorKind, KeyRange, PutRequest, RangeRequest};
use synod::{Client, ConnectOptions, Error, Resolution, TlsOptions};
use synod_engine::{Engine, EngineOptions};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_server::ServerOptions;
use synod_tests::bridge::{Bridge, Mode};
use synod_tests::certs::Certs;
use synod_tests::etcd::{Etcd, EtcdConfig};
use synod_tests::target::Served;
use synod_tests::{etcd_or_skip, wait};
use tempfile::TempDir;
use tokio::sync::watch;

/// A store, and how many clients of it there can be.
enum Stand {
    /// One client, of which all handles are clones; and where its data are.
    InProcess(
        Client,
        #[expect(dead_code, reason = "kept until the test ends")] Option<TempDir>,
    ),
    Served(Served),
    Etcd(Etcd),
}

impl Stand {
    async fn memory() -> Stand {
        Stand::InProcess(Client::connect("memory:").await.unwrap(), None)
    }

    async fn file() -> Stand {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file:{}", directory.path().display());
        Stand::InProcess(Client::connect(url).await.unwrap(), Some(directory))
    }

    async fn served() -> Stand {
        let engine = Engine::open(EngineOptions::memory()).unwrap();
        Stand::Served(Served::over(Arc::new(engine), ServerOptions::new()).await)
    }

    async fn client(&self) -> Client {
        match self {
            Stand::InProcess(client, _) => client.clone(),
            Stand::Served(served) => Client::connect(served.url()).await.unwrap(),
            Stand::Etcd(etcd) => Client::connect(etcd.url()).await.unwrap(),
        }
    }
}

/// Runs one test on every store.
macro_rules! on_every_store {
    ($($name:ident => $test:expr;)+) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let stand = super::Stand::memory().await;
                super::wait::within(super::wait::TEST_LIMIT, stringify!($name), $test(stand)).await;
            })+
        }
        mod file {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let stand = super::Stand::file().await;
                super::wait::within(super::wait::TEST_LIMIT, stringify!($name), $test(stand)).await;
            })+
        }
        mod served {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let stand = super::Stand::served().await;
                super::wait::within(super::wait::TEST_LIMIT, stringify!($name), $test(stand)).await;
            })+
        }
        mod etcd1 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let etcd = super::etcd_or_skip!();
                let stand = super::Stand::Etcd(etcd);
                super::wait::within(super::wait::TEST_LIMIT, stringify!($name), $test(stand)).await;
            })+
        }
        mod etcd3 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let etcd = super::etcd_or_skip!(super::EtcdConfig::new().nodes(3));
                let stand = super::Stand::Etcd(etcd);
                super::wait::within(super::wait::TEST_LIMIT, stringify!($name), $test(stand)).await;
            })+
        }
    };
}

on_every_store! {
    writers_and_readers => super::writers_and_readers;
    a_blocked_dequeue_gets_what_another_client_puts => super::blocked;
    keys_as_go_writes_them => super::keys_as_go_writes_them;
    neighbours_are_left_alone => super::neighbours;
    many_at_once => super::many_at_once;
    compaction_under_a_blocked_dequeue => super::compaction;
    large_values => super::large_values;
    a_dropped_dequeue_loses_nothing => super::dropped;
    a_closed_client_leaves_nothing => super::closed;
}

/// 4 writers and 4 readers with clients of their own: nothing lost, nothing twice, each writer's
/// items in order at each reader.
async fn writers_and_readers(stand: Stand) {
    const WRITERS: usize = 4;
    const ITEMS: usize = 10_000;
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    let taken = Arc::new(watch::Sender::new(0));
    for writer in 0..WRITERS {
        let client = stand.client().await;
        writers.push(tokio::spawn(async move {
            let queue = client.queue("q");
            for number in 0..ITEMS / WRITERS {
                queue.enqueue(format!("{writer} {number}")).await.unwrap();
            }
        }));
        let client = stand.client().await;
        let taken = Arc::clone(&taken);
        readers.push(tokio::spawn(async move {
            let queue = client.queue("q");
            let mut values = Vec::new();
            let mut all = taken.subscribe();
            // Nobody leaves before all is taken: an item on its way to one who left would go back,
            // behind what came meanwhile.
            loop {
                let value = tokio::select! {
                    value = queue.dequeue() => value.unwrap(),
                    _ = all.wait_for(|taken| *taken == ITEMS) => break values,
                };
                taken.send_modify(|taken| *taken += 1);
                values.push(String::from_utf8(value.to_vec()).unwrap());
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut seen: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for reader in readers {
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for value in reader.await.unwrap() {
            let (writer, number) = value.split_once(' ').unwrap();
            let (writer, number) = (writer.parse().unwrap(), number.parse().unwrap());
            *seen.entry((writer, number)).or_default() += 1;
            if let Some(last) = last.insert(writer, number) {
                assert!(last < number, "writer {writer}: {number} after {last}");
            }
        }
    }
    assert_eq!(seen.len(), ITEMS, "nothing is lost");
    assert!(
        seen.values().all(|&times| times == 1),
        "nothing comes twice"
    );
    assert!(stand.client().await.queue("q").is_empty().await.unwrap());
}

async fn blocked(stand: Stand) {
    let consumer = stand.client().await.queue("q");
    let producer = stand.client().await.queue("q");
    for number in 0..20 {
        let waiting = tokio::spawn({
            let consumer = consumer.clone();
            async move { consumer.dequeue().await }
        });
        let value = number.to_string();
        producer.enqueue(&value).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), value);
    }
}

async fn keys_as_go_writes_them(stand: Stand) {
    let client = stand.client().await;
    let put = async |key: &str, value: &str| {
        let request = PutRequest::new(key, value.to_owned());
        client.store().put(request).await.unwrap();
    };
    // Three producers whose clocks disagree.
    put("q/1790000000000000300", "1").await;
    put("q/1790000000000000100", "2").await;
    put("q/1790000000000000200", "3").await;
    let queue = client.queue("q");
    queue.enqueue("4").await.unwrap();
    let ours = queue.list(9).await.unwrap().pop().unwrap();
    let suffix = ours.key.to_string();
    let suffix = suffix.strip_prefix("q/").unwrap();
    assert!(
        suffix.len() == 19 && suffix.bytes().all(|b| b.is_ascii_digit()),
        "{suffix}"
    );
    for expected in ["1", "2", "3", "4"] {
        assert_eq!(queue.dequeue().await.unwrap(), expected);
    }
}

async fn neighbours(stand: Stand) {
    let client = stand.client().await;
    for key in [
        "ab/1",
        "a/x/1",
        "a/00007/0000000000000000",
        "__a/00007",
        "a",
        "a/name",
    ] {
        client
            .store()
            .put(PutRequest::new(key, "no"))
            .await
            .unwrap();
    }
    let queue = client.queue("a");
    assert_eq!(queue.try_dequeue().await.unwrap(), None);
    queue.enqueue("yes").await.unwrap();
    assert_eq!(queue.len().await.unwrap(), 1);
    assert_eq!(queue.peek().await.unwrap().unwrap().value, "yes");
    assert_eq!(queue.clear().await.unwrap(), 1);
    let left = client
        .store()
        .range(RangeRequest::new(KeyRange::prefix("a")).count_only())
        .await;
    assert_eq!(left.unwrap().count, 5);
}

async fn many_at_once(stand: Stand) {
    let client = stand.client().await;
    let queue = client.queue("q");
    let values: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    queue.enqueue_many(&values).await.unwrap();
    assert_eq!(queue.len().await.unwrap(), 1000);
    let mut taken = Vec::new();
    while taken.len() < 1000 {
        taken.extend(queue.dequeue_many(100).await.unwrap());
    }
    assert_eq!(taken, values);
    assert_eq!(queue.try_dequeue().await.unwrap(), None);
}

async fn compaction(stand: Stand) {
    let client = stand.client().await;
    let queue = stand.client().await.queue("q");
    let waiting = tokio::spawn(async move { queue.dequeue().await });
    for _ in 0..50 {
        let put = client
            .store()
            .put(PutRequest::new("other", ""))
            .await
            .unwrap();
        client
            .store()
            .compact(put.header.revision, false)
            .await
            .unwrap();
    }
    client.queue("q").enqueue("a").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "a");
}

async fn large_values(stand: Stand) {
    let client = stand.client().await;
    let queue = client.queue("q");
    let large = vec![7; 1 << 20];
    queue.enqueue_many([&large, &large, &large]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(queue.dequeue().await.unwrap(), large);
    }
    let error = queue.enqueue(vec![7; 2 << 20]).await.unwrap_err();
    match &error {
        Error::ValueTooLarge { size, .. } => assert_eq!(*size, 2 << 20),
        other => panic!("{other:?}"),
    }
    assert!(!error.is_maybe_committed());
    assert!(queue.is_empty().await.unwrap());
}

async fn dropped(stand: Stand) {
    let queue = stand.client().await.queue("q");
    let producer = stand.client().await.queue("q");
    let mut taken = Vec::new();
    for number in 0..200 {
        producer.enqueue(number.to_string()).await.unwrap();
        let patience = Duration::from_micros(number * 20);
        taken.extend(queue.dequeue_timeout(patience).await.unwrap());
    }
    while taken.len() < 200 {
        let next = queue.dequeue();
        taken.push(wait::soon("an item that went back", next).await.unwrap());
    }
    assert_eq!(producer.try_dequeue().await.unwrap(), None);
    let mut numbers: Vec<u32> = taken
        .iter()
        .map(|v| std::str::from_utf8(v).unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

async fn closed(stand: Stand) {
    let client = stand.client().await;
    client.queue("q").enqueue("a").await.unwrap();
    client.close().await.unwrap();
    let other = stand.client().await;
    let ours = RangeRequest::new(KeyRange::prefix("__synod/")).count_only();
    assert_eq!(other.store().range(ours).await.unwrap().count, 0);
    assert!(other.store().leases().await.unwrap().leases.is_empty());
    assert_eq!(other.queue("q").dequeue().await.unwrap(), "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_between_push_and_pop() {
    let etcd = etcd_or_skip!(EtcdConfig::new().nodes(3));
    // An election may take long on a busy machine.
    let options = ConnectOptions::new(etcd.url()).with_timeout(wait::PATIENCE);
    let producer = options.clone().connect().await.unwrap();
    let consumer = options.connect().await.unwrap();
    let waiting = tokio::spawn({
        let queue = consumer.queue("waiting");
        async move { queue.dequeue().await }
    });
    producer.queue("q").enqueue_many(["a", "b"]).await.unwrap();
    etcd.kill(etcd.leader().await);
    let queue = consumer.queue("q");
    let popped = wait::soon("a pop without the old leader", queue.dequeue_many(2)).await;
    assert_eq!(popped.unwrap(), ["a", "b"]);
    wait::soon(
        "a push without the old leader",
        producer.queue("waiting").enqueue("c"),
    )
    .await
    .unwrap();
    assert_eq!(
        wait::soon("the blocked pop", waiting)
            .await
            .unwrap()
            .unwrap(),
        "c"
    );
}

/// A client that reaches a cluster over this bridge alone: it asks for no other members.
async fn over(bridge: &Bridge, options: ConnectOptions) -> Client {
    let etcd = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    options.over(Arc::new(EtcdStore::connect(etcd).await.unwrap()))
}

/// The reply to each third push or pop is lost on its way, and the connection with it.
#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_lose_nothing_and_repeat_nothing() {
    let etcd = etcd_or_skip!();
    let bridge = Bridge::to(&etcd.url()).await;
    let client = over(&bridge, ConnectOptions::new("")).await;
    let healthy = Client::connect(etcd.url()).await.unwrap();
    let queue = client.queue("q");
    let mut taken = Vec::new();
    for number in 0..30 {
        // Whatever is asked from now on is answered into the void, until that has happened.
        let replied = bridge.replied_bytes();
        let lose = async {
            let swallowed = async || bridge.replied_bytes() > replied;
            wait::until("a swallowed reply", swallowed).await;
            bridge.reset();
            bridge.set(Mode::Pass);
        };
        let value = format!("{number:02}");
        if number % 3 == 0 {
            bridge.set(Mode::SwallowReplies);
            let (pushed, ()) = tokio::join!(queue.enqueue(&value), lose);
            pushed.unwrap();
        } else if number % 3 == 1 {
            queue.enqueue(&value).await.unwrap();
            bridge.set(Mode::SwallowReplies);
            let (popped, ()) = tokio::join!(queue.dequeue(), lose);
            taken.push(popped.unwrap());
        } else {
            queue.enqueue(&value).await.unwrap();
        }
    }
    while let Some(value) = healthy.queue("q").try_dequeue().await.unwrap() {
        taken.push(value);
    }
    let expected: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    assert_eq!(taken, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_resolved_by_another_client() {
    let etcd = etcd_or_skip!();
    for reaches in [true, false] {
        let bridge = Bridge::to(&etcd.url()).await;
        let options = ConnectOptions::new("").with_timeout(wait::BRIEF);
        let client = over(&bridge, options).await;
        let queue = client.queue(format!("q{reaches}"));
        queue.enqueue("before").await.unwrap();
        bridge.set(if reaches {
            Mode::HoldReplies
        } else {
            Mode::Hold
        });
        let error = queue.enqueue("in doubt").await.unwrap_err();
        let token = error
            .token()
            .unwrap_or_else(|| panic!("{error:?}"))
            .to_string();
        let healthy = Client::connect(etcd.url()).await.unwrap();
        let resolution = healthy.resolve(&token.parse().unwrap()).await.unwrap();
        let expected = if reaches {
            Resolution::Happened
        } else {
            Resolution::NeverWill
        };
        assert_eq!(resolution, expected);
        // What was held arrives now, and may repeat itself.
        bridge.set(Mode::Pass);
        let own = wait::soon("its own word", client.resolve(&token.parse().unwrap())).await;
        assert_eq!(own.unwrap(), expected);
        let left = healthy.queue(format!("q{reaches}")).len().await.unwrap();
        assert_eq!(left, if reaches { 2 } else { 1 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_users() {
    let certs = Certs::new();
    let etcd = etcd_or_skip!(EtcdConfig::new().mutual_tls(&certs));
    let read = |path| fs::read(path).unwrap();
    let (certificate, key) = certs.client();
    let tls = TlsOptions::new()
        .with_ca(read(certs.ca()))
        .with_identity(read(certificate), read(key));
    let client = Client::builder(etcd.url())
        .with_tls(tls.clone())
        .await
        .unwrap();
    client.queue("q").enqueue("a").await.unwrap();

    let stranger = TlsOptions::new().with_ca(read(certs.other_ca()));
    let refused = Client::builder(etcd.url())
        .with_tls(stranger)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), Some(ErrorKind::Tls), "{refused:?}");

    for command in [
        "user add root:hunter2",
        "user grant-role root root",
        "role add jobs",
        "role grant-permission jobs --prefix=true readwrite q/",
        "user add worker:secret",
        "user grant-role worker jobs",
        "auth enable",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let done = etcd.etcdctl(&words).await;
        assert!(done.status.success(), "{command}: {done:?}");
    }
    let worker = Client::builder(etcd.url())
        .with_tls(tls)
        .with_user("worker", "secret")
        .await
        .unwrap();
    // The queue is granted, Synod's own records are not: the error names the grant.
    let error = worker.queue("q").enqueue("b").await.unwrap_err();
    assert!(
        matches!(error, Error::SystemPrefixDenied { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("__synod/"), "{error}");
}

#[tokio::test]
async fn what_an_embedded_store_cannot_use_is_refused() {
    let error = Client::builder("memory:")
        .with_user("a", "b")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidOption { .. }), "{error:?}");
    let error = Client::builder("memory:")
        .with_tls(TlsOptions::new())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidOption { .. }), "{error:?}");
    let error = Client::connect("redis://localhost").await.unwrap_err();
    assert!(matches!(error, Error::InvalidUrl { .. }), "{error:?}");
}
