//! The KV service: each rule holds on Synod's server and on a real etcd, in etcd's own messages.

use std::future::Future;

use bytes::Bytes;
use synod_tests::etcd::EtcdConfig;
use synod_tests::raw::{
    Op, compare, delete, get, inner_header, keys, kv, leases, put, range, txn, whole,
};
use synod_tests::target::{Target, answer, both, both_with, refused};
use synod_wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use synod_wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use synod_wire::etcdserverpb::request_op::Request;
use synod_wire::etcdserverpb::{
    CompactionRequest, Compare, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};
use tonic::Code;

const EMPTY_KEY: &str = "etcdserver: key is not provided";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const NO_LEASE: &str = "etcdserver: requested lease not found";
const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";
const TOO_MANY: &str = "etcdserver: too many operations in txn request";
const TOO_LARGE: &str = "etcdserver: request is too large";

#[tokio::test(flavor = "multi_thread")]
async fn revisions_and_headers() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        let mut leases = leases(target).await;
        assert_eq!(whole(answer(kv.range(get("a")).await).header), 1);
        assert_eq!(whole(answer(kv.put(put("a", "1")).await).header), 2);
        // What changes nothing takes no revision.
        assert_eq!(
            whole(answer(kv.delete_range(delete("b", "")).await).header),
            2
        );
        assert_eq!(
            whole(answer(kv.txn(txn(vec![get("a").op()])).await).header),
            2
        );
        let lease = answer(
            leases
                .lease_grant(LeaseGrantRequest { ttl: 60, id: 0 })
                .await,
        );
        assert_eq!(whole(lease.header), 2);
        let revoked = leases
            .lease_revoke(LeaseRevokeRequest { id: lease.id })
            .await;
        assert_eq!(whole(answer(revoked).header), 2);
        // The same value again is a change.
        assert_eq!(whole(answer(kv.put(put("a", "1")).await).header), 3);
        let pair = answer(kv.range(get("a")).await).kvs.remove(0);
        assert_eq!(
            (pair.create_revision, pair.mod_revision, pair.version),
            (2, 3, 2)
        );
        answer(kv.delete_range(delete("a", "")).await);
        answer(kv.put(put("a", "2")).await);
        let pair = answer(kv.range(get("a")).await).kvs.remove(0);
        assert_eq!(
            (pair.create_revision, pair.mod_revision, pair.version),
            (5, 5, 1)
        );
        // A read of the past speaks of the present in its header.
        let old = answer(
            kv.range(RangeRequest {
                revision: 3,
                ..get("a")
            })
            .await,
        );
        assert_eq!((whole(old.header), old.kvs[0].version), (5, 2));
        // A whole transaction is one revision.
        let ops = vec![put("x", "1").op(), put("y", "1").op(), delete("a", "").op()];
        assert_eq!(whole(answer(kv.txn(txn(ops)).await).header), 6);
        let compaction = CompactionRequest {
            revision: 4,
            physical: true,
        };
        assert_eq!(whole(answer(kv.compact(compaction).await).header), 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("d", "2")] {
            answer(kv.put(put(key, value)).await);
        }
        answer(kv.put(put("b", "9")).await);
        refused(kv.range(get("")).await, Code::InvalidArgument, EMPTY_KEY);
        refused(
            kv.range(range("", "\0")).await,
            Code::InvalidArgument,
            EMPTY_KEY,
        );
        let all = answer(kv.range(range("\0", "\0")).await);
        assert_eq!(keys(&all.kvs), ["a", "b", "c", "d"]);
        let from = answer(kv.range(range("b", "\0")).await);
        assert_eq!((keys(&from.kvs).len(), from.count), (3, 3));
        for (start, end) in [("b", "b"), ("c", "b")] {
            let empty = answer(kv.range(range(start, end)).await);
            assert_eq!((empty.kvs.len(), empty.count, empty.more), (0, 0, false));
        }
        let some = answer(
            kv.range(RangeRequest {
                limit: 2,
                ..range("a", "e")
            })
            .await,
        );
        assert_eq!(
            (keys(&some.kvs), some.count, some.more),
            (vec!["a".into(), "b".into()], 4, true)
        );
        let exact = answer(
            kv.range(RangeRequest {
                limit: 4,
                ..range("a", "e")
            })
            .await,
        );
        assert_eq!((exact.count, exact.more), (4, false));
        let negative = answer(
            kv.range(RangeRequest {
                limit: -1,
                revision: -1,
                ..range("a", "e")
            })
            .await,
        );
        assert_eq!((negative.kvs.len(), negative.more), (4, false));
        let count = RangeRequest {
            count_only: true,
            limit: 1,
            ..range("a", "e")
        };
        let count = answer(kv.range(count).await);
        assert_eq!((count.kvs.len(), count.count, count.more), (0, 4, false));
        let bare = answer(
            kv.range(RangeRequest {
                keys_only: true,
                ..get("b")
            })
            .await,
        )
        .kvs
        .remove(0);
        assert_eq!(
            (bare.value.len(), bare.version, bare.mod_revision),
            (0, 2, 6)
        );

        let sorted = |target: SortTarget, order: SortOrder, limit| RangeRequest {
            sort_target: target.into(),
            sort_order: order.into(),
            limit,
            ..range("a", "e")
        };
        for (target, order, expected) in [
            (SortTarget::Key, SortOrder::Descend, "dcba"),
            (SortTarget::Value, SortOrder::Ascend, "cdab"),
            (SortTarget::Value, SortOrder::None, "cdab"),
            (SortTarget::Mod, SortOrder::Descend, "bdca"),
            (SortTarget::Mod, SortOrder::None, "acdb"),
            (SortTarget::Create, SortOrder::Descend, "dcba"),
            (SortTarget::Key, SortOrder::None, "abcd"),
        ] {
            let answer = answer(kv.range(sorted(target, order, 0)).await);
            assert_eq!(keys(&answer.kvs).concat(), expected, "{target:?} {order:?}");
        }
        // The sort comes before the limit, the count is of the whole range.
        let last = answer(
            kv.range(sorted(SortTarget::Mod, SortOrder::Descend, 1))
                .await,
        );
        assert_eq!(
            (keys(&last.kvs).concat(), last.count, last.more),
            ("b".into(), 4, true)
        );
        let filtered = RangeRequest {
            min_mod_revision: 4,
            max_create_revision: 4,
            ..range("a", "e")
        };
        let filtered = answer(kv.range(filtered).await);
        assert_eq!(
            (keys(&filtered.kvs).concat(), filtered.count),
            ("bc".into(), 4)
        );

        let at = |revision| RangeRequest {
            revision,
            ..range("a", "e")
        };
        assert_eq!(answer(kv.range(at(3)).await).kvs.len(), 2);
        refused(kv.range(at(99)).await, Code::OutOfRange, FUTURE);
        answer(
            kv.compact(CompactionRequest {
                revision: 4,
                physical: false,
            })
            .await,
        );
        refused(kv.range(at(3)).await, Code::OutOfRange, COMPACTED);
        assert_eq!(answer(kv.range(at(4)).await).kvs.len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn puts() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        let lease = synod_tests::raw::grant(target, 60).await;
        refused(kv.put(put("", "v")).await, Code::InvalidArgument, EMPTY_KEY);
        let unknown = PutRequest {
            lease: 12345,
            ..put("k", "v")
        };
        refused(kv.put(unknown.clone()).await, Code::NotFound, NO_LEASE);
        let nothing = txn(vec![put("other", "v").op(), unknown.op()]);
        refused(kv.txn(nothing).await, Code::NotFound, NO_LEASE);
        assert_eq!(answer(kv.range(get("other")).await).count, 0);
        for (request, text) in [
            (
                PutRequest {
                    ignore_value: true,
                    ..put("k", "v")
                },
                "etcdserver: value is provided",
            ),
            (
                PutRequest {
                    ignore_lease: true,
                    lease,
                    ..put("k", "v")
                },
                "etcdserver: lease is provided",
            ),
            (
                PutRequest {
                    ignore_value: true,
                    ..put("k", "")
                },
                "etcdserver: key not found",
            ),
            (
                PutRequest {
                    ignore_lease: true,
                    ..put("k", "v")
                },
                "etcdserver: key not found",
            ),
        ] {
            refused(kv.put(request).await, Code::InvalidArgument, text);
        }
        answer(
            kv.put(PutRequest {
                lease,
                ..put("k", "1")
            })
            .await,
        );
        let kept = PutRequest {
            ignore_lease: true,
            prev_kv: true,
            ..put("k", "2")
        };
        let before = answer(kv.put(kept).await).prev_kv.unwrap();
        assert_eq!((before.value, before.lease), ("1".into(), lease));
        answer(
            kv.put(PutRequest {
                ignore_value: true,
                ..put("k", "")
            })
            .await,
        );
        let now = answer(kv.range(get("k")).await).kvs.remove(0);
        assert_eq!((now.value, now.lease, now.version), ("2".into(), 0, 3));
        let other = synod_tests::raw::grant(target, 60).await;
        for id in [lease, other] {
            answer(
                kv.put(PutRequest {
                    lease: id,
                    ..put("k", "3")
                })
                .await,
            );
        }
        // Moved: the first lease's end does not touch it.
        answer(
            leases(target)
                .await
                .lease_revoke(LeaseRevokeRequest { id: lease })
                .await,
        );
        assert_eq!(answer(kv.range(get("k")).await).kvs[0].lease, other);
        assert_eq!(
            answer(
                kv.put(PutRequest {
                    prev_kv: true,
                    ..put("new", "")
                })
                .await
            )
            .prev_kv,
            None
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        for key in ["a", "b", "c"] {
            answer(kv.put(put(key, key)).await);
        }
        refused(
            kv.delete_range(delete("", "")).await,
            Code::InvalidArgument,
            EMPTY_KEY,
        );
        let mut both = delete("a", "c");
        both.prev_kv = true;
        let gone = answer(kv.delete_range(both).await);
        assert_eq!(
            (gone.deleted, keys(&gone.prev_kvs)),
            (2, vec!["a".into(), "b".into()])
        );
        assert_eq!(whole(gone.header), 5);
        assert_eq!(answer(kv.delete_range(delete("c", "a")).await).deleted, 0);
        assert_eq!(answer(kv.delete_range(delete("\0", "\0")).await).deleted, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        for key in ["a", "b"] {
            answer(kv.put(put(key, "5")).await);
        }
        let mut holds = async |when: Vec<Compare>| {
            let request = TxnRequest {
                compare: when,
                ..TxnRequest::default()
            };
            answer(kv.txn(request).await).succeeded
        };
        use CompareResult::{Equal, Greater, Less, NotEqual};
        use CompareTarget::{Create, Lease, Mod, Value, Version};
        assert!(holds(Vec::new()).await);
        for (target, operand) in [
            (Version, TargetUnion::Version(0)),
            (Create, TargetUnion::CreateRevision(0)),
            (Mod, TargetUnion::ModRevision(0)),
            (Lease, TargetUnion::Lease(0)),
        ] {
            assert!(holds(vec![compare("none", Equal, target, Some(operand))]).await);
            assert!(holds(vec![compare("none", Equal, target, None)]).await);
        }
        // No comparison of a value that is not there holds.
        for result in [Equal, NotEqual, Greater, Less] {
            let operand = Some(TargetUnion::Value("".into()));
            assert!(!holds(vec![compare("none", result, Value, operand)]).await);
        }
        for (result, value, expected) in [
            (Equal, "5", true),
            (NotEqual, "5", false),
            (Greater, "4", true),
            (Less, "6", true),
            (Less, "5", false),
        ] {
            let operand = Some(TargetUnion::Value(value.into()));
            assert_eq!(
                holds(vec![compare("a", result, Value, operand)]).await,
                expected
            );
        }
        assert!(
            holds(vec![compare(
                "a",
                Greater,
                Mod,
                Some(TargetUnion::ModRevision(1))
            )])
            .await
        );
        assert!(
            !holds(vec![
                compare("a", Equal, Version, Some(TargetUnion::Version(1))),
                compare("b", Equal, Version, Some(TargetUnion::Version(2))),
            ])
            .await
        );
        // Over a range every key must satisfy it, and no key counts as one that is missing.
        let over = |end: &'static str, result, version| Compare {
            range_end: end.into(),
            ..compare("a", result, Version, Some(TargetUnion::Version(version)))
        };
        assert!(holds(vec![over("c", Equal, 1)]).await);
        assert!(!holds(vec![over("c", Equal, 2)]).await);
        let none = Compare {
            key: "x".into(),
            range_end: "z".into(),
            ..over("c", Equal, 0)
        };
        assert!(holds(vec![none]).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        answer(kv.put(put("a", "1")).await);
        // Conditions, nested ones too, are decided before anything runs; reads see what was written.
        let nested = TxnRequest {
            compare: vec![compare(
                "a",
                CompareResult::Equal,
                CompareTarget::Value,
                Some(TargetUnion::Value("1".into())),
            )],
            success: vec![get("a").op(), put("c", "3").op(), get("c").op()],
            ..TxnRequest::default()
        };
        let request = txn(vec![
            get("a").op(),
            put("a", "2").op(),
            get("a").op(),
            nested.op(),
        ]);
        let response = answer(kv.txn(request).await);
        assert_eq!((whole(response.header), response.succeeded), (3, true));
        // Of the headers inside only the revision is set, and a nested transaction's is not.
        let inner: Vec<_> = response
            .responses
            .iter()
            .map(|one| inner_header(one).unwrap_or_default())
            .collect();
        assert_eq!(
            inner
                .iter()
                .map(|header| header.revision)
                .collect::<Vec<_>>(),
            [2, 3, 3, 0]
        );
        assert!(
            inner
                .iter()
                .all(|header| header.cluster_id == 0 && header.raft_term == 0)
        );
        let Some(synod_wire::etcdserverpb::response_op::Response::ResponseTxn(nested)) =
            &response.responses[3].response
        else {
            panic!("not a transaction's answer");
        };
        assert!(nested.succeeded);

        let value = |key: &'static str| put(key, "v").op();
        for (ops, text) in [
            (vec![value("k"), value("k")], DUPLICATE),
            (vec![value("k"), delete("a", "z").op()], DUPLICATE),
            (vec![delete("a", "z").op(), value("k")], DUPLICATE),
            (vec![value("k"), txn(vec![value("k")]).op()], DUPLICATE),
            (
                vec![txn(vec![value("k")]).op(), txn(vec![value("k")]).op()],
                DUPLICATE,
            ),
            (vec![get("").op()], EMPTY_KEY),
            (vec![value("k"), delete("", "").op()], EMPTY_KEY),
            (
                vec![RequestOp { request: None }],
                "etcdserver: key not found",
            ),
        ] {
            refused(kv.txn(txn(ops)).await, Code::InvalidArgument, text);
        }
        let mut empty = txn(vec![]);
        empty.compare.push(Compare::default());
        refused(kv.txn(empty).await, Code::InvalidArgument, EMPTY_KEY);
        let failing = RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                lease: 99,
                ..put("k", "v")
            })),
        };
        // The branch that is not taken may name a lease that is not there.
        let untaken = TxnRequest {
            failure: vec![failing],
            ..TxnRequest::default()
        };
        answer(kv.txn(untaken).await);
        let twice = txn(vec![
            delete("a", "z").op(),
            delete("a", "").op(),
            put("zz", "").op(),
            get("zz").op(),
        ]);
        answer(kv.txn(twice).await);
        let branches = TxnRequest {
            success: vec![value("k")],
            failure: vec![value("k")],
            ..TxnRequest::default()
        };
        answer(kv.txn(branches).await);
        for revision in [1_000, 1] {
            answer(
                kv.compact(CompactionRequest {
                    revision: 3,
                    physical: false,
                })
                .await
                .or_else(|status| {
                    assert_eq!(status.message(), COMPACTED);
                    Ok::<_, tonic::Status>(tonic::Response::new(Default::default()))
                }),
            );
            let ops = vec![
                put("fails", "").op(),
                RangeRequest {
                    revision,
                    ..get("a")
                }
                .op(),
            ];
            let text = if revision == 1 { COMPACTED } else { FUTURE };
            refused(kv.txn(txn(ops)).await, Code::OutOfRange, text);
        }
        assert_eq!(answer(kv.range(get("fails")).await).count, 0);
    })
    .await;
}

/// `count` reads of as many keys.
fn reads(count: usize) -> Vec<RequestOp> {
    (0..count)
        .map(|index| get(format!("k{index}")).op())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn how_much_a_transaction_may_hold() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        let conditions = |count: usize| {
            vec![compare("a", CompareResult::Equal, CompareTarget::Version, None); count]
        };
        let full = TxnRequest {
            compare: conditions(128),
            success: reads(128),
            failure: reads(128),
        };
        answer(kv.txn(full).await);
        for request in [
            TxnRequest {
                compare: conditions(129),
                ..TxnRequest::default()
            },
            TxnRequest {
                success: reads(129),
                ..TxnRequest::default()
            },
            TxnRequest {
                failure: reads(129),
                ..TxnRequest::default()
            },
        ] {
            refused(kv.txn(request).await, Code::InvalidArgument, TOO_MANY);
        }
        let nested = |outer: usize, inner: usize| {
            let mut ops = reads(outer);
            ops.push(txn(reads(inner)).op());
            ops.push(txn(reads(inner)).op());
            txn(ops)
        };
        answer(kv.txn(nested(26, 100)).await);
        refused(
            kv.txn(nested(27, 100)).await,
            Code::InvalidArgument,
            TOO_MANY,
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_operations_can_be_allowed() {
    let options = synod_server::ServerOptions::new().with_max_txn_ops(3);
    let etcd = EtcdConfig::new().flag("--max-txn-ops=3");
    let rule = async |target: &Target| {
        let mut kv = kv(target).await;
        answer(kv.txn(txn(reads(3))).await);
        refused(kv.txn(txn(reads(4))).await, Code::InvalidArgument, TOO_MANY);
    };
    both_with(rule, etcd, options).await;
}

/// The largest value, up to `most`, with which `attempt` is answered.
async fn largest<F: Future<Output = bool>>(most: usize, attempt: impl Fn(Bytes) -> F) -> usize {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = usize::midpoint(low, high) + 1;
        if attempt(vec![0x5a; middle].into()).await {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[tokio::test(flavor = "multi_thread")]
async fn how_large_a_request_may_be() {
    both(async |target: &Target| {
        let mut client = kv(target).await;
        let header = answer(client.range(get("k")).await).header;
        let member = header.expect("a header").member_id;
        let most = largest(1536 * 1024, |value| {
            let mut client = client.clone();
            async move {
                match client.put(put("k", value)).await {
                    Ok(_) => true,
                    Err(status) => {
                        assert_eq!(
                            (status.code(), status.message()),
                            (Code::InvalidArgument, TOO_LARGE)
                        );
                        false
                    }
                }
            }
        })
        .await;
        // etcd measures the request with its id, of which the upper 16 bits are the member's lower ones
        // and the next 40 the time: seven to ten bytes of a varint. Synod always counts nine.
        let id: u64 = if target.is_etcd() {
            member << 48 | 1 << 47
        } else {
            1 << 56
        };
        let bytes = (u64::BITS - id.leading_zeros()).div_ceil(7) as usize;
        assert_eq!(most, 1_572_849 - bytes, "member {member:x}");
        let large = || Bytes::from(vec![0; 1_600_000]);
        let put_large = put("k", large());
        refused(
            client.put(put_large.clone()).await,
            Code::InvalidArgument,
            TOO_LARGE,
        );
        refused(
            client.txn(txn(vec![put_large.op()])).await,
            Code::InvalidArgument,
            TOO_LARGE,
        );
        // Reads may be larger, and so may answers.
        let read = txn(vec![get(large()).op()]);
        answer(client.txn(read).await);
        for index in 0..6 {
            answer(
                client
                    .put(put(format!("large/{index}"), vec![1; 1_000_000]))
                    .await,
            );
        }
        let all = answer(client.range(range("large/", "large0")).await);
        assert_eq!(
            all.kvs.iter().map(|kv| kv.value.len()).sum::<usize>(),
            6_000_000
        );
        let text = "grpc: received message larger than max (2200008 vs. 2097152)";
        let huge = put("k", vec![0; 2_200_000]);
        refused(client.put(huge).await, Code::ResourceExhausted, text);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        for value in ["1", "2", "3"] {
            answer(kv.put(put("a", value)).await);
        }
        answer(kv.put(put("b", "")).await);
        answer(kv.delete_range(delete("b", "")).await);
        let mut compact =
            async |revision, physical| kv.compact(CompactionRequest { revision, physical }).await;
        refused(compact(7, false).await, Code::OutOfRange, FUTURE);
        answer(compact(4, true).await);
        for revision in [4, 3, 0, -1] {
            refused(compact(revision, false).await, Code::OutOfRange, COMPACTED);
        }
        answer(compact(6, true).await);
        let pair = answer(kv.range(get("a")).await).kvs.remove(0);
        assert_eq!((pair.create_revision, pair.version), (2, 3));
        assert_eq!(answer(kv.range(get("b")).await).count, 0);
    })
    .await;
}
