//! Random histories on the engine and on the model; every answer is compared.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use synod_store::{
    Compare, CompareOp, CompareOperand, DeleteRequest, ErrorKind, Event, Header, Key, KeyRange,
    LeaseGrantRequest, LeaseId, PutLease, PutRequest, PutValue, RangeRequest, Revision, SortOrder,
    SortTarget, Store, Txn, TxnOp, TxnResponse,
};

use super::model::Model;
use super::*;
use crate::journal::Sim;
use crate::writer::Command;
use crate::{EngineOptions, ManualClock, check};

#[derive(Debug, Clone)]
enum Step {
    Txn(Txn),
    Range(RangeRequest),
    Compact(u64, bool),
    Grant(LeaseId, Duration),
    Revoke(LeaseId),
    KeepAlive(LeaseId),
    Advance(Duration),
    Watch(u64),
    Defragment,
    Restart,
}

fn key() -> impl Strategy<Value = Key> {
    prop::sample::select(vec!["a", "aa", "ab", "b", "ba", "c"]).prop_map(Key::from)
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => key().prop_map(KeyRange::One),
        2 => (key(), key()).prop_map(|(a, b)| KeyRange::Between(a, b)),
        1 => key().prop_map(KeyRange::From),
        1 => Just(KeyRange::all()),
    ]
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (1..5_i64).prop_map(|id| LeaseId::new(id).unwrap())
}

fn value() -> impl Strategy<Value = String> {
    "[xyz]{0,2}"
}

fn put() -> impl Strategy<Value = PutRequest> {
    let value = prop_oneof![
        8 => value().prop_map(|value| PutValue::Set(value.into())),
        1 => Just(PutValue::Keep),
    ];
    let lease = prop_oneof![
        8 => Just(PutLease::None),
        3 => lease().prop_map(PutLease::Attach),
        1 => Just(PutLease::Keep),
    ];
    (key(), value, lease, any::<bool>()).prop_map(|(key, value, lease, prev_kv)| PutRequest {
        key,
        value,
        lease,
        prev_kv,
    })
}

/// A revision that is mostly 0, else near the ones that exist.
fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![6 => Just(0), 2 => 0..30_u64].prop_map(Revision)
}

fn range_request() -> impl Strategy<Value = RangeRequest> {
    let bound = || prop::option::weighted(0.1, (0..20_u64).prop_map(Revision));
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::CreateRevision,
        SortTarget::ModRevision,
        SortTarget::Value,
    ]);
    let order = prop::sample::select(vec![
        SortOrder::None,
        SortOrder::None,
        SortOrder::Ascending,
        SortOrder::Descending,
    ]);
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2));
    let bounds = (bound(), bound(), bound(), bound());
    (range(), 0..4_u64, revision(), target, order, flags, bounds).prop_map(
        |(range, limit, revision, sort_target, sort_order, flags, bounds)| RangeRequest {
            range,
            limit,
            revision,
            sort_target,
            sort_order,
            serializable: flags.0,
            keys_only: flags.1,
            count_only: flags.2,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let op = prop::sample::select(vec![
        CompareOp::Equal,
        CompareOp::NotEqual,
        CompareOp::Greater,
        CompareOp::Less,
    ]);
    let operand = prop_oneof![
        (0..3_i64).prop_map(CompareOperand::Version),
        (0..12_i64).prop_map(CompareOperand::CreateRevision),
        (0..12_i64).prop_map(CompareOperand::ModRevision),
        (0..4_i64).prop_map(CompareOperand::Lease),
        value().prop_map(|value| CompareOperand::Value(value.into())),
    ];
    (range(), op, operand).prop_map(|(range, op, operand)| Compare { range, op, operand })
}

fn simple_op() -> impl Strategy<Value = TxnOp> {
    prop_oneof![
        4 => put().prop_map(TxnOp::from),
        2 => (range(), any::<bool>())
            .prop_map(|(range, prev_kv)| DeleteRequest { range, prev_kv }.into()),
        2 => range_request().prop_map(TxnOp::from),
    ]
}

fn txn() -> impl Strategy<Value = Txn> {
    let of = |op: BoxedStrategy<TxnOp>| {
        let ops = || prop::collection::vec(op.clone(), 0..4);
        (prop::collection::vec(compare(), 0..3), ops(), ops()).prop_map(
            |(compares, success, failure)| Txn {
                compares,
                success,
                failure,
            },
        )
    };
    let leaf = of(simple_op().boxed()).boxed();
    leaf.prop_recursive(2, 12, 3, move |inner| {
        let op = prop_oneof![3 => simple_op(), 1 => inner.prop_map(TxnOp::from)];
        of(op.boxed())
    })
}

fn step() -> impl Strategy<Value = Step> {
    let seconds = |range: std::ops::Range<u64>| range.prop_map(Duration::from_secs);
    prop_oneof![
        10 => put().prop_map(|put| Step::Txn(Txn::new().and_then([put]))),
        8 => txn().prop_map(Step::Txn),
        4 => range_request().prop_map(Step::Range),
        2 => (0..30_u64, any::<bool>()).prop_map(|(revision, all)| Step::Compact(revision, all)),
        3 => (lease(), seconds(2..9)).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        1 => lease().prop_map(Step::Revoke),
        1 => lease().prop_map(Step::KeepAlive),
        2 => seconds(1..5).prop_map(Step::Advance),
        2 => (1..30_u64).prop_map(Step::Watch),
        1 => Just(Step::Defragment),
        2 => Just(Step::Restart),
    ]
}

/// The answer with nothing in its header but the revision, as the model gives it.
fn bare(mut answer: TxnResponse) -> TxnResponse {
    answer.header = Header {
        revision: answer.header.revision,
        ..Header::default()
    };
    answer
}

fn kinds<T>(answer: Result<T, synod_store::Error>) -> Result<T, ErrorKind> {
    answer.map_err(|error| error.kind())
}

struct Run {
    model: Model,
    clock: ManualClock,
    sim: Sim,
    store: Engine,
    live: Watch,
    seen: Vec<Event>,
}

impl Run {
    async fn new() -> Run {
        let clock = ManualClock::new();
        let sim = Sim::default();
        let store = Run::open(&sim, &clock);
        let live = Run::watch(&store, Revision::ZERO).await;
        Run {
            model: Model::new(),
            clock,
            sim,
            store,
            live,
            seen: Vec::new(),
        }
    }

    fn open(sim: &Sim, clock: &ManualClock) -> Engine {
        let mut options = EngineOptions::file("/d").with_clock(Arc::new(clock.clone()));
        options.journal.segment_bytes = 8 << 10;
        Engine::open_in(sim.clone(), options).unwrap()
    }

    async fn watch(store: &Engine, start: Revision) -> Watch {
        let request = WatchRequest::new(KeyRange::all()).with_prev_kv();
        store.watch(request.starting_at(start)).await.unwrap()
    }

    /// Everything that a watch has to say up to now.
    async fn drain(&self, watch: &mut Watch) -> Result<Vec<Event>, Revision> {
        watch.request_progress();
        let mut events: Vec<Event> = Vec::new();
        loop {
            match next(watch).await {
                WatchItem::Events(batch) => {
                    let first = batch.events[0].kv.mod_revision;
                    let last = events.last().map(|event| event.kv.mod_revision);
                    assert!(
                        last.is_none_or(|last| last < first),
                        "a revision came in parts"
                    );
                    assert!(batch.events.last().unwrap().kv.mod_revision <= batch.revision);
                    events.extend(batch.events);
                }
                WatchItem::Progress(revision) => {
                    assert_eq!(revision.0, self.model.head());
                    return Ok(events);
                }
                WatchItem::Compacted { compact_revision } => return Err(compact_revision),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn settle(&self) {
        let shared = self.store.shared();
        shared
            .ask(0, |reply| Command::Settle { reply })
            .await
            .unwrap();
    }

    async fn step(&mut self, step: Step) {
        let store = self.store.clone();
        match step {
            Step::Txn(txn) => {
                let expected = match check::txn(&txn, &store.shared().options.limits) {
                    Ok(_) => self.model.txn(&txn),
                    Err(error) => Err(error.kind()),
                };
                assert_eq!(kinds(store.txn(txn).await).map(bare), expected);
            }
            Step::Range(request) => {
                let expected = self.model.range(&request);
                let found = kinds(store.range(request).await).map(|mut found| {
                    found.header = Header {
                        revision: found.header.revision,
                        ..Header::default()
                    };
                    found
                });
                assert_eq!(found, expected);
            }
            Step::Compact(revision, physical) => {
                let expected = self.model.compact(revision);
                let done = kinds(store.compact(Revision(revision), physical).await);
                assert_eq!(
                    done.map(|done| assert_eq!(done.header.revision.0, self.model.head())),
                    expected
                );
            }
            Step::Grant(id, ttl) => {
                let expected = self.model.grant(id, ttl);
                let request = LeaseGrantRequest::new(ttl).with_id(id);
                assert_eq!(
                    kinds(store.lease_grant(request).await).map(|_| ()),
                    expected
                );
            }
            Step::Revoke(id) => {
                let expected = self.model.revoke(id).map(|()| self.model.head());
                let revoked = kinds(store.lease_revoke(id).await);
                assert_eq!(revoked.map(|revoked| revoked.header.revision.0), expected);
            }
            Step::KeepAlive(id) => {
                let expected = self.model.keep_alive(id);
                assert_eq!(
                    kinds(store.lease_keep_alive(id).await).map(|_| ()),
                    expected
                );
            }
            Step::Advance(by) => {
                self.model.advance(by);
                self.clock.advance(by);
                self.settle().await;
            }
            Step::Watch(start) => {
                let start = start.min(self.model.head() + 1);
                let mut watch = Run::watch(&store, Revision(start)).await;
                let compacted = u64::try_from(self.model.compacted).unwrap_or(0);
                let expected = if start < compacted {
                    Err(Revision(compacted))
                } else {
                    Ok(self.model.history(start))
                };
                assert_eq!(self.drain(&mut watch).await, expected);
            }
            Step::Defragment => store.defragment().await.unwrap(),
            Step::Restart => {
                self.catch_up().await;
                store.close().await.unwrap();
                let before = (self.store.stats(), self.sim.clone());
                self.store = Run::open(&self.sim, &self.clock);
                self.model.restart();
                // What was compacted may not have been pruned before.
                assert_eq!(self.store.stats().keys, before.0.keys);
                assert_eq!(self.store.stats().live_bytes, before.0.live_bytes);
                self.live = Run::watch(&self.store, Revision::ZERO).await;
            }
        }
        self.check().await;
    }

    async fn catch_up(&mut self) {
        let mut live = std::mem::replace(
            &mut self.live,
            Run::watch(&self.store, Revision::ZERO).await,
        );
        let events = self.drain(&mut live).await.unwrap();
        self.live = live;
        self.seen.extend(events);
    }

    async fn check(&self) {
        let status = self.store.status().await.unwrap();
        assert_eq!(status.header.revision.0, self.model.head());
        for (id, lease) in &self.model.leases {
            let found = self.store.lease_time_to_live(*id, false).await.unwrap();
            assert_eq!(found.remaining, Some(lease.deadline - self.model.now));
            assert_eq!(found.granted, lease.ttl);
        }
        assert_eq!(self.store.stats().leases as usize, self.model.leases.len());
    }

    /// The watch that stood all the time saw everything.
    async fn finish(mut self) {
        self.catch_up().await;
        // It is told each pair before, compacted later or not.
        let all: Vec<Event> = self.model.events.values().flatten().cloned().collect();
        assert_eq!(self.seen, all);
        for revision in 1..=self.model.head() {
            let request = RangeRequest::new(KeyRange::all()).at(Revision(revision));
            let expected = self.model.range(&request).map(|found| found.kvs);
            assert_eq!(
                kinds(self.store.range(request).await).map(|found| found.kvs),
                expected
            );
        }
    }
}

proptest! {
    #[test]
    fn every_answer_is_the_models(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new().await;
            for step in steps {
                run.step(step).await;
            }
            run.finish().await;
        });
    }
}
