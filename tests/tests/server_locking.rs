//! `etcdctl lock` and `etcdctl elect`, against a real etcd and against Synod's server by the same
//! lines: processes that wait for each other, and for the library, on the same keys.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use futures_util::StreamExt;
use synod::election::Leaders;
use synod::{Client, LeaderEvent};
use synod_tests::etcd::{NO_ETCD, etcdctl_binary};
use synod_tests::process::Process;
use synod_tests::target::{Target, both};
use synod_tests::{skip, wait};
use tempfile::TempDir;

/// A running etcdctl. It ends with the test.
struct Ctl {
    process: Process,
    out: PathBuf,
    _directory: TempDir,
}

impl Ctl {
    fn start(target: &Target, args: &[&str]) -> Ctl {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let mut command = Command::new(etcdctl_binary().unwrap());
        command
            .arg(format!(
                "--endpoints={}",
                target.url().trim_start_matches("http://")
            ))
            .args(args)
            .env("ETCDCTL_API", "3")
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap());
        Ctl {
            process: Process::spawn(&mut command, None).unwrap(),
            out,
            _directory: directory,
        }
    }

    fn lines(&self) -> Vec<String> {
        let out = fs::read_to_string(&self.out).unwrap();
        out.lines().map(str::to_owned).collect()
    }

    /// Waits until it has printed so many lines.
    async fn printed(&mut self, count: usize) -> Vec<String> {
        wait::until(format!("{count} lines"), || async {
            self.lines().len() >= count
        })
        .await;
        self.lines()
    }

    async fn code(mut self) -> Option<i32> {
        self.process.wait(wait::PATIENCE).await.code()
    }

    /// Interrupts it, as a user would, and waits for its end.
    async fn interrupt(mut self) {
        self.process.interrupt();
        self.process.wait(wait::PATIENCE).await;
    }
}

/// Runs `rule` on both servers, if there is an etcdctl.
async fn with_etcdctl(rule: impl AsyncFn(&Target)) {
    if etcdctl_binary().is_none() {
        skip::report(NO_ETCD);
        return;
    }
    both(rule).await;
}

/// Waits until so many keys are under the prefix.
async fn until_keys(client: &Client, prefix: &str, count: u64) {
    use synod::store::{KeyRange, RangeRequest};
    let range = RangeRequest::new(KeyRange::prefix(prefix)).count_only();
    wait::until(format!("{count} keys under {prefix}"), || async {
        client.store().range(range.clone()).await.unwrap().count == count
    })
    .await;
}

/// A shell command that fails when another runs at the same time, and notes its lock.
fn alone(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "mkdir {directory}/inside || exit 3; \
         echo \"$ETCD_LOCK_KEY $ETCD_LOCK_REV\" >> {directory}/log; \
         sleep 0.05; rmdir {directory}/inside"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_under_etcdctl_lock_runs_alone() {
    with_etcdctl(async |target: &Target| {
        let client = Client::connect(target.url()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let command = alone(directory.path());
        for _ in 0..2 {
            // All of them want it while the library has it.
            let guard = client.mutex("l").lock().await.unwrap();
            let running: Vec<Ctl> = (0..4)
                .map(|_| Ctl::start(target, &["lock", "l", "--", "sh", "-c", &command]))
                .collect();
            until_keys(&client, "l/", 5).await;
            fs::create_dir(directory.path().join("inside")).unwrap();
            fs::remove_dir(directory.path().join("inside")).unwrap();
            guard.unlock().await.unwrap();
            for ctl in running {
                assert_eq!(ctl.code().await, Some(0));
            }
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap();
        let runs: Vec<(&str, u64)> = log
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(key, revision)| (key, revision.parse().unwrap()))
            .collect();
        assert_eq!(runs.len(), 8);
        assert!(
            runs.iter().all(|(key, _)| key.starts_with("l/")),
            "{runs:?}"
        );
        assert!(runs.is_sorted_by_key(|(_, revision)| *revision), "{runs:?}");
        until_keys(&client, "l/", 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_lock_ends_as_its_command_does() {
    with_etcdctl(async |target: &Target| {
        for code in [0, 7] {
            let exit = format!("exit {code}");
            let ctl = Ctl::start(target, &["lock", "l", "--", "sh", "-c", &exit]);
            assert_eq!(ctl.code().await, Some(code));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_free_when_its_etcdctl_has_gone() {
    with_etcdctl(async |target: &Target| {
        let client = Client::connect(target.url()).await.unwrap();
        let mut first = Ctl::start(target, &["lock", "l"]);
        first.printed(1).await;
        let mut second = Ctl::start(target, &["lock", "l", "--ttl=6"]);
        until_keys(&client, "l/", 2).await;
        let mutex = client.mutex("l");
        let third = tokio::spawn(async move { mutex.lock().await });
        until_keys(&client, "l/", 3).await;
        assert!(second.lines().is_empty() && !third.is_finished());
        first.interrupt().await;
        let key = second.printed(1).await.remove(0);
        assert!(key.starts_with("l/") && !third.is_finished());
        // Killed, it leaves the lock to its lease.
        second.process.kill();
        let third = wait::soon("the library's lock", third)
            .await
            .unwrap()
            .unwrap();
        let waiting = Ctl::start(target, &["lock", "l", "true"]);
        until_keys(&client, "l/", 2).await;
        third.unlock().await.unwrap();
        assert_eq!(waiting.code().await, Some(0));
        // Who is interrupted while it waits leaves nothing.
        let guard = client.mutex("l").lock().await.unwrap();
        let waiting = Ctl::start(target, &["lock", "l"]);
        until_keys(&client, "l/", 2).await;
        waiting.interrupt().await;
        until_keys(&client, "l/", 1).await;
        guard.check().await.unwrap();
    })
    .await;
}

async fn led_by(leaders: &mut Leaders, value: &str) {
    let event = wait::soon("an event", leaders.next()).await;
    match event.unwrap().unwrap() {
        LeaderEvent::Leader(leader) => assert_eq!(leader.value, *value.as_bytes()),
        other => panic!("not led by {value}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_elects_and_listens() {
    with_etcdctl(async |target: &Target| {
        let client = Client::connect(target.url()).await.unwrap();
        let election = client.election("e");
        let mut listener = Ctl::start(target, &["elect", "-l", "e"]);
        let mut first = Ctl::start(target, &["elect", "e", "one"]);
        let told = first.printed(2).await;
        assert!(told[0].starts_with("e/") && told[1] == "one", "{told:?}");
        let mut leaders = election.observe();
        led_by(&mut leaders, "one").await;
        assert_eq!(
            election.leader().await.unwrap().unwrap().key.to_string(),
            told[0]
        );
        let mut second = Ctl::start(target, &["elect", "e", "two"]);
        until_keys(&client, "e/", 2).await;
        let campaign = tokio::spawn(async move { election.campaign("three").await });
        until_keys(&client, "e/", 3).await;
        assert!(second.lines().is_empty() && !campaign.is_finished());
        // Before it goes, so that the one who listens has seen it: it may skip who goes at once.
        listener.printed(2).await;
        first.interrupt().await;
        assert_eq!(second.printed(2).await[1], "two");
        led_by(&mut leaders, "two").await;
        listener.printed(4).await;
        second.interrupt().await;
        let leadership = wait::soon("the library's turn", campaign).await;
        let leadership = leadership.unwrap().unwrap();
        led_by(&mut leaders, "three").await;
        listener.printed(6).await;
        leadership.proclaim("three, still").await.unwrap();
        let heard = listener.printed(8).await;
        let key = leadership.key().to_string();
        assert_eq!(heard[..2], told);
        assert_eq!(heard[3], "two");
        assert_eq!(heard[4..], [&key, "three", &key, "three, still"]);
        listener.interrupt().await;
        until_keys(&client, "e/", 1).await;
    })
    .await;
}
