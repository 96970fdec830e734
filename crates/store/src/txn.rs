//! Transactions: comparisons that decide which of two lists of operations runs, at one revision.

use bytes::Bytes;

use crate::{
    DeleteRequest, DeleteResponse, Header, KeyRange, LeaseId, PutRequest, PutResponse,
    RangeRequest, RangeResponse, Revision,
};

/// How a [`Compare`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// The stored one is equal to the operand.
    Equal,
    /// The stored one is not equal to the operand.
    NotEqual,
    /// The stored one is greater than the operand.
    Greater,
    /// The stored one is less than the operand.
    Less,
}

/// What a [`Compare`] looks at, with the operand it is compared to.
///
/// On a key that does not exist the numbers compare as 0, and a comparison of the *value* is false
/// whatever the operator, [`CompareOp::NotEqual`] too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareOperand {
    /// The version.
    Version(i64),
    /// The create revision.
    CreateRevision(i64),
    /// The modification revision.
    ModRevision(i64),
    /// The lease id; 0 for none.
    Lease(i64),
    /// The value.
    Value(Bytes),
}

/// One condition of a [`Txn`].
///
/// Over a range, every key in it must satisfy the condition; a range without keys counts as one
/// missing key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Compare {
    /// Which keys.
    pub range: KeyRange,
    /// How.
    pub op: CompareOp,
    /// With what.
    pub operand: CompareOperand,
}

impl Compare {
    /// Compares the version.
    pub fn version(range: impl Into<KeyRange>, op: CompareOp, version: u64) -> Compare {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        Compare {
            range: range.into(),
            op,
            operand: CompareOperand::Version(version),
        }
    }

    /// Compares the create revision.
    pub fn create_revision(range: impl Into<KeyRange>, op: CompareOp, rev: Revision) -> Compare {
        let operand = CompareOperand::CreateRevision(rev.as_i64());
        Compare {
            range: range.into(),
            op,
            operand,
        }
    }

    /// Compares the modification revision.
    pub fn mod_revision(range: impl Into<KeyRange>, op: CompareOp, rev: Revision) -> Compare {
        let operand = CompareOperand::ModRevision(rev.as_i64());
        Compare {
            range: range.into(),
            op,
            operand,
        }
    }

    /// Compares the lease.
    pub fn lease(range: impl Into<KeyRange>, op: CompareOp, lease: Option<LeaseId>) -> Compare {
        let operand = CompareOperand::Lease(LeaseId::to_i64(lease));
        Compare {
            range: range.into(),
            op,
            operand,
        }
    }

    /// Compares the value.
    pub fn value(range: impl Into<KeyRange>, op: CompareOp, value: impl Into<Bytes>) -> Compare {
        let operand = CompareOperand::Value(value.into());
        Compare {
            range: range.into(),
            op,
            operand,
        }
    }

    /// True while the key does not exist.
    pub fn absent(key: impl Into<KeyRange>) -> Compare {
        Compare::create_revision(key, CompareOp::Equal, Revision::ZERO)
    }

    /// True while the key is the one created at `revision`: it was not deleted and put again.
    pub fn created_at(key: impl Into<KeyRange>, revision: Revision) -> Compare {
        Compare::create_revision(key, CompareOp::Equal, revision)
    }

    /// True while the key was last put at `revision`.
    pub fn modified_at(key: impl Into<KeyRange>, revision: Revision) -> Compare {
        Compare::mod_revision(key, CompareOp::Equal, revision)
    }
}

/// One operation of a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOp {
    /// Read; it sees the writes before it in the same transaction.
    Range(RangeRequest),
    /// Write.
    Put(PutRequest),
    /// Delete.
    Delete(DeleteRequest),
    /// A transaction inside; its conditions are decided before anything is written.
    Txn(Txn),
}

impl From<RangeRequest> for TxnOp {
    fn from(request: RangeRequest) -> TxnOp {
        TxnOp::Range(request)
    }
}

impl From<PutRequest> for TxnOp {
    fn from(request: PutRequest) -> TxnOp {
        TxnOp::Put(request)
    }
}

impl From<DeleteRequest> for TxnOp {
    fn from(request: DeleteRequest) -> TxnOp {
        TxnOp::Delete(request)
    }
}

impl From<Txn> for TxnOp {
    fn from(txn: Txn) -> TxnOp {
        TxnOp::Txn(txn)
    }
}

/// A transaction: when all conditions hold, one list of operations runs, else the other; all of it
/// at one revision.
///
/// All conditions, those of nested transactions too, are decided before any operation runs. One
/// key can be put only once in a branch, counting nested transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Txn {
    /// The conditions, all of which must hold.
    pub compares: Vec<Compare>,
    /// What runs when they hold.
    pub success: Vec<TxnOp>,
    /// What runs when one does not.
    pub failure: Vec<TxnOp>,
}

impl Txn {
    /// A transaction without conditions or operations.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Adds conditions.
    pub fn when(mut self, compares: impl IntoIterator<Item = Compare>) -> Txn {
        self.compares.extend(compares);
        self
    }

    /// Adds operations that run when the conditions hold.
    pub fn and_then<O: Into<TxnOp>>(mut self, ops: impl IntoIterator<Item = O>) -> Txn {
        self.success.extend(ops.into_iter().map(Into::into));
        self
    }

    /// Adds operations that run when a condition does not hold.
    pub fn or_else<O: Into<TxnOp>>(mut self, ops: impl IntoIterator<Item = O>) -> Txn {
        self.failure.extend(ops.into_iter().map(Into::into));
        self
    }

    /// Whether no operation of either branch, at any depth, can change the store.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            TxnOp::Range(_) => true,
            TxnOp::Put(_) | TxnOp::Delete(_) => false,
            TxnOp::Txn(txn) => txn.is_read_only(),
        })
    }
}

/// The answer of one operation of a [`Txn`]. Of its header only the revision is set: for a put or
/// delete the transaction's, for a range the one it read at, for a nested transaction zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOpResponse {
    /// Of a [`TxnOp::Range`].
    Range(RangeResponse),
    /// Of a [`TxnOp::Put`].
    Put(PutResponse),
    /// Of a [`TxnOp::Delete`].
    Delete(DeleteResponse),
    /// Of a [`TxnOp::Txn`].
    Txn(TxnResponse),
}

impl TxnOpResponse {
    /// The range's answer, when this is one.
    #[must_use]
    pub fn into_range(self) -> Option<RangeResponse> {
        match self {
            TxnOpResponse::Range(response) => Some(response),
            _ => None,
        }
    }

    /// The put's answer, when this is one.
    #[must_use]
    pub fn into_put(self) -> Option<PutResponse> {
        match self {
            TxnOpResponse::Put(response) => Some(response),
            _ => None,
        }
    }

    /// The delete's answer, when this is one.
    #[must_use]
    pub fn into_delete(self) -> Option<DeleteResponse> {
        match self {
            TxnOpResponse::Delete(response) => Some(response),
            _ => None,
        }
    }

    /// The nested transaction's answer, when this is one.
    #[must_use]
    pub fn into_txn(self) -> Option<TxnResponse> {
        match self {
            TxnOpResponse::Txn(response) => Some(response),
            _ => None,
        }
    }
}

/// The answer to a [`Txn`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// Who answered, and the revision of this transaction (the current one when it wrote nothing).
    pub header: Header,
    /// Whether all conditions held.
    pub succeeded: bool,
    /// One answer for each operation of the branch that ran, in order.
    pub responses: Vec<TxnOpResponse>,
}

impl TxnResponse {
    /// What the operation at this place of the branch that ran has read; `None` when it is no range.
    #[must_use]
    pub fn range(&self, index: usize) -> Option<&RangeResponse> {
        match self.responses.get(index)? {
            TxnOpResponse::Range(response) => Some(response),
            _ => None,
        }
    }
}
