#![doc = include_str!("../../docs/session.md")]
//!
//! # Protocol
//!
//! 1. *Grant* a lease with an id that the client draws by lot, so that a repeated grant whose first
//!    answer was lost is recognised: `lease already exists` then means ours.
//! 2. *Renew* it every third of its time to live, and more often after a failure.
//! 3. *The deadline* is the moment at which the last answered renewal was **sent**, plus the time
//!    to live, on a clock that counts suspend. Once it has passed, or the store says that the lease
//!    is gone, the session is lost for ever; every use compares the clock anew, so that a process
//!    which was frozen does not believe an old answer.
//! 4. *The end*: `close` and the drop of the last handle have the lease revoked in the background, asking
//!    again for as long as it can live; `close` waits for that, bounded. `orphan` leaves the lease to run
//!    out.
//! 5. *A beginning that fails* or is dropped has its lease revoked in the same way: a grant whose answer
//!    was lost may have made one.
//!
//! # Round trips
//!
//! One to begin, one every third of the time to live, one to end.

mod builder;
mod keeper;
mod shared;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use synod_store::{Applied, ErrorKind, LeaseId, Store};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::errand::Runtimes;
use crate::retry::Backoff;
use crate::span::traced;
use crate::{Client, Error, Result};

pub use builder::SessionBuilder;
use keeper::{Ending, Life};
pub(crate) use shared::Shared;

/// How a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionState {
    /// The last renewal was answered.
    Alive,
    /// The last renewal failed; the lease still lives, and renewals go on.
    Troubled,
    /// The lease is gone, or may be: what the session held may belong to another. Final.
    Lost,
    /// The session was closed or orphaned by its owner. Final.
    Closed,
}

impl SessionState {
    /// Whether the session is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, SessionState::Lost | SessionState::Closed)
    }
}

/// One lease, kept alive as long as a handle to it exists. Handles are cheap to clone.
///
/// Many primitives can share a session; when it is lost, all that they hold is.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
/// use std::time::Duration;
/// use synod::Client;
///
/// let client = Client::connect("memory:").await?;
/// let session = client.session().ttl(Duration::from_secs(10)).await?;
/// assert!(session.is_alive());
/// session.close().await?;
/// # Ok(()) }) }
/// ```
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    life: Arc<Life>,
    ttl: Duration,
    /// How long `close` waits for an answer.
    patience: Duration,
    ending: CancellationToken,
    /// The keeper's.
    runtime: Handle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The keeper revokes the lease in the background, unless the session has already ended.
        self.life.end(Ending::Revoke);
        self.ending.cancel();
    }
}

impl Session {
    /// A session to be; the same as [`Client::session`].
    pub fn builder(client: &Client) -> SessionBuilder {
        SessionBuilder::new(client.shared_store(), client.clock(), client.timeout())
    }

    /// The lease.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.inner.life.lease
    }

    /// The time to live that the store granted, which may be more than was asked for.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.inner.ttl
    }

    /// Whether the session lives, by the clock of this moment.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.state().is_over()
    }

    /// How the session is, by the clock of this moment.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.inner.life.state_now()
    }

    /// How the session becomes: a stream of its states, the present one first. It ends after a
    /// final one. A slow reader misses states in between, never the last.
    pub fn states(&self) -> impl Stream<Item = SessionState> + Send + Unpin + 'static {
        let receiver = self.inner.life.subscribe();
        Box::pin(futures_util::stream::unfold(
            (receiver, true, false),
            |(mut receiver, first, over)| async move {
                if over || (!first && receiver.changed().await.is_err()) {
                    return None;
                }
                let state = *receiver.borrow_and_update();
                Some((state, (receiver, false, state.is_over())))
            },
        ))
    }

    /// An error unless the session lives, by the clock of this moment.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`].
    pub fn check(&self) -> Result<()> {
        if self.is_alive() {
            Ok(())
        } else {
            Err(Error::SessionLost)
        }
    }

    /// Waits until the session is over: lost, closed or orphaned.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut receiver = self.inner.life.subscribe();
        async move {
            // An error means that the keeper is gone, and with it the session.
            let _ = receiver.wait_for(|state| state.is_over()).await;
        }
    }

    /// The runtime that keeps the session. When it ends, the session is lost.
    pub(crate) fn home(&self) -> &Handle {
        &self.inner.runtime
    }

    /// Where to work for keys of this session.
    pub(crate) fn runtimes(&self) -> Runtimes {
        Runtimes::of(self.home())
    }

    /// Why a task of this runtime, which works for a key of this session, gave no answer.
    pub(crate) fn no_answer_from(&self, runtime: &Handle) -> Error {
        let home = self.home().id();
        let here = Handle::try_current().is_ok_and(|here| here.id() == home);
        if runtime.id() == home && !here {
            Error::SessionLost
        } else {
            Error::NoRuntime
        }
    }

    /// The store has said that there is no such lease: the session is lost, if it was not over.
    pub(crate) fn lease_is_gone(&self) {
        self.inner.life.lease_is_gone();
    }

    /// How long the session lives if no renewal is answered any more, by the clock of this moment. Zero
    /// once it is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.inner.life.remaining()
    }

    /// Ends the session and leaves its lease to run out by itself: its keys stay until then.
    pub fn orphan(self) {
        self.inner.life.end(Ending::Leave);
        self.inner.ending.cancel();
    }

    /// Ends the session for all its handles and revokes the lease: its keys are deleted. One round trip.
    ///
    /// Waits at most for the client's timeout, and no longer than the lease lives. After that it is still
    /// tried in the background.
    ///
    /// # Cancel safety
    ///
    /// The session is over from the first poll on; the lease is revoked in the background.
    ///
    /// # Errors
    ///
    /// What the store answered, when the lease could not be revoked in time. A lease that is
    /// already gone is no error.
    pub async fn close(self) -> Result<()> {
        let lease = self.lease();
        traced!("synod.session.close", async move {
            let life = &self.inner.life;
            let mut revoked = life.revoked();
            if !life.end(Ending::Revoke) {
                return Ok(());
            }
            self.inner.ending.cancel();
            let bound = self.inner.patience.min(self.inner.ttl);
            let answered = revoked.wait_for(Option::is_some);
            match tokio::time::timeout(bound, answered).await {
                Ok(Ok(answer)) => answer.clone().unwrap_or(Ok(())),
                // The keeper was ended with its runtime.
                Ok(Err(_)) => Err(Error::NoRuntime),
                Err(_) => Err(synod_store::Error::from_kind(ErrorKind::Timeout)
                    .with_applied(Applied::Maybe)
                    .into()),
            }
        })
        .under(lease)
        .await
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("lease", &self.lease())
            .field("ttl", &self.ttl())
            .field("state", &self.state())
            .finish()
    }
}

/// Revokes a lease, asking again after transient trouble for at most `bound`.
async fn revoke(store: &dyn Store, lease: LeaseId, bound: Duration) -> Result<()> {
    let mut last = None;
    let mut backoff = Backoff::new();
    let asking = async {
        loop {
            match store.lease_revoke(lease).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::LeaseNotFound => return Ok(()),
                Err(error) if error.is_transient() => last = Some(error),
                Err(error) => return Err(Error::from(error)),
            }
            backoff.wait().await;
        }
    };
    match tokio::time::timeout(bound, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(last.map_or(Error::Timeout { after: bound }, Error::from)),
    }
}

/// The store says that a session's lease is gone: the session is lost.
pub(crate) fn lease_gone(session: &Session, error: Error) -> Error {
    if error.kind() == Some(ErrorKind::LeaseNotFound) {
        // Not only by its next renewal: who asks for a session until then would get this one.
        session.lease_is_gone();
        Error::SessionLost
    } else {
        error
    }
}

/// What the watch channel of a session carries.
pub(crate) type States = watch::Receiver<SessionState>;
