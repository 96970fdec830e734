#![doc = include_str!("../../docs/double_barrier.md")]
//!
//! # Key layout
//!
//! The native one; the other is in `go.rs`.
//!
//! ```text
//! key               value            lease          written by              deleted by
//! P place/NUMBER    WORD IDENTITY    the session's  who takes the place     who gives it up, or the lease's end
//! P at/round        COUNT ROUND      none           who sets the count;     who goes last
//!                                                   who completes a round
//! P at/done         empty            none           the last to leave       who goes last
//! P left            empty            none           all who leave a round   the last to leave; who completes
//!                                                   but the last            the next; who goes last
//! P void            empty            none           who was not answered    who goes last
//! ```
//!
//! `P` is `__synod/double-barrier/NAME/`. There are as many places as participants, numbered from `000`.
//! `WORD` is drawn for each call, so that a call can tell its own place after a lost answer. The *version*
//! of `left` counts those who have left the full round. `since` below is the modification revision of
//! `at/round`: it is the identity of the round that gathers. `ROUND` numbers the last one that was full.
//!
//! # Protocol
//!
//! *Look* (when nothing is known, or a Txn objected): in one Txn, read `at/round`, `void`, the places, and
//! the Go layout's keys. A Go key: an error. No `at/round`, or one with another count and no place taken:
//! `If mod(at/round)=since and no place Then put(at/round)`, and look again. Another count and somebody
//! inside: an error. No free place: too many. Else choose a free one: that of the last round, else by lot.
//!
//! *Enter*:
//! 1. `If mod(at/round)=since and mod(void)=v and create(own place)=0 and no Go key Then put(own place) +
//!    (If create(place)>since for each other place Then put(at/round, ROUND+1), delete(left))`. When the
//!    inner guards hold too the round is full, and this call has completed it. Outer guards false: look,
//!    and again.
//! 2. Wait until `mod(at/round)>since`: the round is full. All participants of a client share one watch
//!    of `at/`. After 50 ms the own place is watched too: gone before the round was full, or created
//!    anew: the session is lost.
//!
//! *An answer to 1. that was lost*: send the same again. Guards false then: `If mod(void)=v Then put(void)`,
//! after which no copy can apply any more, and read the own place: its word tells. So no lane is needed.
//!
//! *Bow out*, of a place created at `c`: `If create(own place)=c and mod(at/round)=since Then delete(own
//! place)`, and put(void) if an answer to *enter* was lost: while the round gathers a late copy would take
//! the place again. Guards false: the round is full, and the call has entered; or the place is lost.
//!
//! *Leave* a round of `N` that was full:
//! 1. `If create(own place)=c Then delete(own place) + (If version(left)=N-1 Then delete(left), put(at/done)
//!    Else put(left))`. When the inner guard holds all have left. Outer guard false: the place, and with it
//!    the session, was lost; or, after a lost answer, while the lease lives: an earlier copy has done it.
//! 2. Not the last, as far as it knows: wait until `mod(at/done)>f` or `mod(at/round)>f`, where the round
//!    was full at `f`, or `at/round` is gone. After 50 ms watch the places too: no place with a create
//!    revision up to `f` is left, as when somebody died.
//!
//! *Go last*: when a client's last handle goes: `If no place Then delete(all of P)`.
//!
//! Bowing out of a call whose time is up goes through a lane on stores that can lose answers, as its
//! caller must know which it was. All of these run in tasks, in the runtime that keeps the session: as long as
//! a place can stay, tasks run there. (One of a single thread gets on only while somebody waits in it: then they run
//! in the caller's, and are begun anew in the session's when that ends.) A place whose caller has gone is given up,
//! however often that has to be tried while the session lives. Until then the next call on the same handle
//! waits, so that no participant counts twice.
//!
//! # Why it holds
//!
//! *A round is full exactly when `N` live places of it are taken.* `at/round` is put only by the inner
//! branch of *enter* (and on an empty house). At that revision every other place exists, was created
//! after the round before was full, and the own one is created. A place of a dead participant does not
//! exist, and one of the round before has a lower create revision. There is no moment between the last
//! place and the flag: nobody can die in it.
//!
//! *Nobody misses it.* A call that takes a place without completing the round has seen `mod(at/round)=since`
//! and a place that was not taken by this round. Whoever takes the last of these is the one for whom the
//! inner guards hold, because its outer ones are compared with the same `since`. While a place of the
//! round before is taken, the inner guards are false; so when the next round is full, the round
//! before is over, and there is never more than one full round.
//!
//! *No late copy takes a place.* Each compares `mod(at/round)=since` and `mod(void)=v`. Once the round is
//! full the first is false for ever; whoever goes before that, and had a copy unanswered, makes the second
//! false; and when the session is lost, the lease that the copy wants to attach is gone. What is cleared
//! is set up anew with a higher revision of `at/round`. A copy of *leave* compares a place that is created
//! once.
//!
//! *Who is in it knows.* `at/round` never goes back while somebody is inside: only an empty house is set up
//! anew or cleared. So a place that still exists with `c` and a revision of `at/round` above `since` mean
//! that this place was counted, however late they are read.
//!
//! *Leaving is exact.* Each participant raises `version(left)` once, in the Txn that deletes its place, so
//! `N-1` means that all others have left. Deaths raise nothing: then `at/done` is not put, and the places
//! tell. Newcomers have create revisions above `f` and are not waited for.
//!
//! *Nothing hangs on one who died*: its place ends with its lease; no key without a lease is waited for.
//!
//! # Cost
//!
//! A round of `N` takes `2N` Txns: each participant sends one to enter and one to leave, all at once, and
//! hears of the others by one event each. The first round takes 2 to 3 more, and a lease. No Txn objects
//! in the rounds after it: what a call needs to know comes from the Txn and the event of the call before.

mod go;
mod guest;
mod house;
mod keys;
mod member;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use synod_store::Key;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::slot::Slot;
use crate::span::traced;
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
    /// Cancelled when the place of the last call to enter is given up.
    last: Slot<Option<CancellationToken>>,
}

/// The last of these is dropped once a place is given up.
type Stay = Arc<DropGuard>;

/// What `waiting` gives, as long as the session is kept.
async fn while_kept<T>(session: &Session, waiting: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        // Asked first: whose session has ended is told nothing else.
        biased;
        () = session.lost() => Err(Error::SessionLost),
        done = waiting => done,
    }
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
            last: Slot::default(),
        }
    }
}

impl DoubleBarrier {
    /// Takes part with the lease of `session`; without this, with that of the client's own session.
    /// When it is lost, the participant is no more in the round.
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
    /// round see the same number. It rises from round to round, and begins anew at 1 when a client's
    /// last handle went while nobody was inside.
    #[must_use]
    pub fn round(&self) -> Option<u64> {
        match &*self.state.lock() {
            State::Inside(guest) => guest.round(),
            _ => None,
        }
    }

    /// Enters: waits until as many have entered as the round has participants. One round trip, and the
    /// wait.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the participant bows out in the background: before the round was
    /// full it was never counted, else it leaves again at once. The next call on this handle waits
    /// for that first.
    ///
    /// # Errors
    ///
    /// As [`DoubleBarrier::enter_timeout`].
    pub async fn enter(&self) -> Result<()> {
        self.enter_by(None).await.map(|_| ())
    }

    /// Enters, but waits for the others no longer than `timeout`: false when it has bowed out.
    ///
    /// # Cancel safety
    ///
    /// As [`DoubleBarrier::enter`].
    ///
    /// A participant whose bowing out crosses the last one's coming has entered: true. When the store
    /// does not answer, it takes up to the client's timeout more to know.
    ///
    /// # Errors
    ///
    /// The participant is outside, or bows out in the background, with all of these:
    ///
    /// - [`Error::TooManyParticipants`]: as many as the count are inside, of this round or the last.
    /// - [`Error::Disagreement`]: somebody is inside who was told another count.
    /// - [`Error::GoLayout`]: a Go program uses the name; see [`DoubleBarrier::go_compatible`].
    /// - [`Error::SessionLost`]: the session was lost while it waited.
    /// - [`Error::InvalidArgument`]: the count is 0 or too large, or this handle is inside already.
    /// - What the store answered, or [`Error::Timeout`], when it could not be reached for the client's
    ///   timeout. If the request [may have happened](Error::is_maybe_committed), the place counts for the
    ///   others until it is given up, or its lease ends. [`Error::Unknown`] when the store could not be
    ///   reached while the participant bowed out, or, with the Go layout, entered.
    pub async fn enter_timeout(&self, timeout: Duration) -> Result<bool> {
        self.enter_by(Some(deadline(timeout))).await
    }

    async fn enter_by(&self, deadline: Option<Instant>) -> Result<bool> {
        traced!(
            "synod.double_barrier.enter",
            object = self.name,
            async move {
                self.client.check_name(&self.name)?;
                let most = if self.go { u32::MAX } else { MOST };
                if !(1..=most).contains(&self.count) {
                    return Err(Error::InvalidArgument(format!(
                        "a double barrier has between 1 and {most} participants, not {}",
                        self.count
                    )));
                }
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
                if !self.is_gone(deadline).await? {
                    return Ok(false);
                }
                let building = self
                    .building
                    .get_or_init(|| Building::of(&self.client, &self.name, self.go));
                let session = match &self.session {
                    Some(session) => session.clone(),
                    None => self.client.own_session().await?,
                };
                let gone = CancellationToken::new();
                *self.last.lock() = Some(gone.clone());
                let mut guest = building
                    .join(
                        &self.client,
                        session,
                        self.count,
                        hint,
                        Arc::new(gone.drop_guard()),
                    )
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
        )
        .await
    }

    /// Waits until the place of an earlier call that was dropped or has failed is given up: with it
    /// this participant would count twice. False when the deadline comes first.
    async fn is_gone(&self, deadline: Option<Instant>) -> Result<bool> {
        let last = self.last.lock().clone();
        let Some(last) = last else {
            return Ok(true);
        };
        let after = self.client.timeout();
        let patience = self::deadline(after);
        let until = deadline.map_or(patience, |deadline| deadline.min(patience));
        match tokio::time::timeout_at(until, last.cancelled()).await {
            Ok(()) => Ok(true),
            Err(_) if until < patience => Ok(false),
            Err(_) => Err(Error::Timeout { after }),
        }
    }

    /// Leaves: waits until all others of the round have left, or died. One round trip, and the wait.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the participant has left, or does so in the background.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`] when the participant had lost its place, [`Error::InvalidArgument`] when it
    /// is not inside. Or what the store answered, when it could not be reached for the client's timeout:
    /// the participant leaves in the background, or with its lease.
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
        traced!(
            "synod.double_barrier.leave",
            object = self.name,
            async move {
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
        )
        .await
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
            last: Slot::default(),
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
