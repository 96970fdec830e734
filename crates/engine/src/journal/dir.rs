//! The data directory as a whole: whose it is, which format it has, and what lies in it.
//!
//! ```text
//! LOCK                        locked while the directory is open; holds the holder's process id
//! FORMAT                      "synod data, format 1"; written when the first segment is durable
//! 00000000000000000001.log    segments of the log, numbered without a gap
//! 00000000000000000007.snap   the state before segment 7: older segments are not needed; none is numbered 1 (but by
//!                             a restore with an earlier build)
//! spare.0, spare.1 ...        segments in reserve
//! *.tmp                       not finished; removed at the next opening
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::JournalError;
use super::fs::{File, Fs, LockError, above, create_anew, read_all};
use super::{FORMAT, Options, segment, snapshot};

const LOCK: &str = "LOCK";
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_TEMPORARY: &str = "FORMAT.tmp";
const FORMAT_WORDS: &str = "synod data, format ";

/// A locked data directory. The log and a running snapshot share it.
pub(super) struct Home<F: Fs> {
    pub(super) fs: F,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    /// The directory itself, open: between a rename and the sync that makes it durable nothing may be missing.
    open: F::Dir,
    _lock: F::Lock,
}

/// What lies in a data directory.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Sorted.
    pub(super) segments: Vec<u64>,
    /// Sorted.
    pub(super) snapshots: Vec<u64>,
    /// Left by something that did not finish.
    pub(super) unfinished: Vec<String>,
    pub(super) spares: Vec<String>,
    /// Whether it has a `FORMAT` file.
    pub(super) formatted: bool,
    /// A name that is none of ours.
    foreign: Option<String>,
}

impl Contents {
    fn read<F: Fs>(fs: &F, dir: &Path) -> Result<Self, JournalError> {
        let not_ours = |reason: &str| JournalError::NotASynodDirectory {
            dir: dir.to_owned(),
            reason: reason.to_owned(),
        };
        let names = fs.list(dir).map_err(|e| match e.kind() {
            io::ErrorKind::NotADirectory => not_ours("it is a file"),
            io::ErrorKind::NotFound => not_ours("there is nothing of this name"),
            _ => JournalError::io(dir)(e),
        })?;
        let mut found = Self::default();
        for name in names {
            if let Some(number) = segment::parse(&name) {
                found.segments.push(number);
            } else if let Some(number) = snapshot::parse(&name) {
                found.snapshots.push(number);
            } else if segment::SPARES.contains(&name.as_str()) {
                found.spares.push(name);
            } else if name == FORMAT_FILE {
                found.formatted = true;
            } else if is_unfinished(&name) {
                found.unfinished.push(name);
            } else if name != LOCK {
                found.foreign = Some(name);
            }
        }
        found.segments.sort_unstable();
        found.snapshots.sort_unstable();
        Ok(found)
    }

    /// Refuses what this build cannot read. True if the directory has yet to be made a data directory.
    pub(super) fn check<F: Fs>(&self, fs: &F, dir: &Path) -> Result<bool, JournalError> {
        let path = dir.join(FORMAT_FILE);
        let not_ours = |reason: String| JournalError::NotASynodDirectory {
            dir: dir.to_owned(),
            reason,
        };
        if !self.formatted {
            // A crash while it was made leaves at most the first segment, without a record.
            return match &self.foreign {
                Some(name) => Err(not_ours(format!("it holds {name:?} and no FORMAT file"))),
                None if self.segments.iter().any(|n| *n != 1) || !self.snapshots.is_empty() => {
                    Err(format_is_missing(dir))
                }
                None => Ok(true),
            };
        }
        let mut file = fs.open_read(&path).map_err(JournalError::io(&path))?;
        let text = read_all(&mut file).map_err(JournalError::io(&path))?;
        let version = std::str::from_utf8(&text).ok().and_then(|text| {
            text.strip_suffix('\n')?
                .strip_prefix(FORMAT_WORDS)?
                .parse()
                .ok()
        });
        match version {
            Some(FORMAT) => Ok(false),
            Some(found) if found > FORMAT => Err(JournalError::NewerFormat {
                dir: dir.to_owned(),
                found,
            }),
            _ => Err(not_ours("its FORMAT file is not one of ours".into())),
        }
    }
}

/// A directory without `FORMAT` that holds more than a crash leaves while it is made.
pub(super) fn format_is_missing(dir: &Path) -> JournalError {
    let reason = "this file is missing, beside data";
    JournalError::corrupt(&dir.join(FORMAT_FILE), 0, reason)
}

/// A directory of ours that has yet to become a data directory, or an empty one.
pub(super) fn is_no_store(dir: &Path) -> JournalError {
    JournalError::NotASynodDirectory {
        dir: dir.to_owned(),
        reason: "it has no FORMAT file, and no data".to_owned(),
    }
}

fn is_unfinished(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".tmp") else {
        return false;
    };
    ["FORMAT", "next", "spare"].contains(&stem) || snapshot::parse(stem).is_some()
}

fn locked<L>(dir: &Path, lock: Result<L, LockError>) -> Result<L, JournalError> {
    lock.map_err(|e| match e {
        LockError::Held(pid) => JournalError::InUse {
            dir: dir.to_owned(),
            pid,
        },
        LockError::Io(e) => JournalError::io(&dir.join(LOCK))(e),
    })
}

impl<F: Fs> Home<F> {
    /// Locks a data directory; creates it if it is missing or empty, and changes nothing in any other.
    /// True if it has yet to be given its first segment and format.
    pub(super) fn open(
        fs: F,
        dir: &Path,
        options: Options,
    ) -> Result<(Arc<Self>, Contents, bool), JournalError> {
        fs.create_dir(dir).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                let reason = "a file is in its place".to_owned();
                JournalError::NotASynodDirectory {
                    dir: dir.to_owned(),
                    reason,
                }
            }
            _ => JournalError::io(dir)(e),
        })?;
        // Looked at before the lock file is put there: a directory of somebody else's stays as it was.
        Contents::read(&fs, dir)?.check(&fs, dir)?;
        let lock = locked(dir, fs.lock(&dir.join(LOCK)))?;
        let contents = Contents::read(&fs, dir)?;
        let new = contents.check(&fs, dir)?;
        let open = fs.open_dir(dir).map_err(JournalError::io(dir))?;
        let home = Self {
            fs,
            dir: dir.to_owned(),
            options,
            open,
            _lock: lock,
        };
        Ok((Arc::new(home), contents, new))
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.fs
            .sync_open_dir(&self.open)
            .map_err(JournalError::io(&self.dir))
    }

    /// Makes it a data directory. Its first segment is there, durable, by now.
    pub(super) fn format(&self) -> Result<(), JournalError> {
        let path = self.dir.join(FORMAT_TEMPORARY);
        let write = || {
            let mut file = create_anew(&self.fs, &path)?;
            file.write_at(0, format!("{FORMAT_WORDS}{FORMAT}\n").as_bytes())?;
            file.sync()?;
            self.fs.rename(&path, &self.dir.join(FORMAT_FILE))?;
            self.fs.sync_open_dir(&self.open)?;
            // Its own name in the directory above; one that cannot be opened there is not ours to sync.
            let _ = self.fs.sync_dir(above(&self.dir));
            Ok(())
        };
        write().map_err(JournalError::io(&path))
    }

    /// The bytes that the log and its snapshots take, added up anew.
    pub(super) fn measure(&self) -> Result<u64, JournalError> {
        let contents = Contents::read(&self.fs, &self.dir)?;
        let logs = contents.segments.iter().map(|n| segment::name(*n));
        let snapshots = contents.snapshots.iter().map(|n| snapshot::name(*n));
        let mut sum = 0;
        for name in logs.chain(snapshots).chain(contents.spares) {
            let path = self.dir.join(name);
            // One that a finishing snapshot has just taken away counts no more.
            sum += match self.fs.open_read(&path).and_then(|mut f| f.len()) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
                bytes => bytes.map_err(JournalError::io(&path))?,
            };
        }
        Ok(sum)
    }
}

/// Looks at a directory that is not open, without changing it; the lock is held while the result lives. Whether its
/// `FORMAT` is missing beside data, the caller has yet to see.
pub(super) fn look<F: Fs>(fs: &F, dir: &Path) -> Result<(Option<F::Lock>, Contents), JournalError> {
    let contents = Contents::read(fs, dir)?;
    match contents.check(fs, dir) {
        Ok(true) if contents.segments.is_empty() => return Err(is_no_store(dir)),
        Ok(_) | Err(JournalError::Corrupt { .. }) => {}
        Err(e) => return Err(e),
    }
    let lock = match fs.lock_shared(&dir.join(LOCK)) {
        // A backup may come without its lock file; then nobody has it open.
        Err(LockError::Io(e)) if e.kind() == io::ErrorKind::NotFound => None,
        lock => Some(locked(dir, lock)?),
    };
    Ok((lock, Contents::read(fs, dir)?))
}
