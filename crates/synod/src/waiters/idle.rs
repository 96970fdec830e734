//! [`Watches`]: the watches of a client's vigils, with those that nobody needs at present.
//!
//! Whoever waits again and again in one line stands behind the same key most times, as keys are used again
//! (`numbers`). So a watch of a single key outlives its vigil for a second or two: the next one need not open
//! and read again, which takes two round trips; and on etcd a watch that is opened while others write can
//! miss its place at the head, and then hears nothing for up to 100 ms. At most four stay under a prefix, and
//! 64 in a client. What they hear meanwhile waits in their buffers, which are bounded.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use synod_store::Key;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::hub::Hub;
use crate::slot::Slot;
use crate::span;
use crate::watch::Lookout;

/// How long a watch of a single key outlives its vigil.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How many such watches there may be under one prefix, and in all.
const IDLE: (usize, usize) = (4, 64);

/// All watches.
#[derive(Debug, Default)]
pub(super) struct Watches {
    pub(super) prefixes: HashMap<Key, Prefix>,
    /// How many watches have no vigil, in all.
    pub(super) idle: usize,
    /// Whether a task ends those in time.
    tidying: bool,
}

/// The watches under one prefix.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    pub(super) single: usize,
    pub(super) hub: Weak<Hub>,
    /// Watches of single keys without a vigil, the oldest first.
    idle: Vec<Idle>,
}

/// A watch of a single key that nobody needs at present.
#[derive(Debug)]
struct Idle {
    key: Key,
    lookout: Box<Lookout>,
    until: Instant,
}

impl Prefix {
    pub(super) fn is_empty(&self) -> bool {
        self.single == 0 && self.idle.is_empty() && self.hub.strong_count() == 0
    }

    /// The watch of this key that nobody needs at present. Count one less.
    pub(super) fn take_idle(&mut self, key: &Key) -> Option<Box<Lookout>> {
        let at = self.idle.iter().position(|idle| idle.key == *key)?;
        Some(self.idle.remove(at).lookout)
    }
}

/// A key up to its last `/`.
pub(super) fn prefix_of(key: &Key) -> Key {
    let end = key.iter().rposition(|byte| *byte == b'/');
    let end = end.map_or(0, |last| last.saturating_add(1));
    Key::from(key.get(..end).unwrap_or_default())
}

/// Keeps a watch for whoever needs it next.
pub(super) fn retire(
    watches: &Arc<Slot<Watches>>,
    key: &Key,
    lookout: Box<Lookout>,
    linger: Duration,
) {
    // Without a runtime nobody would end it.
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    let idle = Idle {
        key: key.clone(),
        lookout,
        until: Instant::now() + linger,
    };
    // Dropped outside of the lock's scope.
    let mut surplus = None;
    let mut locked = watches.lock();
    let all = &mut *locked;
    if all.idle >= IDLE.1 {
        return;
    }
    let prefix = all.prefixes.entry(prefix_of(key)).or_default();
    if prefix.idle.len() < IDLE.0 {
        all.idle = all.idle.saturating_add(1);
    } else {
        surplus = Some(prefix.idle.remove(0));
    }
    prefix.idle.push(idle);
    let tidying = std::mem::replace(&mut all.tidying, true);
    drop(locked);
    drop(surplus);
    if !tidying {
        let tidy = Tidy {
            watches: Arc::downgrade(watches),
            over: false,
        };
        runtime.spawn(span::task("line.idle", tidy.run(linger)));
    }
}

/// The task that ends watches which nobody has needed for a while, as long as there are any. Its end,
/// whatever the cause, lets another begin.
struct Tidy {
    watches: Weak<Slot<Watches>>,
    /// Whether it has ended by itself.
    over: bool,
}

impl Tidy {
    async fn run(mut self, linger: Duration) {
        loop {
            tokio::time::sleep(linger).await;
            let Some(watches) = self.watches.upgrade() else {
                return;
            };
            // Dropped outside of the lock's scope.
            let mut over = Vec::new();
            let mut all = watches.lock();
            let now = Instant::now();
            for prefix in all.prefixes.values_mut() {
                over.extend(prefix.idle.extract_if(.., |idle| idle.until <= now));
            }
            all.idle = all.idle.saturating_sub(over.len());
            let done = all.idle == 0;
            if done {
                (self.over, all.tidying) = (true, false);
                all.prefixes.retain(|_, prefix| !prefix.is_empty());
            }
            drop(all);
            drop(over);
            if done {
                return;
            }
        }
    }
}

impl Drop for Tidy {
    fn drop(&mut self) {
        // Also when its runtime ends in the middle.
        if !self.over
            && let Some(watches) = self.watches.upgrade()
        {
            watches.lock().tidying = false;
        }
    }
}
