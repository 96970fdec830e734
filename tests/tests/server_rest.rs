//! The services around the data: Maintenance, Cluster, Auth, health; on Synod's server and on a real
//! etcd, in etcd's own messages.

use std::sync::Arc;
use std::time::Duration;

use synod_engine::{Engine, EngineOptions};
use synod_server::ServerOptions;
use synod_tests::etcd::EtcdConfig;
use synod_tests::raw::{Op, compare, delete, kv, leases, put, range, txn, whole};
use synod_tests::target::{Served, Target, answer, both, both_over, refused};
use synod_tests::wait;
use synod_wire::etcdserverpb::alarm_request::AlarmAction;
use synod_wire::etcdserverpb::auth_client::AuthClient;
use synod_wire::etcdserverpb::cluster_client::ClusterClient;
use synod_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use synod_wire::etcdserverpb::{
    AlarmRequest, AlarmType, AuthDisableRequest, AuthEnableRequest, AuthRoleGetRequest,
    AuthRoleListRequest, AuthStatusRequest, AuthUserAddRequest, AuthUserDeleteRequest,
    AuthUserGetRequest, AuthUserListRequest, AuthenticateRequest, CompactionRequest,
    DefragmentRequest, DowngradeRequest, HashKvRequest, HashRequest, LeaseGrantRequest,
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, SnapshotRequest, StatusRequest,
};
use synod_wire::synod_v1::InfoRequest;
use synod_wire::synod_v1::synod_client::SynodClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

async fn maintenance(target: &Target) -> MaintenanceClient<Channel> {
    MaintenanceClient::new(target.channel().await)
}

async fn cluster(target: &Target) -> ClusterClient<Channel> {
    ClusterClient::new(target.channel().await)
}

async fn auth(target: &Target) -> AuthClient<Channel> {
    AuthClient::new(target.channel().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn status() {
    both(async |target: &Target| {
        answer(kv(target).await.put(put("a", "1")).await);
        let status = answer(maintenance(target).await.status(StatusRequest {}).await);
        assert_eq!(whole(status.header), 2);
        let header = status.header.unwrap();
        assert!(status.version.starts_with("3.5."), "{}", status.version);
        assert_eq!(status.leader, header.member_id);
        assert_eq!(status.raft_term, header.raft_term);
        assert!(status.db_size > 0 && status.db_size_in_use > 0);
        assert!(status.raft_index > 0 && status.raft_applied_index > 0);
        assert!(!status.is_learner && status.errors.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_hashes_and_defragmentation() {
    both(async |target: &Target| {
        let mut maintenance = maintenance(target).await;
        let mut kv = kv(target).await;
        for value in ["1", "2"] {
            answer(kv.put(put("a", value)).await);
        }
        let alarm = |action: AlarmAction, alarm: AlarmType, member_id| AlarmRequest {
            action: action.into(),
            alarm: alarm.into(),
            member_id,
        };
        for request in [
            alarm(AlarmAction::Get, AlarmType::None, 0),
            alarm(AlarmAction::Get, AlarmType::Nospace, 0),
            alarm(AlarmAction::Deactivate, AlarmType::Nospace, 0),
            alarm(AlarmAction::Deactivate, AlarmType::Corrupt, 1),
        ] {
            let response = answer(maintenance.alarm(request).await);
            assert_eq!((whole(response.header), response.alarms.len()), (3, 0));
        }
        whole(answer(maintenance.hash(HashRequest {}).await).header);
        let mut hash = async |revision| maintenance.hash_kv(HashKvRequest { revision }).await;
        let now = answer(hash(0).await);
        assert_eq!(whole(now.header), 3);
        let again = answer(hash(3).await);
        assert_eq!(
            (now.hash, now.compact_revision),
            (again.hash, again.compact_revision)
        );
        let text = "etcdserver: mvcc: required revision is a future revision";
        refused(hash(99).await, Code::OutOfRange, text);
        let header = answer(maintenance.defragment(DefragmentRequest {}).await).header;
        // A real etcd says nothing more than that it is done.
        assert!(target.is_etcd() || whole(header) == 3);
    })
    .await;
}

/// A request that waits a short time only.
fn soon<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(2));
    request
}

/// The answer to a change of members. A real etcd takes one of them up only after it has applied the
/// one before, and leaves the other without an answer.
async fn settled<T>(
    mut change: impl AsyncFnMut() -> Result<Response<T>, Status>,
) -> Result<Response<T>, Status> {
    // Whichever side's clock was first.
    const LATE: [Code; 3] = [Code::Cancelled, Code::DeadlineExceeded, Code::Unavailable];
    wait::soon("the members settle", async {
        loop {
            match change().await {
                Err(late) if LATE.contains(&late.code()) => {}
                answer => return answer,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_and_members() {
    both(async |target: &Target| {
        let mut maintenance = maintenance(target).await;
        let mut cluster = cluster(target).await;
        let status = answer(maintenance.status(StatusRequest {}).await);
        let nobody = MoveLeaderRequest { target_id: 12345 };
        let text = "etcdserver: bad leader transferee";
        refused(
            maintenance.move_leader(nobody).await,
            Code::FailedPrecondition,
            text,
        );
        let same = MoveLeaderRequest {
            target_id: status.leader,
        };
        answer(maintenance.move_leader(same).await);

        for linearizable in [false, true] {
            let list = answer(
                cluster
                    .member_list(MemberListRequest { linearizable })
                    .await,
            );
            // A real etcd leaves the revision out here.
            assert!(target.is_etcd() || whole(list.header) == 1);
            assert_eq!(list.members.len(), 1);
            let member = &list.members[0];
            assert_eq!(member.id, status.leader);
            assert!(!member.name.is_empty() && !member.is_learner);
            assert_eq!(member.client_ur_ls, [target.url()]);
        }
        let text = "etcdserver: member not found";
        let id = 12345;
        let removal = settled(async || {
            cluster
                .member_remove(soon(MemberRemoveRequest { id }))
                .await
        });
        refused(removal.await, Code::NotFound, text);
        let promotion = settled(async || {
            cluster
                .member_promote(soon(MemberPromoteRequest { id }))
                .await
        });
        refused(promotion.await, Code::NotFound, text);
        let update = || MemberUpdateRequest {
            id,
            peer_ur_ls: vec!["http://127.0.0.1:1".into()],
        };
        let update = settled(async || cluster.member_update(soon(update())).await);
        refused(update.await, Code::NotFound, text);
        let id = status.leader;
        let text = "etcdserver: re-configuration failed due to not enough started members";
        let removal = settled(async || {
            cluster
                .member_remove(soon(MemberRemoveRequest { id }))
                .await
        });
        refused(removal.await, Code::Unknown, text);
        let text = "etcdserver: can only promote a learner member";
        let promotion = settled(async || {
            cluster
                .member_promote(soon(MemberPromoteRequest { id }))
                .await
        });
        refused(promotion.await, Code::FailedPrecondition, text);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_full() {
    let rule = async |target: &Target| {
        let mut kv = kv(target).await;
        let mut maintenance = maintenance(target).await;
        let text = "etcdserver: mvcc: database space exceeded";
        let mut puts = 0;
        let full = loop {
            match kv.put(put(format!("k{puts}"), vec![7; 200_000])).await {
                Ok(_) => puts += 1,
                Err(status) => break status,
            }
            assert!(puts < 100, "the quota does not hold");
        };
        assert_eq!(
            (full.code(), full.message()),
            (Code::ResourceExhausted, text)
        );
        assert!(puts > 3);
        // Whatever grows it is refused; reading and deleting go on.
        refused(kv.put(put("a", "")).await, Code::ResourceExhausted, text);
        let grows = txn(vec![put("a", "").op()]);
        refused(kv.txn(grows).await, Code::ResourceExhausted, text);
        let lease = LeaseGrantRequest { ttl: 60, id: 0 };
        let granted = leases(target).await.lease_grant(lease).await;
        refused(granted, Code::ResourceExhausted, text);
        assert_eq!(answer(kv.range(range("k", "l")).await).count, puts);
        let status = answer(maintenance.status(StatusRequest {}).await);
        assert!(!status.errors.is_empty());
        let of = |action: AlarmAction, alarm: AlarmType| AlarmRequest {
            action: action.into(),
            member_id: status.leader,
            alarm: alarm.into(),
        };
        let all = of(AlarmAction::Get, AlarmType::None);
        let alarms = answer(maintenance.alarm(all).await).alarms;
        assert_eq!(alarms.len(), 1);
        assert_eq!(
            (alarms[0].member_id, alarms[0].alarm()),
            (status.leader, AlarmType::Nospace)
        );
        let gone = answer(kv.delete_range(delete("k", "l")).await);
        assert_eq!(gone.deleted, puts);
        // Room is made in etcd's way: compact, defragment, disarm.
        let compaction = CompactionRequest {
            revision: whole(gone.header),
            physical: true,
        };
        answer(kv.compact(compaction).await);
        answer(maintenance.defragment(DefragmentRequest {}).await);
        answer(
            maintenance
                .alarm(of(AlarmAction::Deactivate, AlarmType::Nospace))
                .await,
        );
        assert!(answer(maintenance.alarm(all).await).alarms.is_empty());
        answer(kv.put(put("a", "")).await);
    };
    let quota = EngineOptions::memory().with_quota_bytes(2 << 20);
    let store = Arc::new(Engine::open(quota).unwrap());
    let etcd = EtcdConfig::new().flag("--quota-backend-bytes=2097152");
    both_over(rule, etcd, store, ServerOptions::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_while_authentication_is_off() {
    both(async |target: &Target| {
        let mut auth = auth(target).await;
        let login = AuthenticateRequest {
            name: "root".into(),
            password: "secret".into(),
        };
        let text = "etcdserver: authentication is not enabled";
        refused(
            auth.authenticate(login).await,
            Code::FailedPrecondition,
            text,
        );
        let text = "etcdserver: root user does not exist";
        refused(
            auth.auth_enable(AuthEnableRequest {}).await,
            Code::FailedPrecondition,
            text,
        );
        let status = answer(auth.auth_status(AuthStatusRequest {}).await);
        assert_eq!(
            (whole(status.header), status.enabled, status.auth_revision),
            (1, false, 1)
        );
        whole(answer(auth.auth_disable(AuthDisableRequest {}).await).header);
        let users = answer(auth.user_list(AuthUserListRequest {}).await);
        assert_eq!((whole(users.header), users.users.len()), (1, 0));
        let roles = answer(auth.role_list(AuthRoleListRequest {}).await);
        assert_eq!((whole(roles.header), roles.roles.len()), (1, 0));
        let text = "etcdserver: user name not found";
        let name = || "nobody".to_owned();
        let user = auth.user_get(AuthUserGetRequest { name: name() }).await;
        refused(user, Code::FailedPrecondition, text);
        let user = auth
            .user_delete(AuthUserDeleteRequest { name: name() })
            .await;
        refused(user, Code::FailedPrecondition, text);
        let text = "etcdserver: role name not found";
        let role = auth.role_get(AuthRoleGetRequest { role: name() }).await;
        refused(role, Code::FailedPrecondition, text);
    })
    .await;
}

/// What Synod's server refuses and a real etcd does: each says why, and with a code that clients take
/// for final.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_clearly() {
    // Over a store that is none of the engine's.
    let store = synod_tests::target::memory();
    let target = Target::Served(Served::over(store, ServerOptions::new()).await);
    let mut maintenance = maintenance(&target).await;
    let id = answer(maintenance.status(StatusRequest {}).await).leader;
    let mut cluster = cluster(&target).await;
    let peers = || vec!["http://127.0.0.1:1".to_owned()];
    let user = AuthUserAddRequest {
        name: "root".into(),
        password: "secret".into(),
        ..AuthUserAddRequest::default()
    };
    let raise = AlarmRequest {
        action: AlarmAction::Activate.into(),
        alarm: AlarmType::Nospace.into(),
        member_id: id,
    };
    let add = MemberAddRequest {
        peer_ur_ls: peers(),
        is_learner: false,
    };
    let update = MemberUpdateRequest {
        id,
        peer_ur_ls: peers(),
    };
    let refusals = [
        maintenance.snapshot(SnapshotRequest {}).await.map(|_| ()),
        maintenance
            .downgrade(DowngradeRequest::default())
            .await
            .map(|_| ()),
        maintenance.alarm(raise).await.map(|_| ()),
        cluster.member_add(add).await.map(|_| ()),
        cluster.member_update(update).await.map(|_| ()),
        auth(&target).await.user_add(user).await.map(|_| ()),
    ];
    for refusal in refusals {
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code(), Code::Unimplemented, "{refusal:?}");
        assert!(refusal.message().starts_with("synod: "), "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_do_not_exist() {
    both(async |target: &Target| {
        for path in ["/etcdserverpb.KV/Nothing", "/etcdserverpb.Nothing/Range"] {
            let mut client = tonic::client::Grpc::new(target.channel().await);
            client.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<StatusRequest, StatusRequest>::default();
            let path = path.parse().unwrap();
            let call = client
                .unary(tonic::Request::new(StatusRequest {}), path, codec)
                .await;
            assert_eq!(call.unwrap_err().code(), Code::Unimplemented);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    both(async |target: &Target| {
        let mut health = HealthClient::new(target.channel().await);
        let ask = |service: &str| HealthCheckRequest {
            service: service.to_owned(),
        };
        let serving = answer(health.check(ask("")).await);
        assert_eq!(serving.status(), ServingStatus::Serving);
        refused(
            health.check(ask("nothing")).await,
            Code::NotFound,
            "unknown service",
        );
        let mut watch = answer(health.watch(ask("")).await);
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_synod_says_of_itself() {
    let options = ServerOptions::new()
        .with_version("1.2.3")
        .with_data("memory")
        .with_quota_bytes(1 << 30);
    let store = synod_tests::target::memory();
    let target = Target::Served(Served::over(store, options).await);
    let mut info = SynodClient::new(target.channel().await);
    let fresh = answer(info.info(InfoRequest {}).await);
    assert_eq!(
        (fresh.version.as_str(), fresh.data.as_str()),
        ("1.2.3", "memory")
    );
    assert_eq!(fresh.pid, std::process::id());
    assert_eq!((fresh.revision, fresh.compact_revision), (1, 0));
    assert_eq!(
        (fresh.keys, fresh.leases, fresh.watchers, fresh.connections),
        (0, 0, 0, 1)
    );
    assert_eq!((fresh.db_size_quota, fresh.alarms.len()), (1 << 30, 0));
    assert_eq!(fresh.listen, [target.url()]);
    assert!(fresh.started_at > 1_700_000_000);
    let mut kv = kv(&target).await;
    for index in 0..4 {
        answer(kv.put(put(format!("k{index}"), "")).await);
    }
    let compaction = CompactionRequest {
        revision: 3,
        physical: true,
    };
    answer(kv.compact(compaction).await);
    synod_tests::raw::grant(&target, 60).await;
    let later = answer(info.info(InfoRequest {}).await);
    assert_eq!((later.revision, later.compact_revision), (5, 3));
    assert_eq!((later.keys, later.leases), (4, 1));
    assert!(later.requests >= fresh.requests + 6 && later.connections >= 2);
}

/// A condition that no client library would send: it is refused, and the server goes on.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused() {
    let target = Target::Served(Served::start().await);
    let mut kv = kv(&target).await;
    let mut nonsense = compare(
        "a",
        synod_wire::etcdserverpb::compare::CompareResult::Equal,
        synod_wire::etcdserverpb::compare::CompareTarget::Mod,
        None,
    );
    nonsense.result = 77;
    let request = synod_wire::etcdserverpb::TxnRequest {
        compare: vec![nonsense],
        ..Default::default()
    };
    let refusal = kv.txn(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal:?}");
    let sort = synod_wire::etcdserverpb::RangeRequest {
        sort_target: 99,
        ..synod_tests::raw::get("a")
    };
    let text = "etcdserver: invalid sort option";
    refused(kv.range(sort).await, Code::InvalidArgument, text);
    answer(kv.put(put("a", "")).await);
}
