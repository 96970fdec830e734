//! From options and environment to a connected client.

use std::path::{Path, PathBuf};
use std::time::Duration;

use synod::Client;
use synod_store::ErrorKind;

use crate::address::{self, Source, Target};
use crate::args::Global;
use crate::env::Env;
use crate::explain::explain;
use crate::failure::{Exit, Failure, Result};
use crate::local;
use crate::password;
use crate::signals::Signals;
use crate::way::Way;

/// A client, and where it is connected to.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) url: String,
    /// How to connect once more.
    pub(crate) way: Way,
}

/// How long things may take; the client's defaults where nothing is said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// A request.
    pub(crate) patience: Option<Duration>,
    /// The time to live of the client's own session.
    pub(crate) session_ttl: Option<Duration>,
}

impl From<Option<Duration>> for Limits {
    fn from(patience: Option<Duration>) -> Limits {
        Limits {
            patience,
            session_ttl: None,
        }
    }
}

/// Connects to the address that was given, or to the server on this machine, which is started
/// when it does not run.
pub(crate) async fn connect(
    global: &Global,
    env: &Env,
    limits: Limits,
    signals: &mut Signals,
) -> Result<Connected> {
    let port = local::paths::port(env)?;
    let target = address::resolve(global, env, port)?;
    if target.source == Source::Local {
        tokio::select! {
            biased;
            stop = signals.stop() => return Err(stop.failure()),
            ensured = local::start::ensure(env, port) => ensured?,
        }
    }
    let way = way(global, env, limits, &target, signals).await?;
    tokio::select! {
        biased;
        stop = signals.stop() => Err(stop.failure()),
        client = within(limits.patience, &target, way.options().connect()) => match client? {
            Ok(client) => Ok(Connected { client, url: target.url, way }),
            Err(error) => {
                let failure = explain(&cannot_reach(&target), &error);
                Err(with_tls_hint(failure, &target, error.kind()))
            }
        },
    }
}

/// What `connecting` gives, if it does so within `patience`.
pub(crate) async fn within<T>(
    patience: Option<Duration>,
    target: &Target,
    connecting: impl Future<Output = T>,
) -> Result<T> {
    let Some(patience) = patience else {
        return Ok(connecting.await);
    };
    tokio::time::timeout(patience, connecting)
        .await
        .map_err(|_| {
            let patience = humantime::format_duration(patience);
            Failure::new(Exit::Unreachable, cannot_reach(target))
                .cause(format!("no answer within {patience} (--timeout)"))
        })
}

/// How to connect to `target`.
async fn way(
    global: &Global,
    env: &Env,
    limits: Limits,
    target: &Target,
    signals: &mut Signals,
) -> Result<Way> {
    let pem = Pem::read(global, env)?;
    let tls = pem.is_some();
    let (ca, identity) = pem.map_or((None, None), |pem| (pem.ca, pem.identity));
    let user = password::user(global, env, signals).await?;
    Ok(Way {
        url: target.url.clone(),
        namespace: global.namespace.clone(),
        patience: limits.patience,
        session_ttl: limits.session_ttl,
        user: user.map(|user| (user.name, user.password)),
        tls,
        ca,
        identity,
    })
}

/// "cannot reach http://h:1 (from --addr)".
pub(crate) fn cannot_reach(target: &Target) -> String {
    match target.source {
        Source::Variable(name) => format!("cannot reach {} (from ${name})", target.url),
        _ => format!("cannot reach {}", target.url),
    }
}

/// A server that wants to see a certificate does not say so: it closes the connection.
pub(crate) fn with_tls_hint(failure: Failure, target: &Target, kind: Option<ErrorKind>) -> Failure {
    if kind == Some(ErrorKind::Unavailable) && target.url.contains("https://") {
        failure.hint(
            "a server that wants a certificate closes the connection of whoever shows none, or a \
             wrong one: --cert and --key",
        )
    } else {
        failure
    }
}

/// The certificates that options and environment name, read.
pub(crate) struct Pem {
    pub(crate) ca: Option<Vec<u8>>,
    /// Certificate and key.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Pem {
    /// `None` when none are named.
    pub(crate) fn read(global: &Global, env: &Env) -> Result<Option<Pem>> {
        let path = |option: &Option<PathBuf>, names: [&str; 2]| {
            option
                .clone()
                .or_else(|| names.into_iter().find_map(|name| env.path(name)))
        };
        let ca = path(&global.cacert, ["SYNOD_CACERT", "ETCDCTL_CACERT"]);
        let cert = path(&global.cert, ["SYNOD_CERT", "ETCDCTL_CERT"]);
        let key = path(&global.key, ["SYNOD_KEY", "ETCDCTL_KEY"]);
        let identity = match (&cert, &key) {
            (Some(cert), Some(key)) => Some((read_pem(cert)?, read_pem(key)?)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Failure::usage("--cert needs --key, the key that fits it"));
            }
            (None, Some(_)) => {
                return Err(Failure::usage("--key needs --cert, its certificate"));
            }
        };
        let ca = ca.as_deref().map(read_pem).transpose()?;
        Ok((ca.is_some() || identity.is_some()).then_some(Pem { ca, identity }))
    }
}

/// Reads a PEM file; one that is none at all is told apart here, as later only "TLS" would be
/// known.
pub(crate) fn read_pem(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::usage(format!("cannot read {}", path.display())).because(&error)
    })?;
    let marker = b"-----BEGIN ";
    if bytes.windows(marker.len()).any(|window| window == marker) {
        Ok(bytes)
    } else {
        Err(Failure::usage(format!("{} is no PEM file", path.display()))
            .hint("PEM files have lines such as -----BEGIN CERTIFICATE-----"))
    }
}
