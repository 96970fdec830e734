#![doc = include_str!("../../docs/rwlock.md")]
//!
//! # Key layout
//!
//! ```text
//! key                      value                  lease      written by   deleted by
//! NAME/read/LEASE-NUMBER   the client's identity  session's  a reader     the same, or the lease's end
//! NAME/write/LEASE-NUMBER  the client's identity  session's  a writer     the same, or the lease's end
//! ```
//!
//! `/` is appended to the name as it is. `LEASE` is the session's lease in hexadecimal, `NUMBER` one that
//! no other key of the process has. No key is ever put over another: Go's side orders by modification
//! revision, which is the create revision then.
//!
//! # Protocol
//!
//! 1. *Join*: `If create(key)=0 Then put(key, identity, lease), range(LINE) Else get(key), range(LINE)`,
//!    keys only. `LINE` is `NAME/write/` for a reader, both prefixes for a writer; only keys directly under
//!    them count. The own key's create revision `c` is the fencing token.
//! 2. *Wait* until no key in the line was created before `c`: watch the nearest of them, and one's
//!    own after 100 ms, and look again when it is gone: `get(key), range(LINE) created before c`.
//! 3. *Try*: `If create(key)=0 and create(LINE)=0 Then put(key, identity, lease)`.
//! 4. *Unlock*: `If create(key)=c Then delete(key)`.
//!
//! A reader thus waits for the writers before it, a writer for everybody before it: first come, first
//! served, and nobody starves.
//!
//! # Round trips
//!
//! | call | free | held |
//! | --- | --- | --- |
//! | `read`, `write` | 1 | 1 to join, 2 to watch the one before unless that watch is still there, 1 when it is our turn; 2 more after 100 ms |
//! | `try_read`, `try_write` | 1 | 1 |
//! | `unlock`, `check`, `holders` | 1 | 1 |
//!
//! A writer behind readers takes 2 more for each that was before it and is still there when the nearest
//! has gone. A client's first lock begins its session: 1 more.

mod guard;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use synod_store::Key;

use crate::span::traced;
use crate::waiters::{Gate, Neighbours, Wanted};
use crate::{Client, Result, Session};

pub use crate::waiters::Holder;
pub use guard::{RwLockReadGuard, RwLockWriteGuard};

/// A lock for one writer or many readers, in the order in which they asked. Handles are cheap to
/// clone.
///
/// See the [module](self) for what it promises.
#[derive(Clone)]
pub struct RwLock {
    client: Client,
    name: Key,
    session: Option<Session>,
    gate: Gate,
}

/// Who holds an [`RwLock`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holders {
    /// Nobody.
    None,
    /// A writer.
    Writer(Holder),
    /// Readers, the oldest first.
    Readers(Vec<Holder>),
}

/// What to lock for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Client {
    /// The readers-writer lock of this name. Asks nobody.
    ///
    /// Objects of different kinds need [different names](crate::guide#names).
    #[must_use]
    pub fn rwlock(&self, name: impl Into<Key>) -> RwLock {
        let name = name.into();
        RwLock {
            gate: Gate::of(self, "line of a rwlock", &name),
            client: self.clone(),
            name,
            session: None,
        }
    }
}

impl RwLock {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &Key {
        &self.name
    }

    /// The same lock, locked under this session instead of the client's own one.
    #[must_use]
    pub fn with_session(mut self, session: &Session) -> RwLock {
        self.session = Some(session.clone());
        self
    }

    /// Waits until the lock is ours for reading: together with other readers, without a writer.
    ///
    /// Waits for writers that asked before, also for those that wait themselves: a task that holds it for
    /// reading and asks again can wait for ever.
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
    /// let lock = synod::Client::connect("memory:").await?.rwlock("catalogue");
    /// let one = lock.read().await?;
    /// let two = lock.read().await?;
    /// assert!(lock.try_write().await?.is_none());
    /// # drop((one, two));
    /// # Ok(()) }) }
    /// ```
    pub async fn read(&self) -> Result<RwLockReadGuard> {
        traced!("synod.rwlock.read", object = self.name, async move {
            let held = self.wanted(Access::Read)?.take().await?;
            Ok(RwLockReadGuard::new(held))
        })
        .await
    }

    /// Takes the lock for reading if no writer has it or waits for it; else `None`, and nothing is
    /// written.
    ///
    /// # Cancel safety
    ///
    /// As [`RwLock::read`].
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`].
    pub async fn try_read(&self) -> Result<Option<RwLockReadGuard>> {
        traced!("synod.rwlock.try_read", object = self.name, async move {
            let taken = self.wanted(Access::Read)?.try_take().await?;
            Ok(taken.map(RwLockReadGuard::new))
        })
        .await
    }

    /// Waits at most `timeout` for the lock for reading, then returns `None`. The time counts from the call on:
    /// one that is shorter than a round trip gets no lock.
    ///
    /// # Cancel safety
    ///
    /// As [`RwLock::read`].
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`].
    pub async fn read_timeout(&self, timeout: Duration) -> Result<Option<RwLockReadGuard>> {
        traced!("synod.rwlock.read", object = self.name, async move {
            let taken = self.wanted(Access::Read)?.take_within(timeout).await?;
            Ok(taken.map(RwLockReadGuard::new))
        })
        .await
    }

    /// Waits until the lock is ours for writing, alone.
    ///
    /// # Cancel safety
    ///
    /// As [`RwLock::read`].
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`].
    pub async fn write(&self) -> Result<RwLockWriteGuard> {
        traced!("synod.rwlock.write", object = self.name, async move {
            let held = self.wanted(Access::Write)?.take().await?;
            Ok(RwLockWriteGuard::new(held))
        })
        .await
    }

    /// Takes the lock for writing if nobody has it or waits for it; else `None`, and nothing is
    /// written.
    ///
    /// # Cancel safety
    ///
    /// As [`RwLock::read`].
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`].
    pub async fn try_write(&self) -> Result<Option<RwLockWriteGuard>> {
        traced!("synod.rwlock.try_write", object = self.name, async move {
            let taken = self.wanted(Access::Write)?.try_take().await?;
            Ok(taken.map(RwLockWriteGuard::new))
        })
        .await
    }

    /// Waits at most `timeout` for the lock for writing, then returns `None`. The time counts from the call on:
    /// one that is shorter than a round trip gets no lock.
    ///
    /// # Cancel safety
    ///
    /// As [`RwLock::read`].
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`].
    pub async fn write_timeout(&self, timeout: Duration) -> Result<Option<RwLockWriteGuard>> {
        traced!("synod.rwlock.write", object = self.name, async move {
            let taken = self.wanted(Access::Write)?.take_within(timeout).await?;
            Ok(taken.map(RwLockWriteGuard::new))
        })
        .await
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
    /// use synod::rwlock::Holders;
    ///
    /// let lock = synod::Client::connect("memory:").await?.rwlock("catalogue");
    /// assert_eq!(lock.holders().await?, Holders::None);
    /// let guard = lock.write().await?;
    /// assert!(matches!(lock.holders().await?, Holders::Writer(_)));
    /// # drop(guard);
    /// # Ok(()) }) }
    /// ```
    pub async fn holders(&self) -> Result<Holders> {
        traced!("synod.rwlock.holders", object = self.name, async move {
            let mut line = self.wanted(Access::Write)?.line().await?;
            let all = line.len();
            let writers = self.prefix(Access::Write);
            let readers = line
                .iter()
                .take_while(|kv| !kv.key.starts_with(&writers))
                .count();
            let waiters = all.saturating_sub(readers.max(1));
            line.truncate(readers.max(1));
            let mut holders = line.into_iter().map(|kv| Holder::new(kv, waiters));
            Ok(if readers > 0 {
                Holders::Readers(holders.collect())
            } else {
                holders.next().map_or(Holders::None, Holders::Writer)
            })
        })
        .await
    }

    /// Where those who want to read, or to write, have their keys.
    fn prefix(&self, access: Access) -> Key {
        self.name.join(match access {
            Access::Read => "/read/",
            Access::Write => "/write/",
        })
    }

    fn wanted(&self, access: Access) -> Result<Wanted> {
        self.client.check_name(&self.name)?;
        let writers = self.prefix(Access::Write);
        let before = match access {
            Access::Read => vec![writers],
            Access::Write => vec![self.prefix(Access::Read), writers],
        };
        Ok(Wanted {
            client: self.client.clone(),
            session: self.session.clone(),
            prefix: self.prefix(access),
            neighbours: Neighbours::Under(before),
            value: self.client.identity(),
            gate: Some(self.gate.clone()),
        })
    }
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock")
            .field("name", &self.name)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
