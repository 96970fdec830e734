//! Small things that are kept beside the keys, such as users and roles. They take no revision.

use bytes::Bytes;
use prost::Message;

/// Notes that were written together: after a crash all of them stand, or none.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Notes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) changes: Vec<NoteChange>,
}

/// One note, written or removed.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct NoteChange {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// Missing for a removal.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) text: Option<Bytes>,
}
