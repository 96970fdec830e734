//! Histories of transactions, and a checker that says whether they were strictly serializable.
//!
//! A store numbers its states, and each transaction says at which revision it has its place, so no
//! search is needed: what it read must be what the state before it held (of one that wrote nothing:
//! the state of its revision), what it wrote must be what changed there, nothing else may have
//! changed anything, and one that ended before another began must come before it. The states come
//! from a watch over the whole time: the store's own word, told another way than its reads.

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
    /// Its place, as it says itself.
    pub revision: Revision,
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
        for seen in history {
            self.check_reads(seen)?;
            if seen.writes.is_empty() {
                continue;
            }
            match unclaimed.remove(&seen.revision) {
                Some(changed) if changed == self.effective(seen) => {}
                Some(changed) => {
                    return Err(format!("{seen:?} wrote, but what changed is {changed:?}"));
                }
                // Deleting what is not there changes nothing.
                None if self.effective(seen).is_empty() => {}
                None => {
                    return Err(format!(
                        "{seen:?}: nothing changed, or twice the same place"
                    ));
                }
            }
        }
        if let Some((revision, changed)) = unclaimed.first_key_value() {
            return Err(format!(
                "nobody says to have done {changed:?} at {revision}"
            ));
        }
        check_real_time(history)
    }

    /// What must have changed: deletes of what was there, and all puts.
    fn effective(&self, seen: &Seen) -> BTreeMap<Key, Option<Bytes>> {
        let before = self.state(seen.revision.prev());
        let mut writes = seen.writes.clone();
        writes.retain(|key, value| value.is_some() || before.contains_key(key));
        writes
    }

    fn check_reads(&self, seen: &Seen) -> Result<(), String> {
        let at = if seen.writes.is_empty() {
            seen.revision
        } else {
            seen.revision.prev()
        };
        let state = self.state(at);
        for (range, pairs) in &seen.reads {
            let in_range = |(key, _): &(&Key, &Bytes)| range.contains(key);
            let expected = state.iter().filter(in_range);
            if !pairs.iter().eq(expected) {
                return Err(format!(
                    "{range:?} at {at} is not what was read: {seen:?}; the state is {state:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Who ended before another began must have its place before it.
fn check_real_time(history: &[Seen]) -> Result<(), String> {
    let mut by_end: Vec<&Seen> = history.iter().collect();
    by_end.sort_by_key(|seen| seen.ended);
    let mut by_begin: Vec<&Seen> = history.iter().collect();
    by_begin.sort_by_key(|seen| seen.began);
    let mut ended = by_end.into_iter().peekable();
    let mut latest = Revision::ZERO;
    for seen in by_begin {
        while let Some(earlier) = ended.next_if(|earlier| earlier.ended < seen.began) {
            latest = latest.max(earlier.revision);
        }
        let late = if seen.writes.is_empty() {
            seen.revision < latest
        } else {
            seen.revision <= latest
        };
        if late {
            return Err(format!(
                "{seen:?} began after one at revision {latest} had ended"
            ));
        }
    }
    Ok(())
}
