//! [`Outsiders`]: whether anybody waits in the store's line while a client hands the lock over in memory.
//!
//! # Protocol
//!
//! One task a lock, as long as the client has or wants it, and for a second or two after that, but not longer
//! than there is a handle of it, as the task keeps the store open: watch
//! `NAME/` at now; when the watch stands, read it, keys only; from there events tell. Compaction, a broken watch,
//! silence: read again; until then it is not known who waits, and somebody is taken to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use synod_store::{Event, EventKind, Key, KeyRange, RangeRequest, Revision, Store, WatchRequest};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::baton::Baton;
use crate::slot::Slot;
use crate::span;
use crate::waiters::Wanted;
use crate::watch::{Lookout, NET, Nudge};
use crate::{Result, retry};

/// How often the task looks whether it is needed.
const TICK: Duration = Duration::from_secs(1);

/// The keys of a line, as far as they are known.
#[derive(Debug)]
pub(super) struct Outsiders {
    store: Arc<dyn Store>,
    prefix: Key,
    patience: Duration,
    view: Arc<Slot<View>>,
    ending: CancellationToken,
    /// Ends the task with the last handle.
    _task: DropGuard,
}

#[derive(Debug, Default)]
struct View {
    /// A task follows the line.
    followed: bool,
    /// The revision at which the line is known; `None` while it is not.
    known: Option<Revision>,
    line: HashMap<Key, Revision>,
}

impl Outsiders {
    pub(super) fn new(wanted: &Wanted) -> Outsiders {
        let ending = CancellationToken::new();
        Outsiders {
            store: Arc::clone(wanted.client.store()),
            prefix: wanted.prefix.clone(),
            patience: wanted.client.timeout(),
            view: Arc::default(),
            _task: ending.clone().drop_guard(),
            ending,
        }
    }

    /// Sees to it that the line is followed.
    pub(super) fn follow(&self, baton: &Arc<Baton>, runtime: &Handle) {
        let followed = std::mem::replace(&mut self.view.lock().followed, true);
        if !followed {
            let follower = Follower {
                baton: Arc::downgrade(baton),
                store: Arc::clone(&self.store),
                prefix: self.prefix.clone(),
                patience: self.patience,
                view: Arc::clone(&self.view),
                ending: self.ending.clone(),
            };
            runtime.spawn(span::task("mutex.outsiders", follower.run()));
        }
    }

    /// Whether anybody but this one may be in the line.
    pub(super) fn may_wait(&self, own: &Key) -> bool {
        let view = self.view.lock();
        let own = usize::from(view.line.contains_key(own));
        view.known.is_none() || view.line.len() > own
    }

    /// Whether the key that was created then was seen to be gone.
    pub(super) fn saw_end_of(&self, own: &Key, created: Revision) -> bool {
        let view = self.view.lock();
        view.known.is_some_and(|known| known >= created) && view.line.get(own) != Some(&created)
    }
}

/// The task.
struct Follower {
    baton: Weak<Baton>,
    store: Arc<dyn Store>,
    prefix: Key,
    patience: Duration,
    view: Arc<Slot<View>>,
    ending: CancellationToken,
}

impl Follower {
    async fn run(self) {
        tokio::select! {
            followed = self.watch() => {
                let Err(error) = followed;
                tracing::debug!(prefix = %self.prefix, %error, "a line cannot be followed");
            }
            () = self.until_idle() => {}
            () = self.ending.cancelled() => {}
        }
    }

    /// Waits until the lock was not wanted for a while.
    async fn until_idle(&self) {
        let mut idle = false;
        loop {
            tokio::time::sleep(TICK).await;
            let was_idle = idle;
            idle = self.baton.upgrade().is_none_or(|baton| baton.is_idle());
            if idle && was_idle {
                return;
            }
        }
    }

    async fn watch(&self) -> Result<Infallible> {
        let range = KeyRange::prefix(&self.prefix);
        let request = WatchRequest::new(range.clone());
        let open = || Lookout::open_with(Arc::clone(&self.store), request.clone(), NET);
        let mut lookout = retry::insist(self.patience, open).await?;
        loop {
            let request = RangeRequest::new(range.clone()).keys_only();
            let read = || self.store.range(request.clone());
            let response = retry::read(self.patience, read).await?;
            let line = response.kvs.into_iter();
            let line = line.filter(|kv| self.counts(&kv.key));
            let line = line.map(|kv| (kv.key, kv.create_revision)).collect();
            let read = response.header.revision;
            {
                let mut view = self.view.lock();
                (view.known, view.line) = (Some(read), line);
            }
            loop {
                match lookout.next(read).await {
                    Ok(Nudge::Events(events)) => self.apply(events),
                    Ok(Nudge::Read) => break,
                    // The read bears the trouble, or tells of it.
                    Err(error) if error.is_transient() => break,
                    Err(error) => return Err(error),
                }
            }
            self.view.lock().known = None;
        }
    }

    fn apply(&self, events: Vec<Event>) {
        let mut view = self.view.lock();
        for Event { kind, kv, .. } in events {
            view.known = view.known.map(|known| known.max(kv.mod_revision));
            if !self.counts(&kv.key) {
                continue;
            }
            match kind {
                EventKind::Put => view.line.insert(kv.key, kv.create_revision),
                EventKind::Delete => view.line.remove(&kv.key),
            };
        }
    }

    /// Whether a key stands in the line: those of nested names do not.
    fn counts(&self, key: &Key) -> bool {
        let suffix = key.strip_prefix(self.prefix.as_bytes());
        suffix.is_some_and(|suffix| !suffix.contains(&b'/'))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Also when its runtime ends in the middle.
        let mut view = self.view.lock();
        *view = View::default();
    }
}
