//! Who the store is, and how often it was opened.

use prost::Message;

/// The version of all record kinds together. A store with a higher one is refused.
pub(crate) const FORMAT: u32 = 1;

/// The identity that a store keeps for life.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Identity {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    /// Not zero.
    #[prost(fixed64, tag = "2")]
    pub(crate) cluster_id: u64,
    /// Not zero.
    #[prost(fixed64, tag = "3")]
    pub(crate) member_id: u64,
}

/// The store was opened once more.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Opened {
    /// How often it was by now.
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
}
