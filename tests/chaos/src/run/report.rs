//! The report: what was tried under each fault, and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::faults::Fault;
use super::options::{Options, Output};
use super::progress::{is_progress, missing};
use crate::check::{Finding, Kind};
use crate::history::{Entry, Settled};
use crate::primitive::Primitive;
use crate::record::Record;

/// A time of the run: from the beginning of a fault, or of a calm, to that of the next.
#[derive(Debug, Clone)]
pub(super) struct Window {
    fault: Option<Fault>,
    from: u64,
    healed: u64,
}

impl Window {
    pub(super) fn new(fault: Fault, from: u64, healed: u64) -> Window {
        Window {
            fault: Some(fault),
            from,
            healed,
        }
    }

    pub(super) fn calm(from: u64) -> Window {
        Window {
            fault: None,
            from,
            healed: from,
        }
    }
}

/// One cell: a primitive under a fault.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    tried: usize,
    ok: usize,
    refused: usize,
    doubt: usize,
    settled: usize,
    lost: usize,
    doubled: usize,
    violations: usize,
    /// The longest time from the healing to the first success after it, in nanoseconds.
    progress: Option<u64>,
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Report {
    primitives: Vec<Primitive>,
    seed: u64,
    pub(super) seconds: u64,
    /// For how many of them the workers must have done enough, when not for all.
    pub(super) worked: Option<u64>,
    pub(super) windows: Vec<Window>,
    skipped: BTreeMap<Fault, String>,
    cells: BTreeMap<(Primitive, Option<Fault>), Cell>,
    findings: Vec<Finding>,
    /// What did not move, or not enough.
    pub(super) stuck: Vec<String>,
    revisions: u64,
    /// How often an etcd has died of an error of its own that is known.
    pub(super) own_deaths: usize,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The operations of a primitive that have got something done: when each ended and began.
fn done(primitive: Primitive, entries: &[Entry]) -> Vec<(u64, u64)> {
    let mut done: Vec<(u64, u64)> = entries
        .iter()
        .filter(|entry| entry.primitive == primitive && is_progress(entry))
        .filter_map(|entry| Some((entry.ended?, entry.began)))
        .collect();
    done.sort_unstable();
    done
}

/// How long after a moment the first of them ended.
fn first(done: &[(u64, u64)], after: u64) -> Option<u64> {
    let from = done.partition_point(|(ended, _)| *ended < after);
    done.get(from).map(|(ended, _)| ended - after)
}

impl Report {
    pub(super) fn new(primitives: Vec<Primitive>, seed: u64) -> Report {
        Report {
            primitives,
            seed,
            seconds: 0,
            worked: None,
            windows: Vec::new(),
            skipped: BTreeMap::new(),
            cells: BTreeMap::new(),
            findings: Vec::new(),
            stuck: Vec::new(),
            revisions: 0,
            own_deaths: 0,
        }
    }

    /// A fault that cannot be made here; true the first time.
    pub(super) fn skip(&mut self, fault: Fault, why: &str) -> bool {
        self.skipped.insert(fault, why.to_owned()).is_none()
    }

    pub(super) fn was_skipped(&self, fault: Fault) -> bool {
        self.skipped.contains_key(&fault)
    }

    /// The window that a moment belongs to.
    fn window(&self, at: u64) -> Option<Fault> {
        let after = self.windows.partition_point(|window| window.from <= at);
        let window = after.checked_sub(1).and_then(|at| self.windows.get(at));
        window.and_then(|window| window.fault)
    }

    /// Counts what the histories say. Everything must have progressed within `patience` of `calm`.
    pub(super) fn take(
        &mut self,
        entries: &[Entry],
        record: &Record,
        calm: u64,
        patience: Duration,
    ) {
        self.revisions = record.revision();
        for entry in entries {
            let fault = self.window(entry.began);
            let cell = self.cells.entry((entry.primitive, fault)).or_default();
            cell.tried += 1;
            cell.ok += usize::from(entry.ok().is_some());
            cell.doubt += usize::from(entry.in_doubt());
            cell.refused += usize::from(entry.ok().is_none() && !entry.in_doubt());
            let open = matches!(entry.settled, None | Some(Settled::Forgotten));
            cell.settled += usize::from(!open);
        }
        for primitive in self.primitives.clone() {
            let done = done(primitive, entries);
            let first = |after| first(&done, after);
            for window in &self.windows {
                let Some(fault) = window.fault else { continue };
                if let Some(time) = first(window.healed) {
                    let cell = self.cells.entry((primitive, Some(fault))).or_default();
                    cell.progress = Some(cell.progress.unwrap_or(0).max(time));
                }
            }
            if let Some(time) = first(calm).filter(|time| *time <= nanos(patience)) {
                let cell = self.cells.entry((primitive, None)).or_default();
                cell.progress = Some(time);
            }
        }
        let lacking = self.lacking(entries, calm, patience);
        self.stuck.extend(lacking);
    }

    /// What has not moved within `patience` of `calm`, or not enough, in words.
    pub(super) fn lacking(&self, entries: &[Entry], calm: u64, patience: Duration) -> Vec<String> {
        let limit = nanos(patience);
        let mut lacking = Vec::new();
        for primitive in self.primitives.iter().copied() {
            let (name, done) = (primitive.name(), done(primitive, entries));
            if first(&done, calm).is_some_and(|time| time <= limit) {
                let missing = missing(primitive, entries, (calm, calm + limit));
                lacking.extend(missing.into_iter().map(|missing| {
                    format!("{name}: {missing} within {patience:?} after the last fault")
                }));
            } else {
                lacking.push(format!(
                    "{name} has made no progress within {patience:?} after the last fault"
                ));
            }
            let floor = primitive.floor(self.worked.unwrap_or(self.seconds));
            if done.len() < floor {
                lacking.push(format!(
                    "{name} has done {} operations, fewer than {floor}: this shows nothing",
                    done.len()
                ));
            }
        }
        lacking
    }

    pub(super) fn find(&mut self, finding: Finding) {
        let fault = self.window(finding.at);
        let cell = self.cells.entry((finding.primitive, fault)).or_default();
        match finding.kind {
            Kind::Lost => cell.lost += 1,
            Kind::Doubled => cell.doubled += 1,
            Kind::Violation => cell.violations += 1,
        }
        self.findings.push(finding);
    }

    pub(super) fn passed(&self) -> bool {
        self.findings.is_empty() && self.stuck.is_empty()
    }

    /// Prints the verdict, and the table before it.
    pub(super) fn print(
        &self,
        options: &Options,
        seed: u64,
        again: &str,
        kept: &str,
    ) -> anyhow::Result<()> {
        let result = self.json(again);
        let file = options.keep.join(seed.to_string()).join("result.json");
        std::fs::write(file, serde_json::to_string_pretty(&result)?)?;
        if options.output == Output::Json {
            println!("{}", serde_json::to_string_pretty(&result)?);
        } else {
            self.print_text();
        }
        for problem in &self.stuck {
            options.say(format!("FAILED: {problem}"));
        }
        for finding in self.findings.iter().take(20) {
            options.say(format!(
                "FAILED: {} under {}: {:?}: {}",
                finding.primitive.name(),
                name(self.window(finding.at)),
                finding.kind,
                finding.text
            ));
        }
        if self.findings.len() > 20 {
            options.say(format!("... and {} more", self.findings.len() - 20));
        }
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        options.say(format!("seed {} {verdict}; {kept}", self.seed));
        if !self.passed() {
            options.say(format!("again: {again}"));
        }
        Ok(())
    }

    fn print_text(&self) {
        println!(
            "\n{:<15} {:<19} {:>7} {:>7} {:>7} {:>8} {:>7} {:>5} {:>7} {:>10} {:>9}",
            "primitive",
            "fault",
            "tried",
            "ok",
            "refused",
            "in doubt",
            "settled",
            "lost",
            "doubled",
            "violations",
            "progress"
        );
        for ((primitive, fault), cell) in &self.cells {
            let progress = cell.progress.map_or_else(
                || "-".to_owned(),
                |nanos| format!("{:.2} s", nanos as f64 / 1e9),
            );
            println!(
                "{:<15} {:<19} {:>7} {:>7} {:>7} {:>8} {:>7} {:>5} {:>7} {:>10} {:>9}",
                primitive.name(),
                name(*fault),
                cell.tried,
                cell.ok,
                cell.refused,
                cell.doubt,
                cell.settled,
                cell.lost,
                cell.doubled,
                cell.violations,
                progress
            );
        }
        let mut fired: BTreeMap<Fault, usize> = BTreeMap::new();
        for fault in self.windows.iter().filter_map(|window| window.fault) {
            *fired.entry(fault).or_default() += 1;
        }
        let fired: Vec<String> = fired
            .iter()
            .map(|(fault, times)| format!("{} {times}", fault.name()))
            .collect();
        let tried: usize = self.cells.values().map(|cell| cell.tried).sum();
        println!(
            "\n{} s, {tried} operations, {} revisions; faults: {}",
            self.seconds,
            self.revisions,
            fired.join(", ")
        );
        if self.own_deaths > 0 {
            println!(
                "{} times an etcd died by itself, of its issue 14110, and was started again",
                self.own_deaths
            );
        }
        for (fault, why) in &self.skipped {
            println!("skipped: {}: {why}", fault.name());
        }
    }

    fn json(&self, again: &str) -> serde_json::Value {
        let cells: Vec<_> = self
            .cells
            .iter()
            .map(|((primitive, fault), cell)| {
                json!({
                    "primitive": primitive.name(),
                    "fault": name(*fault),
                    "tried": cell.tried,
                    "ok": cell.ok,
                    "refused": cell.refused,
                    "in_doubt": cell.doubt,
                    "settled": cell.settled,
                    "lost": cell.lost,
                    "doubled": cell.doubled,
                    "violations": cell.violations,
                    "progress_seconds": cell.progress.map(|nanos| nanos as f64 / 1e9),
                })
            })
            .collect();
        let findings: Vec<_> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "primitive": finding.primitive.name(),
                    "fault": name(self.window(finding.at)),
                    "kind": format!("{:?}", finding.kind).to_lowercase(),
                    "text": finding.text,
                })
            })
            .collect();
        let skipped: BTreeMap<&str, &String> = self
            .skipped
            .iter()
            .map(|(fault, why)| (fault.name(), why))
            .collect();
        json!({
            "seed": self.seed,
            "passed": self.passed(),
            "again": again,
            "seconds": self.seconds,
            "revisions": self.revisions,
            "own_deaths_of_etcd": self.own_deaths,
            "faults": self.windows.iter().filter_map(|w| w.fault).map(Fault::name).collect::<Vec<_>>(),
            "skipped": skipped,
            "cells": cells,
            "failures": self.stuck,
            "findings": findings,
        })
    }
}

fn name(fault: Option<Fault>) -> &'static str {
    fault.map_or("(none)", Fault::name)
}
