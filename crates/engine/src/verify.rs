//! [`verify()`]: checks a data directory that nobody has open.

use std::path::{Path, PathBuf};
use std::time::Duration;

use synod_store::Result;

use crate::journal::{self, Disk};
use crate::recover::{self, Recovery};

/// What [`verify()`] found in a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The directory's format.
    pub format: u32,
    /// Whether there is a snapshot, without which the log goes back to the beginning.
    pub has_snapshot: bool,
    /// Records behind the snapshot.
    pub records: u64,
    /// Bytes of the snapshot and of these records.
    pub bytes: u64,
    /// The last revision.
    pub revision: u64,
    /// The oldest readable revision; zero while none was compacted.
    pub compact_revision: u64,
    /// Keys that exist.
    pub keys: u64,
    /// Leases that live.
    pub leases: u64,
    /// How often it was opened.
    pub opened: u64,
    /// Whether the last write is not whole, as a crash leaves one that was not acknowledged yet. Opening drops it. (A
    /// last write that rotted later looks the same.)
    pub torn_tail: bool,
    /// The first damage that no crash explains. With it the directory will not open, and the numbers above tell what
    /// was intact before it.
    pub damage: Option<Damage>,
}

/// Where a data directory is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

/// Reads all of a data directory without changing it: checksums, the records themselves, and whether each follows from
/// those before it. Blocks meanwhile, and needs as much memory as opening it.
///
/// # Errors
///
/// Only where the directory cannot be looked at: it is open ([`ErrorKind::InUse`](synod_store::ErrorKind)), of a newer
/// format, none of ours, or cannot be read. Damage is no error but part of the report.
pub fn verify(path: impl AsRef<Path>) -> Result<Report> {
    let path = path.as_ref();
    let mut recovery = Recovery::new();
    let found = journal::verify(&Disk, path, &mut |item| recovery.take(item));
    let found = found.map_err(recover::error)?;
    let mut report = Report {
        format: found.format,
        has_snapshot: found.snapshot.is_some(),
        records: found.records,
        bytes: found.snapshot_bytes.saturating_add(found.record_bytes),
        revision: recovery.state().head().0,
        compact_revision: recovery.state().compacted().0,
        keys: recovery.state().live_keys(),
        leases: recovery.leases(),
        opened: recovery.term(),
        torn_tail: found.torn_tail.is_some(),
        damage: found.damage.map(|damage| Damage {
            file: damage.file,
            offset: damage.offset,
            reason: damage.reason,
        }),
    };
    if report.damage.is_none()
        && let Err(reason) = recovery.finish(Duration::ZERO)
    {
        report.damage = Some(Damage {
            file: path.to_owned(),
            offset: 0,
            reason,
        });
    }
    Ok(report)
}
