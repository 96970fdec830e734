//! A file system in memory that fails on demand and can be stopped after any call: it keeps what was not synced
//! apart, and gives every image of the disk that a crash at that moment might leave (`images.rs`).

#[cfg(feature = "simulation")]
mod crash;
mod images;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fs::{File, Fs, LockError};

type Inode = usize;

/// A call that changes something.
#[derive(Debug, Clone)]
enum Op {
    Create(PathBuf, Inode),
    Write(Inode, u64, Vec<u8>),
    Sync(Inode),
    /// A failed one: the system forgets what it had to write, and what it has in memory looks clean.
    SyncLost(Inode),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
}

impl Op {
    /// The name that it changes; empty if none.
    fn path(&self) -> &Path {
        match self {
            Self::Create(path, _) | Self::Rename(path, _) | Self::Remove(path) => path,
            _ => Path::new(""),
        }
    }
}

#[derive(Default)]
struct State {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, Inode>,
    inodes: Vec<Vec<u8>>,
    ops: Vec<Op>,
    locks: BTreeMap<PathBuf, isize>,
    calls: usize,
    fail: Option<usize>,
    /// As what it fails.
    fail_as: Option<io::ErrorKind>,
    /// How many calls wanted a file descriptor, and which of them get none.
    opens: usize,
    no_descriptor: std::ops::Range<usize>,
    /// From this call on nothing is done any more.
    stop: Option<usize>,
    capacity: Option<usize>,
    faith: Faith,
    /// The file whose sync was answered and has yet to happen.
    promised: Option<Inode>,
}

/// What a sync that succeeds is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Faith {
    /// All that was written to the file is durable.
    #[default]
    Kept,
    /// Nothing: a disk that lies.
    Never,
    /// It happens with the next changing call: what an engine that acknowledges before its sync would stand on.
    Late,
}

/// A handle; clones share one disk.
#[derive(Clone, Default)]
pub(crate) struct Sim(Arc<Mutex<State>>);

fn apply(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let offset = offset as usize;
    bytes.resize(bytes.len().max(offset + data.len()), 0);
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

fn apply_name(names: &mut BTreeMap<PathBuf, Inode>, op: &Op) {
    match op {
        Op::Create(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Op::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Op::Remove(path) => {
            names.remove(path);
        }
        _ => {}
    }
}

impl Sim {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk with these files, all durable.
    fn with(dirs: BTreeSet<PathBuf>, files: BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let mut state = State {
            dirs,
            ..State::default()
        };
        for (path, bytes) in files {
            state.names.insert(path.clone(), state.inodes.len());
            state.ops.push(Op::Create(path, state.inodes.len()));
            state
                .ops
                .push(Op::Write(state.inodes.len(), 0, bytes.clone()));
            state.ops.push(Op::Sync(state.inodes.len()));
            state.inodes.push(bytes);
        }
        state
            .ops
            .extend(state.dirs.clone().into_iter().map(Op::SyncDir));
        Self(Arc::new(Mutex::new(state)))
    }

    /// How many changing calls were made.
    pub(crate) fn ops(&self) -> usize {
        self.state().ops.len()
    }

    /// How many files with this ending were ever begun.
    pub(crate) fn creations(&self, ending: &str) -> usize {
        let state = self.state();
        let begun = state.ops.iter().filter(
            |op| matches!(op, Op::Create(path, _) if path.to_string_lossy().ends_with(ending)),
        );
        begun.count()
    }

    /// How many bytes all files have together.
    pub(crate) fn used(&self) -> usize {
        self.state().used()
    }

    /// Lets the `n`th changing call from now on fail (0 is the next), and only that one.
    pub(crate) fn fail_call(&self, n: usize) {
        let mut state = self.state();
        state.fail = Some(state.calls + n);
        state.fail_as = None;
    }

    /// As [`Sim::fail_call`], for want of space.
    pub(crate) fn fill_at_call(&self, n: usize) {
        self.fail_call(n);
        self.state().fail_as = Some(io::ErrorKind::StorageFull);
    }

    /// Whether the failure asked for has happened.
    pub(crate) fn has_failed(&self) -> bool {
        let state = self.state();
        state.fail.is_some_and(|n| state.calls > n)
    }

    /// Lets `count` calls that want a file descriptor fail, after `n` more of them: too many files are open.
    pub(crate) fn refuse_descriptors(&self, n: usize, count: usize) {
        let mut state = self.state();
        let from = state.opens + n;
        state.no_descriptor = from..from.saturating_add(count);
    }

    /// What syncs of files are worth from now on: to see whether the checks notice.
    pub(crate) fn set_faith(&self, faith: Faith) {
        self.state().faith = faith;
    }

    /// How many bytes all files together may have.
    pub(crate) fn set_capacity(&self, bytes: Option<usize>) {
        self.state().capacity = bytes;
    }

    /// All files as a reader sees them now.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        state
            .names
            .iter()
            .map(|(p, i)| (p.clone(), state.inodes[*i].clone()))
            .collect()
    }

    /// A copy of the disk as a reader sees it now: what a killed process leaves, or `cp -a` makes.
    pub(crate) fn copy(&self) -> Self {
        let files = self.files();
        Self::with(self.state().dirs.clone(), files)
    }

    /// A copy with one file changed.
    pub(crate) fn with_file(&self, path: &Path, bytes: Option<Vec<u8>>) -> Self {
        let mut files = self.files();
        match bytes {
            Some(bytes) => files.insert(path.to_owned(), bytes),
            None => files.remove(path),
        };
        Self::with(self.state().dirs.clone(), files)
    }
}

impl State {
    /// Counts a changing call; an error if it is the one to fail.
    fn call(&mut self) -> io::Result<()> {
        if self.is_stopped() {
            return Err(io::Error::other("the power is gone"));
        }
        self.calls += 1;
        if let Some(inode) = self.promised.take() {
            self.ops.push(Op::Sync(inode));
        }
        if self.fail == Some(self.calls - 1) {
            let kind = self.fail_as.unwrap_or(io::ErrorKind::Other);
            return Err(io::Error::new(kind, "injected"));
        }
        Ok(())
    }

    /// Counts a call that wants a file descriptor; an error if it gets none.
    fn descriptor(&mut self) -> io::Result<()> {
        self.opens += 1;
        if self.no_descriptor.contains(&(self.opens - 1)) {
            // EMFILE
            return Err(io::Error::from_raw_os_error(24));
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| self.calls >= stop)
    }

    fn used(&self) -> usize {
        self.names.values().map(|i| self.inodes[*i].len()).sum()
    }

    fn name_op(&mut self, op: Op) {
        apply_name(&mut self.names, &op);
        self.ops.push(op);
    }
}

/// An open file of a [`Sim`].
pub(crate) struct SimFile {
    sim: Sim,
    inode: Inode,
    writable: bool,
}

/// A lock in a [`Sim`].
pub(crate) struct SimLock {
    sim: Sim,
    path: PathBuf,
    shared: bool,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        *self.sim.state().locks.entry(self.path.clone()).or_default() -=
            if self.shared { 1 } else { -1 };
    }
}

impl Sim {
    fn find(&self, path: &Path, writable: bool) -> io::Result<SimFile> {
        let inode = self
            .state()
            .names
            .get(path)
            .copied()
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFile {
            sim: self.clone(),
            inode,
            writable,
        })
    }

    fn take(&self, path: &Path, shared: bool) -> Result<SimLock, LockError> {
        let mut state = self.state();
        let held = state.locks.entry(path.to_owned()).or_default();
        if *held < 0 || (*held > 0 && !shared) {
            return Err(LockError::Held(Some(1)));
        }
        *held += if shared { 1 } else { -1 };
        Ok(SimLock {
            sim: self.clone(),
            path: path.to_owned(),
            shared,
        })
    }
}

impl Fs for Sim {
    type File = SimFile;
    type Lock = SimLock;
    type Dir = PathBuf;

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.descriptor()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(inside
            .filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state();
        state.descriptor()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.call()?;
        let inode = state.inodes.len();
        state.inodes.push(Vec::new());
        state.name_op(Op::Create(path.to_owned(), inode));
        Ok(SimFile {
            sim: self.clone(),
            inode,
            writable: true,
        })
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        self.state().descriptor()?;
        self.find(path, true)
    }

    fn open_read(&self, path: &Path) -> io::Result<SimFile> {
        self.state().descriptor()?;
        self.find(path, false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.call()?;
        state.name_op(Op::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.call()?;
        state.name_op(Op::Remove(path.to_owned()));
        Ok(())
    }

    fn open_dir(&self, dir: &Path) -> io::Result<PathBuf> {
        self.state().descriptor()?;
        Ok(dir.to_owned())
    }

    fn sync_open_dir(&self, dir: &PathBuf) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.ops.push(Op::SyncDir(dir.clone()));
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<SimLock, LockError> {
        let lock = self.take(path, false)?;
        if self.find(path, false).is_err() {
            self.create(path).map_err(LockError::Io)?;
        }
        Ok(lock)
    }

    fn lock_shared(&self, path: &Path) -> Result<SimLock, LockError> {
        self.find(path, false).map_err(LockError::Io)?;
        self.take(path, true)
    }
}

impl SimFile {
    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut state = self.sim.state();
        apply(&mut state.inodes[self.inode], offset, data);
        state.ops.push(Op::Write(self.inode, offset, data.to_vec()));
    }
}

impl File for SimFile {
    fn len(&mut self) -> io::Result<u64> {
        Ok(self.sim.state().inodes[self.inode].len() as u64)
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let state = self.sim.state();
        let from = state.inodes[self.inode]
            .get(offset as usize..)
            .unwrap_or_default();
        let n = from.len().min(bytes.len());
        bytes[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    /// A failing write leaves its first half, as a full disk does.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(self.writable, "a file opened for reading is written");
        let (called, room) = {
            let mut state = self.sim.state();
            let free = state
                .capacity
                .map_or(usize::MAX, |c| c.saturating_sub(state.used()));
            let within = state.inodes[self.inode]
                .len()
                .saturating_sub(offset as usize);
            (state.call(), free.saturating_add(within))
        };
        if called.is_err() {
            if !self.sim.state().is_stopped() {
                self.write(offset, &bytes[..bytes.len() / 2]);
            }
            return called;
        }
        if bytes.len() > room {
            self.write(offset, &bytes[..room]);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.write(offset, bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.sim.state();
        if state.is_stopped() {
            return state.call();
        }
        let called = state.call();
        let inode = self.inode;
        match (&called, state.faith) {
            (Err(_), _) => state.ops.push(Op::SyncLost(inode)),
            (Ok(()), Faith::Kept) => state.ops.push(Op::Sync(inode)),
            (Ok(()), Faith::Never) => {}
            (Ok(()), Faith::Late) => state.promised = Some(inode),
        }
        called
    }
}
