//! What was measured on: the machine, and the store that answers.

use std::path::Path;

use serde_json::{Value, json};
use synod::Client;
use synod_etcd::{EtcdOptions, EtcdStore, TlsOptions};
use synod_store::Store;

use crate::way::Way;

/// The machine, as the report names it.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) cpus: usize,
    pub(crate) memory: Option<u64>,
    pub(crate) os: String,
    /// That of the data, when they are on this machine and it is known where.
    pub(crate) file_system: Option<String>,
}

impl Machine {
    /// This one; `data` is where the store keeps its data, if that is known.
    pub(crate) fn here(data: Option<&str>) -> Machine {
        let name = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory(),
            os: format!("{} {}", text(name.sysname()), text(name.release())),
            file_system: data.and_then(|data| file_system(Path::new(data))),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cpus": self.cpus,
            "memory_bytes": self.memory,
            "os": self.os,
            "file_system": self.file_system,
        })
    }
}

/// Bytes of memory, where the system says it in a file.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// The kind of the file system that holds `path`, where the system says it in a file: that of the
/// longest mount point above it.
fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        path.starts_with(point).then_some((point.len(), kind))
    });
    above
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind.to_owned())
}

/// The store, as the report names it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) server: String,
    pub(crate) nodes: usize,
    /// Where its data are, when it is on this machine and says so.
    pub(crate) data: Option<String>,
}

impl Server {
    /// Asks it.
    pub(crate) async fn ask(way: &Way, client: &Client) -> synod_store::Result<Server> {
        let store = client.store();
        let version = store.status().await?.version;
        let nodes = store.members().await?.len();
        let synod = |version: &str| format!("synod {version}");
        let (server, data) = if way.is_embedded() {
            let data = way.url.strip_prefix("file:").map(str::to_owned);
            (synod(env!("CARGO_PKG_VERSION")), data)
        } else {
            match Self::info(way).await? {
                Some(info) => (synod(&info.version), Some(info.data)),
                None => (format!("etcd {version}"), None),
            }
        };
        Ok(Server {
            address: way.url.clone(),
            server,
            nodes: nodes.max(1),
            data,
        })
    }

    async fn info(way: &Way) -> synod_store::Result<Option<synod_etcd::ServerInfo>> {
        let mut options = EtcdOptions::new(way.url.split(','));
        if way.tls {
            let mut tls = TlsOptions::new();
            if let Some(ca) = &way.ca {
                tls = tls.with_ca_pem(ca.clone());
            }
            if let Some((cert, key)) = &way.identity {
                tls = tls.with_identity_pem(cert.clone(), key.clone());
            }
            options = options.with_tls(tls);
        }
        if let Some((name, password)) = &way.user {
            options = options.with_user(name, password);
        }
        EtcdStore::connect(options).await?.server_info().await
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "address": self.address, "server": self.server, "nodes": self.nodes })
    }
}
