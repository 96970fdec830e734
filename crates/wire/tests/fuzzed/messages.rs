//! Arbitrary bytes as a message of etcd's: what decodes is converted or refused, and what was converted survives the way
//! back. Shared by the fuzz target `wire` and the test `fuzzed`.

use prost::Message;
use synod_store::{
    DeleteRequest, LeaseGrantRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse, PutRequest,
    RangeRequest, RangeResponse, Revision, StatusResponse, Txn,
};
use synod_wire::convert::status::{self, AlarmCommand};
use synod_wire::convert::watch::{WatchAnswer, WatchCommand};
use synod_wire::convert::{kv, txn};
use synod_wire::etcdserverpb as pb;

/// The first byte says which message the rest is.
pub(crate) fn read(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    match kind % 14 {
        0 => {
            if let Ok(message) = pb::TxnRequest::decode(bytes)
                && let Ok(words) = Txn::try_from(message)
            {
                let again = Txn::try_from(pb::TxnRequest::from(&words));
                assert_eq!(again.ok(), Some(words));
            }
        }
        1 => {
            if let Ok(message) = pb::RangeRequest::decode(bytes)
                && let Ok(words) = RangeRequest::try_from(message)
            {
                let again = RangeRequest::try_from(pb::RangeRequest::from(&words));
                assert_eq!(again.ok(), Some(words));
            }
        }
        2 => {
            if let Ok(message) = pb::PutRequest::decode(bytes)
                && let Ok(words) = PutRequest::try_from(message)
            {
                let again = PutRequest::try_from(pb::PutRequest::from(&words));
                assert_eq!(again.ok(), Some(words));
            }
        }
        3 => {
            if let Ok(message) = pb::DeleteRangeRequest::decode(bytes) {
                let words = DeleteRequest::from(message);
                let again = DeleteRequest::from(pb::DeleteRangeRequest::from(&words));
                assert_eq!(again, words);
            }
        }
        4 => {
            if let Ok(message) = pb::WatchRequest::decode(bytes) {
                let _ = WatchCommand::try_from(message);
            }
        }
        5 => {
            if let Ok(message) = pb::WatchResponse::decode(bytes) {
                let _ = WatchAnswer::try_from(message);
            }
        }
        6 => {
            if let Ok(message) = pb::RangeResponse::decode(bytes) {
                let _ = RangeResponse::try_from(message);
            }
        }
        7 => {
            // An answer to a transaction that was asked for in the first half.
            let (asked, answer) = bytes.split_at(bytes.len() / 2);
            if let Ok(asked) = pb::TxnRequest::decode(asked)
                && let Ok(asked) = Txn::try_from(asked)
                && let Ok(answer) = pb::TxnResponse::decode(answer)
            {
                let _ = txn::txn_response(&asked, answer);
            }
        }
        8 => {
            if let Ok(message) = pb::LeaseGrantRequest::decode(bytes) {
                let _ = LeaseGrantRequest::from(message);
            }
        }
        9 => {
            if let Ok(message) = pb::AlarmRequest::decode(bytes) {
                let _ = AlarmCommand::try_from(message);
            }
        }
        10 => {
            if let Ok(message) = pb::LeaseTimeToLiveResponse::decode(bytes) {
                let _ = LeaseTimeToLiveResponse::try_from(message);
            }
        }
        11 => {
            if let Ok(message) = pb::LeaseKeepAliveResponse::decode(bytes) {
                let _ = LeaseKeepAliveResponse::try_from(message);
            }
        }
        12 => {
            if let Ok(message) = pb::StatusResponse::decode(bytes) {
                let _ = StatusResponse::try_from(message);
            }
            if let Ok(message) = pb::HashKvResponse::decode(bytes) {
                let _ = status::hash_response(Revision(1), message);
            }
        }
        _ => {
            if let Ok(message) = pb::CompactionRequest::decode(bytes) {
                let _ = kv::compaction(message);
            }
        }
    }
}
