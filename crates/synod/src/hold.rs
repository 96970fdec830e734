//! [`Hold`]: a key of one's own, under a session, that stands for something held.
//!
//! The key is unique to one acquisition, and its create revision `c` is the fencing token. It goes
//! with the lease, or when it is released: `If create(key)=c Then delete(key)`. That is idempotent,
//! and frees nobody else's key. A release whose answer stays away goes on in the background; dropping
//! a hold releases it there.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{
    Compare, DeleteRequest, EventFilter, EventKind, Key, LeaseId, RangeRequest, Revision, Store,
    Txn, WatchRequest,
};
use tokio::runtime::Handle;

use crate::retry::{self, Backoff};
use crate::waiters::leave_unseen;
use crate::watch::{Lookout, Nudge};
use crate::{Error, Result, Session};

/// How long a key that was dropped is worth asking for; the lease is the backstop.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// The last part of a key for one acquisition alone.
pub(crate) fn unique_suffix(lease: LeaseId) -> Bytes {
    Bytes::from(format!("{lease}-{:016x}", rand::random::<u64>()))
}

/// A held key. Dropping it deletes the key in the background.
#[derive(Debug)]
pub(crate) struct Hold {
    store: Arc<dyn Store>,
    session: Session,
    runtime: Handle,
    key: Key,
    created: Revision,
    patience: Duration,
    released: bool,
    copies: bool,
}

impl Hold {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        session: Session,
        patience: Duration,
        key: Key,
        created: Revision,
    ) -> Result<Hold> {
        Ok(Hold {
            store,
            session,
            runtime: crate::runtime()?,
            key,
            created,
            patience,
            released: false,
            copies: false,
        })
    }

    /// A copy of the Txn that made the key may still come, after the key was deleted.
    pub(crate) fn expect_copies(&mut self) {
        self.copies = true;
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn created(&self) -> Revision {
        self.created
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// True in a Txn for as long as this is held.
    pub(crate) fn is_owner(&self) -> Compare {
        Compare::created_at(self.key.clone(), self.created)
    }

    /// Why this is not held any more.
    pub(crate) fn not_owner(&self) -> Error {
        if self.session.is_alive() {
            Error::NotOwner {
                key: self.key.to_string(),
            }
        } else {
            Error::SessionLost
        }
    }

    /// An error unless this is held at the revision of a read made now.
    pub(crate) async fn check(&self) -> Result<()> {
        self.session.check()?;
        let there = retry::read(self.patience, || created(&*self.store, &self.key)).await?;
        // The answer may have come after the lease's end.
        self.session.check()?;
        if there == Some(self.created) {
            Ok(())
        } else {
            Err(self.not_owner())
        }
    }

    /// Ends when the session does, or when the key has gone.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let over = self.session.lost();
        let gone = gone(Arc::clone(&self.store), self.key.clone(), self.created);
        async move {
            tokio::select! {
                () = over => {}
                () = gone => {}
            }
        }
    }

    /// Gives it back. When this fails or is dropped, it goes on in the background.
    pub(crate) async fn release(mut self) -> Result<()> {
        let release = release(&*self.store, &self.key, self.created, self.patience);
        let released = release.await?;
        self.released = true;
        match released {
            Released::Now | Released::Perhaps => Ok(()),
            Released::Before => Err(self.not_owner()),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let (released, copies) = (self.released, self.copies);
        if released && !copies {
            return;
        }
        let (store, key, created) = (Arc::clone(&self.store), self.key.clone(), self.created);
        self.runtime.spawn(async move {
            if !released && let Err(error) = release(&*store, &key, created, CLEAN_UP).await {
                tracing::debug!(%key, %error, "a held key is left to its lease");
            }
            if copies {
                leave_unseen(store, key).await;
            }
        });
    }
}

/// What a release found.
enum Released {
    /// The key, which is gone now.
    Now,
    /// Nothing, after an earlier attempt whose answer was lost.
    Perhaps,
    /// Nothing: somebody else had deleted it, or the lease's end.
    Before,
}

async fn release(
    store: &dyn Store,
    key: &Key,
    created: Revision,
    patience: Duration,
) -> Result<Released> {
    let txn = Txn::new()
        .when([Compare::created_at(key.clone(), created)])
        .and_then([DeleteRequest::new(key.clone())]);
    let sent = retry::txn(store, &txn, patience).await;
    Ok(match (sent.answer?.succeeded, sent.doubt) {
        (true, _) => Released::Now,
        (false, true) => Released::Perhaps,
        (false, false) => Released::Before,
    })
}

/// When the key was created, if it is there.
async fn created(store: &dyn Store, key: &Key) -> synod_store::Result<Option<Revision>> {
    let request = RangeRequest::new(key.clone()).keys_only();
    let found = store.range(request).await?.kvs.into_iter().next();
    Ok(found.map(|kv| kv.create_revision))
}

/// Ends when the key that was created then is not there any more.
async fn gone(store: Arc<dyn Store>, key: Key, at: Revision) {
    let request = WatchRequest::new(key.clone()).without(EventFilter::NoPut);
    let mut backoff = Backoff::new();
    let mut lookout = loop {
        match Lookout::open(Arc::clone(&store), request.clone()).await {
            Ok(lookout) => break lookout,
            Err(_) => backoff.wait().await,
        }
    };
    loop {
        match created(&*store, &key).await {
            Ok(there) if there != Some(at) => return,
            Ok(_) => {}
            Err(_) => {
                backoff.wait().await;
                continue;
            }
        }
        match lookout.next(at).await {
            Ok(Nudge::Events(events))
                if events.iter().any(|event| event.kind == EventKind::Delete) =>
            {
                return;
            }
            Ok(_) => backoff = Backoff::new(),
            // The read that follows bears the trouble; the watch is opened anew after it.
            Err(_) => backoff.wait().await,
        }
    }
}
