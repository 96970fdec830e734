//! Reads a data directory back: the newest snapshot, then every record behind it, in order.
//!
//! At any moment at most one frame is not known to be durable, the last one: the next is written only after its
//! sync. So the only damage that a crash can do is to the last frame, and any other is refused:
//!
//! - A bad frame with a good one anywhere behind it is a hole.
//! - The next segment's header says with which frame and record the one before it ended, and the seal of a segment
//!   that there is a next one.
//! - A segment's header says how long its file is, and that was durable before the first frame: a shorter one was cut.
//! - A snapshot is whole under its name. It never stands before segment 1, with which a log begins that needs none: one
//!   that is missing leaves a log without its beginning.
//!
//! What cannot be told apart is a last frame that was torn and one that rotted later; and a log that ends from one whose
//! last frames were all overwritten with zeros, in a file of the right length.

use std::path::Path;

use super::dir::Contents;
use super::error::JournalError;
use super::frame::{self, Frame};
use super::fs::{Fs, read_all};
use super::segment::{self, BadHeader, Header};
use super::snapshot::{self, Position};

/// What is read, in this order: all chunks of the snapshot, if there is one, then the records behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A chunk of the snapshot, cut as it was written.
    Chunk(&'a [u8]),
    /// A record and its number; the first one ever is 1.
    Record(u64, &'a [u8]),
}

/// Takes what is read. An error is damage at the place of the item.
pub(crate) type Replay<'a> = &'a mut dyn FnMut(Item<'_>) -> Result<(), String>;

/// Where the log ends.
#[derive(Debug)]
pub(super) struct End {
    pub(super) header: Header,
    /// Where the next frame goes, in the last segment.
    pub(super) at: u64,
    pub(super) segment_bytes: u64,
    /// CRC of the last frame.
    pub(super) chain: u32,
    /// Number of the next record.
    pub(super) next: u64,
    /// The last frame of the last segment, if it has one: not known to be durable.
    pub(super) last_frame: Option<Vec<u8>>,
    /// Whether a frame was begun behind it and not finished.
    pub(super) torn: bool,
    pub(super) records: u64,
    /// Bytes of all frames read.
    pub(super) log_bytes: u64,
}

impl End {
    /// Whether anything was ever appended.
    pub(super) fn is_used(&self) -> bool {
        self.records > 0 || self.torn
    }
}

/// Reads everything; changes nothing.
pub(super) fn read<F: Fs>(
    fs: &F,
    dir: &Path,
    contents: &Contents,
    replay: Replay<'_>,
) -> Result<End, JournalError> {
    let snapshot = match contents.snapshots.last() {
        None => None,
        Some(number) => Some(snapshot::read(fs, dir, *number, &mut |c| {
            replay(Item::Chunk(c))
        })?),
    };
    if let (None, Some(first)) = (snapshot, contents.segments.first().filter(|n| **n > 1)) {
        let path = dir.join(snapshot::name(*first));
        let reason = format!(
            "this snapshot is missing (or the segments of the log that it covers, from {} on)",
            segment::name(1)
        );
        return Err(JournalError::corrupt(&path, 0, reason));
    }
    let start = snapshot.unwrap_or(Position {
        segment: 1,
        next: 1,
        chain: 0,
    });
    let numbers: Vec<u64> = contents
        .segments
        .iter()
        .copied()
        .filter(|n| *n >= start.segment)
        .collect();
    let last = numbers.last().copied().unwrap_or(start.segment);

    let mut end = None;
    let mut log = Log {
        next: start.next,
        chain: start.chain,
        records: 0,
        log_bytes: 0,
    };
    for number in start.segment..=last {
        let path = dir.join(segment::name(number));
        if let Err(at) = numbers.binary_search(&number) {
            let reason = match numbers.get(at) {
                None => "the log is missing".to_owned(),
                Some(next) => format!(
                    "this segment of the log is missing (or {}, the snapshot that covers it)",
                    snapshot::name(*next)
                ),
            };
            return Err(JournalError::corrupt(&path, 0, reason));
        }
        let mut file = fs.open_read(&path).map_err(JournalError::io(&path))?;
        let bytes = read_all(&mut file).map_err(JournalError::io(&path))?;
        let header = header(dir, &path, &bytes, number, &log)?;
        let (at, last_frame) = log.frames(&path, &bytes, &header, replay)?;
        let (found, expected) = (bytes.len() as u64, header.length(number == last));
        if found < expected {
            let reason = format!(
                "the file ends here, but it was {expected} bytes long before its first record was written: it has been \
                 cut, and records may be missing"
            );
            return Err(JournalError::corrupt(&path, found, reason));
        }
        let rest = bytes.get(at..).unwrap_or_default();
        if number == last && frame::decode(rest, header.salt).is_some() {
            let next = dir.join(segment::name(number + 1));
            return Err(JournalError::corrupt(
                &next,
                0,
                "this segment of the log is missing",
            ));
        }
        if let Some(good) = frame::find(rest, 1, header.salt) {
            let reason = format!(
                "a damaged record, with an intact one behind it at {}",
                at + good
            );
            return Err(JournalError::corrupt(&path, at as u64, reason));
        }
        end = Some((
            header,
            at,
            bytes.len(),
            last_frame,
            frame::begins(rest, header.salt),
        ));
    }
    let Some((header, at, segment_bytes, last_frame, torn)) = end else {
        let path = dir.join(segment::name(start.segment));
        return Err(JournalError::corrupt(&path, 0, "the log is missing"));
    };
    Ok(End {
        header,
        at: at as u64,
        segment_bytes: segment_bytes as u64,
        chain: log.chain,
        next: log.next,
        last_frame,
        torn,
        records: log.records,
        log_bytes: log.log_bytes,
    })
}

/// The header of a segment, which must go on where the one before ended.
fn header(
    dir: &Path,
    path: &Path,
    bytes: &[u8],
    number: u64,
    log: &Log,
) -> Result<Header, JournalError> {
    let header = Header::decode(bytes).map_err(|bad| match bad {
        BadHeader::Newer(found) => JournalError::NewerFormat {
            dir: dir.to_owned(),
            found,
        },
        BadHeader::Damaged(reason) => JournalError::corrupt(path, 0, reason),
    })?;
    let expected = Header {
        number,
        salt: header.salt,
        first: log.next,
        prev: log.chain,
        bytes: header.bytes,
    };
    if header == expected {
        return Ok(header);
    }
    let reason = if header.number == number {
        format!(
            "this segment goes on at record {}, but the log before it ends before record {}: \
             records are missing or damaged at its end",
            header.first, log.next
        )
    } else {
        format!("this is segment {}, under another's name", header.number)
    };
    Err(JournalError::corrupt(path, 0, reason))
}

/// How far the log has been read.
struct Log {
    next: u64,
    chain: u32,
    records: u64,
    log_bytes: u64,
}

impl Log {
    /// Reads the frames of a segment up to its seal or the first that is not whole; where that is, and the last
    /// frame of all.
    fn frames(
        &mut self,
        path: &Path,
        bytes: &[u8],
        header: &Header,
        replay: Replay<'_>,
    ) -> Result<(usize, Option<Vec<u8>>), JournalError> {
        let mut at = segment::HEADER;
        let mut last = None;
        while let Some(frame) = bytes.get(at..).and_then(|b| frame::decode(b, header.salt)) {
            let corrupt = |reason: String| JournalError::corrupt(path, at as u64, reason);
            if frame.prev != self.chain || frame.first != self.next {
                let reason = format!("record {} where {} belongs", frame.first, self.next);
                return Err(corrupt(reason));
            }
            if frame.count == 0 {
                break;
            }
            self.records(&frame, replay).map_err(corrupt)?;
            last = Some(at..at + frame.len());
            at += frame.len();
            self.chain = frame.crc;
        }
        self.log_bytes += (at - segment::HEADER) as u64;
        Ok((
            at,
            last.and_then(|range| bytes.get(range)).map(<[u8]>::to_vec),
        ))
    }

    fn records(&mut self, frame: &Frame<'_>, replay: Replay<'_>) -> Result<(), String> {
        for record in frame.records().flatten() {
            replay(Item::Record(self.next, record))?;
            self.next += 1;
            self.records += 1;
        }
        Ok(())
    }
}
