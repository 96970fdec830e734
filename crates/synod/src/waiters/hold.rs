//! [`Hold`]: the head of a line, held under a session: what the guards of locks are made of.
//!
//! # Protocol
//!
//! 1. Join the line with a key that no other call has: `LEASE-NUMBER`, the session's lease in
//!    hexadecimal and a number that no other key of this process has (`numbers`). Value: the client's
//!    identity.
//! 2. The head of the line is ours, the session lives by the clock of this moment: held.
//! 3. *Release*: `If create(key)=c Then delete(key)`, so that an old token frees nobody.
//!
//! A lease that is gone although its session has not noticed (somebody revoked it) ends the session;
//! with the client's own one, another is begun and the line is joined again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{Compare, Key, KeyValue, RangeRequest, Revision};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Join, Line, Neighbours, Place, Suffix, join};
use crate::{Client, Error, Result, Session, Txn, retry};

/// What is to be held, and by whom.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Who wants it.
    pub(crate) client: Client,
    /// Under which session; the client's own one if under none.
    pub(crate) session: Option<Session>,
    /// The line to join: a name with `/` appended.
    pub(crate) prefix: Key,
    /// Who is in the line.
    pub(crate) neighbours: Neighbours,
    /// The own key's value.
    pub(crate) value: Bytes,
    /// Bounds how many of one client's calls stand in the line at once.
    pub(crate) gate: Option<Gate>,
}

/// How many calls of one client may wait in one line at once. Further ones wait here, first come, first
/// served: a line is read by everyone who joins it, so that a thousand tasks in it would be read a
/// thousand times.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

/// The most calls of one client that wait in one line at once.
const STANDING: usize = 16;

impl Gate {
    /// The gate of the lock of this kind and name, which all of the client's calls for it pass. Another kind of
    /// lock has another line under the same name: its holder may be the one for whom those in this one wait.
    pub(crate) fn of(client: &Client, kind: &'static str, name: &Key) -> Gate {
        let gate = || Semaphore::new(STANDING);
        Gate(client.registry().get(kind, name, gate))
    }

    async fn pass(&self) -> Option<OwnedSemaphorePermit> {
        // An error means that it was closed, which nobody does.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// The head of a line. Dropping it releases it in the background.
#[derive(Debug)]
pub(crate) struct Hold {
    // In the order in which they end: the key first, then the session if this was its last user.
    place: Place,
    session: Session,
    client: Client,
}

impl Wanted {
    /// Waits until the head of the line is ours.
    pub(crate) async fn take(&self) -> Result<Hold> {
        // Until the head is ours: who holds it does not count.
        let _standing = self.pass_gate().await?;
        let (session, place) = self.join(false).await?;
        match place {
            Some(place) => self.wait(session, place).await,
            None => Err(Error::SessionLost),
        }
    }

    /// Takes the head of the line if nobody is in it.
    pub(crate) async fn try_take(&self) -> Result<Option<Hold>> {
        let (session, place) = self.join(true).await?;
        match place {
            Some(place) => self.wait(session, place).await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits at most so long for the head of the line.
    pub(crate) async fn take_within(&self, timeout: Duration) -> Result<Option<Hold>> {
        crate::within(timeout, self.take()).await
    }

    /// Waits until fewer of the client's calls stand in the line than may.
    async fn pass_gate(&self) -> Result<Option<OwnedSemaphorePermit>> {
        let Some(gate) = &self.gate else {
            return Ok(None);
        };
        let Some(session) = &self.session else {
            return Ok(gate.pass().await);
        };
        tokio::select! {
            biased;
            () = session.lost() => Err(Error::SessionLost),
            permit = gate.pass() => Ok(permit),
        }
    }

    /// All who are in the line, the oldest first.
    pub(crate) async fn line(&self) -> Result<Vec<KeyValue>> {
        let line = Line::of(&self.prefix, &self.neighbours);
        line.read(&**self.client.store(), self.client.timeout())
            .await
    }

    async fn wait(&self, session: Session, mut place: Place) -> Result<Hold> {
        place.wait(session.lost()).await?;
        session.check()?;
        Ok(Hold::new(place, session, self.client.clone()))
    }

    /// Joins the line; with `only_if_free`, not if anybody is in it.
    async fn join(&self, only_if_free: bool) -> Result<(Session, Option<Place>)> {
        let joining = |session| async move {
            let vigils = self.client.vigils();
            let number = vigils.numbers().take();
            let request = self.request(&session, number);
            let key = request.prefix.join(&request.suffix);
            let home = session.home();
            let mut place = if only_if_free {
                join::try_join(vigils, request, home).await?
            } else {
                Some(join::join(vigils, request, Some(home)).await?)
            };
            if let Some(place) = place.as_mut().filter(|place| *place.key() == key) {
                place.number = Some(number);
            }
            Ok((session, place))
        };
        under_session(&self.client, self.session.as_ref(), joining).await
    }

    fn request(&self, session: &Session, number: u64) -> Join {
        Join {
            prefix: self.prefix.clone(),
            suffix: suffix(session, number).into(),
            sharing: Suffix::Unique,
            value: self.value.clone(),
            lease: session.lease(),
            neighbours: self.neighbours.clone(),
            patience: self.client.timeout(),
        }
    }
}

/// The last part of a key that one call alone has.
pub(crate) fn own_suffix(client: &Client, session: &Session) -> String {
    suffix(session, client.vigils().numbers().take())
}

fn suffix(session: &Session, number: u64) -> String {
    format!("{}-{number}", session.lease())
}

/// Does something that needs a living lease, with this session or else the client's own one. When the
/// own one's lease turns out to be gone, once more with the next.
pub(crate) async fn under_session<T, F: Future<Output = Result<T>>>(
    client: &Client,
    session: Option<&Session>,
    task: impl Fn(Session) -> F,
) -> Result<T> {
    let mut again = session.is_none();
    loop {
        let session = match session {
            Some(session) => session.clone(),
            None => client.own_session().await?,
        };
        session.check()?;
        let done = tokio::select! {
            biased;
            () = session.lost() => Err(Error::SessionLost),
            done = task(session.clone()) => done,
        };
        match done {
            Err(error) if error.is_session_lost() => {
                session.lease_is_gone();
                if !std::mem::take(&mut again) {
                    return Err(Error::SessionLost);
                }
            }
            done => return done,
        }
    }
}

impl Hold {
    /// What is held already: `place` was found to have its due.
    pub(crate) fn new(place: Place, session: Session, client: Client) -> Hold {
        Hold {
            place,
            session,
            client,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn created(&self) -> Revision {
        self.place.created()
    }

    pub(crate) fn key(&self) -> &Key {
        self.place.key()
    }

    /// The own key's create revision.
    pub(crate) fn token(&self) -> u64 {
        self.place.created().0
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn is_owner(&self) -> Compare {
        Compare::created_at(self.place.key().clone(), self.place.created())
    }

    pub(crate) fn txn(&self) -> Txn {
        self.client.txn().fenced(self.is_owner())
    }

    /// Ends when the session does, or the own key is gone.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let session = self.session.lost();
        let vigils = self.client.vigils().clone();
        let (key, created) = (self.place.key().clone(), self.place.created());
        let patience = self.client.timeout();
        async move {
            let gone = async {
                if let Err(error) = vigils.until_gone(&key, created, patience).await {
                    // The session's end still tells.
                    tracing::warn!(%key, %error, "a held key cannot be watched");
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = session => {}
                () = gone => {}
            }
        }
    }

    /// Asks the store whether the own key is still there.
    pub(crate) async fn check(&self) -> Result<()> {
        self.session.check()?;
        let request = RangeRequest::new(self.key().clone()).keys_only();
        let store = self.client.store();
        let patience = self.client.timeout();
        let range = retry::read(patience, || store.range(request.clone())).await?;
        let there = range.kvs.first().map(|kv| kv.create_revision);
        if there == Some(self.place.created()) {
            self.session.check()
        } else {
            Err(self.was_lost())
        }
    }

    /// Releases it. An error when it was lost before.
    pub(crate) async fn release(self) -> Result<()> {
        let was_lost = self.was_lost();
        if self.place.leave().await? {
            Ok(())
        } else {
            Err(was_lost)
        }
    }

    /// Why it is not held any more.
    pub(crate) fn was_lost(&self) -> Error {
        if self.session.is_alive() {
            Error::NotOwner {
                key: self.key().to_string(),
            }
        } else {
            Error::SessionLost
        }
    }
}
