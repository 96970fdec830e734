//! The store's own account: every revision as it became visible, across crashes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use synod_engine::Engine;
use synod_store::{
    ErrorKind, Event, EventKind, KeyRange, Revision, Store, Watch, WatchItem, WatchRequest,
};

/// What became visible, and when.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) log: Vec<(Duration, Revision, Event)>,
    watch: Option<Watch>,
    /// The highest revision that anybody could see.
    pub(crate) seen: Revision,
}

impl Oracle {
    /// Takes note of what has become visible. An error is a violation.
    pub(crate) fn look(&mut self, engine: Option<&Engine>) -> Result<(), String> {
        let Some(engine) = engine else {
            self.watch = None;
            return Ok(());
        };
        if self.watch.is_none() {
            let next = Revision(self.seen.0.max(1) + 1);
            let request = WatchRequest::new(KeyRange::all())
                .starting_at(next)
                .with_prev_kv();
            let opened = engine.watch(request).now_or_never();
            let watch = opened.ok_or("the engine does not open a watch at once")?;
            let watch = match watch {
                Ok(watch) => watch,
                // It is about to be killed.
                Err(error) if matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Closed) => {
                    return Ok(());
                }
                Err(error) => return Err(format!("the oracle's watch: {error}")),
            };
            let is = watch.header().revision;
            if is < self.seen {
                return Err(format!(
                    "revision {} was visible, but after the restart the store is at {is}",
                    self.seen
                ));
            }
            self.watch = Some(watch);
        }
        let at = crate::world::now();
        while let Some(item) = self.watch.as_mut().and_then(|w| w.next().now_or_never()) {
            match item {
                Some(Ok(WatchItem::Events(batch))) => {
                    for event in batch.events {
                        let revision = event.kv.mod_revision;
                        if revision < self.seen {
                            return Err(format!("revision {revision} came after {}", self.seen));
                        }
                        self.seen = revision;
                        self.log.push((at, revision, event));
                    }
                }
                Some(Ok(WatchItem::Compacted { .. })) => {
                    return Err("history was compacted before the oracle saw it".to_owned());
                }
                Some(Ok(_)) => {}
                // The engine has stopped.
                Some(Err(_)) | None => {
                    self.watch = None;
                    break;
                }
            }
        }
        Ok(())
    }

    /// What the whole store held after a revision, in steps: calls `at` with each revision's state.
    pub(crate) fn replay(&self, mut at: impl FnMut(Revision, &State)) {
        let mut state = State::new();
        let mut current = Revision(1);
        at(current, &state);
        let mut events = self.log.iter().peekable();
        while let Some((_, revision, event)) = events.next() {
            current = *revision;
            match event.kind {
                EventKind::Put => {
                    state.insert(event.kv.key.as_bytes().to_vec(), event.kv.clone());
                }
                EventKind::Delete => {
                    state.remove(event.kv.key.as_bytes());
                }
            }
            if events.peek().is_none_or(|(_, next, _)| *next != current) {
                at(current, &state);
            }
        }
    }
}

/// The pairs at one revision.
pub(crate) type State = BTreeMap<Vec<u8>, synod_store::KeyValue>;
