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
//! 4. A watch of a single key outlives its vigil for a while (`idle`): then it need not be opened and read
//!    again.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{EventFilter, Key, RangeRequest, Revision, Store, WatchRequest};

use super::hub::{Hub, Subscription, Word};
use super::idle::{LINGER, Prefix, Watches, prefix_of, retire};
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
        if let Some(lookout) = prefix.take_idle(key) {
            all.idle = all.idle.saturating_sub(1);
            return Ok(Choice::Again(lookout, counted(prefix, name)));
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
                    if there != Some(created) || vigil.gone(range.header.revision).await?.is_some()
                    {
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

impl Drop for Vigil {
    fn drop(&mut self) {
        if let Sight::Single { lookout, .. } = &mut self.sight
            && let Some(lookout) = lookout.take()
        {
            retire(&self.vigils.watches, &self.key, lookout, self.vigils.linger);
        }
    }
}

impl Vigil {
    /// Everything that happens to the key after this revision is told: whoever sees it then, or later,
    /// need not read it again.
    pub(crate) fn since(&self) -> Option<Revision> {
        match &self.sight {
            Sight::Single { lookout, .. } => lookout.as_ref().map(|lookout| lookout.since()),
            Sight::Shared(subscription) => subscription.since(),
        }
    }

    /// Whether everything that happens to the key after `read` is told, so that whoever saw it then need
    /// not read it again.
    pub(crate) fn tells_after(&self, read: Revision) -> bool {
        self.since().is_some_and(|since| since <= read)
    }

    /// Waits for the end of the key, which is there at `read`, and returns a revision at which it was gone.
    /// None for whatever else happens: then it must be looked whether the key is still there.
    ///
    /// # Cancel safety
    ///
    /// Dropping this loses nothing.
    ///
    /// # Errors
    ///
    /// What cannot pass by itself, or when the store could not be reached for the patience.
    pub(crate) async fn gone(&mut self, read: Revision) -> Result<Option<Revision>> {
        match &mut self.sight {
            Sight::Single { lookout: None, .. } => Ok(None),
            Sight::Single {
                lookout: Some(lookout),
                ..
            } => match lookout.next(read).await {
                Ok(Nudge::Events(events)) => {
                    let mut revisions = events.iter().map(|event| event.kv.mod_revision);
                    Ok(revisions.find(|revision| *revision > self.created))
                }
                Ok(Nudge::Read) => Ok(None),
                // The read that follows bears the trouble, or tells of it.
                Err(error) if error.is_transient() => Ok(None),
                Err(error) => Err(error),
            },
            Sight::Shared(subscription) => match subscription.word().await {
                Word::Gone(at) => Ok(Some(at)),
                Word::Failed(error) if !error.is_transient() => Err(error),
                Word::Failed(_) | Word::Ended => {
                    let vigils = self.vigils.clone();
                    self.sight = vigils.sight(&self.key, self.created, self.patience).await?;
                    Ok(None)
                }
            },
        }
    }
}
