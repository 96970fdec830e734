//! [`Member`]: one participant's place in one round of the native layout.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{EventFilter, EventKind, Revision, WatchRequest};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::house::{Free, Held, House, Known, Out, Take};
use super::keys::occupant;
use super::{Stay, while_kept};
use crate::errand::errand;
use crate::retry::Backoff;
use crate::sight::{LastingSight, View};
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
    stay: Stay,
}

/// What to remember for the next round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hint {
    place: u32,
    known: Known,
}

/// Takes a place.
///
/// The Txn runs in a task, where the session is kept: when the caller goes, or its runtime, the place is given up
/// again.
pub(super) async fn join(
    client: &Client,
    house: &Arc<House>,
    session: Session,
    count: u32,
    hint: Option<Hint>,
    stay: Stay,
) -> Result<Member> {
    let runtime = session.runtimes().first;
    house.at.open(&runtime);
    *house.home.lock() = Some(session.home().clone());
    let (answer, answered) = oneshot::channel();
    let task = {
        let (house, identity) = (Arc::clone(house), client.identity());
        let session = session.clone();
        async move {
            // A caller who has gone gives the place back, which is given up then.
            drop(answer.send(join_now(house, session, count, hint, &identity, stay).await));
        }
    };
    house.settle.spawn(&runtime, "double_barrier.enter", task);
    let joined = answered.await;
    joined.unwrap_or_else(|_| Err(session.no_answer_from(&runtime)))
}

async fn join_now(
    house: Arc<House>,
    session: Session,
    count: u32,
    hint: Option<Hint>,
    identity: &Bytes,
    stay: Stay,
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
        let mut unseen = Unseen {
            house: Arc::clone(&house),
            session: session.clone(),
            count,
            chosen,
            occupant: occupant.clone(),
            stay: Some(Arc::clone(&stay)),
        };
        let take = house.take(count, chosen, &occupant, &session).await;
        if !matches!(take, Take::Failed { open: true, .. }) {
            unseen.stay = None;
        }
        let taken = match take {
            Take::Taken(taken) => taken,
            Take::Stale => continue,
            Take::Failed { error, .. } => return Err(error),
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
            stay,
        });
    }
}

/// A place that was taken, or not: its taker was told that nobody knows, or has gone with its runtime. Dropping it
/// gives the place up once it is known that it was taken, unless there is nothing to stay for. The lease is the
/// backstop.
#[derive(Clone)]
struct Unseen {
    house: Arc<House>,
    session: Session,
    count: u32,
    chosen: Free,
    occupant: Bytes,
    stay: Option<Stay>,
}

impl Drop for Unseen {
    fn drop(&mut self) {
        let Some(stay) = self.stay.take() else { return };
        // Without anything to stay for: it ends here.
        let unseen = self.clone();
        let runtimes = self.session.runtimes();
        let settle = &self.house.settle;
        errand(settle, runtimes, "double_barrier.give_up", move || {
            let (unseen, stay) = (unseen.clone(), Arc::clone(&stay));
            async move {
                unseen.give_up().await;
                drop(stay);
            }
        });
    }
}

impl Unseen {
    async fn give_up(&self) {
        let (house, session) = (&self.house, &self.session);
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
async fn give_up(house: &House, session: &Session, held: Held, full: bool) {
    let mut backoff = Backoff::new();
    while let Err(error) = house.leave(held, session, full).await {
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
            let full = while_kept(&self.session, self.watch_round()).await?;
            self.full = Some(full);
        }
        self.session.check()
    }

    async fn watch_round(&self) -> Result<Revision> {
        let house = &self.house;
        let runtime = self.session.runtimes().first;
        let seen = |view: &View| {
            let round = view.modified(&house.keys.round);
            (round > self.held.known.since).then_some(round)
        };
        if let Ok(full) = tokio::time::timeout(SOON, house.at.find(&runtime, seen)).await {
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
                full = house.at.find(&runtime, seen) => return full,
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
    /// The Txn runs in a task, where the session is kept: once this has begun, it leaves.
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
        let mut answer = Some(answer);
        let (house, held) = (Arc::clone(&self.house), self.held);
        let (session, stay) = (self.session.clone(), Arc::clone(&self.stay));
        let leave = move || {
            let (house, session) = (Arc::clone(&house), session.clone());
            let (answer, stay) = (answer.take(), Arc::clone(&stay));
            async move {
                // Whoever asked has gone with the first runtime.
                let Some(answer) = answer else {
                    return give_up(&house, &session, held, true).await;
                };
                let out = house.leave(held, &session, true).await;
                let failed = out.is_err();
                // A caller who has gone has left.
                drop(answer.send(out));
                if failed {
                    give_up(&house, &session, held, true).await;
                }
                drop(stay);
            }
        };
        let runtimes = self.session.runtimes();
        let runtime = runtimes.first.clone();
        errand(&self.house.settle, runtimes, "double_barrier.leave", leave);
        let left = answered.await;
        let out = left.unwrap_or_else(|_| Err(self.session.no_answer_from(&runtime)))?;
        let last = match out {
            Out::Last => true,
            Out::Left => false,
            Out::Gone | Out::Withdrawn => return Err(Error::SessionLost),
        };
        let house = Arc::clone(&self.house);
        let rest = Rest {
            house,
            full,
            last,
            runtime,
        };
        Ok((rest, hint))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.out {
            return;
        }
        let (house, held, full) = (Arc::clone(&self.house), self.held, self.is_full());
        let (session, stay) = (self.session.clone(), Arc::clone(&self.stay));
        let runtimes = session.runtimes();
        let settle = &self.house.settle;
        errand(settle, runtimes, "double_barrier.give_up", move || {
            let (house, session) = (Arc::clone(&house), session.clone());
            let stay = Arc::clone(&stay);
            async move {
                give_up(&house, &session, held, full).await;
                drop(stay);
            }
        });
    }
}

/// The others of a round that one has left.
#[derive(Debug)]
pub(super) struct Rest {
    house: Arc<House>,
    full: Revision,
    /// Whether this one was the last.
    last: bool,
    /// Where it is looked.
    runtime: Handle,
}

impl Rest {
    /// Waits until all of the round have left, or died.
    pub(super) async fn wait_over(self, client: &Client) -> Result<()> {
        if self.last {
            return Ok(());
        }
        let house = &self.house;
        let seen = |view: &View| {
            let round = view.modified(&house.keys.round);
            let done = view.modified(&house.keys.done);
            // The last one has left, or the next round is full, or nobody at all is inside.
            let over = done > self.full || round > self.full || round.is_zero();
            (over && view.revision > self.full).then_some(())
        };
        if let Ok(over) = tokio::time::timeout(SOON, house.at.find(&self.runtime, seen)).await {
            return over;
        }
        // It takes longer: somebody may have died, who says nothing. From now on the places tell.
        let places = client
            .registry()
            .get("double-barrier/places", &house.name, || {
                let store = Arc::clone(&house.store);
                LastingSight::new(store, house.keys.places(), house.patience)
            });
        // Those of the round were there when it was full, the own one too, and later ones do not count: once none is
        // left, none will be.
        let empty = |view: &View| {
            let inside = |created: Revision| created <= self.full;
            let none = !view.kvs.values().any(|kv| inside(kv.create_revision));
            (view.revision >= self.full && none).then_some(())
        };
        tokio::select! {
            over = house.at.find(&self.runtime, seen) => over,
            over = places.find(&self.runtime, empty) => over,
        }
    }
}
