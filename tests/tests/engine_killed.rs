//! The embedded store in real processes and on real files: killed (SIGKILL) again and again, on a disk that is full,
//! with a sync that fails, and opened twice. After each all that was acknowledged is there.
//!
//! `SYNOD_ROUNDS=1000` for as many kills; 20 are done unless that is set.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::Rng;
use synod_engine::{Engine, EngineOptions};
use synod_store::{ErrorKind, KeyRange, PutRequest, RangeRequest, Revision, Store};
use synod_tests::process::Process;
use synod_tests::{skip, wait};
use tokio::task::{JoinHandle, spawn_blocking};

const WRITERS: usize = 4;

/// What the child has said.
#[derive(Debug, Default, Clone)]
struct Said {
    ready: bool,
    ended: bool,
    /// The last turn of each writer that was acknowledged.
    turns: [u64; WRITERS],
    revision: u64,
    acknowledged: u64,
    errors: Vec<String>,
    /// Acknowledged after an error was reported.
    late: u64,
}

impl Said {
    fn take(&mut self, line: &str) {
        match line.split_once(' ') {
            None if line == "ready" => self.ready = true,
            None => self.ended = true,
            Some(("error", text)) => self.errors.push(text.to_owned()),
            Some((writer, rest)) => {
                let (turn, revision) = rest.split_once(' ').unwrap();
                let revision: u64 = revision.parse().unwrap();
                match writer {
                    // Every writer may have had one answer under way when the first reported its error, so only
                    // what was asked for after all of them had ended counts.
                    "9" => self.late += 1,
                    writer => self.turns[writer.parse::<usize>().unwrap()] = turn.parse().unwrap(),
                }
                self.revision = self.revision.max(revision);
                self.acknowledged += 1;
            }
        }
    }
}

struct Child {
    process: Process,
    said: Arc<Mutex<Said>>,
    reader: JoinHandle<()>,
}

impl Child {
    fn start(dir: &Path, turns: u64) -> Child {
        Child::run(Command::new(env!("CARGO_BIN_EXE_engine_child")), dir, turns)
    }

    fn run(mut command: Command, dir: &Path, turns: u64) -> Child {
        command
            .arg(dir)
            .arg(turns.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command, None).unwrap();
        let lines = BufReader::new(process.child().stdout.take().unwrap()).lines();
        let said = Arc::new(Mutex::new(Said::default()));
        let into = Arc::clone(&said);
        let reader = spawn_blocking(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap().take(&line);
            }
        });
        Child {
            process,
            said,
            reader,
        }
    }

    fn said(&self) -> Said {
        self.said.lock().unwrap().clone()
    }

    async fn until(&self, what: &str, condition: impl Fn(&Said) -> bool) {
        wait::until(what, || async { condition(&self.said()) }).await;
    }

    /// Kills it; all that it ever said.
    async fn kill(mut self) -> Said {
        self.process.kill();
        wait::soon("the rest of what it said", self.reader)
            .await
            .unwrap();
        self.said.lock().unwrap().clone()
    }

    /// Waits until it ends by itself; all that it said, and its exit code.
    async fn end(mut self) -> (Said, Option<i32>) {
        let status = self.process.wait(wait::TEST_LIMIT).await;
        wait::soon("the rest of what it said", self.reader)
            .await
            .unwrap();
        (self.said.lock().unwrap().clone(), status.code())
    }
}

/// Opens what a child has left, and holds it against what it said. Gives the revision that is found.
async fn check(dir: &Path, said: &Said) -> Revision {
    let store = Engine::open(EngineOptions::file(dir)).unwrap();
    let head = store.hash_kv(Revision::ZERO).await.unwrap().hash_revision;
    assert!(
        head.0 >= said.revision,
        "{head} is found, {} was acknowledged",
        said.revision
    );
    for writer in 0..WRITERS {
        let value = async |prefix: &str| {
            let found = store
                .range(RangeRequest::new(format!("{prefix}/{writer}")))
                .await
                .unwrap();
            let text = found
                .kvs
                .first()
                .map(|kv| String::from_utf8(kv.value.to_vec()).unwrap());
            let turn = text
                .as_ref()
                .and_then(|text| text.split(' ').next()?.parse().ok());
            (
                turn.unwrap_or(0),
                found.kvs.first().map(|kv| kv.mod_revision),
            )
        };
        let (found, both): ((u64, _), (u64, _)) = (value("w").await, value("both").await);
        assert_eq!(found, both, "half a transaction of writer {writer}");
        let acknowledged = said.turns[writer];
        // It waits for each answer, so one more may be there and no other.
        assert!(
            (acknowledged..=acknowledged + 1).contains(&found.0) || acknowledged == 0,
            "writer {writer}: turn {} is found, {acknowledged} was acknowledged",
            found.0
        );
    }
    // And it goes on.
    let next = store
        .put(PutRequest::new("next", "x"))
        .await
        .unwrap()
        .header
        .revision;
    assert_eq!(next, head.next());
    store.close().await.unwrap();
    next
}

fn rounds() -> u64 {
    std::env::var("SYNOD_ROUNDS").map_or(20, |text| {
        text.parse()
            .expect("SYNOD_ROUNDS is how often the process is killed: a number")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data");
    let (begin, mut acknowledged, mut revision) = (Instant::now(), 0, Revision(0));
    for round in 0..rounds() {
        let child = Child::start(&dir, 0);
        child
            .until("all writers write", |said| {
                said.turns.iter().all(|turn| *turn > 0)
            })
            .await;
        // At any moment of a write, a sync, a compaction, a snapshot, a change of segments.
        let moment = rand::rng().random_range(0..40_000);
        tokio::time::sleep(Duration::from_micros(moment)).await;
        let said = child.kill().await;
        assert!(said.errors.is_empty(), "round {round}: {:?}", said.errors);
        acknowledged += said.acknowledged;
        let found = check(&dir, &said).await;
        assert!(
            found > revision,
            "round {round}: back from {revision} to {found}"
        );
        revision = found;
    }
    println!(
        "{} kills in {:?}: {acknowledged} transactions acknowledged, lost 0, halves 0, revision {revision}",
        rounds(),
        begin.elapsed()
    );
    assert!(acknowledged >= rounds() * WRITERS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = Child::start(dir.path(), 0);
    first.until("it is open", |said| said.ready).await;
    let pid = first.process.pid();
    let (said, code) = Child::start(dir.path(), 1).end().await;
    assert_eq!(code, Some(3), "{said:?}");
    let told = format!("is in use by process {pid}");
    assert!(
        said.errors[0].contains(&told) && said.errors[0].contains("have one process serve it"),
        "{said:?}"
    );
    let error = Engine::open(EngineOptions::file(dir.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    // The first has noticed nothing of it.
    let before = first.said().acknowledged;
    first
        .until("it goes on", |said| said.acknowledged > before)
        .await;
    check(dir.path(), &first.kill().await).await;
}

/// A mount that ends with the test.
struct Mount(std::path::PathBuf);

impl Mount {
    /// A file system in memory of so many KiB; `None` where nobody may mount one.
    fn tmpfs(at: &Path, kib: u32) -> Option<Mount> {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "synod-test"])
            .arg(at);
        let mounted = mount
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then(|| Mount(at.to_owned()))
    }

    fn resize(&self, kib: u32) {
        let mut mount = Command::new("mount");
        mount
            .args(["-o", &format!("remount,size={kib}k")])
            .arg(&self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // What cannot be let go of now goes when the last file in it is closed.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_disk_that_is_full() {
    let home = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs(&home.path().join("disk"), 24 << 10) else {
        skip::report("no right to mount a small file system");
        return;
    };
    let dir = mount.0.join("data");
    let store = Engine::open(EngineOptions::file(&dir)).unwrap();
    let mut acknowledged = 0_u32;
    let error = loop {
        let put = PutRequest::new(format!("k/{acknowledged:06}"), "v".repeat(60_000));
        match store.put(put).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 2_000, "the disk never fills up");
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(!store.alarms().await.unwrap().is_empty());
    let there = RangeRequest::new(KeyRange::prefix("k/")).count_only();
    assert_eq!(
        store.range(there.clone()).await.unwrap().count,
        u64::from(acknowledged)
    );
    store.close().await.unwrap();
    drop(store);
    let store = Engine::open(EngineOptions::file(&dir)).unwrap();
    assert_eq!(
        store.range(there).await.unwrap().count,
        u64::from(acknowledged)
    );
    // There is space again.
    mount.resize(64 << 10);
    wait::until("it works again", || async {
        store.put(PutRequest::new("again", "x")).await.is_ok()
    })
    .await;
    println!("full after {acknowledged} puts: {error}; lost 0; works again with more space");
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_sync_that_fails() {
    let strace = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !strace.is_ok_and(|status| status.success()) {
        skip::report("no strace");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    let mut errors = 0;
    for sync in [1, 2, 3, 5, 8, 20, 40] {
        let mut command = Command::new("strace");
        let inject = format!("inject=fdatasync:error=EIO:when={sync}");
        command.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync",
            "-e",
            &inject,
        ]);
        command.arg(env!("CARGO_BIN_EXE_engine_child"));
        let (said, code) = Child::run(command, dir.path(), 60).end().await;
        assert_eq!(said.late, 0, "acknowledged after a failed sync: {said:?}");
        assert!(said.ended || code == Some(3), "{code:?} {said:?}");
        errors += said.errors.len();
        assert!(
            said.errors
                .iter()
                .all(|error| error.contains("nput/output error") || error.contains("again")),
            "{said:?}"
        );
        acknowledged += said.acknowledged;
        check(dir.path(), &said).await;
    }
    println!(
        "7 processes with a failed fdatasync: {errors} errors, {acknowledged} acknowledged, lost 0"
    );
    assert!(errors >= 7);
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_the_data() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("new").join("data");
    let store = Engine::open(EngineOptions::file(&dir)).unwrap();
    for n in 0..5 {
        store
            .put(PutRequest::new(format!("k/{n}"), "secret"))
            .await
            .unwrap();
    }
    store.defragment().await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let mut kinds = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        kinds.insert(
            name.rsplit_once('.')
                .map_or(name.clone(), |(stem, ending)| {
                    if stem == "spare" {
                        stem.to_owned()
                    } else {
                        ending.to_owned()
                    }
                }),
        );
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["FORMAT", "LOCK", "log", "snap", "spare"]
    );
    store.close().await.unwrap();
}
