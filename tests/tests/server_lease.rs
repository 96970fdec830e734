//! The Lease service: each rule holds on Synod's server and on a real etcd, in etcd's own messages.

use std::time::Duration;

use synod_tests::raw::{get, grant, kv, leases, put, whole};
use synod_tests::target::{Target, answer, both, refused};
use synod_tests::wait;
use synod_wire::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest,
};
use tokio_stream::StreamExt;
use tonic::Code;

const NOT_FOUND: &str = "etcdserver: requested lease not found";

/// In seconds: what has to happen before such a lease ends is well within it.
const BRIEF: i64 = wait::BRIEF.as_secs() as i64;

#[tokio::test(flavor = "multi_thread")]
async fn grants() {
    both(async |target: &Target| {
        let mut leases = leases(target).await;
        let mut brief = Vec::new();
        for ttl in [1, 0, -5, 2] {
            let granted = answer(leases.lease_grant(LeaseGrantRequest { ttl, id: 0 }).await);
            assert_eq!((whole(granted.header), granted.ttl), (1, 2));
            assert!(granted.id > 0 && granted.error.is_empty());
            brief.push(granted.id);
        }
        let longest = LeaseGrantRequest {
            ttl: 9_000_000_000,
            id: 0,
        };
        let longest = answer(leases.lease_grant(longest).await);
        assert_eq!(longest.ttl, 9_000_000_000);
        let longer = LeaseGrantRequest {
            ttl: 9_000_000_001,
            id: 0,
        };
        let text = "etcdserver: too large lease TTL";
        refused(leases.lease_grant(longer).await, Code::OutOfRange, text);
        for id in [4711, -5] {
            let named = LeaseGrantRequest { ttl: 60, id };
            assert_eq!(answer(leases.lease_grant(named).await).id, id);
            let text = "etcdserver: lease already exists";
            refused(
                leases.lease_grant(named).await,
                Code::FailedPrecondition,
                text,
            );
        }
        let all = answer(leases.lease_leases(LeaseLeasesRequest {}).await);
        assert_eq!(whole(all.header), 1);
        // The brief ones may have run out already.
        let mut lasting: Vec<i64> = all.leases.iter().map(|lease| lease.id).collect();
        lasting.retain(|id| !brief.contains(id));
        lasting.sort_unstable();
        let mut expected = [longest.id, 4711, -5];
        expected.sort_unstable();
        assert_eq!(lasting, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends() {
    both(async |target: &Target| {
        let mut leases = leases(target).await;
        let mut kv = kv(target).await;
        for id in [12345, 0] {
            refused(
                leases.lease_revoke(LeaseRevokeRequest { id }).await,
                Code::NotFound,
                NOT_FOUND,
            );
        }
        let lease = grant(target, 60).await;
        for key in ["a", "b"] {
            answer(
                kv.put(PutRequest {
                    lease,
                    ..put(key, "")
                })
                .await,
            );
        }
        let revoked = leases.lease_revoke(LeaseRevokeRequest { id: lease }).await;
        assert_eq!(whole(answer(revoked).header), 4);
        for key in ["a", "b"] {
            assert_eq!(answer(kv.range(get(key)).await).count, 0);
        }
        // One that nobody renews ends by itself, with its keys and in one revision.
        let lease = grant(target, BRIEF).await;
        for key in ["c", "d"] {
            answer(
                kv.put(PutRequest {
                    lease,
                    ..put(key, "")
                })
                .await,
            );
        }
        wait::until("the lease expires", || {
            let mut kv = kv.clone();
            async move { answer(kv.range(get("c")).await).count == 0 }
        })
        .await;
        let gone = answer(kv.range(get("d")).await);
        assert_eq!((gone.count, whole(gone.header)), (0, 7));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_they_live() {
    both(async |target: &Target| {
        let mut leases = leases(target).await;
        let mut kv = kv(target).await;
        let lease = grant(target, 60).await;
        for key in ["b", "a"] {
            answer(
                kv.put(PutRequest {
                    lease,
                    ..put(key, "")
                })
                .await,
            );
        }
        let mut ask = async |id, keys| {
            let request = LeaseTimeToLiveRequest { id, keys };
            answer(leases.lease_time_to_live(request).await)
        };
        let known = ask(lease, false).await;
        assert_eq!(
            (known.id, known.granted_ttl, known.keys.len()),
            (lease, 60, 0)
        );
        assert!((55..=60).contains(&known.ttl), "{}", known.ttl);
        let mut keys = ask(lease, true).await.keys;
        keys.sort();
        assert_eq!(keys, ["a", "b"]);
        for id in [777, 0] {
            let unknown = ask(id, true).await;
            assert_eq!((unknown.id, unknown.ttl, unknown.granted_ttl), (id, -1, 0));
            assert_eq!((whole(unknown.header), unknown.keys.len()), (3, 0));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alives_are_answered_in_order() {
    both(async |target: &Target| {
        let mut leases = leases(target).await;
        let short = grant(target, 30).await;
        let long = grant(target, 90).await;
        let ids = [short, 99, long, long, 0, short];
        let requests = tokio_stream::iter(ids.map(|id| LeaseKeepAliveRequest { id }));
        // The requests end, and the answers end after the last.
        let answers = answer(leases.lease_keep_alive(requests).await);
        let answers: Vec<_> = wait::soon("the answers", answers.collect()).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let told: Vec<_> = answers.iter().map(|one| (one.id, one.ttl)).collect();
        assert_eq!(
            told,
            [
                (short, 30),
                (99, 0),
                (long, 90),
                (long, 90),
                (0, 0),
                (short, 30)
            ]
        );
        assert!(answers.iter().all(|one| whole(one.header) == 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_kept_alive_outlives_its_time() {
    both(async |target: &Target| {
        let mut leases = leases(target).await;
        let kept = grant(target, BRIEF).await;
        let dropped = grant(target, BRIEF).await;
        let (send, requests) = tokio::sync::mpsc::channel(8);
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        send.send(LeaseKeepAliveRequest { id: kept }).await.unwrap();
        let mut answers = answer(leases.lease_keep_alive(requests).await);
        // The one that is not kept alive tells when the time of both has passed.
        let mut turns = 0;
        loop {
            let renewed = answers.next().await.unwrap().unwrap();
            assert_eq!((renewed.id, renewed.ttl), (kept, BRIEF));
            let request = LeaseTimeToLiveRequest {
                id: dropped,
                keys: false,
            };
            if answer(leases.lease_time_to_live(request).await).granted_ttl == 0 && turns > 90 {
                break;
            }
            turns += 1;
            assert!(turns < 600, "the other lease does not end");
            tokio::time::sleep(Duration::from_millis(100)).await;
            send.send(LeaseKeepAliveRequest { id: kept }).await.unwrap();
        }
        let mut stranger = synod_tests::raw::leases(target).await;
        answer(stranger.lease_revoke(LeaseRevokeRequest { id: kept }).await);
        send.send(LeaseKeepAliveRequest { id: kept }).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().ttl, 0);
    })
    .await;
}
