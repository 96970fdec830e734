//! Each call to the disk fails, in turn; and a disk that fills up.

use synod_store::{Applied, ErrorKind, PutRequest, Revision, Store};

use super::super::*;
use super::images::object;
use super::workload::{TURNS, live, look, open};
use crate::journal::Sim;

#[tokio::test]
async fn after_any_failed_call_nothing_is_acknowledged_that_does_not_hold() {
    let calls = {
        let sim = Sim::default();
        live(&sim, TURNS).await.1.unwrap();
        sim.ops()
    };
    let (mut failed, mut poisoned, mut harmless, mut unopened) = (0, 0, 0, 0);
    let mut refused = 0;
    for call in 0..calls {
        let sim = Sim::default();
        sim.fail_call(call);
        let (story, outcome) = live(&sim, TURNS).await;
        if !sim.has_failed() {
            // How the calls of a snapshot and of appends mix differs from run to run.
            continue;
        }
        failed += 1;
        match &outcome {
            Ok(()) => harmless += 1,
            // It could not even be opened; whatever the reason, it can be the next time.
            Err(_) if story.marks.len() == 1 => unopened += 1,
            // The log was not touched: the store goes on.
            Err(error) if error.message().starts_with("the next file of the log") => {
                assert_eq!(
                    (error.kind(), error.applied()),
                    (ErrorKind::Other, Applied::No),
                    "call {call}: {error}"
                );
                refused += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Poisoned, "call {call}: {error}");
                assert!(!error.to_string().is_empty());
                poisoned += 1;
            }
        }
        // What was asked for last may be there or not.
        let last = story.last();
        for (how, image) in [("power lost", sim.power_loss()), ("killed", sim.copy())] {
            let store = open(&image).unwrap_or_else(|e| panic!("call {call} failed, {how}: {e}"));
            let seen = look(&store, Revision::ZERO).await;
            let how = format!("call {call} failed, {how}");
            assert!(seen.revision >= last.revision, "{how}: lost");
            for (at, pairs) in &seen.pairs {
                if let Some(known) = story.pairs.get(at) {
                    assert_eq!(known, pairs, "{how}, revision {at}");
                }
            }
            assert_eq!(put(&store, "next", "1").await, seen.revision.next());
        }
        if outcome.is_ok() {
            assert_eq!(
                object(&story, &sim.power_loss(), (last, last)).await,
                None,
                "{call}"
            );
        }
    }
    println!(
        "engine: {failed} of {calls} calls failed in turn, {poisoned} stopped it, {refused} refused a \
         group, {harmless} did no harm, {unopened} kept it from being opened; \
         acknowledged lost 0"
    );
    assert!(
        failed > calls * 8 / 10 && poisoned > 50 && refused > 5,
        "{failed}, {poisoned}, {refused}"
    );
}

#[tokio::test]
async fn a_store_that_failed_says_so_to_everybody_until_it_is_opened_again() {
    let sim = Sim::default();
    let store = open(&sim).unwrap();
    put(&store, "k", "1").await;
    // The write goes well, its sync does not.
    sim.fail_call(1);
    let error = store.put(PutRequest::new("k", "2")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::Poisoned, Applied::Maybe)
    );
    for _ in 0..3 {
        let error = store.put(PutRequest::new("k", "3")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.applied()),
            (ErrorKind::Poisoned, Applied::No)
        );
        assert!(
            error.to_string().contains("open"),
            "says the way out: {error}"
        );
    }
    assert!(!store.status().await.unwrap().errors.is_empty());
    let calls = sim.ops();
    drop(store);
    assert_eq!(sim.ops(), calls, "a failed sync is not tried again");
    let store = open(&sim.power_loss()).unwrap();
    assert_eq!(look(&store, Revision::ZERO).await.revision, Revision(2));
}

#[tokio::test]
async fn a_full_disk_refuses_puts_and_loses_nothing() {
    let sim = Sim::default();
    let store = open(&sim).unwrap();
    sim.set_capacity(Some(12 << 10));
    let mut last = Revision(1);
    let error = loop {
        match store.put(PutRequest::new("k", "v".repeat(300))).await {
            Ok(answer) => last = answer.header.revision,
            Err(error) => break error,
        }
        assert!(last < Revision(1_000), "the disk never fills up");
    };
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::NoSpace, Applied::No),
        "{error}"
    );
    let seen = look(&store, Revision::ZERO).await;
    assert_eq!(seen.revision, last);
    for image in [sim.power_loss(), sim.copy()] {
        let store = open(&image).unwrap();
        assert_eq!(look(&store, Revision::ZERO).await.pairs, seen.pairs);
    }
    sim.set_capacity(None);
    while store.put(PutRequest::new("k", "again")).await.is_err() {
        tokio::task::yield_now().await;
    }
    drop(store);
    let store = open(&sim.power_loss()).unwrap();
    assert!(look(&store, Revision::ZERO).await.revision > last);
}
