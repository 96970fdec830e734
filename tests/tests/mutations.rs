//! The conformance suite and the differential tests find what is wrong: a store that breaks one
//! rule on purpose is caught, by the case that states the rule.

use std::sync::Arc;

use synod_engine::{Engine, EngineOptions};
use synod_store::conformance::differential::{Side, compare};
use synod_store::conformance::{self, Factory, Failure, Instance, Outcome};
use synod_store::{
    BoxFuture, CompactResponse, CompareOp, DeleteRequest, DeleteResponse, EventKind,
    LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, Result, Revision, SortOrder, Store, Txn, TxnOp,
    TxnResponse, Watch, WatchBatch, WatchItem, WatchRequest,
};
use synod_tests::wait;

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The last condition of a transaction is not looked at.
    DropsACompare,
    /// Not equal holds for a missing key's value.
    ComparesMissingValues,
    /// The count is that of what is returned.
    CountsWhatItReturns,
    /// More is said although nothing was cut.
    SaysMoreAtTheLimit,
    /// The values are not left out.
    ForgetsKeysOnly,
    /// A read of the past shows the present.
    ReadsThePresent,
    /// A descending sort ascends.
    SortsUpwards,
    /// The header of a read of the past is the past's.
    AnswersWithOldHeader,
    /// A delete does not return what it deleted.
    ForgetsPrevKvs,
    /// A put does not attach its lease.
    ForgetsLeases,
    /// One revision comes in two batches.
    SplitsARevision,
    /// Events of one revision are in key order.
    SortsEvents,
    /// A delete is not told.
    LosesDeletes,
    /// The first event of a watch from the past is not told.
    LosesTheStart,
    /// An event is told twice.
    RepeatsEvents,
    /// A watch shows pairs before that nobody asked for.
    ShowsPrevKvUnasked,
    /// A watch whose past was compacted begins with what is left.
    HidesCompaction,
    /// A keep-alive of an unknown lease is answered.
    KeepsDeadLeases,
    /// A lease is told to have lived less than was granted.
    GrantsLess,
    /// A compaction of the past again is no error.
    CompactsTwice,
    /// An untaken branch with a duplicate key is not refused.
    ChecksOneBranch,
}

/// Each fault and a case that catches it.
const FAULTS: &[(Fault, &str)] = &[
    (
        Fault::DropsACompare,
        "txn_compare::all_conditions_must_hold",
    ),
    (
        Fault::ComparesMissingValues,
        "txn_compare::the_value_of_a_missing_key_compares_to_nothing",
    ),
    (
        Fault::CountsWhatItReturns,
        "range::a_limit_cuts_and_says_so",
    ),
    (
        Fault::SaysMoreAtTheLimit,
        "range::a_limit_that_cuts_nothing_says_so",
    ),
    (
        Fault::ForgetsKeysOnly,
        "range::keys_only_leaves_out_values_alone",
    ),
    (
        Fault::ReadsThePresent,
        "range::an_old_revision_shows_the_old_state",
    ),
    (Fault::SortsUpwards, "range_sort::values_sort_both_ways"),
    (
        Fault::AnswersWithOldHeader,
        "revisions::a_read_of_an_old_revision_answers_with_the_current_header",
    ),
    (
        Fault::ForgetsPrevKvs,
        "delete::the_pairs_before_come_in_key_order",
    ),
    (Fault::ForgetsLeases, "lease::a_revoke_deletes_all_keys"),
    (
        Fault::SplitsARevision,
        "watch::one_revision_comes_in_one_batch",
    ),
    (
        Fault::SortsEvents,
        "watch::events_of_a_txn_come_in_the_order_of_operations",
    ),
    (
        Fault::LosesDeletes,
        "watch::a_delete_event_has_key_and_revision_only",
    ),
    (
        Fault::LosesTheStart,
        "watch_history::the_start_belongs_to_the_watch",
    ),
    (
        Fault::RepeatsEvents,
        "watch::revisions_come_in_order_without_gap_or_repetition",
    ),
    (
        Fault::ShowsPrevKvUnasked,
        "watch::the_pair_before_does_not_come_unasked",
    ),
    (
        Fault::HidesCompaction,
        "watch_history::a_compacted_start_ends_the_watch",
    ),
    (
        Fault::KeepsDeadLeases,
        "lease::a_keep_alive_of_nothing_is_refused",
    ),
    (Fault::GrantsLess, "lease::the_ttl_asked_for_is_granted"),
    (
        Fault::CompactsTwice,
        "compaction::a_compaction_is_done_once",
    ),
    (
        Fault::ChecksOneBranch,
        "txn::duplicates_are_refused_in_the_branch_not_taken_too",
    ),
];

/// A good store with one fault.
#[derive(Debug)]
struct Faulty {
    store: Engine,
    fault: Fault,
}

impl Faulty {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn spoil_put(&self, put: &mut PutRequest) {
        if self.has(Fault::ForgetsLeases) {
            put.lease = synod_store::PutLease::None;
        }
    }

    fn spoil_txn(&self, txn: &mut Txn) {
        if self.has(Fault::DropsACompare) {
            txn.compares.pop();
        }
        if self.has(Fault::ComparesMissingValues) {
            txn.compares.retain(|compare| {
                compare.op != CompareOp::NotEqual
                    || !matches!(compare.operand, synod_store::CompareOperand::Value(_))
            });
        }
        if self.has(Fault::ChecksOneBranch) && txn.compares.is_empty() {
            txn.failure.clear();
        }
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            match op {
                TxnOp::Put(put) => self.spoil_put(put),
                TxnOp::Txn(txn) => self.spoil_txn(txn),
                TxnOp::Range(_) | TxnOp::Delete(_) => {}
            }
        }
    }

    fn spoil_batch(&self, batch: WatchBatch, from: Revision) -> Vec<WatchItem> {
        let WatchBatch {
            revision,
            mut events,
        } = batch;
        match self.fault {
            Fault::SortsEvents => events.sort_by(|a, b| {
                (a.kv.mod_revision, &a.kv.key).cmp(&(b.kv.mod_revision, &b.kv.key))
            }),
            Fault::LosesDeletes => events.retain(|event| event.kind == EventKind::Put),
            Fault::LosesTheStart => events.retain(|event| event.kv.mod_revision > from),
            Fault::RepeatsEvents if events.len() == 1 => events.extend(events.clone()),
            _ => {}
        }
        let item = |events| WatchItem::Events(WatchBatch { revision, events });
        if self.has(Fault::SplitsARevision) && events.len() > 1 {
            let rest = events.split_off(1);
            return vec![item(events), item(rest)];
        }
        if events.is_empty() {
            return Vec::new();
        }
        vec![item(events)]
    }
}

impl Store for Faulty {
    fn range(&self, mut request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        if self.has(Fault::ForgetsKeysOnly) {
            request.keys_only = false;
        }
        if self.has(Fault::ReadsThePresent) {
            request.revision = Revision::ZERO;
        }
        if self.has(Fault::SortsUpwards) && request.sort_order == SortOrder::Descending {
            request.sort_order = SortOrder::Ascending;
        }
        let (at, limit) = (request.revision, request.limit);
        let asked = self.store.range(request);
        Box::pin(async move {
            let mut response = asked.await?;
            if self.has(Fault::CountsWhatItReturns) {
                response.count = response.kvs.len() as u64;
            }
            if self.has(Fault::SaysMoreAtTheLimit) && response.kvs.len() as u64 == limit {
                response.more = true;
            }
            if self.has(Fault::AnswersWithOldHeader) && !at.is_zero() {
                response.header.revision = at;
            }
            Ok(response)
        })
    }

    fn put(&self, mut request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        self.spoil_put(&mut request);
        self.store.put(request)
    }

    fn delete(&self, mut request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        if self.has(Fault::ForgetsPrevKvs) {
            request.prev_kv = false;
        }
        self.store.delete(request)
    }

    fn txn(&self, mut txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        self.spoil_txn(&mut txn);
        self.store.txn(txn)
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> BoxFuture<'_, Result<CompactResponse>> {
        Box::pin(async move {
            let answer = self.store.compact(revision, physical).await;
            if self.has(Fault::CompactsTwice) && answer.is_err() {
                let header = self.store.status().await?.header;
                return Ok(CompactResponse { header });
            }
            answer
        })
    }

    fn watch(&self, mut request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        if self.has(Fault::ShowsPrevKvUnasked) {
            request.prev_kv = true;
        }
        Box::pin(async move {
            let from = request.start_revision;
            let mut watch = self.store.watch(request.clone()).await?;
            if self.has(Fault::HidesCompaction) && !from.is_zero() {
                let hash = self.store.hash_kv(Revision::ZERO).await?;
                let left = request.starting_at(from.max(hash.compact_revision));
                watch = self.store.watch(left).await?;
            }
            let (header, progress) = (watch.header(), watch.progress_handle());
            let faulty = Faulty {
                store: self.store.clone(),
                fault: self.fault,
            };
            let items = futures_util::StreamExt::flat_map(watch, move |item| {
                let items = match item {
                    Ok(WatchItem::Events(batch)) => faulty.spoil_batch(batch, from),
                    Ok(other) => vec![other],
                    Err(error) => return futures_util::stream::iter(vec![Err(error)]),
                };
                let items: Vec<_> = items.into_iter().map(Ok).collect();
                futures_util::stream::iter(items)
            });
            Ok(Watch::new(header, items, move || progress()))
        })
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        Box::pin(async move {
            let mut answer = self.store.lease_grant(request).await?;
            if self.has(Fault::GrantsLess) {
                answer.ttl -= std::time::Duration::from_secs(1);
            }
            Ok(answer)
        })
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        Box::pin(async move {
            let answer = self.store.lease_keep_alive(id).await;
            if self.has(Fault::KeepsDeadLeases) && answer.is_err() {
                let header = self.store.status().await?.header;
                let ttl = std::time::Duration::ZERO;
                return Ok(LeaseKeepAliveResponse { header, ttl });
            }
            answer
        })
    }

    synod_store::forward!(store: lease_revoke, lease_time_to_live, leases, status, alarms, disarm, hash_kv, defragment, members, replies);
}

#[derive(Debug)]
struct FaultyFactory(Fault);

impl Factory for FaultyFactory {
    fn fresh(&self) -> BoxFuture<'_, Result<Instance, Failure>> {
        Box::pin(async { Ok(faulty(self.0)) })
    }
}

fn memory() -> Engine {
    Engine::open(EngineOptions::memory()).expect("a store in memory")
}

fn faulty(fault: Fault) -> Instance {
    Instance::new(Faulty {
        store: memory(),
        fault,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_caught_by_the_case_that_states_the_rule() {
    let cases = conformance::cases();
    for (fault, name) in FAULTS {
        let case = cases.iter().find(|case| case.name == *name);
        let case = case.unwrap_or_else(|| panic!("no case is called {name}"));
        let factory: Arc<dyn Factory> = Arc::new(FaultyFactory(*fault));
        let outcome = wait::soon(name, conformance::run_case(&factory, case)).await;
        let outcome = outcome.expect("a store in memory");
        assert!(
            matches!(outcome, Outcome::Failed(_)),
            "{fault:?} is not caught by {name}: {outcome:?}"
        );
    }
}

fn side<'a>(name: &'a str, instance: &'a Instance) -> Side<'a> {
    Side {
        name,
        instance,
        quirks: &[],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_caught_by_some_history() {
    let good = Instance::new(memory());
    let good = side("good", &good);
    for (fault, _) in FAULTS {
        let bad = faulty(*fault);
        let bad = side("bad", &bad);
        let mut difference = None;
        for seed in 0..60 {
            let compared = compare(&good, &bad, seed, 60);
            if let Err(found) = wait::within(wait::TEST_LIMIT, "a history", compared).await {
                difference = Some(found);
                break;
            }
        }
        let difference = difference.unwrap_or_else(|| panic!("no history catches {fault:?}"));
        println!("{fault:?} takes {} steps", difference.history.len());
        assert!(difference.history.len() < 60, "{difference}");
    }
}
