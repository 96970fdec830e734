//! [`Member`]: one participant's place in one round of the native layout.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{EventFilter, EventKind, Revision, WatchRequest};
use tokio::sync::oneshot;
use tokio_util::sync::DropGuard;

use super::house::{Free, Held, House, Known, Out, Take};
use super::keys::occupant;
use crate::retry::Backoff;
use crate::sight::{Sight, View};
use crate::watch::{Lookout, Nudge};
use crate::{Client, Error, Result, Session, retry};

/// For this long a wait relies on what all watch; then it watches what concerns itself, too.
const SOON: Duration = Duration::from_millis(50);

/// A place in a round. Dropping it gives the place up in the background.
#[derive(Debug)]
pub(super) struct Member {
    house: Arc<House>,
    session: Session,
    held: Held,
    /// The number of the round.
    pub(super) number: u64,
    /// When the round was full, once that is known.
    full: Option<Revision>,
    out: bool,
    /// Dropped once the place is given up.
    stay: Option<DropGuard>,
}

/// What to remember for the next round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hint {
    place: u32,
    known: Known,
}

/// Takes a place.
///
/// The Txn runs in a task: when the caller goes, the place is given up again.
pub(super) async fn join(
    client: &Client,
    house: &Arc<House>,
    session: Session,
    count: u32,
    hint: Option<Hint>,
    stay: DropGuard,
) -> Result<Member> {
    let (answer, answered) = oneshot::channel();
    let task = {
        let (house, identity) = (Arc::clone(house), client.identity());
        async move {
            // A caller who has gone gives the place back, which is given up then.
            drop(answer.send(join_now(house, session, count, hint, &identity, stay).await));
        }
    };
    house
        .settle
        .spawn(&house.runtime, "double_barrier.enter", task);
    answered.await.unwrap_or(Err(Error::NoRuntime))
}

async fn join_now(
    house: Arc<House>,
    session: Session,
    count: u32,
    hint: Option<Hint>,
    identity: &Bytes,
    stay: DropGuard,
) -> Result<Member> {
    let word: u128 = rand::random();
    let occupant = occupant(word, identity);
    let mut free = hint.map(|hint| Free {
        known: hint.known,
        place: hint.place,
    });
    loop {
        session.check()?;
        let chosen = match free.take() {
            Some(free) => free,
            None => house.look(count, hint.map(|hint| hint.place)).await?,
        };
        let taken = match house.take(count, chosen, &occupant, &session).await {
            Take::Taken(taken) => taken,
            Take::Stale => continue,
            Take::Failed { error, open } => {
                if open {
                    let unseen = Unseen {
                        count,
                        chosen,
                        occupant,
                    };
                    let settle = house.settle.clone();
                    let runtime = house.runtime.clone();
                    settle.spawn(&runtime, "double_barrier.give_up", async move {
                        unseen.give_up(house, session).await;
                        drop(stay);
                    });
                }
                return Err(error);
            }
        };
        return Ok(Member {
            house,
            session,
            held: Held {
                count,
                place: chosen.place,
                created: taken.created,
                known: chosen.known,
                doubt: taken.doubt,
            },
            number: chosen.known.number.saturating_add(1),
            full: taken.full.then_some(taken.created),
            out: false,
            stay: Some(stay),
        });
    }
}

/// A place that was taken, or not: its taker was told that nobody knows.
struct Unseen {
    count: u32,
    chosen: Free,
    occupant: Bytes,
}

impl Unseen {
    /// Gives the place up once it is known that it was taken. The lease is the backstop.
    async fn give_up(self, house: Arc<House>, session: Session) {
        let mut backoff = Backoff::new();
        while session.is_alive() && !house.settle.is_abandoned() {
            let Ok(standing) = house.stand_for_good(self.chosen).await else {
                backoff.wait().await;
                continue;
            };
            if standing.occupant == self.occupant {
                let held = Held {
                    count: self.count,
                    place: self.chosen.place,
                    created: standing.created,
                    known: self.chosen.known,
                    // None can arrive any more.
                    doubt: false,
                };
                give_up(house, session, held, false).await;
            }
            return;
        }
    }
}

/// Gives a place up. As long as the session lives nobody else does, so it is tried again and again.
async fn give_up(house: Arc<House>, session: Session, held: Held, full: bool) {
    let mut backoff = Backoff::new();
    while let Err(error) = house.leave(held, &session, full).await {
        tracing::debug!(name = %house.name, %error, "a place could not be given up");
        if !session.is_alive() || house.settle.is_abandoned() {
            return;
        }
        backoff.wait().await;
    }
}

impl Member {
    /// Whether the round is known to be full: everybody has entered.
    pub(super) fn is_full(&self) -> bool {
        self.full.is_some()
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Waits until the round is full.
    pub(super) async fn wait_full(&mut self) -> Result<()> {
        if self.full.is_none() {
            let over = self.session.lost();
            let full = tokio::select! {
                // Asked first: whose session has ended is told nothing else.
                biased;
                () = over => return Err(Error::SessionLost),
                full = self.watch_round() => full?,
            };
            self.full = Some(full);
        }
        self.session.check()
    }

    async fn watch_round(&self) -> Result<Revision> {
        let house = &self.house;
        let seen = |view: &View| {
            let round = view.modified(&house.keys.round);
            (round > self.held.known.since).then_some(round)
        };
        if let Ok(full) = tokio::time::timeout(SOON, house.at.find(seen)).await {
            return full;
        }
        // It takes longer: from now on the own place is watched too.
        let request =
            WatchRequest::new(house.keys.place(self.held.place)).without(EventFilter::NoPut);
        let open = || Lookout::open(Arc::clone(&house.store), request.clone());
        let mut own = retry::insist(house.patience, open).await?;
        loop {
            let standing = house.stand(self.held.place).await?;
            if standing.created != self.held.created {
                return Err(Error::SessionLost);
            }
            if standing.round > self.held.known.since {
                return Ok(standing.round);
            }
            tokio::select! {
                // The own place first: who lost it before the round was full is not in it.
                biased;
                nudge = own.next(standing.revision) => match nudge {
                    Ok(Nudge::Events(events)) => {
                        if events.iter().any(|event| event.kind == EventKind::Delete) {
                            return Err(Error::SessionLost);
                        }
                    }
                    Ok(Nudge::Read) => {}
                    // The read bears the trouble, or tells of it.
                    Err(error) if error.is_transient() => tokio::time::sleep(SOON).await,
                    Err(error) => return Err(error),
                },
                full = house.at.find(seen) => return full,
            }
        }
    }

    /// Bows out, unless the round is full: then false, and the place is kept.
    pub(super) async fn withdraw(&mut self) -> Result<bool> {
        if self.full.is_some() {
            return Ok(false);
        }
        if self.house.withdraw(self.held).await? {
            self.out = true;
            return Ok(true);
        }
        let standing = self.house.stand(self.held.place).await?;
        if standing.created != self.held.created || standing.round <= self.held.known.since {
            self.out = true;
            return Err(Error::SessionLost);
        }
        self.full = Some(standing.round);
        Ok(false)
    }

    /// Gives the place up in a full round. Returns what waits for the others, and what to remember.
    ///
    /// The Txn runs in a task: once this has begun, it leaves.
    pub(super) async fn leave(mut self) -> Result<(Rest, Hint)> {
        let Some(full) = self.full else {
            // Its caller has seen the round full.
            return Err(Error::SessionLost);
        };
        self.out = true;
        let hint = Hint {
            place: self.held.place,
            known: Known {
                since: full,
                number: self.number,
                ..self.held.known
            },
        };
        let (answer, answered) = oneshot::channel();
        let (house, held) = (Arc::clone(&self.house), self.held);
        let (session, stay) = (self.session.clone(), self.stay.take());
        let task = async move {
            let out = house.leave(held, &session, true).await;
            let failed = out.is_err();
            // A caller who has gone has left.
            drop(answer.send(out));
            if failed {
                give_up(house, session, held, true).await;
            }
            drop(stay);
        };
        self.house
            .settle
            .spawn(&self.house.runtime, "double_barrier.leave", task);
        let out = answered.await.unwrap_or(Err(Error::NoRuntime))?;
        let left = match out {
            Out::Last => None,
            Out::Left(revision) => Some(revision),
            Out::Gone | Out::Withdrawn => return Err(Error::SessionLost),
        };
        let house = Arc::clone(&self.house);
        Ok((Rest { house, full, left }, hint))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.out {
            return;
        }
        let (house, held, full) = (Arc::clone(&self.house), self.held, self.is_full());
        let (session, stay) = (self.session.clone(), self.stay.take());
        self.house
            .settle
            .spawn(&self.house.runtime, "double_barrier.give_up", async move {
                give_up(house, session, held, full).await;
                drop(stay);
            });
    }
}

/// The others of a round that one has left.
#[derive(Debug)]
pub(super) struct Rest {
    house: Arc<House>,
    full: Revision,
    /// When this one left; `None` when it was the last.
    left: Option<Revision>,
}

impl Rest {
    /// Waits until all of the round have left, or died.
    pub(super) async fn wait_over(self, client: &Client) -> Result<()> {
        let Some(left) = self.left else {
            return Ok(());
        };
        let house = &self.house;
        let seen = |view: &View| {
            let round = view.modified(&house.keys.round);
            let done = view.modified(&house.keys.done);
            // The last one has left, or the next round is full, or nobody at all is inside.
            let over = done > self.full || round > self.full || round.is_zero();
            (over && view.revision > self.full).then_some(())
        };
        if let Ok(over) = tokio::time::timeout(SOON, house.at.find(seen)).await {
            return over;
        }
        // It takes longer: somebody may have died, who says nothing. From now on the places tell.
        let places = client
            .registry()
            .get("double-barrier/places", &house.name, || {
                let store = Arc::clone(&house.store);
                Sight::open(store, &house.runtime, house.keys.places(), house.patience)
            });
        let empty = |view: &View| {
            let inside = |created: Revision| created <= self.full;
            let none = !view.kvs.values().any(|kv| inside(kv.create_revision));
            (view.revision >= left && none).then_some(())
        };
        tokio::select! {
            over = house.at.find(seen) => over,
            over = places.find(empty) => over,
        }
    }
}
