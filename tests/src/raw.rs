//! Requests in etcd's own messages, for tests that speak to a server as other people's clients do.

use bytes::Bytes;
use synod_wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use synod_wire::etcdserverpb::kv_client::KvClient;
use synod_wire::etcdserverpb::lease_client::LeaseClient;
use synod_wire::etcdserverpb::request_op::Request;
use synod_wire::etcdserverpb::response_op::Response;
use synod_wire::etcdserverpb::watch_request::RequestUnion;
use synod_wire::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, ResponseOp, TxnRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest,
};
use synod_wire::mvccpb::KeyValue;
use tonic::transport::Channel;

use crate::target::{Target, answer};

/// A client of the KV service that takes answers of any size.
pub async fn kv(target: &Target) -> KvClient<Channel> {
    KvClient::new(target.channel().await).max_decoding_message_size(usize::MAX)
}

/// A client of the Lease service.
pub async fn leases(target: &Target) -> LeaseClient<Channel> {
    LeaseClient::new(target.channel().await)
}

/// Puts `value` under `key`.
pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

/// Reads one key.
pub fn get(key: impl Into<Bytes>) -> RangeRequest {
    range(key, "")
}

/// Reads a range.
pub fn range(key: impl Into<Bytes>, end: impl Into<Bytes>) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..RangeRequest::default()
    }
}

/// Deletes a range; one key with an empty end.
pub fn delete(key: impl Into<Bytes>, end: impl Into<Bytes>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..DeleteRangeRequest::default()
    }
}

/// A transaction without conditions.
#[must_use]
pub fn txn(ops: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success: ops,
        ..TxnRequest::default()
    }
}

/// What can stand in a transaction.
pub trait Op {
    /// It, as an operation.
    fn op(self) -> RequestOp;
}

macro_rules! ops {
    ($($message:ident => $variant:ident,)*) => {$(
        impl Op for $message {
            fn op(self) -> RequestOp {
                RequestOp { request: Some(Request::$variant(self)) }
            }
        }
    )*};
}

ops! {
    RangeRequest => RequestRange,
    PutRequest => RequestPut,
    DeleteRangeRequest => RequestDeleteRange,
    TxnRequest => RequestTxn,
}

/// The header of an answer inside a transaction's.
#[must_use]
pub fn inner_header(response: &ResponseOp) -> Option<ResponseHeader> {
    match response.response.as_ref()? {
        Response::ResponseRange(response) => response.header,
        Response::ResponsePut(response) => response.header,
        Response::ResponseDeleteRange(response) => response.header,
        Response::ResponseTxn(response) => response.header,
    }
}

/// A condition.
pub fn compare(
    key: impl Into<Bytes>,
    result: CompareResult,
    target: CompareTarget,
    operand: Option<TargetUnion>,
) -> Compare {
    Compare {
        key: key.into(),
        range_end: Bytes::new(),
        result: result.into(),
        target: target.into(),
        target_union: operand,
    }
}

/// The keys of pairs, as text.
#[must_use]
pub fn keys(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter()
        .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
        .collect()
}

/// Asserts that nothing in a header is zero, and gives its revision.
///
/// # Panics
///
/// When something is.
#[track_caller]
#[expect(clippy::must_use_candidate, reason = "some ask only for the assertion")]
pub fn whole(header: Option<ResponseHeader>) -> i64 {
    let header = header.expect("a header");
    assert_ne!(header.cluster_id, 0);
    assert_ne!(header.member_id, 0);
    assert_ne!(header.raft_term, 0);
    assert!(header.revision > 0, "revision {}", header.revision);
    header.revision
}

/// Grants a lease.
pub async fn grant(target: &Target, ttl: i64) -> i64 {
    let request = LeaseGrantRequest { ttl, id: 0 };
    answer(leases(target).await.lease_grant(request).await).id
}

/// The command to make a watch.
#[must_use]
pub fn create(create: WatchCreateRequest) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

/// The command to end a watch.
#[must_use]
pub fn cancel(watch_id: i64) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })),
    }
}

/// The command to tell how far the watches are.
#[must_use]
pub fn progress() -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
    }
}
