//! A short round on a real etcd of three nodes: all primitives, a few faults. `SYNOD_CHAOS_MINUTES` makes
//! it longer, with all faults; `SYNOD_CHAOS_SEED` chooses the seed.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use synod_chaos::run::Disagree;
use synod_tests::etcd::NO_ETCD;
use synod_tests::process::Process;
use synod_tests::skip;
use synod_tests::wait::PATIENCE;

const BINARY: &str = env!("CARGO_BIN_EXE_synod-chaos");

/// The faults of the short round, each of which comes once.
const FAULTS: &str = "kill-leader,partition-one-way,lost-reply,compaction,kill-client,pause-client";

fn read(mut from: impl std::io::Read + Send + 'static) -> tokio::task::JoinHandle<String> {
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    })
}

/// One round: how it ended, what it printed and what it said meanwhile.
async fn round(etcd: &Path, seed: u64) -> (ExitStatus, String, String) {
    let keep = tempfile::tempdir().unwrap();
    let minutes = std::env::var("SYNOD_CHAOS_MINUTES").ok();
    let mut command = std::process::Command::new(BINARY);
    command
        .args(["--output", "json", "--seed", &seed.to_string()])
        // On a busy machine everything takes long; it must happen all the same.
        .args(["--patience", &PATIENCE.as_secs().to_string()])
        .arg("--etcd")
        .arg(etcd)
        .arg("--keep")
        .arg(keep.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match &minutes {
        Some(minutes) => command.args(["--minutes", minutes]),
        None => command.args(["--minutes", "0.5", "--fault", FAULTS]),
    };
    let mut process = Process::spawn(&mut command, None).unwrap();
    let stdout = process.child().stdout.take().unwrap();
    let stderr = process.child().stderr.take().unwrap();
    let (out, progress) = (read(stdout), read(stderr));
    let minutes: f64 = minutes.map_or(1.0, |minutes| minutes.parse().unwrap());
    let status = process
        .wait(Duration::from_secs_f64(240.0 + minutes * 60.0))
        .await;
    let (out, progress) = (out.await.unwrap(), progress.await.unwrap());
    if !status.success() {
        // What it found would go with the temporary directory.
        let _ = keep.keep();
    }
    (status, out, progress)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_round_loses_doubles_and_violates_nothing() {
    let Some(etcd) = synod_tests::etcd::binary() else {
        skip!("{NO_ETCD}");
    };
    let seed = std::env::var("SYNOD_CHAOS_SEED");
    let seed: u64 = seed.map_or(5, |seed| seed.parse().unwrap());
    // An etcd that has lost committed changes of its own says nothing about its clients: another one is asked.
    let (mut status, mut out, mut progress) = round(&etcd, seed).await;
    for again in 1..3 {
        if status.code() != Some(Disagree::EXIT_CODE.into()) {
            break;
        }
        println!("{progress}\nonce more: {Disagree}");
        (status, out, progress) = round(&etcd, seed + again).await;
    }
    assert!(status.success(), "{status}\n{progress}");
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["passed"], true, "{progress}");
    let primitives: std::collections::BTreeSet<&str> = result["cells"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|cell| cell["primitive"].as_str())
        .collect();
    assert_eq!(primitives.len(), 11, "{primitives:?}");
    // Each of the faults came, or it is said why it cannot come here.
    let fired = result["faults"].as_array().unwrap();
    for fault in FAULTS.split(',') {
        let came = fired.iter().any(|name| name == fault);
        assert!(
            came || !result["skipped"][fault].is_null(),
            "{fault} did not come: {result}"
        );
    }
}

/// What a short run says in which all workers are broken in one way; it must fail.
async fn broken(primitive: &str, name: &str) -> Option<String> {
    let etcd = synod_tests::etcd::binary()?;
    let keep = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(BINARY);
    command
        .args(["--seed", "1", "--minutes", "0.05", "--nodes", "1"])
        .args(["--fault", "lost-reply"])
        .args(["--primitive", primitive, "--break", name, "--etcd"])
        .arg(etcd)
        .arg("--keep")
        .arg(keep.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command, None).unwrap();
    let stdout = process.child().stdout.take().unwrap();
    let stderr = process.child().stderr.take().unwrap();
    let (out, errors) = (read(stdout), read(stderr));
    let status = process.wait(Duration::from_secs(180)).await;
    let text = out.await.unwrap() + &errors.await.unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(
        text.starts_with("seed 1: cargo xtask chaos --seed 1"),
        "{text}"
    );
    assert!(text.contains("again: cargo xtask chaos --seed 1"), "{text}");
    Some(text)
}

/// A protocol that is broken in the workers is noticed by the whole chain: processes, record, checkers.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_protocol_fails_the_run() {
    let Some(text) = broken("mutex", "mutex-unfenced").await else {
        skip!("{NO_ETCD}");
    };
    assert!(text.contains("a token of the past was accepted"), "{text}");
}

/// So is a panic in a task of a worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_worker_fails_the_run() {
    let Some(text) = broken("txn", "panics").await else {
        skip!("{NO_ETCD}");
    };
    assert!(text.contains("ended by itself (signal: 6"), "{text}");
}
