//! [`restore()`]: a data directory from a copy.
//!
//! 1. Refuse a directory that holds anything.
//! 2. Build the store in `restore.tmp` inside it: the copy's records become the journal's first snapshot, but for who
//!    the store is, which is new.
//! 3. When the last checksum of the copy was right: move the files up, the one that makes it a data directory last.
//!
//! A crash before the end leaves a directory that is refused, never one that looks like a store with less in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use synod_store::{Error, ErrorKind, Result};

use super::read::{Backup, read};
use crate::engine::new_identity;
use crate::journal::{self, Disk, FileJournal, Fs, Journal, JournalError, above};
use crate::record::Record;
use crate::recover;

const BUILDING: &str = "restore.tmp";
/// What makes a directory a data directory.
const LAST: &str = "FORMAT";

/// Makes a data directory of a copy. It keeps the revisions; leases get their whole time again, and the store a new
/// identity, so that no client takes it for the old one. `dir` is made if it is missing, and must be empty.
///
/// Blocks meanwhile, and needs as much memory as opening the store. `progress` is told how many bytes of how many were
/// read, and ends it by returning false.
///
/// # Errors
///
/// Those of [`inspect`](super::inspect), and [`ErrorKind::InvalidArgument`] when the directory holds anything. The
/// directory is then as it was.
pub fn restore(
    file: impl AsRef<Path>,
    dir: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Backup> {
    let (file, dir) = (file.as_ref(), dir.as_ref());
    let failed = |error| recover::error(JournalError::io(dir)(error));
    let made = match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => false,
            Some(_) => return Err(not_empty(dir)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(failed(error)),
    };
    let building = dir.join(BUILDING);
    Disk.create_dir(dir).map_err(failed)?;
    // Of several restores at once only one makes it.
    Disk.create_new_dir(&building).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return not_empty(dir);
        }
        if made {
            let _ = fs::remove_dir(dir);
        }
        failed(error)
    })?;
    let clean_up = CleanUp {
        paths: if made {
            vec![building.clone(), dir.to_owned()]
        } else {
            vec![building.clone()]
        },
    };
    // Another may have come to its end since the first look.
    if Disk
        .list(dir)
        .map_err(failed)?
        .iter()
        .any(|name| name != BUILDING)
    {
        return Err(not_empty(dir));
    }
    let backup = build(file, &building, progress)?;
    move_up(&building, dir).map_err(failed)?;
    clean_up.forget();
    Ok(backup)
}

fn not_empty(dir: &Path) -> Error {
    let text = format!(
        "{} is not empty: restore into a new directory",
        dir.display()
    );
    Error::new(ErrorKind::InvalidArgument, text)
}

/// Removes directories that were made in vain.
struct CleanUp {
    paths: Vec<PathBuf>,
}

impl CleanUp {
    fn forget(mut self) {
        self.paths.clear();
    }
}

impl Drop for CleanUp {
    fn drop(&mut self) {
        for (index, path) in self.paths.iter().enumerate() {
            // Of the directory itself only what is empty: it may have got something that is not ours.
            let _ = if index == 0 {
                fs::remove_dir_all(path)
            } else {
                fs::remove_dir(path)
            };
        }
    }
}

/// Builds the store in a directory of its own.
fn build(file: &Path, dir: &Path, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Backup> {
    let options = journal::Options::default();
    let mut journal =
        FileJournal::open_in(Disk, dir, options, &mut |_| Ok(())).map_err(recover::error)?;
    let mut snapshot = journal.begin_snapshot().map_err(recover::error)?;
    let backup = read(file, progress, &mut |record| {
        let record = match record {
            Record::Identity(_) => Record::Identity(new_identity()),
            other => other,
        };
        snapshot.write(&record.into_bytes())
    })?;
    snapshot.commit().map_err(recover::error)?;
    drop(journal);
    Ok(backup)
}

/// Moves what was built up by one directory. Durable in this order: without its last file it is no data directory.
fn move_up(building: &Path, dir: &Path) -> io::Result<()> {
    for name in Disk.list(building)? {
        if name != LAST {
            Disk.rename(&building.join(&name), &dir.join(&name))?;
        }
    }
    Disk.sync_dir(dir)?;
    Disk.rename(&building.join(LAST), &dir.join(LAST))?;
    fs::remove_dir(building)?;
    Disk.sync_dir(dir)?;
    Disk.sync_dir(above(dir))
}
