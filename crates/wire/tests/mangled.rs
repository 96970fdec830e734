//! Bytes from a broken or hostile peer: whatever decodes is converted or refused, and nothing
//! panics.

use bytes::Bytes;
use prost::Message;
use synod_store::{
    Compare, CompareOp, DeleteRequest, KeyRange, LeaseGrantRequest, LeaseGrantResponse,
    LeaseKeepAliveResponse, LeaseListResponse, LeaseTimeToLiveResponse, PutRequest, RangeRequest,
    RangeResponse, Revision, StatusResponse, Txn, TxnOp,
};
use synod_wire::convert::status::{self, AlarmCommand};
use synod_wire::convert::watch::{WatchAnswer, WatchCommand, WatchCreate};
use synod_wire::convert::{kv, txn};
use synod_wire::{etcdserverpb as pb, mvccpb};

/// Every byte of `message`, one at a time, becomes every value; and the message is cut everywhere.
/// Returns how many of the results decoded.
fn mangle<M: Message + Default>(message: &impl Message, convert: impl Fn(M)) -> usize {
    let whole = message.encode_to_vec();
    let mut decoded = 0;
    let mut feed = |bytes: Vec<u8>| {
        if let Ok(message) = M::decode(Bytes::from(bytes)) {
            convert(message);
            decoded += 1;
        }
    };
    for at in 0..whole.len() {
        feed(whole.iter().copied().take(at).collect());
        for byte in 0..=u8::MAX {
            let mut bytes = whole.clone();
            bytes.splice(at..=at, [byte]);
            feed(bytes);
        }
    }
    decoded
}

fn transaction() -> Txn {
    let inner = Txn::new()
        .when([Compare::value("k", CompareOp::NotEqual, "v")])
        .and_then([PutRequest::new("k", "v").with_prev_kv()])
        .or_else([RangeRequest::new(KeyRange::prefix("k"))
            .with_limit(3)
            .at(Revision(7))]);
    Txn::new()
        .when([Compare::mod_revision(
            KeyRange::from("a"),
            CompareOp::Less,
            Revision(9),
        )])
        .and_then([TxnOp::from(inner), DeleteRequest::new("d").into()])
        .or_else([RangeRequest::new("e")])
}

fn header() -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision: 3,
        raft_term: 4,
    })
}

fn pair() -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: "k".into(),
        create_revision: 1,
        mod_revision: 2,
        version: 3,
        value: "v".into(),
        lease: 4,
    }
}

#[test]
fn requests() {
    let decoded = mangle(
        &pb::TxnRequest::from(&transaction()),
        |message: pb::TxnRequest| {
            let _ = Txn::try_from(message);
        },
    );
    assert!(decoded > 1000);

    let range = pb::RangeRequest::from(&RangeRequest::new(KeyRange::prefix("k")).with_limit(3));
    mangle(&range, |message: pb::RangeRequest| {
        let _ = RangeRequest::try_from(message);
    });
    mangle(&range, |message: pb::PutRequest| {
        let _ = PutRequest::try_from(message);
    });
    mangle(&range, |message: pb::DeleteRangeRequest| {
        let _ = DeleteRequest::from(message);
    });
    mangle(&range, |message: pb::CompactionRequest| {
        let _ = kv::compaction(message);
    });

    let watch = WatchCommand::Create(WatchCreate {
        request: synod_store::WatchRequest::new("k").starting_at(Revision(3)),
        watch_id: 4,
        fragment: true,
    });
    mangle(
        &pb::WatchRequest::from(&watch),
        |message: pb::WatchRequest| {
            let _ = WatchCommand::try_from(message);
        },
    );

    let grant = pb::LeaseGrantRequest { ttl: 300, id: 9 };
    mangle(&grant, |message: pb::LeaseGrantRequest| {
        let _ = LeaseGrantRequest::from(message);
    });
    mangle(&grant, |message: pb::AlarmRequest| {
        let _ = AlarmCommand::try_from(message);
    });
}

#[test]
fn answers() {
    let range = pb::RangeResponse {
        header: header(),
        kvs: vec![pair(), pair()],
        more: true,
        count: 7,
    };
    mangle(&range, |message: pb::RangeResponse| {
        let _ = RangeResponse::try_from(message);
    });

    let response = |response| pb::ResponseOp {
        response: Some(response),
    };
    let answer = pb::TxnResponse {
        header: header(),
        succeeded: true,
        responses: vec![
            response(pb::response_op::Response::ResponseTxn(pb::TxnResponse {
                header: header(),
                succeeded: false,
                responses: vec![response(pb::response_op::Response::ResponseRange(range))],
            })),
            response(pb::response_op::Response::ResponseDeleteRange(
                pb::DeleteRangeResponse {
                    header: header(),
                    deleted: 1,
                    prev_kvs: vec![pair()],
                },
            )),
        ],
    };
    let asked = transaction();
    assert!(txn::txn_response(&asked, answer.clone()).is_ok());
    mangle(&answer, |message: pb::TxnResponse| {
        let _ = txn::txn_response(&asked, message);
    });

    let events = pb::WatchResponse {
        header: header(),
        watch_id: 5,
        events: vec![mvccpb::Event {
            r#type: 1,
            kv: Some(pair()),
            prev_kv: Some(pair()),
        }],
        ..pb::WatchResponse::default()
    };
    mangle(&events, |message: pb::WatchResponse| {
        let _ = WatchAnswer::try_from(message);
    });

    let lease = pb::LeaseTimeToLiveResponse {
        header: header(),
        id: 5,
        ttl: 6,
        granted_ttl: 7,
        keys: vec!["k".into()],
    };
    mangle(&lease, |message: pb::LeaseTimeToLiveResponse| {
        let _ = LeaseTimeToLiveResponse::try_from(message);
    });
    mangle(&lease, |message: pb::LeaseGrantResponse| {
        let _ = LeaseGrantResponse::try_from(message);
    });
    mangle(&lease, |message: pb::LeaseKeepAliveResponse| {
        let _ = LeaseKeepAliveResponse::try_from(message);
    });
    mangle(&lease, |message: pb::LeaseLeasesResponse| {
        let _ = LeaseListResponse::try_from(message);
    });
    mangle(&lease, |message: pb::StatusResponse| {
        let _ = StatusResponse::try_from(message);
    });
    mangle(&lease, |message: pb::HashKvResponse| {
        let _ = status::hash_response(Revision(1), message);
    });
    mangle(&lease, |message: pb::AlarmResponse| {
        let _ = status::alarms(message);
    });
}
