//! Double barrier: a round is full when as many places as it has participants are taken, nobody is in
//! before that, no more than that are in it, and nobody is out before the others have gone or died.

use std::collections::BTreeMap;

use super::{Findings, Kind, show};
use crate::history::{Call, Entry};
use crate::primitive::MEMBERS;
use crate::record::{Record, State, apply};

/// Where its keys lie.
const PREFIX: &str = "__synod/double-barrier/chaos%2Fdouble-barrier/";

/// A round that was full.
#[derive(Debug)]
struct Round {
    number: u64,
    arrived: u64,
    /// Who had taken its places then.
    members: Vec<String>,
}

pub(super) fn check(history: &[&Entry], record: &Record, findings: &mut Findings) {
    let with = |call: Call| {
        history
            .iter()
            .copied()
            .filter(move |entry| entry.call == call)
    };
    let said = |entry: &Entry| entry.ok().is_some_and(|answer| answer.yes == Some(true));
    let rounds = rounds(record);
    for round in &rounds {
        if round.members.len() != MEMBERS as usize {
            let text = format!(
                "round {} for {MEMBERS} was full with {:?}",
                round.number, round.members
            );
            findings.add(Kind::Violation, round.arrived, text);
        }
    }
    // A place says who has taken it. Each process enters once at a time, so its entries are matched with its
    // rounds in order; a round that no entry is told of is one whose caller was left in doubt.
    let mut members: BTreeMap<usize, Vec<&Entry>> = BTreeMap::new();
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in with(Call::Enter).filter(|entry| said(entry)) {
        let number = entry.ok().and_then(|answer| answer.token);
        let from = next.entry(&entry.worker).or_insert(0);
        let found = (*from..rounds.len()).find(|at| {
            let round = &rounds[*at];
            Some(round.number) == number
                && round.arrived >= entry.began
                && round.members.contains(&entry.worker)
        });
        match found {
            Some(round) => {
                *from = round + 1;
                members.entry(round).or_default().push(entry);
            }
            None => {
                let text = format!("in, but a member of no full round: {}", show(entry));
                findings.add(Kind::Violation, entry.began, text);
            }
        }
    }
    for (round, inside) in &members {
        let Round {
            number, members, ..
        } = &rounds[*round];
        let first = inside.iter().map(|entry| entry.end()).min().unwrap_or(0);
        // Who was told came with the call that was told; of the others the last that can have taken the place.
        let came = |member: &String| match inside.iter().find(|entry| entry.worker == *member) {
            Some(own) => Some(own.began),
            None => with(Call::Enter)
                .filter(|entry| entry.worker == *member && entry.began <= rounds[*round].arrived)
                .filter(|entry| entry.ok().is_none())
                .map(|entry| entry.began)
                .max(),
        };
        let all_came = members
            .iter()
            .all(|member| came(member).is_some_and(|began| began <= first));
        if !all_came {
            let text = format!("round {number}: somebody was in before {members:?} had all come");
            findings.add(Kind::Violation, first, text);
        }
    }
    leaves(history, &members, findings);
}

/// Nobody is out before all others of the round have begun to leave, or are dead.
fn leaves(history: &[&Entry], members: &BTreeMap<usize, Vec<&Entry>>, findings: &mut Findings) {
    let leave_of = |enter: &Entry| {
        history
            .iter()
            .copied()
            .filter(|entry| entry.call == Call::Leave && entry.worker == enter.worker)
            .filter(|entry| entry.task == enter.task && entry.began >= enter.end())
            .min_by_key(|entry| entry.began)
    };
    for inside in members.values() {
        let leaves: Vec<&Entry> = inside.iter().filter_map(|enter| leave_of(enter)).collect();
        let out = |entry: &&&Entry| entry.ok().is_some_and(|answer| answer.yes == Some(true));
        let first = leaves.iter().filter(out).min_by_key(|entry| entry.end());
        let Some(first) = first else { continue };
        for other in &leaves {
            // Who leaves later and was not told that it had lost its place was still inside.
            if other.began > first.end() && other.ok().is_some() {
                let text = format!("out too early: {} before {}", show(first), show(other));
                findings.add(Kind::Violation, first.end(), text);
            }
        }
    }
}

/// The rounds that were full, by the store's record.
fn rounds(record: &Record) -> Vec<Round> {
    let flag = format!("{PREFIX}at/round");
    let places = format!("{PREFIX}place/");
    let mut state = State::new();
    let mut rounds = Vec::new();
    for group in record.groups(&[PREFIX]) {
        for event in &group {
            apply(&mut state, event);
        }
        for event in group.iter().filter(|event| event.key == flag) {
            // `COUNT ROUND`; the first put of a house says round 0.
            let number = event
                .value
                .as_deref()
                .and_then(|value| value.split(' ').nth(1));
            let number = number.and_then(|number| number.parse().ok()).unwrap_or(0);
            if number > 0 && event.value.is_some() {
                rounds.push(Round {
                    number,
                    arrived: event.arrived,
                    members: state
                        .iter()
                        .filter(|(key, _)| key.starts_with(&places))
                        // `WORD IDENTITY`
                        .map(|(_, live)| live.value.split(' ').nth(1).unwrap_or("").to_owned())
                        .collect(),
                });
            }
        }
    }
    rounds
}
