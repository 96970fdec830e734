//! History was compacted.

use prost::Message;

/// Nothing below this revision is readable any more.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Compaction {
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
}
