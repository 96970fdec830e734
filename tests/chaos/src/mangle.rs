//! [`Mangle`]: a store between a workload and the real one, that breaks a protocol on purpose, so that a
//! checker that sees nothing is noticed; or kills its process before, during or after a chosen request.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use rustix::process::{Signal, getpid, kill_process};
use synod_store::{
    BoxFuture, CompactResponse, Compare, CompareOp, CompareOperand, DeleteRequest, DeleteResponse,
    KeyRange, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseRevokeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, Replies, Result, Revision, Store, Txn, TxnOp,
    TxnOpResponse, TxnResponse, Watch, WatchRequest,
};

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Break {
    /// An item vanishes right after its enqueue was acknowledged.
    QueueLoses,
    /// An enqueue puts its item twice.
    QueueDoubles,
    /// An item that was taken out comes back.
    QueueRepeats,
    /// Claims of the priority queue do not look whether something more urgent has come.
    PriorityHasty,
    /// An acknowledged item is delivered again.
    AckForgotten,
    /// Conditions on a lock's key are dropped: old tokens are good for ever.
    MutexUnfenced,
    /// Who asks for the mutex sees nobody before.
    MutexCrowded,
    /// Who asks for the readers-writer lock sees nobody before.
    RwlockCrowded,
    /// Who asks for permits sees nobody before.
    SemaphoreCrowded,
    /// Candidates see nobody before.
    ElectionCrowded,
    /// The barrier's key is not seen.
    BarrierLeaks,
    /// A round of the double barrier is full whoever is missing.
    DoubleBarrierHasty,
    /// Commits do not compare what was read.
    StmUnchecked,
    /// Commits do not compare what was read and is not written.
    StmUnread,
    /// A register is swapped whatever it holds.
    TxnUnchecked,
    /// The task that sends a changing transaction panics.
    Panics,
}

impl Break {
    /// The keys whose reads are emptied.
    fn hides(self, range: &KeyRange) -> bool {
        let prefix: &[u8] = match self {
            Break::MutexCrowded => b"chaos/mutex/",
            Break::RwlockCrowded => b"chaos/rwlock/",
            Break::SemaphoreCrowded => b"__synod/semaphore/chaos%2Fsemaphore/line/",
            Break::ElectionCrowded => b"chaos/election/",
            Break::BarrierLeaks => return range.start().as_bytes() == b"chaos/barrier",
            _ => return false,
        };
        range.start().starts_with(prefix) && !matches!(range, KeyRange::One(_))
    }

    /// Whether this condition is not looked at.
    fn ignores(self, compare: &Compare) -> bool {
        let key = compare.range.start();
        let nonzero =
            |operand: &CompareOperand| !matches!(operand, CompareOperand::CreateRevision(0));
        match self {
            Break::MutexUnfenced => {
                key.starts_with(b"chaos/mutex/")
                    && matches!(compare.operand, CompareOperand::CreateRevision(_))
                    && nonzero(&compare.operand)
            }
            Break::PriorityHasty => {
                key.starts_with(b"__chaos/priority-queue/") && compare.op != CompareOp::Equal
            }
            Break::DoubleBarrierHasty => {
                key.starts_with(b"__synod/double-barrier/chaos%2Fdouble-barrier/place/")
                    && compare.op == CompareOp::Greater
            }
            Break::StmUnchecked => key.starts_with(b"chaos/stm/"),
            Break::TxnUnchecked => key.starts_with(b"chaos/txn/"),
            _ => false,
        }
    }

    /// Requests are changed in some cases only, so that work goes on: one in so many.
    fn one_in(self) -> u64 {
        match self {
            Break::QueueLoses | Break::QueueDoubles | Break::QueueRepeats | Break::AckForgotten => {
                4
            }
            Break::Panics => 40,
            _ => 1,
        }
    }
}

/// When a process kills itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the request is sent.
    Before,
    /// When it has been sent, before its answer.
    During,
    /// When it was answered, before its caller knows.
    After,
}

impl When {
    /// All of them.
    pub const ALL: [When; 3] = [When::Before, When::During, When::After];

    /// From its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<When> {
        When::ALL.into_iter().find(|when| when.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            When::Before => "before",
            When::During => "during",
            When::After => "after",
        }
    }
}

/// The step at which the process kills itself.
#[derive(Debug, Default)]
pub struct Death(Mutex<Option<(u64, When)>>);

impl Death {
    /// At the `steps`-th changing request from now.
    pub fn set(&self, steps: u64, when: When) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((steps, when));
    }

    /// Whether the request that is about to be sent is the last one.
    fn due(&self) -> Option<When> {
        let mut death = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (steps, when) = death.as_mut()?;
        *steps = steps.saturating_sub(1);
        if *steps > 0 {
            return None;
        }
        let when = *when;
        *death = None;
        Some(when)
    }
}

fn die() -> ! {
    loop {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// A store that changes what passes through it.
#[derive(Debug)]
pub struct Mangle {
    store: Arc<dyn Store>,
    broken: Option<Break>,
    death: Arc<Death>,
    count: AtomicU64,
}

impl Mangle {
    /// A store that is broken in this way, or not at all.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, broken: Option<Break>) -> Mangle {
        Mangle {
            store,
            broken,
            death: Arc::default(),
            count: AtomicU64::new(0),
        }
    }

    /// The way to kill the process at a step.
    #[must_use]
    pub fn death(&self) -> Arc<Death> {
        Arc::clone(&self.death)
    }

    async fn sent<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(when) = self.death.due() else {
            return request.await;
        };
        match when {
            When::Before => die(),
            When::During => {
                // Long enough to be on its way, and at times to be answered.
                let _ = tokio::time::timeout(Duration::from_millis(1), request).await;
                die()
            }
            When::After => {
                let _ = request.await;
                die()
            }
        }
    }

    async fn run(&self, mut txn: Txn) -> Result<TxnResponse> {
        let Some(broken) = self.broken else {
            return self.sent(self.store.txn(txn)).await;
        };
        strip(&mut txn, broken);
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        assert!(
            broken != Break::Panics || !(count + 1).is_multiple_of(broken.one_in()),
            "a panic on purpose"
        );
        let touched = if count.is_multiple_of(broken.one_in()) {
            touched(&txn)
        } else {
            Vec::new()
        };
        let before = self.read(broken, &touched).await?;
        let request = txn.clone();
        let mut response = self.store.txn(txn).await?;
        hide(broken, &request, &mut response);
        self.spoil(broken, &touched, &before, response.header.revision)
            .await?;
        Ok(response)
    }

    /// What the keys hold that a transaction may delete, where that matters.
    async fn read(&self, broken: Break, touched: &[Touch]) -> Result<Vec<(Touch, Vec<u8>)>> {
        let mut held = Vec::new();
        if !matches!(broken, Break::QueueRepeats | Break::AckForgotten) {
            return Ok(held);
        }
        for touch in touched.iter().filter(|touch| !touch.put) {
            let range = self
                .store
                .range(RangeRequest::new(touch.key.as_str()))
                .await?;
            if let Some(kv) = range.kvs.first() {
                held.push((touch.clone(), kv.value.to_vec()));
            }
        }
        Ok(held)
    }

    /// Undoes or repeats what a transaction has done.
    async fn spoil(
        &self,
        broken: Break,
        touched: &[Touch],
        before: &[(Touch, Vec<u8>)],
        at: Revision,
    ) -> Result<()> {
        for touch in touched
            .iter()
            .filter(|t| t.put && t.key.starts_with("chaos/queue/"))
        {
            let range = self
                .store
                .range(RangeRequest::new(touch.key.as_str()))
                .await?;
            let Some(kv) = range.kvs.first().filter(|kv| kv.mod_revision == at) else {
                continue;
            };
            if broken == Break::QueueLoses {
                self.store
                    .delete(DeleteRequest::new(touch.key.as_str()))
                    .await?;
            } else if broken == Break::QueueDoubles {
                let put = PutRequest::new(format!("{}1", touch.key), kv.value.clone());
                self.store.put(put).await?;
            }
        }
        for (touch, value) in before {
            let (item, payload) = match broken {
                Break::QueueRepeats if touch.key.starts_with("chaos/queue/") => {
                    (touch.key.clone(), value.clone())
                }
                Break::AckForgotten if touch.key.contains("chaos%2Fdelivery/taken/") => {
                    let text = String::from_utf8_lossy(value).into_owned();
                    let payload = text.split_once('\n').unwrap_or_default().1;
                    let item = format!("chaos/delivery/{:019}", at.0);
                    (item, payload.as_bytes().to_vec())
                }
                _ => continue,
            };
            let gone = self
                .store
                .range(RangeRequest::new(touch.key.as_str()))
                .await?;
            if gone.kvs.is_empty() {
                self.store.put(PutRequest::new(item, payload)).await?;
            }
        }
        Ok(())
    }
}

/// A key that a transaction may put or delete.
#[derive(Debug, Clone)]
struct Touch {
    key: String,
    put: bool,
}

fn touched(txn: &Txn) -> Vec<Touch> {
    let mut all = Vec::new();
    for op in txn.success.iter().chain(&txn.failure) {
        let (key, put) = match op {
            TxnOp::Put(request) => (&request.key, true),
            TxnOp::Delete(request) => (request.range.start(), false),
            TxnOp::Txn(inner) => {
                all.extend(touched(inner));
                continue;
            }
            TxnOp::Range(_) => continue,
        };
        let key = String::from_utf8_lossy(key).into_owned();
        all.push(Touch { key, put });
    }
    all
}

/// Takes out the conditions that are not to be looked at.
fn strip(txn: &mut Txn, broken: Break) {
    if broken == Break::StmUnread {
        let written: Vec<String> = touched(txn).into_iter().map(|touch| touch.key).collect();
        txn.compares.retain(|compare| {
            let key = String::from_utf8_lossy(compare.range.start());
            !key.starts_with("chaos/stm/account/") || written.iter().any(|other| *other == key)
        });
    }
    txn.compares.retain(|compare| !broken.ignores(compare));
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        if let TxnOp::Txn(inner) = op {
            strip(inner, broken);
        }
    }
}

/// Empties what was read of keys that are not to be seen.
fn hide(broken: Break, txn: &Txn, response: &mut TxnResponse) {
    let ops = if response.succeeded {
        &txn.success
    } else {
        &txn.failure
    };
    for (op, answer) in ops.iter().zip(&mut response.responses) {
        match (op, answer) {
            (TxnOp::Range(request), TxnOpResponse::Range(range)) => {
                empty(broken, request, range);
            }
            (TxnOp::Txn(inner), TxnOpResponse::Txn(answer)) => hide(broken, inner, answer),
            _ => {}
        }
    }
}

fn empty(broken: Break, request: &RangeRequest, range: &mut RangeResponse) {
    if broken == Break::SemaphoreCrowded && broken.hides(&request.range) {
        // Its own ticket, the newest, is looked for.
        let newest = range.kvs.iter().map(|kv| kv.create_revision).max();
        range.kvs.retain(|kv| Some(kv.create_revision) == newest);
    } else if broken.hides(&request.range) {
        range.kvs.clear();
        range.count = 0;
        range.more = false;
    }
}

impl Store for Mangle {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        Box::pin(async move {
            let mut range = self.store.range(request.clone()).await?;
            if let Some(broken) = self.broken {
                empty(broken, &request, &mut range);
            }
            Ok(range)
        })
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        Box::pin(self.sent(self.store.put(request)))
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        Box::pin(self.sent(self.store.delete(request)))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        if txn.is_read_only() {
            return Box::pin(async move {
                let mut response = self.store.txn(txn.clone()).await?;
                if let Some(broken) = self.broken {
                    hide(broken, &txn, &mut response);
                }
                Ok(response)
            });
        }
        Box::pin(self.run(txn))
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> BoxFuture<'_, Result<CompactResponse>> {
        self.store.compact(revision, physical)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        self.store.watch(request)
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        Box::pin(self.sent(self.store.lease_grant(request)))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(self.sent(self.store.lease_revoke(id)))
    }

    fn replies(&self) -> Replies {
        // Lanes and settled outcomes shall be at work, also over a store in this process.
        Replies::Lossy
    }

    synod_store::forward!(store: lease_keep_alive, lease_time_to_live, leases, status, alarms, disarm, hash_kv, defragment, members);
}
