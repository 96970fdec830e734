//! [`Vigil`]: who keeps one is told when a key is gone.
//!
//! # Protocol
//!
//! 1. The first two vigils of a client under one prefix (all up to the key's last `/`) have a watch
//!    of their own key each: whoever waits alone hears of two keys only, however many others wait
//!    elsewhere.
//! 2. Further ones share a watch of the whole prefix ([`Hub`]): however many wait, there are three.
//! 3. Either way: once the vigil stands, its keeper reads the key, unless the vigil
//!    [tells all](Vigil::tells_after) that happened since the keeper saw the key last. What happens after
//!    that read is told, and doubt leads to another read.
//! 4. A watch of a single key outlives its vigil for a second, as whoever waits again and again in one
//!    line stands behind the same key most times: then it need not be opened and read again. At most
//!    four stay under a prefix, and 64 in a client. What they hear meanwhile waits in their buffers,
//!    which are bounded.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use synod_store::{EventFilter, Key, RangeRequest, Revision, Store, WatchRequest};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::hub::{Hub, Subscription, Word};
use super::leftovers::Leftovers;
use super::numbers::Numbers;
use crate::retry::Backoff;
use crate::slot::Slot;
use crate::watch::{Lookout, NET, Nudge};
use crate::{Error, Result, retry};

/// How many watches of single keys there may be under one prefix before the next shares one.
const SINGLE: usize = 2;

/// Who has waited for so long watches its own key too. Most waits in a busy line are shorter: they are
/// spared the watch, and the event of their own key's end.
const OWN_WATCH: Duration = Duration::from_millis(100);

/// How long a watch of a single key outlives its vigil.
const LINGER: Duration = Duration::from_secs(1);

/// How many such watches there may be under one prefix, and in all.
const IDLE: (usize, usize) = (4, 64);

/// What the waiters and holders of one client share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Vigils {
    store: Arc<dyn Store>,
    watches: Arc<Slot<Watches>>,
    leftovers: Leftovers,
    numbers: Numbers,
    /// After so long without an event the keys are read anew.
    net: Duration,
    /// How long a watch outlives its vigil.
    linger: Duration,
    /// How long a wait may last without a watch of the own key.
    own_watch: Duration,
}

/// All watches.
#[derive(Debug, Default)]
struct Watches {
    prefixes: HashMap<Key, Prefix>,
    /// How many watches have no vigil, in all.
    idle: usize,
    /// Whether a task ends those in time.
    tidying: bool,
}

/// The watches under one prefix.
#[derive(Debug, Default)]
struct Prefix {
    single: usize,
    hub: Weak<Hub>,
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
    fn is_empty(&self) -> bool {
        self.single == 0 && self.idle.is_empty() && self.hub.strong_count() == 0
    }
}

/// A watch of a single key is counted as long as this lives.
#[derive(Debug)]
struct Counted {
    watches: Arc<Slot<Watches>>,
    prefix: Key,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut watches = self.watches.lock();
        if let Some(prefix) = watches.prefixes.get_mut(&self.prefix) {
            prefix.single = prefix.single.saturating_sub(1);
        }
    }
}

/// A watch of one key, which was there when it was created last. Dropping it ends it, soon.
#[derive(Debug)]
pub(crate) struct Vigil {
    vigils: Vigils,
    key: Key,
    created: Revision,
    patience: Duration,
    sight: Sight,
}

#[derive(Debug)]
enum Sight {
    Single {
        /// Taken by the vigil's end alone.
        lookout: Option<Box<Lookout>>,
        _counted: Counted,
    },
    Shared(Subscription),
}

/// How a key is to be watched.
enum Choice {
    /// By the watch that it has already.
    Again(Box<Lookout>, Counted),
    /// By one of its own.
    Single(Counted),
    /// Together with others.
    Shared(Arc<Hub>),
}

impl Vigils {
    pub(crate) fn new(store: Arc<dyn Store>) -> Vigils {
        Vigils {
            leftovers: Leftovers::new(Arc::clone(&store)),
            store,
            watches: Arc::default(),
            numbers: Numbers::default(),
            net: NET,
            linger: LINGER,
            own_watch: OWN_WATCH,
        }
    }

    #[cfg(test)]
    pub(super) fn with_net(mut self, net: Duration) -> Vigils {
        self.net = net;
        self
    }

    #[cfg(test)]
    pub(super) fn with_linger(mut self, linger: Duration) -> Vigils {
        self.linger = linger;
        self
    }

    #[cfg(test)]
    pub(super) fn with_own_watch(mut self, own_watch: Duration) -> Vigils {
        self.own_watch = own_watch;
        self
    }

    /// How many watches have no vigil at present.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.watches.lock().idle
    }

    #[cfg(test)]
    pub(super) fn with_leftovers(mut self, leftovers: Leftovers) -> Vigils {
        self.leftovers = leftovers;
        self
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The keys of the same client that must not stay.
    pub(crate) fn leftovers(&self) -> &Leftovers {
        &self.leftovers
    }

    /// How long a wait may last without a watch of the own key.
    pub(super) fn own_watch(&self) -> Duration {
        self.own_watch
    }

    /// The numbers of keys.
    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Begins to watch a key that was created then. When this returns, the watch stands: read the key
    /// next, unless the vigil tells all that happened since it was seen.
    pub(crate) async fn open(
        &self,
        key: &Key,
        created: Revision,
        patience: Duration,
    ) -> Result<Vigil> {
        Ok(Vigil {
            vigils: self.clone(),
            key: key.clone(),
            created,
            patience,
            sight: self.sight(key, created, patience).await?,
        })
    }

    async fn sight(&self, key: &Key, created: Revision, patience: Duration) -> Result<Sight> {
        loop {
            match self.choose(key, patience)? {
                Choice::Again(lookout, counted) => {
                    return Ok(Sight::Single {
                        lookout: Some(lookout),
                        _counted: counted,
                    });
                }
                Choice::Single(counted) => {
                    let request = WatchRequest::new(key.clone()).without(EventFilter::NoPut);
                    let lookout = retry::insist(patience, || {
                        Lookout::open_with(Arc::clone(&self.store), request.clone(), self.net)
                    });
                    return Ok(Sight::Single {
                        lookout: Some(Box::new(lookout.await?)),
                        _counted: counted,
                    });
                }
                Choice::Shared(hub) => {
                    let mut subscription = Hub::subscribe(hub, key.clone(), created);
                    if subscription.stands().await? {
                        return Ok(Sight::Shared(subscription));
                    }
                }
            }
        }
    }

    fn choose(&self, key: &Key, patience: Duration) -> Result<Choice> {
        let runtime = crate::runtime()?;
        let name = prefix_of(key);
        let counted = |prefix: &mut Prefix, name| {
            prefix.single = prefix.single.saturating_add(1);
            let watches = Arc::clone(&self.watches);
            Counted {
                watches,
                prefix: name,
            }
        };
        // Outside of the lock's scope: the last owner of a hub must not be dropped within.
        let over;
        let mut watches = self.watches.lock();
        let all = &mut *watches;
        if !all.prefixes.contains_key(&name) {
            all.prefixes.retain(|_, prefix| !prefix.is_empty());
        }
        let prefix = all.prefixes.entry(name.clone()).or_default();
        if let Some(at) = prefix.idle.iter().position(|idle| idle.key == *key) {
            let idle = prefix.idle.remove(at);
            all.idle = all.idle.saturating_sub(1);
            return Ok(Choice::Again(idle.lookout, counted(prefix, name)));
        }
        match prefix.hub.upgrade() {
            Some(hub) if !hub.is_over() => return Ok(Choice::Shared(hub)),
            hub => over = hub,
        }
        let chosen = if prefix.single < SINGLE {
            Choice::Single(counted(prefix, name))
        } else {
            let hub = Hub::start(&runtime, Arc::clone(&self.store), name, patience, self.net);
            prefix.hub = Arc::downgrade(&hub);
            Choice::Shared(hub)
        };
        drop(watches);
        drop(over);
        Ok(chosen)
    }

    /// Keeps a watch for whoever needs it next.
    fn retire(&self, key: &Key, lookout: Box<Lookout>) {
        // Without a runtime nobody would end it.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let idle = Idle {
            key: key.clone(),
            lookout,
            until: Instant::now() + self.linger,
        };
        // Dropped outside of the lock's scope.
        let mut surplus = None;
        let mut watches = self.watches.lock();
        let all = &mut *watches;
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
        drop(watches);
        drop(surplus);
        if !tidying {
            let tidy = Tidy {
                watches: Arc::downgrade(&self.watches),
                over: false,
            };
            runtime.spawn(tidy.run(self.linger));
        }
    }

    /// Waits until the key is not the one that was created then. Bears trouble as long as it lasts, and
    /// concludes nothing from it.
    ///
    /// # Errors
    ///
    /// What cannot pass by itself, as a permission that is missing.
    pub(crate) async fn until_gone(
        &self,
        key: &Key,
        created: Revision,
        patience: Duration,
    ) -> Result<()> {
        let mut vigil = None;
        let mut backoff = Backoff::new();
        let read = RangeRequest::new(key.clone()).keys_only();
        loop {
            let watching = async {
                let vigil = match &mut vigil {
                    Some(vigil) => vigil,
                    none => none.insert(self.open(key, created, patience).await?),
                };
                loop {
                    let range = retry::read(patience, || self.store.range(read.clone())).await?;
                    let there = range.kvs.first().map(|kv| kv.create_revision);
                    if there != Some(created) || vigil.gone(range.header.revision).await? {
                        return Ok(());
                    }
                }
            };
            match watching.await {
                Err(error) if Error::is_transient(&error) => {
                    tracing::debug!(%key, %error, "a watched key could not be read");
                    backoff.wait().await;
                }
                ended => return ended,
            }
        }
    }
}

/// A key up to its last `/`.
fn prefix_of(key: &Key) -> Key {
    let end = key.iter().rposition(|byte| *byte == b'/');
    let end = end.map_or(0, |last| last.saturating_add(1));
    Key::from(key.get(..end).unwrap_or_default())
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

impl Drop for Vigil {
    fn drop(&mut self) {
        if let Sight::Single { lookout, .. } = &mut self.sight
            && let Some(lookout) = lookout.take()
        {
            self.vigils.retire(&self.key, lookout);
        }
    }
}

impl Vigil {
    /// Whether everything that happens to the key after `read` is told, so that whoever saw it then need
    /// not read it again.
    pub(crate) fn tells_after(&self, read: Revision) -> bool {
        match &self.sight {
            Sight::Single { lookout, .. } => {
                let since = lookout.as_ref().map(|lookout| lookout.since());
                since.is_some_and(|since| since <= read)
            }
            Sight::Shared(subscription) => subscription.tells_after(read),
        }
    }

    /// Waits for the end of the key, which is there at `read`. False for whatever else happens: then it
    /// must be looked whether the key is still there.
    ///
    /// # Cancel safety
    ///
    /// Dropping this loses nothing.
    ///
    /// # Errors
    ///
    /// What cannot pass by itself, or when the store could not be reached for the patience.
    pub(crate) async fn gone(&mut self, read: Revision) -> Result<bool> {
        match &mut self.sight {
            Sight::Single { lookout: None, .. } => Ok(false),
            Sight::Single {
                lookout: Some(lookout),
                ..
            } => match lookout.next(read).await {
                Ok(Nudge::Events(events)) => {
                    let later = |event: &synod_store::Event| event.kv.mod_revision > self.created;
                    Ok(events.iter().any(later))
                }
                Ok(Nudge::Read) => Ok(false),
                // The read that follows bears the trouble, or tells of it.
                Err(error) if error.is_transient() => Ok(false),
                Err(error) => Err(error),
            },
            Sight::Shared(subscription) => match subscription.word().await {
                Word::Gone => Ok(true),
                Word::Failed(error) if !error.is_transient() => Err(error),
                Word::Failed(_) | Word::Ended => {
                    let vigils = self.vigils.clone();
                    self.sight = vigils.sight(&self.key, self.created, self.patience).await?;
                    Ok(false)
                }
            },
        }
    }
}
