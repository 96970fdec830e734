//! Registers: a swap that happened is in the record, at the revision that was told, over what was seen;
//! one that did not is not; what was read stood there at that revision; and real time is kept.

use std::collections::BTreeMap;

use super::{Findings, Kind, real_time, show};
use crate::history::{Call, Entry, Settled};
use crate::record::{Event, Record};

pub(super) fn check(history: &[&Entry], record: &Record, findings: &mut Findings) {
    let prefix = findings.primitive.prefix();
    let puts: Vec<&Event> = record
        .events
        .iter()
        .filter(|event| event.key.starts_with(&prefix))
        .collect();
    let swaps: BTreeMap<&str, &Entry> = history
        .iter()
        .filter(|entry| entry.call == Call::Swap)
        .map(|entry| (entry.value(), *entry))
        .collect();
    let mut registers: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    let mut placed = Vec::new();
    for event in &puts {
        let value = event.value.as_deref().unwrap_or_default();
        let history = registers.entry(event.key.as_str()).or_default();
        let before = history.last().map_or(0, |event| event.revision);
        history.push(event);
        let Some(entry) = swaps.get(value) else {
            let text = format!("{value:?} was put by nobody");
            findings.add(Kind::Violation, event.arrived, text);
            continue;
        };
        if happened.insert(value, event.revision).is_some() {
            findings.add(
                Kind::Doubled,
                event.arrived,
                format!("happened twice: {}", show(entry)),
            );
        }
        placed.push((entry.began, entry.end(), event.revision, show(entry)));
        if entry.args.number != Some(before) {
            let text = format!("swapped over what was put at {before}: {}", show(entry));
            findings.add(Kind::Violation, event.arrived, text);
        }
        let refused = entry.ok().is_some_and(|answer| answer.yes != Some(true));
        if entry.never() || refused {
            let text = format!("said not to have happened, but did: {}", show(entry));
            findings.add(Kind::Violation, event.arrived, text);
        }
        let told = entry.ok().and_then(|answer| answer.revision);
        if told.is_some_and(|told| told != event.revision) {
            let text = format!("happened at {}: {}", event.revision, show(entry));
            findings.add(Kind::Violation, event.arrived, text);
        }
    }
    for entry in history {
        let Some(answer) = entry.ok() else { continue };
        let swapped = entry.call == Call::Swap && answer.yes == Some(true);
        if swapped {
            if !happened.contains_key(entry.value()) {
                findings.add(
                    Kind::Lost,
                    entry.began,
                    format!("never happened: {}", show(entry)),
                );
            }
            continue;
        }
        let revision = answer.revision.unwrap_or(0);
        placed.push((entry.began, entry.end(), revision, show(entry)));
        let key = entry.args.keys.first().map_or("", String::as_str);
        let empty = Vec::new();
        let puts = registers.get(key).unwrap_or(&empty);
        let until = puts.partition_point(|event| event.revision <= revision);
        let there = until.checked_sub(1).and_then(|at| puts[at].value.as_ref());
        if there != answer.value.as_ref() {
            let text = format!("{there:?} stood there at {revision}: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
        }
        let stood = until.checked_sub(1).map_or(0, |at| puts[at].revision);
        if entry.call == Call::Swap && entry.args.number == Some(stood) {
            let text = format!(
                "refused although what it had seen stood there: {}",
                show(entry)
            );
            findings.add(Kind::Violation, entry.began, text);
        }
    }
    for (value, entry) in &swaps {
        if entry.settled == Some(Settled::Happened) && !happened.contains_key(value) {
            let text = format!("said to have happened, but never did: {}", show(entry));
            findings.add(Kind::Lost, entry.began, text);
        }
    }
    real_time(&placed, findings);
}
