//! What Synod's server does beyond etcd 3.5.1, and what it keeps.

use synod_engine::{Engine, EngineOptions};
use synod_server::{Server, ServerOptions};
use synod_tests::raw::{Op, get, put, txn};
use synod_tests::target::{Served, Target, answer};
use synod_tests::wait;
use synod_wire::authpb::UserAddOptions;
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::auth_client::AuthClient;
use synod_wire::etcdserverpb::cluster_client::ClusterClient;
use synod_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use synod_wire::v3electionpb::election_client::ElectionClient;
use synod_wire::v3electionpb::{CampaignRequest, LeaderKey, ProclaimRequest};
use synod_wire::v3lockpb::LockRequest;
use synod_wire::v3lockpb::lock_client::LockClient;
use tonic::Code;

use crate::who::{BAD_LOGIN, BAD_TOKEN, DENIED, NO_USER, Who, denied, lock_up};

/// What later releases of etcd ask for a login, and 3.5.1 does not.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_about_keys_needs_a_login_too() {
    let target = Target::Served(Served::start().await);
    let root = lock_up(&target).await;
    let user = Who::login(&target, "u", "pass").await.unwrap();
    let nobody = Who::nobody(&target).await;
    let maintenance = || MaintenanceClient::new(root.channel.clone());
    let cluster = || ClusterClient::new(root.channel.clone());
    let lease = || pb::LeaseGrantRequest { ttl: 60, id: 0 };
    denied(
        nobody.leases().lease_grant(nobody.ask(lease())).await,
        NO_USER,
    );
    let all = || pb::LeaseLeasesRequest {};
    denied(
        nobody.leases().lease_leases(nobody.ask(all())).await,
        NO_USER,
    );
    answer(user.leases().lease_leases(user.ask(all())).await);
    let renewals = || tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 1 }]);
    denied(
        nobody
            .leases()
            .lease_keep_alive(nobody.ask(renewals()))
            .await,
        NO_USER,
    );
    answer(user.leases().lease_keep_alive(user.ask(renewals())).await);
    let members = || pb::MemberListRequest::default();
    denied(cluster().member_list(nobody.ask(members())).await, NO_USER);
    answer(cluster().member_list(user.ask(members())).await);
    let compaction = || pb::CompactionRequest {
        revision: 1,
        physical: false,
    };
    denied(user.kv().compact(user.ask(compaction())).await, DENIED);
    answer(root.kv().compact(root.ask(compaction())).await);
    for (who, refusal) in [(&nobody, NO_USER), (&user, DENIED)] {
        denied(
            maintenance()
                .snapshot(who.ask(pb::SnapshotRequest {}))
                .await
                .map(drop),
            refusal,
        );
        denied(
            maintenance()
                .hash_kv(who.ask(pb::HashKvRequest { revision: 0 }))
                .await,
            refusal,
        );
        denied(
            maintenance().hash(who.ask(pb::HashRequest {})).await,
            refusal,
        );
        denied(
            maintenance()
                .defragment(who.ask(pb::DefragmentRequest {}))
                .await,
            refusal,
        );
        let remove = pb::MemberRemoveRequest { id: 1 };
        denied(cluster().member_remove(who.ask(remove)).await, refusal);
    }
    // What probes ask is open, as in etcd.
    answer(maintenance().status(nobody.ask(pb::StatusRequest {})).await);
    let bad = root.add_user("empty", "").await;
    denied(bad, (Code::InvalidArgument, "synod: the password is empty"));
    // The keys of a lease are told to who may read them.
    let id = answer(root.leases().lease_grant(root.ask(lease())).await).id;
    let attach = pb::PutRequest {
        lease: id,
        ..put("x", "v")
    };
    answer(root.kv().put(root.ask(attach)).await);
    let ask = |keys| pb::LeaseTimeToLiveRequest { id, keys };
    answer(user.leases().lease_time_to_live(user.ask(ask(false))).await);
    denied(
        user.leases().lease_time_to_live(user.ask(ask(true))).await,
        DENIED,
    );
    // Nor is a key attached to such a lease by a transaction.
    let attach = pb::PutRequest {
        lease: id,
        ..put("w/a", "v")
    };
    denied(user.try_txn(txn(vec![attach.op()])).await, DENIED);
}

fn file(dir: &std::path::Path) -> Engine {
    Engine::open(EngineOptions::file(dir)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_survive_a_restart_and_their_tokens_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let engine = file(dir.path());
    let served = Served::embedded(engine.clone(), ServerOptions::new()).await;
    let target = Target::Served(served);
    lock_up(&target).await;
    let user = Who::login(&target, "u", "pass").await.unwrap();
    let Target::Served(served) = target else {
        unreachable!()
    };
    served.stop().await;
    engine.close().await.unwrap();
    let stored: Vec<u8> = std::fs::read_dir(dir.path())
        .unwrap()
        .flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!stored.windows(6).any(|window| window == b"secret"));

    let served = Served::embedded(file(dir.path()), ServerOptions::new()).await;
    let target = Target::Served(served);
    denied(Who::nobody(&target).await.try_get("r/a", "").await, NO_USER);
    let late = Who {
        channel: target.channel().await,
        ..user
    };
    denied(late.try_get("r/a", "").await, BAD_TOKEN);
    let user = Who::login(&target, "u", "pass").await.unwrap();
    user.try_get("r/a", "").await.unwrap();
    denied(user.try_get("x", "").await, DENIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_is_set_up_once_and_logins_stay_on() {
    let engine = synod_tests::target::engine();
    let options = || ServerOptions::new().with_auth_that_stays_on();
    let server = Server::embedded(engine.clone(), options()).unwrap();
    assert!(!server.is_auth_enabled());
    assert!(server.set_up_root("").await.is_err());
    assert!(!server.is_auth_enabled());
    server.set_up_root("first").await.unwrap();
    // Of a server that starts once more: the password stays.
    let again = Server::embedded(engine.clone(), options()).unwrap();
    assert!(again.is_auth_enabled());
    again.set_up_root("second").await.unwrap();
    let target = Target::Served(Served::serve(again, "http").await);
    denied(
        Who::login(&target, "root", "second").await.map(drop),
        BAD_LOGIN,
    );
    let root = Who::login(&target, "root", "first").await.unwrap();
    let off = root
        .auth()
        .auth_disable(root.ask(pb::AuthDisableRequest {}))
        .await;
    let text = "synod: this server serves other machines; its authentication stays on";
    denied(off, (Code::FailedPrecondition, text));
    assert!(root.revision().await.0);
    let plain = Server::new(synod_tests::target::memory(), ServerOptions::new());
    assert!(plain.set_up_root("x").await.is_err());
}

/// Who switches logins on with a `root` that has no password is not locked out: the next start gives it one.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_without_a_password_is_given_one() {
    let engine = synod_tests::target::engine();
    let first = Server::embedded(engine.clone(), ServerOptions::new()).unwrap();
    let target = Target::Served(Served::serve(first, "http").await);
    let nobody = Who::nobody(&target).await;
    let request = pb::AuthUserAddRequest {
        name: "root".into(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    };
    answer(nobody.auth().user_add(nobody.ask(request)).await);
    let again = Server::embedded(engine, ServerOptions::new()).unwrap();
    again.set_up_root("given").await.unwrap();
    let target = Target::Served(Served::serve(again, "http").await);
    let root = Who::login(&target, "root", "given").await.unwrap();
    root.try_put("anything").await.unwrap();
}

/// However often somebody without a role tries to end every lease there is: a key that was acknowledged stays.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_deletes_the_keys_of_others_by_ending_their_leases() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::embedded(file(dir.path()), ServerOptions::new()).await;
    let target = Target::Served(served);
    let root = lock_up(&target).await;
    root.add_user("stranger", "pass").await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let mut strangers = Vec::new();
    for _ in 0..4 {
        let stranger = Who::login(&target, "stranger", "pass").await.unwrap();
        let stop = stop.clone();
        strangers.push(tokio::spawn(async move {
            while !stop.is_cancelled() {
                let all = stranger.ask(pb::LeaseLeasesRequest {});
                for lease in answer(stranger.leases().lease_leases(all).await).leases {
                    let revoke = stranger.ask(pb::LeaseRevokeRequest { id: lease.id });
                    // Refused, or gone already, or without keys.
                    let _ = stranger.leases().lease_revoke(revoke).await;
                }
            }
        }));
    }
    let mut kept = Vec::new();
    for n in 0..100 {
        let grant = root.ask(pb::LeaseGrantRequest { ttl: 600, id: 0 });
        let lease = answer(root.leases().lease_grant(grant).await).id;
        let key = format!("mine/{n}");
        let attach = pb::PutRequest {
            lease,
            ..put(key.clone(), "v")
        };
        // A lease without keys is anybody's to end, as in etcd.
        if root.kv().put(root.ask(attach)).await.is_ok() {
            kept.push(key);
        }
    }
    stop.cancel();
    for stranger in strangers {
        stranger.await.unwrap();
    }
    assert!(!kept.is_empty(), "no put came before the strangers");
    let mut lost = Vec::new();
    for key in &kept {
        if answer(root.kv().range(root.ask(get(key.clone()))).await).count == 0 {
            lost.push(key);
        }
    }
    assert!(
        lost.is_empty(),
        "{} of {}: {lost:?}",
        lost.len(),
        kept.len()
    );
}

/// A key of one's own on another's lease would keep its owner from using and ending it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_a_lock_with_the_lease_of_another() {
    let target = Target::Served(Served::start().await);
    let root = lock_up(&target).await;
    let user = Who::login(&target, "u", "pass").await.unwrap();
    let grant = root.ask(pb::LeaseGrantRequest { ttl: 60, id: 0 });
    let lease = answer(root.leases().lease_grant(grant).await).id;
    let session = pb::PutRequest {
        lease,
        ..put("session", "v")
    };
    answer(root.kv().put(root.ask(session.clone())).await);
    let refused = (Code::Unknown, DENIED.1);
    let mut locks = LockClient::new(target.channel().await);
    let lock = LockRequest {
        name: "b/lock".into(),
        lease,
    };
    denied(locks.lock(user.ask(lock)).await, refused);
    let mut elections = ElectionClient::new(target.channel().await);
    let campaign = |lease| CampaignRequest {
        name: "b/e".into(),
        value: "v".into(),
        lease,
    };
    denied(elections.campaign(user.ask(campaign(lease))).await, refused);
    let mine = answer(elections.campaign(user.ask(campaign(0))).await);
    let leader = mine.leader.map(|leader| LeaderKey { lease, ..leader });
    let proclaim = ProclaimRequest {
        leader,
        value: "w".into(),
    };
    denied(elections.proclaim(user.ask(proclaim)).await, refused);
    // It is still its owner's to use and to end.
    answer(root.kv().put(root.ask(session)).await);
    let revoke = root.ask(pb::LeaseRevokeRequest { id: lease });
    answer(root.leases().lease_revoke(revoke).await);
}

/// Many who guess passwords hold up nobody who is logged in.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_logins_starves_nobody_else() {
    let target = Target::Served(Served::start().await);
    let root = lock_up(&target).await;
    let mut flood = Vec::new();
    for _ in 0..300 {
        let channel = root.channel.clone();
        flood.push(tokio::spawn(async move {
            let request = pb::AuthenticateRequest {
                name: "root".into(),
                password: "guess".into(),
            };
            let answer = AuthClient::new(channel).authenticate(request).await;
            answer.map(drop).unwrap_err().code()
        }));
    }
    root.try_put("a").await.unwrap();
    // Three hundred guesses take seconds, and it has not waited for them.
    let going_on = flood.iter().filter(|guess| !guess.is_finished()).count();
    for _ in 0..50 {
        root.try_put("a").await.unwrap();
    }
    let mut codes = Vec::new();
    for task in flood {
        codes.push(wait::soon("a refusal", task).await.unwrap());
    }
    let busy = codes
        .iter()
        .filter(|code| **code == Code::ResourceExhausted)
        .count();
    let wrong = codes
        .iter()
        .filter(|code| **code == Code::InvalidArgument)
        .count();
    println!("{going_on} guesses went on; {busy} turned away at once, {wrong} refused");
    // On a busy machine some give up waiting for their turn themselves.
    let known = |code: &&Code| {
        let late = [Code::Cancelled, Code::DeadlineExceeded];
        late.contains(code) || [Code::ResourceExhausted, Code::InvalidArgument].contains(code)
    };
    assert_eq!(codes.iter().filter(known).count(), codes.len(), "{codes:?}");
    assert!(busy > 0 && wrong > 0);
    assert!(going_on > 0);
}
