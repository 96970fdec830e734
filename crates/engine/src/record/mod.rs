//! What the journal holds: one message a record, with stable numbers.
//!
//! | tag | kind | file | in the log | in snapshots |
//! |---|---|---|---|---|
//! | 1 | [`Identity`] | `identity.rs` | first record | yes |
//! | 2 | [`Opened`] | `identity.rs` | at each opening | no |
//! | 3 | [`Commit`] | `commit.rs` | each revision | each readable revision |
//! | 4 | [`LeaseGrant`] | `lease.rs` | yes | each lease |
//! | 5 | [`LeaseEnd`] | `lease.rs` | yes | no |
//! | 6 | [`Compaction`] | `compaction.rs` | yes | no |
//! | 7 | [`SnapshotStart`] | `snapshot.rs` | no | first |
//! | 8 | [`Base`] | `snapshot.rs` | no | what was there before the oldest readable revision |
//! | 9 | [`SnapshotEnd`] | `snapshot.rs` | no | last |
//! | 10 | [`Notes`] | `note.rs` | yes | all, in one or several |
//!
//! Records say what changed, not what was asked, so that replaying them decides nothing anew. Tags are never used again
//! for something else; a field may be added, and an unknown kind is refused.

mod commit;
mod compaction;
mod identity;
mod lease;
mod note;
mod snapshot;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message;

pub(crate) use commit::{Commit, CommitChange, encode as encode_commit};
pub(crate) use compaction::Compaction;
pub(crate) use identity::{FORMAT, Identity, Opened};
pub(crate) use lease::{LeaseEnd, LeaseGrant};
pub(crate) use note::{NoteChange, Notes};
pub(crate) use snapshot::{Base, SnapshotEnd, SnapshotStart};

/// A record of any kind.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(oneof = "Record", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    record: Option<Record>,
}

/// One record.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Record {
    #[prost(message, tag = "1")]
    Identity(Identity),
    #[prost(message, tag = "2")]
    Opened(Opened),
    #[prost(message, tag = "3")]
    Commit(Commit),
    #[prost(message, tag = "4")]
    LeaseGrant(LeaseGrant),
    #[prost(message, tag = "5")]
    LeaseEnd(LeaseEnd),
    #[prost(message, tag = "6")]
    Compaction(Compaction),
    #[prost(message, tag = "7")]
    SnapshotStart(SnapshotStart),
    #[prost(message, tag = "8")]
    Base(Base),
    #[prost(message, tag = "9")]
    SnapshotEnd(SnapshotEnd),
    #[prost(message, tag = "10")]
    Notes(Notes),
}

impl Record {
    /// The record as bytes.
    pub(crate) fn into_bytes(self) -> Bytes {
        let envelope = Envelope { record: Some(self) };
        envelope.encode_to_vec().into()
    }

    /// A record from bytes; says what is wrong with them.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Record, String> {
        let envelope = Envelope::decode(bytes).map_err(|error| error.to_string())?;
        envelope
            .record
            .ok_or_else(|| "a record of an unknown kind".to_owned())
    }
}
