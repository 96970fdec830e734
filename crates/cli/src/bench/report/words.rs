//! What pages and pictures say in words.

use std::time::{Duration, UNIX_EPOCH};

use super::super::result::{Results, Row, Summary};
use super::super::spec::{Case, Workload};
use super::super::table::{details, number};

/// What was measured on, as names and values.
pub(super) fn facts(results: &Results) -> Vec<(&'static str, String)> {
    let (server, machine) = (&results.server, &results.machine);
    let nodes = match server.nodes {
        1 => "one node".to_owned(),
        many => format!("{many} nodes"),
    };
    let memory = machine.memory.map_or_else(String::new, |bytes| {
        format!(", {:.1} GiB of memory", bytes as f64 / f64::from(1 << 30))
    });
    let cpus = match machine.cpus {
        1 => "1 CPU".to_owned(),
        many => format!("{many} CPUs"),
    };
    let files = machine.file_system.as_ref();
    let files = files.map_or_else(String::new, |name| format!(", data on {name}"));
    vec![
        ("Store", format!("{}, {nodes}", server.server)),
        ("Address", server.address.replace(',', ", ")),
        ("Client", format!("synod {}", env!("CARGO_PKG_VERSION"))),
        ("Machine", format!("{cpus}{memory}, {}{files}", machine.os)),
        ("Measured", time(results.started_at)),
    ]
}

/// `2026-01-31 12:00:00 UTC`.
fn time(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// `Queue: transfer`.
pub(super) fn title(row: &Row) -> String {
    format!("{}: {}", name(row.spec.workload), row.spec.case)
}

/// `Priority queue`.
pub(super) fn name(workload: Workload) -> &'static str {
    match workload {
        Workload::Queue => "Queue",
        Workload::PriorityQueue => "Priority queue",
        Workload::Barrier => "Barrier",
        Workload::DoubleBarrier => "Double barrier",
        Workload::Lock => "Lock",
        Workload::Election => "Election",
        Workload::Stm => "STM",
        Workload::Raw => "Raw store",
    }
}

/// What the case is, in a sentence.
pub(super) fn about(row: &Row) -> &'static str {
    match row.spec.case {
        Case::Fill => "Items go in, one a call.",
        Case::Drain => "Items that are there already come out, one a call.",
        Case::Transfer => "Items go in and come out at the same time, one a call.",
        Case::Idle => "One item at a time, to a consumer that already waits for it.",
        Case::Batch if row.spec.workload == Workload::Raw => "Many puts a transaction.",
        Case::Batch => "Many items a call go in, and come out again.",
        Case::Release => "One opens the barrier, and all who wait at it return.",
        Case::Rounds => "All participants enter together and leave together, again and again.",
        Case::Cycle if row.spec.workload == Workload::Election => {
            "Candidates come to lead, and resign."
        }
        Case::Cycle => "Contenders take it, and give it back.",
        Case::Bank => "Transactions move money between accounts.",
        Case::Put => "One put a call.",
        Case::Get => "One read of a key a call.",
        Case::Txn => "One put under a condition a call.",
    }
}

/// The parameters and whatever else there is to say, in one line.
pub(super) fn parameters(summary: &Summary<'_>, first: &Row) -> String {
    let spec = &first.spec;
    let mut words = Vec::new();
    for (name, value) in spec.numbers() {
        if let Some(value) = value.filter(|value| name != "fill_first" || *value > 0) {
            words.push(format!("{} {}", name.replace('_', " "), number_of(value)));
        }
    }
    words.push(format!("{} connections", spec.connections));
    if spec.processes > 1 {
        words.push(format!("{} processes", spec.processes));
    }
    if let Some(duration) = spec.duration {
        words.push(humantime::format_duration(duration).to_string());
    }
    if let Some(rate) = spec.rate {
        words.push(format!("scheduled at {rate} a second"));
    }
    words.extend(details(summary, first).into_iter().skip(1));
    words.join(" \u{b7} ")
}

fn number_of(value: u64) -> String {
    if value < 100 {
        value.to_string()
    } else {
        number(value as f64)
    }
}

/// Microseconds: `34.5 µs`.
pub(super) fn duration(us: f64) -> String {
    let text = super::super::table::duration(us);
    let at = text.find(char::is_alphabetic).unwrap_or(text.len());
    let (value, unit) = text.split_at(at);
    format!("{value} {}", unit.replace("us", "\u{b5}s"))
}

/// What went wrong, if anything did.
pub(super) fn trouble(summary: &Summary<'_>) -> Option<String> {
    let violation = summary
        .rows
        .iter()
        .find_map(|row| row.measured.violations.first());
    if let Some(violation) = violation {
        return Some(format!("Broken, and these figures worthless: {violation}"));
    }
    let error = summary
        .rows
        .iter()
        .find_map(|row| row.measured.first_error.as_ref());
    error.map(|error| {
        format!(
            "{} operations failed, the first with: {error}",
            summary.errors()
        )
    })
}
