//! How much the operations of one transaction may look at and show together.
//!
//! A range may be as long as the store, and a transaction has many: one of a few kilobytes could hold up all writes for
//! minutes, and have an answer of many gigabytes. So an operation is refused once those before it have used up the room. One
//! alone always has enough, however long it is: it is worth no more than the same request by itself.
//!
//! The transaction is then refused whole, before anything of it is applied.

use synod_store::{Error, ErrorKind, KeyValue, Result};

use crate::range::PAGE;

/// Keys that may be looked at while writes wait, or while nothing can be forgotten; one that is shown counts as several (see [`PAGE`]).
const KEYS: usize = 4 << 20;

/// Bytes of pairs that may be shown.
const BYTES: usize = 256 << 20;

/// What a pair takes in an answer besides its key and value.
const PAIR_BYTES: usize = 64;

/// What is left.
#[derive(Debug)]
pub(crate) struct Room {
    keys: usize,
    bytes: usize,
}

impl Room {
    /// Of a transaction that writes. Others wait meanwhile.
    pub(crate) fn for_writes() -> Room {
        Room {
            keys: KEYS,
            bytes: BYTES,
        }
    }

    /// Of one that only reads: it gives way to others, so that only its answer matters.
    pub(crate) fn for_reads() -> Room {
        Room {
            keys: usize::MAX,
            bytes: BYTES,
        }
    }

    /// Of one that reads what is kept for it alone: all that others overwrite and compact meanwhile piles up, and the
    /// quota counts it.
    pub(crate) fn for_held_reads() -> Room {
        Room::for_writes()
    }

    /// Refuses the next operation when there is no room left.
    pub(crate) fn check(&self) -> Result<()> {
        if self.keys > 0 && self.bytes > 0 {
            return Ok(());
        }
        let kind = ErrorKind::TooManyOperations;
        Err(Error::new(
            kind,
            format!(
                "{}: together they look at more than {KEYS} keys, or show more than {BYTES} bytes",
                kind.text()
            ),
        ))
    }

    /// A whole page was looked at. What is left of the last one, or a single key, counts nothing: their number is bounded
    /// by that of operations.
    pub(crate) fn look_at_page(&mut self) {
        self.keys = self.keys.saturating_sub(PAGE);
    }

    /// These are in the answer.
    pub(crate) fn show<'p>(&mut self, pairs: impl IntoIterator<Item = &'p KeyValue>) {
        for pair in pairs {
            let bytes = pair.key.len().saturating_add(pair.value.len());
            self.bytes = self.bytes.saturating_sub(bytes.saturating_add(PAIR_BYTES));
        }
    }
}
