//! Every example of the library runs on the embedded store, and ends well.
//!
//! They are found in their folder, so that a new one is run without being listed anywhere.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use synod_tests::process::Process;
use synod_tests::wait;

/// What an example may take at most, when the machine does much else.
const BOUND: Duration = Duration::from_secs(120);

/// The stems of the files in the folder of the examples.
fn examples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/synod/examples");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo
}

#[tokio::test]
async fn every_example_ends_well() {
    let built = cargo()
        .args(["build", "--quiet", "--package", "synod", "--examples"])
        .status()
        .unwrap();
    assert!(built.success());
    for name in examples() {
        println!("==> {name}");
        let mut command = cargo();
        command
            .args(["run", "--quiet", "--package", "synod", "--example", &name])
            .stdin(Stdio::null());
        let mut example = Process::spawn(&mut command, None).unwrap();
        wait::within(BOUND, format!("{name} ends"), async {
            while example.is_running() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let status = example.exit_status().unwrap();
        assert!(status.success(), "{name}: {status}");
    }
}
