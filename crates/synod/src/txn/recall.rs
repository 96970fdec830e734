//! Answers that were lost on the way, read again: the transaction has happened, its record says at
//! which revision and which branch ran, and the store still knows what was there before and after.
//!
//! All conditions of nested transactions were decided on the state before the revision. What was put
//! over or deleted is read from there. A read is repeated before the revision when nothing that it
//! covers was written ahead of it in the transaction, and at the revision when nothing was written
//! after it. One between two writes of its keys has no revision to be read at.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use synod_store::{
    Compare, CompareOp, CompareOperand, DeleteRequest, DeleteResponse, Header, KeyRange, KeyValue,
    PutRequest, PutResponse, RangeRequest, RangeResponse, Revision, Store, TxnOp, TxnOpResponse,
    TxnResponse,
};

use crate::{Error, Result, retry};

/// One operation that ran.
enum Ran<'t> {
    Range(&'t RangeRequest),
    Put(&'t PutRequest),
    Delete(&'t DeleteRequest),
    Txn(bool, Vec<Ran<'t>>),
}

/// One write that ran, and whether it was a put.
struct Write {
    range: KeyRange,
    put: bool,
}

impl Write {
    fn touches(&self, range: &KeyRange) -> bool {
        overlap(&self.range, range)
    }
}

/// What a transaction wrote, in order.
type Writes = Vec<Write>;

/// Reads the answers of the operations that ran at `revision` again.
pub(super) async fn recall(
    store: Arc<dyn Store>,
    patience: Duration,
    revision: Revision,
    ops: &[TxnOp],
) -> Result<Vec<TxnOpResponse>> {
    let recall = Recall {
        store,
        patience,
        revision,
    };
    let ran = recall.decide(ops).await?;
    let mut writes = Writes::new();
    list(&ran, &mut writes);
    recall.answers(&ran, &writes, &mut 0).await
}

fn list(ran: &[Ran<'_>], writes: &mut Writes) {
    for op in ran {
        match op {
            Ran::Range(_) => {}
            Ran::Put(put) => writes.push(Write {
                range: KeyRange::One(put.key.clone()),
                put: true,
            }),
            Ran::Delete(delete) => writes.push(Write {
                range: delete.range.clone(),
                put: false,
            }),
            Ran::Txn(_, inner) => list(inner, writes),
        }
    }
}

struct Recall {
    store: Arc<dyn Store>,
    patience: Duration,
    revision: Revision,
}

impl Recall {
    /// What ran, nested transactions decided.
    fn decide<'t>(&'t self, ops: &'t [TxnOp]) -> BoxFuture<'t, Result<Vec<Ran<'t>>>> {
        Box::pin(async move {
            let mut ran = Vec::with_capacity(ops.len());
            for op in ops {
                ran.push(match op {
                    TxnOp::Range(range) => Ran::Range(range),
                    TxnOp::Put(put) => Ran::Put(put),
                    TxnOp::Delete(delete) => Ran::Delete(delete),
                    TxnOp::Txn(txn) => {
                        let mut succeeded = true;
                        for compare in &txn.compares {
                            let seen = self.before(RangeRequest::new(compare.range.clone()));
                            succeeded &= holds(compare, &seen.await?.kvs);
                        }
                        let branch = if succeeded {
                            &txn.success
                        } else {
                            &txn.failure
                        };
                        Ran::Txn(succeeded, self.decide(branch).await?)
                    }
                });
            }
            Ok(ran)
        })
    }

    /// The answers of what ran; `done` counts the writes so far.
    fn answers<'t>(
        &'t self,
        ran: &'t [Ran<'t>],
        writes: &'t Writes,
        done: &'t mut usize,
    ) -> BoxFuture<'t, Result<Vec<TxnOpResponse>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(ran.len());
            for op in ran {
                let (earlier, later) = writes.split_at_checked(*done).unwrap_or((writes, &[]));
                answers.push(match op {
                    Ran::Range(range) => {
                        TxnOpResponse::Range(self.range(range, earlier, later).await?)
                    }
                    Ran::Put(put) => {
                        *done = done.saturating_add(1);
                        TxnOpResponse::Put(self.put(put, earlier).await?)
                    }
                    Ran::Delete(delete) => {
                        *done = done.saturating_add(1);
                        TxnOpResponse::Delete(self.delete(delete, earlier).await?)
                    }
                    Ran::Txn(succeeded, inner) => TxnOpResponse::Txn(TxnResponse {
                        header: Header::default(),
                        succeeded: *succeeded,
                        responses: self.answers(inner, writes, done).await?,
                    }),
                });
            }
            Ok(answers)
        })
    }

    async fn range(
        &self,
        range: &RangeRequest,
        earlier: &[Write],
        later: &[Write],
    ) -> Result<RangeResponse> {
        let touches = |writes: &[Write]| writes.iter().any(|w| w.touches(&range.range));
        let at = if !range.revision.is_zero() {
            range.revision
        } else if !touches(earlier) {
            self.revision.prev()
        } else if !touches(later) {
            self.revision
        } else {
            return Err(in_between(&range.range));
        };
        let mut answer = self.read(range.clone().at(at)).await?;
        // As the store says it when something was written before the read, were it only the record.
        answer.header = self.header(self.revision);
        Ok(answer)
    }

    async fn put(&self, put: &PutRequest, earlier: &[Write]) -> Result<PutResponse> {
        let key = KeyRange::One(put.key.clone());
        let deleted = earlier.iter().any(|write| write.touches(&key));
        let prev_kv = if put.prev_kv && !deleted {
            let before = self.before(RangeRequest::new(put.key.clone())).await?;
            before.kvs.into_iter().next()
        } else {
            None
        };
        Ok(PutResponse {
            header: self.header(self.revision),
            prev_kv,
        })
    }

    async fn delete(&self, delete: &DeleteRequest, earlier: &[Write]) -> Result<DeleteResponse> {
        let mut request = RangeRequest::new(delete.range.clone());
        let touching = |write: &&Write| write.touches(&delete.range);
        let twice = earlier.iter().any(|write| touching(&write));
        if earlier.iter().filter(touching).any(|write| write.put) {
            return Err(in_between(&delete.range));
        }
        if !delete.prev_kv {
            request = if twice {
                request.keys_only()
            } else {
                request.count_only()
            };
        }
        let before = self.before(request).await?;
        let mut prev_kvs = before.kvs;
        // What was deleted ahead of this was not there any more.
        prev_kvs.retain(|kv| !earlier.iter().any(|write| write.range.contains(&kv.key)));
        let deleted = if delete.prev_kv || twice {
            u64::try_from(prev_kvs.len()).unwrap_or(u64::MAX)
        } else {
            before.count
        };
        if !delete.prev_kv {
            prev_kvs.clear();
        }
        Ok(DeleteResponse {
            header: self.header(self.revision),
            deleted,
            prev_kvs,
        })
    }

    async fn before(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.read(request.at(self.revision.prev())).await
    }

    async fn read(&self, request: RangeRequest) -> Result<RangeResponse> {
        retry::read(self.patience, || self.store.range(request.clone())).await
    }

    fn header(&self, revision: Revision) -> Header {
        Header {
            revision,
            ..Header::default()
        }
    }
}

fn in_between(range: &KeyRange) -> Error {
    Error::InvalidArgument(format!(
        "the keys from {} on were read or deleted between two writes of the transaction",
        range.start()
    ))
}

/// Whether two ranges have a key in common, or could have.
pub(crate) fn overlap(a: &KeyRange, b: &KeyRange) -> bool {
    let ends_before = |range: &KeyRange, start: &[u8]| match range {
        KeyRange::One(key) => key.as_bytes() < start,
        KeyRange::Between(_, end) => end.as_bytes() <= start,
        KeyRange::From(_) => false,
    };
    !a.is_empty() && !b.is_empty() && !ends_before(a, b.start()) && !ends_before(b, a.start())
}

/// Whether a condition holds on the pairs of its range.
fn holds(compare: &Compare, kvs: &[KeyValue]) -> bool {
    if kvs.is_empty() {
        // A missing key: its numbers are 0, and no comparison of its value holds.
        return match &compare.operand {
            CompareOperand::Value(_) => false,
            CompareOperand::Version(number)
            | CompareOperand::CreateRevision(number)
            | CompareOperand::ModRevision(number)
            | CompareOperand::Lease(number) => compares(compare.op, &0, number),
        };
    }
    kvs.iter().all(|kv| match &compare.operand {
        CompareOperand::Value(value) => compares(compare.op, &kv.value, value),
        CompareOperand::Version(number) => {
            let version = i64::try_from(kv.version).unwrap_or(i64::MAX);
            compares(compare.op, &version, number)
        }
        CompareOperand::CreateRevision(number) => {
            compares(compare.op, &kv.create_revision.as_i64(), number)
        }
        CompareOperand::ModRevision(number) => {
            compares(compare.op, &kv.mod_revision.as_i64(), number)
        }
        CompareOperand::Lease(number) => {
            compares(compare.op, &synod_store::LeaseId::to_i64(kv.lease), number)
        }
    })
}

fn compares<T: Ord>(op: CompareOp, stored: &T, operand: &T) -> bool {
    match op {
        CompareOp::Equal => stored == operand,
        CompareOp::NotEqual => stored != operand,
        CompareOp::Greater => stored > operand,
        CompareOp::Less => stored < operand,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_when_they_can_share_a_key() {
        let one = |key: &str| KeyRange::one(key);
        let ab = KeyRange::between("a", "b");
        for (range, other, expected) in [
            (one("a"), one("a"), true),
            (one("a"), one("b"), false),
            (one("a"), ab.clone(), true),
            (one("b"), ab.clone(), false),
            (one("A"), ab.clone(), false),
            (KeyRange::between("b", "c"), ab.clone(), false),
            (KeyRange::between("aa", "c"), ab.clone(), true),
            (KeyRange::From("b".into()), ab.clone(), false),
            (KeyRange::From("a".into()), ab.clone(), true),
            (KeyRange::between("b", "a"), KeyRange::all(), false),
        ] {
            assert_eq!(overlap(&range, &other), expected, "{range:?} {other:?}");
            assert_eq!(overlap(&other, &range), expected, "{other:?} {range:?}");
        }
    }
}
