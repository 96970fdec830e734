//! `docs/performance.md`, made from what lies in `target/compare`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::bounds::bound;
use super::goals::{Base, Goal, Metric, significant};
use super::record::{Archive, Record, Spread};
use super::rows::{Line, Row, Section, Who};
use crate::steps::root;

/// What the page says before its first figure.
const HEAD: &str = "\
# Performance

<!-- Written by `cargo xtask compare` from target/compare/*.json; edits are lost. -->

Synod's primitives beside etcd's own Go recipes (`clientv3/concurrency`, `contrib/recipes`) and beside
the floor: a program of raw etcd calls, arranged as well as we know (`peers/floor`). Each row ran on a
fresh store, the programs in turns (A B C, A B C ...). A figure is the median of the repeats, with the
least and the most behind it. Servers and clients share one machine, so absolute figures hold for
that machine alone: read the ratios.

Values have 100 bytes; there is no TLS; each worker has a connection of its own unless the row says
*one client*. A ratio says how many times as good Synod is: as many operations a second, or as short a
time. For goals with \u{2264} it is Synod's figure over the other one.

To measure it yourself: `cargo xtask compare`; it needs Go with etcd's packages for the column Go and Redis
for its rows (see CONTRIBUTING.md), and says *skipped* without them. `--rows queue,lock` takes rows whose
names contain one of these, `--nodes 1`, `--repeats 3`, `--seconds 1` make it shorter, `--render-only` writes this
page again. What every program printed lies in `target/compare`. To measure Synod alone, with any
numbers and on any store: `synod bench`.
";

/// Everything that is on record.
struct Book<'a> {
    rows: &'a [Row],
    records: BTreeMap<(usize, &'static str), Record>,
}

/// Writes the page.
pub(super) fn write(rows: &[Row], archive: &Archive) -> Result<()> {
    let mut records = BTreeMap::new();
    for row in rows {
        for nodes in row.nodes {
            if let Some(record) = archive.read(row.name, *nodes)? {
                records.insert((*nodes, row.name), record);
            }
        }
    }
    let text = Book { rows, records }.page();
    let path = root()?.join("docs/performance.md");
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    println!("==> docs/performance.md is written");
    Ok(())
}

impl Book<'_> {
    fn page(&self) -> String {
        let mut page = HEAD.to_string();
        self.circumstances(&mut page);
        self.section(&mut page, "On one node of etcd", Section::Primitives, 1);
        self.section(&mut page, "On three nodes of etcd", Section::Primitives, 3);
        self.section(
            &mut page,
            "Depth, dead keys and many consumers",
            Section::Depth,
            1,
        );
        self.section(&mut page, "The embedded store", Section::Embedded, 1);
        self.bounds(&mut page);
        page
    }

    /// When, where and with what.
    fn circumstances(&self, page: &mut String) {
        let mut versions: Vec<(String, String)> =
            self.records.values().flat_map(Record::versions).collect();
        versions.sort();
        versions.dedup();
        let versions: Vec<String> = versions
            .into_iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        let mut machines: Vec<String> = self
            .records
            .values()
            .map(|record| machine(&record.machine))
            .collect();
        machines.sort();
        machines.dedup();
        let times = || self.records.values().map(|record| record.measured_at);
        let mut seconds: Vec<String> = self
            .records
            .values()
            .map(|record| format!("{} s", significant(record.seconds)))
            .collect();
        seconds.sort();
        seconds.dedup();
        page.push_str("\n| | |\n|---|---|\n");
        let mut fact = |name: &str, what: String| {
            let _ = writeln!(page, "| {name} | {what} |");
        };
        let measured = match (times().min(), times().max()) {
            (Some(first), Some(last)) if date(first) == date(last) => date(first),
            (Some(first), Some(last)) => format!("{} to {}", date(first), date(last)),
            _ => "nothing yet".to_string(),
        };
        fact("measured", measured);
        fact("machine", machines.join("; "));
        fact("versions", versions.join(", "));
        fact("a repeat", seconds.join(", "));
        let (reached, all) = self.count();
        fact("goals", format!("{reached} of {all} reached"));
    }

    /// How many goals of measured rows are reached, and how many there are.
    fn count(&self) -> (usize, usize) {
        let mut count = (0, 0);
        for row in self.rows {
            for nodes in row.nodes {
                for line in &row.lines {
                    for (_, reached) in self.judged(row, line, *nodes).into_iter().flatten() {
                        count = (count.0 + usize::from(reached), count.1 + 1);
                    }
                }
            }
        }
        count
    }

    /// What bounds the rows of which a goal is not reached.
    fn bounds(&self, page: &mut String) {
        let missed = |row: &Row, nodes: usize| {
            let lines = row.lines.iter();
            let mut goals = lines
                .flat_map(|line| self.judged(row, line, nodes))
                .flatten();
            goals.any(|(_, reached)| !reached)
        };
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for row in self.rows {
            for nodes in row.nodes.iter().filter(|nodes| missed(row, **nodes)) {
                let why = bound(row.name, *nodes);
                let name = match nodes {
                    1 => row.name.to_owned(),
                    nodes => format!("{} on {nodes} nodes", row.name),
                };
                match reasons.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, names)) => names.push(name),
                    None => reasons.push((why, vec![name])),
                }
            }
        }
        if reasons.is_empty() {
            return;
        }
        page.push_str("\n## What bounds what is not reached\n\nBy profiles of who has the processors (`perf`, one node), by counting calls, and by reading the code.\n\n\
             | rows | bound |\n|---|---|\n",
        );
        for (why, names) in reasons {
            let _ = writeln!(page, "| {} | {why} |", names.join(", "));
        }
    }

    fn section(&self, page: &mut String, title: &str, section: Section, nodes: usize) {
        let rows = || {
            let ours = self.rows.iter().filter(move |row| row.section == section);
            ours.filter(move |row| self.records.contains_key(&(nodes, row.name)))
        };
        if rows().next().is_none() {
            return;
        }
        // Only those that some row of the section has.
        let columns: Vec<(&str, &[Who])> = [
            ("Go", &[Who::Go] as &[Who]),
            ("floor", &[Who::Floor]),
            ("etcd or Redis", &[Who::Etcd, Who::Redis]),
            ("Synod", &[Who::Synod, Who::Embedded, Who::Served]),
        ]
        .into_iter()
        .filter(|(_, any)| {
            rows().any(|row| row.contestants.iter().any(|(who, _)| any.contains(who)))
        })
        .collect();
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let _ = write!(
            page,
            "\n## {title}\n\n| work | {} | ratio | goal | reached |\n|---|{}---|---|---|\n",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        for row in rows() {
            for line in &row.lines {
                let cells: Vec<String> = columns
                    .iter()
                    .map(|(_, any)| self.cell(row, line, any, nodes))
                    .collect();
                let goals = self.goals(row, line, nodes);
                let _ = writeln!(
                    page,
                    "| {}{} | {} | {goals} |",
                    row.work,
                    line.what,
                    cells.join(" | ")
                );
            }
        }
    }

    fn cell(&self, row: &Row, line: &Line, any: &[Who], nodes: usize) -> String {
        let who = row.contestants.iter().find(|(who, _)| any.contains(who));
        let record = self.records.get(&(nodes, row.name));
        let (Some((who, _)), Some(record)) = (who, record) else {
            return "\u{2014}".to_string();
        };
        let mut cell = match (record.spread(*who, line.metric), record.failure(*who)) {
            (Some(spread), _) => figure(line.metric, spread),
            (None, Some(why)) => return brief(why),
            (None, None) => return "not told".to_string(),
        };
        match record.errors(*who) {
            0 => {}
            errors => {
                let _ = write!(cell, ", {errors} errors");
            }
        }
        if let Some(why) = record.failure(*who) {
            let _ = write!(cell, "; a repeat failed: {}", brief(why));
        }
        cell
    }

    /// The cells of ratios, goals and whether they are reached.
    fn goals(&self, row: &Row, line: &Line, nodes: usize) -> String {
        let mut cells = [Vec::new(), Vec::new(), Vec::new()];
        for (goal, judged) in line.goals.iter().zip(self.judged(row, line, nodes)) {
            let [ratios, goals, reached] = &mut cells;
            goals.push(goal.show());
            match judged {
                Some((ratio, good)) => {
                    let unit = if goal.base().is_some() { "x" } else { "" };
                    ratios.push(format!("{}{unit}", significant(ratio)));
                    reached.push(if good { "yes" } else { "**no**" }.to_string());
                }
                None => {
                    ratios.push("?".to_string());
                    reached.push("?".to_string());
                }
            }
        }
        if line.goals.is_empty()
            && let Some(ratio) = self.beside_go(row, line, nodes)
        {
            let [ratios, ..] = &mut cells;
            ratios.push(format!("{}x Go", significant(ratio)));
        }
        cells.map(|cell| cell.join(", ")).join(" | ")
    }

    /// The ratio to Go where there is no goal.
    fn beside_go(&self, row: &Row, line: &Line, nodes: usize) -> Option<f64> {
        let go = Base::Who(Who::Go);
        let (ours, base) = (
            self.ours(row, line.metric, nodes)?,
            self.base(row, line, go, nodes),
        );
        Some(Goal::Times(go, 1.0).judge(line.metric, ours, base)?.0)
    }

    /// For each goal its ratio, and whether it is reached; `None` for what was not measured.
    fn judged(&self, row: &Row, line: &Line, nodes: usize) -> Vec<Option<(f64, bool)>> {
        let judge = |goal: &Goal| {
            let ours = self.ours(row, line.metric, nodes)?;
            let base = goal
                .base()
                .and_then(|base| self.base(row, line, base, nodes));
            goal.judge(line.metric, ours, base)
        };
        line.goals.iter().map(judge).collect()
    }

    fn ours(&self, row: &Row, metric: Metric, nodes: usize) -> Option<f64> {
        let (who, _) = row.contestants.iter().find(|(who, _)| who.is_ours())?;
        Some(
            self.records
                .get(&(nodes, row.name))?
                .spread(*who, metric)?
                .median,
        )
    }

    fn base(&self, row: &Row, line: &Line, base: Base, nodes: usize) -> Option<f64> {
        let named = |name: &str| {
            let row = self.rows.iter().find(|row| row.name == name)?;
            self.ours(row, line.metric, nodes)
        };
        match base {
            Base::Who(who) => {
                let record = self.records.get(&(nodes, row.name))?;
                Some(record.spread(who, line.metric)?.median)
            }
            Base::Row(name) => named(name),
            // All of them must have been measured.
            Base::Best(names) => {
                let all: Option<Vec<f64>> = names.iter().map(|name| named(name)).collect();
                all?.into_iter().reduce(f64::max)
            }
        }
    }
}

/// `1,830/s (1,790 to 1,900)`.
fn figure(metric: Metric, spread: Spread) -> String {
    let median = metric.show(spread.median);
    if spread.min == spread.max {
        return median;
    }
    let bare = |value: f64| {
        let shown = metric.show(value);
        let end = shown.find(|c: char| !(c.is_ascii_digit() || c == ',' || c == '.'));
        shown
            .get(..end.unwrap_or(shown.len()))
            .unwrap_or_default()
            .to_string()
    };
    format!("{median} ({} to {})", bare(spread.min), bare(spread.max))
}

/// An error in a cell.
fn brief(why: &str) -> String {
    let line = why.replace(['\n', '|'], " ");
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

fn machine(machine: &Value) -> String {
    let text = |name: &str| machine.get(name).and_then(Value::as_str);
    let number = |name: &str| machine.get(name).and_then(Value::as_f64);
    let mut parts = Vec::new();
    if let Some(cpus) = number("cpus") {
        parts.push(format!("{cpus} processors shared by servers and clients"));
    }
    parts.extend(text("processor").map(str::to_string));
    parts.extend(number("memory_gib").map(|gib| format!("{gib} GiB")));
    parts.extend(text("system").map(str::to_string));
    parts.extend(text("file_system").map(str::to_string));
    parts.join(", ")
}

/// A day, from seconds since 1970.
fn date(seconds: u64) -> String {
    let mut days = seconds / 86_400;
    let mut year: u64 = 1970;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::record::Outcome;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn days_are_counted() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_795_391_999), "2026-11-22");
    }

    fn record(name: &str, rates: &[(Who, f64)]) -> Record {
        let mut record = Record::new(name, 1, Duration::from_secs(2), None, json!({}));
        for (who, rate) in rates {
            record.outcomes.push(Outcome {
                who: who.name().to_string(),
                repeat: 1,
                outcome: match *rate > 0.0 {
                    true => Ok(json!({ "rows": [{ "per_second": rate, "errors": 0 }] })),
                    false => Err("skipped: no Go".to_string()),
                },
            });
        }
        record
    }

    #[test]
    fn ratios_are_computed_and_what_was_not_measured_is_left_open() {
        let rows = super::super::rows::rows();
        let mut records = BTreeMap::new();
        let rates = [(Who::Go, 80.0), (Who::Floor, 900.0), (Who::Synod, 840.0)];
        records.insert((1, "lock-8"), record("lock-8", &rates));
        let rates = [(Who::Go, 0.0), (Who::Floor, 2_000.0), (Who::Synod, 1_500.0)];
        records.insert((1, "queue-drain-10k"), record("queue-drain-10k", &rates));
        let book = Book {
            rows: &rows,
            records,
        };
        let page = book.page();
        let lock = "| 80/s | 900/s | 840/s | 10.5x | ≥ 10x Go | yes |";
        assert!(page.contains(lock), "{page}");
        let queue = "| skipped: no Go | 2,000/s | 1,500/s | ? | ≥ 20x Go | ? |";
        assert!(page.contains(queue), "{page}");
        assert!(page.contains("| goals | 1 of 1 reached |"), "{page}");
        assert!(!page.contains("On three nodes"), "{page}");
        assert!(!page.contains("What bounds"), "{page}");
    }

    #[test]
    fn what_is_missed_is_explained() {
        let rows = super::super::rows::rows();
        let rates = [(Who::Go, 80.0), (Who::Floor, 900.0), (Who::Synod, 90.0)];
        let records = BTreeMap::from([((1, "lock-8"), record("lock-8", &rates))]);
        let page = Book {
            rows: &rows,
            records,
        }
        .page();
        let line = format!("| lock-8 | {} |", bound("lock-8", 1));
        assert!(page.contains("**no**") && page.contains(&line), "{page}");
    }
}
