//! How long a durable commit takes, what it writes, and what reopening costs.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::engines::{self, Candidate, NAMES};
use crate::{record, scratch};

const GROUPS: [usize; 2] = [1, 32];
const WARM_UP: u64 = 50;

/// Commits `count` groups, beginning with record `first`; microseconds of each.
fn run(candidate: &mut dyn Candidate, first: u64, group: usize, count: u64) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for i in 0..count {
        let first = first + i * group as u64;
        let records: Vec<Vec<u8>> = (first..first + group as u64).map(record).collect();
        let begin = Instant::now();
        candidate.commit(first, &records)?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted
        .get(((sorted.len() as f64 - 1.0) * q).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

/// Bytes that this process handed to the kernel in write calls.
fn written() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("wchar: "))
        .context("wchar")?;
    Ok(line.parse()?)
}

/// Lets the candidates take turns: one batch of commits each, `rounds` times over, each in a fresh directory.
/// The median of a round is one figure; printed are the median and range of these figures.
pub fn rounds(rounds: usize, commits: u64) -> Result<()> {
    println!(
        "| candidate | records a commit | us a commit: median of medians | range of medians | ratio to bare | p99 | bytes written |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for group in GROUPS {
        let mut medians = vec![Vec::new(); NAMES.len()];
        let mut tails = vec![Vec::new(); NAMES.len()];
        let mut bytes = vec![0; NAMES.len()];
        for _ in 0..rounds {
            for (i, name) in NAMES.iter().enumerate() {
                let dir = scratch()?;
                let mut candidate = engines::open(name, dir.path())?;
                run(candidate.as_mut(), 0, group, WARM_UP)?;
                let before = written()?;
                let mut times = run(candidate.as_mut(), WARM_UP * group as u64, group, commits)?;
                bytes[i] = (written()? - before) / commits;
                times.sort_by(f64::total_cmp);
                medians[i].push(quantile(&times, 0.5));
                tails[i].push(quantile(&times, 0.99));
            }
        }
        for list in medians.iter_mut().chain(&mut tails) {
            list.sort_by(f64::total_cmp);
        }
        let bare = quantile(&medians[0], 0.5);
        for (i, name) in NAMES.iter().enumerate() {
            let middle = quantile(&medians[i], 0.5);
            println!(
                "| {name} | {group} | {middle:.0} | {:.0}-{:.0} | {:.2} | {:.0} | {} |",
                quantile(&medians[i], 0.0),
                quantile(&medians[i], 1.0),
                middle / bare,
                quantile(&tails[i], 0.5),
                bytes[i],
            );
        }
    }
    Ok(())
}

/// Writes `records` records in groups of 32, leaves without closing (as a killed process does, by taking a
/// copy of the directory while it is open) and times opening the copy and reading all of it.
pub fn reopen(records: u64) -> Result<()> {
    println!("| candidate | open and read {records} records, ms (3 turns) | bytes on disk |");
    println!("| --- | --- | --- |");
    for name in NAMES {
        let dir = scratch()?;
        let copy = scratch()?;
        {
            let mut candidate = engines::open(name, dir.path())?;
            run(candidate.as_mut(), 0, 32, records / 32)?;
            crate::damage::copy_dir(dir.path(), copy.path())?;
        }
        let mut times = Vec::new();
        for _ in 0..3 {
            let image = scratch()?;
            crate::damage::copy_dir(copy.path(), image.path())?;
            let begin = Instant::now();
            let mut candidate = engines::open(name, image.path())?;
            let found = candidate.load()?.len() as u64;
            times.push(format!("{:.0}", begin.elapsed().as_secs_f64() * 1e3));
            ensure!(
                found == records / 32 * 32,
                "{name}: {found} of {records} found"
            );
        }
        println!(
            "| {name} | {} | {} |",
            times.join(" "),
            crate::damage::size(copy.path())?
        );
    }
    Ok(())
}

/// Commits for `strace` to count: the marks let a reader tell opening from committing.
pub fn commits(name: &str, group: usize, commits: u64) -> Result<()> {
    let dir = scratch()?;
    let mut candidate = engines::open(name, dir.path())?;
    run(candidate.as_mut(), 0, group, WARM_UP)?;
    println!("BEGIN");
    run(candidate.as_mut(), WARM_UP * group as u64, group, commits)?;
    println!("END");
    // Closing is not what is counted.
    std::process::exit(0);
}
