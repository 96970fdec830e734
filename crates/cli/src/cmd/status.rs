//! `synod status`: what answers at the address, and how it is. Starts nothing.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use synod_etcd::{EtcdOptions, EtcdStore, ServerInfo, TlsOptions};
use synod_store::{AlarmKind, ErrorKind, StatusResponse, Store};

use super::Context;
use crate::address::{self, Source, Target};
use crate::args::Global;
use crate::connect::{Pem, cannot_reach, with_tls_hint, within};
use crate::env::Env;
use crate::explain::explain_store;
use crate::failure::{Failure, Result};
use crate::local::paths::{self, LocalFiles};
use crate::local::start::ANOTHER_PLACE;
use crate::local::state::State;
use crate::password;
use crate::signals::Signals;

pub(super) async fn run(global: &Global, mut context: Context) -> Result<()> {
    let port = paths::port(&context.env)?;
    let target = address::resolve(global, &context.env, port)?;
    let store = connect(
        "status",
        global,
        &context.env,
        &target,
        &mut context.signals,
    )
    .await?;
    let asked = tokio::select! {
        biased;
        stop = context.signals.stop() => return Err(stop.failure()),
        asked = Standing::ask(&store) => asked,
    };
    let mut standing = asked.map_err(|error| explain_store(&cannot_reach(&target), &error))?;
    standing.address = target.url.clone();
    standing.log = background_log(&context.env, port, &target, &standing)?;
    Ok(context.out.line(&standing.text(), standing.json())?)
}

/// Connects to the server at an address; starts none.
pub(super) async fn connect(
    command: &str,
    global: &Global,
    env: &Env,
    target: &Target,
    signals: &mut Signals,
) -> Result<EtcdStore> {
    if target.url.starts_with("file:") || target.url.starts_with("memory:") {
        return Err(Failure::usage(format!(
            "`synod {command}` asks a server, and {} is none",
            target.url
        ))
        .hint("`synod verify DIR` tells about a data directory"));
    }
    if global.namespace.is_some() {
        return Err(Failure::usage(format!(
            "`synod {command}` takes no --namespace"
        )));
    }
    let mut options = EtcdOptions::new(target.url.split(','));
    if let Some(timeout) = global.timeout {
        options = options
            .with_connect_timeout(timeout)
            .with_request_timeout(timeout);
    }
    if let Some(pem) = Pem::read(global, env)? {
        let mut tls = TlsOptions::new();
        if let Some(ca) = pem.ca {
            tls = tls.with_ca_pem(ca);
        }
        if let Some((cert, key)) = pem.identity {
            tls = tls.with_identity_pem(cert, key);
        }
        options = options.with_tls(tls);
    }
    if let Some(user) = password::user(global, env, signals).await? {
        options = options.with_user(user.name, user.password);
    }
    tokio::select! {
        biased;
        stop = signals.stop() => Err(stop.failure()),
        store = within(global.timeout, target, EtcdStore::connect(options)) => store?.map_err(|error| {
            let failure = explain_store(&cannot_reach(target), &error);
            match (target.source, error.kind()) {
                (Source::Local, ErrorKind::ConnectionRefused) => failure.hint(
                    "nothing runs here now; `synod queue` starts a server when it needs one",
                ),
                (Source::Local, ErrorKind::Unavailable) => failure.hint(ANOTHER_PLACE),
                _ => with_tls_hint(failure, target, Some(error.kind())),
            }
        }),
    }
}

/// The log of the server in the background, when it is that one that answered.
fn background_log(
    env: &Env,
    port: u16,
    target: &Target,
    standing: &Standing,
) -> Result<Option<String>> {
    let (Source::Local, Some(info)) = (target.source, &standing.info) else {
        return Ok(None);
    };
    let files = LocalFiles::new(env, port)?;
    let state = State::read(&files.state)?;
    Ok(state
        .filter(|state| state.pid == info.pid)
        .map(|_| files.log.display().to_string()))
}

/// How a server is.
struct Standing {
    address: String,
    status: StatusResponse,
    alarms: Vec<String>,
    info: Option<ServerInfo>,
    log: Option<String>,
}

impl Standing {
    async fn ask(store: &EtcdStore) -> synod_store::Result<Standing> {
        let status = store.status().await?;
        let info = store.server_info().await?;
        let alarms = match &info {
            Some(info) => info.alarms.clone(),
            None => store
                .alarms()
                .await?
                .iter()
                .map(|alarm| {
                    match alarm.kind {
                        AlarmKind::NoSpace => "NOSPACE: the storage quota is used up",
                        AlarmKind::Corrupt => "CORRUPT: stored data are damaged",
                    }
                    .to_owned()
                })
                .chain(status.errors.iter().cloned())
                .collect(),
        };
        Ok(Standing {
            address: String::new(),
            status,
            alarms,
            info,
            log: None,
        })
    }

    fn text(&self) -> String {
        let header = &self.status.header;
        let mut rows: Vec<(&str, String)> = Vec::new();
        match &self.info {
            Some(info) => {
                rows.push((
                    "server",
                    format!("synod {} (pid {})", info.version, info.pid),
                ));
                if info.data.is_empty() {
                    // Nothing more is told to who has not logged in.
                    rows.push(("address", self.address.clone()));
                } else {
                    rows.push(("address", info.listen.join(", ")));
                    rows.push(("data", info.data.clone()));
                }
                rows.extend(self.log.clone().map(|log| ("log", log)));
                rows.push(("running for", running_for(info.started_at)));
            }
            None => {
                rows.push(("server", format!("etcd {}", self.status.version)));
                rows.push(("address", self.address.clone()));
            }
        }
        if let Some(info) = &self.info {
            let health = if info.ready {
                "takes writes"
            } else {
                "takes no writes: see below"
            };
            rows.push(("health", health.to_owned()));
            let logins = match (info.auth_enabled, info.data.is_empty()) {
                (true, true) => "on: log in with --user to see more",
                (true, false) => "on",
                (false, _) => "off",
            };
            rows.push(("auth", logins.to_owned()));
        }
        rows.push(("revision", header.revision.to_string()));
        let known = self.info.as_ref().filter(|info| !info.data.is_empty());
        if let Some(info) = known {
            rows.push(("compacted", info.compact_revision.to_string()));
            rows.push(("keys", info.keys.to_string()));
        }
        let size = bytes(self.status.db_size);
        rows.push((
            "size",
            match self.info.as_ref().and_then(|info| info.db_size_quota) {
                Some(quota) => format!("{size} of {}", bytes(quota)),
                None => size,
            },
        ));
        if let Some(info) = known {
            rows.push(("clients", info.connections.to_string()));
            rows.push(("watchers", info.watchers.to_string()));
            rows.push(("leases", info.leases.to_string()));
            rows.push(("requests", info.requests.to_string()));
        }
        if self.alarms.is_empty() {
            rows.push(("alarms", "none".to_owned()));
        }
        rows.extend(self.alarms.iter().map(|alarm| ("alarm", alarm.clone())));
        rows.iter()
            .map(|(name, value)| format!("{name:<12}{value}"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn json(&self) -> Value {
        let header = &self.status.header;
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("address", json!(self.address));
        put("api_version", json!(self.status.version));
        put("cluster_id", json!(header.cluster_id));
        put("member_id", json!(header.member_id));
        put("revision", json!(header.revision.as_i64()));
        put("db_size", json!(self.status.db_size));
        put("db_size_in_use", json!(self.status.db_size_in_use));
        put("alarms", json!(self.alarms));
        match &self.info {
            None => {
                put("server", json!("etcd"));
                put("version", json!(self.status.version));
            }
            Some(info) => {
                put("server", json!("synod"));
                put("version", json!(info.version));
                put("pid", json!(info.pid));
                put("ready", json!(info.ready));
                put("auth_enabled", json!(info.auth_enabled));
                put("data", json!(info.data));
                put("started_at", json!(unix_seconds(info.started_at)));
                put("connections", json!(info.connections));
                put("watchers", json!(info.watchers));
                put("leases", json!(info.leases));
                put("keys", json!(info.keys));
                put("requests", json!(info.requests));
                put("compact_revision", json!(info.compact_revision.as_i64()));
                put("db_size_quota", json!(info.db_size_quota));
                put("listen", json!(info.listen));
                put("log", json!(self.log));
            }
        }
        Value::Object(fields)
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// How long ago `since` was, in whole seconds.
fn running_for(since: SystemTime) -> String {
    let seconds = since.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// A size, readable.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (name, unit) in UNITS {
        if count >= unit {
            let tenths = count.saturating_mul(10) / unit;
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{count} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(2 << 30), "2.0 GiB");
    }

    #[test]
    fn the_text_and_the_object_tell_the_same() {
        let standing = Standing {
            address: "http://h:1".into(),
            status: StatusResponse {
                version: "3.5.1".into(),
                db_size: 2048,
                ..StatusResponse::default()
            },
            alarms: vec!["NOSPACE: full".into()],
            info: None,
            log: None,
        };
        let text = standing.text();
        assert!(text.contains("server      etcd 3.5.1\n"), "{text}");
        assert!(text.contains("size        2.0 KiB\n"), "{text}");
        assert!(text.ends_with("alarm       NOSPACE: full"), "{text}");
        let json = standing.json();
        assert_eq!(json["server"], "etcd");
        assert_eq!(json["db_size"], 2048);
        assert_eq!(json["alarms"][0], "NOSPACE: full");
    }
}
