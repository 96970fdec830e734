//! One etcd process: its ports, its data, its start and what it says of itself.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ports::Port;
use crate::process::Process;

/// A member of a cluster, running or not.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) client: Port,
    pub(super) peer: Port,
    /// Plain HTTP whatever the client port speaks: health and metrics.
    metrics: Port,
    /// The cluster's directory, and the node's own below it.
    directory: PathBuf,
    pub(super) process: Option<Process>,
}

impl Node {
    pub(super) fn new(name: String, directory: &Path) -> Node {
        Node {
            name,
            client: Port::reserve(),
            peer: Port::reserve(),
            metrics: Port::reserve(),
            directory: directory.to_path_buf(),
            process: None,
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.name))
    }

    pub(super) fn metrics_address(&self) -> SocketAddr {
        self.metrics.address()
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Starts the process on the node's ports and data.
    pub(super) fn spawn(
        &mut self,
        etcd: &Path,
        scheme: &str,
        cluster: &str,
        flags: &[String],
    ) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let client = format!("{scheme}://{}", self.client.address());
        let peer = format!("http://{}", self.peer.address());
        let mut command = Command::new(etcd);
        // etcd takes options from the environment too; only ours shall count.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD") {
                command.env_remove(name);
            }
        }
        command
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.data().display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!(
                "--listen-metrics-urls=http://{}",
                self.metrics.address()
            ))
            .arg(format!("--initial-cluster={cluster}"))
            .arg("--log-level=warn")
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.process = Some(Process::spawn(&mut command, Some(&self.directory))?);
        Ok(())
    }

    /// The end of what the process has written.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(3000)..];
        String::from_utf8_lossy(tail).into_owned()
    }
}

/// Whether the member at this metrics address can serve, which needs a leader.
pub async fn is_healthy(metrics: SocketAddr) -> bool {
    let health = http_get(metrics, "/health").await.unwrap_or_default();
    health.contains(r#""health":"true""#)
}

/// Whether the member at this metrics address leads.
pub async fn is_leader(metrics: SocketAddr) -> bool {
    let metrics = http_get(metrics, "/metrics").await.unwrap_or_default();
    metrics
        .lines()
        .any(|line| line == "etcd_server_is_leader 1")
}

/// The answer of a plain HTTP server; an error when there is none within two seconds.
pub(crate) async fn http_get(address: SocketAddr, path: &str) -> io::Result<String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(Duration::from_secs(2), ask).await?
}
