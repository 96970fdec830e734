//! [`ServerInfo`]: what Synod's own server tells about itself beside what every etcd tells.

use std::time::{Duration, SystemTime};

use synod_store::{ErrorKind, Result, Revision};
use synod_wire::synod_v1::synod_client::SynodClient;
use synod_wire::synod_v1::{InfoRequest, InfoResponse};

use crate::EtcdStore;
use crate::retry::Class;

/// What Synod's own server tells about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Synod's version.
    pub version: String,
    /// The server's process.
    pub pid: u32,
    /// Where its data are: a path, "memory", or the URL of the store behind it.
    pub data: String,
    /// When it started.
    pub started_at: SystemTime,
    /// How many connections are open.
    pub connections: u64,
    /// How many watches are open.
    pub watchers: u64,
    /// How many leases live.
    pub leases: u64,
    /// How many keys live.
    pub keys: u64,
    /// The store's revision.
    pub revision: Revision,
    /// The revision of the last compaction; zero before the first.
    pub compact_revision: Revision,
    /// Bytes that the data take.
    pub db_size: u64,
    /// Bytes that they may take, if that is bounded.
    pub db_size_quota: Option<u64>,
    /// The URLs at which it listens.
    pub listen: Vec<String>,
    /// How many requests it was sent since its start; a stream counts once.
    pub requests: u64,
    /// What is wrong now, a sentence each.
    pub alarms: Vec<String>,
    /// Whether clients must log in.
    pub auth_enabled: bool,
    /// Whether the store takes writes.
    pub ready: bool,
}

impl EtcdStore {
    /// Asks what the server tells about itself, if it is one of Synod's; `None` when it is another,
    /// such as an etcd. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Nothing stays behind.
    ///
    /// # Errors
    ///
    /// As every read.
    pub async fn server_info(&self) -> Result<Option<ServerInfo>> {
        let asked = self
            .caller()
            .call(Class::Read, InfoRequest {}, |channel, request| async {
                SynodClient::new(channel).info(request).await
            })
            .await;
        match asked {
            Ok(info) => Ok(Some(ServerInfo::from(info))),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl From<InfoResponse> for ServerInfo {
    fn from(info: InfoResponse) -> ServerInfo {
        let started = Duration::from_secs(u64::try_from(info.started_at).unwrap_or(0));
        let quota = u64::try_from(info.db_size_quota).unwrap_or(0);
        ServerInfo {
            version: info.version,
            pid: info.pid,
            data: info.data,
            started_at: SystemTime::UNIX_EPOCH
                .checked_add(started)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            connections: info.connections,
            watchers: info.watchers,
            leases: info.leases,
            keys: info.keys,
            revision: Revision(u64::try_from(info.revision).unwrap_or(0)),
            compact_revision: Revision(u64::try_from(info.compact_revision).unwrap_or(0)),
            db_size: u64::try_from(info.db_size).unwrap_or(0),
            db_size_quota: (quota > 0).then_some(quota),
            listen: info.listen,
            requests: info.requests,
            alarms: info.alarms,
            auth_enabled: info.auth_enabled,
            ready: info.ready,
        }
    }
}
