#![doc = include_str!("../../docs/mutex.md")]
//!
//! # Key layout
//!
//! ```text
//! key                value                  lease      written by    deleted by
//! NAME/LEASE-NUMBER  the client's identity  session's  who wants it  the same, or the lease's end
//! ```
//!
//! `/` is appended to the name as it is. `LEASE` is the session's lease in hexadecimal, `NUMBER` one that
//! no other key of the process has: every acquisition has a key of its own, which may be used again, with
//! another create revision, when nothing can make the old one anew.
//!
//! # Protocol
//!
//! 1. *Join*: `If create(key)=0 Then put(key, identity, lease), range(NAME/) Else get(key), range(NAME/)`,
//!    keys only. The oldest key directly under `NAME/` has the lock; its create revision `c` is the
//!    fencing token.
//! 2. *Wait* until the key before one's own is gone, watching that key, and one's own after 100 ms; then look
//!    again: `get(key), range(NAME/) created before c`. Nobody before, and the own key in place: locked. One member
//!    answers that alone, not from before the moment at which the other key was gone.
//! 3. *Try*: `If create(key)=0 and create(NAME/)=0 Then put(key, identity, lease)`.
//! 4. *Unlock*: `If create(key)=c Then delete(key)`.
//! 5. *Handed over*, if asked for: the key stays, and the next task of the client goes on with it (`baton`).
//!
//! # Round trips
//!
//! | call | free | held |
//! | --- | --- | --- |
//! | `lock` | 1 | 1 to join, 2 to watch the one before unless that watch is still there, 1 when it is our turn; 2 more after 100 ms |
//! | `lock`, handed over | 1 for the first of a series | none for the others |
//! | `try_lock` | 1 | 1 |
//! | `unlock`, `check`, `holder` | 1 | 1 |
//!
//! A client's first lock begins its session: 1 more.

mod baton;
mod grip;
mod guard;
mod held;
mod outsiders;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use synod_store::Key;

use crate::span::traced;
use crate::waiters::{Gate, Neighbours, Wanted};
use crate::{Client, Result, Session};

pub use crate::waiters::Holder;
use baton::Baton;
pub use guard::MutexGuard;
use held::Held;

/// A lock that many processes share: one holder at a time, in the order in which they asked. Handles
/// are cheap to clone.
///
/// See the [module](self) for what it promises.
#[derive(Clone)]
pub struct Mutex {
    client: Client,
    name: Key,
    session: Option<Session>,
    gate: Gate,
    /// With it the lock is handed over in memory.
    baton: Option<Arc<Baton>>,
}

impl Client {
    /// The mutex of this name. Asks nobody.
    ///
    /// Objects of different kinds need [different names](crate::guide#names).
    #[must_use]
    pub fn mutex(&self, name: impl Into<Key>) -> Mutex {
        let name = name.into();
        Mutex {
            gate: Gate::of(self, "line of a mutex", &name),
            client: self.clone(),
            name,
            session: None,
            baton: None,
        }
    }
}

impl Mutex {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &Key {
        &self.name
    }

    /// The same mutex, locked under this session instead of the client's own one.
    #[must_use]
    pub fn with_session(mut self, session: &Session) -> Mutex {
        self.session = Some(session.clone());
        match self.baton.take() {
            Some(_) => self.local_handover(),
            None => self,
        }
    }

    /// The same mutex, handed over in memory between those calls of this client that ask for it in this way: no
    /// round trip from one task's unlock to the next one's lock, at the speed of memory.
    ///
    /// The tasks still come in the order in which they asked. When others wait in the store's line, the lock
    /// goes back to it after 64 turns, or at the first unlock after 10 ms, and at once when nobody waits here;
    /// then those others come first. It is never handed over once the session is lost.
    ///
    /// What changes: the guards of one series have the same key and the same
    /// [`fencing_token`](MutexGuard::fencing_token). *Plain numbers do not tell them apart*: compare the pair of
    /// the token and [`MutexGuard::turn`]. [`MutexGuard::txn`] still belongs to one guard alone: it does nothing
    /// after that guard's end, and the lock is not handed over before it is settled. A condition from
    /// [`MutexGuard::is_owner`] holds for the whole series.
    #[must_use]
    pub fn local_handover(mut self) -> Mutex {
        let mut name = self.name.join("/");
        if let Some(session) = &self.session {
            name = name.join(session.lease().to_string());
        }
        let wanted = self.wanted();
        let baton = || Baton::new(wanted);
        self.baton = Some(self.client.registry().get("mutex", &name, baton));
        self
    }

    /// Waits until the lock is ours.
    ///
    /// Calls of one client wait for each other as those of different clients do; locking it twice in one
    /// task waits for ever.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the place in the line is given up in the background. If the process dies
    /// then, it stays until the session's lease ends.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`](crate::Error::SessionLost) the moment that the session is,
    /// [`Error::ReservedName`](crate::Error::ReservedName), or what the store answered after not having
    /// been reached for the client's timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let mutex = synod::Client::connect("memory:").await?.mutex("printer");
    /// let guard = mutex.lock().await?;
    /// // Alone here.
    /// guard.unlock().await?;
    /// # Ok(()) }) }
    /// ```
    pub async fn lock(&self) -> Result<MutexGuard> {
        traced!("synod.mutex.lock", object = self.name, async move {
            self.client.check_name(&self.name)?;
            let held = match &self.baton {
                Some(baton) => baton.lock().await?,
                None => self.wanted().take().await?.into(),
            };
            Ok(MutexGuard::new(held))
        })
        .await
    }

    /// Takes the lock if it is free and nobody waits for it; else `None`, and nothing is written.
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`].
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`].
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let mutex = synod::Client::connect("memory:").await?.mutex("printer");
    /// let guard = mutex.try_lock().await?.expect("nobody else is here");
    /// assert!(mutex.try_lock().await?.is_none());
    /// guard.unlock().await?;
    /// # Ok(()) }) }
    /// ```
    pub async fn try_lock(&self) -> Result<Option<MutexGuard>> {
        traced!("synod.mutex.try_lock", object = self.name, async move {
            self.client.check_name(&self.name)?;
            let taken = match &self.baton {
                Some(baton) => baton.try_lock().await?,
                None => self.wanted().try_take().await?.map(Held::from),
            };
            Ok(taken.map(MutexGuard::new))
        })
        .await
    }

    /// Waits at most `timeout` for the lock, then returns `None`. The time counts from the call on: one that
    /// is shorter than a round trip gets no lock.
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`].
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`].
    pub async fn lock_timeout(&self, timeout: Duration) -> Result<Option<MutexGuard>> {
        crate::within(timeout, self.lock()).await
    }

    /// Who has the lock at this moment, and how many wait for it. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    ///
    /// # Errors
    ///
    /// What the store answered after not having been reached for the client's timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let options = synod::ConnectOptions::new("memory:").with_identity("anna");
    /// let mutex = options.await?.mutex("printer");
    /// let guard = mutex.lock().await?;
    /// let holder = mutex.holder().await?.expect("somebody has it");
    /// assert_eq!(holder.identity, "anna");
    /// assert_eq!(holder.fencing_token, guard.fencing_token());
    /// # Ok(()) }) }
    /// ```
    pub async fn holder(&self) -> Result<Option<Holder>> {
        traced!("synod.mutex.holder", object = self.name, async move {
            self.client.check_name(&self.name)?;
            let line = self.wanted().line().await?;
            let waiters = line.len().saturating_sub(1);
            Ok(line.into_iter().next().map(|kv| Holder::new(kv, waiters)))
        })
        .await
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            client: self.client.clone(),
            session: self.session.clone(),
            prefix: self.name.join("/"),
            neighbours: Neighbours::Direct,
            value: self.client.identity(),
            gate: Some(self.gate.clone()),
        }
    }
}

impl fmt::Debug for Mutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("name", &self.name)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
