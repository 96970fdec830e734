//! Checks a data directory that nobody has open, without changing it.

use std::path::{Path, PathBuf};

use super::dir;
use super::error::JournalError;
use super::fs::Fs;
use super::recover::{self, Item, Replay};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// The directory's format.
    pub(crate) format: u32,
    /// Number of the segment before which the newest snapshot stands.
    pub(crate) snapshot: Option<u64>,
    /// Chunks of the snapshot that could be read.
    pub(crate) snapshot_chunks: u64,
    /// Bytes of these chunks.
    pub(crate) snapshot_bytes: u64,
    /// Segments of the log that lie there, those that a snapshot covers not counted.
    pub(crate) segments: u64,
    /// Records that could be read.
    pub(crate) records: u64,
    /// Bytes of these records.
    pub(crate) record_bytes: u64,
    /// Where a frame was begun and not finished, as a crash leaves it. Opening cuts it; nothing that was
    /// acknowledged is lost.
    pub(crate) torn_tail: Option<u64>,
    /// The first damage that no crash explains: the directory will not open.
    pub(crate) damage: Option<Damage>,
}

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    pub(crate) reason: String,
}

/// Reads and checks everything. `inspect` sees each item and may call it damaged. Fails only where the directory
/// cannot be looked at: it is in use, of a newer format, none of ours, or not to be read.
pub(crate) fn verify<F: Fs>(
    fs: &F,
    path: &Path,
    inspect: Replay<'_>,
) -> Result<Report, JournalError> {
    let (_lock, contents) = dir::look(fs, path)?;
    let snapshot = contents.snapshots.last().copied();
    let mut report = Report {
        format: super::FORMAT,
        snapshot,
        snapshot_chunks: 0,
        snapshot_bytes: 0,
        segments: contents
            .segments
            .iter()
            .filter(|n| **n >= snapshot.unwrap_or(0))
            .count() as u64,
        records: 0,
        record_bytes: 0,
        torn_tail: None,
        damage: None,
    };
    let end = recover::read(fs, path, &contents, &mut |item| {
        inspect(item)?;
        match item {
            Item::Chunk(bytes) => {
                report.snapshot_chunks += 1;
                report.snapshot_bytes += bytes.len() as u64;
            }
            Item::Record(_, bytes) => {
                report.records += 1;
                report.record_bytes += bytes.len() as u64;
            }
        }
        Ok(())
    });
    // What opening says of a directory without `FORMAT`; the rest was read all the same, to tell what is intact.
    let end = match contents.check(fs, path) {
        Ok(false) => end,
        Ok(true) => end.and_then(|end| {
            Err(if end.is_used() {
                dir::format_is_missing(path)
            } else {
                dir::is_no_store(path)
            })
        }),
        Err(e) => Err(e),
    };
    match end {
        Ok(end) => report.torn_tail = end.torn.then_some(end.at),
        Err(JournalError::Corrupt {
            file,
            offset,
            reason,
        }) => {
            report.damage = Some(Damage {
                file,
                offset,
                reason,
            });
        }
        Err(e) => return Err(e),
    }
    Ok(report)
}
