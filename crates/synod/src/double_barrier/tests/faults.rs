//! Every answer lost, every request late: a place is taken once or never, and given up.

use super::*;
use crate::testing::{FAULTS, overdue_in_trouble, pass, stops_at_gate, until};
use crate::{Error, Resolution};
use synod_store::PutRequest;

/// One fault at each of the first calls, or two in a row.
fn scripts(calls: usize) -> Vec<Vec<Fault>> {
    let mut scripts = vec![vec![]];
    for first in 0..calls {
        for fault in FAULTS {
            let mut one = vec![Fault::None; first];
            one.push(fault);
            scripts.push(one.clone());
            for second in FAULTS {
                let mut two = one.clone();
                two.push(second);
                scripts.push(two);
            }
        }
    }
    scripts
}

async fn through_a_round(script: Vec<Fault>, go: bool, early: bool) {
    let engine = engine();
    let faulty = over(&engine, Replies::Lossy);
    let healthy = Client::from_store(Arc::clone(&engine));
    let (client, count) = (faulty.client(LONG), 2);
    let (one, other) = (barrier(&client, count, go), barrier(&healthy, count, go));
    faulty.script(script.clone());
    for _ in 0..2 {
        let (a, b) = tokio::join!(one.enter(), other.enter());
        a.and(b)
            .unwrap_or_else(|error| panic!("{script:?}: {error}"));
        if early {
            faulty.deliver_late().await;
        }
        let (a, b) = tokio::join!(one.leave(), other.leave());
        a.and(b)
            .unwrap_or_else(|error| panic!("{script:?}: {error}"));
    }
    faulty.deliver_late().await;
    assert_eq!(places(&engine).await, 0, "{script:?}");
    let full = oracle::check(&engine, count, go).await;
    assert_eq!(full.len(), 2, "{script:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_are_whole_whatever_is_lost() {
    for go in [false, true] {
        for early in [false, true] {
            for script in scripts(7) {
                through_a_round(script, go, early).await;
            }
        }
    }
}

/// Nobody can say what became of the join; but when somebody can, the place is given up.
#[tokio::test]
async fn a_place_that_nobody_knows_of_is_given_up() {
    for go in [false, true] {
        for fault in [Fault::Lose, Fault::Drop, Fault::Late] {
            let engine = engine();
            let faulty = over(&engine, Replies::Lossy);
            let client = faulty.client(LONG);
            let guest = barrier(&client, 2, go);
            // So that lease, lane and records are there, and the next Txn is the join.
            assert!(!guest.enter_timeout(Duration::ZERO).await.unwrap());
            until_async(async || places(&engine).await == 0).await;
            faulty
                .script(std::iter::once(fault).chain(std::iter::repeat_n(Fault::Refuse, 100_000)));
            let error = overdue_in_trouble(&faulty, guest.enter())
                .await
                .unwrap_err();
            faulty.script([]);
            if go {
                assert!(matches!(error, Error::Unknown { .. }), "{error}");
                let token = error.token().unwrap().clone();
                let resolution = client.resolve(&token).await.unwrap();
                assert_ne!(resolution, Resolution::Forgotten);
            } else {
                // To enter again waits until the place is given up.
                assert!(error.is_maybe_committed(), "{error}");
                assert!(!guest.enter_timeout(Duration::ZERO).await.unwrap_or(false));
            }
            faulty.deliver_late().await;
            until_async(async || places(&engine).await == 0).await;
        }
    }
}

/// The round gathers still when its participant bows out: a late copy of the Txn that took the place
/// would take it again, for somebody who is gone.
#[tokio::test]
async fn a_late_copy_takes_no_place_that_was_given_up() {
    for fault in [Fault::Late, Fault::Overtaken, Fault::Lose] {
        for dropped in [false, true] {
            let engine = engine();
            let faulty = over(&engine, Replies::Lossy);
            let client = faulty.client(LONG);
            let guest = barrier(&client, 2, false);
            // So that lease and records are there, and the next Txn is the join.
            assert!(!guest.enter_timeout(Duration::ZERO).await.unwrap());
            faulty.script([fault]);
            if dropped {
                tokio::select! {
                    entered = guest.enter() => panic!("{entered:?}"),
                    () = until_async(async || places(&engine).await == 1) => {}
                }
            } else {
                let moment = Duration::from_millis(30);
                assert!(!guest.enter_timeout(moment).await.unwrap());
            }
            until_async(async || places(&engine).await == 0).await;
            faulty.deliver_late().await;
            assert_eq!(places(&engine).await, 0, "{fault:?}, dropped {dropped}");
            // What it knew is old now, which costs another look and nothing else.
            let other = barrier(&client, 2, false);
            let (one, two) = tokio::join!(guest.enter(), other.enter());
            one.and(two).unwrap();
        }
    }
}

#[tokio::test]
async fn a_call_dropped_at_any_step_leaves_no_place() {
    for go in [false, true] {
        for replies in [Replies::Certain, Replies::Lossy] {
            for step in 0..12 {
                let engine = engine();
                let faulty = over(&engine, replies);
                let client = faulty.client(LONG);
                let guest = barrier(&client, 2, go);
                faulty.close_gate(step);
                let entering = tokio::spawn(async move { guest.enter().await });
                stops_at_gate(&faulty).await;
                entering.abort();
                assert!(entering.await.unwrap_err().is_cancelled());
                faulty.open_gate();
                client.close().await.unwrap();
                assert_eq!(places(&engine).await, 0, "step {step}, go {go}");
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_is_gone_is_reported_within_the_timeout() {
    for go in [false, true] {
        let faulty = Faulty::new();
        let client = faulty.client(LONG);
        let guest = barrier(&client, 2, go);
        assert!(!guest.enter_timeout(Duration::ZERO).await.unwrap());
        faulty.always(Some(Fault::Refuse));
        faulty.end_watches(crate::testing::WatchEnd::Broken);
        let entering = overdue_in_trouble(&faulty, guest.enter());
        let error = entering.await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
}

/// A participant whose call was dropped, and that comes again at once, does not make up a round with
/// the place that it is about to give up.
#[tokio::test]
async fn who_comes_again_at_once_does_not_meet_itself() {
    for go in [false, true] {
        let engine = engine();
        let client = over(&engine, Replies::Lossy);
        let (faulty, client) = (client.clone(), client.client(LONG));
        let guest = barrier(&client, 2, go);
        // So that lease, lane and records are there, and the next Txn is the join.
        assert!(!guest.enter_timeout(Duration::ZERO).await.unwrap());
        tokio::select! {
            entered = guest.enter() => panic!("go {go}: {entered:?}"),
            () = until_async(async || places(&engine).await == 1) => {}
        }
        // Its bowing out is answered at the second time only.
        faulty.script([Fault::Drop]);
        let moment = Duration::from_millis(200);
        let again = guest.enter_timeout(moment).await.unwrap();
        assert!(!again, "go {go}: nobody else is there");
        let other = barrier(&client, 2, go);
        let (one, two) = tokio::join!(guest.enter(), other.enter());
        one.and(two).unwrap();
    }
}

/// A place whose session lives on is given up even if the store could not be reached for a while.
#[tokio::test]
async fn who_could_not_leave_leaves_later() {
    for (go, dropped) in [(false, false), (false, true), (true, false), (true, true)] {
        let engine = engine();
        let faulty = over(&engine, Replies::Lossy);
        let client = faulty.client(LONG);
        let guest = barrier(&client, 1, go);
        guest.enter().await.unwrap();
        faulty.always(Some(Fault::Refuse));
        if dropped {
            drop(guest);
        } else {
            let leaving = overdue_in_trouble(&faulty, guest.leave());
            leaving.await.unwrap_err();
        }
        // Longer than the client waits for an answer.
        pass(LONG * 2).await;
        let calls = faulty.calls();
        until(|| faulty.calls() > calls).await;
        assert_eq!(places(&engine).await, 1);
        faulty.always(None);
        until_async(async || places(&engine).await == 0).await;
    }
}

/// A lease that was revoked ends the session at once, not only at its next renewal.
#[tokio::test]
async fn a_revoked_lease_is_not_used_again() {
    for go in [false, true] {
        for replies in [Replies::Certain, Replies::Lossy] {
            let engine = engine();
            let client = over(&engine, replies).client(LONG);
            let guest = barrier(&client, 1, go);
            guest.enter().await.unwrap();
            let lease = client.own_session().await.unwrap().lease();
            engine.lease_revoke(lease).await.unwrap();
            let left = guest.leave().await;
            assert!(matches!(left, Err(Error::SessionLost)), "go {go}: {left:?}");
            let again = guest.enter().await;
            if let Err(error) = again {
                assert!(matches!(error, Error::SessionLost), "go {go}: {error}");
                guest.enter().await.unwrap();
            }
            guest.leave().await.unwrap();
        }
    }
}

/// A store that refuses to delete the key is asked again, but not without a pause.
#[tokio::test]
async fn giving_up_leaves_a_store_that_refuses_its_rest() {
    let engine = engine();
    let faulty = over(&engine, Replies::Lossy);
    let client = faulty.client(LONG);
    let guest = barrier(&client, 2, true);
    // So that lease and lane are there, and the next Txn is the join.
    assert!(!guest.enter_timeout(Duration::ZERO).await.unwrap());
    until_async(async || places(&engine).await == 0).await;
    faulty.script([Fault::Lose].into_iter().chain([Fault::Refuse; 10_000]));
    let error = overdue_in_trouble(&faulty, guest.enter())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    // The next copy tells what became of it.
    let before = faulty.txns();
    faulty.script([Fault::None].into_iter().chain([Fault::Deny; 2_000]));
    until(|| faulty.txns() >= before + 3).await;
    // In this time all these would be sent by one who does not pause.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let sent = faulty.txns() - before;
    assert!(sent < 200, "{sent}");
    assert_eq!(places(&engine).await, 1);
    faulty.script([]);
    until_async(async || places(&engine).await == 0).await;
}

/// The answer that tells of the own key's end can be that of a later copy: what else was written meanwhile is not to be
/// waited for, as no event comes of it.
#[tokio::test]
async fn who_leaves_after_a_lost_answer_waits_for_nothing_else() {
    let engine = engine();
    let faulty = over(&engine, Replies::Lossy);
    let (client, healthy) = (faulty.client(LONG), Client::from_store(Arc::clone(&engine)));
    let one = barrier(&client, 2, true);
    let other = barrier(&healthy, 2, true);
    let entering = async {
        until_async(async || places(&engine).await == 1).await;
        one.enter().await
    };
    // The other is the lowest, which waits for all.
    let (a, b) = tokio::join!(other.enter(), entering);
    a.and(b).unwrap();
    faulty.script([Fault::Lose]);
    faulty.close_gate(1);
    let leaving = async {
        let left = tokio::time::timeout(Duration::from_secs(15), one.leave()).await;
        left.expect("it waits for an event that does not come")
    };
    let meanwhile = async {
        until_async(async || places(&engine).await == 1).await;
        assert!(faulty.wait_at_gate().await);
        other.leave().await.unwrap();
        assert_eq!(places(&engine).await, 0);
        engine.put(PutRequest::new("x", "y")).await.unwrap();
        faulty.open_gate();
    };
    let (left, ()) = tokio::join!(leaving, meanwhile);
    left.unwrap();
}
