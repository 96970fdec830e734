//! A store for tests that loses answers, delays requests and stops at gates, over the embedded one.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use synod_engine::{Engine, EngineOptions};
use synod_store::{
    Alarm, AlarmKind, Applied, BoxFuture, CompactResponse, DeleteRequest, DeleteResponse, Error,
    ErrorKind, HashResponse, Header, LeaseGrantRequest, LeaseGrantResponse, LeaseId,
    LeaseKeepAliveResponse, LeaseListResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    Member, PutRequest, PutResponse, PutValue, RangeRequest, RangeResponse, Replies, Result,
    Revision, StatusResponse, Store, Txn, TxnOp, TxnOpResponse, TxnResponse, Watch, WatchItem,
    WatchRequest,
};
use tokio::sync::watch;

use crate::slot::Slot;
use crate::{Client, ConnectOptions};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
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
}

/// All that can go wrong with one call.
pub(crate) const FAULTS: [Fault; 5] = [
    Fault::Refuse,
    Fault::Drop,
    Fault::Lose,
    Fault::Late,
    Fault::Overtaken,
];

/// How watches end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchEnd {
    /// History that they need is gone.
    Compacted,
    /// The stream ends without a word.
    Closed,
    /// The stream ends with an error.
    Broken,
}

/// The embedded store behind a network that misbehaves as told.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    pub(crate) engine: Arc<dyn Store>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    replies: Replies,
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
}

/// Waits for a condition; fails when it does not come.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    until_async(async || condition()).await;
}

/// Waits for a condition that has to be asked for; fails when it does not come.
pub(crate) async fn until_async(condition: impl AsyncFn() -> bool) {
    for _ in 0..4000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the condition has not come");
}

/// What a future comes to; fails when it does not come to anything.
pub(crate) async fn soon<F: IntoFuture>(future: F) -> F::Output {
    let bound = Duration::from_secs(30);
    match tokio::time::timeout(bound, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {bound:?}"),
    }
}

pub(crate) fn engine() -> Arc<dyn Store> {
    Arc::new(Engine::open(EngineOptions::memory()).unwrap())
}

impl Faulty {
    /// A new store over a network.
    pub(crate) fn new() -> Faulty {
        Faulty::over(engine(), Replies::Lossy)
    }

    pub(crate) fn over(engine: Arc<dyn Store>, replies: Replies) -> Faulty {
        let state = State {
            replies,
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

    /// What the next calls that change something meet, in order; then nothing.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.script.lock().faults = faults.into_iter().collect();
    }

    /// What all calls meet from now on.
    pub(crate) fn always(&self, fault: Option<Fault>) {
        self.state.script.lock().always = fault;
    }

    /// The late requests arrive now.
    pub(crate) async fn deliver_late(&self) {
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
    pub(crate) fn end_watches(&self, end: WatchEnd) {
        self.state.ended.send_replace(Some(end));
    }

    /// Renewals are answered from now on as if the lease lived.
    pub(crate) fn stale_keep_alives(&self, ttl: Option<Duration>) {
        self.state.script.lock().stale = ttl;
    }

    /// Loses every event, and says nothing of it, as a store with a fault does.
    pub(crate) fn lose_events(&self) {
        self.state.script.lock().deaf = true;
    }

    /// Refuses Txns that put more bytes than this as too large.
    pub(crate) fn limit_bytes(&self, most: usize) {
        self.state.script.lock().most_bytes = Some(most);
    }

    /// Lets `count` of the calls through that stand at the closed gate, and nobody after them.
    pub(crate) fn close_gate_behind(&self, count: usize) {
        let more = |limit: &mut usize| *limit = limit.saturating_add(count);
        self.state.gate.send_modify(more);
    }

    /// Lets only `count` more calls through.
    pub(crate) fn close_gate(&self, count: usize) {
        let arrived = *self.state.arrived.borrow();
        self.state.gate.send_replace(arrived + count);
    }

    /// Lets one more call through the closed gate, now or when it comes.
    pub(crate) fn let_one_more_through(&self) {
        let one_more = |limit: &mut usize| *limit = limit.saturating_add(1);
        self.state.gate.send_modify(one_more);
    }

    pub(crate) fn open_gate(&self) {
        self.state.gate.send_replace(usize::MAX);
    }

    /// Waits until a call stands before the gate. False when none comes.
    pub(crate) async fn wait_at_gate(&self) -> bool {
        let limit = *self.state.gate.borrow();
        let mut arrived = self.state.arrived.subscribe();
        let come = arrived.wait_for(|arrived| *arrived > limit);
        tokio::time::timeout(Duration::from_millis(500), come)
            .await
            .is_ok()
    }

    pub(crate) fn txns(&self) -> usize {
        self.state.script.lock().txns
    }

    pub(crate) fn ranges(&self) -> usize {
        self.state.script.lock().ranges
    }

    /// How many pairs the answers to ranges have carried, within Txns too.
    pub(crate) fn answered(&self) -> usize {
        self.state.script.lock().answered
    }

    pub(crate) fn watches(&self) -> usize {
        self.state.script.lock().watches
    }

    pub(crate) fn keep_alives(&self) -> usize {
        self.state.script.lock().keep_alives
    }

    /// A client of this store that waits no longer than `timeout`.
    pub(crate) fn client(&self, timeout: Duration) -> Client {
        let options = ConnectOptions::new("memory:").with_timeout(timeout);
        options.over(Arc::new(self.clone()))
    }

    async fn pass(&self) {
        self.state.arrived.send_modify(|arrived| *arrived += 1);
        let mine = *self.state.arrived.borrow();
        let mut gate = self.state.gate.subscribe();
        gate.wait_for(|limit| *limit >= mine).await.unwrap();
    }

    fn next_fault(&self) -> Fault {
        let mut script = self.state.script.lock();
        script
            .always
            .or_else(|| script.faults.pop_front())
            .unwrap_or(Fault::None)
    }

    /// A call that changes something and can come late only as a Txn.
    async fn change<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.pass().await;
        match self.next_fault() {
            Fault::None => call.await,
            Fault::Refuse => Err(refused()),
            Fault::Deny => Err(denied()),
            Fault::Lose => {
                let _ = call.await;
                Err(lost())
            }
            Fault::Drop | Fault::Late | Fault::Overtaken => Err(lost()),
        }
    }

    async fn read<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.pass().await;
        let always = self.state.script.lock().always;
        match always {
            None => call.await,
            Some(Fault::Deny) => Err(denied()),
            Some(_) => Err(refused()),
        }
    }
}

/// How many pairs the answers of a Txn carry.
fn pairs(responses: &[TxnOpResponse]) -> usize {
    let pairs = responses.iter().map(|response| match response {
        TxnOpResponse::Range(range) => range.kvs.len(),
        TxnOpResponse::Txn(txn) => pairs(&txn.responses),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) => 0,
    });
    pairs.sum()
}

/// How many bytes a Txn puts.
fn put_bytes(txn: &Txn) -> usize {
    let ops = txn.success.iter().chain(&txn.failure).map(|op| match op {
        TxnOp::Put(put) => match &put.value {
            PutValue::Set(value) => value.len(),
            _ => 0,
        },
        TxnOp::Txn(txn) => put_bytes(txn),
        TxnOp::Range(_) | TxnOp::Delete(_) => 0,
    });
    ops.sum()
}

fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "nobody there")
}

fn denied() -> Error {
    Error::from_kind(ErrorKind::PermissionDenied)
}

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "connection reset").with_applied(Applied::Maybe)
}

impl Store for Faulty {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        self.state.script.lock().ranges += 1;
        Box::pin(async move {
            let answer = self.read(self.engine.range(request)).await;
            let pairs = answer.as_ref().map_or(0, |answer| answer.kvs.len());
            self.state.script.lock().answered += pairs;
            answer
        })
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        Box::pin(self.change(self.engine.put(request)))
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        Box::pin(self.change(self.engine.delete(request)))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(async move {
            self.state.script.lock().txns += 1;
            if txn.is_read_only() {
                let answer = self.read(self.engine.txn(txn)).await;
                let pairs = answer.as_ref().map_or(0, |answer| pairs(&answer.responses));
                self.state.script.lock().answered += pairs;
                return answer;
            }
            self.pass().await;
            let most = self.state.script.lock().most_bytes;
            if most.is_some_and(|most| put_bytes(&txn) > most) {
                return Err(Error::from_kind(ErrorKind::TooLarge));
            }
            let fault = self.next_fault();
            let overtaken = std::mem::take(&mut self.state.script.lock().overtaken);
            let answer = match fault {
                Fault::None => self.engine.txn(txn).await,
                Fault::Refuse => Err(refused()),
                Fault::Deny => Err(denied()),
                Fault::Drop => Err(lost()),
                Fault::Lose => {
                    let _ = self.engine.txn(txn).await;
                    Err(lost())
                }
                Fault::Late => {
                    self.state.script.lock().late.push(txn);
                    Err(lost())
                }
                Fault::Overtaken => {
                    self.state.script.lock().overtaken.push(txn);
                    Err(lost())
                }
            };
            for txn in overtaken {
                let _ = self.engine.txn(txn).await;
            }
            answer
        })
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> BoxFuture<'_, Result<CompactResponse>> {
        self.engine.compact(revision, physical)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        self.state.script.lock().watches += 1;
        let mut ended = self.state.ended.subscribe();
        ended.mark_unchanged();
        Box::pin(async move {
            let watch = self.read(self.engine.watch(request)).await?;
            let header = watch.header();
            let state = Arc::clone(&self.state);
            let begin = Some((watch, ended, state));
            let items = futures_util::stream::unfold(begin, async |state| {
                let (mut watch, mut ended, state) = state?;
                let end = loop {
                    tokio::select! {
                        biased;
                        changed = ended.changed() => break changed.ok().and(*ended.borrow()),
                        item = watch.next() => {
                            if !state.script.lock().deaf {
                                return item.map(|item| (item, Some((watch, ended, state))));
                            }
                        }
                    }
                };
                match end? {
                    WatchEnd::Closed => None,
                    WatchEnd::Broken => Some((Err(refused()), None)),
                    WatchEnd::Compacted => {
                        let compact_revision = Revision(1);
                        Some((Ok(WatchItem::Compacted { compact_revision }), None))
                    }
                }
            });
            Ok(Watch::new(header, items, || {}))
        })
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        Box::pin(self.change(self.engine.lease_grant(request)))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(self.change(self.engine.lease_revoke(id)))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        Box::pin(async move {
            let stale = self.state.script.lock().stale;
            let answer = match stale {
                Some(ttl) => Ok(LeaseKeepAliveResponse {
                    header: Header::default(),
                    ttl,
                }),
                None => self.read(self.engine.lease_keep_alive(id)).await,
            };
            self.state.script.lock().keep_alives += 1;
            answer
        })
    }

    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        Box::pin(self.read(self.engine.lease_time_to_live(id, keys)))
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeaseListResponse>> {
        Box::pin(self.read(self.engine.leases()))
    }

    fn status(&self) -> BoxFuture<'_, Result<StatusResponse>> {
        Box::pin(self.read(self.engine.status()))
    }

    fn alarms(&self) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        Box::pin(self.read(self.engine.alarms()))
    }

    fn disarm(&self, kind: AlarmKind) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        Box::pin(self.change(self.engine.disarm(kind)))
    }

    fn hash_kv(&self, revision: Revision) -> BoxFuture<'_, Result<HashResponse>> {
        Box::pin(self.read(self.engine.hash_kv(revision)))
    }

    fn defragment(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.change(self.engine.defragment()))
    }

    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>>> {
        Box::pin(self.read(self.engine.members()))
    }

    fn replies(&self) -> Replies {
        self.state.replies
    }
}
