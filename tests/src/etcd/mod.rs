//! Clusters of a real etcd, of one node or several, on loopback ports and in a temporary directory.
//! Nodes can be killed, restarted on the same data, frozen and thawed. Everything ends with the
//! [`Etcd`] that is dropped, and also when the test process dies.

mod find;
mod node;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::certs::Certs;
use crate::wait;
use node::Node;

pub use find::{NO_ETCD, etcd as binary, etcdctl as etcdctl_binary};
pub(crate) use node::http_get;
pub use node::{is_healthy, is_leader};

/// Starts an [`Etcd`], or skips the running test when the machine has none.
///
/// `etcd_or_skip!()` for one node, `etcd_or_skip!(3)` for three,
/// `etcd_or_skip!(EtcdConfig::new().flag("--max-txn-ops=10"))` for anything else.
#[macro_export]
macro_rules! etcd_or_skip {
    () => {
        $crate::etcd_or_skip!($crate::etcd::EtcdConfig::new())
    };
    ($config:expr) => {
        match $crate::etcd::Etcd::start($config).await {
            Some(etcd) => etcd,
            None => $crate::skip!("{}", $crate::etcd::NO_ETCD),
        }
    };
}

/// How a cluster is started.
#[derive(Debug, Clone)]
#[must_use]
pub struct EtcdConfig {
    nodes: usize,
    flags: Vec<String>,
    tls: Option<Tls>,
}

/// Files that clients need to speak to a cluster over TLS.
#[derive(Debug, Clone)]
struct Tls {
    ca: PathBuf,
    server: (PathBuf, PathBuf),
    /// Set when the server asks for a client's certificate.
    client: Option<(PathBuf, PathBuf)>,
}

impl EtcdConfig {
    /// One node, no TLS.
    pub fn new() -> EtcdConfig {
        EtcdConfig {
            nodes: 1,
            flags: Vec::new(),
            tls: None,
        }
    }

    /// So many nodes.
    pub fn nodes(mut self, nodes: usize) -> EtcdConfig {
        self.nodes = nodes;
        self
    }

    /// A further flag for every node, such as `--auth-token-ttl=2`.
    pub fn flag(mut self, flag: impl Into<String>) -> EtcdConfig {
        self.flags.push(flag.into());
        self
    }

    /// TLS towards clients.
    pub fn tls(mut self, certs: &Certs) -> EtcdConfig {
        self.tls = Some(Tls {
            ca: certs.ca(),
            server: certs.server(),
            client: None,
        });
        self
    }

    /// TLS towards clients, who must show a certificate too.
    pub fn mutual_tls(mut self, certs: &Certs) -> EtcdConfig {
        self.tls = Some(Tls {
            ca: certs.ca(),
            server: certs.server(),
            client: Some(certs.client()),
        });
        self
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    fn all_flags(&self) -> Vec<String> {
        let mut flags = self.flags.clone();
        if let Some(tls) = &self.tls {
            flags.push(format!("--cert-file={}", tls.server.0.display()));
            flags.push(format!("--key-file={}", tls.server.1.display()));
            if tls.client.is_some() {
                flags.push("--client-cert-auth".to_string());
                flags.push(format!("--trusted-ca-file={}", tls.ca.display()));
            }
        }
        flags
    }
}

impl Default for EtcdConfig {
    fn default() -> Self {
        EtcdConfig::new()
    }
}

/// A number is that many nodes.
impl From<usize> for EtcdConfig {
    fn from(nodes: usize) -> Self {
        EtcdConfig::new().nodes(nodes)
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Etcd {
    // Before the directory, so that the processes are gone when it is removed.
    nodes: Vec<Mutex<Node>>,
    endpoints: Vec<String>,
    cluster: String,
    binary: PathBuf,
    config: EtcdConfig,
    _directory: TempDir,
}

impl Etcd {
    /// Starts a cluster and waits until every member serves; `None` when the machine has no etcd
    /// (see [`etcd_or_skip!`](crate::etcd_or_skip)).
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start(config: impl Into<EtcdConfig>) -> Option<Etcd> {
        let (binary, config) = (binary()?, config.into());
        // A port can be taken in the moment between the choice and its use.
        for _ in 0..5 {
            let etcd = Etcd::spawn(binary.clone(), config.clone());
            if etcd.ready().await {
                return Some(etcd);
            }
        }
        panic!("no free ports for etcd after five attempts");
    }

    fn spawn(binary: PathBuf, config: EtcdConfig) -> Etcd {
        let directory = tempfile::Builder::new()
            .prefix("synod-test-etcd-")
            .tempdir()
            .expect("the temporary directory is writable");
        let mut nodes: Vec<Node> = (0..config.nodes)
            .map(|index| Node::new(format!("n{index}"), directory.path()))
            .collect();
        let cluster: Vec<String> = nodes
            .iter()
            .map(|node| format!("{}=http://{}", node.name, node.peer.address()))
            .collect();
        let cluster = cluster.join(",");
        let flags = config.all_flags();
        for node in &mut nodes {
            node.spawn(&binary, config.scheme(), &cluster, &flags)
                .unwrap_or_else(|error| panic!("{} does not start: {error}", binary.display()));
        }
        Etcd {
            endpoints: nodes
                .iter()
                .map(|node| format!("{}://{}", config.scheme(), node.client.address()))
                .collect(),
            nodes: nodes.into_iter().map(Mutex::new).collect(),
            cluster,
            binary,
            config,
            _directory: directory,
        }
    }

    /// Waits until all members serve; false when one could not bind its port.
    async fn ready(&self) -> bool {
        for index in 0..self.nodes.len() {
            if !self.node_ready(index).await {
                return false;
            }
        }
        true
    }

    async fn node_ready(&self, index: usize) -> bool {
        let what = format!("etcd node {index} serves");
        let found = wait::until_some(what, || async move {
            let (metrics, running) = {
                let mut node = self.node(index);
                (node.metrics_address(), node.is_running())
            };
            if !running {
                let log = self.node(index).log_tail();
                assert!(
                    log.contains("address already in use"),
                    "etcd node {index} ended:\n{log}"
                );
                return Some(false);
            }
            node::is_healthy(metrics).await.then_some(true)
        });
        found.await
    }

    fn node(&self, index: usize) -> MutexGuard<'_, Node> {
        self.nodes[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many members there are, running or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a cluster has at least one member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The client URL of each member.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The client URLs, separated by commas: what `Client::connect` takes.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoints.join(",")
    }

    /// The process id of a member.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn pid(&self, index: usize) -> u32 {
        let node = self.node(index);
        node.process.as_ref().expect("the member runs").pid()
    }

    /// Where a member keeps its data.
    #[must_use]
    pub fn data(&self, index: usize) -> PathBuf {
        self.node(index).data()
    }

    /// Which running member leads, waiting for an election to end.
    pub async fn leader(&self) -> usize {
        wait::until_some("the cluster has a leader", || async {
            for index in 0..self.nodes.len() {
                let (metrics, running) = {
                    let mut node = self.node(index);
                    (node.metrics_address(), node.is_running())
                };
                if running && node::is_leader(metrics).await {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    /// Kills a member (SIGKILL). Its data stay.
    pub fn kill(&self, index: usize) {
        // Taken out of the lock first: dropping it waits for the process to end.
        let process = self.node(index).process.take();
        drop(process);
    }

    /// Starts a killed member on the same ports and data, and waits until it serves.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn restart(&self, index: usize) {
        self.restart_in_background(index);
        self.wait_ready(index).await;
    }

    /// Starts a killed member, and does not wait until it serves: without a majority it cannot.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn restart_in_background(&self, index: usize) {
        let flags = self.config.all_flags();
        let scheme = self.config.scheme();
        self.kill(index);
        self.node(index)
            .spawn(&self.binary, scheme, &self.cluster, &flags)
            .expect("etcd starts again");
    }

    /// Waits until a member serves.
    ///
    /// # Panics
    ///
    /// When it does not, or has ended.
    pub async fn wait_ready(&self, index: usize) {
        assert!(
            self.node_ready(index).await,
            "the port of etcd node {index} was taken:\n{}",
            self.node(index).log_tail()
        );
    }

    /// Freezes a member (SIGSTOP).
    pub fn pause(&self, index: usize) {
        if let Some(process) = &mut self.node(index).process {
            process.pause();
        }
    }

    /// Lets a frozen member go on (SIGCONT).
    pub fn resume(&self, index: usize) {
        if let Some(process) = &mut self.node(index).process {
            process.resume();
        }
    }

    /// Runs etcdctl against all members.
    ///
    /// # Panics
    ///
    /// When there is no etcdctl, or it runs for longer than a minute.
    pub async fn etcdctl(&self, args: &[&str]) -> Output {
        let mut all: Vec<String> = Vec::new();
        if let Some(tls) = &self.config.tls {
            all.push(format!("--cacert={}", tls.ca.display()));
            if let Some((cert, key)) = &tls.client {
                all.push(format!("--cert={}", cert.display()));
                all.push(format!("--key={}", key.display()));
            }
        }
        all.extend(args.iter().map(ToString::to_string));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        etcdctl(&self.url(), &all).await
    }
}

/// Runs etcdctl against these endpoints, which need be no real etcd.
///
/// # Panics
///
/// When there is no etcdctl, or it runs for longer than a minute.
pub async fn etcdctl(endpoints: &str, args: &[&str]) -> Output {
    let mut command = Command::new(etcdctl_binary().expect("there is an etcdctl beside etcd"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCDCTL") {
            command.env_remove(name);
        }
    }
    command
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={endpoints}"))
        .args(args);
    let what = format!("etcdctl {args:?}");
    let output = tokio::task::spawn_blocking(move || command.output());
    wait::within(Duration::from_secs(60), what, output)
        .await
        .expect("the task ends")
        .expect("etcdctl starts")
}
