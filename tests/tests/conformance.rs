//! The conformance suite on every store. With `SYNOD_CASE=NAME`, only the cases whose names contain
//! it, each on a store of its own.

use std::sync::Arc;

use synod_store::conformance::{self, Factory, Outcome};
use synod_tests::etcd::NO_ETCD;
use synod_tests::{skip, subjects, wait};

/// Runs every case and fails with all that failed.
async fn conforms(name: &str) {
    let Some(factory) = subjects::by_name(name) else {
        skip!("{NO_ETCD}");
    };
    if let Ok(wanted) = std::env::var("SYNOD_CASE") {
        return some(name, &factory, &wanted).await;
    }
    let limit = 2 * wait::TEST_LIMIT;
    let report = wait::within(limit, name, conformance::run(&factory)).await;
    let report = report.unwrap_or_else(|failure| panic!("{name}: {failure}"));
    println!("{name}: {report}");
    assert_eq!(report.failed(), 0, "{name}: {report}");
    assert!(report.passed() > 280, "{name}: {report}");
}

async fn some(name: &str, factory: &Arc<dyn Factory>, wanted: &str) {
    let cases = conformance::cases();
    let cases = cases.iter().filter(|case| case.name.contains(wanted));
    let mut failed = Vec::new();
    for case in cases {
        let outcome = conformance::run_case(factory, case).await;
        println!("{name}: {}: {outcome:?}", case.name);
        if !matches!(outcome, Ok(Outcome::Passed)) {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "{name}: {failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    conforms("memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file() {
    conforms("file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace() {
    conforms("namespace").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn served() {
    conforms("served").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn served_file() {
    conforms("served_file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn serve() {
    conforms("serve").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd1() {
    conforms("etcd1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd3() {
    conforms("etcd3").await;
}
