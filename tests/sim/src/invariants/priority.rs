//! What leaves a priority queue was the most urgent in it, and what comes is put behind what is as urgent: those who
//! take out go by the order of keys.

use std::collections::{BTreeMap, BTreeSet};

use synod_store::EventKind;

use crate::history::History;

pub(super) fn check(history: &History) -> Result<(), String> {
    // Items by key: their priority is the first letter of their value.
    let mut items: BTreeMap<Vec<u8>, (u8, String)> = BTreeMap::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut events = history.oracle.log.iter().peekable();
    while let Some((_, revision, event)) = events.next() {
        let mut leaving = Vec::new();
        let mut coming = Vec::new();
        let mut batch = vec![event];
        while let Some((_, _, event)) = events.next_if(|(_, next, _)| next == revision) {
            batch.push(event);
        }
        for event in batch {
            let key = event.kv.key.as_bytes().to_vec();
            match event.kind {
                EventKind::Put => {
                    let value = String::from_utf8_lossy(&event.kv.value).into_owned();
                    if value.as_bytes().get(1) == Some(&b'-') && key.starts_with(b"sim/queue/") {
                        coming.push((key, (value.as_bytes()[0], value)));
                    }
                }
                EventKind::Delete => leaving.extend(items.remove(&key)),
            }
        }
        let most_urgent = items.values().map(|(priority, _)| *priority).min();
        for (priority, value) in leaving {
            if most_urgent.is_some_and(|other| other < priority) {
                return Err(format!(
                    "{value} left at revision {revision} before {items:?}"
                ));
            }
        }
        for (key, (priority, value)) in &coming {
            // What goes back does so under its old key.
            let first = known.insert(value.clone());
            let behind = items
                .range(key.clone()..)
                .find(|(other, (same, _))| *other != key && same == priority);
            if let Some((_, behind)) = behind.filter(|_| first) {
                return Err(format!(
                    "{value} was put before {behind:?} at revision {revision}"
                ));
            }
        }
        items.extend(coming);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use synod_store::{Event, KeyValue, Revision};

    fn put(revision: u64, key: &str, value: &str) -> (Duration, Revision, Event) {
        let kv = KeyValue {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..KeyValue::default()
        };
        let event = Event {
            kind: EventKind::Put,
            kv,
            prev_kv: None,
        };
        (Duration::ZERO, Revision(revision), event)
    }

    #[test]
    fn what_comes_is_put_behind_what_is_as_urgent() {
        let check = |keys: [(&str, &str); 3]| {
            let mut history = History::default();
            for (revision, (key, value)) in (2..).zip(keys) {
                history
                    .oracle
                    .log
                    .push(put(revision, &format!("sim/queue/{key}"), value));
            }
            super::check(&history)
        };
        assert_eq!(
            check([("1/1", "1-a"), ("1/2", "1-b"), ("0/1", "0-c")]),
            Ok(())
        );
        let before = check([("1/2", "1-a"), ("0/1", "0-b"), ("1/1", "1-c")]);
        assert!(before.is_err_and(|text| text.contains("was put before")));
    }
}
