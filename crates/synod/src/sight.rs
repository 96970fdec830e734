//! [`Sight`]: a range of keys as it is now, watched once for all who wait in one client.
//!
//! # Protocol
//!
//! A task opens a [`Lookout`] at now, reads the range, publishes what it read as a [`View`], and keeps
//! that up by the events. Whenever events may be missing (a compaction, a closed stream, silence) it
//! reads again. So a view is the exact state at its revision, never older than the one before, but
//! it may be behind the present: who needs to know that the present was seen compares revisions.
//!
//! # Failure
//!
//! A store that cannot be reached for the patience, or that refuses, is [trouble](View::trouble) that
//! every waiter is told, and who comes later only if it lasts; the task goes on trying until nobody has
//! the sight any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{Event, EventKind, Key, KeyRange, KeyValue, RangeRequest, Revision, Store};
use synod_store::{RangeResponse, WatchRequest};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::retry::{self, Backoff};
use crate::watch::{Lookout, Nudge};
use crate::{Error, Result};

/// A range of keys at one revision.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Zero before the first read.
    pub(crate) revision: Revision,
    pub(crate) kvs: BTreeMap<Key, KeyValue>,
    /// Why the view has not been kept up for as long as the patience.
    pub(crate) trouble: Option<Error>,
}

impl View {
    /// When the key was last put; zero when it does not exist.
    pub(crate) fn modified(&self, key: &Key) -> Revision {
        self.kvs
            .get(key)
            .map_or(Revision::ZERO, |kv| kv.mod_revision)
    }

    fn read(&mut self, range: RangeResponse) {
        if range.header.revision >= self.revision {
            self.revision = range.header.revision;
            self.kvs = range
                .kvs
                .into_iter()
                .map(|kv| (kv.key.clone(), kv))
                .collect();
        }
        self.trouble = None;
    }

    fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            self.revision = self.revision.max(event.kv.mod_revision);
            match event.kind {
                EventKind::Put => {
                    self.kvs.insert(event.kv.key.clone(), event.kv);
                }
                EventKind::Delete => {
                    self.kvs.remove(&event.kv.key);
                }
            }
        }
        self.trouble = None;
    }
}

/// A range of keys that is kept in sight. Dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Sight {
    view: watch::Receiver<View>,
    task: AbortHandle,
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sight {
    /// Begins to look. Returns at once; the first view comes later.
    pub(crate) fn open(
        store: Arc<dyn Store>,
        runtime: &Handle,
        range: KeyRange,
        patience: Duration,
    ) -> Sight {
        let (publish, view) = watch::channel(View::default());
        let task = runtime.spawn(look(store, range, patience, publish));
        Sight {
            view,
            task: task.abort_handle(),
        }
    }

    /// Waits until the view satisfies `seen`, which says what it has found.
    pub(crate) async fn find<T>(&self, mut seen: impl FnMut(&View) -> Option<T>) -> Result<T> {
        let mut view = self.view.clone();
        // It may be over: only what comes from now on is this caller's.
        let mut old_trouble = view.borrow().trouble.is_some();
        loop {
            {
                let view = view.borrow_and_update();
                if let Some(found) = seen(&view) {
                    return Ok(found);
                }
                match &view.trouble {
                    Some(trouble) if !old_trouble => return Err(trouble.clone()),
                    _ => old_trouble = false,
                }
            }
            if view.changed().await.is_err() {
                // The task ends with the runtime only.
                return Err(Error::NoRuntime);
            }
        }
    }
}

async fn look(
    store: Arc<dyn Store>,
    range: KeyRange,
    patience: Duration,
    publish: watch::Sender<View>,
) {
    let mut backoff = Backoff::new();
    loop {
        let error = keep_in_sight(&store, &range, patience, &publish).await;
        tracing::debug!(%error, "a watched range is out of sight; trying again");
        publish.send_modify(|view| view.trouble = Some(error));
        backoff.wait().await;
    }
}

/// Keeps the view up until something is wrong for good, or for the patience.
async fn keep_in_sight(
    store: &Arc<dyn Store>,
    range: &KeyRange,
    patience: Duration,
    publish: &watch::Sender<View>,
) -> Error {
    let open = || Lookout::open(Arc::clone(store), WatchRequest::new(range.clone()));
    let mut lookout = match retry::insist(patience, open).await {
        Ok(lookout) => lookout,
        Err(error) => return error,
    };
    let request = RangeRequest::new(range.clone());
    let mut backoff = Backoff::new();
    loop {
        match retry::read(patience, || store.range(request.clone())).await {
            Ok(range) => publish.send_modify(|view| view.read(range)),
            Err(error) => return error,
        }
        loop {
            let read = publish.borrow().revision;
            match lookout.next(read).await {
                Ok(Nudge::Events(events)) => {
                    publish.send_modify(|view| view.apply(events));
                    backoff = Backoff::new();
                }
                // A watch that failed for a moment is opened again by the next call; the read
                // bears the trouble, or tells of it.
                Ok(Nudge::Read) => break,
                Err(error) if error.is_transient() => {
                    backoff.wait().await;
                    break;
                }
                Err(error) => return error,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fault, Faulty, soon};

    #[tokio::test]
    async fn trouble_that_is_over_fails_nobody_who_comes_after_it() {
        let faulty = Faulty::new();
        faulty.always(Some(Fault::Refuse));
        let (store, runtime) = (Arc::new(faulty.clone()), Handle::current());
        let patience = Duration::from_millis(10);
        let sight = Sight::open(store, &runtime, KeyRange::one("key"), patience);
        // Each pause before the next attempt is longer than the one before.
        for _ in 0..8 {
            let told =
                soon(sight.find(|view| (view.revision > Revision::ZERO).then_some(()))).await;
            assert!(told.is_err());
            let mut view = sight.view.clone();
            view.mark_unchanged();
            soon(view.changed()).await.unwrap();
        }
        faulty.always(None);
        let read = sight.find(|view| (view.revision > Revision::ZERO).then_some(view.revision));
        soon(read).await.unwrap();
    }
}
