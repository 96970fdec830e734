//! Settled outcomes: each operation happens once or never, and its caller learns which, although
//! answers get lost and old copies of a request can arrive late.
//!
//! # Key layout
//!
//! ```text
//! key                        value                     lease    written by   deleted by
//! __synod/fence/EPOCH        empty                     session  its client   its client, or the lease's end
//! __synod/lane/EPOCH/NUMBER  OP ALTERNATIVE SECONDS    none     its client   its client at the end, or a sweep
//! ```
//!
//! `EPOCH` and `OP` are 128-bit numbers drawn by lot, in hexadecimal. An epoch is one session of one
//! client; it has at most 16 lanes, made as they are needed. `ALTERNATIVE` says which of the
//! operation's alternatives ran, `else` that it does one thing or else another and did the other, or `-` that the
//! operation was given up. An `r` behind the number says that this alternative only read why the operation could not
//! be done: for whoever resolves its token, it never happened.
//!
//! # Protocol
//!
//! Let `c` be the fence's create revision and `m` the modification revision of a lane that nothing
//! is on its way through (0 while the lane does not exist). Through it goes one operation at a time:
//!
//! 1. Send `If create(fence)=c and mod(lane)=m and GUARDS Then put(lane, OP 0) + WORK Else
//!    get(lane), get(fence)`. An operation with several alternatives has, in the Else, `If
//!    create(fence)=c and mod(lane)=m Then (If GUARDS1 Then put(lane, OP 1) + WORK1 Else (...))`. One
//!    that does one thing or else another is `If create(fence)=c and mod(lane)=m Then (If GUARDS Then
//!    put(lane, OP 0) + WORK Else put(lane, OP else) + OTHER WORK) Else get(lane), get(fence)`.
//!    One that searches for the alternative that is to run has `If create(fence)=c and mod(lane)=m Then
//!    (If SPLIT Then (upper half) Else (lower half)) Else get(lane), get(fence)`, down to `If GUARDSi
//!    Then put(lane, OP i) + WORKi`.
//! 2. No answer, or one that leaves it open: wait a little, send *the same* Txn again.
//! 3. A Then-branch answered, or the lane holds `OP`: it happened, once. The lane is free again.
//! 4. The fence is gone: no copy can ever apply; what the lane says is final.
//! 5. The guards were false on the *first* send: it did not happen, and no copy is on its way.
//! 6. The guards were false on a *resend*: an earlier copy may still arrive when they are true
//!    again. Put `OP -` into the lane, under the same two compares; only then report it. If that
//!    finds `OP` in the lane, the earlier copy has won: it happened.
//!    Likewise when the store refuses a resend for good, as when a lease which WORK attaches is gone
//!    (leases do not come back), or a grant was taken away: the refusal is reported.
//! 7. The caller waits no longer: [`Error::Unknown`] with a token. The task goes on with 2. to 6., and
//!    whoever [resolves](crate::Client::resolve) the token waits for it; another process looks at
//!    the lane itself, and closes it as in 6.
//!
//! # Why it holds
//!
//! *At most once*: every copy compares `mod(lane)=m`, and every copy that applies changes `mod(lane)`,
//! for revisions only rise. *The answer is right*: while the lane's modification revision is `m` no
//! copy has applied; once it is not, none will. The lane is unleased, so it tells the outcome also
//! after the session's death; the fence is leased, so that after that death no copy applies and the
//! lane's word is final. The lane is not used again before its operation is settled, so its word is
//! not overwritten before it was read.
//!
//! # Failure
//!
//! The client dies: its fence goes with its lease, its lanes are swept by a later client once they are
//! an hour old (at most 256 lanes a sweep, one sweep a client). The session is lost while the client
//! lives: operations on their way are settled by 4., new ones begin a new epoch. A sweep or a stranger
//! deletes a lane: the open outcome becomes [`Resolution::Forgotten`], never a guess. A lane whose
//! token was given to a caller is not used again, nor deleted by its own client: it is left to the
//! sweeps. When all lanes of an epoch have gone that way, a new epoch begins.
//!
//! # Cost
//!
//! On a store whose answers are certain: nothing, the work alone is sent. Else one Put more in the
//! same Txn, and two round trips before a client's first operation.

mod budget;
mod drive;
#[cfg(test)]
mod edges;
mod epoch;
#[cfg(test)]
mod search;
#[cfg(test)]
mod tests;
mod token;
mod txn;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{Replies, Revision, Store, TxnOpResponse};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::clock::Clock;
use crate::slot::Slot;
use crate::{Error, Result};

use epoch::Epoch;
use txn::Answer;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use txn::Record;

pub(crate) use budget::{MAX_OPS, room_for_others, weight, weight_of_fork};
pub(crate) use token::OpId;
pub use token::{ParseTokenError, Token};
use work::Job;
pub(crate) use work::{Alternative, Search, Work};

/// What became of an operation whose outcome was open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resolution {
    /// It happened, once.
    Happened,
    /// It happened, once, but its conditions did not hold: of a [transaction](crate::txn) that the
    /// operations of `or_else` ran instead, if it has any; of an [STM](crate::stm) transaction that it met a
    /// conflict, has changed nothing, and may be run again.
    Otherwise,
    /// It has not happened, and never will.
    NeverWill,
    /// The record of it is gone: it was kept for an hour after its client's end.
    Forgotten,
}

/// How a settled operation ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It happened.
    Done {
        /// Which alternative.
        alternative: usize,
        /// At which revision.
        revision: Revision,
        /// The answers of its operations; `None` when they were lost and only the lane told.
        responses: Option<Vec<TxnOpResponse>>,
    },
    /// No alternative's guards held.
    GuardsFalse,
}

/// What the mechanism needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) prefix: String,
    pub(crate) patience: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The mechanism: one a client, shared by all its primitives.
#[derive(Debug, Clone)]
pub(crate) struct Settle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    settings: Settings,
    epoch: Mutex<Option<Arc<Epoch>>>,
    /// Outcomes that a caller was told are open. Bounded: see [`Inner::remember`].
    open: Slot<HashMap<OpId, Verdict>>,
    tasks: TaskTracker,
    closing: watch::Sender<bool>,
    /// Since when nobody can ask any more: give up after the patience.
    abandoned: Slot<Option<Instant>>,
}

type Verdict = watch::Receiver<Option<Resolution>>;

/// The most open outcomes whose end a client remembers; the lanes know the rest.
const REMEMBERED: usize = 1024;

/// How long one send may take before the same Txn is sent again.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How far an operation is, between its task and its caller.
#[derive(Debug)]
enum Phase {
    /// No copy is on its way; this was the last trouble.
    Quiet(Option<Error>),
    /// A copy may be on its way, or may have happened.
    Doubt(Token),
    /// The task knows the outcome, and is about to tell it.
    Settled,
    /// The caller has gone: nothing new may begin.
    Left,
    /// The caller has gone with a token: nothing new may begin, and the lane's word stays.
    Told,
}

impl Phase {
    /// Whether the caller has gone.
    fn is_left(&self) -> bool {
        matches!(self, Phase::Left | Phase::Told)
    }
}

/// Tells the task when the caller leaves without having been answered.
struct Leave<'p>(&'p Slot<Phase>);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut phase = self.0.lock();
        if !matches!(*phase, Phase::Told) {
            *phase = Phase::Left;
        }
    }
}

impl Settle {
    pub(crate) fn new(store: Arc<dyn Store>, settings: Settings) -> Settle {
        Settle {
            inner: Arc::new(Inner {
                store,
                settings,
                epoch: Mutex::new(None),
                open: Slot::default(),
                tasks: TaskTracker::new(),
                closing: watch::Sender::new(false),
                abandoned: Slot::default(),
            }),
        }
    }

    fn is_certain(&self) -> bool {
        self.inner.store.replies() == Replies::Certain
    }

    /// How many other alternatives an operation can have in a Txn of at most `limit` operations,
    /// of so many guards and operations `each`, beside a `first` one of so many.
    pub(crate) fn room(&self, limit: usize, first: (usize, usize), each: (usize, usize)) -> usize {
        room_for_others(limit, !self.is_certain(), first, each)
    }

    /// Runs an operation, and waits for its outcome as long as the client's timeout.
    ///
    /// When the caller drops this, the operation is settled all the same: if it has not been sent
    /// it never is, else it happens once or never.
    pub(crate) async fn run(&self, work: Work) -> Result<Outcome> {
        if self.is_certain() {
            let (work, search) = (&work, None);
            return self.plain(Job { work, search }).await;
        }
        let patience = self.inner.settings.patience;
        let phase = Arc::new(Slot::new(Phase::Quiet(None)));
        let op = OpId::draw();
        let (verdict, seen) = watch::channel(None);
        let (answer, mut answered) = oneshot::channel();
        let task = {
            let (inner, phase) = (Arc::clone(&self.inner), Arc::clone(&phase));
            async move {
                let work = &work;
                let outcome = {
                    let job = Job { work, search: None };
                    inner.drive(job, op, Some(&phase)).await
                };
                verdict.send_replace(Some(match &outcome {
                    Ok(Outcome::Done { alternative, .. }) => work.effect(*alternative).resolution(),
                    Ok(Outcome::GuardsFalse) => Resolution::NeverWill,
                    // Given up with the client, or swept: the lane knows, or nobody.
                    Err(Error::Unknown { .. }) => Resolution::Forgotten,
                    Err(_) => Resolution::NeverWill,
                }));
                // The caller may have left.
                let _ = answer.send(outcome);
            }
        };
        let leave = Leave(&phase);
        // Still what the caller does, even if it has left.
        let task = task.in_current_span();
        self.inner.tasks.spawn_on(task, &crate::runtime()?);
        let begun = Instant::now();
        let timely = tokio::time::timeout(patience, &mut answered).await;
        if let Ok(answered) = timely {
            return answered.unwrap_or_else(|_| {
                // The task has ended with its runtime: nobody sends the Txn again, but a copy of it
                // may be on its way, or may have happened. The lane is not used again.
                Err(match &*leave.0.lock() {
                    Phase::Doubt(token) => Error::Unknown {
                        token: token.clone(),
                        after: begun.elapsed(),
                    },
                    _ => Error::NoRuntime,
                })
            });
        }
        let left = {
            let mut phase = leave.0.lock();
            let next = match *phase {
                Phase::Doubt(_) => Phase::Told,
                _ => Phase::Left,
            };
            std::mem::replace(&mut *phase, next)
        };
        Err(match left {
            Phase::Settled => return answered.await.unwrap_or(Err(Error::NoRuntime)),
            Phase::Quiet(Some(trouble)) => trouble,
            Phase::Quiet(None) | Phase::Left | Phase::Told => Error::Timeout { after: patience },
            Phase::Doubt(token) => {
                self.inner.remember(op, seen);
                Error::Unknown {
                    token,
                    after: patience,
                }
            }
        })
    }

    /// Runs an operation to its end, however long the store cannot be reached. Fails only when the
    /// store refuses it for good, or after the client has gone.
    pub(crate) async fn run_to_end(&self, work: Work) -> Result<Outcome> {
        self.search_to_end(work, None).await
    }

    /// As [`Settle::run_to_end`]; the alternative that runs is found by a search, if there is one.
    pub(crate) async fn search_to_end(
        &self,
        work: Work,
        search: Option<Search>,
    ) -> Result<Outcome> {
        let job = Job {
            work: &work,
            search: search.as_ref(),
        };
        if self.is_certain() {
            return self.plain(job).await;
        }
        self.inner.drive(job, OpId::draw(), None).await
    }

    /// Runs `task` in the background under a name, and lets [`Settle::close`] wait for it.
    pub(crate) fn spawn(
        &self,
        runtime: &tokio::runtime::Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = crate::span::task(name, task);
        self.inner.tasks.spawn_on(task, runtime);
    }

    async fn plain(&self, job: Job<'_>) -> Result<Outcome> {
        let response = self.inner.store.txn(job.txn(None)).await?;
        let revision = response.header.revision;
        match job.read(None, response) {
            Answer::Done {
                alternative,
                responses,
            } => Ok(Outcome::Done {
                alternative,
                revision,
                responses: Some(responses),
            }),
            _ => Ok(Outcome::GuardsFalse),
        }
    }

    /// What became of an operation; see [`Client::resolve`](crate::Client::resolve).
    pub(crate) async fn resolve(&self, token: &Token) -> Result<Resolution> {
        let patience = self.inner.settings.patience;
        let unknown = || Error::Unknown {
            token: token.clone(),
            after: patience,
        };
        let known = self.inner.open.lock().get(&token.op).cloned();
        if let Some(mut known) = known {
            let verdict = tokio::time::timeout(patience, known.wait_for(Option::is_some)).await;
            let verdict = verdict.map_err(|_| unknown())?.map(|verdict| *verdict);
            match verdict {
                Ok(Some(Resolution::Forgotten)) | Ok(None) | Err(_) => {}
                Ok(Some(verdict)) => return Ok(verdict),
            }
        }
        match tokio::time::timeout(patience, self.inner.look_up(token)).await {
            Ok(resolution) => resolution,
            Err(_) => Err(unknown()),
        }
    }

    /// Whether nobody has been able to ask for as long as the patience.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.inner.is_abandoned()
    }

    /// Waits until the client closes, or is gone: this does not keep it.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.inner.closing.subscribe();
        async move {
            // An error means that the client is gone.
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }

    /// Says that nobody can ask any more: what cannot be settled within the patience is given up.
    pub(crate) fn abandon(&self) {
        *self.inner.abandoned.lock() = Some(Instant::now());
    }

    /// Waits for what is under way, then ends the epoch. Bounded by the patience.
    pub(crate) async fn close(&self) -> Result<()> {
        let patience = self.inner.settings.patience;
        let begun = Instant::now();
        self.inner.tasks.close();
        self.inner.closing.send_replace(true);
        let waited = tokio::time::timeout(patience, self.inner.tasks.wait()).await;
        self.inner.tasks.reopen();
        self.inner.closing.send_replace(false);
        if waited.is_err() {
            tracing::warn!("a client closes while operations are still on their way");
        }
        // One of those operations may be about to begin an epoch on a store that does not answer; then
        // there is none to end. Tried at least once, also when the time is over.
        let rest = patience.saturating_sub(begun.elapsed());
        let epoch = tokio::time::timeout(rest, self.inner.epoch.lock())
            .await
            .map_err(|_| self.inner.late())?
            .take();
        match epoch {
            Some(epoch) => epoch.close(&*self.inner.store).await,
            None => Ok(()),
        }
    }
}

impl Inner {
    /// Whether nobody has been able to ask for as long as the patience.
    fn is_abandoned(&self) -> bool {
        let since = *self.abandoned.lock();
        since.is_some_and(|since| since.elapsed() >= self.settings.patience)
    }

    fn remember(&self, op: OpId, verdict: Verdict) {
        let mut open = self.open.lock();
        if open.len() >= REMEMBERED {
            open.retain(|_, verdict| verdict.borrow().is_none());
        }
        if open.len() < REMEMBERED {
            open.insert(op, verdict);
        }
    }
}
