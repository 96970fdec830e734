//! What a store says about itself: status, alarms, members, hashes, compaction.

use crate::{Header, Revision};

/// What a store says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusResponse {
    /// Who answered.
    pub header: Header,
    /// The version of etcd's API that is spoken, such as `3.5.1`.
    pub version: String,
    /// Bytes that the store takes up.
    pub db_size: u64,
    /// Bytes of it that are in use.
    pub db_size_in_use: u64,
    /// The leading member's identity; an embedded store leads itself.
    pub leader: u64,
    /// How many entries were committed; not zero.
    pub raft_index: u64,
    /// How many entries were applied; not zero.
    pub raft_applied_index: u64,
    /// Whether the member only learns.
    pub is_learner: bool,
    /// What is wrong, in words; empty when nothing is.
    pub errors: Vec<String>,
}

/// What a store complains of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlarmKind {
    /// The storage quota is used up: puts are refused, deletes and compaction go on.
    NoSpace,
    /// Stored data are damaged.
    Corrupt,
}

/// A complaint that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alarm {
    /// Whose.
    pub member_id: u64,
    /// What about.
    pub kind: AlarmKind,
}

/// A member of the cluster that a store is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it only learns.
    pub is_learner: bool,
}

/// The answer to a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactResponse {
    /// Who answered.
    pub header: Header,
}

/// A hash of a store's pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashResponse {
    /// Who answered.
    pub header: Header,
    /// The hash of everything visible at `hash_revision`; comparable between copies of one store,
    /// not between kinds of stores.
    pub hash: u32,
    /// The oldest revision that can be read.
    pub compact_revision: Revision,
    /// The revision that was hashed.
    pub hash_revision: Revision,
}
