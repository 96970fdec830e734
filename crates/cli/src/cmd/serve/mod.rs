//! `synod serve`: etcd's API over an embedded store, in the foreground.
//!
//! 1. Refuse what cannot be served with, and what would serve strangers: without TLS, or without asking who they
//!    are (`guard.rs`). Keep open files for the store (`files.rs`).
//! 2. Hold the port, then open the data, then listen: a port in use touches no data, and whoever
//!    connects is refused, not kept waiting, while the data are read.
//! 3. Say so in one line, and serve until SIGTERM or Ctrl-C.
//! 4. Answer what was begun, close the data, remove the state file.

mod files;
mod guard;
mod listen;
mod retention;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use synod_engine::{Engine, EngineOptions};
use synod_server::{Metrics, Server, ServerOptions, Tls};
use synod_store::ErrorKind;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Context;
use crate::args::ServeArgs;
use crate::connect::read_pem;
use crate::explain::explain_store;
use crate::failure::{Failure, Result};
use crate::local::paths;
use crate::local::state::{State, StateFile};

use guard::Guard;
use retention::{Retention, retention};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

pub(super) async fn run(args: ServeArgs, mut context: Context) -> Result<()> {
    if args.state_file.is_some() {
        ignore_hangups()?;
    }
    let tls = tls(&args)?;
    let addresses = listen::resolve(&args.listen).await?;
    let guard = Guard::check(&args, listen::is_private(&addresses), tls.is_some())?;
    let root_password = args.root_password_file.as_deref();
    let root_password = root_password.map(guard::read_password).transpose()?;
    let connections = files::connections(args.max_connections)?;
    let place = Place::of(&args, &context)?;
    let metrics = metrics()?;
    let options = engine_options(&args, &place)?.with_sync_observer(Arc::clone(&metrics) as _);
    let sockets = addresses
        .iter()
        .map(|address| Ok((*address, listen::hold(*address)?)))
        .collect::<Result<Vec<_>>>()?;

    // It reads all data, which may take a while.
    let opening = tokio::task::spawn_blocking(|| Engine::open(options));
    let engine = tokio::select! {
        biased;
        stop = context.signals.stop() => return Err(stop.failure()),
        opened = opening => opened
            .map_err(|error| Failure::failed(place.cannot_open()).because(&error))?
            .map_err(|error| place.not_opened(&error))?,
    };
    let mut options = server_options(&args, &place, tls)
        .with_max_connections(connections)
        .with_metrics(metrics);
    if guard.needs_logins() {
        options = options.with_auth_that_stays_on();
    }
    let scheme = if args.cert_file.is_some() {
        "https"
    } else {
        "http"
    };
    let server = Server::embedded(engine.clone(), options)
        .map_err(|error| explain_store(&place.cannot_open(), &error))?;
    if let Some(password) = root_password {
        server.set_up_root(&password).await.map_err(|error| {
            Failure::failed("cannot make the user root and switch logins on").because(&error)
        })?;
    }
    guard.let_in(server.is_auth_enabled())?;
    let listeners = sockets
        .into_iter()
        .map(|(address, socket)| {
            socket
                .listen(BACKLOG)
                .map_err(|error| listen::cannot_listen(address, &error))
        })
        .collect::<Result<Vec<_>>>()?;
    let urls = listeners
        .iter()
        .map(|listener| Ok(format!("{scheme}://{}", listener.local_addr()?)))
        .collect::<Result<Vec<String>>>()?;
    serve(&args, &place, &urls, server, listeners, &mut context).await?;
    engine
        .close()
        .await
        .map_err(|error| explain_store(&format!("cannot close {}", place.text()), &error))
}

/// Serves until a signal comes; the state file lives as long as that.
async fn serve(
    args: &ServeArgs,
    place: &Place,
    urls: &[String],
    server: Server,
    listeners: Vec<TcpListener>,
    context: &mut Context,
) -> Result<()> {
    let stop = tokio_util::sync::CancellationToken::new();
    let mut serving = JoinSet::new();
    for listener in listeners {
        let server = server.clone();
        let stop = stop.clone().cancelled_owned();
        serving.spawn(async move { server.serve(listener, stop).await });
    }
    let pid = std::process::id();
    let state = State {
        pid,
        address: urls.first().cloned().unwrap_or_default(),
        data: place.text(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let _state_file = args
        .state_file
        .as_ref()
        .map(|path| StateFile::write(path, &state))
        .transpose()?;
    let text = format!(
        "serving at {}, data in {}",
        urls.join(" and "),
        place.text()
    );
    let fields = json!({ "listen": urls, "data": place.text(), "pid": pid });
    // Who closed our standard output does not want the line; the server is wanted all the same.
    let _ = context.out.line(&text, fields);

    let mut outcome = Ok(());
    tokio::select! {
        biased;
        _ = context.signals.stop() => {}
        Some(ended) = serving.join_next() => outcome = served(ended),
    }
    stop.cancel();
    while let Some(ended) = serving.join_next().await {
        outcome = outcome.and(served(ended));
    }
    outcome
}

fn served(
    ended: std::result::Result<
        std::result::Result<(), synod_server::ServerError>,
        tokio::task::JoinError,
    >,
) -> Result<()> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::failed("the server failed").because(error)
    };
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

/// Where the data are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Memory,
    Dir(PathBuf),
}

impl Place {
    fn of(args: &ServeArgs, context: &Context) -> Result<Place> {
        if args.memory {
            return Ok(Place::Memory);
        }
        match &args.data {
            Some(dir) => match std::path::absolute(dir) {
                Ok(dir) => Ok(Place::Dir(dir)),
                Err(error) => Err(Failure::usage("--data names no directory").because(&error)),
            },
            None => {
                let dir = paths::data_dir(&context.env)?;
                paths::make_private(&dir)?;
                Ok(Place::Dir(dir))
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Place::Memory => "memory".to_owned(),
            Place::Dir(dir) => dir.display().to_string(),
        }
    }

    fn cannot_open(&self) -> String {
        format!("cannot open the data in {}", self.text())
    }

    fn not_opened(&self, error: &synod_store::Error) -> Failure {
        let failure = explain_store(&self.cannot_open(), error);
        match error.kind() {
            ErrorKind::InUse => failure.hint(
                "if that process serves it already, connect to it with --addr; else end it, or \
                 choose another --data",
            ),
            _ => failure,
        }
    }
}

fn engine_options(args: &ServeArgs, place: &Place) -> Result<EngineOptions> {
    let mut options = match place {
        Place::Memory => EngineOptions::memory(),
        Place::Dir(dir) => EngineOptions::file(dir),
    };
    let retention = retention(
        args.auto_compaction_mode,
        args.auto_compaction_retention.as_deref(),
    )?;
    match retention {
        Retention::Default => {}
        Retention::Everything => {
            options = options.with_retention(synod_engine::Retention::Unbounded);
        }
        Retention::Age(age) => {
            options = options.with_retention(synod_engine::Retention::Period(age));
        }
        Retention::Revisions(count) => {
            options = options.with_retention(synod_engine::Retention::Revisions(count));
        }
    }
    Ok(options
        .with_quota_bytes(quota(args))
        .with_max_request_bytes(args.max_request_bytes)
        .with_max_txn_ops(args.max_txn_ops))
}

fn server_options(args: &ServeArgs, place: &Place, tls: Option<Tls>) -> ServerOptions {
    let options = ServerOptions::new()
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_data(place.text())
        .with_client_urls(&args.advertise_client_urls)
        .with_quota_bytes(quota(args))
        .with_max_request_bytes(args.max_request_bytes)
        .with_max_txn_ops(args.max_txn_ops)
        .with_auth_token_ttl(Duration::from_secs(args.auth_token_ttl.into()))
        .with_max_concurrent_streams(args.max_concurrent_streams)
        .with_max_open_streams(args.max_open_streams)
        .with_max_watchers(args.max_watchers);
    match tls {
        Some(tls) => options.with_tls(tls),
        None => options,
    }
}

/// How often the samples of the server's histograms are summed up.
const UPKEEP: Duration = Duration::from_secs(5);

/// The numbers of the server, and their page.
fn metrics() -> Result<Arc<Metrics>> {
    let recorder = PrometheusBuilder::new()
        .set_buckets(Metrics::buckets())
        .map_err(|error| Failure::failed("cannot count").because(&error))?
        .build_recorder();
    let handle = recorder.handle();
    // Histograms gather samples until they are summed up, whether anybody looks at the page or not.
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut turns = tokio::time::interval(UPKEEP);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(Metrics::new(recorder, move || {
        handle.run_upkeep();
        handle.render()
    }))
}

/// How many bytes the data may take.
fn quota(args: &ServeArgs) -> u64 {
    const DEFAULT: u64 = 2 << 30;
    match args.quota_backend_bytes {
        0 => DEFAULT,
        bytes => bytes,
    }
}

fn tls(args: &ServeArgs) -> Result<Option<Tls>> {
    let (Some(cert), Some(key)) = (&args.cert_file, &args.key_file) else {
        return Ok(None);
    };
    let tls = Tls::new(read_pem(cert)?, read_pem(key)?);
    let tls = match &args.trusted_ca_file {
        Some(ca) => tls.requiring_client_certificates(read_pem(ca)?),
        None => tls,
    };
    tls.check().map_err(|error| {
        let (cert, key) = (cert.display(), key.display());
        Failure::usage(format!("cannot serve with {cert} and {key}"))
            .because(&error)
            .hint("--key-file is the key of the certificate in --cert-file")
    })?;
    Ok(Some(tls))
}

/// The server in the background outlives the terminal that it was started from.
fn ignore_hangups() -> Result<()> {
    let mut hangups = signal(SignalKind::hangup())
        .map_err(|error| Failure::failed("cannot listen for signals").because(&error))?;
    tokio::spawn(async move { while hangups.recv().await.is_some() {} });
    Ok(())
}
