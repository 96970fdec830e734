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
//! the process gives once: every acquisition has a key of its own.
//!
//! # Protocol
//!
//! 1. *Join*: `If create(key)=0 Then put(key, identity, lease), range(NAME/) Else get(key), range(NAME/)`,
//!    keys only. The oldest key directly under `NAME/` has the lock; its create revision `c` is the
//!    fencing token.
//! 2. *Wait* until the key before one's own is gone, watching that key and one's own; then look again:
//!    `get(key), range(NAME/) created before c`. Nobody before, and the own key in place: locked.
//! 3. *Try*: `If create(key)=0 and create(NAME/)=0 Then put(key, identity, lease)`.
//! 4. *Unlock*: `If create(key)=c Then delete(key)`.
//!
//! # Round trips
//!
//! | call | free | held |
//! | --- | --- | --- |
//! | `lock` | 1 | 3 to stand in line, 1 when it is our turn |
//! | `try_lock` | 1 | 1 |
//! | `unlock`, `check`, `holder` | 1 | 1 |
//!
//! A client's first lock begins its session: 1 more.

mod guard;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use synod_store::Key;

use crate::waiters::{Neighbours, Wanted};
use crate::{Client, Result, Session};

pub use crate::waiters::Holder;
pub use guard::MutexGuard;

/// A lock that many processes share: one holder at a time, in the order in which they asked. Handles
/// are cheap to clone.
///
/// See the [module](self) for what it promises.
#[derive(Clone)]
pub struct Mutex {
    client: Client,
    name: Key,
    session: Option<Session>,
}

impl Client {
    /// The mutex of this name. Asks nobody.
    #[must_use]
    pub fn mutex(&self, name: impl Into<Key>) -> Mutex {
        Mutex {
            client: self.clone(),
            name: name.into(),
            session: None,
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
        self.wanted()?.take().await.map(MutexGuard::new)
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
        let taken = self.wanted()?.try_take().await?;
        Ok(taken.map(MutexGuard::new))
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
        let taken = self.wanted()?.take_within(timeout).await?;
        Ok(taken.map(MutexGuard::new))
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
        let line = self.wanted()?.line().await?;
        let waiters = line.len().saturating_sub(1);
        Ok(line.into_iter().next().map(|kv| Holder::new(kv, waiters)))
    }

    fn wanted(&self) -> Result<Wanted> {
        self.client.check_name(&self.name)?;
        Ok(Wanted {
            client: self.client.clone(),
            session: self.session.clone(),
            prefix: self.name.join("/"),
            neighbours: Neighbours::Direct,
            value: self.client.identity(),
        })
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
