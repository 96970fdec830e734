//! One client in two runtimes: the end of one takes nothing from those in the other.

use super::*;
use crate::testing::{Fault, idle_runtime, runtime, soon};

async fn round(one: &DoubleBarrier, other: &DoubleBarrier) {
    let (a, b) = soon(async { tokio::join!(one.enter(), other.enter()) }).await;
    a.and(b).unwrap();
    let (a, b) = soon(async { tokio::join!(one.leave(), other.leave()) }).await;
    a.and(b).unwrap();
}

/// All cases of the tests: the layout, and whether answers can get lost.
fn cases() -> [(bool, Replies); 4] {
    let (certain, lossy) = (Replies::Certain, Replies::Lossy);
    [
        (false, certain),
        (false, lossy),
        (true, certain),
        (true, lossy),
    ]
}

#[test]
fn a_participant_outlives_the_runtime_of_the_first_one() {
    for (go, replies) in cases() {
        for ends in [true, false] {
            let first = if ends { runtime() } else { idle_runtime() };
            let second = runtime();
            let engine = engine();
            let client = over(&engine, replies).client(LONG);
            second.block_on(client.own_session()).unwrap();
            let one = barrier(&client, 2, go);
            let entered = first.block_on(one.enter_timeout(Duration::ZERO));
            assert!(!entered.unwrap());
            let guest = Arc::new(barrier(&client, 2, go));
            let inside = Arc::clone(&guest);
            let waiting = second.spawn(async move { inside.enter().await });
            second.block_on(until_async(async || places(&engine).await == 1));
            // Long enough for the wait to look after itself.
            second.block_on(async { tokio::time::sleep(Duration::from_millis(100)).await });
            let kept = match ends {
                true => {
                    first.shutdown_background();
                    None
                }
                false => Some(first),
            };
            let other = barrier(&over(&engine, replies).client(LONG), 2, go);
            second.block_on(async {
                soon(other.enter()).await.unwrap();
                soon(waiting).await.unwrap().unwrap();
                let (a, b) = soon(async { tokio::join!(guest.leave(), other.leave()) }).await;
                a.and(b).unwrap();
                round(&one, &other).await;
                round(&one, &guest).await;
                until_async(async || places(&engine).await == 0).await;
            });
            drop(kept);
        }
    }
}

#[test]
fn who_goes_with_its_runtime_leaves_no_place() {
    for (go, replies) in cases() {
        for inside in [false, true] {
            let (first, second) = (runtime(), runtime());
            let engine = engine();
            let client = over(&engine, replies).client(LONG);
            second.block_on(client.own_session()).unwrap();
            let guest = barrier(&client, if inside { 1 } else { 2 }, go);
            if inside {
                first.block_on(guest.enter()).unwrap();
                first.shutdown_background();
                // On a thread of no runtime.
                drop(guest);
            } else {
                first.spawn(async move { guest.enter().await });
                second.block_on(until_async(async || places(&engine).await == 1));
                first.shutdown_background();
            }
            second.block_on(until_async(async || places(&engine).await == 0));
            let again = barrier(&client, 1, go);
            second.block_on(soon(again.enter())).unwrap();
            second.block_on(soon(again.leave())).unwrap();
        }
    }
}

#[test]
fn who_entered_in_a_runtime_that_has_ended_leaves_in_another() {
    for (go, replies) in cases() {
        let (first, second) = (runtime(), runtime());
        let engine = engine();
        let client = over(&engine, replies).client(LONG);
        second.block_on(client.own_session()).unwrap();
        let (one, other) = (barrier(&client, 2, go), barrier(&client, 2, go));
        first
            .block_on(async { tokio::try_join!(one.enter(), other.enter()) })
            .unwrap();
        first.shutdown_background();
        second.block_on(async {
            let (a, b) = soon(async { tokio::join!(one.leave(), other.leave()) }).await;
            a.and(b).unwrap();
            assert_eq!(places(&engine).await, 0);
            round(&one, &other).await;
        });
    }
}

/// The session is kept in a runtime with one thread: what may never get on there runs in the caller's.
#[test]
fn a_join_that_goes_with_its_runtime_leaves_no_place() {
    let faults = [Fault::None, Fault::Lose, Fault::Late];
    let cases = faults.map(|fault| [(fault, false), (fault, true)]);
    for (fault, go) in cases.into_iter().flatten() {
        let (first, second) = (runtime(), idle_runtime());
        let engine = engine();
        let faulty = over(&engine, Replies::Lossy);
        let client = faulty.client(LONG);
        second.block_on(client.own_session()).unwrap();
        let guest = barrier(&client, 2, go);
        // So that the records are there, and the next Txn is the join.
        let entered = first.block_on(guest.enter_timeout(Duration::ZERO));
        assert!(!entered.unwrap());
        first.block_on(until_async(async || places(&engine).await == 0));
        let before = faulty.txns();
        faulty.script(std::iter::once(fault).chain(std::iter::repeat_n(Fault::Refuse, 100_000)));
        first.spawn(async move { guest.enter().await });
        second.block_on(async {
            until_async(async || faulty.txns() > before + 2 || places(&engine).await > 0).await;
            first.shutdown_background();
            faulty.script([]);
            let again = barrier(&client, 1, go);
            let alone = async || {
                again
                    .enter_timeout(Duration::ZERO)
                    .await
                    .is_ok_and(|in_it| in_it)
            };
            until_async(alone).await;
            faulty.deliver_late().await;
            soon(again.leave()).await.unwrap();
            until_async(async || places(&engine).await == 0).await;
        });
    }
}
