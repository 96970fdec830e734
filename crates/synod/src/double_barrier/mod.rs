#![doc = include_str!("../../docs/double_barrier.md")]
//!
//! # Key layout

mod go;
mod guest;
mod house;
mod keys;
mod member;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use synod_store::Key;
use tokio::time::Instant;

use crate::slot::Slot;
use crate::{Client, Error, Result, Session};

use guest::{Building, Guest, Hint};
use keys::MOST;

/// One participant of a double barrier.
///
/// A handle enters and leaves for one participant. A clone is another participant of the same double
/// barrier. Dropping a handle that is inside leaves in the background.
///
/// See the [module](self) for what it promises.
pub struct DoubleBarrier {
    client: Client,
    name: Key,
    count: u32,
    session: Option<Session>,
    go: bool,
    building: OnceLock<Building>,
    state: Slot<State>,
}

/// Where a participant is.
#[derive(Debug, Default)]
enum State {
    /// Outside; with what is remembered of the last round.
    #[default]
    New,
    Outside(Hint),
    /// A call is entering or leaving.
    Busy,
    Inside(Guest),
}

/// Puts the handle outside when a call ends, however it ends.
struct Passage<'h> {
    state: &'h Slot<State>,
    end: State,
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        *self.state.lock() = std::mem::take(&mut self.end);
    }
}

impl Client {
    /// A participant of the double barrier of this name, whose rounds have `count` participants.
    /// Asks nobody.
    #[must_use]
    pub fn double_barrier(&self, name: impl Into<Key>, count: u32) -> DoubleBarrier {
        DoubleBarrier {
            client: self.clone(),
            name: name.into(),
            count,
            session: None,
            go: false,
            building: OnceLock::new(),
            state: Slot::default(),
        }
    }
}

impl DoubleBarrier {
    /// Takes part with the lease of `session`, else with that of the client's own session.
    #[must_use]
    pub fn with_session(mut self, session: &Session) -> DoubleBarrier {
        self.session = Some(session.clone());
        self
    }

    /// Shares rounds with programs that use etcd's Go recipe: the same keys, the same order. All
    /// participants have to. See [*Together with Go*](self#together-with-go) for what is given up.
    #[must_use]
    pub fn go_compatible(mut self) -> DoubleBarrier {
        self.go = true;
        self.building = OnceLock::new();
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Key {
        &self.name
    }

    /// How many participants a round has.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The client that the participant belongs to.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The number of the round that this participant is in; `None` outside. All participants of a
    /// round see the same number, and it rises from round to round while somebody has a handle.
    #[must_use]
    pub fn round(&self) -> Option<u64> {
        match &*self.state.lock() {
            State::Inside(guest) => guest.round(),
            _ => None,
        }
    }

    /// Enters: waits until as many have entered as the round has participants.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the participant bows out in the background: before the round was
    /// full it was never counted, else it leaves again at once.
    ///
    /// # Errors
    ///
    /// See [`DoubleBarrier::enter_timeout`].
    pub async fn enter(&self) -> Result<()> {
        self.enter_by(None).await.map(|_| ())
    }

    /// Enters, but waits for the others no longer than `timeout`: false when it has bowed out.
    ///
    /// # Cancel safety
    ///
    /// As [`DoubleBarrier::enter`].
    ///
    /// # Errors
    ///
    /// [`Error::TooManyParticipants`].
    pub async fn enter_timeout(&self, timeout: Duration) -> Result<bool> {
        self.enter_by(Some(deadline(timeout))).await
    }

    async fn enter_by(&self, deadline: Option<Instant>) -> Result<bool> {
        self.client.check_name(&self.name)?;
        let most = if self.go { u32::MAX } else { MOST };
        if !(1..=most).contains(&self.count) {
            return Err(Error::InvalidArgument(format!(
                "a double barrier has between 1 and {most} participants, not {}",
                self.count
            )));
        }
        let runtime = crate::runtime()?;
        let mut hint = None;
        let mut passage = self.pass(|state| match state {
            State::New => Ok(()),
            State::Outside(known) => {
                hint = Some(*known);
                Ok(())
            }
            State::Busy => Err("it is entering or leaving"),
            State::Inside(_) => Err("it is inside: leave first"),
        })?;
        if let Some(hint) = hint {
            passage.end = State::Outside(hint);
        }
        let building = self
            .building
            .get_or_init(|| Building::of(&self.client, &self.name, self.go, &runtime));
        let session = match &self.session {
            Some(session) => session.clone(),
            None => self.client.own_session().await?,
        };
        let mut guest = building
            .join(&self.client, session, self.count, hint)
            .await?;
        let waited = match deadline {
            None => Ok(guest.wait_full().await),
            Some(deadline) => tokio::time::timeout_at(deadline, guest.wait_full()).await,
        };
        match waited {
            Ok(full) => full?,
            Err(_) if guest.withdraw().await? => return Ok(false),
            // It was counted in the last moment.
            Err(_) => guest.session().check()?,
        }
        passage.end = State::Inside(guest);
        Ok(true)
    }

    /// Leaves: waits until all others of the round have left, or died.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the participant has left, or does so in the background.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`] when the participant's place was lost.
    pub async fn leave(&self) -> Result<()> {
        self.leave_by(None).await.map(|_| ())
    }

    /// Leaves, but waits for the others no longer than `timeout`: false when some are still inside.
    /// The participant itself has left in either case.
    ///
    /// # Cancel safety
    ///
    /// As [`DoubleBarrier::leave`].
    ///
    /// # Errors
    ///
    /// As [`DoubleBarrier::leave`].
    pub async fn leave_timeout(&self, timeout: Duration) -> Result<bool> {
        self.leave_by(Some(deadline(timeout))).await
    }

    async fn leave_by(&self, deadline: Option<Instant>) -> Result<bool> {
        let mut guest = None;
        let mut passage = self.pass(|state| match std::mem::take(state) {
            State::Inside(inside) => {
                guest = Some(inside);
                Ok(())
            }
            State::Busy => {
                *state = State::Busy;
                Err("it is entering or leaving")
            }
            other => {
                *state = other;
                Err("it is not inside: enter first")
            }
        })?;
        let Some(guest) = guest else {
            return Ok(true);
        };
        let remember = |hint| passage.end = State::Outside(hint);
        guest.leave(&self.client, deadline, remember).await
    }

    /// Begins to enter or leave, if the handle is where that can begin.
    fn pass(
        &self,
        check: impl FnOnce(&mut State) -> Result<(), &'static str>,
    ) -> Result<Passage<'_>> {
        let mut state = self.state.lock();
        check(&mut state).map_err(|reason| {
            Error::InvalidArgument(format!(
                "this participant of {:?} cannot do that now: {reason}; each participant needs a \
                 handle of its own",
                self.name.to_string()
            ))
        })?;
        *state = State::Busy;
        Ok(Passage {
            state: &self.state,
            end: State::New,
        })
    }
}

impl Clone for DoubleBarrier {
    /// Another participant, which is outside.
    fn clone(&self) -> DoubleBarrier {
        DoubleBarrier {
            client: self.client.clone(),
            name: self.name.clone(),
            count: self.count,
            session: self.session.clone(),
            go: self.go,
            building: self.building.clone(),
            state: Slot::default(),
        }
    }
}

impl fmt::Debug for DoubleBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoubleBarrier")
            .field("name", &self.name)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// Now and then some; a time beyond all clocks is as good as none.
fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout)
        .unwrap_or_else(|| now + Duration::from_secs(60 * 60 * 24 * 365))
}
