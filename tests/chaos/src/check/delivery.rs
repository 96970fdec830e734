//! Deliveries: an item is in one place at each revision, leaves it only by an acknowledgement of who has
//! it, comes back only when its marker is gone, and each delivery is counted.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Kind, real_time, show};
use crate::history::{Call, Entry, Settled};
use crate::record::{Event, Record, State, apply};

/// Where an item lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Queue,
    /// Under way: its id and attempt.
    Taken(String, u64),
    Aside,
}

pub(super) fn check(history: &[&Entry], record: &Record, drained: bool, findings: &mut Findings) {
    let replay = replay(record, history, findings);
    let with = |call: Call| {
        history
            .iter()
            .copied()
            .filter(move |entry| entry.call == call)
    };
    let mut placed = Vec::new();
    for entry in with(Call::Enqueue) {
        match replay.first.get(entry.value()) {
            Some(revision) => {
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

    let mut taken = BTreeSet::new();
    for entry in with(Call::Take) {
        let Some(answer) = entry.ok() else { continue };
        let (Some(value), Some(attempt)) = (&answer.value, answer.token) else {
            continue;
        };
        let delivery = (value.clone(), attempt);
        if !replay.deliveries.contains(&delivery) {
            let text = format!("was not delivered by the store: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
        }
        if !taken.insert(delivery) {
            let text = format!("one delivery went to two: {}", show(entry));
            findings.add(Kind::Doubled, entry.began, text);
        }
    }
    acknowledged(history, &replay, findings);
    for entry in with(Call::Nack).filter(|entry| entry.happened()) {
        let delivery = (entry.value().to_owned(), entry.args.token.unwrap_or(0));
        if !replay.returned.contains(&delivery) {
            let text = format!("given back, but it never came back: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
        }
    }
    if drained {
        for (value, place) in &replay.places {
            let text = format!("{value:?} is left over in {place:?} after the queue was emptied");
            findings.add(Kind::Violation, u64::MAX, text);
        }
    }
}

/// Each item that has left must have been acknowledged, each that was acknowledged must have left.
fn acknowledged(history: &[&Entry], replay: &Replay, findings: &mut Findings) {
    let mut acks: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in history.iter().filter(|entry| entry.call == Call::Ack) {
        acks.entry(entry.value()).or_default().push(entry);
    }
    for (value, acks) in &acks {
        let gone = replay.acked.contains_key(*value);
        let said: Vec<&&Entry> = acks.iter().filter(|entry| entry.happened()).collect();
        if let [_, second, ..] = said[..] {
            let text = format!("acknowledged twice: {}", show(second));
            findings.add(Kind::Doubled, second.began, text);
        }
        if let Some(ack) = said.first() {
            let empty = Vec::new();
            let departures = replay.acked.get(*value).unwrap_or(&empty);
            if !gone {
                let text = format!("acknowledged, but it never left: {}", show(ack));
                findings.add(Kind::Doubled, ack.began, text);
            } else if departures.iter().all(|(_, at)| Some(*at) != ack.args.token) {
                let text = format!("left at another attempt {departures:?}: {}", show(ack));
                findings.add(Kind::Violation, ack.began, text);
            }
        }
        if gone && acks.len() == 1 && acks[0].settled == Some(Settled::NeverWill) {
            let text = format!("said not to have happened, but did: {}", show(acks[0]));
            findings.add(Kind::Violation, acks[0].began, text);
        }
    }
    let departures = replay
        .acked
        .iter()
        .flat_map(|(value, all)| all.iter().map(move |at| (value, at)));
    for (value, (at, attempt)) in departures {
        let empty = Vec::new();
        let may = acks.get(value.as_str()).unwrap_or(&empty);
        let excused = may
            .iter()
            .any(|entry| entry.may() && entry.args.token == Some(*attempt));
        if !excused {
            let text =
                format!("{value:?} left at attempt {attempt}, and nobody has acknowledged it");
            findings.add(Kind::Lost, *at, text);
        }
    }
}

#[derive(Default)]
struct Replay {
    /// When each value was put in first.
    first: BTreeMap<String, u64>,
    /// All deliveries: value and attempt.
    deliveries: BTreeSet<(String, u64)>,
    /// When each value left, and at which attempt; more than once is an error of its own.
    acked: BTreeMap<String, Vec<(u64, u64)>>,
    /// What went from its taker to another place: value and attempt.
    returned: BTreeSet<(String, u64)>,
    /// What is there in the end.
    places: BTreeMap<String, (String, Place)>,
}

fn replay(record: &Record, history: &[&Entry], findings: &mut Findings) -> Replay {
    let items = findings.primitive.prefix();
    let object = findings.primitive.object().replace('/', "%2F");
    let beside = format!("__synod/queue/{object}/");
    let known: BTreeSet<&str> = history
        .iter()
        .filter(|entry| entry.call == Call::Enqueue)
        .map(|entry| entry.value())
        .collect();
    let mut replay = Replay::default();
    let mut attempts: BTreeMap<String, u64> = BTreeMap::new();
    let mut state = State::new();
    for group in record.groups(&[&items, &beside]) {
        let at = group[0].arrived;
        let before = state.clone();
        for event in &group {
            apply(&mut state, event);
        }
        for (value, places) in moved(&items, &beside, &before, &state, &group) {
            let was = replay.places.get(&value).cloned();
            let mut places = places;
            if let Some((key, place)) = &was
                && state.contains_key(key)
                && places.iter().all(|(other, _)| other != key)
            {
                places.push((key.clone(), place.clone()));
            }
            let was = was.map(|(_, place)| place);
            if !known.contains(value.as_str()) {
                findings.add(Kind::Violation, at, format!("{value:?} was put by nobody"));
            }
            if places.len() > 1 {
                findings.add(
                    Kind::Doubled,
                    at,
                    format!("{value:?} is in {places:?} at once"),
                );
            }
            let Some((key, place)) = places.into_iter().next() else {
                match was {
                    Some(Place::Taken(id, attempt)) => {
                        if !before.contains_key(&format!("{beside}taken-by/{id}")) {
                            let text = format!("{value:?} left though nobody had it any more");
                            findings.add(Kind::Lost, at, text);
                        }
                        replay
                            .acked
                            .entry(value.clone())
                            .or_default()
                            .push((at, attempt));
                    }
                    Some(place) => {
                        findings.add(Kind::Lost, at, format!("{value:?} vanished from {place:?}"));
                    }
                    None => {}
                }
                replay.places.remove(&value);
                continue;
            };
            if replay.acked.contains_key(&value) {
                let text = format!("{value:?} came back after it had left, to {place:?}");
                findings.add(Kind::Doubled, at, text);
            }
            if let Place::Taken(id, attempt) = &place {
                let count = attempts.entry(value.clone()).or_insert(0);
                let known = matches!(&was, Some(Place::Taken(same, _)) if same == id);
                if !known {
                    if *attempt > *count + 1 || *attempt < *count {
                        let text =
                            format!("{value:?}: attempt {attempt} came after attempt {count}");
                        findings.add(Kind::Violation, at, text);
                    }
                    replay.deliveries.insert((value.clone(), *attempt));
                }
                *count = *attempt;
            }
            let moved = match &was {
                Some(Place::Taken(id, attempt)) => {
                    let stays = matches!(&place, Place::Taken(same, _) if same == id);
                    (!stays).then(|| (format!("{beside}taken-by/{id}"), *attempt))
                }
                _ => None,
            };
            if let Some((_, attempt)) = &moved {
                replay.returned.insert((value.clone(), *attempt));
            }
            if moved.is_some_and(|(marker, _)| state.contains_key(&marker)) {
                let text = format!("{value:?} came back while somebody still had it");
                findings.add(Kind::Doubled, at, text);
            }
            replay
                .first
                .entry(value.clone())
                .or_insert(group[0].revision);
            replay.places.insert(value, (key, place));
        }
    }
    replay
}

/// The values that a revision has touched, and where each of them is after it.
fn moved(
    items: &str,
    beside: &str,
    before: &State,
    after: &State,
    group: &[&Event],
) -> BTreeMap<String, Vec<(String, Place)>> {
    let mut touched: BTreeMap<String, Vec<(String, Place)>> = BTreeMap::new();
    let place = |key: &str, value: &str| -> Option<(String, Place)> {
        if key.starts_with(items) {
            return Some((value.to_owned(), Place::Queue));
        }
        let (kind, id) = key.strip_prefix(beside)?.split_once('/')?;
        // `1 ATTEMPTS MOST LENGTH PLACE\nPAYLOAD`
        let (head, payload) = value.split_once('\n')?;
        let attempts = head.split(' ').nth(1)?.parse().ok()?;
        let place = match kind {
            "taken" => Place::Taken(id.to_owned(), attempts),
            "dead" | "later" => Place::Aside,
            _ => return None,
        };
        Some((payload.to_owned(), place))
    };
    let keys: BTreeSet<&str> = group.iter().map(|event| event.key.as_str()).collect();
    for key in keys {
        for (state, now) in [(before, false), (after, true)] {
            let Some(live) = state.get(key) else { continue };
            let Some((value, place)) = place(key, &live.value) else {
                continue;
            };
            let places = touched.entry(value).or_default();
            if now {
                places.push((key.to_owned(), place));
            }
        }
    }
    touched
}
