//! Transactions on every store: the bank, histories checked by revision, limits and lost replies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use synod::stm::Committed;
use synod::store::{Key, KeyRange, Namespace, Store};
use synod::txn::{delete, put};
use synod::{Client, ConnectOptions, Error, Isolation, Tx};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_tests::bridge::{Bridge, Mode};
use synod_tests::etcd::EtcdConfig;
use synod_tests::history::{Record, Recorder, Seen, State};
use synod_tests::stores::TestStore;
use synod_tests::{each_store, etcd_or_skip, wait};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

const VALIDATING: [Isolation; 3] = [
    Isolation::SerializableSnapshot,
    Isolation::Serializable,
    Isolation::RepeatableReads,
];

const ACCOUNTS: usize = 5;
const TASKS: usize = 10;
const TRANSFERS: usize = 100;

fn number(value: &[u8]) -> i64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

async fn balance(tx: &Tx, account: &str) -> Result<i64, Error> {
    Ok(number(&tx.get(account).await?.unwrap()))
}

async fn transfer(tx: &Tx, from: &str, to: &str) -> Result<(), Error> {
    let half = balance(tx, from).await? / 2;
    tx.put(from, (balance(tx, from).await? - half).to_string());
    tx.put(to, (balance(tx, to).await? + half).to_string());
    Ok(())
}

async fn open_accounts(client: &Client) {
    for number in 0..ACCOUNTS {
        let account = put(format!("accts/{number}"), "100");
        client.txn().and_then([account]).await.unwrap();
    }
}

async fn sum(client: &Client) -> i64 {
    let accounts = KeyRange::prefix("accts/");
    let stm = client.stm();
    let balances = stm.run(async |tx| tx.range(accounts.clone()).await).await;
    let balances = balances.unwrap();
    assert_eq!(balances.len(), ACCOUNTS);
    balances.iter().map(|(_, balance)| number(balance)).sum()
}

/// Three clients, each with a connection to one member alone, so that reads go to whichever lags
/// behind; of an embedded store, clients in one process.
async fn clients(store: &TestStore) -> [Client; 3] {
    let endpoints = store.endpoints();
    let client = async |index: usize| {
        let Some(endpoint) = endpoints.get(index % endpoints.len().max(1)) else {
            return store.client();
        };
        let options = EtcdOptions::new([endpoint.clone()]).with_member_sync(None);
        let member = EtcdStore::connect(options).await.unwrap();
        Client::from_store(Arc::new(Namespace::new(
            member,
            store.namespace().to_owned(),
        )))
    };
    [client(0).await, client(1).await, client(2).await]
}

async fn bank(store: &TestStore, isolation: Isolation) {
    let clients = clients(store).await;
    open_accounts(&clients[0]).await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let stm = clients[task % 3].stm().with_isolation(isolation);
        tasks.spawn(async move {
            let mut attempts = 0;
            for _ in 0..TRANSFERS {
                let account = || format!("accts/{}", rand::random_range(0..ACCOUNTS));
                let (from, to) = (account(), account());
                let transferred = stm
                    .transact(async |tx| transfer(&tx, &from, &to).await)
                    .await;
                // No error reaches the caller.
                attempts += transferred.unwrap().attempts;
            }
            attempts
        });
    }
    let attempts: u32 = tasks.join_all().await.iter().sum();
    println!(
        "{:?} {isolation:?}: {attempts} attempts for {} transfers",
        store.kind(),
        TASKS * TRANSFERS
    );
    assert_eq!(sum(&clients[1]).await, 500);
}

each_store! {
    /// etcd issue 11963: on several nodes the STM of etcd's Go package returns `required revision is
    /// a future revision` to its caller.
    async fn issue_11963_the_bank_keeps_its_money_and_no_error_reaches_the_caller(store: TestStore) {
        for isolation in VALIDATING {
            bank(&store, isolation).await;
        }
    }

    /// That is what this level allows: both read an account, both write it.
    async fn read_committed_loses_money(store: TestStore) {
        let [client, other, _] = clients(&store).await;
        open_accounts(&client).await;
        let first = AtomicBool::new(true);
        let stm = client.stm().with_isolation(Isolation::ReadCommitted);
        let committed = stm.transact::<_, Error, _, _>(async |tx| {
            transfer(&tx, "accts/0", "accts/1").await?;
            if first.swap(false, Ordering::SeqCst) {
                let stm = other.stm().with_isolation(Isolation::ReadCommitted);
                stm.run(async |tx| transfer(&tx, "accts/1", "accts/2").await).await?;
            }
            Ok(())
        });
        assert_eq!(committed.await.unwrap().attempts, 1);
        // The 50 that accts/1 has sent are on accts/2, and it still has them.
        assert_eq!(sum(&client).await, 550);
    }

    async fn histories_are_strictly_serializable(store: TestStore) {
        for isolation in VALIDATING {
            let (record, history, attempts) = history(&store, isolation, 40).await;
            assert_eq!(history.len(), 240);
            // They did get in each other's way.
            assert!(attempts > 250, "{isolation:?}: {attempts}");
            record.check(&history).unwrap_or_else(|why| panic!("{isolation:?}: {why}"));
        }
    }

    /// All tasks on one client: they run in turn, and are committed together.
    async fn histories_of_one_client_are_strictly_serializable(store: TestStore) {
        for isolation in VALIDATING {
            let client = store.client();
            let clients = [client.clone(), client.clone(), client];
            let attempts = Arc::new(AtomicU32::new(0));
            let made = make(store.store(), clients, isolation, 80, &attempts);
            let (record, history) = made.await;
            assert_eq!(history.len(), 480);
            let joined = history.iter().filter(|seen| seen.place > Some(0)).count();
            let joins = isolation != Isolation::RepeatableReads;
            assert_eq!(joined > 40, joins, "{isolation:?}: {joined}");
            record.check(&history).unwrap_or_else(|why| panic!("{isolation:?}: {why}"));
        }
    }

    /// Two clients with three tasks each: groups meet groups of others.
    async fn histories_of_two_clients_are_strictly_serializable(store: TestStore) {
        for isolation in VALIDATING {
            let [one, two, _] = clients(&store).await;
            let attempts = Arc::new(AtomicU32::new(0));
            let clients = [one.clone(), two, one];
            let (record, history) = make(store.store(), clients, isolation, 40, &attempts).await;
            record.check(&history).unwrap_or_else(|why| panic!("{isolation:?}: {why}"));
        }
    }

    /// The checker objects to what the weaker levels let through.
    async fn the_checker_finds_lost_updates_and_phantoms(store: TestStore) {
        for (isolation, ranges, found) in [
            (Isolation::ReadCommitted, false, true),
            (Isolation::RepeatableReads, false, false),
            (Isolation::RepeatableReads, true, true),
            (Isolation::Serializable, true, false),
        ] {
            let recorder = Recorder::begin(store.store(), "h/").await;
            let (client, history) = (store.client(), Mutex::new(Vec::new()));
            let first = AtomicBool::new(true);
            let range = if ranges { KeyRange::prefix("h/") } else { KeyRange::one("h/n") };
            let change = async |stm: synod::Stm, key: &str, disturb: bool| {
                let began = Instant::now();
                let committed = stm.transact::<_, Error, _, _>(async |tx| {
                    let pairs: State = tx.range(range.clone()).await?.into_iter().collect();
                    if disturb && first.swap(false, Ordering::SeqCst) {
                        let other = client.stm();
                        let theirs = if ranges { "h/2" } else { "h/n" };
                        let began = Instant::now();
                        let committed = other.transact::<_, Error, _, _>(async |tx| {
                            tx.put(theirs, "theirs");
                            Ok(())
                        });
                        let writes = [(theirs, "theirs")];
                        let seen = seen(began, &committed.await?, vec![], writes);
                        history.lock().await.push(seen);
                    }
                    tx.put(key, "ours");
                    Ok(pairs)
                });
                let committed = committed.await.unwrap();
                let reads = vec![(range.clone(), committed.value.clone())];
                let seen = seen(began, &committed, reads, [(key, "ours")]);
                history.lock().await.push(seen);
            };
            change(client.stm(), "h/n", false).await;
            let weak = client.stm().with_isolation(isolation);
            change(weak, if ranges { "h/m" } else { "h/n" }, true).await;
            let checked = recorder.end().await.check(&history.into_inner());
            assert_eq!(checked.is_err(), found, "{isolation:?} {ranges}: {checked:?}");
        }
    }

    /// etcd issue 7826, at the real limits of the store.
    async fn issue_7826_what_fits_goes_through_and_what_does_not_is_a_typed_error(store: TestStore) {
        let client = store.client();
        let stm = client.stm();
        let keys = |count: usize| (0..count).map(|number| format!("k/{number:03}"));
        let write = async |reads: usize, writes: usize| {
            stm.run(async |tx| {
                // One at a time, so that they have to be compared.
                for key in keys(reads) {
                    tx.get(key).await?;
                }
                keys(writes).for_each(|key| tx.put(key, "x"));
                Ok(())
            })
            .await
        };
        write(0, 125).await.unwrap();
        write(126, 0).await.unwrap();
        write(126, 125).await.unwrap();
        for (reads, writes) in [(0, 126), (127, 0), (126, 126)] {
            let error = write(reads, writes).await.unwrap_err();
            assert!(matches!(error, Error::TooManyOperations { .. }), "{error}");
        }
        let range = |prefix: &'static str| {
            let stm = client.stm();
            async move {
                stm.run(async |tx| {
                    let pairs = tx.range(KeyRange::prefix(prefix)).await?;
                    tx.put("count", pairs.len().to_string());
                    Ok(pairs.len())
                })
                .await
            }
        };
        // The key that is only written is compared too.
        let ten = client.txn().and_then([delete("k/120"), delete("k/121")]);
        ten.await.unwrap();
        assert_eq!(range("k/").await.unwrap(), 123);
        let more = (0..10).map(|number| put(format!("k/x{number}"), ""));
        client.txn().and_then(more).await.unwrap();
        let error = range("k/").await.unwrap_err();
        assert!(matches!(error, Error::TooManyOperations { .. }), "{error}");
    }

    async fn values_and_keys_of_any_bytes(store: TestStore) {
        let client = store.client();
        let stm = client.stm();
        let key: &[u8] = &[b'k', 0, 0xff, 0x80];
        stm.run(async |tx| {
            tx.put(key, vec![0u8, 0xff]);
            tx.put("empty", "");
            Ok(())
        })
        .await
        .unwrap();
        let read = stm.run(async |tx| {
            let pairs = tx.range(KeyRange::prefix("k")).await?;
            Ok((pairs, tx.get_many(["empty", "absent"]).await?))
        });
        let (pairs, values) = read.await.unwrap();
        let value = Bytes::from_static(&[0, 0xff]);
        assert_eq!(pairs, [(Key::from(key), value)]);
        assert_eq!(values, [Some(Bytes::new()), None]);
    }
}

fn seen<T, const N: usize>(
    began: Instant,
    committed: &Committed<T>,
    reads: Vec<(KeyRange, State)>,
    writes: [(&str, &str); N],
) -> Seen {
    let write = |(key, value): (&str, &str)| (Key::from(key), Some(Bytes::from(value.to_owned())));
    Seen {
        began,
        ended: Instant::now(),
        revision: committed.revision,
        place: committed.place,
        reads,
        writes: writes.into_iter().map(write).collect(),
    }
}

static VALUES: AtomicU64 = AtomicU64::new(0);

/// What one random transaction does: reads, and writes that follow.
#[derive(Debug, Clone)]
struct Plan {
    reads: Vec<KeyRange>,
    writes: BTreeMap<Key, Option<Bytes>>,
}

impl Plan {
    fn random(isolation: Isolation) -> Plan {
        let key = || Key::from(format!("h/{}", rand::random_range(0..6)));
        let room = || Key::from(format!("h/room/{}", rand::random_range(0..6)));
        let mut plan = Plan {
            reads: Vec::new(),
            writes: BTreeMap::new(),
        };
        for _ in 0..rand::random_range(1..4) {
            plan.reads.push(KeyRange::One(key()));
        }
        // Ranges are not guarded against new keys at the weakest of the levels.
        if isolation != Isolation::RepeatableReads && rand::random_bool(0.4) {
            plan.reads.push(KeyRange::prefix("h/room/"));
        }
        if rand::random_bool(0.8) {
            for _ in 0..rand::random_range(1..3) {
                let value = VALUES.fetch_add(1, Ordering::Relaxed).to_string();
                plan.writes.insert(key(), Some(value.into()));
            }
            if rand::random_bool(0.4) {
                let value = rand::random_bool(0.5).then(|| Bytes::from_static(b"here"));
                plan.writes.insert(room(), value);
            }
        }
        plan
    }

    /// Reads one after the other, then writes; returns what was read.
    async fn run(&self, tx: &Tx) -> Result<Vec<(KeyRange, State)>, Error> {
        let mut reads = Vec::new();
        for range in &self.reads {
            let pairs = tx.range(range.clone()).await?;
            reads.push((range.clone(), pairs.into_iter().collect()));
            // Others have their turn, on the fastest store too.
            tokio::task::yield_now().await;
        }
        for (key, value) in &self.writes {
            match value {
                Some(value) => tx.put(key, value.clone()),
                None => tx.delete(key),
            }
        }
        Ok(reads)
    }
}

/// Six tasks of random transactions, over three connections; and how many attempts they took.
async fn history(store: &TestStore, isolation: Isolation, each: usize) -> (Record, Vec<Seen>, u32) {
    let attempts = Arc::new(AtomicU32::new(0));
    let clients = clients(store).await;
    let (record, history) = make(store.store(), clients, isolation, each, &attempts).await;
    (record, history, attempts.load(Ordering::SeqCst))
}

async fn make(
    store: Arc<dyn Store>,
    clients: [Client; 3],
    isolation: Isolation,
    each: usize,
    attempts: &Arc<AtomicU32>,
) -> (Record, Vec<Seen>) {
    let recorder = Recorder::begin(store, "h/").await;
    let mut tasks = JoinSet::new();
    for task in 0..6 {
        let stm = clients[task % 3].stm().with_isolation(isolation);
        let attempts = Arc::clone(attempts);
        tasks.spawn(async move {
            let mut history = Vec::new();
            for _ in 0..each {
                let plan = Plan::random(isolation);
                let began = Instant::now();
                let committed = stm.transact(async |tx| plan.run(&tx).await).await;
                let committed = committed.unwrap();
                attempts.fetch_add(committed.attempts, Ordering::SeqCst);
                history.push(Seen {
                    began,
                    ended: Instant::now(),
                    revision: committed.revision,
                    place: committed.place,
                    reads: committed.value,
                    writes: plan.writes,
                });
            }
            history
        });
    }
    let history = tasks.join_all().await.into_iter().flatten().collect();
    (recorder.end().await, history)
}

/// The checker objects to each single lie about a history that is in order.
#[tokio::test(flavor = "multi_thread")]
async fn the_checker_finds_what_is_wrong_with_a_history() {
    let store = TestStore::new(synod_tests::stores::Kind::Memory)
        .await
        .unwrap();
    let (record, history, _) = history(&store, Isolation::default(), 20).await;
    record.check(&history).unwrap();
    let objects = |lie: &dyn Fn(&mut Vec<Seen>)| {
        let mut history = history.clone();
        lie(&mut history);
        assert!(record.check(&history).is_err());
    };
    let writer = |seen: &&mut Seen| seen.writes.values().any(Option::is_some);
    objects(&|history| {
        let (_, pairs) = &mut history[5].reads[0];
        pairs.insert("h/0".into(), "never written".into());
    });
    objects(&|history| {
        let seen = history.iter_mut().find(writer).unwrap();
        seen.revision = seen.revision.prev();
    });
    objects(&|history| {
        let seen = history.iter_mut().find(writer).unwrap();
        seen.writes.insert("h/other".into(), Some("x".into()));
    });
    objects(&|history| {
        let index = history
            .iter()
            .position(|seen| seen.writes.values().any(Option::is_some));
        history.remove(index.unwrap());
    });
    objects(&|history| {
        let copy = history.iter_mut().find(writer).unwrap().clone();
        history.push(copy);
    });
    objects(&|history| {
        // It says to have begun when all was over.
        let seen = history.iter_mut().min_by_key(|seen| seen.revision).unwrap();
        seen.began = Instant::now();
        seen.ended = Instant::now();
    });
}

/// etcd issue 18424: the reply to each second commit is lost on its way, and the connection with it;
/// each transaction happens once all the same.
#[tokio::test(flavor = "multi_thread")]
async fn issue_18424_a_lost_reply_repeats_nothing() {
    let etcd = etcd_or_skip!();
    let bridge = Bridge::to(&etcd.url()).await;
    let options = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    let store: Arc<dyn Store> = Arc::new(EtcdStore::connect(options).await.unwrap());
    let client = ConnectOptions::new("").over(store);
    let stm = client.stm();
    for expected in 1..=20 {
        let lost = AtomicBool::new(expected % 2 == 0);
        let replied = bridge.replied_bytes();
        let reached = tokio::sync::Notify::new();
        let increment = stm.run(async |tx| {
            let count = tx.get("n").await?.map_or(0, |value| number(&value));
            tx.put("n", (count + 1).to_string());
            if lost.swap(false, Ordering::SeqCst) {
                bridge.set(Mode::SwallowReplies);
                reached.notify_one();
            }
            Ok(count + 1)
        });
        let lose = async {
            if expected % 2 == 0 {
                reached.notified().await;
                let read = bridge.replied_bytes();
                assert!(read >= replied);
                let swallowed = async || bridge.replied_bytes() > read;
                wait::until("a swallowed reply", swallowed).await;
                bridge.reset();
                bridge.set(Mode::Pass);
            }
        };
        let (count, ()) = tokio::join!(increment, lose);
        assert_eq!(count.unwrap(), expected);
    }
    let direct = Client::connect(etcd.url()).await.unwrap();
    let count = direct.stm().run(async |tx| tx.get("n").await).await;
    assert_eq!(count.unwrap().unwrap(), "20");
}

/// Leaders die while transactions run, one after the other, and come back: nothing is lost, nothing
/// happens twice, and no error reaches a caller who waits long enough.
#[tokio::test(flavor = "multi_thread")]
async fn histories_are_strictly_serializable_while_leaders_die() {
    let etcd = etcd_or_skip!(EtcdConfig::new().nodes(3));
    let options = ConnectOptions::new(etcd.url()).with_timeout(wait::TEST_LIMIT);
    let client = async || options.clone().connect().await.unwrap();
    let clients = [client().await, client().await, client().await];
    let store = Arc::clone(client().await.store());
    let attempts = Arc::new(AtomicU32::new(0));
    let made = make(store, clients, Isolation::default(), 100, &attempts);
    let killing = async {
        for until in [100, 300] {
            let come = async || attempts.load(Ordering::SeqCst) >= until;
            wait::until("some have committed", come).await;
            let leader = etcd.leader().await;
            etcd.kill(leader);
            let more = attempts.load(Ordering::SeqCst) + 20;
            let come = async || attempts.load(Ordering::SeqCst) >= more;
            wait::until("others have committed without it", come).await;
            etcd.restart(leader).await;
        }
    };
    let both = async { tokio::join!(made, killing) };
    let ((record, history), ()) = wait::within(wait::TEST_LIMIT, "a history", both).await;
    assert_eq!(history.len(), 600);
    record.check(&history).unwrap();
}
