//! Transactions and their answers.

use bytes::Bytes;
use synod_store::{
    Compare, CompareOp, CompareOperand, Error, ErrorKind, Header, Result, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};

use super::kv::{delete_response, key_and_end, key_range, put_response, range_response};
use super::{header, inner_header, invalid, malformed, served};
use crate::etcdserverpb as pb;
use crate::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::etcdserverpb::request_op::Request;
use crate::etcdserverpb::response_op::Response;

impl From<&Compare> for pb::Compare {
    fn from(compare: &Compare) -> pb::Compare {
        let (key, range_end) = key_and_end(&compare.range);
        let result = match compare.op {
            CompareOp::Equal => CompareResult::Equal,
            CompareOp::NotEqual => CompareResult::NotEqual,
            CompareOp::Greater => CompareResult::Greater,
            CompareOp::Less => CompareResult::Less,
        };
        let (target, operand) = match &compare.operand {
            CompareOperand::Version(number) => {
                (CompareTarget::Version, TargetUnion::Version(*number))
            }
            CompareOperand::CreateRevision(number) => {
                (CompareTarget::Create, TargetUnion::CreateRevision(*number))
            }
            CompareOperand::ModRevision(number) => {
                (CompareTarget::Mod, TargetUnion::ModRevision(*number))
            }
            CompareOperand::Lease(number) => (CompareTarget::Lease, TargetUnion::Lease(*number)),
            CompareOperand::Value(value) => {
                (CompareTarget::Value, TargetUnion::Value(value.clone()))
            }
        };
        pb::Compare {
            result: result.into(),
            target: target.into(),
            key,
            range_end,
            target_union: Some(operand),
        }
    }
}

/// As in etcd an operand that is missing, or belongs to another target, is 0 or empty.
impl TryFrom<pb::Compare> for Compare {
    type Error = Error;

    fn try_from(compare: pb::Compare) -> Result<Compare> {
        let op = match CompareResult::try_from(compare.result) {
            Ok(CompareResult::Equal) => CompareOp::Equal,
            Ok(CompareResult::NotEqual) => CompareOp::NotEqual,
            Ok(CompareResult::Greater) => CompareOp::Greater,
            Ok(CompareResult::Less) => CompareOp::Less,
            Err(_) => {
                return Err(invalid(format_args!(
                    "unknown comparison {}",
                    compare.result
                )));
            }
        };
        let target = CompareTarget::try_from(compare.target)
            .map_err(|_| invalid(format_args!("unknown target {} to compare", compare.target)))?;
        let operand = match (target, compare.target_union) {
            (CompareTarget::Version, Some(TargetUnion::Version(number))) => {
                CompareOperand::Version(number)
            }
            (CompareTarget::Version, _) => CompareOperand::Version(0),
            (CompareTarget::Create, Some(TargetUnion::CreateRevision(number))) => {
                CompareOperand::CreateRevision(number)
            }
            (CompareTarget::Create, _) => CompareOperand::CreateRevision(0),
            (CompareTarget::Mod, Some(TargetUnion::ModRevision(number))) => {
                CompareOperand::ModRevision(number)
            }
            (CompareTarget::Mod, _) => CompareOperand::ModRevision(0),
            (CompareTarget::Lease, Some(TargetUnion::Lease(number))) => {
                CompareOperand::Lease(number)
            }
            (CompareTarget::Lease, _) => CompareOperand::Lease(0),
            (CompareTarget::Value, Some(TargetUnion::Value(value))) => CompareOperand::Value(value),
            (CompareTarget::Value, _) => CompareOperand::Value(Bytes::new()),
        };
        Ok(Compare {
            range: key_range(compare.key, compare.range_end),
            op,
            operand,
        })
    }
}

impl From<&Txn> for pb::TxnRequest {
    fn from(txn: &Txn) -> pb::TxnRequest {
        pb::TxnRequest {
            compare: txn.compares.iter().map(Into::into).collect(),
            success: txn.success.iter().map(Into::into).collect(),
            failure: txn.failure.iter().map(Into::into).collect(),
        }
    }
}

/// How deep transactions may nest is bounded where the bytes are decoded: about 50 levels.
impl TryFrom<pb::TxnRequest> for Txn {
    type Error = Error;

    fn try_from(txn: pb::TxnRequest) -> Result<Txn> {
        Ok(Txn {
            compares: all(txn.compare)?,
            success: all(txn.success)?,
            failure: all(txn.failure)?,
        })
    }
}

fn all<M, W: TryFrom<M, Error = Error>>(messages: Vec<M>) -> Result<Vec<W>> {
    messages.into_iter().map(W::try_from).collect()
}

impl From<&TxnOp> for pb::RequestOp {
    fn from(op: &TxnOp) -> pb::RequestOp {
        let request = match op {
            TxnOp::Range(request) => Request::RequestRange(request.into()),
            TxnOp::Put(request) => Request::RequestPut(request.into()),
            TxnOp::Delete(request) => Request::RequestDeleteRange(request.into()),
            TxnOp::Txn(txn) => Request::RequestTxn(txn.into()),
        };
        pb::RequestOp {
            request: Some(request),
        }
    }
}

/// For an operation that is none etcd says that a key was not found.
impl TryFrom<pb::RequestOp> for TxnOp {
    type Error = Error;

    fn try_from(op: pb::RequestOp) -> Result<TxnOp> {
        Ok(match op.request {
            Some(Request::RequestRange(request)) => TxnOp::Range(request.try_into()?),
            Some(Request::RequestPut(request)) => TxnOp::Put(request.try_into()?),
            Some(Request::RequestDeleteRange(request)) => TxnOp::Delete(request.into()),
            Some(Request::RequestTxn(txn)) => TxnOp::Txn(txn.try_into()?),
            None => return Err(ErrorKind::KeyNotFound.into()),
        })
    }
}

impl From<TxnResponse> for pb::TxnResponse {
    fn from(response: TxnResponse) -> pb::TxnResponse {
        pb::TxnResponse {
            header: Some(response.header.into()),
            succeeded: response.succeeded,
            responses: response.responses.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<TxnOpResponse> for pb::ResponseOp {
    fn from(response: TxnOpResponse) -> pb::ResponseOp {
        let response = match response {
            TxnOpResponse::Range(response) => Response::ResponseRange(response.into()),
            TxnOpResponse::Put(response) => Response::ResponsePut(response.into()),
            TxnOpResponse::Delete(response) => Response::ResponseDeleteRange(response.into()),
            TxnOpResponse::Txn(response) => Response::ResponseTxn(response.into()),
        };
        pb::ResponseOp {
            response: Some(response),
        }
    }
}

/// The answer to `txn`, which has one answer of the right kind for each operation of the branch
/// that ran.
///
/// # Errors
///
/// When it has not; the transaction may have been applied then, unless it only reads.
pub fn txn_response(txn: &Txn, mut response: pb::TxnResponse) -> Result<TxnResponse> {
    let decoded = header(response.header.take()).and_then(|header| answer(txn, header, response));
    if txn.is_read_only() {
        decoded
    } else {
        decoded.map_err(served)
    }
}

fn answer(txn: &Txn, header: Header, response: pb::TxnResponse) -> Result<TxnResponse> {
    let branch = if response.succeeded {
        &txn.success
    } else {
        &txn.failure
    };
    if branch.len() != response.responses.len() {
        return Err(malformed(format_args!(
            "{} answers to {} operations",
            response.responses.len(),
            branch.len()
        )));
    }
    let responses = branch
        .iter()
        .zip(response.responses)
        .map(|(op, response)| op_answer(op, response))
        .collect::<Result<_>>()?;
    Ok(TxnResponse {
        header,
        succeeded: response.succeeded,
        responses,
    })
}

fn op_answer(op: &TxnOp, response: pb::ResponseOp) -> Result<TxnOpResponse> {
    Ok(match (op, response.response) {
        (TxnOp::Range(_), Some(Response::ResponseRange(mut response))) => {
            let header = inner_header(response.header.take())?;
            TxnOpResponse::Range(range_response(header, response)?)
        }
        (TxnOp::Put(_), Some(Response::ResponsePut(mut response))) => {
            let header = inner_header(response.header.take())?;
            TxnOpResponse::Put(put_response(header, response)?)
        }
        (TxnOp::Delete(_), Some(Response::ResponseDeleteRange(mut response))) => {
            let header = inner_header(response.header.take())?;
            TxnOpResponse::Delete(delete_response(header, response)?)
        }
        (TxnOp::Txn(txn), Some(Response::ResponseTxn(mut response))) => {
            let header = inner_header(response.header.take())?;
            TxnOpResponse::Txn(answer(txn, header, response)?)
        }
        _ => {
            return Err(malformed(
                "an operation has an answer of another kind, or none",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use synod_store::{DeleteRequest, KeyRange, LeaseId, PutRequest, RangeRequest, Revision};

    use super::*;

    #[test]
    fn every_comparison_survives() {
        let range = KeyRange::prefix("k");
        for op in [
            CompareOp::Equal,
            CompareOp::NotEqual,
            CompareOp::Greater,
            CompareOp::Less,
        ] {
            for compare in [
                Compare::version("k", op, 0),
                Compare::create_revision(range.clone(), op, Revision(7)),
                Compare::mod_revision("k", op, Revision(8)),
                Compare::lease("k", op, LeaseId::new(i64::MIN)),
                Compare::value(range.clone(), op, ""),
            ] {
                assert_eq!(
                    Compare::try_from(pb::Compare::from(&compare)).unwrap(),
                    compare
                );
            }
        }
    }

    #[test]
    fn an_operand_that_does_not_fit_is_zero() {
        let mut compare = pb::Compare {
            target: CompareTarget::Version.into(),
            target_union: Some(TargetUnion::Value("v".into())),
            ..pb::Compare::default()
        };
        let operand = |compare: &pb::Compare| Compare::try_from(compare.clone()).unwrap().operand;
        assert_eq!(operand(&compare), CompareOperand::Version(0));
        compare.target = CompareTarget::Value.into();
        compare.target_union = None;
        assert_eq!(operand(&compare), CompareOperand::Value(Bytes::new()));
    }

    #[test]
    fn unknown_comparisons_and_operations_are_refused() {
        let kind = |txn: pb::TxnRequest| Txn::try_from(txn).unwrap_err().kind();
        let compare = |result, target| pb::TxnRequest {
            compare: vec![pb::Compare {
                result,
                target,
                ..pb::Compare::default()
            }],
            ..pb::TxnRequest::default()
        };
        assert_eq!(kind(compare(4, 0)), ErrorKind::InvalidArgument);
        assert_eq!(kind(compare(0, 5)), ErrorKind::InvalidArgument);
        let nothing = pb::TxnRequest {
            failure: vec![pb::RequestOp { request: None }],
            ..pb::TxnRequest::default()
        };
        assert_eq!(kind(nothing), ErrorKind::KeyNotFound);
    }

    #[test]
    fn an_answer_must_fit_its_request() {
        let asked = Txn::new()
            .and_then([TxnOp::from(RangeRequest::new("a"))])
            .or_else([
                TxnOp::from(PutRequest::new("a", "1")),
                DeleteRequest::new("b").into(),
            ]);
        let op = |response| pb::ResponseOp { response };
        let range = || op(Some(Response::ResponseRange(pb::RangeResponse::default())));
        let put = || op(Some(Response::ResponsePut(pb::PutResponse::default())));
        let delete = || {
            op(Some(Response::ResponseDeleteRange(
                pb::DeleteRangeResponse::default(),
            )))
        };
        let answer = |succeeded, responses| {
            let response = pb::TxnResponse {
                header: Some(pb::ResponseHeader::default()),
                succeeded,
                responses,
            };
            txn_response(&asked, response)
        };
        assert!(answer(true, vec![range()]).is_ok());
        assert!(answer(false, vec![put(), delete()]).is_ok());
        for (succeeded, responses) in [
            (true, vec![]),
            (true, vec![put()]),
            (true, vec![op(None)]),
            (false, vec![range()]),
            (false, vec![delete(), put()]),
        ] {
            let error = answer(succeeded, responses).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Other);
            assert!(error.is_maybe_applied());
        }

        let read = Txn::new().and_then([RangeRequest::new("a")]);
        let error = txn_response(&read, pb::TxnResponse::default()).unwrap_err();
        assert!(!error.is_maybe_applied());
    }

    #[test]
    fn bytes_that_nest_too_deep_are_refused_before_they_are_converted() {
        let nested = |depth| {
            let deepest = pb::TxnRequest::default();
            (0..depth).fold(deepest, |inner, _| pb::TxnRequest {
                success: vec![pb::RequestOp {
                    request: Some(Request::RequestTxn(inner)),
                }],
                ..pb::TxnRequest::default()
            })
        };
        let decode = |depth| pb::TxnRequest::decode(nested(depth).encode_to_vec().as_slice());
        assert!(Txn::try_from(decode(40).unwrap()).is_ok());
        assert!(decode(60).is_err());
    }
}
