//! Snapshots: the state at one point of the log, as opaque chunks, so that older segments may go.
//!
//! ```text
//! offset  bytes
//!      0  8      "SYNODSNP"
//!      8  4      format version
//!     12  4      CRC-32 of bytes 16 to 39
//!     16  8      number of the first segment that it does not cover, as in its name
//!     24  8      number of the first record that it does not cover
//!     32  4      CRC of the last frame that it covers
//!     36  4      zeros
//!     40  ...    chunks: length (4 bytes), CRC-32 of the CRC before, the length and the bytes (4 bytes), bytes
//!    end  16     length 0xFFFF_FFFF, CRC-32 of the CRC before and the count, count of the chunks (8 bytes)
//! ```
//!
//! A snapshot is written under another name, synced, renamed, and the directory synced, in this order: under its
//! name it is whole, so any damage in it is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Snapshot;
use super::dir::Home;
use super::error::JournalError;
use super::frame::{u32_at, u64_at};
use super::fs::{File, Fs, create_anew};
use super::segment;

const MAGIC: &[u8; 8] = b"SYNODSNP";
const HEADER: usize = 40;
/// Stands in the place of a length behind the last chunk.
pub(crate) const END: u32 = u32::MAX;
/// Chunks are gathered up to this size before a write ...
const WRITE: usize = 256 << 10;
/// ... and synced as they come, since one great sync at the end would hold up the log's small ones.
const SYNC: u64 = 8 << 20;

/// The file name of a snapshot that covers all segments below `number`.
pub(super) fn name(number: u64) -> String {
    format!("{number:020}.snap")
}

/// The number in a snapshot's file name.
pub(super) fn parse(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".snap")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// Where in the log a snapshot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The segment that follows.
    pub(super) segment: u64,
    /// The record that follows.
    pub(super) next: u64,
    /// CRC of the frame before.
    pub(super) chain: u32,
}

/// The checksum of a chunk, which continues that of the one before.
pub(crate) fn chunk_crc(before: u32, len: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&before.to_le_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Writes one snapshot; dropped before `commit`, it leaves nothing behind.
pub(super) struct Writer<F: Fs> {
    /// Keeps the directory locked, also when the journal itself is closed before.
    home: Arc<Home<F>>,
    temporary: PathBuf,
    position: Position,
    /// The journal's count of the bytes that no snapshot covers, and how many of them this one does.
    log_bytes: Arc<AtomicU64>,
    covered: u64,
    file: F::File,
    buffer: Vec<u8>,
    at: u64,
    synced: u64,
    chain: u32,
    chunks: u64,
    committed: bool,
}

impl<F: Fs> Writer<F> {
    /// `log_bytes` is the journal's count of what no snapshot covers: all of it belongs to this one.
    pub(super) fn new(
        home: &Arc<Home<F>>,
        position: Position,
        log_bytes: Arc<AtomicU64>,
    ) -> Result<Self, JournalError> {
        let Home { fs, dir, .. } = home.as_ref();
        let temporary = dir.join(format!("{}.tmp", name(position.segment)));
        let file = create_anew(fs, &temporary).map_err(JournalError::io_in(dir, &temporary))?;
        let mut body = Vec::new();
        body.extend_from_slice(&position.segment.to_le_bytes());
        body.extend_from_slice(&position.next.to_le_bytes());
        body.extend_from_slice(&position.chain.to_le_bytes());
        body.resize(HEADER - 16, 0);
        let crc = crc32fast::hash(&body);
        let buffer = [
            &MAGIC[..],
            &super::FORMAT.to_le_bytes(),
            &crc.to_le_bytes(),
            &body,
        ]
        .concat();
        Ok(Self {
            home: Arc::clone(home),
            temporary,
            position,
            covered: log_bytes.load(Ordering::Relaxed),
            log_bytes,
            file,
            buffer,
            at: 0,
            synced: 0,
            chain: crc,
            chunks: 0,
            committed: false,
        })
    }

    fn flush(&mut self, all: bool) -> Result<(), JournalError> {
        let mut write = || {
            self.file.write_at(self.at, &self.buffer)?;
            self.at += self.buffer.len() as u64;
            self.buffer.clear();
            if self.home.options.sync && (all || self.at - self.synced >= SYNC) {
                self.file.sync()?;
                self.synced = self.at;
            }
            Ok(())
        };
        write().map_err(JournalError::io_in(&self.home.dir, &self.temporary))
    }

    /// Makes it whole and durable, under the name that it is written by.
    pub(super) fn finish(&mut self) -> Result<(), JournalError> {
        let count = self.chunks.to_le_bytes();
        self.buffer.extend_from_slice(&END.to_le_bytes());
        self.buffer
            .extend_from_slice(&chunk_crc(self.chain, END, &count).to_le_bytes());
        self.buffer.extend_from_slice(&count);
        self.flush(true)
    }

    /// Gives it its name, and retires what it covers. It must be finished, and the segment behind it be there.
    pub(super) fn publish(&mut self) -> Result<(), JournalError> {
        let home = Arc::clone(&self.home);
        let path = home.dir.join(name(self.position.segment));
        home.fs
            .rename(&self.temporary, &path)
            .map_err(JournalError::io(&path))?;
        self.committed = true;
        if home.options.sync {
            home.sync()?;
        }
        // Only now: after a failure the log is as long as it was, and the next try is due accordingly.
        self.log_bytes.fetch_sub(self.covered, Ordering::Relaxed);
        self.purge();
        Ok(())
    }

    /// Retires what the snapshot covers. In any order: recovery looks at nothing before the newest snapshot.
    fn purge(&self) {
        let Home {
            fs, dir, options, ..
        } = self.home.as_ref();
        let Ok(names) = fs.list(dir) else { return };
        let below = |number: &u64| *number < self.position.segment;
        for number in names.iter().filter_map(|n| segment::parse(n)).filter(below) {
            segment::retire(fs, dir, number, options.segment_bytes);
        }
        for number in names.iter().filter_map(|n| parse(n)).filter(below) {
            let _ = fs.remove(&dir.join(name(number)));
        }
    }
}

impl<F: Fs> Snapshot for Writer<F> {
    fn write(&mut self, chunk: &[u8]) -> Result<(), JournalError> {
        let len = u32::try_from(chunk.len()).ok().filter(|len| *len != END);
        let len = len.ok_or(JournalError::TooLarge { bytes: chunk.len() })?;
        self.chain = chunk_crc(self.chain, len, chunk);
        self.chunks += 1;
        self.buffer.extend_from_slice(&len.to_le_bytes());
        self.buffer.extend_from_slice(&self.chain.to_le_bytes());
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() >= WRITE {
            self.flush(false)
        } else {
            Ok(())
        }
    }

    fn commit(mut self: Box<Self>) -> Result<(), JournalError> {
        self.finish()?;
        self.publish()
    }
}

impl<F: Fs> Drop for Writer<F> {
    fn drop(&mut self) {
        if !self.committed {
            let _ = self.home.fs.remove(&self.temporary);
        }
    }
}

/// Reads a file front to back in pieces.
struct Source<'a, F: File> {
    file: F,
    path: &'a Path,
    bytes: Vec<u8>,
    at: u64,
    len: u64,
}

impl<F: File> Source<'_, F> {
    /// The next `n` bytes.
    fn take(&mut self, n: usize) -> Result<&[u8], JournalError> {
        let start = self.at;
        let corrupt = || JournalError::corrupt(self.path, start, "the snapshot ends too early");
        if n as u64 > self.len.saturating_sub(self.at) {
            return Err(corrupt());
        }
        self.bytes.resize(n, 0);
        let read = self
            .file
            .read_at(start, &mut self.bytes)
            .map_err(JournalError::io(self.path))?;
        if read < n {
            return Err(corrupt());
        }
        self.at += n as u64;
        Ok(&self.bytes)
    }
}

/// Gives all chunks of a snapshot to `chunk`, each checked before, and tells where in the log it stands; any damage is
/// an error.
pub(super) fn read<F: Fs>(
    fs: &F,
    dir: &Path,
    number: u64,
    chunk: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<Position, JournalError> {
    let path = dir.join(name(number));
    let io = JournalError::io;
    let mut file = fs.open_read(&path).map_err(io(&path))?;
    let len = file.len().map_err(io(&path))?;
    let mut source = Source {
        file,
        path: &path,
        bytes: Vec::new(),
        at: 0,
        len,
    };
    let corrupt = |at, reason: &str| JournalError::corrupt(&path, at, reason);

    let header = source.take(HEADER)?;
    let version = u32_at(header, 8).filter(|_| header.starts_with(MAGIC));
    if let Some(found) = version.filter(|v| *v > super::FORMAT) {
        return Err(JournalError::NewerFormat {
            dir: dir.to_owned(),
            found,
        });
    }
    let fields = || {
        let body = header.get(16..)?;
        let crc = u32_at(header, 12).filter(|crc| *crc == crc32fast::hash(body))?;
        let position = Position {
            segment: u64_at(body, 0)?,
            next: u64_at(body, 8)?,
            chain: u32_at(body, 16)?,
        };
        (version? == super::FORMAT && position.segment == number).then_some((position, crc))
    };
    let (position, mut chain) =
        fields().ok_or_else(|| corrupt(0, "the snapshot's header is damaged"))?;

    let mut chunks = 0;
    loop {
        let at = source.at;
        let head = source.take(8)?;
        let (Some(len), Some(crc)) = (u32_at(head, 0), u32_at(head, 4)) else {
            return Err(corrupt(at, "the snapshot ends too early"));
        };
        let bytes = source.take(if len == END { 8 } else { len as usize })?;
        if chunk_crc(chain, len, bytes) != crc {
            return Err(corrupt(at, "a chunk's checksum is wrong"));
        }
        if len == END {
            let whole = u64_at(bytes, 0) == Some(chunks) && source.at == source.len;
            return whole
                .then_some(position)
                .ok_or_else(|| corrupt(at, "the snapshot's end is damaged"));
        }
        chain = crc;
        chunks += 1;
        chunk(bytes).map_err(|reason| JournalError::corrupt(&path, at, reason))?;
    }
}
