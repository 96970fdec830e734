//! [`Baton`]: a lock that the tasks of one client hand to each other in memory.
//!
//! # Protocol
//!
//! 1. Whoever wants the lock waits in the client, first come, first served. While anybody waits and the
//!    client has not got the lock, one task stands in the store's line for all of them.
//! 2. When that gets the lock, it goes to the first, and from each guard's end to the next: no round trip,
//!    the same key, the same create revision, another *turn*.
//! 3. It is handed over only once every transaction that was made through the last guard is settled; when
//!    the outcome of one is not known, it goes back to the store instead.
//! 4. It goes back to the store, too, when nobody waits any more; when the session is over, or the
//!    key gone; and when others wait in the store's line and it was handed over 64 times, or for 10 ms.
//!    Then step 1 again, behind those others. A watch of the line tells of them (`outsiders`); as
//!    long as that does not stand, somebody is taken to wait.
//! 5. Whoever receives it looks at the session by the clock of that moment first.
//!
//! One baton serves one lock under one session: the client's own, or the one that was given.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::grip::{Grip, Series};
use super::held::Held;
use super::outsiders::Outsiders;
use crate::slot::Slot;
use crate::span;
use crate::waiters::Wanted;
use crate::{Error, Result, Session};

/// What a waiter is told: its turn, or why there is none.
type Told = Result<Grip>;

/// What all handles of one lock share.
#[derive(Debug)]
pub(super) struct Baton {
    wanted: Wanted,
    state: Slot<State>,
    /// The last waiter has left.
    deserted: Notify,
    outsiders: Outsiders,
}

#[derive(Debug, Default)]
struct State {
    /// The first come first, with rising numbers.
    waiters: VecDeque<(u64, oneshot::Sender<Told>)>,
    next: u64,
    /// A task stands in the store's line.
    standing: bool,
    /// How many locks are held or on their way back; two only when one came from `try_lock`.
    out: usize,
}

/// A lock of this baton is out as long as this lives.
#[derive(Debug)]
pub(super) struct Out(Arc<Baton>);

/// One who waits. Dropping it ends the wait.
#[derive(Debug)]
struct Waiter {
    baton: Arc<Baton>,
    number: u64,
    told: oneshot::Receiver<Told>,
    /// Whether the task was begun for this one.
    began: bool,
}

/// The task that stands in the store's line. Its end, whatever the cause, strands nobody.
struct Runner {
    baton: Arc<Baton>,
    /// Whether it has ended by itself.
    over: bool,
}

impl Baton {
    pub(super) fn new(wanted: Wanted) -> Baton {
        Baton {
            outsiders: Outsiders::new(&wanted),
            wanted,
            state: Slot::default(),
            deserted: Notify::new(),
        }
    }

    pub(super) fn outsiders(&self) -> &Outsiders {
        &self.outsiders
    }

    /// Whether nobody has the lock, or wants it.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.out == 0 && !state.standing && state.waiters.is_empty()
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waiters.len()
    }

    /// Waits for a turn.
    pub(super) async fn lock(self: &Arc<Self>) -> Result<Held> {
        let session = self.session().await?;
        session.check()?;
        loop {
            let mut waiter = self.enter()?;
            let told = tokio::select! {
                // Asked first: whose session has ended is told nothing else.
                biased;
                () = session.lost() => return Err(Error::SessionLost),
                told = &mut waiter.told => told,
            };
            match told {
                Ok(grip) => return grip?.accept(),
                // The task has ended with its runtime. If that was another, one in this runtime
                // follows it.
                Err(_) if waiter.began => return Err(Error::NoRuntime),
                Err(_) => {}
            }
        }
    }

    /// Takes the lock if nobody has it, here or elsewhere.
    pub(super) async fn try_lock(self: &Arc<Self>) -> Result<Option<Held>> {
        if !self.is_idle() {
            return Ok(None);
        }
        let Some(hold) = self.wanted.try_take().await? else {
            return Ok(None);
        };
        let runtime = crate::runtime()?;
        self.outsiders.follow(self, &runtime);
        let series = Series::new(hold, runtime, self.out());
        series.turn().accept().map(Some)
    }

    async fn session(&self) -> Result<Session> {
        match &self.wanted.session {
            Some(session) => Ok(session.clone()),
            None => self.wanted.client.own_session().await,
        }
    }

    fn enter(self: &Arc<Self>) -> Result<Waiter> {
        let runtime = crate::runtime()?;
        let (tell, told) = oneshot::channel();
        let mut state = self.state.lock();
        let number = state.next;
        state.next = number.wrapping_add(1);
        state.waiters.push_back((number, tell));
        let began = state.begins();
        drop(state);
        let waiter = Waiter {
            baton: Arc::clone(self),
            number,
            told,
            began,
        };
        if began {
            self.stand(&runtime);
        }
        Ok(waiter)
    }

    /// The first of those who wait; it waits no more.
    pub(super) fn next_waiter(&self) -> Option<oneshot::Sender<Told>> {
        self.state.lock().waiters.pop_front().map(|(_, tell)| tell)
    }

    fn out(self: &Arc<Self>) -> Out {
        let mut state = self.state.lock();
        state.out = state.out.saturating_add(1);
        Out(Arc::clone(self))
    }

    /// Has a task stand in the store's line.
    fn stand(self: &Arc<Self>, runtime: &Handle) {
        let runner = Runner {
            baton: Arc::clone(self),
            over: false,
        };
        runtime.spawn(span::task("mutex.handover", runner.run(runtime.clone())));
    }

    async fn until_deserted(&self) {
        loop {
            let deserted = self.deserted.notified();
            if self.state.lock().waiters.is_empty() {
                return;
            }
            deserted.await;
        }
    }
}

impl State {
    /// Whether a task has to begin to stand in the store's line. Then it does.
    fn begins(&mut self) -> bool {
        let begins = !self.standing && self.out == 0 && !self.waiters.is_empty();
        self.standing |= begins;
        begins
    }
}

impl Runner {
    async fn run(mut self, runtime: Handle) {
        let baton = Arc::clone(&self.baton);
        baton.outsiders.follow(&baton, &runtime);
        loop {
            let taken = tokio::select! {
                taken = baton.wanted.take() => taken,
                // Leaves the line.
                () = baton.until_deserted() => {
                    let mut state = baton.state.lock();
                    if state.waiters.is_empty() {
                        (state.standing, self.over) = (false, true);
                        return;
                    }
                    continue;
                }
            };
            match taken {
                Ok(hold) => {
                    let out = baton.out();
                    baton.state.lock().standing = false;
                    self.over = true;
                    drop(Series::new(hold, runtime, out).pass());
                }
                Err(error) => {
                    let mut state = baton.state.lock();
                    (state.standing, self.over) = (false, true);
                    let waiters = std::mem::take(&mut state.waiters);
                    drop(state);
                    for (_, tell) in waiters {
                        // Who has left does not hear it.
                        let _ = tell.send(Err(error.clone()));
                    }
                }
            }
            return;
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = self.baton.state.lock();
        state.standing = false;
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        // They see their channels end.
        drop(waiters);
    }
}

impl Out {
    pub(super) fn baton(&self) -> &Arc<Baton> {
        &self.0
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.out = state.out.saturating_sub(1);
        let begins = state.begins();
        drop(state);
        if !begins {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => self.0.stand(&runtime),
            // Those who wait have runtimes of their own, and begin anew in them.
            Err(_) => drop(Runner {
                baton: Arc::clone(&self.0),
                over: false,
            }),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.baton.state.lock();
        let found = state
            .waiters
            .binary_search_by_key(&self.number, |(number, _)| *number);
        let left = found.ok().and_then(|at| state.waiters.remove(at));
        let deserted = state.waiters.is_empty();
        drop(state);
        drop(left);
        if deserted {
            self.baton.deserted.notify_one();
        }
    }
}
