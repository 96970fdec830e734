//! Real mutations: a store between the workloads and an embedded one breaks a protocol on purpose, and
//! the checker of that primitive objects; without a mutation nobody does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use synod_chaos::check::{Finding, check};
use synod_chaos::history::{Log, read_all};
use synod_chaos::mangle::{Break, Mangle};
use synod_chaos::primitive::Primitive;
use synod_chaos::record::Recorder;
use synod_chaos::work::{Work, client, open_accounts};
use synod_engine::{Engine, EngineOptions};
use synod_store::Store;
use synod_tests::wait::{self, TEST_LIMIT};

const TTL: Duration = Duration::from_secs(2);

/// How many operations have to show that nobody objects to what is right.
const ENOUGH: usize = 500;

/// What each mutation breaks.
fn primitive(broken: Break) -> Primitive {
    match broken {
        Break::QueueLoses | Break::QueueDoubles | Break::QueueRepeats => Primitive::Queue,
        Break::PriorityHasty => Primitive::PriorityQueue,
        Break::AckForgotten => Primitive::Delivery,
        Break::MutexUnfenced | Break::MutexCrowded => Primitive::Mutex,
        Break::RwlockCrowded => Primitive::Rwlock,
        Break::SemaphoreCrowded => Primitive::Semaphore,
        Break::ElectionCrowded => Primitive::Election,
        Break::BarrierLeaks => Primitive::Barrier,
        Break::DoubleBarrierHasty => Primitive::DoubleBarrier,
        Break::StmUnchecked | Break::StmUnread => Primitive::Stm,
        Break::TxnUnchecked | Break::Panics => Primitive::Txn,
    }
}

/// Four clients at work for a while, and what the checkers say.
async fn round(broken: Option<Break>, primitives: &[Primitive], time: Duration) -> Vec<Finding> {
    let directory = tempfile::tempdir().unwrap();
    let engine: Arc<dyn Store> = Arc::new(Engine::open(EngineOptions::memory()).unwrap());
    let recorder = Recorder::begin(Arc::clone(&engine)).await.unwrap();
    open_accounts(&client(Arc::clone(&engine), "runner", TTL))
        .await
        .unwrap();
    let begin = |index: u32, primitives: &[Primitive]| {
        let name = format!("w{index}.0");
        let store = Arc::new(Mangle::new(Arc::clone(&engine), broken));
        let log = Log::create(&directory.path().join(format!("{name}.jsonl"))).unwrap();
        Work::begin(
            client(store, &name, TTL),
            log,
            &name,
            index,
            index.into(),
            TTL,
            primitives,
        )
    };
    let workers: Vec<Work> = (0..4).map(|index| begin(index, primitives)).collect();
    // Work is a matter of time here; what is to show that all is well has to be enough, too.
    tokio::time::sleep(time).await;
    if broken.is_none() {
        let done = || read_all(directory.path()).unwrap().len();
        wait::until("enough operations", async || done() > ENOUGH).await;
    }
    let ends = workers.into_iter().map(Work::end);
    let ended = futures_util::future::join_all(ends).await;
    if broken.is_none() {
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    }
    let drain = begin(9, &[]);
    drain.drain(primitives).await;
    drain.end().await.unwrap();
    recorder.reach(&*engine).await.unwrap();
    let history = read_all(directory.path()).unwrap();
    check(&history, &recorder.record(), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mutation_nobody_objects() {
    let findings = round(None, &Primitive::ALL, Duration::from_secs(5)).await;
    assert_eq!(findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutation_is_objected_to() {
    let begun = Instant::now();
    // All at once: they sleep for most of the time.
    let mut rounds = tokio::task::JoinSet::new();
    // A panic is no finding of a checker but the end of its process: `tests/round.rs` looks at that.
    let all = Break::value_variants().iter();
    for broken in all.filter(|broken| **broken != Break::Panics) {
        rounds.spawn(async move {
            let own = primitive(*broken);
            // Whether it shows in one round depends on who meets whom, and on how much they do.
            while begun.elapsed() < TEST_LIMIT {
                let findings = round(Some(*broken), &[own], Duration::from_secs(4)).await;
                if findings.iter().any(|finding| finding.primitive == own) {
                    return None;
                }
            }
            eprintln!("{broken:?}: nobody objects");
            Some(*broken)
        });
    }
    let missed: Vec<Break> = rounds.join_all().await.into_iter().flatten().collect();
    assert_eq!(missed, [], "not objected to");
}
