//! The conformance suite on every store.

use std::sync::Arc;

use synod_store::conformance::{self, Factory};
use synod_tests::etcd::NO_ETCD;
use synod_tests::subjects::EtcdSubject;
use synod_tests::{skip, wait};

/// Runs every case and fails with all that failed.
async fn conforms(name: &str, factory: &Arc<dyn Factory>) {
    let limit = 2 * wait::TEST_LIMIT;
    let report = wait::within(limit, name, conformance::run(factory)).await;
    let report = report.unwrap_or_else(|failure| panic!("{name}: {failure}"));
    println!("{name}: {report}");
    assert_eq!(report.failed(), 0, "{name}: {report}");
    assert!(report.passed() > 200, "{name}: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd1() {
    let Some(factory) = EtcdSubject::new(1) else {
        skip!("{NO_ETCD}");
    };
    conforms("etcd1", &factory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd3() {
    let Some(factory) = EtcdSubject::new(3) else {
        skip!("{NO_ETCD}");
    };
    conforms("etcd3", &factory).await;
}
