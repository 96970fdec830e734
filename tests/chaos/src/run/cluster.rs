//! The etcd processes: behind bridges towards each other, restartable on their data, and asked over a
//! port of their own how they are.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_store::{Revision, Store};
use synod_tests::etcd::{is_healthy, is_leader};
use synod_tests::ports::Port;
use synod_tests::process::Process;

use super::peers::Peers;

/// A member.
#[derive(Debug)]
struct Member {
    client: Port,
    peer: Port,
    metrics: Port,
    process: Option<Process>,
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    members: Vec<Member>,
    pub(super) peers: Peers,
    binary: PathBuf,
    directory: PathBuf,
    data: tempfile::TempDir,
    /// How often a member has died of an error of its own that is known.
    pub(super) own_deaths: usize,
}

/// What etcd up to 3.5.4 says when it dies because the caller of a read-only transaction has gone while
/// that was being applied (etcd issue 14110). No work of ours keeps an old etcd from it.
const KNOWN: [&str; 2] = ["unexpected error during txn", "context canceled"];

/// How long the cluster may take for anything: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

impl Cluster {
    /// Starts the members, and waits until all of them serve. Their logs go to `directory`.
    pub(super) async fn start(
        binary: PathBuf,
        nodes: usize,
        directory: &Path,
    ) -> anyhow::Result<Cluster> {
        let members: Vec<Member> = (0..nodes)
            .map(|_| Member {
                client: Port::reserve(),
                peer: Port::reserve(),
                metrics: Port::reserve(),
                process: None,
            })
            .collect();
        let peers = Peers::start(members.iter().map(|m| m.peer.address()).collect()).await?;
        let mut cluster = Cluster {
            members,
            peers,
            binary,
            directory: directory.to_owned(),
            data: tempfile::Builder::new().prefix("synod-chaos-").tempdir()?,
            own_deaths: 0,
        };
        for member in 0..nodes {
            cluster.spawn(member)?;
        }
        for member in 0..nodes {
            cluster.ready(member).await?;
        }
        Ok(cluster)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Where a member serves clients, past all bridges.
    pub(super) fn url(&self, member: usize) -> String {
        format!("http://{}", self.members[member].client.address())
    }

    pub(super) fn address(&self, member: usize) -> std::net::SocketAddr {
        self.members[member].client.address()
    }

    pub(super) fn pid(&self, member: usize) -> Option<u32> {
        self.members[member].process.as_ref().map(Process::pid)
    }

    /// Starts a member on its ports and data.
    pub(super) fn spawn(&mut self, number: usize) -> anyhow::Result<()> {
        let all: Vec<String> = (0..self.len())
            .map(|member| format!("n{member}=http://{}", self.peers.address(member)))
            .collect();
        let log = self.directory.join(format!("etcd-{number}.log"));
        let log = File::options().create(true).append(true).open(log)?;
        let member = &self.members[number];
        let client = format!("http://{}", member.client.address());
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD") {
                command.env_remove(name);
            }
        }
        command
            .arg(format!("--name=n{number}"))
            .arg(format!(
                "--data-dir={}",
                self.data.path().join(format!("n{number}")).display()
            ))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!(
                "--listen-peer-urls=http://{}",
                member.peer.address()
            ))
            .arg(format!(
                "--initial-advertise-peer-urls=http://{}",
                self.peers.address(number)
            ))
            .arg(format!(
                "--listen-metrics-urls=http://{}",
                member.metrics.address()
            ))
            .arg(format!("--initial-cluster={}", all.join(",")))
            .arg("--log-level=warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = Process::spawn(&mut command, None)
            .with_context(|| format!("{} does not start", self.binary.display()))?;
        self.peers.set_pid(number, process.pid());
        self.members[number].process = Some(process);
        Ok(())
    }

    /// Waits until a member serves.
    pub(super) async fn ready(&mut self, number: usize) -> anyhow::Result<()> {
        let begin = tokio::time::Instant::now();
        while !is_healthy(self.members[number].metrics.address()).await {
            self.check()?;
            if begin.elapsed() > PATIENCE {
                bail!("etcd {number} does not serve within {PATIENCE:?}; see etcd-{number}.log");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Restarts a member that has died of etcd's known error; an error when one has ended otherwise that
    /// was not killed.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for number in 0..self.len() {
            let process = self.members[number].process.as_mut();
            let Some(status) = process.and_then(Process::exit_status) else {
                continue;
            };
            let log = std::fs::read(self.directory.join(format!("etcd-{number}.log")))?;
            let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(60_000)..]);
            let known = |line: &str| KNOWN.iter().all(|words| line.contains(words));
            if !tail.lines().any(known) {
                bail!("etcd {number} ended by itself ({status}); see etcd-{number}.log");
            }
            self.own_deaths += 1;
            self.spawn(number)?;
        }
        Ok(())
    }

    /// Whether all members hold the same data: what one shows of a revision the others show as well. An error when
    /// that cannot be found out.
    pub(super) async fn agrees(&self) -> anyhow::Result<bool> {
        let begin = tokio::time::Instant::now();
        let mut members = Vec::new();
        for number in 0..self.len() {
            // One that has just come back reads its data first, and a hash goes through all of them.
            let options = EtcdOptions::new([self.url(number)])
                .with_member_sync(None)
                .with_connect_timeout(PATIENCE)
                .with_request_timeout(PATIENCE);
            members.push(EtcdStore::connect(options).await?);
        }
        loop {
            let mut least = Revision(u64::MAX);
            for member in &members {
                least = least.min(member.status().await?.header.revision);
            }
            let mut seen = BTreeSet::new();
            let mut compacted = BTreeSet::new();
            for member in &members {
                // One that has compacted further by now cannot tell any more.
                if let Ok(answer) = member.hash_kv(least).await {
                    seen.insert(answer.hash);
                    compacted.insert(answer.compact_revision);
                } else {
                    compacted.insert(Revision::ZERO);
                }
            }
            if compacted.len() == 1 {
                return Ok(seen.len() == 1);
            }
            // Compactions reach members one after the other.
            if begin.elapsed() > PATIENCE {
                bail!("the members have compacted to different revisions: {compacted:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Who leads, of those who are not left out.
    pub(super) async fn leader(&mut self, without: Option<usize>) -> anyhow::Result<usize> {
        let begin = tokio::time::Instant::now();
        loop {
            self.check()?;
            for (number, member) in self.members.iter().enumerate() {
                if Some(number) != without
                    && member.process.is_some()
                    && is_leader(member.metrics.address()).await
                {
                    return Ok(number);
                }
            }
            if begin.elapsed() > PATIENCE {
                bail!("no leader within {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills a member; an error when no process died of it.
    pub(super) fn kill(&mut self, number: usize) -> anyhow::Result<u32> {
        let Some(mut process) = self.members[number].process.take() else {
            bail!("etcd {number} does not run");
        };
        let pid = process.pid();
        if !process.is_running() {
            bail!("etcd {number} (pid {pid}) was dead already");
        }
        process.kill();
        if Path::new(&format!("/proc/{pid}")).exists() {
            bail!("etcd {number} (pid {pid}) is still there");
        }
        Ok(pid)
    }

    /// Freezes a member; an error when it is not seen to be.
    pub(super) async fn freeze(&mut self, number: usize) -> anyhow::Result<u32> {
        let Some(process) = &mut self.members[number].process else {
            bail!("etcd {number} does not run");
        };
        process.pause();
        frozen(process.pid()).await?;
        Ok(process.pid())
    }

    /// Lets a frozen member go on.
    pub(super) fn thaw(&mut self, number: usize) {
        if let Some(process) = &mut self.members[number].process {
            process.resume();
        }
    }
}

/// Waits until the system says that a process is stopped.
pub(super) async fn frozen(pid: u32) -> anyhow::Result<()> {
    for _ in 0..200 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let state = status
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        if state == Some('T') {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bail!("process {pid} does not stop")
}
