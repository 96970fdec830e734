//! The checkers: pure functions over the histories of all processes and the store's own record.
//!
//! Every change has a revision, so nothing is searched for: the record is replayed revision by revision;
//! what was in doubt is settled by its unique value, which is in the record or is not; and who ended
//! before another began must come before it. A process that was killed leaves operations open, each of
//! which excuses at most one effect, and only for as long as its requests can still arrive.

mod barrier;
mod delivery;
mod double_barrier;
mod election;
mod holds;
mod items;
mod lanes;
mod locks;
mod stm;
#[cfg(test)]
mod tests;
mod txn;

use crate::history::Entry;
use crate::primitive::Primitive;
use crate::record::Record;
use lanes::Lanes;

/// What kind of promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Something that was acknowledged is gone, or never was there.
    Lost,
    /// Something happened twice.
    Doubled,
    /// Anything else that must never be.
    Violation,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of which primitive.
    pub primitive: Primitive,
    /// What kind.
    pub kind: Kind,
    /// When, on the machine's clock.
    pub at: u64,
    /// In words.
    pub text: String,
}

/// Collects what one checker finds.
#[derive(Debug)]
struct Findings {
    primitive: Primitive,
    all: Vec<Finding>,
}

impl Findings {
    fn new(primitive: Primitive) -> Findings {
        Findings {
            primitive,
            all: Vec::new(),
        }
    }

    fn add(&mut self, kind: Kind, at: u64, text: impl Into<String>) {
        self.all.push(Finding {
            primitive: self.primitive,
            kind,
            at,
            text: text.into(),
        });
    }
}

/// How long after its death a process's requests may still arrive, in nanoseconds: until the lease of its
/// fence has ended, which a cluster without a leader can put off.
pub const AFTER_DEATH: u64 = 40_000_000_000;

/// Checks everything. With `drained`, the queues were emptied in the end.
#[must_use]
pub fn check(history: &[Entry], record: &Record, drained: bool) -> Vec<Finding> {
    let mut all = Vec::new();
    let record = &dated(history, record);
    for primitive in Primitive::ALL {
        let own: Vec<&Entry> = history
            .iter()
            .filter(|e| e.primitive == primitive)
            .collect();
        all.extend(check_one(primitive, &own, record, drained));
    }
    all.sort_by_key(|finding| finding.at);
    all
}

/// The record, with what the histories know of its times.
fn dated(history: &[Entry], record: &Record) -> Record {
    let told = history.iter().filter_map(|entry| {
        let revision = entry.ok()?.revision?;
        Some((revision, entry.ended?))
    });
    record.dated(told)
}

/// Checks the history of one primitive.
#[must_use]
pub fn check_one(
    primitive: Primitive,
    history: &[&Entry],
    record: &Record,
    drained: bool,
) -> Vec<Finding> {
    if history.is_empty() {
        return Vec::new();
    }
    let mut findings = Findings::new(primitive);
    let lanes = Lanes::of(record);
    lanes::check(history, &lanes, &mut findings);
    match primitive {
        Primitive::Queue | Primitive::PriorityQueue => {
            items::check(history, record, &lanes, drained, &mut findings);
        }
        Primitive::Delivery => delivery::check(history, record, drained, &mut findings),
        Primitive::Mutex | Primitive::Rwlock | Primitive::Semaphore => {
            locks::check(history, record, &mut findings);
        }
        Primitive::Election => election::check(history, record, &mut findings),
        Primitive::Barrier => barrier::check(history, record, &mut findings),
        Primitive::DoubleBarrier => double_barrier::check(history, record, &mut findings),
        Primitive::Stm => stm::check(history, record, &mut findings),
        Primitive::Txn => txn::check(history, record, &mut findings),
    }
    findings.all
}

/// An operation in words.
fn show(entry: &Entry) -> String {
    let Entry {
        worker,
        task,
        call,
        args,
        outcome,
        settled,
        ..
    } = entry;
    let mut text = format!("{worker}/{task} {call:?}");
    if let Some(value) = &args.value {
        text += &format!(" {value:?}");
    }
    if let Some(token) = args.token {
        text += &format!(" token {token}");
    }
    text += &match outcome {
        Some(outcome) => format!(" -> {outcome:?}"),
        None => " -> (killed)".to_owned(),
    };
    if let Some(settled) = settled {
        text += &format!(", settled: {settled:?}");
    }
    text
}

/// What ended before another began has the lower number. Of each: began, ended, number, words.
fn real_time(operations: &[(u64, u64, u64, String)], findings: &mut Findings) {
    let mut by_end: Vec<usize> = (0..operations.len()).collect();
    by_end.sort_by_key(|&at| operations[at].1);
    let mut by_begin: Vec<usize> = (0..operations.len()).collect();
    by_begin.sort_by_key(|&at| operations[at].0);
    let mut ended = by_end.into_iter().peekable();
    let mut latest: Option<usize> = None;
    for at in by_begin {
        while let Some(earlier) = ended.next_if(|&earlier| operations[earlier].1 < operations[at].0)
        {
            if latest.is_none_or(|latest| operations[latest].2 < operations[earlier].2) {
                latest = Some(earlier);
            }
        }
        if let Some(latest) = latest
            && operations[latest].2 > operations[at].2
        {
            let (early, late) = (&operations[latest], &operations[at]);
            findings.add(
                Kind::Violation,
                late.0,
                format!(
                    "against real time: {} at {} ended before {} at {} began",
                    early.3, early.2, late.3, late.2
                ),
            );
        }
    }
}

/// When each process did its last thing, for those whose last operations are open.
fn deaths(history: &[&Entry]) -> std::collections::BTreeMap<String, u64> {
    let mut last = std::collections::BTreeMap::new();
    let mut killed = std::collections::BTreeSet::new();
    for entry in history {
        let seen = entry.ended.unwrap_or(entry.began);
        let latest = last.entry(entry.worker.clone()).or_insert(0);
        *latest = seen.max(*latest);
        if entry.ended.is_none() {
            killed.insert(entry.worker.clone());
        }
    }
    last.retain(|worker, _| killed.contains(worker));
    last
}
