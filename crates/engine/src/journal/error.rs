//! Why a data directory could not be opened, or a group of records not be made durable.

use std::io;
use std::path::{Path, PathBuf};

/// What went wrong with a data directory. Everything but `NoSpace`, `NoSegment`, `TooLarge` and a failed open asks for a
/// reopen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Another process (or another store in this one) has the directory open.
    #[error("{} is in use{}: a data directory is open in one process at a time; \
        to share it, have one process serve it and connect to that",
        .dir.display(), by(*.pid))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Who holds it, when the lock file says so.
        pid: Option<u32>,
    },
    /// Written by a newer Synod.
    #[error("{} has format {found}, this build reads up to {}: upgrade Synod", .dir.display(), super::FORMAT)]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Not a directory, or one that holds something else.
    #[error("{} is no Synod data directory: {reason}", .dir.display())]
    NotASynodDirectory {
        /// The path.
        dir: PathBuf,
        /// What told.
        reason: String,
    },
    /// Damage that no crash explains. Nothing was changed; a backup is the way back.
    #[error("{} is damaged at offset {offset}: {reason}", .file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The disk is full. Nothing of the group was kept; it may be tried again once there is space.
    #[error("no space left on the disk of {}", .dir.display())]
    NoSpace {
        /// The directory.
        dir: PathBuf,
    },
    /// The next file of the log could not be made ready, for another reason than space. The log was not touched: nothing
    /// of the group was kept, and the next one may be given at once.
    #[error("the next file of the log in {} could not be made: {source}{}", .dir.display(), way_out(.source))]
    NoSegment {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A group that no file of this format can hold; nothing was written.
    #[error("a record of {bytes} bytes is too large")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A call to the file system failed.
    #[error("{}: {source}{}", .path.display(), way_out(.source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier write or sync failed, so what is on disk is not known: only a reopen tells.
    #[error("{} failed to write earlier and must be opened again", .dir.display())]
    Poisoned {
        /// The directory.
        dir: PathBuf,
    },
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" by process {pid}"))
        .unwrap_or_default()
}

/// What helps when it is files that are too many.
fn way_out(error: &io::Error) -> &'static str {
    match too_many_files(error) {
        Some(Whose::Process) => {
            "; this process may open no more files: raise its limit (`ulimit -n`), or let it serve fewer connections"
        }
        Some(Whose::System) => {
            "; this system may open no more files: raise its limit (`sysctl fs.file-max`), or end what opens so many"
        }
        None => "",
    }
}

/// Whose bound on open files was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Process,
    System,
}

/// Whether a call failed for want of a file descriptor.
fn too_many_files(error: &io::Error) -> Option<Whose> {
    #[cfg(unix)]
    return match rustix::io::Errno::from_io_error(error)? {
        rustix::io::Errno::MFILE => Some(Whose::Process),
        rustix::io::Errno::NFILE => Some(Whose::System),
        _ => None,
    };
    // ERROR_TOO_MANY_OPEN_FILES
    #[cfg(not(unix))]
    return (error.raw_os_error() == Some(4)).then_some(Whose::Process);
}

impl JournalError {
    /// Names the path of a failed call.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// The same for a call that needs space in `dir`, whose want has an error of its own.
    pub(super) fn io_in(dir: &Path, path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| {
            if is_full(&source) {
                Self::NoSpace {
                    dir: dir.to_owned(),
                }
            } else {
                Self::io(path)(source)
            }
        }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            file: file.to_owned(),
            offset,
            reason: reason.into(),
        }
    }

    /// Whether it is a group's refusal that passes when somebody lets go of a file.
    pub(crate) fn is_for_want_of_files(&self) -> bool {
        matches!(self, Self::NoSegment { source, .. } if too_many_files(source).is_some())
    }

    /// Whether the call failed for want of space.
    pub(crate) fn is_no_space(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => is_full(source),
            _ => false,
        }
    }
}

/// A full disk and a used-up quota are one thing to who waits for space.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
