//! [`Hall`]: transactions of one client run in turn, and are committed together.
//!
//! # What it is for
//!
//! A Txn costs the store a proposal, however many keys it has, and who loses a race costs as much as who
//! wins it. Transactions of one client need not race at all: what one of them writes can be shown to the
//! next before it is committed, if they are committed together, in that order. So ten tasks that want the
//! same key cost one round trip, not one each and one more for each loser.
//!
//! # How it works
//!
//! One hall a client and level, for the two levels that read one state. Its *board* says what is known of
//! the store at one revision, the *base*, and over it what the members of the *group* that gathers will
//! write. The board counts its changes in *steps*; for each key it knows at which step it last changed.
//!
//! 1. *An attempt begins* at its first read: on the board, when others are at work and the board knows any of
//!    what is read, or when the last attempt failed; else on the store, as without the hall. On the board, it
//!    waits for the *turn*, and for the group on its way to land, asks the store at the base for what the
//!    board does not know of this first read, and notes the step.
//! 2. *Reads* are of the board as it was at that step: a key that has changed since ends the attempt. What
//!    the board does not know is read from the store at the base, and what pends lies over it. Blind writes
//!    read nothing, and wait for nothing.
//! 3. *The turn* ends with the attempt, and earlier: as soon as the closure is pending. So a closure that waits
//!    for the store lets others go ahead, and one that waits for another transaction lets that one run.
//!    An attempt without the turn is not wrong, but may find at its end that it was overtaken. Who was
//!    overtaken twice keeps the turn while the store answers, and begins when no group gathers.
//! 4. *It joins* the group at its end, if nothing that it has read, no key that came into its ranges, and (SS)
//!    nothing that it only writes has changed on the board since its step; else it runs again, which costs
//!    no round trip. From now on its writes are on the board. An attempt on the store joins when no
//!    member writes what it has read.
//! 5. *The group takes off* when nobody is about to join, or when it is full. It waits a quarter of a commit, a
//!    millisecond at most, for as many as the last group had: they have just been answered, and are
//!    likely to come back. One
//!    Txn compares what any member has read *of the store*, with each member's bounds for ranges and blind
//!    writes, and writes what the last member leaves under each key. What a member read of another needs
//!    no compare: the two happen together or not at all.
//! 6. *It lands.* Committed: every member has, at that revision, in the order of joining. The board goes on with
//!    what was compared and written; with all that it knew, when the revision is the one after the base and
//!    the group has put something, or the base itself, for then nobody else has changed anything. So the next group can run without asking the store at all.
//!    Refused: all members run again, on what came with the refusal; when there are
//!    more refusals, after a delay, on what is read after it (`delays.rs`).
//!
//! # Why it holds
//!
//! *Serializable*: at the commit's revision everything read of the store is as it was read; members run in
//! the order of joining from there: each has seen, at its step, the base and what those before it had
//! written, and 4. makes sure that those between its step and its joining have changed nothing of it. *One state*:
//! the board at a step is the store at the base, changed by members in their order: a state that may never
//! be committed, but no mixture. *Nothing uncommitted gets out*: a member's result, also one that
//! wrote nothing, is returned after the landing; a closure's own error is returned when what it had read
//! was confirmed so. *Never weaker*: the demands of each level are compared as when it commits alone.
//! *No deadlock*: nobody waits for a closure that waits for something else than the store (3.), or for a second.
//!
//! # Ends
//!
//! A caller that leaves before the take-off takes its transaction along: members after it, who may have
//! seen what it wrote, run again. After the take-off it happens with the others or not at all. A lost answer is
//! settled for the group as for one ([`crate::settle`]); what cannot be settled is the same `Unknown` for each
//! member, with one token. What the store refuses for good is tried by each member alone, so that it is told
//! to the one who asked for it. The last attempt that a transaction is allowed is made alone: it fails for its
//! own conflicts only. A transaction that does not fit beside others is a group of its own. A put with a lease is
//! not overwritten within its group, since a lease that is gone has to fail it; nor is a key put that a
//! member before has deleted, since it would keep the create revision of the old one.

mod board;
mod flight;
mod group;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use synod_store::{Applied, ErrorKind, Key, KeyRange, Revision};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::Isolation;
use super::delays::Spacing;
use super::sets::{Fetched, Sets};
use crate::slot::Slot;
use crate::{Client, Error, Result};

use board::Board;
use board::Said;
use group::Refusal;
pub(super) use turn::{Place, Presence};

/// What a board knows is worth reading for so many durations of a commit, and within these bounds.
const FRESH_COMMITS: u32 = 4;
const FRESH: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];

/// How many landings a patient attempt waits for one after which no group gathers.
const LANDINGS: usize = 8;

/// What a member is told.
#[derive(Debug)]
pub(super) enum Answer {
    /// It has committed: the revision, and its place among those who have at this revision; no place
    /// when none of them wrote anything.
    Committed {
        revision: Revision,
        place: Option<u32>,
    },
    /// Others have changed what the group had read.
    Conflict,
    /// One that it may have read from has left before the commit.
    Stale,
    /// The store refuses the group: try alone.
    Alone,
    /// It has failed.
    Failed(Error),
}

/// Where the transactions of one client and level meet.
#[derive(Debug)]
pub(super) struct Hall {
    board: Slot<Board>,
    /// Rises with each landing.
    landings: watch::Sender<u64>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How many have the turn or wait for it.
    line: AtomicUsize,
    /// How many wait with the turn until no group gathers.
    patient: AtomicUsize,
    /// How many transactions are between their call and their return.
    present: AtomicUsize,
    pace: Slot<Pace>,
    spacing: Arc<Spacing>,
}

/// How commits go.
#[derive(Debug, Default)]
struct Pace {
    /// Conflicts in a row.
    conflicts: u32,
    /// How long the last commit took, and when it landed.
    commit: Duration,
    landed: Option<Instant>,
    /// How many members the last group had that has committed.
    members: usize,
}

impl Pace {
    fn committed(&mut self, commit: Duration, members: usize) {
        self.conflicts = 0;
        self.commit = commit;
        self.members = members;
    }

    fn refused(&mut self, commit: Duration) -> u32 {
        self.conflicts = self.conflicts.saturating_add(1);
        self.commit = commit;
        self.conflicts
    }
}

/// A member's wait for its answer. Dropping it takes the member out of the group, if it gathers still.
#[derive(Debug)]
pub(super) struct Seat {
    hall: Arc<Hall>,
    id: u64,
    answer: Option<oneshot::Receiver<Answer>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.answer.is_some() {
            self.hall.on_board(|board| board.leave(self.id));
        }
    }
}

impl Seat {
    /// Waits for the answer. `None` when the deadline passed before the commit was sent: then it never is.
    pub(super) async fn answer(mut self, deadline: Option<Instant>) -> Option<Answer> {
        let gone = |_| Answer::Failed(Error::NoRuntime);
        let answer = self.answer.as_mut()?;
        let answered = match deadline {
            None => Some(answer.await),
            Some(deadline) => tokio::time::timeout_at(deadline, answer).await.ok(),
        };
        let answered = match answered {
            Some(answered) => answered,
            None if self.hall.on_board(|board| board.leave(self.id)) => {
                self.answer = None;
                return None;
            }
            // It is on its way: the client's timeout bounds it.
            None => self.answer.as_mut()?.await,
        };
        self.answer = None;
        Some(answered.unwrap_or_else(gone))
    }
}

impl Hall {
    /// The hall of a client for a level, if transactions of that level can be joined.
    pub(super) fn of(client: &Client, isolation: Isolation) -> Option<Arc<Hall>> {
        let name = match isolation {
            Isolation::SerializableSnapshot => "serializable-snapshot",
            Isolation::Serializable => "serializable",
            Isolation::RepeatableReads | Isolation::ReadCommitted => return None,
        };
        let spacing = Spacing::of(client);
        let registry = client.registry();
        Some(registry.get("stm", &Key::from(name), || Hall {
            board: Slot::default(),
            landings: watch::Sender::new(0),
            turn: Arc::default(),
            line: AtomicUsize::new(0),
            patient: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            pace: Slot::default(),
            spacing,
        }))
    }

    /// Works on the board, which nobody else does meanwhile.
    fn on_board<R>(&self, work: impl FnOnce(&mut Board) -> R) -> R {
        work(&mut self.board.lock())
    }

    /// A transaction is there, until it drops this.
    pub(super) fn enter(self: &Arc<Hall>) -> Presence {
        self.present.fetch_add(1, Ordering::SeqCst);
        Presence(Arc::clone(self))
    }

    /// Whether more than one transaction is between its call and its return.
    pub(super) fn is_shared(&self) -> bool {
        self.present.load(Ordering::SeqCst) > 1
    }

    /// Whether others are at work, or were a moment ago: they are likely to come back.
    fn in_company(&self) -> bool {
        self.is_shared() || self.pace.lock().members > 1
    }

    /// Whether the last commit is so recent that the board is likely to be right.
    fn is_fresh(&self) -> bool {
        let pace = self.pace.lock();
        let [least, most] = FRESH;
        let bound = pace.commit.saturating_mul(FRESH_COMMITS).clamp(least, most);
        pace.landed.is_some_and(|landed| landed.elapsed() < bound)
    }

    /// Whether an attempt that reads this first begins on the board. After a failed attempt (`again`) it
    /// does, if there is anything on it.
    pub(super) fn invites(&self, ranges: &[KeyRange], again: bool) -> bool {
        let fresh = self.is_fresh() && self.in_company();
        self.on_board(|board| {
            if again {
                return board.base().is_some() || !board.is_idle();
            }
            (fresh || !board.is_idle()) && ranges.iter().any(|range| board.knows(range))
        })
    }

    /// Waits until no commit is on its way; when `idle`, for a while also until no group gathers.
    pub(super) async fn landing(&self, idle: bool) {
        let mut landings = self.landings.subscribe();
        if self.on_board(|board| board.is_idle()) {
            return;
        }
        let patient = Patient::new(self, idle);
        let mut waited = 0usize;
        loop {
            landings.borrow_and_update();
            let wait = self.on_board(|board| {
                board.is_flying() || (idle && waited < LANDINGS && !board.is_idle())
            });
            if !wait {
                break;
            }
            waited = waited.saturating_add(1);
            // The sender lives as long as this.
            let _ = landings.changed().await;
        }
        drop(patient);
    }

    /// Begins an attempt on the board. Returns the base and what of `ranges` the board does not know;
    /// the attempt has begun if that is nothing, or in any case when `now`. `None` when the board is empty.
    pub(super) fn begin(
        &self,
        sets: &mut Sets,
        ranges: &[KeyRange],
        now: bool,
    ) -> Option<(Revision, Vec<KeyRange>)> {
        self.on_board(|board| {
            let base = board.base()?;
            let unknown = ranges.iter().filter(|range| !board.knows(range));
            let unknown: Vec<KeyRange> = unknown.cloned().collect();
            if now || unknown.is_empty() {
                sets.begin_on_board(board.step(), base);
            }
            Some((base, unknown))
        })
    }

    /// Notes what the board says; what remains has to be asked of the store. `None` when it has changed.
    pub(super) fn take(&self, sets: &mut Sets, ranges: Vec<KeyRange>) -> Option<Vec<KeyRange>> {
        self.on_board(|board| {
            let mut unknown = Vec::new();
            for range in ranges {
                match board.take(sets, &range) {
                    Said::Noted => {}
                    Said::Unknown => unknown.push(range),
                    Said::Stale => return None,
                }
            }
            Some(unknown)
        })
    }

    /// Notes what the store said of the base, for an attempt that reads the board.
    /// False when it has changed meanwhile.
    pub(super) fn add(&self, sets: &mut Sets, fetched: Fetched) -> bool {
        self.on_board(|board| {
            board.learn(&fetched, true);
            board.add(sets, fetched) == Said::Noted
        })
    }

    /// Learns what the store said, when others may want to know it.
    pub(super) fn learn(&self, fetched: &Fetched) {
        if !self.in_company() {
            return;
        }
        let fresh = self.is_fresh();
        self.on_board(|board| board.learn(fetched, fresh));
        if !fresh {
            self.pace.lock().landed = Some(Instant::now());
        }
    }

    /// The store does not have this state any more.
    pub(super) fn forget_state(&self, revision: Revision) {
        self.on_board(|board| board.forget_state(revision));
    }

    /// Waits until what an attempt saw pending under a key has been committed, and notes at which revision.
    /// False when it has not been.
    pub(super) async fn settle(
        &self,
        key: &Key,
        with: impl Fn(&mut dyn FnMut(&mut Sets)) -> Result<()>,
    ) -> Result<bool> {
        let mut landings = self.landings.subscribe();
        loop {
            landings.borrow_and_update();
            let mut said = Said::Stale;
            with(&mut |sets: &mut Sets| said = self.on_board(|board| board.settle(sets, key)))?;
            match said {
                Said::Noted => return Ok(true),
                Said::Stale => return Ok(false),
                Said::Unknown => {}
            }
            let _ = landings.changed().await;
        }
    }

    /// Makes a transaction a member of the group, as soon as there is room.
    pub(super) async fn join(
        self: &Arc<Hall>,
        client: &Client,
        sets: &Sets,
    ) -> Result<Option<Seat>> {
        let runtime = crate::runtime()?;
        let mut landings = self.landings.subscribe();
        loop {
            landings.borrow_and_update();
            let (sender, answer) = oneshot::channel();
            let joined = self.on_board(|board| {
                let id = board.join(sets, sender)?;
                let first = !std::mem::replace(&mut board.scheduled, true);
                Ok((id, first))
            });
            let (id, first) = match joined {
                Ok(joined) => joined,
                Err(Refusal::Stale) => return Ok(None),
                Err(Refusal::NotNow) => {
                    let _ = landings.changed().await;
                    continue;
                }
            };
            if first {
                let task = flight::fly(client.clone(), flight::Aboard::new(self));
                client.settle().spawn(&runtime, "stm.group", task);
            }
            return Ok(Some(Seat {
                hall: Arc::clone(self),
                id,
                answer: Some(answer),
            }));
        }
    }

    /// A group has landed.
    fn landed(&self) {
        self.pace.lock().landed = Some(Instant::now());
        self.tell();
    }

    /// There may be room, and nothing may be on its way.
    fn tell(&self) {
        self.landings
            .send_modify(|landings| *landings = landings.wrapping_add(1));
    }

    /// Nobody looks after the group any more: those who gather go with the next.
    fn abandon(&self) {
        let (waiting, flying) = self.on_board(|board| {
            let waiting = std::mem::take(&mut board.group).members;
            let flying = board.passengers();
            board.fail(None);
            (waiting, flying)
        });
        self.tell();
        for member in waiting {
            let _ = member.answer.send(Answer::Stale);
        }
        for member in flying {
            // Its commit may have been sent.
            let error = synod_store::Error::from_kind(ErrorKind::Timeout);
            let error = error.with_applied(Applied::Maybe).into();
            let _ = member.answer.send(Answer::Failed(error));
        }
    }
}

/// While it waits until no group gathers, the group need not wait for others.
struct Patient<'h>(&'h Hall, usize);

impl Patient<'_> {
    fn new(hall: &Hall, idle: bool) -> Patient<'_> {
        let count = usize::from(idle);
        hall.patient.fetch_add(count, Ordering::SeqCst);
        Patient(hall, count)
    }
}

impl Drop for Patient<'_> {
    fn drop(&mut self) {
        self.0.patient.fetch_sub(self.1, Ordering::SeqCst);
    }
}
