//! Every floor runs on a real etcd, completes something, and prints what the benchmark's format asks
//! for.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use synod_tests::cli::finish;
use synod_tests::etcd_or_skip;
use synod_tests::wait::PATIENCE;

const CASES: &[&str] = &[
    "queue --case fill --producers 2",
    "queue --case drain --fill-first 300 --dead-first 1100 --consumers 2",
    "queue --case transfer --producers 2 --consumers 2",
    "queue --case transfer --producers 2 --consumers 2 --connections shared",
    "queue --case idle",
    "queue --case batch --tasks 2",
    "priority-queue --case fill --fill-first 10",
    "priority-queue --case drain --fill-first 505",
    "barrier --case release --waiters 3",
    "barrier --case release --waiters 3 --connections shared",
    "double-barrier --case rounds --participants 3",
    "double-barrier --case rounds --participants 3 --variant leader",
    "double-barrier --case rounds --participants 3 --connections shared",
    "lock --case cycle --tasks 3",
    "lock --case cycle --tasks 1",
    "stm --case bank --tasks 3",
    "stm --case bank --tasks 3 --variant two-trips --connections shared",
    "raw --case put --tasks 2",
    "raw --case get",
    "raw --case txn",
    "raw --case batch --batch 128",
];

/// Runs a case for longer and longer until it has completed something, as it may take long on a busy machine.
async fn row(program: &Path, case: &str, url: &str) -> Value {
    let mut time = Duration::from_millis(400);
    loop {
        let row = row_within(program, case, url, time).await;
        if row["operations"] != 0 || time > PATIENCE {
            return row;
        }
        time *= 2;
    }
}

/// Runs a case for so long, and returns its one row.
async fn row_within(program: &Path, case: &str, url: &str, time: Duration) -> Value {
    let time = format!("{}ms", time.as_millis());
    let mut command = Command::new(program);
    command
        .args(case.split(' '))
        .args(["--addr", url, "--duration", &time, "--warm-up", "0s"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let ran = finish(&mut command, b"").await;
    assert_eq!(ran.code, Some(0), "{case}: {ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).expect("one object");
    assert_eq!(report["format"], 1);
    assert_eq!(report["store"]["nodes"], 1);
    let server = report["store"]["server"].as_str().expect("a server");
    assert!(server.starts_with("etcd "), "{server}");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 1);
    rows[0].clone()
}

fn check(case: &str, row: &Value) {
    let mut words = case.split(' ');
    assert_eq!(row["workload"].as_str(), words.next(), "{case}");
    assert_eq!(row["case"].as_str(), words.nth(1), "{case}");
    let operations = row["operations"].as_u64().expect("a number");
    assert!(operations > 0, "{case}: {row}");
    assert_eq!(row["errors"], 0, "{case}: {row}");
    let series = row["series"].as_array().expect("a list");
    let sum: u64 = series.iter().filter_map(Value::as_u64).sum();
    assert_eq!((series.len(), sum), (10, operations), "{case}: {row}");
    let rate = operations as f64 / row["seconds"].as_f64().expect("a number");
    let said = row["per_second"].as_f64().expect("a number");
    assert!((rate - said).abs() <= rate / 100.0, "{case}: {row}");
    let latency = |name: &str| row["latency_us"][name].as_f64().expect("a number");
    assert!(
        latency("p50") > 0.0 && latency("p50") <= latency("p99"),
        "{case}: {row}"
    );
    assert!(latency("p99") <= latency("max"), "{case}: {row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_floor_completes_something() {
    let etcd = etcd_or_skip!();
    let program = Path::new(env!("CARGO_BIN_EXE_synod-floor"));
    for case in CASES {
        check(case, &row(program, case, &etcd.url()).await);
    }
    // All that was there came out, and no more.
    let drain = "queue --case drain --fill-first 7";
    let drained = row_within(program, drain, &etcd.url(), PATIENCE).await;
    assert_eq!(drained["operations"], 7, "{drained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_floor_is_refused() {
    let etcd = etcd_or_skip!();
    for case in [
        "election --case cycle",
        "raw --case nothing",
        "queue --case release",
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synod-floor"));
        command
            .args(case.split(' '))
            .args(["--addr", &etcd.url()])
            .stderr(std::process::Stdio::piped());
        let ran = finish(&mut command, b"").await;
        assert_eq!(ran.code, Some(1), "{case}: {ran:?}");
        assert!(
            ran.stderr.contains("there is no floor of"),
            "{case}: {ran:?}"
        );
    }
}
