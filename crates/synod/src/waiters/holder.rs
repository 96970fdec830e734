//! [`Holder`]: who holds something, for people and for error messages.

use bytes::Bytes;
use synod_store::{Key, KeyValue, LeaseId};

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The holder's key.
    pub key: Key,
    /// What it says of itself, see
    /// [`ConnectOptions::with_identity`](crate::ConnectOptions::with_identity). Empty for Go programs.
    pub identity: Bytes,
    /// Its fencing token.
    pub fencing_token: u64,
    /// The lease whose end releases the lock; a key that somebody put by hand may have none.
    pub lease: Option<LeaseId>,
    /// How many wait.
    pub waiters: usize,
}

impl Holder {
    pub(crate) fn new(kv: KeyValue, waiters: usize) -> Holder {
        Holder {
            key: kv.key,
            identity: kv.value,
            fencing_token: kv.create_revision.0,
            lease: kv.lease,
            waiters,
        }
    }
}
