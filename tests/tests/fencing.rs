//! The example that the documentation of locks begins with, on every store: what a holder writes that was frozen past
//! its lease is refused. And the same with a real process, which is stopped and goes on later, on the stores that
//! processes can share.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use synod::Client;
use synod::txn::{get, put};
use synod_tests::target::Served;
use synod_tests::wait;
use synod_tests::{etcd_or_skip, process::Process};

/// The example's program, built once.
fn program() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--package",
            "synod",
            "--example",
            "fencing",
        ])
        .status()
        .unwrap();
    assert!(built.success());
    // Beside this test's own directory, `deps`.
    let deps = std::env::current_exe().unwrap();
    deps.parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples")
        .join("fencing")
}

async fn refused_on(url: &str) {
    let mut command = Command::new(program());
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut example = Process::spawn(&mut command, None).unwrap();
    let mut stdout = example.child().stdout.take().unwrap();
    let said = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).map(|_| said)
    });
    let status = example.wait(Duration::from_secs(60)).await;
    let said = wait::soon("what it said", said).await.unwrap().unwrap();
    assert!(status.success(), "{url}: {said}");
    for line in [
        "the ledger refuses the late write: token ",
        "the store refuses the late write",
        "its guard says: ",
        "the second holder's writes stand",
        "all done",
    ] {
        assert!(
            said.lines().any(|said| said.starts_with(line)),
            "{url}: no {line:?} in\n{said}"
        );
    }
}

/// A process takes the lock and is stopped; its lease runs out, or is `revoked`; another takes the lock and writes; the first
/// goes on, and its write is refused.
async fn stopped_on(url: &str, revoked: bool) {
    let mut command = Command::new(program());
    command.args([url, "hold"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = Process::spawn(&mut command, None).unwrap();
    let mut stdin = holder.child().stdin.take().unwrap();
    let mut stdout = BufReader::new(holder.child().stdout.take().unwrap());
    let first = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        stdout.read_line(&mut line).map(|_| (line, stdout))
    });
    let (line, mut stdout) = wait::soon("the lock", first).await.unwrap().unwrap();
    let token = line.trim().rsplit(' ').next().unwrap();
    let token: u64 = token.parse().unwrap();
    holder.pause();

    let client = Client::connect(url).await.unwrap();
    let mutex = client.mutex("example/ledger");
    if revoked {
        let holder = mutex.holder().await.unwrap();
        // It may have run out already.
        if let Some(holder) = holder {
            let _ = client.store().lease_revoke(holder.lease.unwrap()).await;
        }
    }
    let guard = wait::soon("the lock of the stopped one", mutex.lock());
    let guard = guard.await.unwrap();
    assert!(guard.fencing_token() > token);
    let write = guard
        .txn()
        .and_then([put("example/ledger-owner", "second")]);
    assert!(write.await.unwrap().succeeded);

    // What makes it write is there when it goes on: nothing tells it first that time has passed.
    stdin.write_all(b"write\n").unwrap();
    holder.resume();
    let said = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).map(|_| said)
    });
    let status = holder.wait(wait::PATIENCE).await;
    let said = wait::soon("what it said", said).await.unwrap().unwrap();
    assert!(status.success(), "{url}: {said}");
    for line in ["the store refuses the late write", "its guard says: "] {
        assert!(
            said.lines().any(|said| said.starts_with(line)),
            "{url}: no {line:?} in\n{said}"
        );
    }
    let read = client.txn().and_then([get("example/ledger-owner")]);
    let read = read.await.unwrap();
    assert_eq!(read.range(0).unwrap().kvs[0].value, "second");
    guard.unlock().await.unwrap();
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_on_a_server() {
    let served = Served::start().await;
    for revoked in [false, true] {
        stopped_on(&served.url(), revoked).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_on_etcd() {
    let etcd = etcd_or_skip!(1);
    for revoked in [false, true] {
        stopped_on(&etcd.url(), revoked).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    refused_on("memory:").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file() {
    let dir = tempfile::tempdir().unwrap();
    refused_on(&format!("file:{}", dir.path().join("data").display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn served() {
    let served = Served::start().await;
    refused_on(&served.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd() {
    let etcd = etcd_or_skip!(1);
    refused_on(&etcd.url()).await;
}
