//! The bank: replays the transfers that the record names at each revision, in the places that their
//! callers were told; every balance must come out, every read must be what stood there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Kind, show};
use crate::history::{Call, Entry};
use crate::primitive::{ACCOUNTS, TOTAL};
use crate::record::Record;

/// The accounts' values.
type Accounts = BTreeMap<String, String>;

pub(super) fn check(history: &[&Entry], record: &Record, findings: &mut Findings) {
    let prefix = findings.primitive.prefix();
    let transfers: BTreeMap<&str, &Entry> = history
        .iter()
        .filter(|entry| entry.call == Call::Transfer)
        .map(|entry| (entry.value(), *entry))
        .collect();
    // What several places of one revision have left behind: for audits that were joined with them.
    let mut states: BTreeMap<u64, Accounts> = BTreeMap::new();
    let mut accounts = Accounts::new();
    let mut committed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut audits: BTreeMap<u64, Vec<&Entry>> = BTreeMap::new();
    for entry in history.iter().filter(|entry| entry.call == Call::Audit) {
        if let Some(revision) = entry.ok().and_then(|answer| answer.revision) {
            audits.entry(revision).or_default().push(entry);
        }
    }
    for group in record.groups(&[&prefix]) {
        let (revision, at) = (group[0].revision, group[0].arrived);
        let mut after = accounts.clone();
        let mut named: Vec<&Entry> = Vec::new();
        for event in &group {
            let value = event.value.clone().unwrap_or_default();
            if event.key.contains("/account/") {
                after.insert(event.key.clone(), value);
            } else if let Some(entry) = transfers.get(value.as_str()) {
                named.push(entry);
            } else {
                findings.add(
                    Kind::Violation,
                    at,
                    format!("{value:?} was moved by nobody"),
                );
            }
        }
        if accounts.len() < ACCOUNTS as usize {
            // The bank opens.
            accounts = after;
            states.insert(revision, accounts.clone());
            continue;
        }
        // Those whose places nobody knows come last: they change sums alike wherever they stand.
        named.sort_by_key(|entry| place(entry).unwrap_or(u32::MAX));
        let known = named.iter().all(|entry| place(entry).is_some());
        let mut balances = balances(&accounts);
        for entry in &named {
            if committed.insert(entry.value(), revision).is_some() {
                findings.add(
                    Kind::Doubled,
                    at,
                    format!("committed twice: {}", show(entry)),
                );
            }
            if entry.never() {
                let text = format!("said not to have happened, but did: {}", show(entry));
                findings.add(Kind::Violation, at, text);
            }
            if let Some(answer) = entry.ok() {
                if answer.revision != Some(revision) {
                    let text = format!("happened at {revision}: {}", show(entry));
                    findings.add(Kind::Violation, at, text);
                }
                if known {
                    check_reads(entry, &balances, findings);
                }
            }
            apply(entry, &mut balances);
        }
        if balances != self::balances(&after) {
            let text =
                format!("at {revision} the accounts are {after:?}, but {balances:?} was moved");
            findings.add(Kind::Lost, at, text);
        }
        // Audits that were committed together with transfers, each at its place.
        for audit in audits.remove(&revision).unwrap_or_default() {
            if known {
                check_audit(audit, &accounts, &named, findings);
            }
        }
        accounts = after;
        states.insert(revision, accounts.clone());
    }
    for (revision, alone) in audits {
        let state = states
            .range(..=revision)
            .next_back()
            .map(|(_, state)| state);
        for audit in alone {
            let reads = audit.ok().map(|answer| &answer.reads);
            if state != reads {
                let text = format!("at {revision} there was {state:?}: {}", show(audit));
                findings.add(Kind::Violation, audit.began, text);
            }
        }
    }
    for (name, entry) in &transfers {
        if entry.happened() && !committed.contains_key(name) {
            findings.add(
                Kind::Lost,
                entry.began,
                format!("never committed: {}", show(entry)),
            );
        }
    }
    check_real_time(history, &committed, findings);
}

fn place(entry: &Entry) -> Option<u32> {
    entry.ok()?.place
}

fn balance(value: &str) -> i64 {
    let first = value.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(i64::MIN)
}

fn balances(accounts: &Accounts) -> BTreeMap<String, i64> {
    accounts
        .iter()
        .map(|(key, value)| (key.clone(), balance(value)))
        .collect()
}

/// Moves the money.
fn apply(entry: &Entry, balances: &mut BTreeMap<String, i64>) {
    let amount = entry
        .args
        .number
        .and_then(|n| i64::try_from(n).ok())
        .unwrap_or(0);
    for (key, change) in entry.args.keys.iter().zip([-amount, amount]) {
        if let Some(balance) = balances.get_mut(key) {
            *balance += change;
        }
    }
}

fn check_reads(entry: &Entry, balances: &BTreeMap<String, i64>, findings: &mut Findings) {
    let reads = entry
        .ok()
        .map(|answer| answer.reads.clone())
        .unwrap_or_default();
    for (key, read) in reads {
        if balances.get(&key) != Some(&balance(&read)) {
            let text = format!(
                "{key} held {:?}, not what was read: {}",
                balances.get(&key),
                show(entry)
            );
            findings.add(Kind::Violation, entry.began, text);
        }
    }
}

fn check_audit(audit: &Entry, accounts: &Accounts, named: &[&Entry], findings: &mut Findings) {
    let mut balances = balances(accounts);
    for entry in named {
        // Without a place it comes after all of them.
        if place(audit).is_none_or(|own| place(entry).is_some_and(|other| other < own)) {
            apply(entry, &mut balances);
        }
    }
    let read = audit
        .ok()
        .map(|answer| self::balances(&answer.reads))
        .unwrap_or_default();
    if read != balances || read.values().sum::<i64>() != TOTAL {
        let text = format!("{balances:?} stood there: {}", show(audit));
        findings.add(Kind::Violation, audit.began, text);
    }
}

/// Who ended before another began has the lower place; of an audit alone, not a higher revision.
fn check_real_time(history: &[&Entry], committed: &BTreeMap<&str, u64>, findings: &mut Findings) {
    let mut placed = Vec::new();
    let mut orders = BTreeSet::new();
    for entry in history {
        let order = match (entry.call, entry.ok()) {
            (Call::Audit | Call::Transfer, Some(answer)) => {
                let revision = answer.revision.unwrap_or(0);
                (
                    revision,
                    answer.place.map_or(u64::from(u32::MAX), u64::from),
                )
            }
            (Call::Transfer, None) => match committed.get(entry.value()) {
                // It may be anywhere at this revision.
                Some(revision) => (*revision, 0),
                None => continue,
            },
            _ => continue,
        };
        orders.insert(order);
        placed.push((entry, order));
    }
    let ranks: BTreeMap<(u64, u64), u64> = orders.into_iter().zip(0..).collect();
    let placed: Vec<(u64, u64, u64, String)> = placed
        .into_iter()
        .map(|(entry, order)| {
            let words = format!("{} (at {order:?})", show(entry));
            (entry.began, entry.end(), ranks[&order], words)
        })
        .collect();
    super::real_time(&placed, findings);
}
