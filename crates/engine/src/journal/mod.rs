//! What makes the store durable: a journal of opaque records. It knows nothing of keys, revisions or leases.
//!
//! The engine's writer hands over the records of one group of transactions; when [`Journal::append`] returns,
//! they are on disk, by one write and one sync. [`Journal::begin_snapshot`] moves the log on to a new segment and
//! gives a [`Snapshot`] that another thread fills from the state as of that moment, while appends go on; its
//! commit retires the older segments. On a full disk [`Journal::begin_tight_snapshot`] takes its place. Opening a
//! directory replays the newest snapshot and every record behind it.
//!
//! # Files
//!
//! - `log.rs`: the journal in a data directory; `memory.rs`: the one that keeps nothing.
//! - `dir.rs`: what lies in the directory, its lock and its format.
//! - `segment.rs`, `frame.rs`, `snapshot.rs`: one stored thing each, with its layout at the head.
//! - `recover.rs`: reading it back, and what is refused; `verify.rs`: the same for who only looks.
//! - `modes.rs`: who else may touch the files.
//! - `fs.rs`: all that is asked of a file system; `sim.rs`: the one of the tests, which crashes and fails.
//!
//! # What is assumed of the medium
//!
//! - A sync that succeeds makes durable what was written to that file before, its length included; one on a
//!   directory does so for names. Without it anything may be lost, in any order, in units of 512 bytes.
//! - A unit of 512 bytes is written whole or not at all, so that bytes that stood before an append stay.
//! - A rename shows either the old file or the new one.
//! - After a failed sync nothing is known until the file is read again and written again.

mod dir;
mod error;
mod frame;
mod fs;
mod log;
mod memory;
#[cfg(unix)]
mod modes;
mod recover;
mod segment;
#[cfg(any(test, feature = "fuzzing", feature = "simulation"))]
#[cfg_attr(
    not(test),
    // The fuzz targets and the simulation use a part of what the tests need.
    allow(dead_code, missing_debug_implementations)
)]
#[allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "it stands in for a disk in tests: a call that makes no sense should end them"
)]
mod sim;
mod snapshot;
#[cfg(test)]
mod tests;
mod verify;

use bytes::Bytes;

pub(crate) use error::JournalError;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use frame::trust_frames;
pub(crate) use fs::{Disk, Fs, above};
pub(crate) use log::FileJournal;
pub(crate) use memory::Memory;
#[cfg(unix)]
pub(crate) use modes::warn_of_others;
pub(crate) use recover::Item;
#[cfg(test)]
pub(crate) use sim::Faith;
#[cfg(any(test, feature = "fuzzing", feature = "simulation"))]
pub(crate) use sim::Sim;
pub(crate) use snapshot::{END, chunk_crc};
pub(crate) use verify::verify;

/// The format of all files; each of them names it.
const FORMAT: u32 = 1;

/// How a data directory is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Whether what is acknowledged survives the loss of power. Without it only the end of the process is
    /// survived, and after a loss of power the directory may refuse to open.
    pub(crate) sync: bool,
    /// The usual size of a segment; a larger group gets one of its own size.
    pub(crate) segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: true,
            segment_bytes: 4 << 20,
        }
    }
}

/// An append-only log of opaque records, numbered from 1.
pub(crate) trait Journal: Send {
    /// Appends the records of one group; they are durable when it returns. A crash meanwhile leaves all of them
    /// or none.
    ///
    /// After `NoSpace`, `NoSegment` or `TooLarge` nothing was written and it may be called again; after any other error
    /// every later call fails with `Poisoned`, and only a reopen tells whether the group was kept.
    fn append(&mut self, group: &[Bytes]) -> Result<(), JournalError>;

    /// Begins a snapshot of the state after all records appended so far. Quick: it waits for one new segment, not
    /// for the snapshot. One at a time; dropped without a commit, it leaves nothing behind.
    fn begin_snapshot(&mut self) -> Result<Box<dyn Snapshot>, JournalError>;

    /// As [`Journal::begin_snapshot`], for a disk without room for another segment: one that is small goes on, with room
    /// for little. Nothing is given up before the snapshot is whole: what does not fit leaves also the room that the log has.
    /// The log stands still until it is dropped or committed; what is larger than a segment is refused as `NoSpace`.
    fn begin_tight_snapshot(&mut self) -> Result<Box<dyn Snapshot + '_>, JournalError>;

    /// The number that the next record will have.
    fn next_record(&self) -> u64;

    /// Bytes of log that no snapshot covers, nor one that failed: what a reopen would replay. Cheap, for deciding when
    /// the next snapshot is due.
    fn log_bytes(&self) -> u64;

    /// Whether the disk has no room for another segment behind the one in use. Appends still work, for as long as
    /// that one has room; the engine should now take only what frees space. While it is low each call tries anew,
    /// which costs about as much as a segment: ask once in a while.
    fn is_low_on_space(&mut self) -> bool;

    /// Bytes of all files, read from the directory; none when that cannot be read now.
    fn size_on_disk(&self) -> Option<u64>;
}

/// A snapshot while it is written, by any thread. It keeps the directory locked, so a journal that was dropped
/// meanwhile can be opened again only when the snapshot is done.
pub(crate) trait Snapshot: Send {
    /// Adds a chunk. Recovery gives the same chunks in the same order, each whole in memory: keep them small.
    fn write(&mut self, chunk: &[u8]) -> Result<(), JournalError>;

    /// Makes the snapshot durable, then retires all that it covers. A failure leaves the log as it was.
    fn commit(self: Box<Self>) -> Result<(), JournalError>;
}
