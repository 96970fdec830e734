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
//! every waiter is told; the task goes on trying until nobody has the sight any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{Event, EventKind, Key, KeyRange, KeyValue, RangeRequest, Revision, Store};
use synod_store::{RangeResponse, WatchRequest};
use tokio::runtime::{self, Handle};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::linger::{Ends, is_driven};
use crate::retry::{self, Backoff};
use crate::slot::Slot;
use crate::span;
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
    /// How often there has been trouble.
    troubles: u64,
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
    driven: bool,
    runtime: runtime::Id,
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ends for Sight {
    async fn end(&self) {
        self.task.abort();
        let mut view = self.view.clone();
        while view.changed().await.is_ok() {}
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
        let task = runtime.spawn(span::task("watch", look(publish, store, range, patience)));
        Sight {
            view,
            task: task.abort_handle(),
            driven: is_driven(runtime),
            runtime: runtime.id(),
        }
    }

    /// Whether the runtime that kept it up has ended: it tells nothing any more.
    pub(crate) fn is_over(&self) -> bool {
        self.view.has_changed().is_err()
    }

    /// Whether it is kept up also while nobody waits in the runtime that does it.
    pub(crate) fn is_driven(&self) -> bool {
        self.driven
    }

    /// Waits until the view satisfies `seen`, which says what it has found. Trouble from before this
    /// call may be over, and is told only when it comes again.
    pub(crate) async fn find<T>(&self, mut seen: impl FnMut(&View) -> Option<T>) -> Result<T> {
        let mut view = self.view.clone();
        let before = view.borrow().troubles;
        loop {
            {
                let view = view.borrow_and_update();
                if let Some(found) = seen(&view) {
                    return Ok(found);
                }
                if let Some(trouble) = &view.trouble
                    && view.troubles != before
                {
                    return Err(trouble.clone());
                }
            }
            if view.changed().await.is_err() {
                // The task ends with the runtime only.
                return Err(Error::NoRuntime);
            }
        }
    }
}

/// A range of keys that is kept in sight for as long as this lives, although runtimes end in which it is.
#[derive(Debug)]
pub(crate) struct LastingSight {
    store: Arc<dyn Store>,
    range: KeyRange,
    patience: Duration,
    /// One that tasks of any runtime look at. One more for each runtime that gets on only while somebody waits in it:
    /// nobody else is to depend on that.
    sights: Slot<Vec<Arc<Sight>>>,
}

/// How often somebody looks again because the runtime has ended in which the range was kept in sight.
const RESTARTS: usize = 8;

impl LastingSight {
    /// Asks nobody yet.
    pub(crate) fn new(store: Arc<dyn Store>, range: KeyRange, patience: Duration) -> LastingSight {
        LastingSight {
            store,
            range,
            patience,
            sights: Slot::default(),
        }
    }

    /// Begins to look, in this runtime, unless it is looked already.
    pub(crate) fn open(&self, runtime: &Handle) -> Arc<Sight> {
        let mut sights = self.sights.lock();
        sights.retain(|sight| !sight.is_over());
        let serves = |sight: &&Arc<Sight>| sight.driven || sight.runtime == runtime.id();
        if let Some(sight) = sights.iter().find(serves) {
            return Arc::clone(sight);
        }
        let (store, range) = (Arc::clone(&self.store), self.range.clone());
        let sight = Arc::new(Sight::open(store, runtime, range, self.patience));
        sights.push(Arc::clone(&sight));
        sight
    }

    /// As [`Sight::find`]; it is looked in this runtime, or when that has ended, in the caller's.
    pub(crate) async fn find<T>(
        &self,
        runtime: &Handle,
        mut seen: impl FnMut(&View) -> Option<T>,
    ) -> Result<T> {
        let mut sight = self.open(runtime);
        let mut restarts = RESTARTS;
        loop {
            match sight.find(&mut seen).await {
                Err(Error::NoRuntime) if restarts > 0 => {
                    restarts = restarts.saturating_sub(1);
                    // If it was the runtime of this caller, this is where it ends too.
                    tokio::task::yield_now().await;
                    sight = self.open(&crate::runtime()?);
                }
                found => return found,
            }
        }
    }
}

/// `publish` comes first, as it is to be dropped last: who sees that it is gone knows that the store is let go.
async fn look(
    publish: watch::Sender<View>,
    store: Arc<dyn Store>,
    range: KeyRange,
    patience: Duration,
) {
    let mut backoff = Backoff::new();
    loop {
        let error = keep_in_sight(&store, &range, patience, &publish).await;
        tracing::debug!(%error, "a watched range is out of sight; trying again");
        publish.send_modify(|view| {
            view.trouble = Some(error);
            view.troubles = view.troubles.wrapping_add(1);
        });
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
    async fn trouble_that_is_over_is_not_told_to_who_comes_later() {
        let faulty = Faulty::new();
        faulty.always(Some(Fault::Refuse));
        let store: Arc<dyn Store> = Arc::new(faulty.clone());
        let patience = Duration::from_millis(50);
        let sight = Sight::open(store, &Handle::current(), KeyRange::one("a"), patience);
        let read = |view: &View| (!view.revision.is_zero()).then_some(());
        let error = soon(sight.find(read)).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        // As long as it lasts, who comes later is told too.
        soon(sight.find(read)).await.unwrap_err();
        faulty.always(None);
        soon(sight.find(read)).await.unwrap();
    }
}
