//! Bytes on the wire, as etcd's own message descriptors encode the same messages (taken from those
//! that the server's binary carries): a field's number or type cannot change unnoticed, nor can a
//! conversion that writes it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests state what they expect"
)]

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use synod_store::{
    Alarm, AlarmKind, Compare, CompareOp, DeleteRequest, DeleteResponse, Event, EventFilter,
    EventKind, Header, Key, KeyRange, KeyValue, LeaseGrantRequest, LeaseGrantResponse, LeaseId,
    LeaseKeepAliveResponse, LeaseListResponse, LeaseTimeToLiveResponse, Member, PutLease,
    PutRequest, PutResponse, PutValue, RangeRequest, RangeResponse, Revision, SortOrder,
    SortTarget, StatusResponse, Txn, TxnOp, TxnOpResponse, TxnResponse, WatchRequest,
};
use synod_wire::convert::status::{self, AlarmCommand};
use synod_wire::convert::watch::{NO_WATCH, WatchAnswer, WatchCommand, WatchCreate, WatchNews};
use synod_wire::convert::{kv, lease, txn};
use synod_wire::{authpb, etcdserverpb as pb, v3electionpb, v3lockpb};

/// The message encodes to these bytes, and they decode to it.
#[track_caller]
fn golden<M: Message + Default + PartialEq>(message: &M, hex: &str) {
    let bytes = message.encode_to_vec();
    let ours = bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    assert_eq!(ours, hex);
    assert!(M::decode(Bytes::from(bytes)).unwrap() == *message);
}

fn id(number: i64) -> LeaseId {
    LeaseId::new(number).unwrap()
}

fn header() -> Header {
    Header {
        cluster_id: 1,
        member_id: 2,
        revision: Revision(3),
        raft_term: 4,
    }
}

fn pair() -> KeyValue {
    KeyValue {
        key: "k".into(),
        value: "v".into(),
        create_revision: Revision(2),
        mod_revision: Revision(3),
        version: 4,
        lease: Some(id(5)),
    }
}

#[test]
fn puts() {
    let put = PutRequest::new("k", "v")
        .with_lease(id(7_587_868_094_466_284_567))
        .with_prev_kv();
    golden(
        &pb::PutRequest::from(&put),
        "0a016b1201761897b8bba9c6bae1a6692001",
    );
    let keep = PutRequest {
        value: PutValue::Keep,
        lease: PutLease::Keep,
        ..PutRequest::new("k", "")
    };
    golden(&pb::PutRequest::from(&keep), "0a016b28013001");
    let response = PutResponse {
        header: header(),
        prev_kv: Some(pair()),
    };
    golden(
        &pb::PutResponse::from(response.clone()),
        "0a080801100218032004120e0a016b1002180320042a01763005",
    );
    assert_eq!(
        PutResponse::try_from(pb::PutResponse::from(response.clone())).unwrap(),
        response
    );
}

#[test]
fn ranges() {
    let range = RangeRequest {
        range: KeyRange::between("a", "b"),
        limit: 3,
        revision: Revision(4),
        sort_target: SortTarget::Value,
        sort_order: SortOrder::Descending,
        serializable: true,
        keys_only: true,
        count_only: true,
        min_mod_revision: Some(Revision(10)),
        max_mod_revision: Some(Revision(11)),
        min_create_revision: Some(Revision(12)),
        max_create_revision: Some(Revision(13)),
    };
    golden(
        &pb::RangeRequest::from(&range),
        "0a01611201621803200428023004380140014801500a580b600c680d",
    );
    assert_eq!(
        RangeRequest::try_from(pb::RangeRequest::from(&range)).unwrap(),
        range
    );
    let response = RangeResponse {
        header: header(),
        kvs: vec![pair()],
        more: true,
        count: 9,
    };
    golden(
        &pb::RangeResponse::from(response.clone()),
        "0a080801100218032004120e0a016b1002180320042a0176300518012009",
    );
    assert_eq!(
        RangeResponse::try_from(pb::RangeResponse::from(response.clone())).unwrap(),
        response
    );
}

#[test]
fn deletes_and_compactions() {
    let delete = DeleteRequest::new(KeyRange::from("a")).with_prev_kv();
    golden(&pb::DeleteRangeRequest::from(&delete), "0a01611201001801");
    assert_eq!(
        DeleteRequest::from(pb::DeleteRangeRequest::from(&delete)),
        delete
    );
    let response = DeleteResponse {
        header: header(),
        deleted: 1,
        prev_kvs: vec![pair()],
    };
    golden(
        &pb::DeleteRangeResponse::from(response.clone()),
        "0a08080110021803200410011a0e0a016b1002180320042a01763005",
    );
    assert_eq!(
        DeleteResponse::try_from(pb::DeleteRangeResponse::from(response.clone())).unwrap(),
        response
    );
    let compaction = kv::compaction_request(Revision(5), true);
    golden(&compaction, "08051001");
    assert_eq!(kv::compaction(compaction).unwrap(), (Revision(5), true));
}

#[test]
fn transactions() {
    let inner = Txn::new()
        .when([Compare::absent("n")])
        .and_then([PutRequest::new("n", "w")])
        .or_else([RangeRequest::new("n")]);
    let whole = Txn::new()
        .when([
            Compare::version("k", CompareOp::Equal, 1),
            Compare::create_revision("k", CompareOp::Greater, Revision(2)),
            Compare::mod_revision("k", CompareOp::Less, Revision(3)),
            Compare::value(KeyRange::between("k", "l"), CompareOp::NotEqual, "v"),
            Compare::lease("k", CompareOp::Equal, Some(id(5))),
        ])
        .and_then([TxnOp::from(PutRequest::new("k", "v")), inner.into()])
        .or_else([
            TxnOp::from(RangeRequest::new("k")),
            DeleteRequest::new("k").into(),
        ]);
    // What is 0 is not written, but the operand of a comparison is.
    golden(
        &pb::TxnRequest::from(&whole),
        "0a051a016b20010a09080110011a016b28020a09080210021a016b30030a0e080310031a016b3a0176820401\
         6c0a0710041a016b4005120812060a016b120176121c221a0a0710011a016e2800120812060a016e1201771a\
         050a030a016e1a050a030a016b1a051a030a016b",
    );
    assert_eq!(Txn::try_from(pb::TxnRequest::from(&whole)).unwrap(), whole);
}

#[test]
fn answers_to_transactions() {
    let inside = Header {
        revision: Revision(3),
        ..Header::default()
    };
    let asked = Txn::new().and_then([
        TxnOp::from(PutRequest::new("k", "v")),
        Txn::new().or_else([RangeRequest::new("k")]).into(),
        DeleteRequest::new("j").into(),
    ]);
    let response = TxnResponse {
        header: header(),
        succeeded: true,
        responses: vec![
            TxnOpResponse::Put(PutResponse {
                header: inside,
                prev_kv: None,
            }),
            TxnOpResponse::Txn(TxnResponse {
                header: Header::default(),
                succeeded: false,
                responses: vec![TxnOpResponse::Range(RangeResponse {
                    header: inside,
                    ..RangeResponse::default()
                })],
            }),
            TxnOpResponse::Delete(DeleteResponse {
                header: inside,
                deleted: 1,
                prev_kvs: vec![],
            }),
        ],
    };
    let message = pb::TxnResponse::from(response.clone());
    golden(
        &message,
        "0a08080110021803200410011a0612040a0218031a0c220a0a001a060a040a0218031a081a060a0218031001",
    );
    assert_eq!(txn::txn_response(&asked, message).unwrap(), response);
}

#[test]
fn watches() {
    let create = WatchCommand::Create(WatchCreate {
        request: WatchRequest::new(KeyRange::prefix("p/"))
            .starting_at(Revision(7))
            .with_progress_notify()
            .with_prev_kv()
            .without(EventFilter::NoPut)
            .without(EventFilter::NoDelete),
        watch_id: 9,
        fragment: true,
    });
    for (command, hex) in [
        (create, "0a160a02702f12027030180720012a020001300138094001"),
        (WatchCommand::Cancel(9), "12020809"),
        (WatchCommand::Progress, "1a00"),
    ] {
        let message = pb::WatchRequest::from(&command);
        golden(&message, hex);
        assert_eq!(WatchCommand::try_from(message).unwrap(), command);
    }
}

#[test]
fn answers_to_watches() {
    let events = vec![
        Event {
            kind: EventKind::Put,
            kv: pair(),
            prev_kv: None,
        },
        Event {
            kind: EventKind::Delete,
            kv: KeyValue {
                key: "k".into(),
                mod_revision: Revision(6),
                ..KeyValue::default()
            },
            prev_kv: Some(pair()),
        },
    ];
    let fragment = true;
    let reason = "no".to_string();
    let compact_revision = Revision(8);
    for (watch_id, news, hex) in [
        (
            9,
            WatchNews::Events { events, fragment },
            "0a080801100218032004100938015a10120e0a016b1002180320042a017630055a19080112050a016b1806\
             1a0e0a016b1002180320042a01763005",
        ),
        (
            NO_WATCH,
            WatchNews::Refused { reason },
            "0a08080110021803200410ffffffffffffffffff011801200132026e6f",
        ),
        (
            9,
            WatchNews::Compacted { compact_revision },
            "0a080801100218032004100920012808",
        ),
    ] {
        let answer = WatchAnswer {
            header: header(),
            watch_id,
            news,
        };
        let message = pb::WatchResponse::from(answer.clone());
        golden(&message, hex);
        assert_eq!(WatchAnswer::try_from(message).unwrap(), answer);
    }
}

#[test]
fn leases() {
    let minute = Duration::from_secs(60);
    let grant = LeaseGrantRequest::new(minute).with_id(id(5));
    golden(&pb::LeaseGrantRequest::from(&grant), "083c1005");
    assert_eq!(
        LeaseGrantRequest::from(pb::LeaseGrantRequest::from(&grant)),
        grant
    );

    let granted = LeaseGrantResponse {
        header: header(),
        id: id(5),
        ttl: minute,
    };
    let message = pb::LeaseGrantResponse::from(granted);
    golden(&message, "0a0808011002180320041005183c");
    assert_eq!(LeaseGrantResponse::try_from(message).unwrap(), granted);

    let renewed = LeaseKeepAliveResponse {
        header: header(),
        ttl: minute,
    };
    let message = lease::keep_alive_response(id(5), renewed);
    golden(&message, "0a0808011002180320041005183c");
    assert_eq!(LeaseKeepAliveResponse::try_from(message).unwrap(), renewed);

    golden(&lease::time_to_live_request(id(5), true), "08051001");
    let alive = LeaseTimeToLiveResponse {
        header: header(),
        id: id(5),
        remaining: Some(Duration::from_secs(59)),
        granted: minute,
        keys: vec![Key::from("a"), Key::from("b")],
    };
    let message = pb::LeaseTimeToLiveResponse::from(alive.clone());
    golden(&message, "0a0808011002180320041005183b203c2a01612a0162");
    assert_eq!(LeaseTimeToLiveResponse::try_from(message).unwrap(), alive);

    let list = LeaseListResponse {
        header: header(),
        leases: vec![id(5)],
    };
    let message = pb::LeaseLeasesResponse::from(list.clone());
    golden(&message, "0a08080110021803200412020805");
    assert_eq!(LeaseListResponse::try_from(message).unwrap(), list);
}

#[test]
fn the_store_itself() {
    let answer = StatusResponse {
        header: header(),
        version: "3.5.1".into(),
        db_size: 3,
        db_size_in_use: 9,
        leader: 2,
        raft_index: 5,
        raft_applied_index: 7,
        is_learner: true,
        errors: vec!["e".into()],
    };
    let message = pb::StatusResponse::from(answer.clone());
    golden(
        &message,
        "0a0808011002180320041205332e352e311803200228053004380742016548095001",
    );
    assert_eq!(StatusResponse::try_from(message).unwrap(), answer);

    let member = Member {
        id: 1,
        name: "n".into(),
        peer_urls: vec!["p".into()],
        client_urls: vec!["c".into()],
        is_learner: true,
    };
    let message = status::member_list(header(), vec![member.clone()]);
    golden(
        &message,
        "0a080801100218032004120d080112016e1a01702201632801",
    );
    assert_eq!(status::members(message), [member]);

    let alarm = |kind| Alarm { member_id: 2, kind };
    let disarm = AlarmCommand::Disarm(alarm(AlarmKind::NoSpace));
    golden(&pb::AlarmRequest::from(&disarm), "080210021801");
    let message = status::alarm_response(header(), vec![alarm(AlarmKind::Corrupt)]);
    golden(&message, "0a080801100218032004120408021002");
    assert_eq!(
        status::alarms(message).unwrap(),
        [alarm(AlarmKind::Corrupt)]
    );

    // As etcd 3.5 answers, without the revision that it hashed.
    let message = pb::HashKvResponse {
        header: Some(header().into()),
        hash: 2,
        compact_revision: 3,
        hash_revision: 0,
    };
    golden(&message, "0a08080110021803200410021803");
    let hash = status::hash_response(Revision::ZERO, message).unwrap();
    assert_eq!((hash.hash, hash.hash_revision), (2, Revision(3)));
}

#[test]
fn services_outside_the_contract() {
    golden(
        &v3lockpb::LockRequest {
            name: "n".into(),
            lease: 5,
        },
        "0a016e1005",
    );
    golden(
        &v3lockpb::LockResponse {
            header: Some(header().into()),
            key: "n/5".into(),
        },
        "0a08080110021803200412036e2f35",
    );
    golden(
        &v3electionpb::CampaignRequest {
            name: "n".into(),
            lease: 5,
            value: "v".into(),
        },
        "0a016e10051a0176",
    );
    golden(
        &v3electionpb::CampaignResponse {
            header: Some(header().into()),
            leader: Some(v3electionpb::LeaderKey {
                name: "n".into(),
                key: "n/5".into(),
                rev: 3,
                lease: 5,
            }),
        },
        "0a080801100218032004120c0a016e12036e2f3518032005",
    );
    golden(
        &pb::AuthRoleGrantPermissionRequest {
            name: "r".into(),
            perm: Some(authpb::Permission {
                perm_type: authpb::permission::Type::Readwrite.into(),
                key: "a".into(),
                range_end: "b".into(),
            }),
        },
        "0a0172120808021201611a0162",
    );
    golden(
        &pb::AuthenticateRequest {
            name: "u".into(),
            password: "p".into(),
        },
        "0a0175120170",
    );
}
