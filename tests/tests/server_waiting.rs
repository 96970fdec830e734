//! The Lock and Election services: each rule holds on Synod's server and on a real etcd, in etcd's
//! own messages.

use synod_tests::raw::{delete, get, grant, keys, kv, leases, put, range, whole};
use synod_tests::target::{Served, Target, answer, both, refused};
use synod_tests::wait;
use synod_wire::etcdserverpb::{CompactionRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest};
use synod_wire::v3electionpb::election_client::ElectionClient;
use synod_wire::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use synod_wire::v3lockpb::lock_client::LockClient;
use synod_wire::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

async fn locks(target: &Target) -> LockClient<Channel> {
    LockClient::new(target.channel().await)
}

async fn elections(target: &Target) -> ElectionClient<Channel> {
    ElectionClient::new(target.channel().await)
}

fn lock(lease: i64) -> LockRequest {
    LockRequest {
        name: "l".into(),
        lease,
    }
}

/// The keys under `prefix`.
async fn line(target: &Target, prefix: &'static str) -> Vec<String> {
    let end = format!("{}0", prefix.trim_end_matches('/'));
    let answer = answer(kv(target).await.range(range(prefix, end)).await);
    keys(&answer.kvs)
}

async fn until_waiting(target: &Target, prefix: &'static str, count: usize) {
    wait::until("the waiters' keys are there", || async {
        line(target, prefix).await.len() == count
    })
    .await;
}

type Call<T> = JoinHandle<Result<Response<T>, Status>>;

async fn waiter(target: &Target, lease: i64) -> Call<LockResponse> {
    let mut locks = locks(target).await;
    tokio::spawn(async move { locks.lock(lock(lease)).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_handed_on_in_order() {
    both(async |target: &Target| {
        let mut locks = locks(target).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(grant(target, 60).await);
        }
        let first = answer(locks.lock(lock(held[0])).await);
        assert_eq!(first.key, format!("l/{:x}", held[0]));
        let pair = answer(kv(target).await.range(get(first.key.clone())).await)
            .kvs
            .remove(0);
        assert_eq!((pair.value.len(), pair.lease), (0, held[0]));
        assert_eq!(whole(first.header), pair.create_revision);
        // The same lease again has it already.
        assert_eq!(answer(locks.lock(lock(held[0])).await).key, first.key);

        let second = waiter(target, held[1]).await;
        until_waiting(target, "l/", 2).await;
        let third = waiter(target, held[2]).await;
        until_waiting(target, "l/", 3).await;
        assert!(!second.is_finished() && !third.is_finished());
        answer(
            locks
                .unlock(UnlockRequest {
                    key: first.key.clone(),
                })
                .await,
        );
        let second = answer(wait::soon("the second", second).await.unwrap());
        assert_eq!(second.key, format!("l/{:x}", held[1]));
        assert!(!third.is_finished());
        // The lease's end hands the lock on too.
        let revoke = LeaseRevokeRequest { id: held[1] };
        answer(leases(target).await.lease_revoke(revoke).await);
        let third = answer(wait::soon("the third", third).await.unwrap());
        assert_eq!(third.key, format!("l/{:x}", held[2]));
        // What is not there can be unlocked too.
        let gone = answer(locks.unlock(UnlockRequest { key: first.key }).await);
        assert!(whole(gone.header) > 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_is_cancelled_leaves_nothing() {
    both(async |target: &Target| {
        let mut locks = locks(target).await;
        let holder = grant(target, 60).await;
        let first = answer(locks.lock(lock(holder)).await);
        let leaver = waiter(target, grant(target, 60).await).await;
        until_waiting(target, "l/", 2).await;
        let stayer = waiter(target, grant(target, 60).await).await;
        until_waiting(target, "l/", 3).await;
        leaver.abort();
        until_waiting(target, "l/", 2).await;
        // A second call with the holder's own lease leaves the holder's key alone.
        answer(locks.lock(lock(holder)).await);
        assert!(!stayer.is_finished());
        answer(locks.unlock(UnlockRequest { key: first.key }).await);
        answer(wait::soon("the one who stayed", stayer).await.unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_locks() {
    both(async |target: &Target| {
        let mut locks = locks(target).await;
        let text = "etcdserver: requested lease not found";
        refused(locks.lock(lock(999)).await, Code::Unknown, text);
        // Without a lease the server makes one.
        let locked = answer(locks.lock(lock(0)).await);
        let pair = answer(kv(target).await.range(get(locked.key.clone())).await)
            .kvs
            .remove(0);
        assert_eq!(locked.key, format!("l/{:x}", pair.lease));
        let request = LeaseTimeToLiveRequest {
            id: pair.lease,
            keys: false,
        };
        let lease = answer(leases(target).await.lease_time_to_live(request).await);
        assert_eq!(lease.granted_ttl, 60);
        let empty = UnlockRequest { key: "".into() };
        let text = "etcdserver: key is not provided";
        refused(locks.unlock(empty).await, Code::Unknown, text);
    })
    .await;
}

/// etcd's issue 19597: a waiter whose lease has ended waits on. A real etcd 3.5.1 has that fault.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_whose_lease_ends_is_told_19597() {
    let target = Target::Served(Served::start().await);
    answer(locks(&target).await.lock(lock(0)).await);
    let lease = grant(&target, 60).await;
    let waiting = waiter(&target, lease).await;
    until_waiting(&target, "l/", 2).await;
    let revoke = LeaseRevokeRequest { id: lease };
    answer(leases(&target).await.lease_revoke(revoke).await);
    let told = wait::soon("the waiter", waiting).await.unwrap();
    refused(told, Code::Unknown, "mutex: session is expired");
}

/// The service's callers and the library's stand in one line.
#[tokio::test(flavor = "multi_thread")]
async fn the_services_and_the_library_share_their_lines() {
    both(async |target: &Target| {
        let client = synod::Client::connect(target.url()).await.unwrap();
        let mut locks = locks(target).await;
        let first = client.mutex("l").lock().await.unwrap();
        let second = waiter(target, grant(target, 60).await).await;
        until_waiting(target, "l/", 2).await;
        let mutex = client.mutex("l");
        let third = tokio::spawn(async move { mutex.lock().await });
        until_waiting(target, "l/", 3).await;
        first.unlock().await.unwrap();
        let second = answer(wait::soon("the service's", second).await.unwrap());
        assert!(!third.is_finished());
        answer(locks.unlock(UnlockRequest { key: second.key }).await);
        let third = wait::soon("the library's", third).await.unwrap().unwrap();
        third.unlock().await.unwrap();

        let mut elections = elections(target).await;
        let leadership = client.election("e").campaign("library").await.unwrap();
        let next = candidate(target, grant(target, 60).await, "service").await;
        until_waiting(target, "e/", 2).await;
        let known = answer(elections.leader(of()).await).kv.unwrap();
        assert_eq!(
            (known.key, known.value),
            (leadership.key().clone().into_bytes(), "library".into())
        );
        leadership.resign().await.unwrap();
        let next = answer(wait::soon("the service's", next).await.unwrap());
        let leader = client.election("e").leader().await.unwrap().unwrap();
        assert_eq!(leader.revision.as_i64(), next.leader.unwrap().rev);
        assert_eq!(leader.value, "service");
    })
    .await;
}

/// What the services do with names, keys and leases that are out of the ordinary.
#[tokio::test(flavor = "multi_thread")]
async fn odd_names_keys_and_leases() {
    both(async |target: &Target| {
        let mut locks = locks(target).await;
        let mut elections = elections(target).await;
        // No name is a name, and one that ends in a slash gets another.
        for (name, prefix) in [("", "/"), ("x/", "x//")] {
            let lease = grant(target, 60).await;
            let request = LockRequest {
                name: name.into(),
                lease,
            };
            let locked = answer(locks.lock(request).await);
            assert_eq!(locked.key, format!("{prefix}{lease:x}"));
            answer(locks.unlock(UnlockRequest { key: locked.key }).await);
        }
        // Keys below another name stand in the line too.
        answer(kv(target).await.put(put("e/x/y", "below")).await);
        let known = answer(elections.leader(of()).await).kv.unwrap();
        assert_eq!(known.value, "below");
        let waiting = candidate(target, 0, "made").await;
        until_waiting(target, "e/", 2).await;
        assert!(!waiting.is_finished());
        answer(kv(target).await.delete_range(delete("e/x/y", "")).await);
        // Without a lease the server makes one, and tells which.
        let won = answer(wait::soon("the candidate", waiting).await.unwrap());
        let leader = won.leader.unwrap();
        assert_eq!(leader.key, format!("e/{:x}", leader.lease));
        let request = LeaseTimeToLiveRequest {
            id: leader.lease,
            keys: true,
        };
        let lease = answer(leases(target).await.lease_time_to_live(request).await);
        assert_eq!(
            (lease.granted_ttl, lease.keys),
            (60, vec![leader.key.clone()])
        );
        // A lease that has gone takes the proclamation with it.
        let revoke = LeaseRevokeRequest { id: leader.lease };
        answer(leases(target).await.lease_revoke(revoke).await);
        let late = ProclaimRequest {
            leader: Some(leader.clone()),
            value: "late".into(),
        };
        refused(
            elections.proclaim(late).await,
            Code::Unknown,
            "election: not leader",
        );
        let nameless = LeaderKey {
            key: "".into(),
            ..leader
        };
        let resign = ResignRequest {
            leader: Some(nameless),
        };
        let text = "etcdserver: key is not provided";
        refused(elections.resign(resign).await, Code::Unknown, text);
    })
    .await;
}

/// As etcd's issues 9921 and 11051: a candidate whose lease has ended is told to lead. A real etcd 3.5.1 has
/// that fault.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_whose_lease_ends_is_told_9921_11051() {
    let target = Target::Served(Served::start().await);
    let leader = answer(
        elections(&target)
            .await
            .campaign(campaign(0, "leader"))
            .await,
    );
    let lease = grant(&target, 60).await;
    let waiting = candidate(&target, lease, "dead").await;
    until_waiting(&target, "e/", 2).await;
    let revoke = LeaseRevokeRequest { id: lease };
    answer(leases(&target).await.lease_revoke(revoke).await);
    let told = wait::soon("the candidate", waiting).await.unwrap();
    refused(told, Code::Unknown, "election: session is expired");
    let known = answer(elections(&target).await.leader(of()).await);
    assert_eq!(known.kv.unwrap().key, leader.leader.unwrap().key);
}

/// etcd's issue 18163: observers over the wire after a compaction.
#[tokio::test(flavor = "multi_thread")]
async fn observers_survive_compaction_18163() {
    both(async |target: &Target| {
        let mut elections = elections(target).await;
        let lease = grant(target, 60).await;
        let leader = answer(elections.campaign(campaign(lease, "a")).await)
            .leader
            .unwrap();
        let mut observed = answer(elections.observe(of()).await);
        let mut next = async |expected: &str| {
            let told = wait::soon("a leader", observed.message()).await;
            assert_eq!(
                told.unwrap().unwrap().kv.unwrap().value,
                *expected.as_bytes()
            );
        };
        next("a").await;
        for number in 0..20 {
            let put = put("other", format!("{number}"));
            let revision = whole(answer(kv(target).await.put(put).await).header);
            let compact = CompactionRequest {
                revision,
                physical: true,
            };
            answer(kv(target).await.compact(compact).await);
        }
        for value in ["b", "c"] {
            let proclaim = ProclaimRequest {
                leader: Some(leader.clone()),
                value: value.into(),
            };
            answer(elections.proclaim(proclaim).await);
            next(value).await;
        }
    })
    .await;
}

fn campaign(lease: i64, value: &'static str) -> CampaignRequest {
    CampaignRequest {
        name: "e".into(),
        lease,
        value: value.into(),
    }
}

fn of() -> LeaderRequest {
    LeaderRequest { name: "e".into() }
}

async fn candidate(target: &Target, lease: i64, value: &'static str) -> Call<CampaignResponse> {
    let mut elections = elections(target).await;
    tokio::spawn(async move { elections.campaign(campaign(lease, value)).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election() {
    both(async |target: &Target| {
        let mut elections = elections(target).await;
        refused(
            elections.leader(of()).await,
            Code::Unknown,
            "election: no leader",
        );
        let (one, two) = (grant(target, 60).await, grant(target, 60).await);
        let won = answer(elections.campaign(campaign(one, "first")).await);
        let leader = won.leader.unwrap();
        assert_eq!(leader.key, format!("e/{one:x}"));
        assert_eq!((leader.name.as_ref(), leader.lease), (&b"e"[..], one));
        assert_eq!(leader.rev, whole(won.header));
        let next = candidate(target, two, "second").await;
        until_waiting(target, "e/", 2).await;
        // The same candidate again, with another proposal.
        let again = answer(elections.campaign(campaign(one, "changed")).await);
        assert_eq!(again.leader.as_ref(), Some(&leader));
        let known = answer(elections.leader(of()).await);
        let pair = known.kv.unwrap();
        assert_eq!((pair.value.as_ref(), pair.version), (&b"changed"[..], 2));
        assert_eq!((pair.create_revision, pair.lease), (leader.rev, one));
        assert!(whole(known.header) >= pair.mod_revision);
        let proclaim = |leader: &LeaderKey, value: &'static str| ProclaimRequest {
            leader: Some(leader.clone()),
            value: value.into(),
        };
        answer(elections.proclaim(proclaim(&leader, "again")).await);
        assert_eq!(
            answer(elections.leader(of()).await).kv.unwrap().value,
            "again"
        );

        assert!(!next.is_finished());
        let resigned = elections
            .resign(ResignRequest {
                leader: Some(leader.clone()),
            })
            .await;
        whole(answer(resigned).header);
        let next = answer(wait::soon("the second", next).await.unwrap());
        assert_eq!(next.leader.unwrap().key, format!("e/{two:x}"));
        // Who was deposed proclaims nothing, and resigns from nothing.
        let late = elections.proclaim(proclaim(&leader, "late")).await;
        refused(late, Code::Unknown, "election: not leader");
        answer(
            elections
                .resign(ResignRequest {
                    leader: Some(leader),
                })
                .await,
        );
        assert_eq!(
            answer(elections.leader(of()).await).kv.unwrap().value,
            "second"
        );

        let text = "\"leader\" field must be provided";
        refused(
            elections.resign(ResignRequest { leader: None }).await,
            Code::Unknown,
            text,
        );
        let nobodys = ProclaimRequest {
            leader: None,
            value: "x".into(),
        };
        refused(elections.proclaim(nobodys).await, Code::Unknown, text);
        let text = "etcdserver: requested lease not found";
        refused(
            elections.campaign(campaign(999, "x")).await,
            Code::Unknown,
            text,
        );
        let leaving = candidate(target, one, "leaves").await;
        until_waiting(target, "e/", 2).await;
        leaving.abort();
        until_waiting(target, "e/", 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_observed() {
    both(async |target: &Target| {
        let mut elections = elections(target).await;
        let mut observer = elections.clone();
        // A real etcd opens the stream with its first answer.
        let observed = tokio::spawn(async move { answer(observer.observe(of()).await) });
        let (one, two) = (grant(target, 60).await, grant(target, 60).await);
        let leader = answer(elections.campaign(campaign(one, "a")).await)
            .leader
            .unwrap();
        let mut observed = wait::soon("the stream", observed).await.unwrap();
        let mut next = async |expected: &str| {
            let told = wait::soon("a leader", observed.message())
                .await
                .unwrap()
                .unwrap();
            let pair = told.kv.unwrap();
            assert_eq!(pair.value, expected.to_owned());
            assert!(whole(told.header) >= pair.mod_revision);
        };
        next("a").await;
        for value in ["b", "c", "d"] {
            let proclaim = ProclaimRequest {
                leader: Some(leader.clone()),
                value: value.into(),
            };
            answer(elections.proclaim(proclaim).await);
        }
        for value in ["b", "c", "d"] {
            next(value).await;
        }
        // Other keys of the line are not the leader's.
        let waiting = candidate(target, two, "e").await;
        until_waiting(target, "e/", 2).await;
        answer(
            elections
                .resign(ResignRequest {
                    leader: Some(leader),
                })
                .await,
        );
        answer(wait::soon("the second", waiting).await.unwrap());
        next("e").await;
        let revoke = LeaseRevokeRequest { id: two };
        answer(leases(target).await.lease_revoke(revoke).await);
        // Keys that anybody puts there are candidates too.
        answer(kv(target).await.put(put("e/x", "f")).await);
        next("f").await;
    })
    .await;
}
