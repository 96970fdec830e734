//! A lease was granted, or has ended. Its keys' deletions are in a commit beside.

use prost::Message;

/// A lease begins.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LeaseGrant {
    /// Not zero.
    #[prost(sint64, tag = "1")]
    pub(crate) id: i64,
    #[prost(uint64, tag = "2")]
    pub(crate) ttl_seconds: u64,
}

/// A lease was revoked or has expired.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LeaseEnd {
    #[prost(sint64, tag = "1")]
    pub(crate) id: i64,
}
