//! Single operations on keys: range, put and delete, with their answers.

use bytes::Bytes;

use crate::{Header, Key, KeyRange, LeaseId, Revision};

/// A key with its value and history numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Key,
    /// The value; empty in keys-only answers.
    pub value: Bytes,
    /// When the key was created: it restarts when the key is deleted and put again.
    pub create_revision: Revision,
    /// When the key was last put.
    pub mod_revision: Revision,
    /// How many times it was put since it was created; 1 after the first put.
    pub version: u64,
    /// The lease whose end deletes the key.
    pub lease: Option<LeaseId>,
}

/// What a sorted answer is ordered by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The create revision.
    CreateRevision,
    /// The modification revision.
    ModRevision,
    /// The value.
    Value,
}

/// The direction of a sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SortOrder {
    /// Key order for [`SortTarget::Key`], ascending for the others. The cheapest.
    #[default]
    None,
    /// Lowest first.
    Ascending,
    /// Highest first.
    Descending,
}

/// Reads keys. `RangeRequest::new(range)` reads all of a range at the current revision.
///
/// Order of work, as in etcd: revision filters, then sort, then `limit`. `count` in the answer is
/// the whole range's, before filters and limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// The most pairs to return; 0 for all.
    pub limit: u64,
    /// Read the store as it was at this revision; [`Revision::ZERO`] for now.
    pub revision: Revision,
    /// What to order by.
    pub sort_target: SortTarget,
    /// Which way.
    pub sort_order: SortOrder,
    /// Allow a stale answer from one member, without asking the others.
    pub serializable: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Return the count alone; `limit` does not matter then.
    pub count_only: bool,
    /// Leave out keys modified before this revision.
    pub min_mod_revision: Option<Revision>,
    /// Leave out keys modified after this revision.
    pub max_mod_revision: Option<Revision>,
    /// Leave out keys created before this revision.
    pub min_create_revision: Option<Revision>,
    /// Leave out keys created after this revision.
    pub max_create_revision: Option<Revision>,
}

impl RangeRequest {
    /// Reads all of `range`, now. A single key converts to a range.
    pub fn new(range: impl Into<KeyRange>) -> RangeRequest {
        RangeRequest {
            range: range.into(),
            limit: 0,
            revision: Revision::ZERO,
            sort_target: SortTarget::Key,
            sort_order: SortOrder::None,
            serializable: false,
            keys_only: false,
            count_only: false,
            min_mod_revision: None,
            max_mod_revision: None,
            min_create_revision: None,
            max_create_revision: None,
        }
    }

    /// Returns at most `limit` pairs; 0 for all.
    pub fn with_limit(mut self, limit: u64) -> RangeRequest {
        self.limit = limit;
        self
    }

    /// Reads the store as it was at `revision`.
    pub fn at(mut self, revision: Revision) -> RangeRequest {
        self.revision = revision;
        self
    }

    /// Orders the answer.
    pub fn sorted_by(mut self, target: SortTarget, order: SortOrder) -> RangeRequest {
        self.sort_target = target;
        self.sort_order = order;
        self
    }

    /// Leaves the values out.
    pub fn keys_only(mut self) -> RangeRequest {
        self.keys_only = true;
        self
    }

    /// Returns the count alone.
    pub fn count_only(mut self) -> RangeRequest {
        self.count_only = true;
        self
    }

    /// Allows a stale answer from one member.
    pub fn serializable(mut self) -> RangeRequest {
        self.serializable = true;
        self
    }
}

/// The answer to a [`RangeRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// Who answered, and the store's *current* revision, also when an older one was read.
    pub header: Header,
    /// The pairs; empty when only the count was asked.
    pub kvs: Vec<KeyValue>,
    /// Whether `limit` cut pairs off.
    pub more: bool,
    /// How many keys the range holds, before filters and limit.
    pub count: u64,
}

/// The value of a [`PutRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutValue {
    /// Set it.
    Set(Bytes),
    /// Keep the one that is there; [`ErrorKind::KeyNotFound`](crate::ErrorKind) when none is.
    Keep,
}

/// The lease of a [`PutRequest`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PutLease {
    /// No lease: a key that had one is detached from it.
    #[default]
    None,
    /// This lease: a key that had another is moved to it.
    Attach(LeaseId),
    /// Keep the one that is there; [`ErrorKind::KeyNotFound`](crate::ErrorKind) when the key does not exist.
    Keep,
}

/// Writes one key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct PutRequest {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: PutValue,
    /// Its lease.
    pub lease: PutLease,
    /// Return the pair that was there before.
    pub prev_kv: bool,
}

impl PutRequest {
    /// Puts `value` under `key`, without a lease.
    pub fn new(key: impl Into<Key>, value: impl Into<Bytes>) -> PutRequest {
        PutRequest {
            key: key.into(),
            value: PutValue::Set(value.into()),
            lease: PutLease::None,
            prev_kv: false,
        }
    }

    /// Attaches the key to `lease`.
    pub fn with_lease(mut self, lease: LeaseId) -> PutRequest {
        self.lease = PutLease::Attach(lease);
        self
    }

    /// Asks for the pair that was there before.
    pub fn with_prev_kv(mut self) -> PutRequest {
        self.prev_kv = true;
        self
    }
}

/// The answer to a [`PutRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutResponse {
    /// Who answered, and the revision of this put.
    pub header: Header,
    /// What was there before, when asked for.
    pub prev_kv: Option<KeyValue>,
}

/// Deletes keys. Deleting nothing is no error and takes no revision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct DeleteRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Return the pairs that were deleted, in key order.
    pub prev_kv: bool,
}

impl DeleteRequest {
    /// Deletes all of `range`. A single key converts to a range.
    pub fn new(range: impl Into<KeyRange>) -> DeleteRequest {
        DeleteRequest {
            range: range.into(),
            prev_kv: false,
        }
    }

    /// Asks for the deleted pairs.
    pub fn with_prev_kv(mut self) -> DeleteRequest {
        self.prev_kv = true;
        self
    }
}

/// The answer to a [`DeleteRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteResponse {
    /// Who answered, and the revision of this delete.
    pub header: Header,
    /// How many keys were deleted.
    pub deleted: u64,
    /// The deleted pairs in key order, when asked for.
    pub prev_kvs: Vec<KeyValue>,
}
