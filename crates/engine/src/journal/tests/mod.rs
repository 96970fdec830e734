//! The journal against a file system that crashes, fails and rots.

mod crash;
mod damage;
mod directory;
mod faults;
mod missing;

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::sim::Sim;
use super::{FileJournal, Item, Journal, JournalError, Options};

/// Small, so that a few records already need several segments.
const OPTIONS: Options = Options {
    sync: true,
    segment_bytes: 400,
};

fn dir() -> PathBuf {
    PathBuf::from("/data")
}

/// The text of record `n`; every fifth is empty or long.
fn record(n: u64) -> Bytes {
    let len = match n % 5 {
        0 => 0,
        3 => 90,
        _ => 10,
    };
    Bytes::from(format!("{n}:{}", "x".repeat(len)))
}

/// Opens the directory of a disk; the records found, those of the snapshot among them.
fn open(sim: &Sim) -> Result<(FileJournal<Sim>, Vec<Bytes>), JournalError> {
    open_with(sim, OPTIONS)
}

fn open_with(sim: &Sim, options: Options) -> Result<(FileJournal<Sim>, Vec<Bytes>), JournalError> {
    let mut found = Vec::new();
    let journal = FileJournal::open_in(sim.clone(), &dir(), options, &mut |item| {
        match item {
            Item::Chunk(bytes) => found.push(Bytes::copy_from_slice(bytes)),
            Item::Record(n, bytes) => {
                if n != found.len() as u64 + 1 {
                    return Err(format!("record {n} after {}", found.len()));
                }
                found.push(Bytes::copy_from_slice(bytes));
            }
        }
        Ok(())
    })?;
    assert_eq!(journal.next_record(), found.len() as u64 + 1);
    Ok((journal, found))
}

/// What a commit costs the disk, however many records it has.
#[test]
fn a_group_is_one_write_and_one_sync() {
    let sim = Sim::default();
    let roomy = Options {
        segment_bytes: 1 << 20,
        ..OPTIONS
    };
    let (mut journal, _) = open_with(&sim, roomy).unwrap();
    let mut next = 1;
    for group in [1, 1, 100, 1000] {
        let records: Vec<Bytes> = (next..next + group).map(record).collect();
        let before = sim.ops();
        journal.append(&records).unwrap();
        assert_eq!(sim.ops() - before, 2, "{group} records");
        next += group;
    }
}

fn expected(count: u64) -> Vec<Bytes> {
    (1..=count).map(record).collect()
}

/// Appends to a journal and remembers what may and what must be found after a crash at each moment.
struct Author {
    sim: Sim,
    journal: FileJournal<Sim>,
    acknowledged: u64,
    /// Number of calls made, records attempted by then, records acknowledged by then.
    marks: Vec<(usize, u64, u64)>,
    /// Counts that leave no group half there.
    whole: Vec<u64>,
}

impl Author {
    fn new(sim: &Sim) -> Self {
        let (journal, found) = open(sim).unwrap();
        let acknowledged = found.len() as u64;
        let marks = vec![(0, acknowledged, acknowledged)];
        Self {
            sim: sim.clone(),
            journal,
            acknowledged,
            marks,
            whole: vec![acknowledged],
        }
    }

    fn append(&mut self, group: u64) -> Result<(), JournalError> {
        let after = self.acknowledged + group;
        let records: Vec<Bytes> = (self.acknowledged + 1..=after).map(record).collect();
        self.whole.push(after);
        self.marks.push((self.sim.ops(), after, self.acknowledged));
        self.journal.append(&records)?;
        self.acknowledged = after;
        self.marks.push((self.sim.ops(), after, after));
        Ok(())
    }

    /// A snapshot whose chunks are the records so far, with appends going on amid it.
    fn snapshot(&mut self, meanwhile: u64) -> Result<(), JournalError> {
        let mut snapshot = self.journal.begin_snapshot()?;
        let covered = self.acknowledged;
        for n in 1..=covered {
            snapshot.write(&record(n))?;
            if n == covered / 2 {
                for _ in 0..meanwhile {
                    self.append(1)?;
                }
            }
        }
        snapshot.commit()
    }

    /// The same where there is no room for a segment.
    fn tight_snapshot(&mut self) -> Result<(), JournalError> {
        let mut snapshot = self.journal.begin_tight_snapshot()?;
        (1..=self.acknowledged).try_for_each(|n| snapshot.write(&record(n)))?;
        snapshot.commit()
    }

    /// Appends until the disk has no room for another segment, and leaves so much.
    fn fill_disk(&mut self, free: usize) {
        self.sim.set_capacity(Some(self.sim.used()));
        while !self.journal.is_low_on_space() {
            self.append(1).unwrap();
        }
        self.sim.set_capacity(Some(self.sim.used() + free));
        assert!(free < 400 && self.journal.is_low_on_space());
    }

    /// Fewest and most records that may be found after a crash that follows the first `ops` calls.
    fn bounds(&self, ops: usize) -> (u64, u64) {
        let past = self.marks.iter().filter(|(at, ..)| *at <= ops);
        past.fold((0, 0), |(low, high), (_, tried, acked)| {
            (low.max(*acked), high.max(*tried))
        })
    }

    /// Opens an image and holds what is found against what must be there.
    fn check(&self, image: &Sim, bounds: (u64, u64), how: &str) -> u64 {
        let (mut journal, found) = open(image).unwrap_or_else(|e| panic!("{how}: {e}"));
        let count = found.len() as u64;
        assert!(
            (bounds.0..=bounds.1).contains(&count),
            "{how}: {count} not in {bounds:?}"
        );
        assert!(
            self.whole.contains(&count),
            "{how}: half a group at {count}"
        );
        assert_eq!(found, expected(count), "{how}");
        // What is not needed any more is gone: one snapshot, no segment before it, nothing unfinished.
        let files = image.files();
        let snapshots: Vec<_> = files.keys().filter(|p| named(p, ".snap")).collect();
        assert!(
            snapshots.len() <= 1 && !files.keys().any(|p| named(p, ".tmp")),
            "{how}"
        );
        if let Some(snapshot) = snapshots.first() {
            let first = files.keys().find(|p| named(p, ".log")).unwrap();
            assert_eq!(first.file_stem(), snapshot.file_stem(), "{how}");
        }
        // And it goes on from there.
        journal
            .append(&[record(count + 1)])
            .unwrap_or_else(|e| panic!("{how}: {e}"));
        drop(journal);
        let lost = image.power_loss();
        let (_, found) = open(&lost).unwrap_or_else(|e| panic!("{how}, again: {e}"));
        assert_eq!(found, expected(count + 1), "{how}, again");
        count
    }
}

/// The one file with this ending.
fn file(sim: &Sim, ending: &str) -> (PathBuf, Vec<u8>) {
    let mut files = sim.files().into_iter().filter(|(p, _)| named(p, ending));
    files.next_back().unwrap_or_else(|| panic!("no {ending}"))
}

fn named(path: &Path, ending: &str) -> bool {
    path.to_str().is_some_and(|p| p.ends_with(ending))
}
