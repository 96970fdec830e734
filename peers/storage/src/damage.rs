//! What a candidate makes of a damaged file: does it refuse a hole, and cut only a torn tail?

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::engines::{self, NAMES};
use crate::{record, scratch};

const RECORDS: u64 = 200;

/// A copy of the directory as it is on disk now, holes kept.
pub fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    let status = std::process::Command::new("cp")
        .args(["-a", "--sparse=always"])
        .arg(from.join("."))
        .arg(to)
        .status()?;
    anyhow::ensure!(status.success(), "cp failed");
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// Apparent bytes of all files.
pub fn size(dir: &Path) -> Result<u64> {
    Ok(files(dir)?
        .iter()
        .map(|f| f.metadata().map_or(0, |m| m.len()))
        .sum())
}

/// Every place where `record` stands in a file.
fn places(dir: &Path, record: &[u8]) -> Result<Vec<(PathBuf, usize)>> {
    let mut found = Vec::new();
    for path in files(dir)? {
        let bytes = fs::read(&path)?;
        let needle = memchr::memmem::Finder::new(record);
        found.extend(needle.find_iter(&bytes).map(|at| (path.clone(), at)));
    }
    Ok(found)
}

fn overwrite(path: &Path, at: usize, with: impl Fn(&mut [u8])) -> Result<()> {
    let mut bytes = fs::read(path)?;
    with(&mut bytes[at..]);
    fs::write(path, bytes)?;
    Ok(())
}

/// What an image turned out to hold.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Whole,
    Refused,
    /// Opened without a word, and this many records were gone.
    Dropped(usize),
    /// Opened without a word, and gave back other bytes than were written.
    Altered,
    Panicked,
}

fn verdict(name: &str, dir: &Path) -> Verdict {
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<_> {
        engines::open(name, dir)?.load()
    }));
    let found = match opened {
        Err(_) => return Verdict::Panicked,
        Ok(Err(_)) => return Verdict::Refused,
        Ok(Ok(found)) => found,
    };
    if found.iter().any(|(n, bytes)| *bytes != record(*n)) {
        return Verdict::Altered;
    }
    let numbers: BTreeSet<u64> = found.iter().map(|(n, _)| *n).collect();
    match (0..RECORDS).filter(|n| !numbers.contains(n)).count() {
        0 => Verdict::Whole,
        missing => Verdict::Dropped(missing),
    }
}

/// Counts equal verdicts: "12 Refused, 3 Dropped(100)".
fn tally(verdicts: Vec<Verdict>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for verdict in verdicts {
        *counts.entry(verdict).or_insert(0) += 1;
    }
    let words: Vec<String> = counts.iter().map(|(v, n)| format!("{n} {v:?}")).collect();
    words.join(", ")
}

/// For each candidate: one image of a killed process and one of a clean end, then damage to copies of both.
/// A record is looked for in every file, and all copies of it are damaged: a B-tree leaves old pages behind.
pub fn all() -> Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    println!(
        "| candidate | image | one byte flipped in or just before record {} of {RECORDS} | in the last record | last record half written |",
        RECORDS / 2
    );
    println!("| --- | --- | --- | --- | --- |");
    for name in NAMES {
        let live = scratch()?;
        let killed = scratch()?;
        let closed = scratch()?;
        {
            let mut candidate = engines::open(name, live.path())?;
            for n in 0..RECORDS {
                candidate.commit(n, &[record(n)])?;
            }
            copy_dir(live.path(), killed.path())?;
        }
        copy_dir(live.path(), closed.path())?;
        for (kind, image) in [("killed", &killed), ("closed", &closed)] {
            let damaged = |n: u64, from: isize, with: fn(&mut [u8])| -> Result<Verdict> {
                let copy = scratch()?;
                copy_dir(image.path(), copy.path())?;
                for (path, at) in places(copy.path(), &record(n))? {
                    overwrite(&path, at.saturating_add_signed(from), with)?;
                }
                Ok(verdict(name, copy.path()))
            };
            let flips = |n: u64| -> Result<String> {
                let verdicts: Result<_> = (-36..120)
                    .step_by(6)
                    .map(|from| damaged(n, from, |b| b[0] ^= 0x40))
                    .collect();
                Ok(tally(verdicts?))
            };
            let torn = damaged(RECORDS - 1, 60, |b| {
                let end = b.len().min(4096);
                b[..end].fill(0);
            })?;
            println!(
                "| {name} | {kind} | {} | {} | {torn:?} |",
                flips(RECORDS / 2)?,
                flips(RECORDS - 1)?
            );
        }
    }
    Ok(())
}

/// Commits on while `strace` makes one sync fail, and says what each commit answered.
pub fn failing(name: &str, dir: &Path, commits: u64) -> Result<()> {
    let mut candidate = engines::open(name, dir)?;
    println!("BEGIN");
    for n in 0..commits {
        let answer = catch_unwind(AssertUnwindSafe(|| candidate.commit(n, &[record(n)])));
        match answer {
            Ok(Ok(())) => println!("{n} acknowledged"),
            Ok(Err(e)) => println!("{n} refused: {e:#}"),
            Err(_) => println!("{n} panicked"),
        }
    }
    Ok(())
}
