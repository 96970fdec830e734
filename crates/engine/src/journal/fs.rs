//! All that the journal asks of a file system, so that tests can put another one in its place.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A file system. Clones are handles to the same one.
pub(crate) trait Fs: Clone + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// Holds a lock until dropped.
    type Lock: Send + Sync + 'static;
    /// A directory that is kept open.
    type Dir: Send + Sync + 'static;

    /// The names of all entries of a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and its parents, for the owner alone; fine if it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Creates an empty file for the owner alone; fails if there is one.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file for reading only.
    fn open_read(&self, path: &Path) -> io::Result<Self::File>;
    /// Renames a file in place of any that is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Opens a directory, to sync it later: then, when a failure would come at the wrong moment, no descriptor is needed.
    fn open_dir(&self, dir: &Path) -> io::Result<Self::Dir>;
    /// Makes creations, renames and removals in an open directory durable.
    fn sync_open_dir(&self, dir: &Self::Dir) -> io::Result<()>;
    /// The same for one that is not kept open.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sync_open_dir(&self.open_dir(dir)?)
    }
    /// Locks a file for one owner, creates it if missing, and leaves this process's id in it.
    fn lock(&self, path: &Path) -> Result<Self::Lock, LockError>;
    /// Locks a file for many readers; changes nothing.
    fn lock_shared(&self, path: &Path) -> Result<Self::Lock, LockError>;
}

/// An open file.
pub(crate) trait File: Send + 'static {
    /// Its length.
    fn len(&mut self) -> io::Result<u64>;
    /// Fills as much of `bytes` as the file has from `offset` on.
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes at `offset`, growing the file if needed.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was written durable, the length included.
    fn sync(&mut self) -> io::Result<()>;
}

/// Why a lock was not to be had.
#[derive(Debug)]
pub(crate) enum LockError {
    /// By the process with this id, when known.
    Held(Option<u32>),
    Io(io::Error),
}

/// The real file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk;

impl Disk {
    /// Creates one directory for the owner alone; fails if anything is there.
    pub(crate) fn create_new_dir(self, dir: &Path) -> io::Result<()> {
        private_dir().create(dir)
    }
}

fn private_dir() -> fs::DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// A locked file of the real file system. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DiskLock {
    file: fs::File,
    exclusive: bool,
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        if self.exclusive {
            // An id that stays behind would be shown to somebody as the holder; nothing more depends on it.
            let _ = self.file.set_len(0);
        }
        // Closing the file is not enough: between the fork and the exec of a child that another thread starts, the child
        // has it open, too, and the next one to open the store would find it in use.
        let _ = self.file.unlock();
    }
}

fn options(private: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(private, 0o600);
    private
}

fn try_lock(file: fs::File, path: &Path, exclusive: bool) -> Result<DiskLock, LockError> {
    let tried = if exclusive {
        file.try_lock()
    } else {
        file.try_lock_shared()
    };
    match tried {
        Ok(()) => Ok(DiskLock { file, exclusive }),
        Err(fs::TryLockError::WouldBlock) => Err(LockError::Held(
            fs::read_to_string(path)
                .ok()
                .and_then(|text| text.trim().parse().ok()),
        )),
        Err(fs::TryLockError::Error(e)) => Err(LockError::Io(e)),
    }
}

impl Fs for Disk {
    type File = fs::File;
    type Lock = DiskLock;
    /// Windows has none: see [`Fs::sync_open_dir`].
    type Dir = Option<fs::File>;

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?
            .map(|e| Ok(e?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let new: Vec<&Path> = dir.ancestors().take_while(missing).collect();
        private_dir().recursive(true).create(dir)?;
        // Each is known by its name in the one above. One that cannot be opened there is not ours to sync.
        for path in new {
            let _ = self.sync_dir(above(path));
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<fs::File> {
        options(
            fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true),
        )
        .open(path)
    }

    fn open(&self, path: &Path) -> io::Result<fs::File> {
        fs::OpenOptions::new().read(true).write(true).open(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<fs::File> {
        fs::File::open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Option<fs::File>> {
        cfg!(unix).then(|| fs::File::open(dir)).transpose()
    }

    fn sync_open_dir(&self, dir: &Option<fs::File>) -> io::Result<()> {
        // Windows has no such call; its file systems log these changes themselves.
        dir.as_ref().map_or(Ok(()), fs::File::sync_all)
    }

    fn lock(&self, path: &Path) -> Result<DiskLock, LockError> {
        // Not truncated on opening: the id in it may be that of another holder.
        let file = options(fs::OpenOptions::new().read(true).write(true).create(true))
            .truncate(false)
            .open(path)
            .map_err(LockError::Io)?;
        let lock = try_lock(file, path, true)?;
        let pid = format!("{}\n", std::process::id());
        // For whoever comes next to read. A disk without room for it keeps nobody out.
        let _ = lock.file.set_len(0);
        let _ = (&lock.file).write_all(pid.as_bytes());
        Ok(lock)
    }

    fn lock_shared(&self, path: &Path) -> Result<DiskLock, LockError> {
        try_lock(fs::File::open(path).map_err(LockError::Io)?, path, false)
    }
}

impl File for fs::File {
    fn len(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.seek(SeekFrom::Start(offset))?;
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read(rest) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    // One call to the system instead of two: it is on the way of every commit.
    #[cfg(unix)]
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    #[cfg(not(unix))]
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A whole file.
pub(super) fn read_all(file: &mut impl File) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Creates a file that only this process knows of, in place of what an attempt cut short has left.
pub(super) fn create_anew<F: Fs>(fs: &F, path: &Path) -> io::Result<F::File> {
    match fs.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => fs.create(path),
    }
}

/// The directory that a path's own name stands in.
pub(crate) fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_is_free_although_a_child_has_its_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let lock = Disk.lock(&path).unwrap();
        assert!(
            matches!(Disk.lock(&path), Err(LockError::Held(Some(pid))) if pid == std::process::id())
        );
        // As in a child that has not come to its own program yet.
        let childs = lock.file.try_clone().unwrap();
        drop(lock);
        let again = Disk.lock(&path).unwrap();
        assert!(matches!(Disk.lock_shared(&path), Err(LockError::Held(_))));
        drop(childs);
        assert!(matches!(Disk.lock(&path), Err(LockError::Held(_))));
        drop(again);
        assert!(Disk.lock_shared(&path).is_ok());
    }
}
