//! Mutex, readers-writer lock and semaphore: never more inside than may be, as far as it can be proven;
//! what is written through a guard is written by who is first in line at that revision, tokens rise, and
//! a token of the past writes nothing.

use std::collections::BTreeMap;

use super::holds::{Hold, before, holds, overlaps};
use super::{Findings, Kind, show};
use crate::history::{Call, Entry};
use crate::primitive::{PERMITS, Primitive};
use crate::record::{Record, State, apply};

pub(super) fn check(history: &[&Entry], record: &Record, findings: &mut Findings) {
    let primitive = findings.primitive;
    let holds = holds(history, record, findings);
    overlaps(&holds, |hold, active| {
        let crowd: Vec<&&Hold<'_>> = active
            .iter()
            .filter(|other| match primitive {
                Primitive::Rwlock => hold.mode() == "write" || other.mode() == "write",
                _ => true,
            })
            .collect();
        let inside: u64 = crowd.iter().map(|other| other.permits()).sum();
        let room = match primitive {
            Primitive::Semaphore => u64::from(PERMITS),
            // Readers do not count against each other, so any other is one too many.
            _ => 1,
        };
        let own = hold.permits();
        if !crowd.is_empty() && inside + own > room {
            let with: Vec<String> = crowd.iter().map(|other| show(other.entry)).collect();
            let text = format!("{} was let in beside {}", show(hold.entry), with.join(", "));
            findings.add(Kind::Violation, hold.granted, text);
        }
    });
    guarded(history, record, &holds, findings);
    reads(history, record, findings);
}

/// The keys of the line that stand before a token.
fn ahead(primitive: Primitive, state: &State, line: &str, hold: &Hold<'_>) -> Vec<String> {
    let all: Vec<String> = before(state, line, hold.token).cloned().collect();
    match primitive {
        // `PREFIX/N-LEASE-NUMBER`, N permits each.
        Primitive::Semaphore => {
            let taken: u64 = all
                .iter()
                .filter_map(|key| {
                    key.strip_prefix(line)?
                        .split('-')
                        .next()?
                        .parse::<u64>()
                        .ok()
                })
                .sum();
            if taken + hold.permits() <= u64::from(PERMITS) {
                Vec::new()
            } else {
                all
            }
        }
        Primitive::Rwlock if hold.mode() == "read" => {
            let writers = format!("{line}write/");
            all.into_iter()
                .filter(|key| key.starts_with(&writers))
                .collect()
        }
        _ => all,
    }
}

/// Replays the line and the guarded key.
fn guarded(history: &[&Entry], record: &Record, holds: &[Hold<'_>], findings: &mut Findings) {
    let primitive = findings.primitive;
    let line = match primitive {
        Primitive::Semaphore => "__synod/semaphore/chaos%2Fsemaphore/line/".to_owned(),
        _ => primitive.prefix(),
    };
    let key = primitive.guarded();
    let writes: BTreeMap<&str, &Entry> = history
        .iter()
        .filter(|entry| matches!(entry.call, Call::Write | Call::StaleWrite))
        .map(|entry| (entry.value(), *entry))
        .collect();
    let by_token: BTreeMap<u64, &Hold<'_>> = holds.iter().map(|hold| (hold.token, hold)).collect();
    // Who reads through a guard has the right to at the revision of what it read, as who writes.
    let mut reads: Vec<(u64, &Entry)> = history
        .iter()
        .filter(|entry| entry.call == Call::Read)
        .filter_map(|entry| Some((entry.ok()?.revision?, *entry)))
        .collect();
    reads.sort_by_key(|(revision, _)| *revision);
    let mut reads = reads.into_iter().peekable();
    let may = |state: &State, entry: &Entry, findings: &mut Findings| {
        let Some(hold) = entry.args.token.and_then(|token| by_token.get(&token)) else {
            let text = format!("read without a hold: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
            return;
        };
        let live = state.get(&hold.key);
        let ahead = ahead(primitive, state, &line, hold);
        if live.is_none_or(|live| live.created != hold.token) {
            let text = format!("read when it was held no more: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
        } else if !ahead.is_empty() {
            let text = format!(
                "read while others were before it ({ahead:?}): {}",
                show(entry)
            );
            findings.add(Kind::Violation, entry.began, text);
        }
    };
    let mut state = State::new();
    let mut written = BTreeMap::new();
    let mut highest = 0;
    for group in record.groups(&[&line, &key]) {
        while let Some((_, entry)) = reads.next_if(|(at, _)| *at < group[0].revision) {
            may(&state, entry, findings);
        }
        let was = state.clone();
        for event in &group {
            apply(&mut state, event);
        }
        for event in group.iter().filter(|event| event.key == key) {
            let Some(value) = &event.value else { continue };
            let at = event.arrived;
            let Some(entry) = writes.get(value.as_str()) else {
                findings.add(
                    Kind::Violation,
                    at,
                    format!("{value:?} was written by nobody"),
                );
                continue;
            };
            if written.insert(value.clone(), event.revision).is_some() {
                findings.add(Kind::Doubled, at, format!("written twice: {}", show(entry)));
            }
            if entry.call == Call::StaleWrite {
                // After a release in doubt it may be a token of the present.
                let token = entry.args.token;
                let hold = token.and_then(|token| by_token.get(&token));
                let held = hold.is_some_and(|hold| {
                    let live = was.get(&hold.key);
                    live.is_some_and(|live| live.created == hold.token)
                });
                let mut released = history.iter().filter(|entry| entry.call == Call::Release);
                let in_doubt = released.any(|entry| entry.args.token == token && entry.in_doubt());
                if !(held && in_doubt) {
                    let text = format!("a token of the past was accepted: {}", show(entry));
                    findings.add(Kind::Violation, at, text);
                }
                continue;
            }
            if entry.never() {
                let text = format!("said not to have happened, but did: {}", show(entry));
                findings.add(Kind::Violation, at, text);
            }
            let Some(hold) = entry.args.token.and_then(|token| by_token.get(&token)) else {
                findings.add(
                    Kind::Violation,
                    at,
                    format!("without a hold: {}", show(entry)),
                );
                continue;
            };
            if was
                .get(&hold.key)
                .is_none_or(|live| live.created != hold.token)
            {
                let text = format!("written when it was held no more: {}", show(entry));
                findings.add(Kind::Violation, at, text);
            }
            let ahead = ahead(primitive, &was, &line, hold);
            if !ahead.is_empty() {
                let text = format!(
                    "written while others were before it ({ahead:?}): {}",
                    show(entry)
                );
                findings.add(Kind::Violation, at, text);
            }
            if primitive != Primitive::Semaphore {
                if hold.token < highest {
                    let text = format!("written after token {highest}: {}", show(entry));
                    findings.add(Kind::Violation, at, text);
                }
                highest = highest.max(hold.token);
            }
        }
    }
    for (_, entry) in reads {
        may(&state, entry, findings);
    }
    for (value, entry) in &writes {
        if entry.call == Call::Write && entry.happened() && !written.contains_key(*value) {
            findings.add(
                Kind::Lost,
                entry.began,
                format!("never written: {}", show(entry)),
            );
        }
        if entry.ok().is_some_and(|answer| answer.yes == Some(true))
            && entry.call == Call::StaleWrite
            && !written.contains_key(*value)
        {
            let text = format!(
                "a token of the past was said to be accepted: {}",
                show(entry)
            );
            findings.add(Kind::Violation, entry.began, text);
        }
    }
}

/// Who reads twice under one hold reads the same, and what was there at that revision.
fn reads(history: &[&Entry], record: &Record, findings: &mut Findings) {
    let key = findings.primitive.guarded();
    let puts: Vec<(u64, &Option<String>)> = record
        .events
        .iter()
        .filter(|event| event.key == key)
        .map(|event| (event.revision, &event.value))
        .collect();
    let mut seen: BTreeMap<u64, (&Entry, Option<&String>)> = BTreeMap::new();
    for entry in history
        .iter()
        .copied()
        .filter(|entry| entry.call == Call::Read)
    {
        let Some(answer) = entry.ok() else { continue };
        let revision = answer.revision.unwrap_or(0);
        let until = puts.partition_point(|(put, _)| *put <= revision);
        let there = until.checked_sub(1).and_then(|at| puts[at].1.as_ref());
        if there != answer.value.as_ref() {
            let text = format!("{there:?} was there, not what was read: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
        }
        let token = entry.args.token.unwrap_or(0);
        let value = answer.value.as_ref();
        if let Some((first, before)) = seen.insert(token, (entry, value))
            && before != value
        {
            let text = format!(
                "a writer was in beside a reader: {} and {}",
                show(first),
                show(entry)
            );
            findings.add(Kind::Violation, entry.began, text);
        }
    }
}
