//! [`Faulty`]: the embedded store behind a network that misbehaves as told.

mod store;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use synod_engine::{Engine, EngineOptions};
use synod_store::{LeaseId, Replies, Result, Revision, Store, Txn};
use tokio::sync::watch;

use crate::clock::{Clock, ManualClock};
use crate::slot::Slot;
use crate::{Client, ConnectOptions};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing: it is answered.
    None,
    /// It fails before it is sent, and says so.
    Refuse,
    /// It is refused for good: its caller may not do it.
    Deny,
    /// It is not applied, but its caller cannot know.
    Drop,
    /// It is applied, and the answer is lost.
    Lose,
    /// Its caller gets no answer; it arrives when [`Faulty::deliver_late`] says.
    Late,
    /// Its caller gets no answer; it arrives before the next Txn.
    Overtaken,
    /// It is answered, but only after this long.
    Delay(Duration),
}

/// How watches end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEnd {
    /// History that they need is gone.
    Compacted,
    /// The stream ends without a word.
    Closed,
    /// The stream ends with an error.
    Broken,
}

/// The embedded store behind a network that misbehaves as told.
///
/// It does nothing wrong by itself. What calls meet is said before ([`Faulty::script`], [`Faulty::always`]); calls can be
/// held at a gate ([`Faulty::close_gate`]); leases, history and watches end on demand. Clones are one store. It is a
/// [`Store`]: give it to [`ConnectOptions::over`], or let [`Faulty::client`] do so.
#[derive(Debug, Clone)]
pub struct Faulty {
    pub(crate) engine: Arc<dyn Store>,
    state: Arc<State>,
}

/// A new embedded store in memory.
#[expect(
    clippy::expect_used,
    reason = "a test that cannot have a thread for its store cannot go on"
)]
pub(super) fn engine_with(options: EngineOptions) -> Arc<dyn Store> {
    Arc::new(Engine::open(options).expect("a store in memory opens"))
}

/// The same on the system's clock.
pub(super) fn engine() -> Arc<dyn Store> {
    engine_with(EngineOptions::memory())
}

/// The clocks of a store whose time stands still.
#[derive(Debug)]
struct Clocks {
    store: synod_engine::ManualClock,
    client: Arc<ManualClock>,
}

#[derive(Debug)]
struct State {
    replies: Replies,
    /// When time does not pass by itself.
    clocks: Option<Clocks>,
    script: Slot<Script>,
    /// How many calls may pass the gate.
    gate: watch::Sender<usize>,
    /// How many calls have come to the gate.
    arrived: watch::Sender<usize>,
    /// How the watches that stand have ended.
    ended: watch::Sender<Option<WatchEnd>>,
}

#[derive(Debug, Default)]
struct Script {
    faults: VecDeque<Fault>,
    /// When set, all calls fail like this.
    always: Option<Fault>,
    late: Vec<Txn>,
    overtaken: Vec<Txn>,
    txns: usize,
    ranges: usize,
    answered: usize,
    watches: usize,
    keep_alives: usize,
    /// When set, renewals are answered with this, and nobody is asked.
    stale: Option<Duration>,
    /// Watches tell nothing, and do not end either.
    deaf: bool,
    /// Txns that put more than so many bytes are refused.
    most_bytes: Option<usize>,
    /// The member that is asked alone is at this revision still.
    behind: Option<Revision>,
    /// How many Txns it was asked.
    asked_alone: usize,
}

impl Default for Faulty {
    fn default() -> Faulty {
        Faulty::new()
    }
}

impl Faulty {
    /// A new, empty store, which is as far away as an etcd cluster: answers can get lost.
    ///
    /// # Panics
    ///
    /// When the system gives it no thread.
    #[must_use]
    pub fn new() -> Faulty {
        Faulty::over(engine(), Replies::Lossy)
    }

    /// The same, in front of a store that there is already. With [`Replies::Certain`] clients take it for a store in
    /// their own process, and prepare for less.
    #[must_use]
    pub fn over(engine: Arc<dyn Store>, replies: Replies) -> Faulty {
        Faulty::assemble(engine, replies, None)
    }

    /// A new, empty store for which time stands still, and for the clients that it [makes](Faulty::client): leases end,
    /// and clients renew them, only as [`Faulty::advance`] lets time pass. Timeouts of calls are real.
    ///
    /// # Panics
    ///
    /// When the system gives it no thread.
    #[must_use]
    pub fn stopped() -> Faulty {
        let clocks = Clocks {
            store: synod_engine::ManualClock::new(),
            client: Arc::new(ManualClock::new()),
        };
        let clock = Arc::new(clocks.store.clone());
        let engine = engine_with(EngineOptions::memory().with_clock(clock));
        Faulty::assemble(engine, Replies::Lossy, Some(clocks))
    }

    fn assemble(engine: Arc<dyn Store>, replies: Replies, clocks: Option<Clocks>) -> Faulty {
        let state = State {
            replies,
            clocks,
            script: Slot::default(),
            gate: watch::Sender::new(usize::MAX),
            arrived: watch::Sender::new(0),
            ended: watch::Sender::new(None),
        };
        Faulty {
            engine,
            state: Arc::new(state),
        }
    }

    /// What the next calls that change something meet, in order; then nothing. A client's first operation is preceded by
    /// two of them, a lease and its fence, unless it has a session already.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.script.lock().faults = faults.into_iter().collect();
    }

    /// What all calls meet from now on.
    pub fn always(&self, fault: Option<Fault>) {
        self.state.script.lock().always = fault;
    }

    /// The [late](Fault::Late) requests arrive now.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, some of them never arrive.
    pub async fn deliver_late(&self) {
        let (late, overtaken) = {
            let mut script = self.state.script.lock();
            (
                std::mem::take(&mut script.late),
                std::mem::take(&mut script.overtaken),
            )
        };
        for txn in late.into_iter().chain(overtaken) {
            // As in a cluster, nobody hears what becomes of them.
            let _ = self.engine.txn(txn).await;
        }
    }

    /// Ends all watches that stand. They report nothing that happens after this.
    pub fn end_watches(&self, end: WatchEnd) {
        self.state.ended.send_replace(Some(end));
    }

    /// Renewals are answered from now on as if the lease lived.
    pub fn stale_keep_alives(&self, ttl: Option<Duration>) {
        self.state.script.lock().stale = ttl;
    }

    /// Loses every event, and says nothing of it, as a store with a fault does.
    pub fn lose_events(&self) {
        self.state.script.lock().deaf = true;
    }

    /// What is asked of one member alone (serializable reads) finds this state from now on, as a member
    /// that is behind does, or one to which no watch belongs.
    pub fn fall_behind(&self, at: Option<Revision>) {
        self.state.script.lock().behind = at;
    }

    /// How many Txns were asked of one member alone.
    #[must_use]
    pub fn asked_alone(&self) -> usize {
        self.state.script.lock().asked_alone
    }

    /// Refuses Txns that put more bytes than this as too large.
    pub fn limit_bytes(&self, most: usize) {
        self.state.script.lock().most_bytes = Some(most);
    }

    /// Lets `count` of the calls through that stand at the closed gate, and nobody after them.
    pub fn close_gate_behind(&self, count: usize) {
        let more = |limit: &mut usize| *limit = limit.saturating_add(count);
        self.state.gate.send_modify(more);
    }

    /// Lets only `count` more calls through, reads too; the others wait at the gate.
    pub fn close_gate(&self, count: usize) {
        let arrived = *self.state.arrived.borrow();
        self.state.gate.send_replace(arrived.saturating_add(count));
    }

    /// Lets one more call through the closed gate, now or when it comes.
    pub fn let_one_more_through(&self) {
        let one_more = |limit: &mut usize| *limit = limit.saturating_add(1);
        self.state.gate.send_modify(one_more);
    }

    /// Lets all calls through again, those that stand at the gate too.
    pub fn open_gate(&self) {
        self.state.gate.send_replace(usize::MAX);
    }

    /// Waits until a call stands before the gate, which is expected. False when none comes within half
    /// a minute.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn wait_at_gate(&self) -> bool {
        self.wait_at_gate_for(Duration::from_secs(30)).await
    }

    /// Waits until a call stands before the gate, which perhaps none does. False when none comes within
    /// `patience`.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn wait_at_gate_for(&self, patience: Duration) -> bool {
        let limit = *self.state.gate.borrow();
        let mut arrived = self.state.arrived.subscribe();
        let come = arrived.wait_for(|arrived| *arrived > limit);
        tokio::time::timeout(patience, come).await.is_ok()
    }

    /// How many calls have come to the gate, open or closed.
    #[cfg(test)]
    pub(crate) fn calls(&self) -> usize {
        *self.state.arrived.borrow()
    }

    /// How many transactions clients have sent.
    #[must_use]
    pub fn txns(&self) -> usize {
        self.state.script.lock().txns
    }

    /// How many reads clients have sent, beside those within transactions.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.state.script.lock().ranges
    }

    /// How many pairs the answers to ranges have carried, within Txns too.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.state.script.lock().answered
    }

    /// How many watches clients have opened.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.state.script.lock().watches
    }

    /// How many renewals of leases were answered.
    #[must_use]
    pub fn keep_alives(&self) -> usize {
        self.state.script.lock().keep_alives
    }

    /// A client of this store that waits no longer than `timeout`. Each is a process of its own to the others.
    #[must_use]
    pub fn client(&self, timeout: Duration) -> Client {
        let mut options = ConnectOptions::new("memory:").with_timeout(timeout);
        if let Some(clocks) = &self.state.clocks {
            options = options.with_clock(Arc::clone(&clocks.client) as Arc<dyn Clock>);
        }
        options.over(Arc::new(self.clone()))
    }

    /// Lets time pass on a store made with [`Faulty::stopped`]; does nothing on others. The clients' clock goes first:
    /// by a step shorter than a third of a lease they get to renew it, by a longer one they find it lost.
    pub fn advance(&self, by: Duration) {
        if let Some(clocks) = &self.state.clocks {
            clocks.client.advance(by);
            clocks.store.advance(by);
        }
    }

    /// The clients' clock of a store made with [`Faulty::stopped`].
    #[must_use]
    pub fn clock(&self) -> Option<Arc<ManualClock>> {
        let clocks = self.state.clocks.as_ref();
        clocks.map(|clocks| Arc::clone(&clocks.client))
    }

    /// Ends a lease, as if its time were over: all its keys are gone in one revision. Its client is told nothing, and
    /// finds out when it renews it next.
    ///
    /// # Cancel safety
    ///
    /// Dropped after its first poll, the lease ends all the same.
    ///
    /// # Errors
    ///
    /// When there is no such lease.
    pub async fn expire(&self, lease: LeaseId) -> Result<()> {
        self.engine.lease_revoke(lease).await.map(drop)
    }

    /// Ends all leases, those of all clients; how many there were.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, some have ended.
    ///
    /// # Errors
    ///
    /// What the store answered.
    pub async fn expire_all(&self) -> Result<usize> {
        let leases = self.engine.leases().await?.leases;
        for lease in &leases {
            self.engine.lease_revoke(*lease).await?;
        }
        Ok(leases.len())
    }

    /// Forgets all history: watches that are behind end as compacted, and so does who asks for an earlier revision.
    /// The revision up to which it was forgotten.
    ///
    /// # Cancel safety
    ///
    /// Dropped after its first poll, it may happen all the same.
    ///
    /// # Errors
    ///
    /// What the store answered.
    pub async fn forget_history(&self) -> Result<Revision> {
        let now = self.engine.status().await?.header.revision;
        self.engine.compact(now, true).await?;
        Ok(now)
    }
}
