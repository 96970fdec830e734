#![doc = include_str!("../../docs/barrier.md")]
//!
//! # Key layout
//!
//! ```text
//! key   value                         lease                      written by   deleted by
//! NAME  the holder's identity         none, or the session's     the holder   whoever releases, or the lease's end
//!       (empty when Go's recipe held)
//! ```
//!
//! The name is the key, as it is: nothing is appended.
//!
//! # Protocol
//!
//! *Hold*: `If create(NAME)=0 Then put(NAME)`. Else read who holds: [`Error::Held`]. If nobody does any
//! more, again.
//!
//! *Release* of the barrier created at `c`, which is known from the hold, from a wait, or from a
//! read: `If create(NAME)=c Then delete(NAME)`. If that was not the one that stands, read, and again.
//! With [`wake_old_go_waiters`](Barrier::wake_old_go_waiters): before it, `If create(NAME)=c Then
//! put(NAME)` with the value and lease that are there.
//!
//! *Wait*:
//! 1. Read `NAME` (linearizable). Absent: return. Else it was created at `c`, and stood at revision `r`.
//! 2. All who wait in one client share one watch: opened at now; when it stands, the key is read, then
//!    events tell. The barrier is open when at a revision after `r` the key is absent, or another one
//!    than the one created at `c`: in between, it was released.
//! 3. The watch outlives its last waiter for a second or two, 64 of them in a client: who waits again need not open
//!    and read again, and when many are let go at once, those who are through do not take up the store with
//!    the ends of their watches. A waiter believes it as it believes one that others wait under: after `r`.
//!    Not so in a runtime with one thread, which may stand still while another waits for what it hears.
//!
//! Compaction, a closed stream and silence lead to a new read, never to a conclusion.
//!
//! Hold and release go through a lane on stores that can lose answers: each happens once or never, and
//! a late copy neither holds a barrier again nor releases a later hold.
//!
//! # Round trips
//!
//! | call | round trips |
//! | --- | --- |
//! | `hold` | 1 |
//! | `release` | 1 when this client held it or waits for it, else 2; 1 more to wake old Go waiters |
//! | `wait` | 1 when it is open; else 3 to stand, or 1 when another in the client stands or stood a second ago; then an event: one for all who wait in a client |

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    Compare, DeleteRequest, Key, KeyRange, KeyValue, PutLease, PutRequest, PutValue, RangeRequest,
    Revision, TxnOp,
};
use tokio::runtime::Handle;

use crate::linger::is_driven;
use crate::settle::{Outcome, Work};
use crate::sight::Sight;
use crate::slot::Slot;
use crate::span::traced;
use crate::{Client, Error, Result, Session, retry};

/// How often a waiter looks again because the runtime of another, which kept up their watch, has ended.
const RESTARTS: usize = 8;

/// A barrier that one holds and many wait for. Handles are cheap to clone.
///
/// See the [module](self) for what it promises.
#[derive(Clone)]
pub struct Barrier {
    client: Client,
    key: Key,
    session: Option<Session>,
    wake_old_go_waiters: bool,
    seen: Arc<Seen>,
}

/// The hold that this client knows of: a hint for the next release.
#[derive(Debug, Default)]
struct Seen(Slot<Option<Revision>>);

impl Client {
    /// The barrier of this name. Asks nobody: a barrier exists while it is held.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let barrier = synod::Client::connect("memory:").await?.barrier("ready");
    /// barrier.hold().await?;
    /// assert!(barrier.is_held().await?);
    /// # Ok(()) }) }
    /// ```
    #[must_use]
    pub fn barrier(&self, name: impl Into<Key>) -> Barrier {
        let key = name.into();
        Barrier {
            seen: self.registry().get("barrier", &key, Seen::default),
            client: self.clone(),
            key,
            session: None,
            wake_old_go_waiters: false,
        }
    }
}

impl Barrier {
    /// Holds with the lease of `session`: when that is lost or closed, the barrier is released.
    /// Without it a hold outlives its holder, as with Go's recipe.
    #[must_use]
    pub fn with_session(mut self, session: &Session) -> Barrier {
        self.session = Some(session.clone());
        self
    }

    /// Releases so that clients with etcd's Go recipes up to 3.5.33 wake too, at the price of one
    /// more round trip.
    ///
    /// Those wait for a put *followed by* a deletion, and so sleep through a release without a put
    /// when any other key was written after the hold. Up to 3.5.9 they also wait for the first key
    /// that *begins* with the name, whoever wrote it: for them alone choose names that no other key
    /// begins with. The option concerns [`Barrier::release`] on this handle only.
    #[must_use]
    pub fn wake_old_go_waiters(mut self) -> Barrier {
        self.wake_old_go_waiters = true;
        self
    }

    /// The barrier's name, which is its key.
    #[must_use]
    pub fn name(&self) -> &Key {
        &self.key
    }

    /// The client that the barrier belongs to.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Holds the barrier: who waits from now on waits until it is released. One round trip.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped before it has answered, the barrier may be held or not; it may also be
    /// held a moment later. [`Barrier::release`] puts it right.
    ///
    /// # Errors
    ///
    /// [`Error::Held`] when it is held already, be it by this client; it names the holder.
    /// [`Error::SessionLost`] when the [session](Barrier::with_session) is over.
    /// [`Error::Unknown`] when no answer came within the client's timeout. Or what the store
    /// answered: it is not held then.
    pub async fn hold(&self) -> Result<()> {
        traced!("synod.barrier.hold", object = self.key, async move {
            self.client.check_name(&self.key)?;
            loop {
                let mut put = PutRequest::new(self.key.clone(), self.client.identity());
                if let Some(session) = &self.session {
                    session.check()?;
                    put = put.with_lease(session.lease());
                }
                let work = Work::new(vec![Compare::absent(self.key.clone())], vec![put.into()]);
                let outcome = self.client.settle().run(work).await;
                match outcome.map_err(|error| match &self.session {
                    Some(session) => crate::session::lease_gone(session, error),
                    None => error,
                })? {
                    Outcome::Done { revision, .. } => {
                        *self.seen.0.lock() = Some(revision);
                        return Ok(());
                    }
                    Outcome::GuardsFalse => {}
                }
                if let (Some(kv), _) = self.read().await? {
                    let holder = String::from_utf8_lossy(&kv.value).into_owned();
                    return Err(Error::Held {
                        name: self.key.to_string(),
                        holder: Some(holder).filter(|holder| !holder.is_empty()),
                    });
                }
                // Released in the meantime.
            }
        })
        .await
    }

    /// Releases the barrier, whoever holds it: all who wait go on. True when it was held, false
    /// when there was nothing to release. One round trip, or two when this client knows nothing of
    /// the hold.
    ///
    /// A hold that begins while this runs is not released by it.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped before it has answered, the barrier may be released or not, also a
    /// moment later; never one that is held anew meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when no answer came within the client's timeout, or what the store
    /// answered: the barrier may be held still.
    pub async fn release(&self) -> Result<bool> {
        traced!("synod.barrier.release", object = self.key, async move {
            self.client.check_name(&self.key)?;
            let known = self.seen.0.lock().take();
            if let Some(created) = known
                && self.release_hold(created).await?
            {
                return Ok(true);
            }
            match self.read().await?.0 {
                // When this finds it gone, another has released it, which is as good.
                Some(kv) => self.release_hold(kv.create_revision).await,
                None => Ok(false),
            }
        })
        .await
    }

    /// Releases the hold that was created at this revision. False when it is gone.
    async fn release_hold(&self, created: Revision) -> Result<bool> {
        let mut steps: Vec<TxnOp> = Vec::with_capacity(2);
        if self.wake_old_go_waiters {
            let mut put = PutRequest::new(self.key.clone(), "");
            put.value = PutValue::Keep;
            put.lease = PutLease::Keep;
            steps.push(put.into());
        }
        steps.push(DeleteRequest::new(self.key.clone()).into());
        for step in steps {
            // One Txn may not touch a key twice, and old Go clients want two revisions.
            let guards = vec![Compare::created_at(self.key.clone(), created)];
            let work = Work::new(guards, vec![step]);
            if let Outcome::GuardsFalse = self.client.settle().run(work).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until the barrier is not held; returns at once when it is not.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// What the store answered, or [`Error::Timeout`] when it could not be reached for longer than
    /// the client's timeout. Never a success for any other reason than that it was open.
    pub async fn wait(&self) -> Result<()> {
        traced!("synod.barrier.wait", object = self.key, async move {
            self.client.check_name(&self.key)?;
            let (Some(held), read) = self.read().await? else {
                return Ok(());
            };
            *self.seen.0.lock() = Some(held.create_revision);
            let mut restarts = RESTARTS;
            loop {
                let runtime = crate::runtime()?;
                let sight = self.sight(&runtime);
                let open = sight.find(|view| {
                    let there = view.kvs.get(&self.key);
                    let same = there.is_some_and(|kv| kv.create_revision <= held.create_revision);
                    (view.revision > read && !same).then_some(())
                });
                match open.await {
                    Err(Error::NoRuntime) if restarts > 0 => {
                        restarts = restarts.saturating_sub(1);
                        // If it was the runtime of this caller, this is where it ends too.
                        tokio::task::yield_now().await;
                    }
                    Ok(()) => {
                        if sight.is_driven() && is_driven(&runtime) {
                            let settle = self.client.settle();
                            self.client.lingering().keep(&settle, &runtime, sight);
                        }
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
        })
        .await
    }

    /// The watch that all share who wait in this client.
    fn sight(&self, runtime: &Handle) -> Arc<Sight> {
        let open = || {
            let range = KeyRange::one(self.key.clone());
            let store = self.client.shared_store();
            Sight::open(store, runtime, range, self.client.timeout())
        };
        let registry = self.client.registry();
        registry.get_if(
            "barrier/sight",
            &self.key,
            |sight: &Sight| !sight.is_over(),
            open,
        )
    }

    /// Waits until the barrier is not held, at most `timeout`. False when it was held all the time.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As [`Barrier::wait`].
    pub async fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        let open = crate::within(timeout, self.wait()).await?;
        Ok(open.is_some())
    }

    /// Whether the barrier is held at this moment. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// What the store answered.
    pub async fn is_held(&self) -> Result<bool> {
        traced!("synod.barrier.is_held", object = self.key, async move {
            self.client.check_name(&self.key)?;
            Ok(self.read().await?.0.is_some())
        })
        .await
    }

    /// The pair, and the revision that it was read at.
    async fn read(&self) -> Result<(Option<KeyValue>, Revision)> {
        let store = self.client.store();
        let request = RangeRequest::new(self.key.clone());
        let range = retry::read(self.client.timeout(), || store.range(request.clone())).await?;
        Ok((range.kvs.into_iter().next(), range.header.revision))
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("name", &self.key)
            .finish_non_exhaustive()
    }
}
