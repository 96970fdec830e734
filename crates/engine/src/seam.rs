//! What the engine asks of a journal.

use bytes::Bytes;

/// Why a group could not be made durable.
#[derive(Debug)]
pub(crate) enum JournalError {
    /// The disk is full; nothing of the group was kept.
    NoSpace(String),
    /// Only a reopen tells whether the group was kept.
    Failed(String),
}

/// An append-only log of opaque records.
pub(crate) trait Journal: Send {
    /// Appends the records of one group; they are durable when it returns.
    fn append(&mut self, group: &[Bytes]) -> Result<(), JournalError>;
}

/// The journal of a store that keeps nothing.
#[derive(Debug)]
pub(crate) struct Memory;

impl Journal for Memory {
    fn append(&mut self, _: &[Bytes]) -> Result<(), JournalError> {
        Ok(())
    }
}
