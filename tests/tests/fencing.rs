//! The example that the documentation of locks begins with, on every store: what a holder writes that was frozen past
//! its lease is refused.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

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
