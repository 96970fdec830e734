//! Users and roles: the same requests to Synod's server and to a real etcd, in etcd's own messages (here); what Synod's
//! does beyond, and what it keeps (`own.rs`).

mod own;
mod who;

use std::time::Duration;

use synod_server::ServerOptions;
use synod_tests::etcd::EtcdConfig;
use synod_tests::raw::{Op, compare, create, delete, get, put, range, txn};
use synod_tests::target::{Target, answer, both, both_with};
use synod_tests::wait;
use synod_wire::authpb::{UserAddOptions, permission::Type};
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::watch_client::WatchClient;
use synod_wire::v3electionpb::election_client::ElectionClient;
use synod_wire::v3electionpb::{CampaignRequest, LeaderRequest};
use synod_wire::v3lockpb::lock_client::LockClient;
use synod_wire::v3lockpb::{LockRequest, UnlockRequest};
use tonic::Code;

use who::{BAD_LOGIN, BAD_TOKEN, DENIED, NO_USER, Who, denied, lock_up};

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_are_kept_as_etcd_keeps_them() {
    both(async |target: &Target| {
        let who = Who::nobody(target).await;
        let failed = |text: &'static str| (Code::FailedPrecondition, text);
        let no_user = failed("etcdserver: user name not found");
        let no_role = failed("etcdserver: role name not found");
        assert_eq!(who.revision().await, (false, 1));
        denied(
            who.enable().await,
            failed("etcdserver: root user does not exist"),
        );
        who.add_user("root", "secret").await.unwrap();
        assert_eq!(who.revision().await, (false, 2));
        denied(
            who.enable().await,
            failed("etcdserver: root user does not have root role"),
        );
        denied(
            who.add_user("root", "x").await,
            failed("etcdserver: user name already exists"),
        );
        denied(who.add_user("", "x").await, NO_USER);
        denied(who.grant_role("root", "r").await, no_role);
        denied(who.grant_role("nobody", "r").await, no_user);
        who.add_role("r").await.unwrap();
        denied(
            who.add_role("r").await,
            failed("etcdserver: role name already exists"),
        );
        denied(
            who.add_role("").await,
            (Code::InvalidArgument, "etcdserver: role name is empty"),
        );
        assert_eq!(who.revision().await, (false, 3));
        denied(who.permit("none", Type::Read, "a", "").await, no_role);
        let nothing = pb::AuthRoleGrantPermissionRequest {
            name: "r".into(),
            perm: None,
        };
        denied(
            who.auth().role_grant_permission(nothing).await,
            (Code::InvalidArgument, "etcdserver: permission not given"),
        );
        who.permit("r", Type::Write, "b", "").await.unwrap();
        who.permit("r", Type::Read, "a", "c").await.unwrap();
        who.permit("r", Type::Readwrite, "a", "c").await.unwrap();
        assert_eq!(who.revision().await, (false, 6));
        let role = pb::AuthRoleGetRequest { role: "r".into() };
        let role = answer(who.auth().role_get(role).await);
        let permissions: Vec<_> = role
            .perm
            .iter()
            .map(|p| (p.perm_type(), &p.key[..]))
            .collect();
        assert_eq!(
            permissions,
            [(Type::Readwrite, &b"a"[..]), (Type::Write, b"b")]
        );
        let revoke = |role: &str, key: &str, end: &str| pb::AuthRoleRevokePermissionRequest {
            role: role.into(),
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
        };
        denied(
            who.auth()
                .role_revoke_permission(revoke("r", "a", ""))
                .await,
            failed("etcdserver: permission is not granted to the role"),
        );
        denied(
            who.auth()
                .role_revoke_permission(revoke("none", "a", ""))
                .await,
            no_role,
        );
        answer(
            who.auth()
                .role_revoke_permission(revoke("r", "a", "c"))
                .await,
        );
        who.grant_role("root", "r").await.unwrap();
        assert_eq!(who.revision().await, (false, 8));
        // Once more changes nothing.
        who.grant_role("root", "r").await.unwrap();
        assert_eq!(who.revision().await, (false, 8));
        // A role of this name need not exist.
        who.grant_role("root", "root").await.unwrap();
        let user = |name: &str| pb::AuthUserGetRequest { name: name.into() };
        let roles = answer(who.auth().user_get(user("root")).await).roles;
        assert_eq!(roles, ["r", "root"]);
        denied(who.auth().user_get(user("nobody")).await, no_user);
        let revoke = |name: &str, role: &str| pb::AuthUserRevokeRoleRequest {
            name: name.into(),
            role: role.into(),
        };
        denied(
            who.auth().user_revoke_role(revoke("nobody", "r")).await,
            no_user,
        );
        denied(
            who.auth().user_revoke_role(revoke("root", "other")).await,
            failed("etcdserver: role is not granted to the user"),
        );
        let role = |role: &str| pb::AuthRoleDeleteRequest { role: role.into() };
        denied(who.auth().role_delete(role("none")).await, no_role);
        answer(who.auth().role_delete(role("r")).await);
        let roles = answer(who.auth().user_get(user("root")).await).roles;
        assert_eq!(roles, ["root"]);
        let password = |name: &str| pb::AuthUserChangePasswordRequest {
            name: name.into(),
            password: "changed".into(),
            ..Default::default()
        };
        denied(
            who.auth().user_change_password(password("nobody")).await,
            no_user,
        );
        answer(who.auth().user_change_password(password("root")).await);
        let delete = |name: &str| pb::AuthUserDeleteRequest { name: name.into() };
        denied(who.auth().user_delete(delete("nobody")).await, no_user);
        who.add_user("gone", "x").await.unwrap();
        answer(who.auth().user_delete(delete("gone")).await);
        let users = answer(who.auth().user_list(pb::AuthUserListRequest {}).await).users;
        assert_eq!(users, ["root"]);
        assert_eq!(who.revision().await, (false, 13));
        // None of it took a revision of the keys.
        let header = answer(who.kv().range(get("a")).await).header.unwrap();
        assert_eq!(header.revision, 1);

        who.enable().await.unwrap();
        denied(who.enable().await, NO_USER);
        denied(
            who.auth().auth_status(pb::AuthStatusRequest {}).await,
            NO_USER,
        );
        denied(who.add_user("x", "x").await, NO_USER);
        let root = Who::login(target, "root", "changed").await.unwrap();
        root.enable().await.unwrap();
        assert_eq!(root.revision().await, (true, 13));
        let management = (Code::InvalidArgument, "etcdserver: invalid auth management");
        let request = root.ask(delete("root"));
        denied(root.auth().user_delete(request).await, management);
        let request = root.ask(revoke("root", "root"));
        denied(root.auth().user_revoke_role(request).await, management);
        let request = root.ask(role("root"));
        denied(root.auth().role_delete(request).await, management);
        answer(
            root.auth()
                .auth_disable(root.ask(pb::AuthDisableRequest {}))
                .await,
        );
        assert_eq!(who.revision().await, (false, 14));
        who.try_put("a").await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_in() {
    both(async |target: &Target| {
        let root = lock_up(target).await;
        denied(
            Who::login(target, "root", "wrong").await.map(drop),
            BAD_LOGIN,
        );
        denied(Who::login(target, "nobody", "x").await.map(drop), BAD_LOGIN);
        denied(
            Who::login(target, "", "x").await.map(drop),
            if target.is_etcd() { BAD_LOGIN } else { NO_USER },
        );
        let request = pb::AuthUserAddRequest {
            name: "certified".into(),
            options: Some(UserAddOptions { no_password: true }),
            ..Default::default()
        };
        answer(root.auth().user_add(root.ask(request)).await);
        let text = "auth: authentication failed, password was given for no password user";
        denied(
            Who::login(target, "certified", "x").await.map(drop),
            (Code::Unknown, text),
        );
        // Nor does a change of it give one.
        let change = pb::AuthUserChangePasswordRequest {
            name: "certified".into(),
            password: "x".into(),
            ..Default::default()
        };
        answer(root.auth().user_change_password(root.ask(change)).await);
        denied(
            Who::login(target, "certified", "x").await.map(drop),
            (Code::Unknown, text),
        );
        let mut stranger = Who::nobody(target).await;
        denied(stranger.try_get("r/a", "").await, NO_USER);
        stranger.token = Some("nonsense".into());
        denied(stranger.try_get("r/a", "").await, BAD_TOKEN);
        denied(stranger.try_put("w/a").await, BAD_TOKEN);
        // A password that changes ends the logins with the old one.
        let user = Who::login(target, "u", "pass").await.unwrap();
        user.try_get("r/a", "").await.unwrap();
        let request = pb::AuthUserChangePasswordRequest {
            name: "u".into(),
            password: "new".into(),
            ..Default::default()
        };
        answer(root.auth().user_change_password(root.ask(request)).await);
        denied(user.try_get("r/a", "").await, BAD_TOKEN);
        denied(Who::login(target, "u", "pass").await.map(drop), BAD_LOGIN);
        let user = Who::login(target, "u", "new").await.unwrap();
        user.try_get("r/a", "").await.unwrap();
        // So does the end of the user.
        let request = pb::AuthUserDeleteRequest { name: "u".into() };
        answer(root.auth().user_delete(root.ask(request)).await);
        denied(user.try_get("r/a", "").await, BAD_TOKEN);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_do_with_keys() {
    both(async |target: &Target| {
        let root = lock_up(target).await;
        for key in ["r/a", "w/a", "b/a", "x"] {
            root.try_put(key).await.unwrap();
        }
        let user = Who::login(target, "u", "pass").await.unwrap();
        // Reading.
        for (key, end) in [("r/a", ""), ("r/", "r0"), ("b/x", "b/y"), ("r/", "r/z")] {
            user.try_get(key, end).await.unwrap();
        }
        for (key, end) in [
            ("x", ""),
            ("w/a", ""),
            ("r/", "r1"),
            ("r", "r0"),
            ("r/", "\0"),
            ("\0", "\0"),
            ("b/", "s"),
        ] {
            denied(user.try_get(key, end).await, DENIED);
        }
        // Writing.
        for key in ["w/a", "b/a"] {
            user.try_put(key).await.unwrap();
        }
        for key in ["r/a", "x", "w0", "w"] {
            denied(user.try_put(key).await, DENIED);
        }
        for (key, end) in [("w/a", ""), ("w/", "w0"), ("b/", "b0")] {
            user.try_delete(key, end).await.unwrap();
        }
        for (key, end) in [("r/a", ""), ("w/", "\0"), ("x", ""), ("w/", "x")] {
            denied(user.try_delete(key, end).await, DENIED);
        }
        // What was there may be told only to who may read it.
        let with_prev = |key: &'static str| pb::PutRequest {
            prev_kv: true,
            ..put(key, "v")
        };
        denied(user.kv().put(user.ask(with_prev("w/a"))).await, DENIED);
        answer(user.kv().put(user.ask(with_prev("b/a"))).await);
        let with_prev = |key: &'static str| pb::DeleteRangeRequest {
            prev_kv: true,
            ..delete(key, "")
        };
        denied(
            user.kv().delete_range(user.ask(with_prev("w/a"))).await,
            DENIED,
        );
        answer(user.kv().delete_range(user.ask(with_prev("b/a"))).await);
        // A permission that is given, and taken away, holds at once, also for who is logged in.
        root.permit("r", Type::Read, "x", "").await.unwrap();
        user.try_get("x", "").await.unwrap();
        let request = pb::AuthRoleRevokePermissionRequest {
            role: "r".into(),
            key: "x".into(),
            range_end: "".into(),
        };
        answer(root.auth().role_revoke_permission(root.ask(request)).await);
        denied(user.try_get("x", "").await, DENIED);
        // The request's own faults come first.
        denied(
            user.kv().put(user.ask(put("", "v"))).await,
            (Code::InvalidArgument, "etcdserver: key is not provided"),
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_needs_what_all_of_it_needs() {
    use pb::compare::{CompareResult, CompareTarget};
    both(async |target: &Target| {
        let _root = lock_up(target).await;
        let user = Who::login(target, "u", "pass").await.unwrap();
        let exists =
            |key: &'static str| compare(key, CompareResult::Greater, CompareTarget::Version, None);
        let when =
            |key: &'static str, then: Vec<pb::RequestOp>, or: Vec<pb::RequestOp>| pb::TxnRequest {
                compare: vec![exists(key)],
                success: then,
                failure: or,
            };
        let fine = || put("w/a", "v").op();
        user.try_txn(when("r/a", vec![fine()], vec![get("b/a").op()]))
            .await
            .unwrap();
        user.try_txn(txn(vec![delete("w/", "w0").op()]))
            .await
            .unwrap();
        for bad in [
            // A condition tells what is there.
            when("w/a", vec![], vec![]),
            when("x", vec![fine()], vec![]),
            // The branch that is not taken counts.
            when("r/a", vec![put("x", "v").op()], vec![fine()]),
            when("r/a", vec![fine()], vec![put("x", "v").op()]),
            txn(vec![fine(), get("w/a").op()]),
            txn(vec![fine(), delete("r/", "r0").op()]),
            txn(vec![range("r/", "s").op()]),
        ] {
            denied(user.try_txn(bad).await, DENIED);
        }
        let prev = pb::DeleteRangeRequest {
            prev_kv: true,
            ..delete("w/a", "")
        };
        denied(user.try_txn(txn(vec![prev.op()])).await, DENIED);
        let nobody = Who::nobody(target).await;
        denied(nobody.try_txn(txn(vec![fine()])).await, NO_USER);
        if target.is_etcd() {
            // That release does not look into nested ones, nor at transactions that do nothing.
            return;
        }
        for bad in [
            txn(vec![txn(vec![put("x", "v").op()]).op()]),
            txn(vec![txn(vec![txn(vec![get("w/a").op()]).op()]).op()]),
            txn(vec![when("x", vec![], vec![]).op()]),
        ] {
            denied(user.try_txn(bad).await, DENIED);
        }
        user.try_txn(txn(vec![txn(vec![fine()]).op()]))
            .await
            .unwrap();
        denied(nobody.try_txn(txn(vec![])).await, NO_USER);
        let prev = pb::PutRequest {
            prev_kv: true,
            ..put("w/a", "v")
        };
        denied(user.try_txn(txn(vec![prev.op()])).await, DENIED);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_belong_to_who_may_write_their_keys() {
    both(async |target: &Target| {
        let root = lock_up(target).await;
        let user = Who::login(target, "u", "pass").await.unwrap();
        let lease = async |who: &Who| {
            let request = who.ask(pb::LeaseGrantRequest { ttl: 60, id: 0 });
            answer(who.leases().lease_grant(request).await).id
        };
        let attach = |key: &'static str, lease| pb::PutRequest {
            lease,
            ..put(key, "v")
        };
        let (mixed, own) = (lease(&user).await, lease(&user).await);
        answer(user.kv().put(user.ask(attach("w/a", mixed))).await);
        answer(user.kv().put(user.ask(attach("w/b", own))).await);
        answer(root.kv().put(root.ask(attach("x", mixed))).await);
        // Its end would delete what the user may not write.
        let revoke = |id| pb::LeaseRevokeRequest { id };
        denied(
            user.leases().lease_revoke(user.ask(revoke(mixed))).await,
            DENIED,
        );
        denied(user.kv().put(user.ask(attach("w/c", mixed))).await, DENIED);
        answer(user.leases().lease_revoke(user.ask(revoke(own))).await);
        answer(root.leases().lease_revoke(root.ask(revoke(mixed))).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_locks_and_elections() {
    both(async |target: &Target| {
        let root = lock_up(target).await;
        let user = Who::login(target, "u", "pass").await.unwrap();
        let nobody = Who::nobody(target).await;
        let first = async |who: &Who, key: &str, end: &str| {
            let request = create(pb::WatchCreateRequest {
                key: key.to_owned().into(),
                range_end: end.to_owned().into(),
                ..Default::default()
            });
            let mut client = WatchClient::new(who.channel.clone());
            let requests = tokio_stream::iter([request]);
            let requests = futures_util::StreamExt::chain(requests, tokio_stream::pending());
            let answers = client.watch(who.ask(requests)).await;
            let mut answers = answers.unwrap().into_inner();
            (answers.message().await.unwrap().unwrap(), answers)
        };
        let (made, mut events) = first(&user, "r/", "r0").await;
        assert!(made.created && !made.canceled);
        root.try_put("r/a").await.unwrap();
        let event = wait::soon("an event", events.message())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(event.events.len(), 1);
        let text = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        for (key, end) in [("x", ""), ("r/", "s"), ("w/a", ""), ("r/", "\0")] {
            if target.is_etcd() && end == "\0" {
                // That release takes it for one key.
                continue;
            }
            let (refusal, _) = first(&user, key, end).await;
            assert!(refusal.created && refusal.canceled, "{refusal:?}");
            assert_eq!(refusal.cancel_reason, text);
        }
        if target.is_etcd() {
            let (refusal, _) = first(&nobody, "r/", "r0").await;
            assert!(refusal.created && refusal.canceled, "{refusal:?}");
            assert!(
                refusal.cancel_reason.starts_with("rpc error: code = "),
                "{refusal:?}"
            );
        } else {
            // Nobody holds a stream here.
            let bad = Who {
                token: Some("nobody's".to_owned()),
                ..nobody.clone()
            };
            for (who, refusal) in [(&nobody, NO_USER), (&bad, BAD_TOKEN)] {
                let mut client = WatchClient::new(who.channel.clone());
                let requests = tokio_stream::pending::<pb::WatchRequest>();
                denied(client.watch(who.ask(requests)).await.map(drop), refusal);
            }
        }

        // The services for locks and elections give the text without the code.
        let unknown = |(_, text): (Code, &'static str)| (Code::Unknown, text);
        let lock = |name: &str| LockRequest {
            name: name.to_owned().into(),
            lease: 0,
        };
        let mut locks = LockClient::new(target.channel().await);
        let held = answer(locks.lock(user.ask(lock("b/lock"))).await);
        let release = UnlockRequest {
            key: held.key.clone(),
        };
        answer(locks.unlock(user.ask(release)).await);
        for name in ["x", "r/lock", "w/lock"] {
            denied(locks.lock(user.ask(lock(name))).await, unknown(DENIED));
        }
        denied(
            locks.lock(nobody.ask(lock("b/lock"))).await,
            unknown(NO_USER),
        );
        let release = || UnlockRequest { key: "x".into() };
        denied(locks.unlock(user.ask(release())).await, unknown(DENIED));
        denied(locks.unlock(nobody.ask(release())).await, unknown(NO_USER));
        let mut elections = ElectionClient::new(target.channel().await);
        let campaign = |name: &str| CampaignRequest {
            name: name.to_owned().into(),
            value: "v".into(),
            lease: 0,
        };
        answer(elections.campaign(user.ask(campaign("b/e"))).await);
        denied(
            elections.campaign(user.ask(campaign("x"))).await,
            unknown(DENIED),
        );
        let leader = |name: &str| LeaderRequest {
            name: name.to_owned().into(),
        };
        answer(elections.leader(user.ask(leader("b/e"))).await);
        denied(
            elections.leader(user.ask(leader("x"))).await,
            unknown(DENIED),
        );
        denied(
            elections.leader(nobody.ask(leader("b/e"))).await,
            unknown(NO_USER),
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_look_at_users() {
    both(async |target: &Target| {
        lock_up(target).await;
        let user = Who::login(target, "u", "pass").await.unwrap();
        let get_user = |name: &str| user.ask(pb::AuthUserGetRequest { name: name.into() });
        answer(user.auth().user_get(get_user("u")).await);
        denied(user.auth().user_get(get_user("root")).await, DENIED);
        let get_role = |role: &str| user.ask(pb::AuthRoleGetRequest { role: role.into() });
        answer(user.auth().role_get(get_role("r")).await);
        denied(user.auth().role_get(get_role("root")).await, DENIED);
        denied(
            user.auth()
                .user_list(user.ask(pb::AuthUserListRequest {}))
                .await,
            DENIED,
        );
        denied(
            user.auth()
                .role_list(user.ask(pb::AuthRoleListRequest {}))
                .await,
            DENIED,
        );
        denied(
            user.auth()
                .auth_status(user.ask(pb::AuthStatusRequest {}))
                .await,
            DENIED,
        );
        denied(
            user.auth()
                .auth_disable(user.ask(pb::AuthDisableRequest {}))
                .await,
            DENIED,
        );
        denied(user.add_user("x", "x").await, DENIED);
        denied(user.grant_role("u", "root").await, DENIED);
        denied(user.permit("r", Type::Readwrite, "\0", "\0").await, DENIED);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_when_they_are_not_used() {
    let etcd = EtcdConfig::new().flag("--auth-token-ttl=1");
    let options = ServerOptions::new().with_auth_token_ttl(Duration::from_secs(1));
    both_with(
        async |target: &Target| {
            lock_up(target).await;
            let user = Who::login(target, "u", "pass").await.unwrap();
            let mut pause = Duration::from_millis(1200);
            wait::soon("the token ends", async {
                loop {
                    // Asking renews it.
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    if let Err(status) = user.try_get("r/a", "").await {
                        return assert_eq!((status.code(), status.message()), BAD_TOKEN);
                    }
                }
            })
            .await;
        },
        etcd,
        options,
    )
    .await;
}
