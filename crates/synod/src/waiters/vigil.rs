//! [`Vigil`]: who keeps one is told when a key is gone.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{EventFilter, Key, RangeRequest, Revision, Store, WatchRequest};

use crate::retry::Backoff;
use crate::watch::{Lookout, Nudge};
use crate::{Result, retry};

/// What the vigils of one client share.
#[derive(Debug, Clone)]
pub(crate) struct Vigils {
    store: Arc<dyn Store>,
}

impl Vigils {
    pub(crate) fn new(store: Arc<dyn Store>) -> Vigils {
        Vigils { store }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Begins to watch a key. When this returns, the watch stands: read the key next.
    pub(crate) async fn open(&self, key: &Key, patience: Duration) -> Result<Vigil> {
        let request = WatchRequest::new(key.clone()).without(EventFilter::NoPut);
        let lookout = retry::insist(patience, || {
            Lookout::open(Arc::clone(&self.store), request.clone())
        });
        Ok(Vigil {
            lookout: lookout.await?,
        })
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
                    none => none.insert(self.open(key, patience).await?),
                };
                loop {
                    let range = retry::read(patience, || self.store.range(read.clone())).await?;
                    let there = range.kvs.first().map(|kv| kv.create_revision);
                    if there != Some(created) || vigil.gone(created, range.header.revision).await? {
                        return Ok(());
                    }
                }
            };
            match watching.await {
                Err(error) if crate::Error::is_transient(&error) => {
                    tracing::debug!(%key, %error, "a watched key could not be read");
                    backoff.wait().await;
                }
                ended => return ended,
            }
        }
    }
}

/// A watch of one key. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Vigil {
    lookout: Lookout,
}

impl Vigil {
    /// Waits for the end of the key that was created then, and is there at `read`. False for whatever
    /// else happens: then it must be looked whether the key is still there.
    ///
    /// # Cancel safety
    ///
    /// Dropping this loses nothing.
    pub(crate) async fn gone(&mut self, created: Revision, read: Revision) -> Result<bool> {
        match self.lookout.next(read).await {
            Ok(Nudge::Events(events)) => {
                Ok(events.iter().any(|event| event.kv.mod_revision > created))
            }
            Ok(Nudge::Read) => Ok(false),
            // The read that follows bears the trouble, or tells of it.
            Err(error) if error.is_transient() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
