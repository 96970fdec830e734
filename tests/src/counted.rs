//! A store that counts what it is asked: the calls, what is in them and how many of them stand in a
//! row. Laid under a client, it says what a primitive's operation costs, whatever the machine.
//!
//! Each call waits a moment before it goes on to the store below, as on a network: calls that are
//! made at once are on their way at once.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use synod_store::{
    Alarm, AlarmKind, BoxFuture, CompactResponse, Compare, CompareOperand, DeleteRequest,
    DeleteResponse, HashResponse, KeyRange, KeyValue, LeaseGrantRequest, LeaseGrantResponse,
    LeaseId, LeaseKeepAliveResponse, LeaseListResponse, LeaseRevokeResponse,
    LeaseTimeToLiveResponse, Member, PutRequest, PutResponse, PutValue, RangeRequest,
    RangeResponse, Replies, Result, Revision, StatusResponse, Store, Txn, TxnOp, TxnOpResponse,
    TxnResponse, Watch, WatchItem, WatchRequest,
};
use tokio::task::JoinHandle;

use crate::wait;

/// How long each call takes, beside what the store below needs, unless set.
const LATENCY: Duration = Duration::from_millis(1);

/// What a store was asked, and what it answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many calls stood in a row: calls that were on their way at once count once.
    pub in_a_row: u64,
    /// Transactions.
    pub txns: u64,
    /// Reads outside of transactions.
    pub ranges: u64,
    /// Puts and deletes outside of transactions.
    pub writes: u64,
    /// Watches that were opened.
    pub watches: u64,
    /// Leases granted, renewed, revoked or asked about.
    pub leases: u64,
    /// Any other call.
    pub others: u64,
    /// Conditions of transactions, at any depth.
    pub compares: u64,
    /// Operations of transactions, in all their branches and at any depth; a nested one is one.
    pub operations: u64,
    /// Pairs, or keys, that answers have carried.
    pub keys_read: u64,
    /// Events that watches have delivered.
    pub events: u64,
    /// Bytes of the keys and values in requests.
    pub bytes_out: u64,
    /// Bytes of the keys and values in answers and events.
    pub bytes_in: u64,
}

impl Counts {
    /// All calls.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.txns + self.ranges + self.writes + self.watches + self.leases + self.others
    }

    /// The calls by kind, in words: `1 Txn, 2 watch`.
    #[must_use]
    pub fn kinds(&self) -> String {
        let kinds = [
            (self.txns, "Txn"),
            (self.ranges, "range"),
            (self.writes, "write"),
            (self.watches, "watch"),
            (self.leases, "lease"),
            (self.others, "other"),
        ];
        let made = kinds.iter().filter(|(number, _)| *number > 0);
        let words: Vec<String> = made
            .map(|(number, kind)| format!("{number} {kind}"))
            .collect();
        if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(", ")
        }
    }
}

impl Sub for Counts {
    type Output = Counts;

    fn sub(self, before: Counts) -> Counts {
        Counts {
            in_a_row: self.in_a_row - before.in_a_row,
            txns: self.txns - before.txns,
            ranges: self.ranges - before.ranges,
            writes: self.writes - before.writes,
            watches: self.watches - before.watches,
            leases: self.leases - before.leases,
            others: self.others - before.others,
            compares: self.compares - before.compares,
            operations: self.operations - before.operations,
            keys_read: self.keys_read - before.keys_read,
            events: self.events - before.events,
            bytes_out: self.bytes_out - before.bytes_out,
            bytes_in: self.bytes_in - before.bytes_in,
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    counts: Mutex<Counts>,
    begun: AtomicU64,
    in_flight: AtomicUsize,
}

impl Tally {
    fn add(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A store that counts. Clones count together.
#[derive(Debug, Clone)]
pub struct Counted {
    store: Arc<dyn Store>,
    replies: Replies,
    latency: Duration,
    tally: Arc<Tally>,
}

/// A call on its way. Also one that is dropped has come to its end.
struct OnItsWay<'a>(&'a Tally);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Counted {
    /// Counts what is asked of `store`, and says of its replies what is given here: so the store in
    /// memory can stand for one over a network.
    #[must_use]
    pub fn over(store: Arc<dyn Store>, replies: Replies) -> Counted {
        Counted {
            store,
            replies,
            latency: LATENCY,
            tally: Arc::default(),
        }
    }

    /// The same, with another latency. With none, calls that are made at once may be answered one after
    /// the other.
    #[must_use]
    pub fn with_latency(mut self, latency: Duration) -> Counted {
        self.latency = latency;
        self
    }

    /// All that was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counts = self.tally.counts.lock();
        *counts.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no call is on its way, nor begun for a while.
    ///
    /// # Panics
    ///
    /// When it does not come to that.
    pub async fn settled(&self) {
        let (mut before, mut same) = (u64::MAX, 0);
        let settled = async {
            while same < 5 {
                let begun = self.tally.begun.load(Ordering::SeqCst);
                let idle = self.tally.in_flight.load(Ordering::SeqCst) == 0;
                same = if idle && begun == before { same + 1 } else { 0 };
                before = begun;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        };
        wait::soon("no call is on its way", settled).await;
    }

    /// What `work` asks, with what it leaves to be done in the background.
    pub async fn measure<T>(&self, work: impl Future<Output = T>) -> (T, Counts) {
        self.settled().await;
        let before = self.counts();
        let done = wait::soon("what is measured", work).await;
        self.settled().await;
        (done, self.counts() - before)
    }

    /// What `work` asks until it can only wait, in a task of its own.
    pub async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> (JoinHandle<T>, Counts) {
        self.settled().await;
        let before = self.counts();
        let task = tokio::spawn(work);
        self.settled().await;
        (task, self.counts() - before)
    }

    async fn call<T>(
        &self,
        call: BoxFuture<'_, Result<T>>,
        kind: impl FnOnce(&mut Counts),
        answer: impl FnOnce(&T, &mut Counts),
    ) -> Result<T> {
        let tally = &*self.tally;
        tally.begun.fetch_add(1, Ordering::SeqCst);
        tally.in_flight.fetch_add(1, Ordering::SeqCst);
        let on_its_way = OnItsWay(tally);
        let mut place = 0;
        tally.add(|counts| {
            kind(counts);
            place = counts.in_a_row + 1;
        });
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let answered = call.await;
        tally.add(|counts| {
            counts.in_a_row = counts.in_a_row.max(place);
            if let Ok(answered) = &answered {
                answer(answered, counts);
            }
        });
        drop(on_its_way);
        answered
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn range_bytes(range: &KeyRange) -> u64 {
    match range {
        KeyRange::One(key) | KeyRange::From(key) => bytes(key.len()),
        KeyRange::Between(start, end) => bytes(start.len() + end.len()),
    }
}

fn put_bytes(put: &PutRequest) -> u64 {
    let value = match &put.value {
        PutValue::Set(value) => value.len(),
        PutValue::Keep => 0,
    };
    bytes(put.key.len() + value)
}

fn count_txn(txn: &Txn, counts: &mut Counts) {
    counts.compares += bytes(txn.compares.len());
    for Compare { range, operand, .. } in &txn.compares {
        counts.bytes_out += range_bytes(range);
        if let CompareOperand::Value(value) = operand {
            counts.bytes_out += bytes(value.len());
        }
    }
    for operation in txn.success.iter().chain(&txn.failure) {
        counts.operations += 1;
        match operation {
            TxnOp::Range(range) => counts.bytes_out += range_bytes(&range.range),
            TxnOp::Put(put) => counts.bytes_out += put_bytes(put),
            TxnOp::Delete(delete) => counts.bytes_out += range_bytes(&delete.range),
            TxnOp::Txn(txn) => count_txn(txn, counts),
        }
    }
}

fn count_pair(kv: &KeyValue, counts: &mut Counts) {
    counts.keys_read += 1;
    counts.bytes_in += bytes(kv.key.len() + kv.value.len());
}

fn count_pairs<'k>(kvs: impl IntoIterator<Item = &'k KeyValue>, counts: &mut Counts) {
    kvs.into_iter().for_each(|kv| count_pair(kv, counts));
}

fn count_answers(answers: &[TxnOpResponse], counts: &mut Counts) {
    for answer in answers {
        match answer {
            TxnOpResponse::Range(range) => count_pairs(&range.kvs, counts),
            TxnOpResponse::Put(put) => count_pairs(&put.prev_kv, counts),
            TxnOpResponse::Delete(delete) => count_pairs(&delete.prev_kvs, counts),
            TxnOpResponse::Txn(txn) => count_answers(&txn.responses, counts),
        }
    }
}

fn nothing<T>(_: &T, _: &mut Counts) {}

fn lease(counts: &mut Counts) {
    counts.leases += 1;
}

fn other(counts: &mut Counts) {
    counts.others += 1;
}

impl Store for Counted {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        let out = range_bytes(&request.range);
        let kind = move |counts: &mut Counts| {
            counts.ranges += 1;
            counts.bytes_out += out;
        };
        let answer = |range: &RangeResponse, counts: &mut Counts| count_pairs(&range.kvs, counts);
        Box::pin(self.call(self.store.range(request), kind, answer))
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        let out = put_bytes(&request);
        let kind = move |counts: &mut Counts| {
            counts.writes += 1;
            counts.bytes_out += out;
        };
        let answer = |put: &PutResponse, counts: &mut Counts| count_pairs(&put.prev_kv, counts);
        Box::pin(self.call(self.store.put(request), kind, answer))
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        let out = range_bytes(&request.range);
        let kind = move |counts: &mut Counts| {
            counts.writes += 1;
            counts.bytes_out += out;
        };
        let answer =
            |delete: &DeleteResponse, counts: &mut Counts| count_pairs(&delete.prev_kvs, counts);
        Box::pin(self.call(self.store.delete(request), kind, answer))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        let mut asked = Counts::default();
        count_txn(&txn, &mut asked);
        let kind = move |counts: &mut Counts| {
            counts.txns += 1;
            counts.compares += asked.compares;
            counts.operations += asked.operations;
            counts.bytes_out += asked.bytes_out;
        };
        let answer = |txn: &TxnResponse, counts: &mut Counts| count_answers(&txn.responses, counts);
        Box::pin(self.call(self.store.txn(txn), kind, answer))
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> BoxFuture<'_, Result<CompactResponse>> {
        Box::pin(self.call(self.store.compact(revision, physical), other, nothing))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        let out = range_bytes(&request.range);
        let kind = move |counts: &mut Counts| {
            counts.watches += 1;
            counts.bytes_out += out;
        };
        let watching = self.call(self.store.watch(request), kind, nothing);
        Box::pin(async move {
            let watch = watching.await?;
            let header = watch.header();
            let progress = watch.progress_handle();
            let asked = Arc::clone(&self.tally);
            let tally = Arc::clone(&self.tally);
            let items = watch.inspect(move |item| {
                if let Ok(WatchItem::Events(batch)) = item {
                    tally.add(|counts| {
                        for event in &batch.events {
                            counts.events += 1;
                            let pairs = event.prev_kv.iter().chain([&event.kv]);
                            counts.bytes_in += pairs
                                .map(|kv| bytes(kv.key.len() + kv.value.len()))
                                .sum::<u64>();
                        }
                    });
                }
            });
            Ok(Watch::new(header, items, move || {
                asked.add(other);
                progress();
            }))
        })
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        Box::pin(self.call(self.store.lease_grant(request), lease, nothing))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(self.call(self.store.lease_revoke(id), lease, nothing))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        Box::pin(self.call(self.store.lease_keep_alive(id), lease, nothing))
    }

    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        Box::pin(self.call(self.store.lease_time_to_live(id, keys), lease, nothing))
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeaseListResponse>> {
        Box::pin(self.call(self.store.leases(), lease, nothing))
    }

    fn status(&self) -> BoxFuture<'_, Result<StatusResponse>> {
        Box::pin(self.call(self.store.status(), other, nothing))
    }

    fn alarms(&self) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        Box::pin(self.call(self.store.alarms(), other, nothing))
    }

    fn disarm(&self, kind: AlarmKind) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        Box::pin(self.call(self.store.disarm(kind), other, nothing))
    }

    fn hash_kv(&self, revision: Revision) -> BoxFuture<'_, Result<HashResponse>> {
        Box::pin(self.call(self.store.hash_kv(revision), other, nothing))
    }

    fn defragment(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.call(self.store.defragment(), other, nothing))
    }

    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>>> {
        Box::pin(self.call(self.store.members(), other, nothing))
    }

    fn replies(&self) -> Replies {
        self.replies
    }
}
