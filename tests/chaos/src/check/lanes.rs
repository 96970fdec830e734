//! Settled outcomes: each operation that was in doubt had a token, which names its lane and the operation;
//! what was found out about it later must be what the record says of its lane.
//!
//! A lane (`__synod/lane/EPOCH/NUMBER`) holds `OP ALTERNATIVE SECONDS`, put in the revision in which the
//! operation happened: a number when it did, `else` when its other branch ran, a number with `r` when that only
//! read why it could not be, `-` when it was given up.

use std::collections::BTreeMap;

use super::{Findings, Kind, show};
use crate::history::{Entry, Outcome, Settled};
use crate::record::Record;

const PREFIX: &str = "__synod/lane/";

/// What one revision says of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passage<'r> {
    pub(super) revision: u64,
    /// The session of its client.
    pub(super) epoch: &'r str,
    pub(super) operation: &'r str,
    /// What was found out of it, in the end.
    settled: Settled,
}

/// All lanes.
#[derive(Debug, Default)]
pub(super) struct Lanes<'r> {
    by_revision: BTreeMap<u64, Passage<'r>>,
    by_operation: BTreeMap<&'r str, Passage<'r>>,
    /// Lanes that were deleted.
    deleted: Vec<&'r str>,
    /// Those that have passed twice, and when.
    twice: Vec<(u64, &'r str)>,
}

impl<'r> Lanes<'r> {
    pub(super) fn of(record: &'r Record) -> Lanes<'r> {
        let mut lanes = Lanes::default();
        for event in &record.events {
            let Some(lane) = event.key.strip_prefix(PREFIX) else {
                continue;
            };
            let Some(value) = &event.value else {
                lanes.deleted.push(lane);
                continue;
            };
            let mut words = value.split(' ');
            let (operation, ran) = (words.next(), words.next());
            let (Some(operation), Some(ran)) = (operation, ran) else {
                continue;
            };
            let passage = Passage {
                revision: event.revision,
                epoch: lane.split('/').next().unwrap_or_default(),
                operation,
                settled: match ran {
                    "else" => Settled::Otherwise,
                    ran if ran.parse::<u32>().is_ok() => Settled::Happened,
                    _ => Settled::NeverWill,
                },
            };
            lanes.by_revision.insert(event.revision, passage);
            if lanes.by_operation.insert(operation, passage).is_some() {
                lanes.twice.push((event.arrived, operation));
            }
        }
        lanes
    }

    /// What has passed at a revision.
    pub(super) fn at(&self, revision: u64) -> Option<&Passage<'r>> {
        self.by_revision.get(&revision)
    }

    /// Where an operation has passed.
    pub(super) fn of_token(&self, token: &str) -> Option<&Passage<'r>> {
        self.by_operation.get(token.rsplit('.').next()?)
    }
}

/// The token of an operation that was in doubt.
pub(super) fn token(entry: &Entry) -> Option<&str> {
    match &entry.outcome {
        Some(Outcome::Unknown { token, .. }) => token.as_deref(),
        _ => None,
    }
}

pub(super) fn check(history: &[&Entry], lanes: &Lanes<'_>, findings: &mut Findings) {
    let mut twice: BTreeMap<&str, u64> = BTreeMap::new();
    twice.extend(lanes.twice.iter().map(|(at, operation)| (*operation, *at)));
    for entry in history {
        let Some(text) = token(entry) else { continue };
        // `EPOCH.FENCE.LANE.BEFORE.BEGUN.OP`, all of them hexadecimal.
        let parts: Vec<&str> = text.split('.').collect();
        let [epoch, _, lane, _, _, operation] = parts[..] else {
            continue;
        };
        if let Some(at) = twice.get(operation) {
            findings.add(Kind::Doubled, *at, format!("passed twice: {}", show(entry)));
        }
        let Some(settled) = entry.settled else {
            continue;
        };
        if settled == Settled::Forgotten {
            let number = u32::from_str_radix(lane, 16).unwrap_or(u32::MAX);
            if !lanes
                .deleted
                .contains(&format!("{epoch}/{number}").as_str())
            {
                let text = format!("forgotten, though its lane is there: {}", show(entry));
                findings.add(Kind::Violation, entry.began, text);
            }
            continue;
        }
        let passed = lanes.of_token(text).map(|passage| passage.settled);
        let passed = passed.unwrap_or(Settled::NeverWill);
        if settled != passed {
            let text = format!("settled wrongly, it is {passed:?}: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
        }
    }
}
