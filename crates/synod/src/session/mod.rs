//! [`Session`]: one lease, kept alive, under many primitives.
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
//! 4. *The end*: `close` revokes, bounded; dropping the last handle revokes in the background, with
//!    the lease's own end as the backstop; `orphan` leaves the lease to run out.
//!
//! # Guarantees
//!
//! A session is reported lost no later than its lease can end by lack of renewal. A lease that
//! somebody revokes is noticed at the next renewal, and a process that does not run notices
//! nothing: against those two only a fencing token helps.
//!
//! # Cost
//!
//! One round trip to begin, one every TTL/3, one to end.

mod keeper;
mod shared;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use synod_store::{ErrorKind, LeaseGrantRequest, LeaseId, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::retry::Backoff;
use crate::{Client, Error, Result};

use keeper::{Ending, Keeper, Life};
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
    store: Arc<dyn Store>,
    life: Arc<Life>,
    ttl: Duration,
    ending: CancellationToken,
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

    /// The store has said that there is no such lease: the session is lost, if it was not over.
    pub(crate) fn lease_is_gone(&self) {
        self.inner.life.lease_is_gone();
    }

    /// Ends the session and leaves its lease to run out by itself: its keys stay until then.
    pub fn orphan(self) {
        self.inner.life.end(Ending::Leave);
        self.inner.ending.cancel();
    }

    /// Ends the session for all its handles and revokes the lease: its keys are deleted.
    ///
    /// Waits at most for the lease's time to live, after which it is gone anyhow.
    ///
    /// # Cancel safety
    ///
    /// The session is over from the first poll on. When this is dropped, the lease may live on
    /// until its time has run out.
    ///
    /// # Errors
    ///
    /// What the store answered, when the lease could not be revoked in time. A lease that is
    /// already gone is no error.
    pub async fn close(self) -> Result<()> {
        if !self.inner.life.end(Ending::Leave) {
            return Ok(());
        }
        self.inner.ending.cancel();
        revoke(&*self.inner.store, self.inner.life.lease, self.inner.ttl).await
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

/// A [`Session`] to be; awaiting it begins the session.
#[derive(Clone)]
#[must_use = "a session begins when its builder is awaited"]
pub struct SessionBuilder {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    ttl: Duration,
}

impl SessionBuilder {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> SessionBuilder {
        SessionBuilder {
            store,
            clock,
            timeout,
            // What etcd's Go package takes.
            ttl: Duration::from_secs(60),
        }
    }

    /// The time to live to ask for, 60 s unless set. Stores count whole seconds, and grant at least
    /// a few of them.
    pub fn ttl(mut self, ttl: Duration) -> SessionBuilder {
        self.ttl = ttl;
        self
    }

    /// The clock to go by; the client's unless set.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> SessionBuilder {
        self.clock = clock;
        self
    }

    /// Begins the session; awaiting the builder does the same. One round trip.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, a lease without keys may stay behind until its time has run out.
    ///
    /// # Errors
    ///
    /// What the store answered; transient trouble is borne for the client's timeout.
    pub async fn build(self) -> Result<Session> {
        let runtime = crate::runtime()?;
        let deadline = tokio::time::Instant::now() + self.timeout;
        let mut id = draw_id();
        let mut doubt = false;
        let mut backoff = Backoff::new();
        let (sent, ttl) = loop {
            let sent = self.clock.now();
            let request = LeaseGrantRequest::new(self.ttl).with_id(id);
            let answer = tokio::time::timeout_at(deadline, self.store.lease_grant(request)).await;
            match answer {
                Ok(Ok(granted)) => break (sent, granted.ttl),
                Ok(Err(error)) if error.kind() == ErrorKind::LeaseExists && doubt => {
                    // An earlier copy was applied, at an unknown moment: a renewal gives a known one.
                    let sent = self.clock.now();
                    let renewed =
                        crate::retry::read(self.timeout, || self.store.lease_keep_alive(id));
                    break (sent, renewed.await?.ttl);
                }
                // Somebody has drawn the same number: draw again.
                Ok(Err(error)) if error.kind() == ErrorKind::LeaseExists => id = draw_id(),
                Ok(Err(error)) if error.is_transient() => {
                    doubt |= error.is_maybe_applied();
                    if tokio::time::Instant::now() >= deadline {
                        return Err(error.into());
                    }
                    backoff.wait().await;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    return Err(Error::Timeout {
                        after: self.timeout,
                    });
                }
            }
        };
        let life = Arc::new(Life::new(id, Arc::clone(&self.clock), sent + ttl));
        let ending = CancellationToken::new();
        let keeper = Keeper {
            store: Arc::clone(&self.store),
            life: Arc::clone(&life),
            ttl,
            sent,
            ending: ending.clone(),
        };
        runtime.spawn(keeper.run());
        Ok(Session {
            inner: Arc::new(Inner {
                store: self.store,
                life,
                ttl,
                ending,
            }),
        })
    }
}

impl IntoFuture for SessionBuilder {
    type Output = Result<Session>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Session>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.build())
    }
}

impl fmt::Debug for SessionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionBuilder")
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// The store says that a session's lease is gone: the session is lost.
pub(crate) fn lease_gone(error: Error) -> Error {
    if error.kind() == Some(ErrorKind::LeaseNotFound) {
        Error::SessionLost
    } else {
        error
    }
}

/// A positive number that nobody else has drawn.
fn draw_id() -> LeaseId {
    loop {
        let drawn = rand::random::<i64>() & i64::MAX;
        if let Some(id) = LeaseId::new(drawn) {
            return id;
        }
    }
}

/// What the watch channel of a session carries.
pub(crate) type States = watch::Receiver<SessionState>;
