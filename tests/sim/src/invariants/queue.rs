//! A queue loses nothing, gives nothing twice, and keeps each producer's order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use synod_store::EventKind;

use crate::history::{End, History, Op};

pub(super) fn check(history: &History) -> Result<(), String> {
    check_values(history)?;
    order(history)
}

/// What values hold in the end.
fn left(history: &History) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    history.oracle.replay(|_, state| {
        left = state
            .values()
            .map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
            .collect();
    });
    left
}

/// Lost 0, unexpected 0, doubled 0.
pub(super) fn check_values(history: &History) -> Result<(), String> {
    let mut out: BTreeMap<&str, usize> = BTreeMap::new();
    // A process that is killed takes what it had claimed with it, even for a caller that had left just before.
    let mut doubts = history.crashes.len();
    for op in history.all("dequeue") {
        match &op.outcome {
            End::Done(value) if value != "nothing" && value != "resolved" => {
                *out.entry(value).or_default() += 1;
            }
            End::Done(value) if value == "resolved" => doubts += 1,
            End::Doubt => doubts += 1,
            _ => {}
        }
    }
    if let Some((value, count)) = out.iter().find(|(_, count)| **count > 1) {
        return Err(format!("{value} came out {count} times"));
    }
    let left = left(history);
    let mut lost = Vec::new();
    let mut put = BTreeSet::new();
    for op in history.all("enqueue") {
        let value = op.argument.as_str();
        let came = out.contains_key(value);
        match op.outcome {
            End::Not(_) if came || left.contains(value) => {
                return Err(format!("{value} was refused, and is there"));
            }
            End::Done(_) if !came && !left.contains(value) => lost.push(value),
            _ => {}
        }
        if came && left.contains(value) {
            return Err(format!("{value} came out, and is still there"));
        }
        put.insert(value);
    }
    if let Some(value) = out.keys().find(|value| !put.contains(*value)) {
        return Err(format!("{value} came out, and was never put in"));
    }
    // A consumer that was killed, or never heard its answer, may have had one.
    if lost.len() > doubts {
        return Err(format!(
            "{lost:?} are lost, with only {doubts} dequeues in doubt"
        ));
    }
    Ok(())
}

/// A value whose enqueue took longer may have lost its turn: the queue's documentation says two seconds, less what the
/// clients' clocks differ by.
const LATE: Duration = Duration::from_millis(1_500);

/// Items of one producer leave in the order in which it put them.
fn order(history: &History) -> Result<(), String> {
    let mut puts: BTreeMap<String, usize> = BTreeMap::new();
    let mut gone = Vec::new();
    for (_, _, event) in &history.oracle.log {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match (event.kind, &event.prev_kv) {
            (EventKind::Put, _) => *puts.entry(text(&event.kv.value)).or_default() += 1,
            (EventKind::Delete, Some(before)) => gone.push(text(&before.value)),
            _ => {}
        }
    }
    let late = |op: &&Op| op.end.is_none_or(|end| end.saturating_sub(op.begin) > LATE);
    let late = history.all("enqueue").filter(late);
    let late: BTreeSet<&str> = late.map(|op| op.argument.as_str()).collect();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for value in gone {
        // What was put back has lost its turn.
        if puts.get(&value) != Some(&1) || late.contains(value.as_str()) {
            continue;
        }
        let Some((producer, number)) = value.split_once('n') else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        if let Some(before) = last.insert(producer.to_owned(), number)
            && before > number
        {
            return Err(format!(
                "{value} left after item {before} of the same producer"
            ));
        }
    }
    Ok(())
}
