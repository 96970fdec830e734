//! Histories of transactions, and a checker that says whether they were strictly serializable.
//!
//! A store numbers its states, and each transaction says at which revision it has its place, so no
//! search is needed: what it read must be what the state before it held (of one without a place: the
//! state of its revision), what it wrote must be what changed there, nothing else may have
//! changed anything, and one that ended before another began must come before it. Of several that
//! happened at one revision each must have read what those at the places before it left, and what
//! the last of them left must be what changed. The states come from a watch over the whole time: the store's
//! own word, told another way than its reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use synod_store::{
    DeleteRequest, EventKind, Key, KeyRange, PutRequest, Revision, Store, Watch, WatchItem,
    WatchRequest,
};

use crate::wait;

/// The pairs under a prefix, at one moment.
pub type State = BTreeMap<Key, Bytes>;

/// A transaction as its caller saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it was called.
    pub began: Instant,
    /// When it returned.
    pub ended: Instant,
    /// When it happened, as it says itself.
    pub revision: Revision,
    /// Its place among those that happened at this revision, as it says itself; `None` when nothing did.
    pub place: Option<u32>,
    /// What it read from the store: ranges with all their pairs.
    pub reads: Vec<(KeyRange, State)>,
    /// What it wrote; `None` for a key that it deleted.
    pub writes: BTreeMap<Key, Option<Bytes>>,
}

/// Watches a part of a store.
#[derive(Debug)]
pub struct Recorder {
    store: Arc<dyn Store>,
    prefix: Key,
    watch: Watch,
}

/// What happened in a part of a store.
#[derive(Debug, Default)]
pub struct Record {
    /// What changed at each revision.
    changes: BTreeMap<Revision, BTreeMap<Key, Option<Bytes>>>,
    /// The states that followed.
    states: BTreeMap<Revision, State>,
}

impl Recorder {
    /// Begins with the prefix emptied.
    ///
    /// # Panics
    ///
    /// When the store fails.
    pub async fn begin(store: Arc<dyn Store>, prefix: &str) -> Recorder {
        let range = KeyRange::prefix(prefix);
        let delete = DeleteRequest::new(range.clone());
        store.delete(delete).await.expect("the prefix is emptied");
        let watch = store.watch(WatchRequest::new(range)).await;
        Recorder {
            store,
            prefix: prefix.into(),
            watch: watch.expect("a watch"),
        }
    }

    /// All that has happened since.
    ///
    /// # Panics
    ///
    /// When the store fails, or the watch does not tell within [`wait::PATIENCE`].
    pub async fn end(mut self) -> Record {
        let last = self.prefix.join("\u{7f}last");
        let put = self.store.put(PutRequest::new(&last, "")).await;
        let end = put.expect("a last put").header.revision;
        let mut record = Record::default();
        let mut state = State::new();
        loop {
            let item = wait::soon("the watch", self.watch.next()).await;
            let batch = match item.expect("the watch goes on").expect("it does not fail") {
                WatchItem::Events(batch) => batch,
                WatchItem::Progress(_) => continue,
                other => panic!("{other:?}"),
            };
            for event in batch.events {
                let revision = event.kv.mod_revision;
                if revision == end {
                    return record;
                }
                let value = (event.kind == EventKind::Put).then_some(event.kv.value);
                match &value {
                    Some(value) => state.insert(event.kv.key.clone(), value.clone()),
                    None => state.remove(&event.kv.key),
                };
                let changes = record.changes.entry(revision).or_default();
                changes.insert(event.kv.key, value);
                record.states.insert(revision, state.clone());
            }
        }
    }
}

impl Record {
    fn state(&self, revision: Revision) -> State {
        let until = self.states.range(..=revision).next_back();
        until.map(|(_, state)| state.clone()).unwrap_or_default()
    }

    /// Whether the transactions were strictly serializable, and all that happened.
    ///
    /// # Errors
    ///
    /// The first transaction that was not, in words.
    pub fn check(&self, history: &[Seen]) -> Result<(), String> {
        let mut unclaimed = self.changes.clone();
        let mut together: BTreeMap<Revision, BTreeMap<u32, &Seen>> = BTreeMap::new();
        for seen in history {
            let Some(place) = seen.place else {
                if !seen.writes.is_empty() {
                    return Err(format!("{seen:?} wrote, and says that nothing was written"));
                }
                check_reads(seen, &self.state(seen.revision))?;
                continue;
            };
            let others = together.entry(seen.revision).or_default();
            if others.insert(place, seen).is_some() {
                return Err(format!("{seen:?}: twice the same place"));
            }
        }
        for (revision, members) in together {
            let before = self.state(revision.prev());
            let (mut state, mut writes) = (before.clone(), BTreeMap::new());
            for seen in members.values() {
                check_reads(seen, &state)?;
                for (key, value) in &seen.writes {
                    match value {
                        Some(value) => state.insert(key.clone(), value.clone()),
                        None => state.remove(key),
                    };
                    writes.insert(key.clone(), value.clone());
                }
            }
            // What must have changed: deletes of what was there, and all puts.
            writes.retain(|key, value| value.is_some() || before.contains_key(key));
            let changed = unclaimed.remove(&revision).unwrap_or_default();
            if changed != writes {
                return Err(format!(
                    "at {revision} {members:?} wrote, but what changed is {changed:?}"
                ));
            }
        }
        if let Some((revision, changed)) = unclaimed.first_key_value() {
            return Err(format!(
                "nobody says to have done {changed:?} at {revision}"
            ));
        }
        check_real_time(history)
    }
}

/// Whether a transaction has read this state.
fn check_reads(seen: &Seen, state: &State) -> Result<(), String> {
    for (range, pairs) in &seen.reads {
        let in_range = |(key, _): &(&Key, &Bytes)| range.contains(key);
        if !pairs.iter().eq(state.iter().filter(in_range)) {
            return Err(format!(
                "{range:?} is not what was read: {seen:?}; the state is {state:?}"
            ));
        }
    }
    Ok(())
}

/// Who ended before another began must have its place before it.
fn check_real_time(history: &[Seen]) -> Result<(), String> {
    let mut by_end: Vec<&Seen> = history.iter().collect();
    by_end.sort_by_key(|seen| seen.ended);
    let mut by_begin: Vec<&Seen> = history.iter().collect();
    by_begin.sort_by_key(|seen| seen.began);
    let mut ended = by_end.into_iter().peekable();
    // One without a place has read what all at its revision left.
    let order = |seen: &Seen| (seen.revision, seen.place.is_none(), seen.place);
    let mut latest = (Revision::ZERO, false, None);
    for seen in by_begin {
        while let Some(earlier) = ended.next_if(|earlier| earlier.ended < seen.began) {
            latest = latest.max(order(earlier));
        }
        let late = if seen.place.is_none() {
            order(seen) < latest
        } else {
            order(seen) <= latest
        };
        if late {
            return Err(format!("{seen:?} began after one at {latest:?} had ended"));
        }
    }
    Ok(())
}
