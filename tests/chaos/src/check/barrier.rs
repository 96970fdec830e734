//! Barrier: who passes has had a moment to, between its call and its return, in which nobody held it; and
//! what is said of holds and releases is what the store has.

use super::{Findings, Kind, deaths, show};
use crate::history::{Call, Entry};
use crate::record::Record;

/// For so long a killed process may have gone on with a call after the last line of its history, in nanoseconds.
const UNWRITTEN: u64 = 10_000_000_000;

/// A time during which the barrier was open, as wide as it can have been.
#[derive(Debug)]
struct Gap {
    from: u64,
    to: u64,
}

pub(super) fn check(history: &[&Entry], record: &Record, findings: &mut Findings) {
    let key = findings.primitive.object();
    let with = |call: Call| {
        history
            .iter()
            .copied()
            .filter(move |entry| entry.call == call)
    };
    // A release deletes the hold that it had read, however late its requests arrive: one that was made before
    // its caller was told, or died.
    let deaths = deaths(history);
    let told = |entry: &Entry| match (entry.ended, deaths.get(&entry.worker)) {
        (Some(ended), _) => ended,
        (None, Some(death)) => death.saturating_add(UNWRITTEN),
        (None, None) => u64::MAX,
    };
    let mut gaps = vec![Gap {
        from: 0,
        to: u64::MAX,
    }];
    let mut created = 0;
    let mut deletions = 0;
    let mut holds = Vec::new();
    for event in record.events.iter().filter(|event| event.key == key) {
        match &event.value {
            Some(holder) if event.created == event.revision => {
                if let Some(gap) = gaps.last_mut() {
                    gap.to = event.arrived;
                }
                holds.push((holder.clone(), event.revision, event.arrived));
                // It was held no earlier than the last of this name who was told so has begun to; when
                // another of them is in doubt nothing is known.
                let own = with(Call::Hold)
                    .filter(|entry| entry.worker == *holder && entry.may())
                    .filter(|entry| entry.began <= event.arrived);
                if own.clone().all(|entry| entry.ok().is_some()) {
                    created = own.map(|entry| entry.began).max().unwrap_or(created);
                }
                // Nor before the gap that it ended had begun.
                created = created.max(gaps.last().map_or(0, |gap| gap.from));
            }
            Some(_) => {
                let text = format!("put over a barrier that was held, at {}", event.revision);
                findings.add(Kind::Violation, event.arrived, text);
            }
            None => {
                deletions += 1;
                // It was opened no earlier than the first who can have done it has begun.
                let first = with(Call::Open)
                    .filter(|entry| entry.may() && entry.began <= event.arrived)
                    .filter(|entry| entry.ok().is_none_or(|answer| answer.yes == Some(true)))
                    .filter(|entry| told(entry) >= created)
                    .map(|entry| entry.began.max(created))
                    .min();
                if first.is_none() {
                    let text = format!("opened by nobody, at {}", event.revision);
                    findings.add(Kind::Violation, event.arrived, text);
                }
                gaps.push(Gap {
                    from: first.unwrap_or(created),
                    to: u64::MAX,
                });
            }
        }
    }
    for entry in with(Call::Wait) {
        if entry.ok().is_none_or(|answer| answer.yes != Some(true)) {
            continue;
        }
        let open = gaps
            .iter()
            .any(|gap| gap.from <= entry.end() && entry.began <= gap.to);
        if !open {
            let text = format!("passed while it was held all the time: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
        }
    }
    count(history, &holds, findings);
    releases(history, deletions, findings);
}

/// As many have been told that they opened it as the store has deleted it; those in doubt once or never.
fn releases(history: &[&Entry], deletions: usize, findings: &mut Findings) {
    let opens = || history.iter().filter(|entry| entry.call == Call::Open);
    let said = |entry: &&&Entry| match entry.ok() {
        Some(answer) => answer.yes == Some(true),
        None => entry.happened(),
    };
    let certain = opens().filter(said).count();
    let doubt = |entry: &&&Entry| entry.in_doubt() && entry.may() && !entry.happened();
    let possible = certain + opens().filter(doubt).count();
    if deletions < certain {
        let text = format!("{certain} were told that they opened it; the store has {deletions}");
        findings.add(Kind::Doubled, 0, text);
    }
    if deletions > possible {
        let text = format!("{possible} can have opened it; the store has {deletions}");
        findings.add(Kind::Violation, 0, text);
    }
}

/// Each process has held as often as the store says; those in doubt once or never.
fn count(history: &[&Entry], holds: &[(String, u64, u64)], findings: &mut Findings) {
    let mut workers: Vec<&str> = history.iter().map(|entry| entry.worker.as_str()).collect();
    workers.sort_unstable();
    workers.dedup();
    for worker in workers {
        let stored = holds
            .iter()
            .filter(|(holder, _, _)| holder == worker)
            .count();
        let own = history
            .iter()
            .filter(|entry| entry.worker == worker && entry.call == Call::Hold);
        let certain = own.clone().filter(|entry| entry.happened()).count();
        let possible = own.filter(|entry| entry.may()).count();
        if stored < certain {
            let text =
                format!("{worker} was told {certain} times that it holds; the store has {stored}");
            findings.add(Kind::Lost, 0, text);
        }
        if stored > possible {
            let text = format!("{worker} can have held {possible} times; the store has {stored}");
            findings.add(Kind::Doubled, 0, text);
        }
    }
    for (holder, revision, arrived) in holds {
        if history.iter().all(|entry| entry.worker != *holder) {
            let text = format!("{holder:?}, whom nobody knows, has held it at {revision}");
            findings.add(Kind::Violation, *arrived, text);
        }
    }
}
