//! `synod snapshot`: saved from a running server and from a directory, checked, restored; and what is said when that
//! cannot be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use synod_tests::cli::{Home, finish};
use synod_tests::etcd::etcdctl_binary;
use synod_tests::process::Process;
use synod_tests::{etcd_or_skip, skip, wait};

fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_while_it_runs_and_restored() {
    let home = Home::new();
    for index in 0..20 {
        home.ok(&["queue", "push", &format!("item{index}")]).await;
    }
    let dir = home.path("backups");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("copy");
    fs::write(&file, "an older one").unwrap();
    let path = file.to_str().unwrap();
    let status = home.ok(&["status", "--output", "json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let saved = home.ok(&["snapshot", "save", path]).await;
    let keys = status["keys"].as_u64().unwrap();
    assert!(saved.starts_with(&format!("saved {keys} keys")), "{saved}");
    assert_eq!(names(&dir), ["copy"]);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let told = home
        .ok(&["snapshot", "status", path, "--output", "json"])
        .await;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(keys >= 20);
    assert_eq!(
        (&told["keys"], &told["revision"]),
        (&status["keys"], &status["revision"])
    );
    assert_eq!(told["sha256"].as_str().unwrap().len(), 64);

    let restored = home.path("restored");
    let target = restored.to_str().unwrap();
    let said = home
        .ok(&["snapshot", "restore", path, "--data", target])
        .await;
    assert!(said.starts_with(&format!("restored {keys} keys")), "{said}");
    let addr = format!("file:{target}");
    let length = home.ok(&["queue", "len", "--addr", &addr]).await;
    assert_eq!(length, "20\n");
    let first = home.ok(&["queue", "pop", "--addr", &addr]).await;
    assert_eq!(first, "item0\n");
    home.run(&["snapshot", "restore", path, "--data", target])
        .await
        .assert_failed(1, "cannot restore", &["is not empty"]);
    // Of a directory that nobody uses; of the one that the server uses it is refused.
    let second = dir.join("second");
    home.ok(&[
        "snapshot",
        "save",
        second.to_str().unwrap(),
        "--addr",
        &addr,
    ])
    .await;
    let told = home
        .ok(&["snapshot", "status", second.to_str().unwrap()])
        .await;
    assert!(told.contains("is sound: "), "{told}");
    let used = format!("file:{}", home.data().display());
    home.run(&[
        "snapshot",
        "save",
        dir.join("no").to_str().unwrap(),
        "--addr",
        &used,
    ])
    .await
    .assert_failed(3, "cannot save a copy of", &["in use"]);
    let missing = format!("file:{}", home.path("nothing").display());
    home.run(&[
        "snapshot",
        "save",
        dir.join("no").to_str().unwrap(),
        "--addr",
        &missing,
    ])
    .await
    .assert_failed(2, "cannot save a copy of", &["there is no store in"]);
    assert!(!home.path("nothing").exists());
    assert_eq!(names(&dir), ["copy", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_copies_and_places_that_cannot_be_written() {
    let home = Home::new();
    home.ok(&["queue", "push", "a"]).await;
    let dir = home.path("backups");
    fs::create_dir(&dir).unwrap();
    let copy = dir.join("copy");
    home.ok(&["snapshot", "save", copy.to_str().unwrap()]).await;
    let whole = fs::read(&copy).unwrap();
    let bad = dir.join("bad");
    let target = home.path("target");
    let (bad_path, target_path) = (bad.to_str().unwrap(), target.to_str().unwrap());
    let mut flipped = whole.clone();
    flipped[100] ^= 4;
    for (bytes, words) in [
        (flipped, &["is damaged", "checksum"][..]),
        (
            whole[..whole.len() - 100].to_vec(),
            &["is damaged", "cut short"],
        ),
        (whole[..whole.len() - 512].to_vec(), &["is damaged"]),
        (b"something else".to_vec(), &["is no copy of a Synod store"]),
        (Vec::new(), &["is no copy of a Synod store"]),
    ] {
        fs::write(&bad, bytes).unwrap();
        let ran = home
            .run(&["snapshot", "restore", bad_path, "--data", target_path])
            .await;
        ran.assert_failed(1, "cannot restore", words);
        let ran = home.run(&["snapshot", "status", bad_path]).await;
        ran.assert_failed(1, "cannot use", words);
        assert!(!ran.stderr.contains("synod verify"), "{ran:?}");
        assert!(!target.exists());
    }
    let nowhere = dir.join("none").join("copy");
    home.run(&["snapshot", "save", nowhere.to_str().unwrap()])
        .await
        .assert_failed(1, "cannot write", &["No such file"]);
    home.run(&["snapshot", "save", "x", "--addr", "memory:"])
        .await
        .assert_failed(2, "`synod snapshot save` asks a server", &[]);
    home.run(&["snapshot", "status", bad_path, "--addr", "h:1"])
        .await
        .assert_failed(2, "`synod snapshot status` takes no --addr", &[]);
}

/// A device, a pipe and a link are still there afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_the_place_of_nothing_but_a_file() {
    let home = Home::new();
    home.ok(&["queue", "push", "a"]).await;
    let dir = home.path("backups");
    fs::create_dir(&dir).unwrap();
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    std::os::unix::fs::symlink("/dev/full", at("device")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), mode).unwrap();
    for (file, cause) in [
        (at("device"), "it is a device"),
        (at("pipe"), "it is a pipe"),
        (at("."), "it is a directory"),
    ] {
        home.run(&["snapshot", "save", &file]).await.assert_failed(
            2,
            "cannot write",
            &[cause, "name a regular file"],
        );
    }
    home.run(&["snapshot", "save", "-"]).await.assert_failed(
        2,
        "`-` is no file",
        &["hint: name a file"],
    );
    assert_eq!(names(&dir), ["device", "pipe"]);

    std::os::unix::fs::symlink("copy", at("link")).unwrap();
    for _ in ["missing", "there"] {
        home.ok(&["snapshot", "save", &at("link")]).await;
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(at("copy")).unwrap().is_file());
        home.ok(&["snapshot", "status", &at("copy")]).await;
    }
    assert_eq!(names(&dir), ["copy", "device", "link", "pipe"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_saves_one_too_and_an_etcds_is_told_apart() {
    if etcdctl_binary().is_none() {
        skip!("there is no etcdctl");
    }
    let home = Home::new();
    home.ok(&["queue", "push", "a"]).await;
    let file = home.path("by-etcdctl");
    let mut command = Command::new(etcdctl_binary().unwrap());
    command
        .args(["snapshot", "save"])
        .arg(&file)
        .arg(format!("--endpoints=127.0.0.1:{}", home.port()))
        .env("ETCDCTL_API", "3");
    let ran = finish(&mut command, b"").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = home
        .ok(&["snapshot", "status", file.to_str().unwrap()])
        .await;
    assert!(told.contains("is sound: "), "{told}");

    let etcd = etcd_or_skip!();
    let theirs = home.path("theirs");
    let output = etcd
        .etcdctl(&["snapshot", "save", theirs.to_str().unwrap()])
        .await;
    assert!(output.status.success(), "{output:?}");
    home.run(&["snapshot", "status", theirs.to_str().unwrap()])
        .await
        .assert_failed(1, "cannot use", &["etcdctl snapshot restore"]);
    home.run(&[
        "snapshot",
        "save",
        home.path("x").to_str().unwrap(),
        "--addr",
        &etcd.url(),
    ])
    .await
    .assert_failed(1, "cannot save a copy of", &["etcdctl snapshot save"]);
    assert!(!home.path("x").exists());
}

/// Stopped in the middle, nothing stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cleans_up() {
    use tokio::io::AsyncReadExt;
    let home = Home::new();
    let dir = home.path("backups");
    fs::create_dir(&dir).unwrap();
    // What listens here takes connections and never answers: the save waits for it.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = format!("http://{}", silent.local_addr().unwrap());
    let file = dir.join("copy");
    let mut command = home.command(&["snapshot", "save", file.to_str().unwrap(), "--addr", &addr]);
    let mut process = Process::spawn(&mut command, None).unwrap();
    let (mut stream, _) = wait::soon("a connection", silent.accept()).await.unwrap();
    let mut bytes = [0; 1];
    wait::soon("the first byte", stream.read_exact(&mut bytes))
        .await
        .unwrap();
    process.terminate();
    let status = process.wait(wait::PATIENCE).await;
    assert!(!status.success());
    assert_eq!(names(&dir), Vec::<String>::new());
}
