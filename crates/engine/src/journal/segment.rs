//! Log segments: files of one size, filled with zeros before use, so that an append changes no metadata and its
//! sync writes nothing else. A retired one is kept to become the next.
//!
//! ```text
//! offset  bytes
//!      0  8      "SYNODLOG"
//!      8  4      format version
//!     12  4      CRC-32 of bytes 16 to 63
//!     16  8      number of the segment, as in its name
//!     24  8      salt, random
//!     32  8      number of the first record
//!     40  4      CRC of the last frame of the segment before
//!     44  8      length of the file when the segment was made; zero in those of earlier builds
//!     52  12     zeros
//!     64  ...    frames, one behind another; behind the last one zeros, or what a recycled file held before
//! ```
//!
//! The file has its whole length, durably, before it has its name, and is never cut: a shorter one has lost something
//! since. Every tail that a crash may leave lies within that length.

use std::io;
use std::path::{Path, PathBuf};

use super::dir::Home;
use super::error::{JournalError, is_full};
use super::frame::{u32_at, u64_at};
use super::fs::{File, Fs, create_anew};

/// Bytes before the first frame.
pub(super) const HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"SYNODLOG";
/// What a segment is long at least that does not say it: builds that did not note the length knew no smaller size.
const BYTES_OF_EARLIER: u64 = 4 << 20;

/// Segments in reserve, fresh or retired, waiting to be the next. One is always wanted; more retired ones are
/// kept than that, since filling a new file takes its time.
pub(super) const SPARES: [&str; 4] = ["spare.0", "spare.1", "spare.2", "spare.3"];
/// The same while it is being filled.
const SPARE_TEMPORARY: &str = "spare.tmp";
/// The next segment while it is being prepared.
const NEXT: &str = "next.tmp";

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) salt: u64,
    pub(super) first: u64,
    pub(super) prev: u32,
    /// The file's length, zero where it is not noted. Of one that is yet to be made, how long it must be at least.
    pub(super) bytes: u64,
}

/// Why a header cannot be used.
pub(super) enum BadHeader {
    Newer(u32),
    Damaged(&'static str),
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut body = Vec::with_capacity(HEADER);
        body.extend_from_slice(&self.number.to_le_bytes());
        body.extend_from_slice(&self.salt.to_le_bytes());
        body.extend_from_slice(&self.first.to_le_bytes());
        body.extend_from_slice(&self.prev.to_le_bytes());
        body.extend_from_slice(&self.bytes.to_le_bytes());
        body.resize(HEADER - 16, 0);
        let parts: [&[u8]; 4] = [
            MAGIC,
            &super::FORMAT.to_le_bytes(),
            &crc32fast::hash(&body).to_le_bytes(),
            &body,
        ];
        let mut bytes = [0; HEADER];
        for (to, from) in bytes.iter_mut().zip(parts.concat()) {
            *to = from;
        }
        bytes
    }

    /// How long the file was when its first frame was written, as far as is known.
    pub(super) fn length(&self, is_last: bool) -> u64 {
        match self.bytes {
            // What follows a segment tells by itself that it is complete; earlier builds went on behind one that was
            // cut where it held nothing.
            0 if is_last => BYTES_OF_EARLIER,
            noted => noted,
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let damaged = BadHeader::Damaged;
        let bytes = bytes
            .get(..HEADER)
            .ok_or(damaged("shorter than its header"))?;
        if !bytes.starts_with(MAGIC) {
            return Err(damaged("does not begin as a log segment"));
        }
        let read = || {
            let crc = u32_at(bytes, 12)? == crc32fast::hash(bytes.get(16..)?);
            let header = Self {
                number: u64_at(bytes, 16)?,
                salt: u64_at(bytes, 24)?,
                first: u64_at(bytes, 32)?,
                prev: u32_at(bytes, 40)?,
                bytes: u64_at(bytes, 44)?,
            };
            Some((u32_at(bytes, 8)?, crc.then_some(header)))
        };
        match read() {
            Some((version, _)) if version > super::FORMAT => Err(BadHeader::Newer(version)),
            Some((super::FORMAT, Some(header))) => Ok(header),
            _ => Err(damaged("the header's checksum is wrong")),
        }
    }
}

/// The file name of a segment. Names sort as numbers do.
pub(super) fn name(number: u64) -> String {
    format!("{number:020}.log")
}

/// The number in a segment's file name.
pub(super) fn parse(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// A segment that was made ready.
pub(super) struct Prepared<F: Fs> {
    pub(super) file: F::File,
    pub(super) header: Header,
    path: PathBuf,
}

/// Makes a segment ready under another name: at least as long as `header` asks for, header and length durable.
/// Nothing that the log holds is touched, so a failure may be followed by another try: it is `NoSpace` or `NoSegment`.
/// Whatever the log needs a descriptor for is open when this returns.
pub(super) fn prepare<F: Fs>(
    fs: &F,
    dir: &Path,
    mut header: Header,
) -> Result<Prepared<F>, JournalError> {
    let path = dir.join(NEXT);
    let mut fill = || -> io::Result<_> {
        let size = header.bytes;
        let (mut file, bytes) = match reuse(fs, dir, &path, size)? {
            Some(reused) => reused,
            None => (zeros(fs, &path, size)?, size),
        };
        header.bytes = bytes;
        file.write_at(0, &header.encode())?;
        file.sync()?;
        Ok(file)
    };
    let file = fill().map_err(|e| given_up(fs, dir, &path, e))?;
    Ok(Prepared { file, header, path })
}

/// Sees to it that a segment is in reserve, so that a full disk is noticed while there is still room to go on.
pub(super) fn reserve<F: Fs>(fs: &F, dir: &Path, size: u64) -> Result<(), JournalError> {
    let path = dir.join(SPARE_TEMPORARY);
    // None free means that all are there.
    let Some(spare) = free(fs, dir).filter(|_| spares(dir).all(|s| fs.open_read(&s).is_err()))
    else {
        return Ok(());
    };
    // Synced by the one that takes it into use; a name or zeros lost before that are no loss.
    let made = zeros(fs, &path, size).and_then(|_| fs.rename(&path, &spare));
    made.map_err(|e| given_up(fs, dir, &path, e))
}

/// What is left of a file that could not be made would take up the space that is missing.
fn given_up<F: Fs>(fs: &F, dir: &Path, path: &Path, e: io::Error) -> JournalError {
    let _ = fs.remove(path);
    let dir = dir.to_owned();
    if is_full(&e) {
        JournalError::NoSpace { dir }
    } else {
        JournalError::NoSegment { dir, source: e }
    }
}

fn spares(dir: &Path) -> impl Iterator<Item = PathBuf> {
    SPARES.iter().map(|name| dir.join(name))
}

/// A name in reserve that no file has.
fn free<F: Fs>(fs: &F, dir: &Path) -> Option<PathBuf> {
    spares(dir).find(|path| fs.open_read(path).is_err())
}

/// A large enough segment in reserve under its new name, if there is one.
fn reuse<F: Fs>(fs: &F, dir: &Path, path: &Path, size: u64) -> io::Result<Option<(F::File, u64)>> {
    let bytes = |spare: &Path| fs.open_read(spare).and_then(|mut f| f.len()).unwrap_or(0);
    let Some(spare) = spares(dir).find(|spare| bytes(spare) >= size) else {
        return Ok(None);
    };
    if fs.rename(&spare, path).is_err() {
        return Ok(None);
    }
    // Opened under the name that is the writer's alone: a snapshot's thread may put another file in the spare's place.
    let opened = fs.open(path).and_then(|mut file| {
        let bytes = file.len()?;
        Ok(Some((file, bytes)))
    });
    if opened.is_err() {
        // It is as good as before for the next try.
        let _ = fs.rename(path, &spare);
    }
    opened
}

fn zeros<F: Fs>(fs: &F, path: &Path, size: u64) -> io::Result<F::File> {
    let mut file = create_anew(fs, path)?;
    let block = vec![0; usize::try_from(size.min(1 << 20)).unwrap_or(1 << 20)];
    let mut at = 0;
    while at < size {
        let part = (size - at).min(block.len() as u64);
        file.write_at(at, block.get(..part as usize).unwrap_or_default())?;
        at += part;
    }
    Ok(file)
}

impl<F: Fs> Prepared<F> {
    /// Gives it its name in the log, durably. `NoSpace`: there was no room for the name, which it does not have then, as
    /// POSIX says. Any other failure leaves that open.
    pub(super) fn publish(&self, home: &Home<F>) -> Result<(), JournalError> {
        let path = home.dir.join(name(self.header.number));
        home.fs
            .rename(&self.path, &path)
            .map_err(JournalError::io_in(&home.dir, &path))?;
        home.sync()
    }

    /// Removes it: it is not needed after all.
    pub(super) fn give_up(self, home: &Home<F>) {
        let _ = home.fs.remove(&self.path);
    }
}

/// Puts a retired segment aside for reuse if it has the usual size, else removes it. Best effort: what stays
/// behind is removed at the next opening.
pub(super) fn retire<F: Fs>(fs: &F, dir: &Path, number: u64, usual: u64) {
    let path = dir.join(name(number));
    let bytes = fs.open_read(&path).and_then(|mut f| f.len()).ok();
    let place = free(fs, dir).filter(|_| bytes == Some(usual));
    if place.is_none_or(|place| fs.rename(&path, &place).is_err()) {
        let _ = fs.remove(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back_and_every_flipped_bit_noticed() {
        let header = Header {
            number: 3,
            salt: u64::MAX - 1,
            first: 17,
            prev: 5,
            bytes: 4096,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes).ok(), Some(header));
        for bit in 0..HEADER * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_header_without_a_length_is_of_a_build_that_knew_one_only() {
        let header = Header {
            number: 1,
            salt: 3,
            first: 1,
            prev: 0,
            bytes: 0,
        };
        let read = Header::decode(&header.encode()).ok().unwrap();
        let known = crate::journal::Options::default().segment_bytes;
        assert_eq!((read.length(true), read.length(false)), (known, 0));
        let noted = Header {
            bytes: 99,
            ..header
        };
        assert_eq!((noted.length(true), noted.length(false)), (99, 99));
    }

    #[test]
    fn names_are_parsed_strictly() {
        assert_eq!(parse(&name(42)), Some(42));
        for other in [
            "1.log",
            "spare.0",
            "0000000000000000000x.log",
            "00000000000000000001.log.tmp",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
