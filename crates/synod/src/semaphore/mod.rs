#![doc = include_str!("../../docs/semaphore.md")]
//!
//! # Key layout
//!
//! ```text
//! key                          value               lease    written by              deleted by
//! ROOT/total                   permits, decimal    none     the first user, resize  remove
//! ROOT/line/N-LEASE-NUMBER     who (HOST/PID)      session  who wants permits       the same, or the lease's end
//! ```
//!
//! `ROOT` is `__synod/semaphore/NAME` (see *Names* above). The key is a ticket for `N` permits, in
//! decimal; `LEASE` is the session's lease in hexadecimal, `NUMBER` one that no other key of the process has.
//!
//! # Protocol
//!
//! Tickets stand in line by create revision. A ticket has its permits when `N` and those of all
//! tickets before it add up to no more than the total: those before can only become fewer, so what
//! is granted once stays so, and nobody overtakes.
//!
//! 1. *Join*, in one Txn: `If value(total)=T and create(ticket)=0 Then put(ticket), range(line) Else (If
//!    create(total)=0 and create(ticket)=0 Then put(ticket), range(line), put(total, T) Else get(ticket),
//!    range(line), get(total))`, the line keys-only. Neither branch, and no ticket: the total is another.
//!    `c` is the ticket's create revision. The sum is small enough: granted.
//! 2. *Wait*: one watch of `ROOT/` for all who wait in this process. When it stands, the total and the
//!    line are read at one revision; from there events tell who came and left, each revision whole.
//!    Compaction, a closed stream or half a minute of silence lead to another read.
//! 3. *Granted*, or gone: read the own ticket once more. If it still has `c`, the permits are ours. So
//!    nobody is given permits whose lease has died.
//! 4. *Release*: `If create(ticket)=c Then delete(ticket)`.
//! 5. *Resize* from `T`: read the total, last put at `m`; `If mod(total)=m Then put(total, new)`. *Remove*:
//!    `If mod(total)=m and create(line)=0 Then delete(total)`, over the whole line.
//!
//! # Failure
//!
//! A waiter whose call is dropped deletes its ticket in the background, guarded by `c`. A joining Txn
//! without answer is sent again; it is idempotent. When an early copy of it can still come after the
//! ticket was taken back, the ticket is looked for in the background, and deleted, until its lease is gone. All
//! of that is done where the session is kept. (A copy that comes after *Remove* also puts the total that it came
//! with: as whoever asks next would, but it stays.)
//!
//! # Round trips
//!
//! | call | round trips |
//! | --- | --- |
//! | `acquire`, permits free | 1 |
//! | `acquire`, waiting | 1 to join, 2 to begin a watch if nobody waits in this process, 1 when it is our turn |
//! | `try_acquire` | 1, and 1 more when there are not enough |
//! | `release`, `available_permits`, `check` | 1 |
//! | `resize`, `remove` | 2 |
//!
//! A client's first acquire makes the client's session, which takes one more.

mod join;
mod keys;
mod permit;
#[cfg(test)]
mod tests;
mod total;
mod view;
mod watching;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use synod_store::Key;

use crate::span::traced;
use crate::waiters::under_session;
use crate::{Client, Error, Result, Session};

use join::Ticket;
use keys::Keys;
use view::Standing;

pub use permit::SemaphorePermit;

impl Client {
    /// The semaphore of this name, with so many permits in all. Asks nobody: the number is compared with
    /// the stored one when permits are acquired.
    #[must_use]
    pub fn semaphore(&self, name: impl Into<Key>, permits: u32) -> Semaphore {
        let name = name.into();
        let shared = self.registry().get("semaphore", &name, || Shared {
            client: self.clone(),
            keys: Keys::new(self.own_prefix("semaphore", &name)),
            name: name.clone(),
            watch: watching::Watch::default(),
        });
        Semaphore {
            shared,
            permits,
            session: None,
        }
    }
}

/// A number of permits that many processes share. Handles are cheap to clone.
///
/// See the [module](self) for what it promises.
#[derive(Clone)]
pub struct Semaphore {
    shared: Arc<Shared>,
    permits: u32,
    session: Option<Session>,
}

/// What all handles of one semaphore in one client share.
#[derive(Debug)]
struct Shared {
    client: Client,
    keys: Keys,
    name: Key,
    watch: watching::Watch,
}

impl Semaphore {
    /// The same semaphore with a session of the caller's own: permits that this handle acquires go with
    /// it. Without it they share the client's.
    #[must_use]
    pub fn with_session(mut self, session: &Session) -> Semaphore {
        self.session = Some(session.clone());
        self
    }

    /// The semaphore's name.
    #[must_use]
    pub fn name(&self) -> &Key {
        &self.shared.name
    }

    /// The client that the semaphore belongs to.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// How many permits there are in all, as this handle has it.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.permits
    }

    /// Acquires a permit; waits in line until there is one.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the place in the line is given up in the background; if the process dies
    /// before that, with the lease.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`] as soon as the session or the own ticket is gone.
    /// [`Error::Disagreement`] when the semaphore has another number of permits than this handle. Else
    /// what the store answered, when it could not be reached for the client's timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let pool = synod::Client::connect("memory:").await?.semaphore("pool", 2);
    /// let one = pool.acquire().await?;
    /// let _two = pool.acquire().await?;
    /// assert!(pool.try_acquire().await?.is_none());
    /// one.release().await?;
    /// assert_eq!(pool.available_permits().await?, 1);
    /// # Ok(()) }) }
    /// ```
    pub async fn acquire(&self) -> Result<SemaphorePermit> {
        self.acquire_many(1).await
    }

    /// Acquires `permits` permits at once; waits in line until so many are free, and nobody overtakes
    /// meanwhile.
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire`]; [`Error::InvalidArgument`] for no permits, or more than there are in all,
    /// also when the semaphore is made smaller meanwhile.
    pub async fn acquire_many(&self, permits: u32) -> Result<SemaphorePermit> {
        traced!(
            "synod.semaphore.acquire",
            object = self.shared.name,
            async move {
                let ticket = self.join(permits).await?;
                if !ticket.granted {
                    self.wait(&ticket).await?;
                }
                ticket.acquired()
            }
        )
        .await
    }

    /// Acquires a permit if one is free and nobody waits for it; else returns `None`.
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire`].
    pub async fn try_acquire(&self) -> Result<Option<SemaphorePermit>> {
        self.try_acquire_many(1).await
    }

    /// Acquires `permits` permits if they are free and nobody waits; else returns `None`.
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire_many`].
    pub async fn try_acquire_many(&self, permits: u32) -> Result<Option<SemaphorePermit>> {
        traced!(
            "synod.semaphore.try_acquire",
            object = self.shared.name,
            async move {
                let ticket = self.join(permits).await?;
                if !ticket.granted {
                    ticket.hold.release().await?;
                    return Ok(None);
                }
                ticket.acquired().map(Some)
            }
        )
        .await
    }

    /// Acquires a permit; waits for it at most `timeout`, then returns `None`.
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire`].
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<Option<SemaphorePermit>> {
        self.acquire_many_timeout(1, timeout).await
    }

    /// Acquires `permits` permits; waits for them at most `timeout`, then returns `None`.
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire_many`].
    pub async fn acquire_many_timeout(
        &self,
        permits: u32,
        timeout: Duration,
    ) -> Result<Option<SemaphorePermit>> {
        crate::within(timeout, self.acquire_many(permits)).await
    }

    /// How many permits are free. Those who wait do not count: they may want more than are free. While
    /// more permits are held than there are since a [resize](Semaphore::resize), the last holders are taken
    /// for such. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`Error::Disagreement`] as with [`Semaphore::acquire`], or what the store answered.
    pub async fn available_permits(&self) -> Result<u32> {
        traced!(
            "synod.semaphore.available_permits",
            object = self.shared.name,
            async move {
                let view = self.shared.read().await?;
                match view.record() {
                    None => Ok(self.permits),
                    Some(_) if view.total() == Some(self.permits) => Ok(view.available()),
                    Some(other) => Err(self.shared.disagrees(other, self.permits)),
                }
            }
        )
        .await
    }

    async fn join(&self, permits: u32) -> Result<Ticket> {
        if permits == 0 || permits > self.permits {
            return Err(Error::InvalidArgument(format!(
                "{permits} permits were asked for, but the semaphore {:?} can give 1 to {}",
                self.shared.name, self.permits
            )));
        }
        let shared = &self.shared;
        let join = |session| join::join(shared, session, self.permits, permits);
        let joined = under_session(&shared.client, self.session.as_ref(), join).await;
        joined.map_err(|error| shared.client.about_own_keys(error))
    }

    async fn wait(&self, ticket: &Ticket) -> Result<()> {
        loop {
            let verdict = tokio::select! {
                // Asked first: whose session has ended is told nothing else.
                biased;
                () = ticket.hold.session().lost() => return Err(Error::SessionLost),
                verdict = watching::wait(&self.shared, ticket.spot()) => verdict?,
            };
            if let Standing::TooMany(total) = verdict {
                return Err(Error::InvalidArgument(format!(
                    "{} permits were asked for, but the semaphore {:?} was made smaller meanwhile: \
                     it has {total} now",
                    ticket.permits, self.shared.name
                )));
            }
            // Read once more: an event can come long after what it tells of.
            let there = ticket.hold.check().await;
            there.map_err(|error| match error {
                // The ticket has gone before the session noticed.
                Error::NotOwner { .. } => Error::SessionLost,
                error => error,
            })?;
            if verdict == Standing::Granted {
                return Ok(());
            }
        }
    }

    /// Changes the number of permits in all from this handle's to `permits`, and returns a handle with the
    /// new number. Other handles get [`Error::Disagreement`] from then on, until they are made anew.
    ///
    /// Who holds permits keeps them: when there are fewer now, the next are given out only after enough
    /// have come back. Those who wait go by the new number.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the number may be changed or not.
    ///
    /// # Errors
    ///
    /// [`Error::Disagreement`] when the semaphore has neither this handle's number nor the new one: somebody
    /// else has resized it. [`Error::InvalidArgument`] for 0. Else what the store answered; when that
    /// [is in doubt](Error::is_maybe_committed), repeat it.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let client = synod::Client::connect("memory:").await?;
    /// let pool = client.semaphore("pool", 1);
    /// let _held = pool.acquire().await?;
    /// let larger = pool.resize(3).await?;
    /// assert_eq!(larger.available_permits().await?, 2);
    /// assert!(pool.acquire().await.is_err());
    /// # Ok(()) }) }
    /// ```
    pub async fn resize(&self, permits: u32) -> Result<Semaphore> {
        traced!(
            "synod.semaphore.resize",
            object = self.shared.name,
            async move {
                if permits == 0 {
                    return Err(Error::InvalidArgument(format!(
                        "the semaphore {:?} cannot have 0 permits",
                        self.shared.name
                    )));
                }
                self.shared.resize(self.permits, permits).await?;
                Ok(Semaphore {
                    permits,
                    ..self.clone()
                })
            }
        )
        .await
    }

    /// Forgets the number of permits, so that the next user can bring another. Two round trips.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the number may be forgotten or not.
    ///
    /// # Errors
    ///
    /// [`Error::Held`] when somebody holds permits or waits for some. [`Error::Disagreement`] when the
    /// semaphore has another number than this handle. Else what the store answered; when that
    /// [is in doubt](Error::is_maybe_committed), repeat it.
    pub async fn remove(&self) -> Result<()> {
        traced!(
            "synod.semaphore.remove",
            object = self.shared.name,
            async move { self.shared.remove(self.permits).await }
        )
        .await
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("name", &self.shared.name)
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}
