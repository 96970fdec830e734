//! [`SessionBuilder`]: how a session begins.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{ErrorKind, LeaseGrantRequest, LeaseId, Store};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keeper::{Keeper, Life};
use super::{Inner, Session, revoke};
use crate::clock::Clock;
use crate::retry::Backoff;
use crate::span::{self, traced};
use crate::{Error, Result};

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

    /// How long it bears a store that does not answer.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
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
    /// When this is dropped, the lease that it may have been granted is revoked in the background.
    ///
    /// # Errors
    ///
    /// What the store answered; transient trouble is borne for the client's timeout.
    pub async fn build(self) -> Result<Session> {
        traced!("synod.session.begin", async move {
            let runtime = crate::runtime()?;
            let mut grant = Grant {
                store: Arc::clone(&self.store),
                runtime: runtime.clone(),
                ttl: self.ttl,
                id: None,
            };
            let (id, sent, ttl) = self.grant(&mut grant).await?;
            grant.id = None;
            let life = Arc::new(Life::new(id, Arc::clone(&self.clock), sent + ttl));
            let ending = CancellationToken::new();
            let keeper = Keeper {
                store: self.store,
                life: Arc::clone(&life),
                ttl,
                sent,
                ending: ending.clone(),
            };
            runtime.spawn(span::task("session.keeper", keeper.run()));
            Ok(Session {
                inner: Arc::new(Inner {
                    life,
                    ttl,
                    patience: self.timeout,
                    ending,
                    runtime,
                }),
            })
        })
        .await
    }

    /// Grants a lease: its id, when the request was sent that made it or renewed it, its time to live.
    async fn grant(&self, grant: &mut Grant) -> Result<(LeaseId, Duration, Duration)> {
        let deadline = Instant::now() + self.timeout;
        let mut backoff = Backoff::new();
        let mut id = draw_id();
        let mut doubt = false;
        loop {
            let sent = self.clock.now();
            grant.id = Some(id);
            let request = LeaseGrantRequest::new(self.ttl).with_id(id);
            let answer = tokio::time::timeout_at(deadline, self.store.lease_grant(request)).await;
            let error = match answer {
                Ok(Ok(granted)) => return Ok((id, sent, granted.ttl)),
                Ok(Err(error)) => error,
                Err(_) => {
                    return Err(Error::Timeout {
                        after: self.timeout,
                    });
                }
            };
            if error.kind() == ErrorKind::LeaseExists && doubt {
                // An earlier copy was applied, at an unknown moment: a renewal gives a known one.
                let sent = self.clock.now();
                let renewed = || self.store.lease_keep_alive(id);
                let renewed = crate::retry::read(self.timeout, renewed).await?;
                return Ok((id, sent, renewed.ttl));
            }
            doubt |= error.is_maybe_applied();
            if !doubt {
                grant.id = None;
            }
            if error.kind() == ErrorKind::LeaseExists {
                // Somebody else has drawn the same number: draw again.
                id = draw_id();
            } else if error.is_transient() && Instant::now() < deadline {
                backoff.wait().await;
            } else {
                return Err(error.into());
            }
        }
    }
}

/// A lease that may have been granted to a session that has not begun. Dropping it revokes the lease in
/// the background.
struct Grant {
    store: Arc<dyn Store>,
    runtime: Handle,
    ttl: Duration,
    id: Option<LeaseId>,
}

impl Drop for Grant {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let (store, ttl) = (Arc::clone(&self.store), self.ttl);
        self.runtime.spawn(span::task("session.revoke", async move {
            if let Err(error) = revoke(&*store, id, ttl).await {
                tracing::debug!(lease = %id, %error, "a lease that nobody has is left to run out");
            }
        }));
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

/// A positive number that nobody else has drawn.
fn draw_id() -> LeaseId {
    loop {
        let drawn = rand::random::<i64>() & i64::MAX;
        if let Some(id) = LeaseId::new(drawn) {
            return id;
        }
    }
}
