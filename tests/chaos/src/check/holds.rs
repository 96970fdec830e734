//! What locks, permits and leaderships have in common: each hold is a key with a create revision, which
//! is its fencing token, and it counts for as long as it was proven to: by a guarded write that the store
//! accepted, or a release that found it still held.

use std::collections::BTreeMap;

use super::{Findings, Kind, show};
use crate::history::{Call, Entry};
use crate::record::{Record, State};

/// Something that was acquired.
#[derive(Debug)]
pub(super) struct Hold<'a> {
    pub(super) entry: &'a Entry,
    pub(super) token: u64,
    pub(super) key: String,
    /// When its caller was told.
    pub(super) granted: u64,
    /// The last moment at which it was certainly still held; the moment of the grant when nothing has
    /// shown that since.
    pub(super) proven: u64,
}

impl Hold<'_> {
    pub(super) fn mode(&self) -> &str {
        self.entry.args.mode.as_deref().unwrap_or_default()
    }

    pub(super) fn permits(&self) -> u64 {
        self.entry.args.number.unwrap_or(1)
    }
}

/// All holds, in the order of their grants. Finds those that the store does not know, and tokens that
/// were given twice.
pub(super) fn holds<'a>(
    history: &[&'a Entry],
    record: &Record,
    findings: &mut Findings,
) -> Vec<Hold<'a>> {
    let created: BTreeMap<(&str, u64), u64> = record
        .events
        .iter()
        .filter(|event| event.value.is_some() && event.created == event.revision)
        .map(|event| ((event.key.as_str(), event.created), event.arrived))
        .collect();
    let mut holds: BTreeMap<u64, Hold<'a>> = BTreeMap::new();
    for entry in history
        .iter()
        .copied()
        .filter(|entry| entry.call == Call::Acquire)
    {
        let Some(answer) = entry.ok() else { continue };
        let (Some(token), Some(key)) = (answer.token, &answer.key) else {
            continue;
        };
        if !created.contains_key(&(key.as_str(), token)) {
            let text = format!("no such key was ever created: {}", show(entry));
            findings.add(Kind::Violation, entry.began, text);
        }
        let hold = Hold {
            entry,
            token,
            key: key.clone(),
            granted: entry.end(),
            proven: entry.end(),
        };
        if let Some(other) = holds.insert(token, hold) {
            let text = format!(
                "one token was given twice: {} and {}",
                show(other.entry),
                show(entry)
            );
            findings.add(Kind::Doubled, entry.began, text);
        }
    }
    for entry in history {
        let proves = match entry.call {
            Call::Write | Call::Read | Call::Proclaim | Call::Release => entry.ok().is_some(),
            _ => false,
        };
        if proves
            && let Some(token) = entry.args.token
            && let Some(hold) = holds.get_mut(&token)
        {
            hold.proven = hold.proven.max(entry.began);
        }
    }
    let mut holds: Vec<Hold<'a>> = holds.into_values().collect();
    holds.sort_by_key(|hold| hold.granted);
    holds
}

/// Looks at each grant together with those before it that were still held for certain.
pub(super) fn overlaps<'h, 'a>(
    holds: &'h [Hold<'a>],
    mut look: impl FnMut(&'h Hold<'a>, &[&'h Hold<'a>]),
) {
    let mut active: Vec<&Hold<'a>> = Vec::new();
    for hold in holds {
        active.retain(|other| other.proven > hold.granted);
        look(hold, &active);
        active.push(hold);
    }
}

/// The keys of a line that were created before one of them, in the state that a replay has reached.
pub(super) fn before<'s>(
    state: &'s State,
    prefix: &'s str,
    token: u64,
) -> impl Iterator<Item = &'s String> {
    state
        .iter()
        .filter(move |(key, live)| key.starts_with(prefix) && live.created < token)
        .map(|(key, _)| key)
}
