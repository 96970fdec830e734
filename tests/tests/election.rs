//! Elections on every store: one leader, in order, known to all who ask or watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use rand::Rng;
use synod::election::Leaders;
use synod::store::{
    Compare, CompareOp, DeleteRequest, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Store,
};
use synod::{Client, ConnectOptions, Election, Error, Leader, LeaderEvent, Leadership};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_tests::bridge::{Bridge, Mode};
use synod_tests::etcd::EtcdConfig;
use synod_tests::stores::TestStore;
use synod_tests::{each_store, etcd_or_skip, wait};
use tokio::task::JoinHandle;

async fn candidates(store: &dyn Store) -> u64 {
    let line = RangeRequest::new(KeyRange::prefix("e/")).count_only();
    store.range(line).await.unwrap().count
}

async fn until_candidates(store: &dyn Store, count: u64) {
    wait::until(format!("{count} candidates"), || async {
        candidates(store).await == count
    })
    .await;
}

/// Stands for election, and returns when the candidate is in the line.
async fn standing(
    store: &dyn Store,
    election: &Election,
    value: &'static str,
) -> JoinHandle<synod::Result<Leadership>> {
    let before = candidates(store).await;
    let election = election.clone();
    let task = tokio::spawn(async move { election.campaign(value).await });
    until_candidates(store, before + 1).await;
    task
}

async fn next(leaders: &mut Leaders) -> LeaderEvent {
    let event = wait::soon("an event", leaders.next()).await;
    event.expect("a stream without an end").unwrap()
}

async fn led_by(leaders: &mut Leaders, value: &str) -> Leader {
    match next(leaders).await {
        LeaderEvent::Leader(leader) if leader.value == *value.as_bytes() => leader,
        other => panic!("not led by {value}: {other:?}"),
    }
}

async fn led_by_nobody(leaders: &mut Leaders) {
    let event = next(leaders).await;
    assert!(matches!(event, LeaderEvent::NoLeader), "{event:?}");
}

each_store! {
    async fn candidates_lead_in_order(store: TestStore) {
        let one = store.client().election("e");
        let two = store.another_client().await.election("e");
        let store = store.store();
        let mut leaders = two.observe();
        led_by_nobody(&mut leaders).await;
        let first = one.campaign("a").await.unwrap();
        let mut last = led_by(&mut leaders, "a").await;
        assert_eq!((&last.key, last.revision.0), (first.key(), first.fencing_token()));
        assert!(two.try_campaign("x").await.unwrap().is_none());
        assert!(two.campaign_timeout("x", Duration::from_millis(20)).await.unwrap().is_none());
        until_candidates(&*store, 1).await;

        let mut line = Vec::new();
        for (election, value) in [(&two, "b"), (&one, "c"), (&two, "d")] {
            line.push((standing(&*store, election, value).await, value));
        }
        first.proclaim("a, still").await.unwrap();
        assert_eq!(led_by(&mut leaders, "a, still").await.revision, last.revision);
        assert_eq!(two.leader().await.unwrap().unwrap().value, "a, still");
        first.resign().await.unwrap();
        for (task, value) in line {
            let leadership = wait::soon("the next leader", task).await.unwrap().unwrap();
            let leader = led_by(&mut leaders, value).await;
            assert_eq!(leader.key, *leadership.key());
            assert!(leader.revision > last.revision);
            assert_eq!(one.leader().await.unwrap().as_ref(), Some(&leader));
            last = leader;
            leadership.check().await.unwrap();
            if value == "c" {
                drop(leadership);
            } else {
                leadership.resign().await.unwrap();
            }
        }
        led_by_nobody(&mut leaders).await;
        assert_eq!(one.leader().await.unwrap(), None);
    }

    /// Candidates of several clients come, lead, give up and are dropped. Each leader counts one up, in a
    /// transaction that a leader of the past cannot make; observers see tokens that only rise.
    async fn one_leader_at_a_time(store: TestStore) {
        let leading = Arc::new(AtomicBool::new(false));
        let elected = Arc::new(AtomicUsize::new(0));
        let observer = store.client().election("e");
        let mut leaders = observer.observe();
        // From here on it misses nobody.
        led_by_nobody(&mut leaders).await;
        let watching = tokio::spawn(async move {
            let (mut last, mut seen) = (0, 0);
            loop {
                match next(&mut leaders).await {
                    LeaderEvent::Leader(leader) if leader.value == "end" => break seen,
                    LeaderEvent::Leader(leader) => {
                        assert!(leader.revision.0 > last, "{leader:?} after {last}");
                        last = leader.revision.0;
                        seen += 1;
                    }
                    LeaderEvent::NoLeader => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let client = store.another_client().await;
            for _ in 0..3 {
                let election = client.election("e");
                let (leading, elected) = (Arc::clone(&leading), Arc::clone(&elected));
                let store = store.store();
                tasks.push(tokio::spawn(async move {
                    for turn in 0..9 {
                        let patience = Duration::from_millis(rand::rng().random_range(1..200));
                        // Each in turn: a third of them waits for as long as it takes.
                        let way = turn % 3;
                        let leadership = match way {
                            0 => election.campaign_timeout("t", patience).await.unwrap(),
                            1 => election.try_campaign("t").await.unwrap(),
                            _ => Some(election.campaign("t").await.unwrap()),
                        };
                        let Some(leadership) = leadership else { continue };
                        assert!(!leading.swap(true, Ordering::SeqCst), "two leaders");
                        let count = store.range(RangeRequest::new("count")).await.unwrap();
                        let count: usize = count.kvs.first().map_or(0, |kv| {
                            String::from_utf8_lossy(&kv.value).parse().unwrap()
                        });
                        let put = PutRequest::new("count", (count + 1).to_string());
                        leadership.txn().and_then([put]).await.unwrap();
                        elected.fetch_add(1, Ordering::SeqCst);
                        leading.store(false, Ordering::SeqCst);
                        if rand::random() {
                            leadership.resign().await.unwrap();
                        }
                    }
                }));
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        let end = store.client().election("e").campaign("end").await.unwrap();
        let elected = elected.load(Ordering::SeqCst);
        let count = store.store().range(RangeRequest::new("count")).await.unwrap();
        assert_eq!(count.kvs[0].value, elected.to_string());
        assert!(elected >= 27, "{elected}");
        // Nothing was compacted and nothing broke: the observer has seen every one of them. It also sees those
        // who gave up just when it was their turn.
        let seen = wait::soon("the observer", watching).await.unwrap();
        assert!(seen >= elected, "{seen} of {elected}");
        end.resign().await.unwrap();
        until_candidates(&*store.store(), 0).await;
    }

    async fn the_next_leads_when_a_leader_dies(store: TestStore) {
        let client = store.client();
        let session = client.session().ttl(wait::BRIEF).await.unwrap();
        let election = client.election("e");
        let dead = election.clone().with_session(&session).campaign("dead").await.unwrap();
        let next = standing(&*store.store(), &election, "next").await;
        let mut leaders = store.another_client().await.election("e").observe();
        led_by(&mut leaders, "dead").await;
        let lost = dead.lost();
        // As when the process dies: nobody renews the lease, and nobody revokes it.
        session.orphan();
        wait::soon("the loss", lost).await;
        for error in [dead.check().await, dead.proclaim("late").await] {
            assert!(error.unwrap_err().is_session_lost());
        }
        let next = wait::soon("the next leader", next).await.unwrap().unwrap();
        led_by(&mut leaders, "next").await;
        assert!(next.fencing_token() > dead.fencing_token());
        let late = dead.txn().and_then([PutRequest::new("k", "late")]).await;
        assert!(matches!(late, Err(Error::NotOwner { .. })), "{late:?}");
        assert!(dead.resign().await.unwrap_err().is_session_lost());
        next.check().await.unwrap();
    }

    /// etcd's issues 9921 and 11051: a candidate whose lease has died is told to lead. And as 19597: it
    /// waits on.
    async fn nobody_is_elected_after_its_lease_has_died_9921_11051(store: TestStore) {
        let leader = store.client().election("e").campaign("leader").await.unwrap();
        let client = store.another_client().await;
        for leader_goes in [false, true] {
            let session = client.session().await.unwrap();
            let election = client.election("e").with_session(&session);
            let candidate = standing(&*store.store(), &election, "dead").await;
            store.store().lease_revoke(session.lease()).await.unwrap();
            if leader_goes {
                let key = leader.key().clone();
                store.store().delete(DeleteRequest::new(key)).await.unwrap();
            }
            let told = wait::soon("the candidate", candidate).await.unwrap();
            assert!(told.unwrap_err().is_session_lost());
        }
        assert_eq!(store.client().election("e").leader().await.unwrap(), None);
    }

    /// etcd's issue 18163: observers are shown a leader of the past, or none of the present; and waits
    /// that a compaction ends.
    async fn observers_and_candidates_survive_compaction_18163(store: TestStore) {
        let election = store.client().election("e");
        let first = election.campaign("first").await.unwrap();
        let next = standing(&*store.store(), &election, "next").await;
        let mut leaders = store.another_client().await.election("e").observe();
        let seen = led_by(&mut leaders, "first").await;
        for number in 0..20 {
            let put = PutRequest::new("other", format!("{number}"));
            let revision = store.store().put(put).await.unwrap().header.revision;
            // On a cluster that other tests use too, somebody may have compacted further.
            drop(store.store().compact(revision, false).await);
        }
        assert!(!next.is_finished());
        first.proclaim("again").await.unwrap();
        led_by(&mut leaders, "again").await;
        first.resign().await.unwrap();
        let next = wait::soon("the next leader", next).await.unwrap().unwrap();
        assert!(led_by(&mut leaders, "next").await.revision > seen.revision);
        next.resign().await.unwrap();
        led_by_nobody(&mut leaders).await;
    }

    /// etcd's issue 6278: a candidate of `e/x` stands in the election `e`. As with lock names, website
    /// issue 710.
    async fn names_below_are_other_elections_6278_710(store: TestStore) {
        let client = store.client();
        let below = client.election("e/x").campaign("below").await.unwrap();
        let mut leaders = client.election("e").observe();
        led_by_nobody(&mut leaders).await;
        let leadership = client.election("e").try_campaign("own").await.unwrap().unwrap();
        assert_eq!(led_by(&mut leaders, "own").await.key, *leadership.key());
        assert_eq!(client.election("e/x").leader().await.unwrap().unwrap().value, "below");
        let next = client.election("e");
        let next = standing(&*store.store(), &next, "next").await;
        leadership.resign().await.unwrap();
        let next = wait::soon("the next leader", next).await.unwrap().unwrap();
        led_by(&mut leaders, "next").await;
        below.resign().await.unwrap();
        next.check().await.unwrap();
    }

    /// Keys as Go's package and etcd's Election service write them stand in the same line.
    async fn candidates_with_keys_of_gos_stand_in_line(store: TestStore) {
        let election = store.client().election("e");
        let store = store.store();
        let mut leaders = election.observe();
        led_by_nobody(&mut leaders).await;
        let lease = store.lease_grant(LeaseGrantRequest::new(Duration::from_secs(60))).await;
        let lease = lease.unwrap().id;
        let key = format!("e/{lease}");
        let put = || PutRequest::new(key.clone(), "go").with_lease(lease);
        let created = store.put(put()).await.unwrap().header.revision;
        let leader = led_by(&mut leaders, "go").await;
        assert_eq!((leader.key.to_string(), leader.revision), (key.clone(), created));
        assert_eq!(leader.lease, Some(lease));
        let next = standing(&*store, &election, "rust").await;
        // It proclaims, and goes with its lease.
        store.put(PutRequest::new(key.clone(), "go on").with_lease(lease)).await.unwrap();
        led_by(&mut leaders, "go on").await;
        store.lease_revoke(lease).await.unwrap();
        let leadership = wait::soon("the next leader", next).await.unwrap().unwrap();
        led_by(&mut leaders, "rust").await;
        // Go's package finds the leader by the lowest create revision.
        let own = Compare::create_revision(leadership.key().clone(), CompareOp::Greater, created);
        assert!(leadership.txn().when([own]).await.unwrap().succeeded);
    }
}

/// A leader that is cut off from the store learns by its own clock that it leads no more; the
/// word of the store reaches it only later.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_learns_it_by_its_own_clock() {
    let served = synod_tests::target::Served::start().await;
    let bridge = Bridge::start(served.address()).await;
    // Over this bridge alone: it asks for no other members.
    let options = EtcdOptions::new([bridge.url()]).with_member_sync(None);
    let store = EtcdStore::connect(options).await.unwrap();
    let options = synod::ConnectOptions::new("").with_session_ttl(wait::BRIEF);
    let cut_off = options.over(Arc::new(store));
    let other = Client::connect(served.url()).await.unwrap();
    let leadership = cut_off.election("e").campaign("cut off").await.unwrap();
    let store = Arc::clone(other.store());
    let next = standing(&*store, &other.election("e"), "next").await;
    let lost = tokio::spawn(leadership.lost());
    bridge.set(Mode::Hold);
    wait::soon("the loss", lost).await.unwrap();
    // By its clock the lease cannot have ended before this.
    assert!(
        leadership
            .proclaim("late")
            .await
            .unwrap_err()
            .is_session_lost()
    );
    let next = wait::soon("the next leader", next).await.unwrap().unwrap();
    bridge.set(Mode::Pass);
    assert!(leadership.check().await.unwrap_err().is_session_lost());
    next.check().await.unwrap();
    assert_eq!(
        other.election("e").leader().await.unwrap().unwrap().value,
        "next"
    );
}

/// A member of a cluster dies, the leader of the cluster at that: who leads, waits, observes or holds
/// permits goes on with the others.
#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_member_ends_nothing() {
    let etcd = etcd_or_skip!(EtcdConfig::new().nodes(3));
    // An election may take long on a busy machine.
    let options = ConnectOptions::new(etcd.url()).with_timeout(wait::PATIENCE);
    let client = options.connect().await.unwrap();
    let election = client.election("e");
    let first = election.campaign("first").await.unwrap();
    let next = standing(&**client.store(), &election, "next").await;
    let mut leaders = election.observe();
    led_by(&mut leaders, "first").await;
    let semaphore = client.semaphore("s", 2);
    let held = semaphore.acquire_many(2).await.unwrap();
    let waiting = tokio::spawn({
        let semaphore = semaphore.clone();
        async move { semaphore.acquire().await }
    });
    wait::until("somebody waits for a permit", || async {
        let line = KeyRange::prefix("__synod/semaphore/s/line/");
        client
            .store()
            .range(RangeRequest::new(line))
            .await
            .unwrap()
            .count
            == 2
    })
    .await;

    etcd.kill(etcd.leader().await);

    first.proclaim("still").await.unwrap();
    assert_eq!(
        led_by(&mut leaders, "still").await.revision.0,
        first.fencing_token()
    );
    assert!(!next.is_finished() && !waiting.is_finished());
    first.resign().await.unwrap();
    let next = wait::soon("the next leader", next).await.unwrap().unwrap();
    led_by(&mut leaders, "next").await;
    held.release().await.unwrap();
    let permit = wait::soon("a permit", waiting).await.unwrap().unwrap();
    assert!(permit.session().is_alive());
    assert_eq!(semaphore.available_permits().await.unwrap(), 1);
    next.check().await.unwrap();
}
