//! Random histories on two stores at once, with every answer compared.
//!
//! `SYNOD_HISTORIES=N` plays N histories a pair instead of a few; `SYNOD_SEED=N` begins with
//! another seed than 0. A difference names its seed and a short history that shows it.

use std::sync::Arc;

use synod_store::conformance::Factory;
use synod_store::conformance::differential::{Side, Tally, compare};
use synod_tests::etcd::NO_ETCD;
use synod_tests::{skip, subjects, wait};

/// How many steps a history has.
const STEPS: usize = 60;

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => otherwise,
    }
}

/// Plays histories on two stores.
async fn agree(left: &str, right: &str, histories: u64) {
    let (Some(of_left), Some(of_right)) = (subjects::by_name(left), subjects::by_name(right))
    else {
        skip!("{NO_ETCD}");
    };
    let histories = number("SYNOD_HISTORIES", histories);
    let first = number("SYNOD_SEED", 0);
    let all = play((left, of_left), (right, of_right), first..first + histories);
    let limit =
        wait::TEST_LIMIT + wait::PATIENCE * u32::try_from(histories).expect("few histories");
    let tally = wait::within(limit, format!("{left} and {right}"), all).await;
    println!("{left} and {right}: {histories} histories, {tally:?}");
    assert!(
        tally.answers as u64 > 50 * histories
            && tally.events as u64 > 15 * histories
            && tally.revisions > 15 * histories,
        "too little happened: {tally:?}"
    );
}

async fn play(
    left: (&str, Arc<dyn Factory>),
    right: (&str, Arc<dyn Factory>),
    seeds: std::ops::Range<u64>,
) -> Tally {
    let of_left = left.1.fresh().await.expect("a store");
    let of_right = right.1.fresh().await.expect("a store");
    let side = |name, instance, factory| Side {
        name,
        instance,
        quirks: Factory::quirks(factory),
    };
    let left = side(left.0, &of_left, &*left.1);
    let right = side(right.0, &of_right, &*right.1);
    let mut tally = Tally::default();
    for seed in seeds {
        match compare(&left, &right, seed, STEPS).await {
            Ok(more) => tally.add(more),
            Err(difference) => panic!("{difference}"),
        }
    }
    tally
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_file() {
    agree("memory", "file", 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_etcd() {
    agree("memory", "etcd1", 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_and_etcd() {
    agree("file", "etcd1", 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn served_and_etcd() {
    agree("served_file", "etcd1", 30).await;
}
