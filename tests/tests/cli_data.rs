//! Data directories that are in use, damaged, none at all, open to others, or on a full disk: what `synod` says
//! then.

use std::path::Path;
use std::process::Command;

use synod_tests::cli::{Home, Served};
use synod_tests::skip;

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use() {
    let home = Home::new();
    let data = home.data().to_str().unwrap().to_owned();
    let _server = Served::start(&home, &["--data", &data, "--listen", "127.0.0.1:0"]).await;
    let ran = home
        .run(&["serve", "--data", &data, "--listen", "127.0.0.1:0"])
        .await;
    ran.assert_failed(
        3,
        "cannot open the data in",
        &["in use", "hint: if that process serves it already"],
    );
    assert!(!ran.stderr.contains("synod serve"), "{ran:?}");
    let ran = home
        .run(&["queue", "len", "--addr", &format!("file:{data}")])
        .await;
    ran.assert_failed(3, "cannot reach file:", &["use", "synod serve"]);
    let ran = home.run(&["verify", &data]).await;
    ran.assert_failed(3, "cannot check", &["use"]);
}

/// The newest log in a data directory.
fn log_file(dir: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files.pop().expect("there are data")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_data_file() {
    let home = Home::new();
    let data = home.data().to_str().unwrap().to_owned();
    let file = format!("file:{data}");
    for _ in 0..3 {
        let values: Vec<String> = (0..50).map(|n| format!("value-{n}")).collect();
        let mut args = vec!["queue", "push", "--addr", &file];
        args.extend(values.iter().map(String::as_str));
        home.ok(&args).await;
    }
    let verified = home.ok(&["verify", &data]).await;
    assert!(verified.contains("150"), "{verified}");
    let json = home.ok(&["verify", &data, "--output", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ok"], true);

    // In the middle, so that it is no torn end, which a crash leaves and which is repaired.
    let path = log_file(&home.data());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = usize::try_from(json["bytes"].as_u64().unwrap()).unwrap() / 2;
    for byte in &mut bytes[middle..middle + 16] {
        *byte ^= 0x5a;
    }
    std::fs::write(&path, bytes).unwrap();

    let ran = home.run(&["verify", &data]).await;
    ran.assert_failed(1, "", &["damaged", "hint: "]);
    let ran = home
        .run(&["serve", "--data", &data, "--listen", "127.0.0.1:0"])
        .await;
    ran.assert_failed(1, "cannot open the data in", &["synod verify"]);
    let ran = home.run(&["queue", "len", "--addr", &file]).await;
    ran.assert_failed(1, "cannot reach file:", &["synod verify"]);
    let ran = home.run(&["queue", "len"]).await;
    ran.assert_failed(
        3,
        "the server in the background did not start",
        &["damaged"],
    );
}

/// Whoever opens the directory is sent to `synod verify`, which says the same and how much is intact.
#[tokio::test(flavor = "multi_thread")]
async fn data_files_that_are_missing_or_were_cut() {
    let home = Home::new();
    let data = home.data().to_str().unwrap().to_owned();
    let file = format!("file:{data}");
    for n in 0..5 {
        let value = format!("value-{n}");
        home.ok(&["queue", "push", "--addr", &file, &value]).await;
    }
    let copy = home.path("copy").to_str().unwrap().to_owned();
    home.ok(&["snapshot", "save", &copy, "--addr", &file]).await;
    let restored = home.path("restored");
    let target = restored.to_str().unwrap().to_owned();
    home.ok(&["snapshot", "restore", &copy, "--data", &target])
        .await;

    let refused = async |dir: &str, words: &[&str]| {
        let ran = home.run(&["verify", dir]).await;
        ran.assert_failed(1, "", &[&["is damaged", "hint: "], words].concat());
        let args = ["serve", "--data", dir, "--listen", "127.0.0.1:0"];
        let ran = home.run(&args).await;
        let told = [&["damaged", "synod verify"], words].concat();
        ran.assert_failed(1, "cannot open the data in", &told);
    };
    let snapshot = std::fs::read_dir(&restored)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "snap"))
        .unwrap();
    let name = snapshot.file_name().unwrap().to_str().unwrap();
    std::fs::remove_file(&snapshot).unwrap();
    refused(&target, &[name, "this snapshot is missing"]).await;

    let log = log_file(&home.data());
    let whole = std::fs::read(&log).unwrap();
    for len in [600, 900] {
        std::fs::write(&log, &whole[..len]).unwrap();
        let words = [
            len.to_string(),
            format!("it was {} bytes long", whole.len()),
        ];
        refused(&data, &[&words[0], &words[1]]).await;
    }
    std::fs::write(&log, &whole).unwrap();

    std::fs::remove_file(home.data().join("FORMAT")).unwrap();
    refused(&data, &["FORMAT", "this file is missing"]).await;
    std::fs::write(home.data().join("FORMAT"), "synod data, format 1\n").unwrap();
    let length = home.ok(&["queue", "len", "--addr", &file]).await;
    assert_eq!(length, "5\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_of_what_is_no_data_directory() {
    let home = Home::new();
    let ran = home.run(&["verify", "/nowhere"]).await;
    ran.assert_failed(2, "cannot check", &["/nowhere"]);
    let empty = home.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let ran = home.run(&["verify", empty.to_str().unwrap()]).await;
    ran.assert_failed(2, "cannot check", &["no Synod data directory"]);
    assert_eq!(
        std::fs::read_dir(&empty).unwrap().count(),
        0,
        "it changes nothing"
    );
}

/// A small file system of its own, for as long as this lives.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// `None` when this user may not mount one here.
    fn mount(path: std::path::PathBuf, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(SmallDisk(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(home.path("small"), "8m") else {
        skip!("mounting a small file system needs root");
    };
    let data = disk.0.join("data");
    let server = Served::start(
        &home,
        &["--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"],
    )
    .await;
    let addr = ["--addr", server.url.as_str()];
    let value = "v".repeat(100_000);
    let mut pushed: usize = 0;
    let failed = loop {
        let ran = home.run(&["queue", "push", &value, addr[0], addr[1]]).await;
        if ran.code != Some(0) {
            break ran;
        }
        pushed += 1;
        assert!(pushed < 200, "20 MB went into 8");
    };
    failed.assert_failed(1, "cannot push", &["space", "hint: "]);
    // What was acknowledged is there, now and after a restart with room.
    let items = home.ok(&["queue", "len", addr[0], addr[1]]).await;
    assert_eq!(items, format!("{pushed}\n"));
    assert_eq!(server.stop().await, Some(0));
    let more = Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(&disk.0)
        .status();
    assert!(more.unwrap().success());
    let server = Served::start(
        &home,
        &["--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"],
    )
    .await;
    let addr = ["--addr", server.url.as_str()];
    let items = home.ok(&["queue", "len", addr[0], addr[1]]).await;
    assert_eq!(items, format!("{pushed}\n"));
    assert_eq!(home.ok(&["queue", "push", "a", addr[0], addr[1]]).await, "");
    drop(server);
}

/// What was there before keeps its modes; who serves it learns who else may touch it.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_others_may_touch() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let data = home.data();
    std::fs::create_dir_all(&data).unwrap();
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let log = home.path("log");
    for (mode, told) in [(0o755, false), (0o777, true)] {
        set(&data, mode);
        let args = ["--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        let errors = std::fs::File::create(&log).unwrap();
        let served = Served::start_logging(&home, &args, errors.into()).await;
        let said = std::fs::read_to_string(&log).unwrap();
        for words in ["replace or remove files", "open files of the store"] {
            assert_eq!(said.contains(words), told, "{mode:o}: {said}");
        }
        assert_eq!(served.stop().await, Some(0));
        // For the second round.
        set(&log_file(&data), 0o644);
    }
}
