//! Transactions happen once or never, and as if one after another: each saw the lists as they were when it was its turn.

use std::collections::BTreeMap;

use crate::history::{End, History};
use crate::workloads::LISTS;

pub(super) fn check(history: &History) -> Result<(), String> {
    let mut lists: BTreeMap<usize, String> = BTreeMap::new();
    history.oracle.replay(|_, state| {
        for (place, key) in LISTS.iter().enumerate() {
            if let Some(kv) = state.get(key.as_bytes()) {
                lists.insert(place, String::from_utf8_lossy(&kv.value).into_owned());
            }
        }
    });
    let list = |place| lists.get(&place).map_or("", String::as_str);
    let turns = turns(history);
    for op in history.all("append") {
        let mut words = op.argument.split(' ');
        let name = format!("{},", words.next().unwrap_or_default());
        for place in 0..LISTS.len() {
            let meant = op
                .argument
                .split(' ')
                .skip(1)
                .any(|word| word == place.to_string());
            let times = list(place)
                .split_inclusive(',')
                .filter(|entry| **entry == name)
                .count();
            let fits = match &op.outcome {
                _ if !meant => times == 0,
                End::Done(_) => times == 1,
                End::Not(_) => times == 0,
                End::Doubt => times <= 1,
            };
            if !fits {
                return Err(format!("{op:?} is {times} times in list {place}"));
            }
        }
        let End::Done(seen) = &op.outcome else {
            continue;
        };
        if seen == "resolved" {
            continue;
        }
        // Also a list that it has read and not appended to.
        let stood = turns.get(&name).map(|lists| lists.join(" "));
        if stood.as_ref() != Some(seen) {
            return Err(format!(
                "{op:?} saw {seen:?}, not what stood there at its turn: {stood:?}"
            ));
        }
    }
    Ok(())
}

/// What the lists held just before each name was appended.
fn turns(history: &History) -> BTreeMap<String, Vec<String>> {
    let mut turns = BTreeMap::new();
    let mut before = vec![String::new(); LISTS.len()];
    history.oracle.replay(|_, state| {
        let now: Vec<String> = LISTS
            .iter()
            .map(|key| {
                let held = state.get(key.as_bytes());
                held.map_or(String::new(), |kv| {
                    String::from_utf8_lossy(&kv.value).into_owned()
                })
            })
            .collect();
        for (old, new) in before.iter().zip(&now) {
            // A list that was overwritten names nobody: whoever is missing from it is found.
            for name in new
                .strip_prefix(old.as_str())
                .unwrap_or_default()
                .split_inclusive(',')
            {
                turns
                    .entry(name.to_owned())
                    .or_insert_with(|| before.clone());
            }
        }
        before = now;
    });
    turns
}
