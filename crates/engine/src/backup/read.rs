//! Reading a copy: every length, every checksum, and whether the records tell a story.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use synod_store::{Error, ErrorKind, Result};

use super::{BLOCK, FORMAT, HEADER, MAGIC, SHA256};
use crate::journal::{END, Item, JournalError, chunk_crc};
use crate::record::Record;
use crate::recover::{self, Recovery};

/// What a copy of a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it, in hexadecimal; also its last 32 bytes.
    pub sha256: String,
    /// The revision that it is of.
    pub revision: u64,
    /// The oldest readable revision; zero while none was compacted.
    pub compact_revision: u64,
    /// Keys that exist.
    pub keys: u64,
    /// Leases that live. Each has its whole time again once it is restored.
    pub leases: u64,
    /// What is kept beside the keys: users and roles.
    pub notes: u64,
    /// Who the store is that it was made of.
    pub cluster_id: u64,
}

/// Reads all of a copy and checks it. Blocks meanwhile, and needs as much memory as opening the store.
///
/// `progress` is told how many bytes of how many were read, and ends it by returning false.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] when it is damaged or was cut short, [`ErrorKind::NewerFormat`],
/// [`ErrorKind::InvalidArgument`] when it is none of Synod's, [`ErrorKind::Cancelled`] when `progress` ended it.
pub fn inspect(
    file: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Backup> {
    read(file.as_ref(), progress, &mut |_| Ok(()))
}

/// Reads and checks all of a copy, and hands its records out on the way: they are of use only when it ends well.
pub(super) fn read(
    path: &Path,
    progress: &mut dyn FnMut(u64, u64) -> bool,
    take: &mut dyn FnMut(Record) -> Result<(), JournalError>,
) -> Result<Backup> {
    let io = |error| recover::error(JournalError::io(path)(error));
    let file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut source = Source {
        path,
        file: BufReader::with_capacity(256 << 10, file),
        sha: Sha256::new(),
        at: 0,
        len,
        bytes: Vec::new(),
    };
    let mut chain = source.header()?;
    if len % BLOCK != SHA256 as u64 {
        return Err(source.damaged(len, "it was cut short: the end is missing"));
    }
    let mut recovery = Recovery::new();
    let (mut chunks, mut cluster_id) = (0_u64, 0);
    loop {
        if !progress(source.at, len) {
            return Err(ErrorKind::Cancelled.into());
        }
        let at = source.at;
        let (size, crc) = (source.number()?, source.number()?);
        let bytes = source.take(if size == END { 8 } else { size as usize })?;
        if chunk_crc(chain, size, bytes) != crc {
            return Err(source.damaged(at, "a checksum is wrong"));
        }
        if size == END {
            if *bytes != chunks.to_le_bytes() {
                return Err(source.damaged(at, "it does not hold what it should"));
            }
            break;
        }
        chain = crc;
        chunks = chunks.saturating_add(1);
        let item = Item::Chunk(bytes);
        let record = Record::from_bytes(bytes);
        let record = record.and_then(|record| recovery.take(item).map(|()| record));
        let record = record.map_err(|reason| source.damaged(at, &reason))?;
        if let Record::Identity(identity) = &record {
            cluster_id = identity.cluster_id;
        }
        take(record).map_err(recover::error)?;
    }
    let sha256 = source.end()?;
    let compact_revision = recovery.state().compacted().0;
    let (leases, notes) = (recovery.leases(), recovery.notes());
    let recovered = recovery
        .finish(Duration::ZERO)
        .map_err(|reason| source.damaged(len, &reason))?;
    Ok(Backup {
        bytes: len,
        sha256,
        revision: recovered.state.head().0,
        compact_revision,
        keys: recovered.state.live_keys(),
        leases,
        notes,
        cluster_id,
    })
}

/// A copy's file, read front to back.
struct Source<'a> {
    path: &'a Path,
    file: BufReader<File>,
    sha: Sha256,
    at: u64,
    len: u64,
    bytes: Vec<u8>,
}

impl Source<'_> {
    fn damaged(&self, at: u64, reason: &str) -> Error {
        let reason = format!("the copy is of no use: {reason}");
        recover::error(JournalError::corrupt(self.path, at, reason))
    }

    /// The checksum that the first chunk continues.
    fn header(&mut self) -> Result<u32> {
        // Where etcd's copies have the number of their own format.
        const BOLT: (usize, &[u8]) = (16, b"\xed\xda\x0c\xed");
        let none_of_ours = |path: &Path, reason: &str| {
            let text = format!("{} is no copy of a Synod store: {reason}", path.display());
            Error::new(ErrorKind::InvalidArgument, text)
        };
        let (at, mark) = BOLT;
        let mut head = [0; HEADER + 4];
        let mut found = 0;
        while let Some(rest) = head.get_mut(found..).filter(|rest| !rest.is_empty()) {
            match self.file.read(rest) {
                Ok(0) => break,
                Ok(count) => found += count,
                Err(error) => return Err(recover::error(JournalError::io(self.path)(error))),
            }
        }
        if head.get(at..) == Some(mark) {
            let reason = "it is a snapshot of etcd, which `etcdctl snapshot restore` takes";
            return Err(none_of_ours(self.path, reason));
        }
        let ours = head.get(..MAGIC.len()) == Some(MAGIC);
        if !ours {
            return Err(none_of_ours(self.path, "it does not begin like one"));
        }
        let number = |at: usize| {
            let bytes = head.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let crc = number(12);
        if found < HEADER || crc32fast::hash(head.get(..12).unwrap_or_default()) != crc {
            return Err(self.damaged(0, "its beginning is damaged"));
        }
        match number(8) {
            FORMAT => {}
            newer => {
                let text = format!(
                    "{} has format {newer}, this build reads up to {FORMAT}: upgrade Synod",
                    self.path.display()
                );
                return Err(Error::new(ErrorKind::NewerFormat, text));
            }
        }
        // A whole copy is longer than its first bytes by far.
        let file = File::open(self.path).map_err(JournalError::io(self.path));
        self.file = BufReader::with_capacity(256 << 10, file.map_err(recover::error)?);
        self.take(HEADER)?;
        Ok(crc)
    }

    fn number(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b)))
    }

    /// The next bytes, which must come before the checksum at the end.
    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.len.saturating_sub(SHA256 as u64);
        if count as u64 > end.saturating_sub(self.at) {
            return Err(self.damaged(self.at, "it was cut short, or a length is wrong"));
        }
        self.bytes.resize(count, 0);
        self.file
            .read_exact(&mut self.bytes)
            .map_err(|error| recover::error(JournalError::io(self.path)(error)))?;
        self.sha.update(&self.bytes);
        self.at = self.at.saturating_add(count as u64);
        Ok(&self.bytes)
    }

    /// The checksum at the end, in hexadecimal.
    fn end(&mut self) -> Result<String> {
        let padding = self
            .len
            .saturating_sub(SHA256 as u64)
            .saturating_sub(self.at);
        if padding >= BLOCK {
            return Err(self.damaged(self.at, "it goes on behind its end"));
        }
        let padding = usize::try_from(padding).unwrap_or(0);
        if self.take(padding)?.iter().any(|byte| *byte != 0) {
            return Err(self.damaged(self.at, "it goes on behind its end"));
        }
        let sum = std::mem::take(&mut self.sha).finalize();
        let mut found = [0; SHA256];
        self.file
            .read_exact(&mut found)
            .map_err(|error| recover::error(JournalError::io(self.path)(error)))?;
        if sum.as_slice() != found {
            return Err(self.damaged(self.at, "its checksum is wrong"));
        }
        let mut text = String::with_capacity(2 * SHA256);
        for byte in found {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(text)
    }
}
