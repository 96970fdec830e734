//! [`Isolation`]: how much a transaction is shielded from the others.

#[doc = include_str!("../../docs/isolation.md")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// Commits when nothing that was read has changed, nor what is written since the first read.
    /// Committed transactions are strictly serializable.
    #[default]
    SerializableSnapshot,
    /// Commits when nothing that was read has changed; a key that was only written may have been
    /// written by another meanwhile. Committed transactions are strictly serializable.
    Serializable,
    /// Each key keeps the value that was read first, which may be stale; commits when none of the
    /// keys that were read has changed. New keys in a range go unnoticed.
    RepeatableReads,
    /// As [`RepeatableReads`](Isolation::RepeatableReads), and always commits: updates of others can
    /// be lost.
    ReadCommitted,
}

impl Isolation {
    /// Whether all reads are of one state, that of the first.
    pub(super) fn is_snapshot(self) -> bool {
        matches!(
            self,
            Isolation::SerializableSnapshot | Isolation::Serializable
        )
    }

    /// Whether a commit compares what was read.
    pub(super) fn validates(self) -> bool {
        self != Isolation::ReadCommitted
    }
}
