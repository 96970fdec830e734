//! One node: its ports, its process, and what it says of itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_store::{Key, RangeRequest, StatusResponse, Store};

use super::folder::{Folder, Plan};
use crate::failure::{Failure, Result};
use crate::local::process::Process;

/// How long a node may take to answer before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// `n1`, `n2` and so on; also the name of its data directory.
    pub(crate) name: String,
    /// Its port for clients.
    pub(crate) client: u16,
    /// Its port for the other nodes.
    pub(crate) peer: u16,
    /// Its process, when it was started and not ended.
    pub(crate) pid: Option<u32>,
}

/// How a node is.
#[derive(Debug)]
pub(crate) enum Health {
    /// It answers.
    Serves(StatusResponse),
    /// It runs and does not answer; why.
    Silent(String),
    /// Its process is gone.
    Ended,
}

impl Member {
    /// Where clients reach it.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    /// Where the other nodes reach it.
    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }

    /// Starts its process.
    pub(super) fn spawn(&self, etcd: &Path, folder: &Folder, plan: &Plan) -> Result<Child> {
        let cannot = |error: &io::Error| {
            Failure::failed(format!("cannot start {}", etcd.display())).because(error)
        };
        let log = File::create(folder.log(self)).map_err(|error| cannot(&error))?;
        let errors = log.try_clone().map_err(|error| cannot(&error))?;
        let mut command = Command::new(etcd);
        // etcd reads options from the environment as well; only ours shall count.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        let all: Vec<String> = plan
            .members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url()))
            .collect();
        command
            .arg(format!("--name={}", self.name))
            .arg(data_option(folder, self))
            .arg(format!("--listen-client-urls={}", self.url()))
            .arg(format!("--advertise-client-urls={}", self.url()))
            .arg(format!("--listen-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-cluster={}", all.join(",")))
            .arg("--log-level=warn")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Not of our terminal's foreground group: Ctrl-C is not for it.
            .process_group(0)
            .spawn()
            .map_err(|error| cannot(&error))
    }

    /// Its process, if that runs: the recorded number may have passed to another one.
    pub(crate) fn process(&self, folder: &Folder) -> Result<Option<Process>> {
        let Some(pid) = self.pid else {
            return Ok(None);
        };
        // Held first, asked then: from here on the number cannot pass on.
        let process = Process::find(pid)
            .map_err(|error| Failure::failed("cannot look for the process").because(&error))?;
        let ours = |_: &Process| {
            command_line(pid)
                .iter()
                .any(|arg| *arg == data_option(folder, self))
        };
        Ok(process.filter(ours))
    }

    /// Asks it how it is.
    pub(crate) async fn health(&self, folder: &Folder) -> Result<Health> {
        if self.process(folder)?.is_none() {
            return Ok(Health::Ended);
        }
        Ok(match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(Ok(status)) => Health::Serves(status),
            Ok(Err(error)) => Health::Silent(error.to_string()),
            Err(_) => Health::Silent(format!("no answer within {PATIENCE:?}")),
        })
    }

    async fn ask(&self) -> synod_store::Result<StatusResponse> {
        let options = EtcdOptions::new([self.url()])
            .with_connect_timeout(PATIENCE)
            .with_request_timeout(PATIENCE)
            .with_member_sync(None);
        let store = EtcdStore::connect(options).await?;
        let status = store.status().await?;
        // A linearizable read needs a leader.
        store.range(RangeRequest::new(Key::from("health"))).await?;
        Ok(status)
    }

    /// The last line that it wrote.
    pub(super) fn last_words(&self, folder: &Folder) -> String {
        let log = fs::read(folder.log(self)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let last = log.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or("it wrote nothing").to_owned()
    }

    /// Whether it ended because one of its ports was taken.
    pub(super) fn found_its_port_taken(&self, folder: &Folder) -> bool {
        let log = fs::read(folder.log(self)).unwrap_or_default();
        String::from_utf8_lossy(&log).contains("address already in use")
    }
}

/// What in a process's command line tells that it is this node.
fn data_option(folder: &Folder, member: &Member) -> String {
    format!("--data-dir={}", folder.data(member).display())
}

/// The arguments of a process; none when it is gone.
#[cfg(target_os = "linux")]
fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .map(|arg| String::from_utf8_lossy(arg).into_owned())
        .collect()
}

/// The arguments of a process; none when it is gone.
#[cfg(not(target_os = "linux"))]
fn command_line(pid: u32) -> Vec<String> {
    let output = Command::new("ps")
        .args(["-ww", "-o", "args=", "-p", &pid.to_string()])
        .output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    // The arguments are not told apart here; ours has no spaces unless the folder has.
    let text = String::from_utf8_lossy(&text);
    text.split(" --")
        .map(|arg| format!("--{}", arg.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;

    #[test]
    fn another_process_with_the_number_is_not_ours() {
        let folder = Folder::new(Some(Path::new("/nowhere")), &Env::default()).unwrap();
        let mut member = Member {
            name: "n1".into(),
            client: 1,
            peer: 2,
            pid: Some(std::process::id()),
        };
        assert!(!command_line(std::process::id()).is_empty());
        assert!(member.process(&folder).unwrap().is_none());
        member.pid = None;
        assert!(member.process(&folder).unwrap().is_none());
    }
}
