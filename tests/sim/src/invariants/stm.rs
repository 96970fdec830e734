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
        for (place, seen) in seen.split(' ').enumerate() {
            if !list(place).starts_with(seen) {
                return Err(format!(
                    "{op:?} saw {seen:?}, which is no beginning of list {place}"
                ));
            }
            let appended = op
                .argument
                .split(' ')
                .skip(1)
                .any(|word| word == place.to_string());
            if appended && !list(place)[seen.len()..].starts_with(&name) {
                return Err(format!("{op:?} was not appended to what it saw"));
            }
        }
    }
    Ok(())
}
