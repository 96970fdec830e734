//! What only snapshots hold. Between start and end lie the identity, the leases, the base and the commits.

use prost::Message;

use super::CommitChange;

/// What a snapshot is of.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct SnapshotStart {
    /// The last revision in it.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    /// The oldest readable revision; missing while none was compacted.
    #[prost(uint64, optional, tag = "2")]
    pub(crate) compacted: Option<u64>,
    /// How often the store was opened.
    #[prost(uint64, tag = "3")]
    pub(crate) term: u64,
    /// The revision of the base: commits follow from the next one on.
    #[prost(uint64, tag = "4")]
    pub(crate) base: u64,
}

/// Some of the keys as they were at the base, in key order.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Base {
    #[prost(message, repeated, tag = "1")]
    pub(crate) pairs: Vec<CommitChange>,
}

/// The snapshot is whole; the counts are checked.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct SnapshotEnd {
    #[prost(uint64, tag = "1")]
    pub(crate) leases: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) pairs: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) commits: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) notes: u64,
}
