//! What etcd refuses before it looks at its data, in etcd's order: whoever sends a request with two
//! faults is told of the same one.

use synod_store::{Error, ErrorKind};
use synod_wire::etcdserverpb::request_op::Request;
use synod_wire::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

pub(crate) fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(ErrorKind::EmptyKey.into());
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(ErrorKind::ValueProvided.into());
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(ErrorKind::LeaseProvided.into());
    }
    Ok(())
}

/// How many times what one path through nested transactions may have, all paths may have together. etcd counts along
/// each path alone, so that siblings multiply: a request of 19 KB may read all keys 1,600 times.
const PATHS: usize = 16;

/// Checks a transaction that may have `most` conditions, or operations in a branch. Each nested one
/// may have what its parent's largest list leaves, and all together [`PATHS`] times as many.
pub(crate) fn txn(request: &TxnRequest, most: usize) -> Result<(), Error> {
    if !within(request, &mut most.saturating_mul(PATHS)) {
        return Err(ErrorKind::TooManyOperations.into());
    }
    path(request, most)
}

/// Takes all conditions and operations off `budget`, those of both branches and at every depth. False when it does not
/// last: then what is left was not looked at.
fn within(request: &TxnRequest, budget: &mut usize) -> bool {
    let own = [&request.success, &request.failure].map(Vec::len);
    let own = own
        .into_iter()
        .fold(request.compare.len(), usize::saturating_add);
    let Some(left) = budget.checked_sub(own) else {
        return false;
    };
    *budget = left;
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| match &op.request {
        Some(Request::RequestTxn(nested)) => within(nested, budget),
        _ => true,
    })
}

fn path(request: &TxnRequest, most: usize) -> Result<(), Error> {
    let largest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = most.checked_sub(largest) else {
        return Err(ErrorKind::TooManyOperations.into());
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(ErrorKind::EmptyKey.into());
    }
    request
        .success
        .iter()
        .chain(&request.failure)
        .try_for_each(|op| operation(op, left))
}

fn operation(op: &RequestOp, left: usize) -> Result<(), Error> {
    let empty_key = match &op.request {
        Some(Request::RequestRange(range)) => range.key.is_empty(),
        Some(Request::RequestDeleteRange(delete)) => delete.key.is_empty(),
        Some(Request::RequestPut(request)) => return put(request),
        Some(Request::RequestTxn(nested)) => return path(nested, left),
        None => return Err(ErrorKind::KeyNotFound.into()),
    };
    if empty_key {
        return Err(ErrorKind::EmptyKey.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use synod_wire::etcdserverpb::{Compare, RangeRequest};

    use super::*;

    fn range(key: &'static str) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestRange(RangeRequest {
                key: key.into(),
                ..RangeRequest::default()
            })),
        }
    }

    fn compare(key: &'static str) -> Compare {
        Compare {
            key: key.into(),
            ..Compare::default()
        }
    }

    fn nested(request: TxnRequest) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestTxn(request)),
        }
    }

    fn ops(count: usize) -> TxnRequest {
        TxnRequest {
            success: vec![range("k"); count],
            ..TxnRequest::default()
        }
    }

    fn kind(result: Result<(), Error>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn the_budget_shrinks_along_a_path() {
        assert_eq!(kind(txn(&ops(128), 128)), None);
        assert_eq!(
            kind(txn(&ops(129), 128)),
            Some(ErrorKind::TooManyOperations)
        );
        let mut parent = ops(27);
        parent.success.push(nested(ops(100)));
        assert_eq!(kind(txn(&parent, 128)), None);
        // Siblings do not share.
        parent.failure.push(nested(ops(100)));
        assert_eq!(kind(txn(&parent, 128)), None);
        parent.success.push(range("k"));
        assert_eq!(kind(txn(&parent, 128)), Some(ErrorKind::TooManyOperations));
    }

    #[test]
    fn all_paths_together_have_a_budget_too() {
        let wide = |siblings: usize, each: usize| TxnRequest {
            success: vec![nested(ops(each)); siblings],
            ..TxnRequest::default()
        };
        let too_many = Some(ErrorKind::TooManyOperations);
        assert_eq!(kind(txn(&wide(40, 60), 128)), too_many);
        // 16 times 128, with the nested transactions themselves.
        assert_eq!(kind(txn(&wide(32, 63), 128)), None);
        assert_eq!(kind(txn(&wide(32, 64), 128)), too_many);
        // Both branches and the conditions count.
        let mut all = wide(32, 62);
        all.failure = vec![range("k"); 16];
        all.compare = vec![compare("k"); 16];
        assert_eq!(kind(txn(&all, 128)), None);
        all.compare.push(compare("k"));
        assert_eq!(kind(txn(&all, 128)), too_many);
    }

    #[test]
    fn the_count_comes_before_the_keys_and_conditions_before_operations() {
        let mut both = ops(129);
        both.success.push(range(""));
        assert_eq!(kind(txn(&both, 128)), Some(ErrorKind::TooManyOperations));
        let nothing = RequestOp { request: None };
        let both = TxnRequest {
            compare: vec![Compare::default()],
            success: vec![nothing.clone()],
            failure: Vec::new(),
        };
        assert_eq!(kind(txn(&both, 128)), Some(ErrorKind::EmptyKey));
        let only = TxnRequest {
            failure: vec![nothing],
            ..TxnRequest::default()
        };
        assert_eq!(kind(txn(&only, 128)), Some(ErrorKind::KeyNotFound));
    }

    #[test]
    fn what_a_put_keeps_it_must_not_give() {
        let mut request = PutRequest {
            value: "v".into(),
            lease: 1,
            ignore_value: true,
            ignore_lease: true,
            ..PutRequest::default()
        };
        assert_eq!(kind(put(&request)), Some(ErrorKind::EmptyKey));
        request.key = "k".into();
        assert_eq!(kind(put(&request)), Some(ErrorKind::ValueProvided));
        request.ignore_value = false;
        assert_eq!(kind(put(&request)), Some(ErrorKind::LeaseProvided));
        request.ignore_lease = false;
        assert_eq!(kind(put(&request)), None);
    }
}
