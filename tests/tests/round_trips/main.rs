//! What each primitive's operations ask of a store, counted at the contract and compared with the
//! committed `docs/round-trips.md`: alone exactly, under contention within bounds.

mod barriers;
mod bench;
mod locks;
mod queues;
mod transactions;

use bench::{Bench, Sheet};
use synod_store::Replies;
use synod_tests::figures::Figures;

const HEAD: &str = "\
# Round trips

What each operation asks of its store, counted at the store's contract with values of 100 bytes. This
file is made by a test, and every figure in it is compared with what the test finds
(`cargo test -p synod-tests --test round_trips`; CONTRIBUTING.md says how to write it anew).

*certain* is a store in this process, *lossy* one over a network, where an answer can get lost. *in a row* are
the calls that had to wait for one another: the round trips, as calls that are on their way at once take no
longer than one. *compares* and *operations* count all branches of the transactions; *bytes* are those
of keys and values alone. Unless a row says otherwise, the client is in use already: its first call to a store
that can lose answers takes two more, and its first lock begins its session.

The tables *under contention* give the average an operation, all clients together. They vary with who comes first:
what was found when the file was written stands before the most that is allowed.
";

/// The sheets of some primitives on a store of one kind, in the order in which they are printed.
fn measure(replies: Replies, queues: bool) -> Vec<Sheet> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // A store for each, so that no primitive counts what another has left.
    let new = || Bench::new(replies);
    let mut queue = Sheet::new("Queue");
    let mut priority = Sheet::new("Priority queue");
    let mut session = Sheet::new("Client and session");
    let mut mutex = Sheet::new("Mutex");
    let mut rwlock = Sheet::new("Read-write lock");
    let mut semaphore = Sheet::new("Semaphore");
    let mut election = Sheet::new("Election");
    let mut barrier = Sheet::new("Barrier");
    let mut double = Sheet::new("Double barrier");
    let mut stm = Sheet::with_attempts("STM");
    let mut txn = Sheet::new("Transaction");
    if queues {
        runtime.block_on(async {
            queues::queue(&new(), &mut queue).await;
            queues::priority_queue(&new(), &mut priority).await;
            transactions::stm(&new(), &mut stm).await;
            transactions::txn(&new(), &mut txn).await;
        });
        return vec![queue, priority, stm, txn];
    }
    runtime.block_on(async {
        locks::session(&new(), &mut session).await;
        locks::mutex(&new(), &mut mutex).await;
        locks::rwlock(&new(), &mut rwlock).await;
        locks::semaphore(&new(), &mut semaphore).await;
        locks::election(&new(), &mut election).await;
        barriers::barrier(&new(), &mut barrier).await;
        barriers::double_barrier(&new(), &mut double).await;
    });
    vec![session, mutex, rwlock, semaphore, election, barrier, double]
}

/// All sheets.
fn figures() -> Figures {
    let mut figures = Figures::new("round-trips.md", "--test round_trips", HEAD);
    // Mostly they wait; side by side they are done in a third of the time.
    let run = |replies, queues| std::thread::spawn(move || measure(replies, queues));
    let parts = [true, false]
        .map(|queues| [Replies::Certain, Replies::Lossy].map(|replies| run(replies, queues)));
    for part in parts {
        let [certain, lossy] = part.map(|part| part.join().unwrap());
        for (mut certain, lossy) in certain.into_iter().zip(lossy) {
            certain.append(lossy);
            certain.hand_in(&mut figures);
        }
    }
    figures
}

#[test]
fn every_operation_costs_what_is_committed() {
    // The clock stands still for sessions only: some waits of milliseconds go by time that passes.
    Figures::check_made(figures);
}
