//! [`Record`]: what the store says happened, revision by revision: the oracle of the checkers. A watch
//! of all keys from revision 1 tells it, over a connection of its own that no fault touches.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use synod_store::{EventKind, KeyRange, PutRequest, Revision, Store, WatchItem, WatchRequest};

use crate::history::now;

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the store.
    pub revision: u64,
    /// By when, on the machine's clock: it happened before this.
    pub arrived: u64,
    /// The key.
    pub key: String,
    /// What was put; `None` when it was deleted.
    pub value: Option<String>,
    /// When the key was created; 0 when it was deleted.
    pub created: u64,
}

/// All changes, in order.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The changes, in order of revision.
    pub events: Vec<Event>,
}

/// A key that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its value.
    pub value: String,
    /// When it was created.
    pub created: u64,
    /// When it was put last.
    pub modified: u64,
}

/// The keys that exist.
pub type State = BTreeMap<String, Live>;

/// Applies a change.
pub fn apply(state: &mut State, event: &Event) {
    match &event.value {
        Some(value) => {
            let live = Live {
                value: value.clone(),
                created: event.created,
                modified: event.revision,
            };
            state.insert(event.key.clone(), live);
        }
        None => {
            state.remove(&event.key);
        }
    }
}

impl Record {
    /// The changes of keys that begin with one of the prefixes, those of one revision together.
    #[must_use]
    pub fn groups(&self, prefixes: &[&str]) -> Vec<Vec<&Event>> {
        let mut groups: Vec<Vec<&Event>> = Vec::new();
        for event in &self.events {
            if !prefixes.iter().any(|prefix| event.key.starts_with(prefix)) {
                continue;
            }
            match groups.last_mut() {
                Some(group) if group[0].revision == event.revision => group.push(event),
                _ => groups.push(vec![event]),
            }
        }
        groups
    }

    /// The same, with each change no later than somebody was told of its revision or a later one: of each
    /// answer, the revision and when it came. The record alone may be late, as the member that tells it is
    /// frozen or cut off like any other.
    #[must_use]
    pub fn dated(&self, told: impl IntoIterator<Item = (u64, u64)>) -> Record {
        let mut told: Vec<(u64, u64)> = told.into_iter().collect();
        told.sort_unstable();
        let mut dated = self.clone();
        let mut latest = u64::MAX;
        for event in dated.events.iter_mut().rev() {
            while let Some((_, came)) = told.pop_if(|(revision, _)| *revision >= event.revision) {
                latest = latest.min(came);
            }
            event.arrived = event.arrived.min(latest);
        }
        dated
    }

    /// What exists in the end under a prefix.
    #[must_use]
    pub fn last(&self, prefix: &str) -> State {
        let mut state = State::new();
        for event in self.events.iter().filter(|e| e.key.starts_with(prefix)) {
            apply(&mut state, event);
        }
        state
    }

    /// When the key that was created at this revision was deleted, or created anew; `None` while it is
    /// there.
    #[must_use]
    pub fn deleted(&self, key: &str, created: u64) -> Option<&Event> {
        self.events
            .iter()
            .find(|e| e.key == key && e.revision > created && e.created != created)
    }

    /// What [`Recorder::save`] has written.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn load(path: &std::path::Path) -> anyhow::Result<Record> {
        let file = std::io::BufReader::new(std::fs::File::open(path)?);
        let mut record = Record::default();
        for line in file.lines() {
            record.events.push(serde_json::from_str(&line?)?);
        }
        Ok(record)
    }

    /// The last revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.events.last().map_or(0, |event| event.revision)
    }
}

/// Records what happens in a store.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    record: Mutex<Record>,
    /// Every change up to this revision is in the record, as its own event says: etcd 3.5.1 may report
    /// progress ahead of events.
    reached: AtomicU64,
    broken: Mutex<Option<String>>,
}

impl Recorder {
    /// Watches all keys of the store from its first revision on.
    ///
    /// # Errors
    ///
    /// When the store refuses the watch.
    pub async fn begin(store: Arc<dyn Store>) -> anyhow::Result<Recorder> {
        let request = WatchRequest::new(KeyRange::all()).starting_at(Revision(1));
        let mut watch = store.watch(request).await?;
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let _store = store;
                loop {
                    match watch.next().await {
                        Some(Ok(WatchItem::Events(batch))) => shared.add(batch.events),
                        Some(Ok(WatchItem::Progress(_))) => {}
                        other => {
                            let mut broken =
                                shared.broken.lock().unwrap_or_else(PoisonError::into_inner);
                            *broken = Some(format!("{other:?}"));
                            return;
                        }
                    }
                }
            }
        });
        Ok(Recorder { shared, task })
    }

    /// Puts a key of the runner's own, and waits until the record has come to it: every change up to the
    /// revision that this returns has been recorded.
    ///
    /// # Errors
    ///
    /// When the watch was cut, or the store or the watch does not get there within a minute.
    pub async fn reach(&self, store: &dyn Store) -> anyhow::Result<u64> {
        let begin = std::time::Instant::now();
        let revision = loop {
            // Once more does no harm.
            match store.put(PutRequest::new("chaos/mark", "")).await {
                Ok(put) => break put.header.revision.0,
                Err(error) if begin.elapsed().as_secs() > 60 => return Err(error.into()),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        };
        for _ in 0..3000 {
            if let Some(why) = &*self
                .shared
                .broken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
            {
                anyhow::bail!(
                    "the record of the store was cut, so nothing can be concluded: {why}"
                );
            }
            if self.shared.reached.load(Ordering::SeqCst) >= revision {
                return Ok(revision);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        anyhow::bail!(
            "the record of the store has not reached revision {revision} within a minute (it is at {})",
            self.shared.reached.load(Ordering::SeqCst)
        )
    }

    /// How far the record is.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.shared.reached.load(Ordering::SeqCst)
    }

    /// What was recorded so far.
    #[must_use]
    pub fn record(&self) -> Record {
        self.shared.lock().clone()
    }

    /// Writes the record as JSON lines.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn save(&self, path: &std::path::Path) -> anyhow::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for event in &self.shared.lock().events {
            serde_json::to_writer(&mut file, event)?;
            file.write_all(b"\n")?;
        }
        file.flush()?;
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, events: Vec<synod_store::Event>) {
        let arrived = now();
        let mut record = self.lock();
        for event in events {
            let put = event.kind == EventKind::Put;
            let revision = event.kv.mod_revision.0;
            record.events.push(Event {
                revision,
                arrived,
                key: String::from_utf8_lossy(&event.kv.key).into_owned(),
                value: put.then(|| String::from_utf8_lossy(&event.kv.value).into_owned()),
                created: if put { event.kv.create_revision.0 } else { 0 },
            });
            self.reached.fetch_max(revision, Ordering::SeqCst);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_happened_after_somebody_was_told_of_it() {
        let event = |revision: u64| Event {
            revision,
            arrived: 100,
            key: "k".to_owned(),
            value: None,
            created: 0,
        };
        let record = Record {
            events: [1, 3, 4, 6, 9].map(event).to_vec(),
        };
        // Of 4 at 40, of 5 at 30, of 8 at 120.
        let dated = record.dated([(8, 120), (4, 40), (5, 30)]);
        let times: Vec<u64> = dated.events.iter().map(|event| event.arrived).collect();
        assert_eq!(times, [30, 30, 30, 100, 100]);
    }
}
