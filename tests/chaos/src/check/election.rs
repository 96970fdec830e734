//! Elections: no two leaders as far as it can be proven, proclamations by the leader of that revision
//! alone, and whoever asks or observes is shown leaders in the order in which the store had them.

use std::collections::BTreeMap;

use super::holds::{Hold, holds, overlaps};
use super::{Findings, Kind, show};
use crate::history::{Answer, Call, Entry};
use crate::record::{Record, State, apply};

/// Who led from a revision on: token and words.
type Reign = (u64, u64, Option<(u64, String)>);

pub(super) fn check(history: &[&Entry], record: &Record, findings: &mut Findings) {
    let holds = holds(history, record, findings);
    overlaps(&holds, |hold, active| {
        if let Some(other) = active.first() {
            let text = format!(
                "{} was elected beside {}",
                show(hold.entry),
                show(other.entry)
            );
            findings.add(Kind::Violation, hold.granted, text);
        }
    });
    let reigns = replay(history, record, &holds, findings);
    asked(history, &reigns, &holds, findings);
    observed(history, &reigns, findings);
}

/// Replays the line: who led when, and whether proclamations were the leader's.
fn replay(
    history: &[&Entry],
    record: &Record,
    holds: &[Hold<'_>],
    findings: &mut Findings,
) -> Vec<Reign> {
    let words: BTreeMap<&str, &Entry> = history
        .iter()
        .filter(|entry| matches!(entry.call, Call::Proclaim | Call::Acquire))
        .map(|entry| (entry.value(), *entry))
        .collect();
    let by_token: BTreeMap<u64, &Hold<'_>> = holds.iter().map(|hold| (hold.token, hold)).collect();
    let prefix = findings.primitive.prefix();
    let mut state = State::new();
    let mut reigns: Vec<Reign> = vec![(0, 0, None)];
    let mut proclaimed = BTreeMap::new();
    for group in record.groups(&[&prefix]) {
        let was = state.clone();
        for event in &group {
            apply(&mut state, event);
            let Some(value) = &event.value else { continue };
            let at = event.arrived;
            let Some(entry) = words.get(value.as_str()) else {
                findings.add(Kind::Violation, at, format!("{value:?} was put by nobody"));
                continue;
            };
            if entry.call != Call::Proclaim {
                continue;
            }
            proclaimed.insert(value.clone(), event.revision);
            let leads = was.values().map(|live| live.created).min();
            if leads != entry.args.token {
                let text = format!("proclaimed while {leads:?} led: {}", show(entry));
                findings.add(Kind::Violation, at, text);
            }
            if entry.never() {
                let text = format!("said not to have happened, but did: {}", show(entry));
                findings.add(Kind::Violation, at, text);
            }
            if entry
                .args
                .token
                .is_none_or(|token| !by_token.contains_key(&token))
            {
                let text = format!("proclaimed without an election: {}", show(entry));
                findings.add(Kind::Violation, at, text);
            }
        }
        let leader = state.values().min_by_key(|live| live.created);
        let leader = leader.map(|live| (live.created, live.value.clone()));
        if reigns.last().is_none_or(|(_, _, last)| *last != leader) {
            reigns.push((group[0].revision, group[0].arrived, leader));
        }
    }
    for (value, entry) in &words {
        if entry.call == Call::Proclaim && entry.ok().is_some() && !proclaimed.contains_key(*value)
        {
            findings.add(
                Kind::Lost,
                entry.began,
                format!("never put: {}", show(entry)),
            );
        }
    }
    reigns
}

fn shown(answer: &Answer) -> Option<(u64, String)> {
    Some((answer.token?, answer.value.clone()?))
}

/// The first reign from `from` on that is what was shown.
fn find(reigns: &[Reign], from: usize, shown: &Option<(u64, String)>) -> Option<usize> {
    (from..reigns.len()).find(|&at| reigns[at].2 == *shown)
}

/// An answer is what was so at some moment after the question.
fn asked(history: &[&Entry], reigns: &[Reign], holds: &[Hold<'_>], findings: &mut Findings) {
    for entry in history.iter().filter(|entry| entry.call == Call::Leader) {
        let Some(answer) = entry.ok() else { continue };
        // Who has led from the question to the answer, for certain, is the answer: in the end nobody leads, so
        // that "nobody" is found in the record always.
        let mut sure = holds
            .iter()
            .filter(|hold| hold.granted <= entry.began && entry.end() <= hold.proven);
        if let Some(hold) = sure.find(|hold| answer.token != Some(hold.token)) {
            let text = format!("{} led all the while: {}", show(hold.entry), show(entry));
            findings.add(Kind::Violation, entry.began, text);
            continue;
        }
        // Whatever had arrived before the question was over by then, but for the last of it.
        let from = reigns.partition_point(|(_, arrived, _)| *arrived < entry.began);
        if find(reigns, from.saturating_sub(1), &shown(answer)).is_none() {
            let text = format!("never was so after it was asked: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
        }
    }
}

/// What one observer is shown, in its order, was so in that order.
fn observed(history: &[&Entry], reigns: &[Reign], findings: &mut Findings) {
    // A task begins one stream after the other: what a new one shows first is no older than what the last one
    // has shown.
    let mut at: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for entry in history.iter().filter(|entry| entry.call == Call::Observe) {
        let Some(answer) = entry.ok().filter(|answer| answer.yes.is_none()) else {
            continue;
        };
        let place = at.entry((&entry.worker, &entry.task)).or_insert(0);
        match find(reigns, *place, &shown(answer)) {
            Some(found) => *place = found,
            None => {
                let last = &reigns[*place];
                let text = format!("shown after {:?} of {}: {}", last.2, last.0, show(entry));
                findings.add(Kind::Violation, entry.began, text);
            }
        }
    }
}
