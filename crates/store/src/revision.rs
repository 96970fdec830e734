//! The numbers of a store: [`Revision`], [`LeaseId`] and the [`Header`] that each answer carries.

use std::fmt;
use std::num::NonZeroI64;

/// A point in a store's history: how many changing requests had been applied, plus one.
///
/// A fresh store is at revision 1. `Revision::ZERO` means *none*: the modification revision of a
/// key that does not exist, or "the current revision" in a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// No revision: a key that does not exist, or "now" in a request.
    pub const ZERO: Revision = Revision(0);

    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }

    /// The revision before this one; zero stays zero.
    #[must_use]
    pub const fn prev(self) -> Revision {
        Revision(self.0.saturating_sub(1))
    }

    /// Whether this is [`Revision::ZERO`].
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The revision as the signed number that comparisons and the wire use.
    #[must_use]
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// A revision from a signed number; a negative one becomes zero.
    #[must_use]
    pub fn from_i64(number: i64) -> Revision {
        Revision(u64::try_from(number).unwrap_or(0))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Revision> for i64 {
    fn from(revision: Revision) -> i64 {
        revision.as_i64()
    }
}

/// The identity of a lease; never zero.
///
/// Shown as etcd's tools and Go's recipes write it: lower-case hexadecimal without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(NonZeroI64);

impl LeaseId {
    /// A lease id from a number; `None` for zero, which stands for "no lease".
    #[must_use]
    pub fn new(id: i64) -> Option<LeaseId> {
        NonZeroI64::new(id).map(LeaseId)
    }

    /// The id as a number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0.get()
    }

    /// The number for an optional lease: zero for none.
    #[must_use]
    pub fn to_i64(lease: Option<LeaseId>) -> i64 {
        lease.map_or(0, LeaseId::get)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Go prints a negative number with a sign, not as two's complement.
        if self.get() < 0 {
            f.write_str("-")?;
        }
        fmt::LowerHex::fmt(&self.get().unsigned_abs(), f)
    }
}

/// What every answer says about the store that gave it.
///
/// In the answers inside a [`TxnResponse`](crate::TxnResponse) only `revision` is set, as in etcd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Header {
    /// The cluster's identity; not zero.
    pub cluster_id: u64,
    /// The identity of the member that answered; not zero.
    pub member_id: u64,
    /// The store's revision when it answered.
    pub revision: Revision,
    /// The consensus term; an embedded store counts how often it was opened. Not zero.
    pub raft_term: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ids_print_as_go_prints_them() {
        let shown = |id| LeaseId::new(id).map(|id| id.to_string());
        assert_eq!(
            shown(0x694d_71dd_d3b4_5c17).as_deref(),
            Some("694d71ddd3b45c17")
        );
        assert_eq!(shown(10).as_deref(), Some("a"));
        assert_eq!(shown(-10).as_deref(), Some("-a"));
        assert_eq!(shown(i64::MIN).as_deref(), Some("-8000000000000000"));
        assert_eq!(shown(0), None);
    }
}
