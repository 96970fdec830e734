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
