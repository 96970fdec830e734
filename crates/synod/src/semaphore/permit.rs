//! [`SemaphorePermit`]: permits that are held.

use std::fmt;
use std::future::Future;

use synod_store::{Compare, Key};

use super::join::Ticket;
use crate::{Result, Session};

/// Permits of a [`Semaphore`](super::Semaphore), until this is dropped or
/// [released](SemaphorePermit::release), or the session is lost.
#[must_use = "who drops its permits gives them back at once"]
pub struct SemaphorePermit {
    ticket: Ticket,
}

impl SemaphorePermit {
    pub(super) fn new(ticket: Ticket) -> SemaphorePermit {
        SemaphorePermit { ticket }
    }

    /// How many permits these are.
    #[must_use]
    pub fn num_permits(&self) -> u32 {
        self.ticket.permits
    }

    /// The key that stands for them.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.ticket.hold.key()
    }

    /// The session under which they are held.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.ticket.hold.session()
    }

    /// A number that is higher than that of everybody who was given permits before.
    #[must_use]
    pub fn fencing_token(&self) -> u64 {
        self.ticket.hold.created().0
    }

    /// True in a transaction for as long as the permits are held.
    pub fn is_owner(&self) -> Compare {
        self.ticket.hold.is_owner()
    }

    /// Asks the store whether the permits are still held. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`](crate::Error::SessionLost), [`Error::NotOwner`](crate::Error::NotOwner) when the key was deleted by somebody
    /// else, or what the store answered.
    pub async fn check(&self) -> Result<()> {
        self.ticket.hold.check().await
    }

    /// Waits until the permits are not held any more: the session is lost, or the key was deleted.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ticket.hold.lost()
    }

    /// Gives the permits back. One round trip.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, it goes on in the background.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`](crate::Error::SessionLost) or [`Error::NotOwner`](crate::Error::NotOwner) when they had been lost before. When the
    /// store could not be reached for the client's timeout, what it answered: it goes on in the
    /// background, with the lease's end as the backstop.
    pub async fn release(self) -> Result<()> {
        self.ticket.hold.release().await
    }
}

impl fmt::Debug for SemaphorePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit")
            .field("key", self.key())
            .field("num_permits", &self.num_permits())
            .finish_non_exhaustive()
    }
}
