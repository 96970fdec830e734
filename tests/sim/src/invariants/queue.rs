//! A queue loses nothing, gives nothing twice, and keeps each producer's order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use synod_store::{EventKind, Revision};

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
    for op in history.all("dequeue") {
        match &op.outcome {
            End::Done(value) if value != "nothing" && value != "resolved" => {
                *out.entry(value).or_default() += 1;
            }
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
    excused(history, &lost)
}

/// A process of a client.
type Process = (usize, u64);

/// Who took what out last, and when: the process through whose lane it went, if that is known.
fn takers(history: &History) -> BTreeMap<String, (Duration, Option<Process>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let puts: BTreeMap<&str, Process> = history
        .all("enqueue")
        .map(|op| (op.argument.as_str(), (op.client, op.incarnation)))
        .collect();
    // The session that a revision belongs to: `__synod/lane/EPOCH/NUMBER` is put in it.
    let mut epochs: BTreeMap<Revision, String> = BTreeMap::new();
    for (_, revision, event) in &history.oracle.log {
        let key = text(event.kv.key.as_bytes());
        if let Some(epoch) = key.strip_prefix("__synod/lane/")
            && event.kind == EventKind::Put
        {
            let epoch = epoch.split('/').next().unwrap_or_default();
            epochs.insert(*revision, epoch.to_owned());
        }
    }
    let mut owners: BTreeMap<&str, Process> = BTreeMap::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (_, revision, event) in &history.oracle.log {
        // What goes back is put by another than its producer.
        let value = text(&event.kv.value);
        if event.kind == EventKind::Put
            && let Some(producer) = puts.get(value.as_str())
            && known.insert(value)
            && let Some(epoch) = epochs.get(revision)
        {
            owners.insert(epoch, *producer);
        }
    }
    let mut takers = BTreeMap::new();
    for (at, revision, event) in &history.oracle.log {
        if let (EventKind::Delete, Some(before)) = (event.kind, &event.prev_kv) {
            let epoch = epochs.get(revision).map(String::as_str);
            let owner = epoch.and_then(|epoch| owners.get(epoch)).copied();
            takers.insert(text(&before.value), (*at, owner));
        }
    }
    takers
}

/// What nobody got must have been taken by a process that never heard its answer, or was killed: one for one.
fn excused(history: &History, lost: &[&str]) -> Result<(), String> {
    let mut excuses: Vec<(Duration, Process)> = history
        .all("dequeue")
        .filter(|op| match &op.outcome {
            End::Done(value) => value == "resolved",
            // One that a process was killed in is counted with that.
            End::Doubt => op.end.is_some(),
            End::Not(_) => false,
        })
        .map(|op| (op.begin, (op.client, op.incarnation)))
        .collect();
    for (client, at) in &history.crashes {
        // What it had claimed went with it, also for a caller that had left just before.
        let own = history.ops.iter().filter(|op| op.client == *client);
        let last = own.filter(|op| op.begin <= *at).max_by_key(|op| op.begin);
        let begun = |op: &&Op| op.begin + CLAIMED >= *at && op.begin <= *at;
        if let Some(last) = last {
            let process = (last.client, last.incarnation);
            let calls = history.all("dequeue").filter(begun);
            let mut calls: Vec<&Op> = calls
                .filter(|op| (op.client, op.incarnation) == process)
                .filter(|op| match &op.outcome {
                    End::Done(value) => value == "nothing",
                    End::Doubt => op.end.is_none(),
                    End::Not(_) => false,
                })
                .collect();
            calls.sort_by_key(|op| op.begin);
            excuses.extend(calls.iter().rev().take(2).map(|op| (op.begin, process)));
        }
    }
    let takers = takers(history);
    for value in lost {
        let Some((at, owner)) = takers.get(*value) else {
            return Err(format!("{value} was acknowledged, and never was there"));
        };
        let fit = excuses
            .iter()
            .position(|(from, process)| from <= at && owner.is_none_or(|owner| owner == *process));
        match fit {
            Some(fit) => {
                excuses.swap_remove(fit);
            }
            None => {
                return Err(format!(
                    "{value} is lost: client {owner:?} took it out at {at:?}, with no dequeue of its own in doubt"
                ));
            }
        }
    }
    Ok(())
}

/// For so long before its end a process may have begun a call whose claim was answered when its caller had left.
const CLAIMED: Duration = Duration::from_secs(10);

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

#[cfg(test)]
mod tests {
    use super::*;
    use synod_store::{Event, KeyValue};

    const SECOND: Duration = Duration::from_secs(1);

    fn op(client: usize, what: &'static str, argument: &str, at: u32, outcome: End) -> Op {
        Op {
            client,
            incarnation: 0,
            what,
            argument: argument.to_owned(),
            begin: SECOND * at,
            end: Some(SECOND * at),
            outcome,
        }
    }

    /// A put, or with a value before it a deletion, through a lane of the client's.
    fn log(history: &mut History, revision: u64, client: usize, value: &str, before: Option<&str>) {
        let at = SECOND * u32::try_from(revision).unwrap();
        let mut add = |key: String, value: &str, before: Option<&str>| {
            let kv = |value: &str| KeyValue {
                key: key.clone().into(),
                value: value.to_owned().into(),
                mod_revision: Revision(revision),
                ..KeyValue::default()
            };
            let event = Event {
                kind: if before.is_some() {
                    EventKind::Delete
                } else {
                    EventKind::Put
                },
                kv: kv(value),
                prev_kv: before.map(kv),
            };
            history.oracle.log.push((at, Revision(revision), event));
        };
        add(
            format!("sim/queue/{}", before.unwrap_or(value)),
            value,
            before,
        );
        add(format!("__synod/lane/e{client}/0"), "OP 0 1", None);
    }

    /// Two clients put in one value each; the first takes out both, and hears of one.
    fn history(last: End) -> History {
        let mut history = History::default();
        let done = || End::Done(String::new());
        history.ops = vec![
            op(0, "enqueue", "a", 2, done()),
            op(1, "enqueue", "b", 3, done()),
            op(0, "dequeue", "", 4, End::Done("a".to_owned())),
            op(0, "dequeue", "", 5, last),
        ];
        log(&mut history, 2, 0, "a", None);
        log(&mut history, 3, 1, "b", None);
        log(&mut history, 4, 0, "", Some("a"));
        log(&mut history, 5, 0, "", Some("b"));
        history
    }

    #[test]
    fn a_loss_is_excused_by_its_own_taker_alone() {
        let good = history(End::Done("b".to_owned()));
        assert_eq!(check_values(&good), Ok(()));
        assert_eq!(check_values(&history(End::Doubt)), Ok(()));
        let lost = |history: &History| check_values(history).is_err_and(|e| e.contains("is lost"));
        assert!(lost(&history(End::Done("nothing".to_owned()))));
        // The other client's doubt, or death, excuses nothing.
        let mut other = history(End::Done("nothing".to_owned()));
        other.ops.push(op(1, "dequeue", "", 5, End::Doubt));
        other.crashes.push((1, SECOND * 6));
        assert!(lost(&other));
        // Its own death does.
        other.crashes.push((0, SECOND * 6));
        assert_eq!(check_values(&other), Ok(()));
        // But not a doubt that began later.
        let mut later = history(End::Done("nothing".to_owned()));
        later.ops.push(op(0, "dequeue", "", 9, End::Doubt));
        assert!(lost(&later));
    }
}
