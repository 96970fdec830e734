//! What each process did and was told: a file of JSON lines a process, one line when an operation
//! begins and one when it ends, each written before the process goes on. So `kill -9` loses nothing
//! that was acknowledged, and what had begun shows as open.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::primitive::Primitive;

/// What was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// A value into a queue.
    Enqueue,
    /// A value out of a queue; an answer without a value when there was none.
    Dequeue,
    /// A delivery.
    Take,
    /// A delivery acknowledged.
    Ack,
    /// A delivery given back.
    Nack,
    /// A lock, a permit, a leadership; an answer without a token when the wait ran out.
    Acquire,
    /// What was acquired, given back.
    Release,
    /// A write through a guard that is held.
    Write,
    /// A read through a guard that is held.
    Read,
    /// A write under the token of a guard that was given back.
    StaleWrite,
    /// A leader's proclamation.
    Proclaim,
    /// Who leads?
    Leader,
    /// What an observer was shown.
    Observe,
    /// A barrier closed.
    Hold,
    /// A barrier opened; `yes` when it was held.
    Open,
    /// Through a barrier; `yes` when it was open before the wait ran out.
    Wait,
    /// Into a double barrier; `yes` when all had come.
    Enter,
    /// Out of a double barrier; `yes` when all had gone.
    Leave,
    /// Money moved between two accounts.
    Transfer,
    /// All accounts read.
    Audit,
    /// A register compared and swapped; `yes` when it was.
    Swap,
}

/// What the caller gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Args {
    /// A value, unique in the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The fencing token of the hold that the operation belongs to, or the number of an attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// How: `read`, `write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// A priority, a number of permits, an amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// What the caller was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// A value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A fencing token, an attempt, the number of a round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// The key of what is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The revision at which it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The place among those at one revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<u32>,
    /// Yes or no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yes: Option<bool>,
    /// What was read, by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reads: BTreeMap<String, String>,
}

/// How an operation ended, as its caller was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It happened.
    Ok(Answer),
    /// It did not happen, and will not.
    Failed(String),
    /// Nobody knows yet.
    Unknown {
        /// The error's words.
        error: String,
        /// What to resolve; none when the operation has no such thing.
        token: Option<String>,
    },
}

/// What was found out later about an operation in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Settled {
    /// It happened, once.
    Happened,
    /// Its conditions did not hold: it has changed nothing, and never will.
    Otherwise,
    /// It has not happened, and never will.
    NeverWill,
    /// Nothing tells any more.
    Forgotten,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: u64,
    /// Nanoseconds of the machine's clock that counts suspend: the same for all processes.
    at: u64,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Begin {
        primitive: Primitive,
        call: Call,
        task: String,
        args: Args,
    },
    End(Outcome),
    Settled(Settled),
    /// The process has ended in good order: everything that it began has ended.
    Closed,
}

/// An operation, from its call to what was found out last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The process: a name, and how often it was started before.
    pub worker: String,
    /// Which task of it.
    pub task: String,
    /// The operation's number in the process.
    pub id: u64,
    /// The primitive.
    pub primitive: Primitive,
    /// What was called.
    pub call: Call,
    /// With what.
    pub args: Args,
    /// When it began.
    pub began: u64,
    /// When it ended; `None` when its process was killed before.
    pub ended: Option<u64>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What was found out later.
    pub settled: Option<Settled>,
}

impl Entry {
    /// The answer, when there was one.
    #[must_use]
    pub fn ok(&self) -> Option<&Answer> {
        match &self.outcome {
            Some(Outcome::Ok(answer)) => Some(answer),
            _ => None,
        }
    }

    /// Whether its caller was left in doubt, or is dead.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        matches!(self.outcome, None | Some(Outcome::Unknown { .. }))
    }

    /// Whether it may have happened.
    #[must_use]
    pub fn may(&self) -> bool {
        !self.never()
    }

    /// Whether it is said not to have happened.
    #[must_use]
    pub fn never(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Failed(_)))
            || matches!(self.settled, Some(Settled::NeverWill | Settled::Otherwise))
    }

    /// Whether it is said to have happened.
    #[must_use]
    pub fn happened(&self) -> bool {
        self.ok().is_some() || self.settled == Some(Settled::Happened)
    }

    /// When it was over for certain; the end of time when it was left in doubt, as it may happen later.
    #[must_use]
    pub fn end(&self) -> u64 {
        match self.ended {
            Some(ended) if !self.in_doubt() => ended,
            _ => u64::MAX,
        }
    }

    /// The value that it was given.
    #[must_use]
    pub fn value(&self) -> &str {
        self.args.value.as_deref().unwrap_or_default()
    }
}

/// Nanoseconds of the machine's clock that counts suspend.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Where a process writes its history.
#[derive(Debug)]
pub struct Log {
    file: Mutex<File>,
    next: AtomicU64,
}

impl Log {
    /// A new file.
    ///
    /// # Errors
    ///
    /// When it is there already, or cannot be made.
    pub fn create(path: &Path) -> io::Result<Log> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)?;
        Ok(Log {
            file: Mutex::new(file),
            next: AtomicU64::new(0),
        })
    }

    /// An operation begins; its number.
    pub fn begin(&self, primitive: Primitive, call: Call, task: &str, args: Args) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.write(
            id,
            What::Begin {
                primitive,
                call,
                task: task.to_owned(),
                args,
            },
        );
        id
    }

    /// An operation has ended.
    pub fn end(&self, id: u64, outcome: Outcome) {
        self.write(id, What::End(outcome));
    }

    /// An operation in doubt has been settled.
    pub fn settled(&self, id: u64, settled: Settled) {
        self.write(id, What::Settled(settled));
    }

    /// The process ends in good order.
    pub fn closed(&self) {
        self.write(self.next.load(Ordering::Relaxed), What::Closed);
    }

    fn write(&self, id: u64, what: What) {
        // The line of its beginning is in the file before an operation is sent, that of its end after it
        // was answered.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let line = Line {
            id,
            at: now(),
            what,
        };
        let mut text = serde_json::to_string(&line).expect("a line of JSON");
        text.push('\n');
        // One write a line: the kernel keeps it whatever becomes of the process.
        file.write_all(text.as_bytes())
            .expect("the history can be written");
    }
}

/// Reads the histories of all processes in a directory: files `NAME.jsonl`.
///
/// # Errors
///
/// When one cannot be read, or has a line in its middle that is none, or has operations without an end although
/// its process has ended in good order. A last line that is cut off belongs to a process that was killed while
/// it wrote, and is left out.
pub fn read_all(directory: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    files.sort();
    let mut all = Vec::new();
    for path in files {
        all.extend(read(&path)?);
    }
    all.sort_by_key(|entry| entry.began);
    Ok(all)
}

fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let worker = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut entries: BTreeMap<u64, Entry> = BTreeMap::new();
    let lines: Vec<Vec<u8>> = BufReader::new(File::open(path)?)
        .split(b'\n')
        .collect::<io::Result<_>>()?;
    let count = lines.len();
    for (number, line) in lines.into_iter().enumerate() {
        let line: Line = match serde_json::from_slice(&line) {
            Ok(line) => line,
            Err(_) if number + 1 == count => break,
            Err(error) => {
                anyhow::bail!("{}:{}: {error}", path.display(), number + 1)
            }
        };
        match line.what {
            What::Begin {
                primitive,
                call,
                task,
                args,
            } => {
                let entry = Entry {
                    worker: worker.to_string(),
                    task,
                    id: line.id,
                    primitive,
                    call,
                    args,
                    began: line.at,
                    ended: None,
                    outcome: None,
                    settled: None,
                };
                entries.insert(line.id, entry);
            }
            What::End(outcome) => {
                if let Some(entry) = entries.get_mut(&line.id) {
                    entry.ended = Some(line.at);
                    entry.outcome = Some(outcome);
                }
            }
            What::Settled(settled) => {
                if let Some(entry) = entries.get_mut(&line.id) {
                    entry.settled = Some(settled);
                }
            }
            What::Closed => {
                if let Some(open) = entries.values().find(|entry| entry.ended.is_none()) {
                    let (call, id) = (open.call, open.id);
                    anyhow::bail!(
                        "{}: its process has ended in good order, but {call:?} number {id} has no end",
                        path.display()
                    );
                }
            }
        }
    }
    Ok(entries.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_cut_line_is_left_out() {
        let directory =
            std::env::temp_dir().join(format!("synod-chaos-{}-{}", std::process::id(), now()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("w0.0.jsonl");
        let log = Log::create(&path).unwrap();
        let args = Args {
            value: Some("a".into()),
            ..Args::default()
        };
        let first = log.begin(Primitive::Queue, Call::Enqueue, "t", args.clone());
        log.end(first, Outcome::Ok(Answer::default()));
        let second = log.begin(Primitive::Queue, Call::Enqueue, "t", args);
        let doubt = Outcome::Unknown {
            error: "e".into(),
            token: Some("t".into()),
        };
        log.end(second, doubt.clone());
        log.settled(second, Settled::Happened);
        let killed = log.begin(Primitive::Txn, Call::Swap, "t", Args::default());
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"id\":3,\"a")
            .unwrap();
        let read = read_all(&directory).unwrap();
        let path = directory.join("w1.0.jsonl");
        let log = Log::create(&path).unwrap();
        log.begin(Primitive::Txn, Call::Swap, "t", Args::default());
        log.closed();
        let open = read_all(&directory).unwrap_err().to_string();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(open.contains("Swap number 0 has no end"), "{open}");
        assert_eq!(read.len(), 3);
        assert!(read[0].happened() && read[0].ended.unwrap() >= read[0].began);
        assert_eq!(read[1].outcome, Some(doubt));
        assert!(read[1].happened() && read[1].in_doubt());
        assert_eq!((read[2].id, read[2].ended), (killed, None));
        assert!(read[2].may() && read[2].in_doubt() && read[2].ok().is_none());
    }
}
