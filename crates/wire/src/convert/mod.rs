//! Between etcd's messages and the words of `synod-store`, in both directions: a server decodes
//! requests and encodes answers, a client encodes requests and decodes answers.
//!
//! Where one message stands for one word, the conversion is `From` or `TryFrom`: requests are
//! encoded from a reference (a client may have to send them again, and bytes are shared, not
//! copied), everything else is converted by value. What needs more than one message (a
//! transaction's answer is checked against its request) is a function beside it.
//!
//! # What is trusted
//!
//! Nothing that a peer sent. A *request* is decoded as etcd reads it: negative limits and revisions
//! mean 0, a missing operand is 0 or empty; what etcd or its newer releases refuse, and an unknown
//! enum, is refused with etcd's error. An *answer* has to make sense: a missing header, a negative
//! count, an unknown enum or an answer of another kind than its operation is an error, which says
//! *maybe applied* for requests that change something, because they were.
//!
//! What the contract can express, such as an empty key, is left to the store to refuse.
//!
//! # Layout
//!
//! - [`kv`]: ranges of keys, range, put, delete, compaction. [`txn`]: transactions.
//! - [`watch`]: the commands and answers of a watch stream. [`lease`]: leases.
//! - [`status`]: status, alarms, members, hashes.
//! - [`error`]: gRPC codes and etcd's texts, and whether a failed request may have been applied.

pub mod error;
pub mod kv;
pub mod lease;
pub mod status;
pub mod txn;
pub mod watch;

use std::fmt::Display;

use synod_store::{Applied, Error, ErrorKind, Header, Result, Revision};

use crate::etcdserverpb as pb;

/// A request that makes no sense.
fn invalid(what: impl Display) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("invalid request: {what}"),
    )
}

/// An answer that makes no sense.
fn malformed(what: impl Display) -> Error {
    Error::new(ErrorKind::Other, format!("malformed answer: {what}"))
}

/// For answers to requests that change something: whatever the answer is, the request was served.
fn served(error: Error) -> Error {
    error.with_applied(Applied::Maybe)
}

/// A number of an answer that cannot be negative.
fn unsigned(what: &str, number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| malformed(format_args!("{what} is {number}")))
}

/// A revision of an answer.
fn revision(what: &str, number: i64) -> Result<Revision> {
    unsigned(what, number).map(Revision)
}

/// A number as the wire takes it; one that is too large becomes the largest.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl From<Header> for pb::ResponseHeader {
    fn from(header: Header) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: header.revision.as_i64(),
            raft_term: header.raft_term,
        }
    }
}

impl TryFrom<pb::ResponseHeader> for Header {
    type Error = Error;

    fn try_from(header: pb::ResponseHeader) -> Result<Header> {
        Ok(Header {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: revision("the header's revision", header.revision)?,
            raft_term: header.raft_term,
        })
    }
}

/// The header of a whole answer: it must be there.
fn header(header: Option<pb::ResponseHeader>) -> Result<Header> {
    header.ok_or_else(|| malformed("no header"))?.try_into()
}

/// The header of an answer inside a transaction's: etcd sets the revision alone, or nothing.
fn inner_header(header: Option<pb::ResponseHeader>) -> Result<Header> {
    header.unwrap_or_default().try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_and_negative_revisions_do_not() {
        let ours = Header {
            cluster_id: u64::MAX,
            member_id: 2,
            revision: Revision(3),
            raft_term: 4,
        };
        assert_eq!(header(Some(ours.into())).unwrap(), ours);
        assert!(header(None).is_err());
        assert_eq!(inner_header(None).unwrap(), Header::default());
        let negative = pb::ResponseHeader {
            revision: -1,
            ..ours.into()
        };
        assert!(header(Some(negative)).is_err());
    }

    #[test]
    fn numbers_that_the_wire_cannot_hold_become_its_largest() {
        assert_eq!(signed(u64::MAX), i64::MAX);
        assert_eq!(signed(7), 7);
    }
}
