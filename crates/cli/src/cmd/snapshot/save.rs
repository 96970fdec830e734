//! `synod snapshot save`: from a running server, or from a directory that nobody uses.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use synod_engine::{Engine, EngineOptions, Export, ManualClock, Retention};
use synod_etcd::Snapshot;
use synod_store::ErrorKind;

use super::bar::Bar;
use super::unfinished::Unfinished;
use super::{inspect, told};
use crate::address;
use crate::args::Global;
use crate::cmd::{Context, status};
use crate::explain::explain_store;
use crate::failure::{Failure, Result};
use crate::local::paths;
use crate::signals::Signals;
use crate::written;

/// How a copy begins, and how one of etcd's does not.
const MAGIC: &[u8] = b"SYNODBAK";

pub(super) async fn run(global: &Global, file: PathBuf, mut context: Context) -> Result<()> {
    // Before anything is asked for: what stands there may be no file.
    let destination = written::destination(&file)?;
    let port = paths::port(&context.env)?;
    let target = address::resolve(global, &context.env, port)?;
    let cannot = format!("cannot save a copy of {}", target.url);
    let refused = |error| explain_store(&cannot, &error);
    let mut source = match target.url.strip_prefix("file:") {
        Some(dir) => embedded(Path::new(dir), &mut context.signals)
            .await
            .map_err(refused)?,
        None => {
            let connecting = status::connect(
                "snapshot save",
                global,
                &context.env,
                &target,
                &mut context.signals,
            );
            let store = connecting.await?;
            Source::Server(store.snapshot().await.map_err(refused)?)
        }
    };
    let cannot_write = |error: io::Error| {
        Failure::failed(format!("cannot write {}", file.display())).because(&error)
    };
    let mut unfinished = Unfinished::create(&destination).map_err(cannot_write)?;
    let bar = Bar::new("saving");
    let mut written = 0_u64;
    loop {
        let piece = tokio::select! {
            biased;
            // What was written goes with `unfinished`.
            stop = context.signals.stop() => return Err(stop.failure()),
            piece = source.next() => piece.map_err(refused)?,
        };
        let Some((bytes, remaining)) = piece else {
            break;
        };
        if written == 0 && !bytes.starts_with(MAGIC) {
            return Err(Failure::failed(&cannot)
                .cause("it is no Synod server, and its copies are of another format")
                .hint("`etcdctl snapshot save` copies an etcd"));
        }
        unfinished.write(&bytes).map_err(cannot_write)?;
        written = written.saturating_add(bytes.len() as u64);
        bar.at(written, written.saturating_add(remaining));
    }
    drop(bar);
    source.close().await;
    unfinished.sync().map_err(cannot_write)?;
    let backup = inspect(unfinished.path(), &mut context.signals).await?;
    unfinished.finish().map_err(cannot_write)?;
    let text = format!("saved {} to {}", told(&backup), file.display());
    let fields = json!({
        "file": file,
        "revision": backup.revision,
        "keys": backup.keys,
        "leases": backup.leases,
        "bytes": backup.bytes,
        "sha256": backup.sha256,
    });
    Ok(context.out.line(&text, fields)?)
}

/// Where a copy comes from.
enum Source {
    Server(Snapshot),
    Embedded(Engine, Export),
}

impl Source {
    /// The next piece, and about how many bytes follow.
    async fn next(&mut self) -> synod_store::Result<Option<(Bytes, u64)>> {
        match self {
            Source::Server(snapshot) => {
                let piece = snapshot.next().await?;
                Ok(piece.map(|piece| (piece.bytes, piece.remaining)))
            }
            Source::Embedded(_, export) => {
                let piece = export.next().await.transpose()?;
                Ok(piece.map(|bytes| (bytes, 0)))
            }
        }
    }

    /// Lets go of a directory.
    async fn close(self) {
        if let Source::Embedded(engine, _) = self {
            // Only that it was opened has been written, so nothing can be lost.
            let _ = engine.close().await;
        }
    }
}

/// A copy of the store in a directory. One that is missing is not made, and what is there stays: no lease ends and no
/// history goes meanwhile.
async fn embedded(dir: &Path, signals: &mut Signals) -> synod_store::Result<Source> {
    if !dir.join("FORMAT").is_file() {
        let text = format!("there is no store in {}", dir.display());
        return Err(synod_store::Error::new(ErrorKind::InvalidAddress, text));
    }
    let options = EngineOptions::file(dir)
        .with_retention(Retention::Unbounded)
        .with_clock(Arc::new(ManualClock::new()));
    let opening = tokio::task::spawn_blocking(|| Engine::open(options));
    let failed = |error: tokio::task::JoinError| {
        synod_store::Error::new(ErrorKind::Other, "opening it failed").with_source(error)
    };
    let engine = tokio::select! {
        biased;
        _ = signals.stop() => return Err(ErrorKind::Cancelled.into()),
        opened = opening => opened.map_err(failed)??,
    };
    let export = engine.export().await?;
    Ok(Source::Embedded(engine, export))
}
