//! Runs by lot: each client's calls are let through one at a time in a drawn order, while clients
//! are killed, calls are dropped, answers lost, and watches fall.

use std::sync::atomic::AtomicBool;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use super::*;
use crate::testing::WatchEnd;
use crate::{Error, Session};

/// What all in one run share.
struct Run {
    engine: Arc<dyn Store>,
    count: usize,
    go: bool,
    stop: AtomicBool,
    passes: AtomicUsize,
}

/// How a participant behaves, by lot.
#[derive(Clone, Copy)]
enum Whim {
    Steady,
    BowsOut,
    Drops,
    LeavesSoon,
    /// Its process is killed when it has entered.
    Dies,
}

fn whim(lot: &mut StdRng) -> Whim {
    match lot.random_range(0..12) {
        0 => Whim::BowsOut,
        1 => Whim::Drops,
        2 => Whim::LeavesSoon,
        3 => Whim::Dies,
        _ => Whim::Steady,
    }
}

/// One participant: enters and leaves until told to stop; after the loss of its session it is
/// another one.
async fn participant(run: Arc<Run>, client: Client, seed: u64) {
    let mut lot = StdRng::seed_from_u64(seed);
    let soon = Duration::from_millis(5);
    let mut session: Option<Session> = None;
    let mut guest = barrier(&client, run.count, run.go);
    while !run.stop.load(Ordering::SeqCst) {
        let mine = match session.take().filter(Session::is_alive) {
            Some(mine) => mine,
            None => {
                let Ok(mine) = client.session().await else {
                    continue;
                };
                guest = barrier(&client, run.count, run.go).with_session(&mine);
                mine
            }
        };
        let lease = mine.lease();
        session = Some(mine);
        let whim = whim(&mut lot);
        let entered = match whim {
            Whim::BowsOut => guest.enter_timeout(soon).await,
            Whim::Drops => match tokio::time::timeout(soon, guest.enter()).await {
                Ok(entered) => entered.map(|()| true),
                Err(_) => Ok(false),
            },
            // Bounded, so that it sees when to stop.
            _ => guest.enter_timeout(Duration::from_millis(100)).await,
        };
        match entered {
            Ok(true) => {}
            Ok(false) | Err(Error::TooManyParticipants { .. }) => continue,
            Err(error) if error.is_session_lost() => {
                session = None;
                continue;
            }
            Err(error) => panic!("{seed}: {error}"),
        }
        // One whose lease was revoked a moment ago need not know it yet, and another may have taken
        // its place.
        if run.engine.leases().await.unwrap().leases.contains(&lease) {
            run.passes.fetch_add(1, Ordering::SeqCst);
        }
        if matches!(whim, Whim::Dies) {
            // What the process would do next, it never does.
            // The scheduler may have been first.
            let _ = run.engine.lease_revoke(lease).await;
            session = None;
        }
        let left = match whim {
            Whim::LeavesSoon => guest.leave_timeout(soon).await,
            _ => guest.leave().await.map(|()| true),
        };
        match left {
            Ok(_) => {}
            Err(error) if error.is_session_lost() => session = None,
            Err(error) => panic!("{seed}: {error}"),
        }
    }
}

/// Lets one call at a time through, and does harm now and then.
async fn schedule(run: &Run, stores: &[Faulty], lot: &mut StdRng) {
    for _ in 0..400 {
        let faulty = &stores[lot.random_range(0..stores.len())];
        match lot.random_range(0..40) {
            0 => {
                let ends = [WatchEnd::Compacted, WatchEnd::Closed, WatchEnd::Broken];
                faulty.end_watches(ends[lot.random_range(0..ends.len())]);
            }
            // A store whose answers are certain loses none.
            1 if faulty.replies() == Replies::Lossy => {
                let fault = [Fault::Lose, Fault::Drop, Fault::Late, Fault::Overtaken];
                faulty.script([fault[lot.random_range(0..fault.len())]]);
            }
            2 => {
                let leases = run.engine.leases().await.unwrap().leases;
                if let Some(lease) = leases.get(lot.random_range(0..leases.len().max(1))) {
                    // It may be gone already.
                    let _ = run.engine.lease_revoke(*lease).await;
                }
            }
            _ => faulty.let_one_more_through(),
        }
        tokio::task::yield_now().await;
        if lot.random_range(0..8) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn run(seed: u64, go: bool, replies: Replies) {
    let mut lot = StdRng::seed_from_u64(seed);
    let count = lot.random_range(1..=3);
    let clients = count + lot.random_range(0..=1);
    let run = Arc::new(Run {
        engine: engine(),
        count,
        go,
        stop: AtomicBool::new(false),
        passes: AtomicUsize::new(0),
    });
    let stores: Vec<_> = (0..clients).map(|_| over(&run.engine, replies)).collect();
    let mut tasks = JoinSet::new();
    for (number, faulty) in stores.iter().enumerate() {
        faulty.close_gate(0);
        let seed = seed * 100 + number as u64;
        tasks.spawn(participant(Arc::clone(&run), faulty.client(LONG), seed));
    }
    schedule(&run, &stores, &mut lot).await;
    for faulty in &stores {
        faulty.script([]);
        faulty.open_gate();
        faulty.deliver_late().await;
    }
    // Liveness: once the harm is over, whole rounds go on.
    let before = run.passes.load(Ordering::SeqCst);
    until_async(async || run.passes.load(Ordering::SeqCst) >= before + 3 * count).await;
    run.stop.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    // Whoever went has given up its place.
    until_async(async || places(&run.engine).await == 0).await;
    let full = oracle::check(&run.engine, count, go).await;
    let passes = run.passes.load(Ordering::SeqCst);
    assert!(full.len() * count >= passes, "{seed}: {full:?}, {passes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_rounds_are_whole() {
    for seed in 0..12 {
        for go in [false, true] {
            for replies in [Replies::Certain, Replies::Lossy] {
                let one = run(seed, go, replies);
                let ended = tokio::time::timeout(Duration::from_secs(60), one).await;
                assert!(ended.is_ok(), "seed {seed}, go {go}, {replies:?}");
            }
        }
    }
}
