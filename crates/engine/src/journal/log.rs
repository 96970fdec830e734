//! The journal in a data directory: appends to the last segment, one write and one sync a group.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::dir::{self, Contents, Home};
use super::error::JournalError;
use super::fs::{Disk, File, Fs};
use super::recover::{self, End, Replay};
use super::segment::{self, Header, Prepared};
use super::snapshot::{self, Position};
use super::{Journal, Options, Snapshot, frame};

/// The largest group; the engine bounds its groups far below.
const MAX_GROUP: usize = 1 << 30;
/// A buffer that grew beyond this for one group is given back.
const KEEP_BUFFER: usize = 1 << 20;
/// What part of the usual size the segment has that follows a snapshot without room for more: a few changes.
const TIGHT: u64 = 64;
/// How often a reserve is tried for again that could not be made, for another reason than space. Tests do not wait.
const RESERVE_PAUSE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 1 });

/// A journal in a data directory, which it keeps locked.
pub(crate) struct FileJournal<F: Fs = Disk> {
    home: Arc<Home<F>>,
    file: F::File,
    header: Header,
    segment_bytes: u64,
    /// Where the next frame goes.
    at: u64,
    /// CRC of the last frame.
    chain: u32,
    /// Number of the next record.
    next: u64,
    /// Bytes of frames that no snapshot covers. One that is committed takes off those that it covers, on its thread.
    log_bytes: Arc<AtomicU64>,
    buffer: Vec<u8>,
    poisoned: bool,
    reserve: Reserve,
}

/// The segment in reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reserve {
    /// It was there, or was made, when it was looked for last.
    There,
    /// There was no room for it.
    NoSpace,
    /// It could not be made then for another reason, which says nothing about the space.
    Failed(Instant),
}

/// A snapshot that is whole before the log goes on behind it: should there be no room for it, the log has lost none.
struct Tight<'a, F: Fs> {
    log: &'a mut FileJournal<F>,
    /// The segment behind it, unless the log has just begun one.
    next: Option<Prepared<F>>,
    writer: snapshot::Writer<F>,
    /// How much more it may hold: with more room a segment of the usual size would have been made.
    room: u64,
}

impl<F: Fs> FileJournal<F> {
    /// Opens a data directory, makes it if it is missing or empty, and gives all that it holds to `replay`.
    pub(crate) fn open_in(
        fs: F,
        dir: &Path,
        options: Options,
        replay: Replay<'_>,
    ) -> Result<Self, JournalError> {
        let (home, contents, new) = Home::open(fs, dir, options)?;
        let mut journal = if new {
            Self::create(home, &contents)?
        } else {
            let end = recover::read(&home.fs, dir, &contents, replay)?;
            Self::settle(home, end)?
        };
        journal.clean(&contents);
        journal.reserve();
        Ok(journal)
    }

    /// Makes a new log; the directory becomes a data directory when its first segment is durable.
    fn create(home: Arc<Home<F>>, contents: &Contents) -> Result<Self, JournalError> {
        let fs = &home.fs;
        if !contents.segments.is_empty() {
            // An earlier attempt got this far. No record was ever appended before `FORMAT` was durable.
            let end = recover::read(fs, &home.dir, contents, &mut |_| Ok(()))?;
            if end.is_used() {
                return Err(dir::format_is_missing(&home.dir));
            }
        }
        let header = Header {
            number: 1,
            salt: salt(),
            first: 1,
            prev: 0,
            bytes: home.options.segment_bytes,
        };
        let prepared = segment::prepare(fs, &home.dir, header)?;
        prepared.publish(&home)?;
        home.format()?;
        Ok(Self {
            file: prepared.file,
            segment_bytes: prepared.header.bytes,
            home,
            header: prepared.header,
            at: segment::HEADER as u64,
            chain: 0,
            next: 1,
            log_bytes: Arc::default(),
            buffer: Vec::new(),
            poisoned: false,
            reserve: Reserve::There,
        })
    }

    /// Makes durable what was read, and the end of the log ready for the next frame.
    fn settle(home: Arc<Home<F>>, end: End) -> Result<Self, JournalError> {
        let path = home.dir.join(segment::name(end.header.number));
        let mut file = home.fs.open(&path).map_err(JournalError::io(&path))?;
        let mut settle = || {
            // Written again, not only synced: after a failed sync the system may take pages for clean that
            // never reached the disk, and what replay has seen must not be lost any more.
            if let Some(frame) = &end.last_frame {
                file.write_at(end.at - frame.len() as u64, frame)?;
            }
            if end.torn {
                let room = end.segment_bytes.saturating_sub(end.at);
                let zeros = [0; frame::HEADER];
                let len = usize::try_from(room).map_or(zeros.len(), |room| room.min(zeros.len()));
                file.write_at(end.at, zeros.get(..len).unwrap_or_default())?;
            }
            if home.options.sync && (end.torn || end.last_frame.is_some()) {
                file.sync()?;
            }
            Ok(())
        };
        settle().map_err(JournalError::io(&path))?;
        if home.options.sync {
            // Before anything is removed that an older view of the directory would need.
            home.sync()?;
        }
        Ok(Self {
            file,
            home,
            header: end.header,
            segment_bytes: end.segment_bytes,
            at: end.at,
            chain: end.chain,
            next: end.next,
            log_bytes: Arc::new(AtomicU64::new(end.log_bytes)),
            buffer: Vec::new(),
            poisoned: false,
            reserve: Reserve::There,
        })
    }

    /// Removes what is not needed any more. Best effort: it is in nobody's way but for its space.
    fn clean(&self, contents: &Contents) {
        let Home { fs, dir, .. } = self.home.as_ref();
        let newest = contents.snapshots.last().copied().unwrap_or(0);
        let segments = contents.segments.iter().filter(|n| **n < newest);
        let snapshots = contents.snapshots.iter().filter(|n| **n < newest);
        let names = segments
            .map(|n| segment::name(*n))
            .chain(snapshots.map(|n| snapshot::name(*n)));
        for name in names.chain(contents.unfinished.iter().cloned()) {
            let _ = fs.remove(&dir.join(name));
        }
    }

    /// Goes on in a new segment that has room for a frame of `group` bytes. On `NoSpace` and `NoSegment` nothing has
    /// changed.
    fn roll(&mut self, group: usize) -> Result<(), JournalError> {
        let usual = self.home.options.segment_bytes;
        let next = self.prepare(usual.max((segment::HEADER + group + frame::HEADER) as u64))?;
        self.go_on(next)
    }

    /// Makes the next segment ready. Whatever fails in here, the log is as it was: a file of another name is all that
    /// there may be.
    fn prepare(&self, bytes: u64) -> Result<Prepared<F>, JournalError> {
        let header = Header {
            number: self.header.number + 1,
            salt: salt(),
            first: self.next,
            prev: self.chain,
            bytes,
        };
        segment::prepare(&self.home.fs, &self.home.dir, header)
    }

    /// Goes on in a segment that was made ready since the last append.
    fn go_on(&mut self, next: Prepared<F>) -> Result<(), JournalError> {
        // Once it may have its name, an append to the segment before would be a hole.
        self.poisoned = true;
        if let Err(error) = next.publish(&self.home) {
            if matches!(error, JournalError::NoSpace { .. }) {
                next.give_up(&self.home);
                self.poisoned = false;
            }
            return Err(error);
        }
        self.seal()?;
        self.poisoned = false;

        self.header = next.header;
        self.file = next.file;
        self.segment_bytes = next.header.bytes;
        self.at = segment::HEADER as u64;
        self.reserve();
        Ok(())
    }

    /// Whether a snapshot needs a new segment behind it.
    fn must_roll(&self) -> bool {
        // Never before the first segment, with which a log without a snapshot begins: there, one that went missing
        // would not be missed.
        self.at > segment::HEADER as u64 || self.header.number == 1
    }

    /// A snapshot of all that was appended, before the segment of this number.
    fn snapshot(&self, segment: u64) -> Result<snapshot::Writer<F>, JournalError> {
        let position = Position {
            segment,
            next: self.next,
            chain: self.chain,
        };
        snapshot::Writer::new(&self.home, position, Arc::clone(&self.log_bytes))
    }

    /// Not having a reserve is no failure yet: the log goes on to the end of its segment.
    fn reserve(&mut self) {
        let Home {
            fs, dir, options, ..
        } = self.home.as_ref();
        self.reserve = match segment::reserve(fs, dir, options.segment_bytes) {
            Ok(()) => Reserve::There,
            Err(error) if error.is_no_space() => Reserve::NoSpace,
            // Whether there is room by now, it does not tell.
            Err(_) if self.reserve == Reserve::NoSpace => Reserve::NoSpace,
            Err(_) => Reserve::Failed(Instant::now()),
        };
    }

    /// Notes in the segment that is full that another one follows, so that its loss cannot pass for the end.
    fn seal(&mut self) -> Result<(), JournalError> {
        frame::encode(
            &mut self.buffer,
            self.header.salt,
            self.chain,
            self.next,
            &[],
        );
        self.write()
    }

    /// Puts the frame in the buffer behind the others, durably.
    fn write(&mut self) -> Result<(), JournalError> {
        let written = self.file.write_at(self.at, &self.buffer).and_then(|()| {
            if self.home.options.sync {
                self.file.sync()
            } else {
                Ok(())
            }
        });
        let path = || self.home.dir.join(segment::name(self.header.number));
        written.map_err(|source| JournalError::Io {
            path: path(),
            source,
        })
    }

    fn alive(&self) -> Result<(), JournalError> {
        let dir = || self.home.dir.clone();
        if self.poisoned {
            Err(JournalError::Poisoned { dir: dir() })
        } else {
            Ok(())
        }
    }
}

/// Never one whose low half is zero: the empty part of a segment would look like frames.
fn salt() -> u64 {
    rand::random::<u64>() | 1
}

impl<F: Fs> Journal for FileJournal<F> {
    fn append(&mut self, group: &[Bytes]) -> Result<(), JournalError> {
        self.alive()?;
        if group.is_empty() {
            return Ok(());
        }
        let len = frame::len(group);
        if len > MAX_GROUP {
            return Err(JournalError::TooLarge { bytes: len });
        }
        // Room for the seal is always left.
        if self.at + (len + frame::HEADER) as u64 > self.segment_bytes {
            self.roll(len)?;
        }
        let (salt, prev) = (self.header.salt, self.chain);
        let chain = frame::encode(&mut self.buffer, salt, prev, self.next, group);

        self.poisoned = true;
        self.write()?;
        self.poisoned = false;

        self.chain = chain;
        self.at += len as u64;
        self.next += group.len() as u64;
        self.log_bytes.fetch_add(len as u64, Ordering::Relaxed);
        if self.buffer.capacity() > KEEP_BUFFER {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn begin_snapshot(&mut self) -> Result<Box<dyn Snapshot>, JournalError> {
        self.alive()?;
        if self.must_roll() {
            self.roll(0)?;
        }
        Ok(Box::new(self.snapshot(self.header.number)?))
    }

    fn begin_tight_snapshot(&mut self) -> Result<Box<dyn Snapshot + '_>, JournalError> {
        self.alive()?;
        let usual = self.home.options.segment_bytes;
        let least = (segment::HEADER + frame::HEADER) as u64;
        let next = if self.must_roll() {
            Some(self.prepare(least.max(usual / TIGHT))?)
        } else {
            None
        };
        let number = self.header.number + u64::from(next.is_some());
        let writer = match self.snapshot(number) {
            Ok(writer) => writer,
            Err(error) => {
                if let Some(next) = next {
                    next.give_up(&self.home);
                }
                return Err(error);
            }
        };
        Ok(Box::new(Tight {
            room: usual,
            log: self,
            next,
            writer,
        }))
    }

    fn next_record(&self) -> u64 {
        self.next
    }

    fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    fn is_low_on_space(&mut self) -> bool {
        let again = match self.reserve {
            Reserve::There => false,
            Reserve::NoSpace => true,
            Reserve::Failed(at) => at.elapsed() >= RESERVE_PAUSE,
        };
        if again && !self.poisoned {
            self.reserve();
        }
        self.reserve == Reserve::NoSpace
    }

    fn size_on_disk(&self) -> Option<u64> {
        self.home.measure().ok()
    }
}

impl<F: Fs> Snapshot for Tight<'_, F> {
    fn write(&mut self, chunk: &[u8]) -> Result<(), JournalError> {
        let rest = self.room.checked_sub(chunk.len() as u64);
        self.room = rest.ok_or_else(|| JournalError::NoSpace {
            dir: self.log.home.dir.clone(),
        })?;
        self.writer.write(chunk)
    }

    fn commit(mut self: Box<Self>) -> Result<(), JournalError> {
        self.writer.finish()?;
        if let Some(next) = self.next.take() {
            self.log.go_on(next)?;
        }
        self.writer.publish()
    }
}

impl<F: Fs> Drop for Tight<'_, F> {
    fn drop(&mut self) {
        if let Some(next) = self.next.take() {
            next.give_up(&self.log.home);
        }
    }
}
