//! [`Vigil`]: who keeps one is told when a key is gone.
//!
//! # Protocol
//!
//! 1. The first two vigils of a client under one prefix (all up to the key's last `/`) have a watch
//!    of their own key each: whoever waits alone hears of two keys only, however many others wait
//!    elsewhere.
//! 2. Further ones share a watch of the whole prefix ([`Hub`]): however many wait, there are three.
//! 3. Either way: once the vigil stands, its keeper reads the key. What happens after that read is
//!    told, and doubt leads to another read.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use synod_store::{EventFilter, Key, RangeRequest, Revision, Store, WatchRequest};

use super::hub::{Hub, Subscription, Word};
use super::leftovers::Leftovers;
use crate::retry::Backoff;
use crate::slot::Slot;
use crate::watch::{Lookout, NET, Nudge};
use crate::{Error, Result, retry};

/// How many watches of single keys there may be under one prefix before the next shares one.
const SINGLE: usize = 2;

/// What the waiters and holders of one client share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Vigils {
    store: Arc<dyn Store>,
    prefixes: Arc<Slot<HashMap<Key, Prefix>>>,
    leftovers: Leftovers,
    /// After so long without an event the keys are read anew.
    net: Duration,
}

/// The watches under one prefix.
#[derive(Debug, Default)]
struct Prefix {
    single: usize,
    hub: Weak<Hub>,
}

/// A watch of a single key is counted as long as this lives.
#[derive(Debug)]
struct Counted {
    prefixes: Arc<Slot<HashMap<Key, Prefix>>>,
    prefix: Key,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut prefixes = self.prefixes.lock();
        if let Some(prefix) = prefixes.get_mut(&self.prefix) {
            prefix.single = prefix.single.saturating_sub(1);
        }
    }
}

/// A watch of one key, which was there when it was created last. Dropping it ends it.
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
        lookout: Box<Lookout>,
        _counted: Counted,
    },
    Shared(Subscription),
}

impl Vigils {
    pub(crate) fn new(store: Arc<dyn Store>) -> Vigils {
        Vigils {
            leftovers: Leftovers::new(Arc::clone(&store)),
            store,
            prefixes: Arc::default(),
            net: NET,
        }
    }

    #[cfg(test)]
    pub(super) fn with_net(mut self, net: Duration) -> Vigils {
        self.net = net;
        self
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

    /// Begins to watch a key that was created then. When this returns, the watch stands: read the key
    /// next.
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
                Err(counted) => {
                    let request = WatchRequest::new(key.clone()).without(EventFilter::NoPut);
                    let lookout = retry::insist(patience, || {
                        Lookout::open_with(Arc::clone(&self.store), request.clone(), self.net)
                    });
                    return Ok(Sight::Single {
                        lookout: Box::new(lookout.await?),
                        _counted: counted,
                    });
                }
                Ok(hub) => {
                    let mut subscription = Hub::subscribe(hub, key.clone(), created);
                    if subscription.stands().await? {
                        return Ok(Sight::Shared(subscription));
                    }
                }
            }
        }
    }

    /// The hub to share, or the right to a watch of one's own.
    fn choose(&self, key: &Key, patience: Duration) -> Result<Result<Arc<Hub>, Counted>> {
        let runtime = crate::runtime()?;
        let end = key.iter().rposition(|byte| *byte == b'/');
        let end = end.map_or(0, |last| last.saturating_add(1));
        let name = Key::from(key.get(..end).unwrap_or_default());
        // Outside of the lock's scope: the last owner of a hub must not be dropped within.
        let over;
        let mut prefixes = self.prefixes.lock();
        if !prefixes.contains_key(&name) {
            prefixes.retain(|_, prefix| prefix.single > 0 || prefix.hub.strong_count() > 0);
        }
        let prefix = prefixes.entry(name.clone()).or_default();
        match prefix.hub.upgrade() {
            Some(hub) if !hub.is_over() => return Ok(Ok(hub)),
            hub => over = hub,
        }
        let chosen = if prefix.single < SINGLE {
            prefix.single = prefix.single.saturating_add(1);
            Err(Counted {
                prefixes: Arc::clone(&self.prefixes),
                prefix: name,
            })
        } else {
            let hub = Hub::start(&runtime, Arc::clone(&self.store), name, patience, self.net);
            prefix.hub = Arc::downgrade(&hub);
            Ok(hub)
        };
        drop(prefixes);
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

impl Vigil {
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
            Sight::Single { lookout, .. } => match lookout.next(read).await {
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
