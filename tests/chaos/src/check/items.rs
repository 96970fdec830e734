//! Queue and priority queue: nothing acknowledged is lost, nothing comes out that was not put in, nothing
//! comes out twice, and what comes out is what was first in the store at that revision.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::lanes::{Lanes, token};
use super::{AFTER_DEATH, Findings, Kind, deaths, real_time, show};
use crate::history::{Call, Entry};
use crate::primitive::Primitive;
use crate::record::{Live, Record, State, apply};

pub(super) fn check(
    history: &[&Entry],
    record: &Record,
    lanes: &Lanes<'_>,
    drained: bool,
    findings: &mut Findings,
) {
    let fifo = findings.primitive == Primitive::Queue;
    let prefix = findings.primitive.prefix();
    let enqueues: BTreeMap<&str, &Entry> = history
        .iter()
        .filter(|entry| entry.call == Call::Enqueue)
        .map(|entry| (entry.value(), *entry))
        .collect();
    let replay = replay(&prefix, fifo, record, &enqueues, findings);

    let mut placed = Vec::new();
    for (value, entry) in &enqueues {
        let first = replay.first.get(*value);
        match first {
            Some((revision, _)) => {
                placed.push((entry.began, entry.end(), *revision, show(entry)));
                if entry.never() {
                    let text = format!("said not to have happened, but did: {}", show(entry));
                    findings.add(Kind::Violation, entry.began, text);
                }
            }
            None if entry.happened() => {
                let text = format!("never was in the queue: {}", show(entry));
                findings.add(Kind::Lost, entry.began, text);
            }
            None => {}
        }
    }
    real_time(&placed, findings);

    let mut out: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in history.iter().filter(|entry| entry.call == Call::Dequeue) {
        let Some(value) = entry.ok().and_then(|answer| answer.value.as_deref()) else {
            continue;
        };
        if let Some(before) = out.insert(value, entry) {
            let text = format!("came out twice: {} and {}", show(before), show(entry));
            findings.add(Kind::Doubled, entry.began, text);
        }
        if !replay.first.contains_key(value) {
            let text = format!("was never put in: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
        } else if let Some(key) = replay.live.get(value) {
            let text = format!("came out, and is still there as {key}: {}", show(entry));
            findings.add(Kind::Doubled, entry.began, text);
        }
    }
    let owners = owners(&replay, lanes, &enqueues);
    lost(history, &replay, lanes, &owners, &out, findings);
    if drained {
        for (value, key) in &replay.live {
            if !out.contains_key(value.as_str()) {
                let text = format!("{value:?} is left over as {key} after the queue was emptied");
                findings.add(Kind::Violation, u64::MAX, text);
            }
        }
    }
}

/// What the record says of each value.
#[derive(Default)]
struct Replay {
    /// When it was put in first: revision and time.
    first: BTreeMap<String, (u64, u64)>,
    /// Where it lies in the end.
    live: BTreeMap<String, String>,
    /// When it was taken out last, of those that lie nowhere: revision and time.
    gone: BTreeMap<String, (u64, u64)>,
}

fn replay(
    prefix: &str,
    fifo: bool,
    record: &Record,
    enqueues: &BTreeMap<&str, &Entry>,
    findings: &mut Findings,
) -> Replay {
    let mut replay = Replay::default();
    let mut state = State::new();
    for group in record.groups(&[prefix]) {
        let before = state.clone();
        for event in &group {
            if let (Some(value), Some(there)) = (&event.value, before.get(&event.key))
                && !group
                    .iter()
                    .any(|e| e.key == event.key && e.value.is_none())
            {
                let text = format!(
                    "{:?} was put over {:?} at {}",
                    value, there.value, event.key
                );
                findings.add(Kind::Lost, event.arrived, text);
            }
            apply(&mut state, event);
        }
        for event in &group {
            match &event.value {
                Some(value) => {
                    if !enqueues.contains_key(value.as_str()) {
                        let text = format!("{value:?} at {} was put by nobody", event.key);
                        findings.add(Kind::Violation, event.arrived, text);
                    }
                    if let Some(other) = replay.live.get(value)
                        && *other != event.key
                        && state.contains_key(other)
                    {
                        let text = format!("{value:?} is in twice: {other} and {}", event.key);
                        findings.add(Kind::Doubled, event.arrived, text);
                    }
                    // Those who take out go by keys: what comes later has the higher one, in its priority.
                    if !fifo && !replay.first.contains_key(value) {
                        let (class, _) = event.key.rsplit_once('/').unwrap_or_default();
                        let after = (Bound::Excluded(event.key.clone()), Bound::Unbounded);
                        let behind = before.range(after).next();
                        if let Some((other, _)) = behind.filter(|(key, _)| {
                            key.rsplit_once('/').is_some_and(|(same, _)| same == class)
                        }) {
                            let text = format!(
                                "{value:?} was put in as {} before {other}, which was there",
                                event.key
                            );
                            findings.add(Kind::Violation, event.arrived, text);
                        }
                    }
                    replay.live.insert(value.clone(), event.key.clone());
                    replay.gone.remove(value);
                    let seen = (event.revision, event.arrived);
                    replay.first.entry(value.clone()).or_insert(seen);
                }
                None => {
                    if let Some(was) = before.get(&event.key) {
                        if replay.live.get(&was.value) == Some(&event.key)
                            && !state.contains_key(&event.key)
                        {
                            replay.live.remove(&was.value);
                        }
                        let gone = (event.revision, event.arrived);
                        replay.gone.insert(was.value.clone(), gone);
                    }
                }
            }
        }
        let late = |there: &Live| {
            let value = there.value.as_str();
            // What goes back does so under its old key, as late as can be.
            let back = || {
                replay
                    .first
                    .get(value)
                    .is_some_and(|first| first.0 != there.modified)
            };
            fifo && (enqueues.get(value).is_none_or(|entry| is_late(entry)) || back())
        };
        order(fifo, &before, &group, late, findings);
    }
    replay
        .gone
        .retain(|value, _| !replay.live.contains_key(value));
    replay
}

/// Whether the queue's consumers may overlook the value at first: its stamp is more than two seconds older
/// than its commit, or may be. The queue's page says so.
fn is_late(entry: &Entry) -> bool {
    entry.end().saturating_sub(entry.began) > 1_900_000_000
}

/// What was taken out at one revision must have been the first that was there.
fn order(
    fifo: bool,
    before: &State,
    group: &[&crate::record::Event],
    late: impl Fn(&Live) -> bool,
    findings: &mut Findings,
) {
    let taken: BTreeSet<&str> = group
        .iter()
        .filter(|event| event.value.is_none() && before.contains_key(&event.key))
        .map(|event| event.key.as_str())
        .collect();
    if taken.is_empty() {
        return;
    }
    let rank = |key: &str| {
        let modified = before.get(key).map_or(0, |live| live.modified);
        (if fifo { modified } else { 0 }, key.to_owned())
    };
    let last = taken.iter().map(|key| rank(key)).max();
    let first_left = before
        .iter()
        .filter(|(key, live)| !taken.contains(key.as_str()) && !late(live))
        .map(|(key, _)| rank(key))
        .min();
    if let (Some(last), Some(left)) = (last, first_left)
        && left < last
    {
        let (revision, at) = (group[0].revision, group[0].arrived);
        let value = |key: &str| before.get(key).map(|live| live.value.clone());
        let text = format!(
            "at {revision} {} {:?} was taken out though {} {:?} was before it",
            last.1,
            value(&last.1),
            left.1,
            value(&left.1)
        );
        findings.add(Kind::Violation, at, text);
    }
}

/// Whose each session is, by what was enqueued through it.
fn owners<'a>(
    replay: &Replay,
    lanes: &Lanes<'a>,
    enqueues: &BTreeMap<&str, &'a Entry>,
) -> BTreeMap<&'a str, &'a str> {
    let mut owners = BTreeMap::new();
    for (value, (revision, _)) in &replay.first {
        if let (Some(passage), Some(entry)) = (lanes.at(*revision), enqueues.get(value.as_str())) {
            owners.insert(passage.epoch, entry.worker.as_str());
        }
    }
    owners
}

/// A call that may have taken something out for a caller who never learned of it.
struct Excuse<'a> {
    entry: &'a Entry,
    /// From when to when it can have.
    from: u64,
    until: u64,
    /// The revision of what it did, when its token tells.
    revision: Option<u64>,
}

/// Whose callers never learned how they ended, or had left.
fn excuses<'a>(history: &[&'a Entry], lanes: &Lanes<'_>) -> Vec<Excuse<'a>> {
    let deaths = deaths(history);
    let mut excuses = Vec::new();
    for entry in history
        .iter()
        .filter(|entry| entry.call == Call::Dequeue && !entry.never())
    {
        let dead = deaths.get(&entry.worker).copied();
        let last = match (entry.ok(), entry.ended, dead) {
            (None, ended, dead) => ended.or(dead),
            // Its caller had left when the claim was answered, and the process died before the item
            // was back.
            (Some(answer), Some(ended), Some(dead))
                if answer.value.is_none() && ended.saturating_add(10_000_000_000) > dead =>
            {
                Some(dead)
            }
            _ => continue,
        };
        let revision = match token(entry).filter(|token| token.contains('.')) {
            Some(token) => match lanes.of_token(token) {
                Some(passage) => Some(passage.revision),
                // It has not happened.
                None => continue,
            },
            None => None,
        };
        excuses.push(Excuse {
            entry,
            from: entry.began,
            until: last.unwrap_or(entry.began).saturating_add(AFTER_DEATH),
            revision,
        });
    }
    excuses
}

/// What vanished without anybody having got it must be excused, each by a call of its own whose caller
/// never learned how it ended, of the process through whose session it was taken.
fn lost(
    history: &[&Entry],
    replay: &Replay,
    lanes: &Lanes<'_>,
    owners: &BTreeMap<&str, &str>,
    out: &BTreeMap<&str, &Entry>,
    findings: &mut Findings,
) {
    let mut excuses = excuses(history, lanes);
    let mut vanished: Vec<(u64, u64, &str)> = replay
        .gone
        .iter()
        .filter(|(value, _)| !out.contains_key(value.as_str()))
        .map(|(value, (revision, at))| (*revision, *at, value.as_str()))
        .collect();
    vanished.sort_unstable();
    for (revision, at, value) in vanished {
        let owner = lanes
            .at(revision)
            .and_then(|passage| owners.get(passage.epoch));
        let fits = |excuse: &Excuse<'_>| match excuse.revision {
            Some(own) => own == revision,
            None => {
                (excuse.from..=excuse.until).contains(&at)
                    && owner.is_none_or(|owner| *owner == excuse.entry.worker)
            }
        };
        // One that knows its revision first, then the one that runs out first, of those that fit.
        let fit = (0..excuses.len())
            .filter(|&n| fits(&excuses[n]))
            .min_by_key(|&n| (excuses[n].revision.is_none(), excuses[n].until));
        match fit {
            Some(n) => {
                excuses.swap_remove(n);
            }
            None => {
                let text = match owner {
                    Some(owner) => format!("{value:?} was taken out by {owner}, and nobody got it"),
                    None => format!("{value:?} was taken out, and nobody got it"),
                };
                findings.add(Kind::Lost, at, text);
            }
        }
    }
}
