//! Leases: a time to live that keys can be attached to; when it ends, they are deleted.

use std::time::Duration;

use crate::{Header, Key, LeaseId};

/// Asks for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct LeaseGrantRequest {
    /// The id, or `None` to let the store choose one. A used one is refused.
    pub id: Option<LeaseId>,
    /// Time to live, in whole seconds (rounded up). A store may raise it: ask the answer.
    pub ttl: Duration,
}

impl LeaseGrantRequest {
    /// A lease with an id that the store chooses.
    pub fn new(ttl: Duration) -> LeaseGrantRequest {
        LeaseGrantRequest { id: None, ttl }
    }

    /// A lease with this id.
    pub fn with_id(mut self, id: LeaseId) -> LeaseGrantRequest {
        self.id = Some(id);
        self
    }
}

/// The answer to a [`LeaseGrantRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseGrantResponse {
    /// Who answered.
    pub header: Header,
    /// The lease.
    pub id: LeaseId,
    /// The time to live that was granted, at least 2 s.
    pub ttl: Duration,
}

/// The answer to a revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRevokeResponse {
    /// Who answered, and the revision at which the lease's keys were deleted.
    pub header: Header,
}

/// The answer to a keep-alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseKeepAliveResponse {
    /// Who answered.
    pub header: Header,
    /// The full time to live, which counts from when the store renewed the lease: no earlier than
    /// the request was *sent*, which is what a careful client counts from.
    pub ttl: Duration,
}

/// The answer to the question how long a lease still lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseTimeToLiveResponse {
    /// Who answered.
    pub header: Header,
    /// The lease that was asked about.
    pub id: LeaseId,
    /// What is left of it; `None` when there is no such lease.
    pub remaining: Option<Duration>,
    /// The time to live that it was granted; zero when there is no such lease.
    pub granted: Duration,
    /// Its keys, in key order, when asked for.
    pub keys: Vec<Key>,
}

/// The answer to the question which leases there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseListResponse {
    /// Who answered.
    pub header: Header,
    /// The leases, in no particular order.
    pub leases: Vec<LeaseId>,
}
