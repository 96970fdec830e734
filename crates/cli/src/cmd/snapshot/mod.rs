//! `synod snapshot`: copies of a store, saved, looked at and restored.
//!
//! What is saved stands under another name until it is whole, checked and durable: a copy cut short by Ctrl-C, a full
//! disk or a broken connection never takes the place of an older one.

mod bar;
mod save;
mod unfinished;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use synod_engine::Backup;
use synod_store::ErrorKind;

use super::Context;
use crate::args::{Global, SnapshotArgs, SnapshotCommand};
use crate::explain::explain_store;
use crate::failure::{Failure, Result};
use crate::signals::Signals;
use bar::Bar;

pub(super) async fn run(global: &Global, args: SnapshotArgs, context: Context) -> Result<()> {
    match args.command {
        SnapshotCommand::Save { file } => {
            global.refuse_name("snapshot save")?;
            save::run(global, file, context).await
        }
        SnapshotCommand::Restore { file, data } => {
            global.refuse_connection("snapshot restore", "it makes a directory: see --data")?;
            restore(file, data, context).await
        }
        SnapshotCommand::Status { file } => {
            global.refuse_connection("snapshot status", "it reads a file")?;
            status(file, context).await
        }
    }
}

async fn restore(file: PathBuf, data: PathBuf, mut context: Context) -> Result<()> {
    let cannot = format!("cannot restore {}", file.display());
    let target = data.clone();
    let work = move |progress: &mut dyn FnMut(u64, u64) -> bool| {
        synod_engine::restore(&file, &target, progress)
    };
    let backup = checked("restoring", &cannot, &mut context.signals, work).await?;
    let text = format!("restored {} into {}", told(&backup), data.display());
    let fields = json!({
        "data": data,
        "revision": backup.revision,
        "keys": backup.keys,
        "leases": backup.leases,
        "bytes": backup.bytes,
        "sha256": backup.sha256,
    });
    Ok(context.out.line(&text, fields)?)
}

async fn status(file: PathBuf, mut context: Context) -> Result<()> {
    let backup = inspect(&file, &mut context.signals).await?;
    let text = format!(
        "{} is sound: {}, compacted {}, {} users and roles, sha256 {}",
        file.display(),
        told(&backup),
        backup.compact_revision,
        backup.notes.saturating_sub(1),
        backup.sha256
    );
    let fields = json!({
        "file": file,
        "revision": backup.revision,
        "compact_revision": backup.compact_revision,
        "keys": backup.keys,
        "leases": backup.leases,
        "notes": backup.notes,
        "cluster_id": backup.cluster_id,
        "bytes": backup.bytes,
        "sha256": backup.sha256,
    });
    Ok(context.out.line(&text, fields)?)
}

/// "3 keys and 1 lease at revision 7".
fn told(backup: &Backup) -> String {
    format!(
        "{} keys and {} leases at revision {} ({} bytes)",
        backup.keys, backup.leases, backup.revision, backup.bytes
    )
}

/// Reads and checks all of a copy.
async fn inspect(file: &Path, signals: &mut Signals) -> Result<Backup> {
    let cannot = format!("cannot use {}", file.display());
    let file = file.to_owned();
    let work =
        move |progress: &mut dyn FnMut(u64, u64) -> bool| synod_engine::inspect(&file, progress);
    checked("checking", &cannot, signals, work).await
}

/// Does something that takes a while on a thread of its own, with a bar, until it is done or a signal comes; then it
/// has cleaned up behind itself.
async fn checked(
    what: &'static str,
    cannot: &str,
    signals: &mut Signals,
    work: impl FnOnce(&mut dyn FnMut(u64, u64) -> bool) -> synod_store::Result<Backup> + Send + 'static,
) -> Result<Backup> {
    let stopped = Arc::new(AtomicBool::new(false));
    let sign = Arc::clone(&stopped);
    let mut working = tokio::task::spawn_blocking(move || {
        let bar = Bar::new(what);
        work(&mut |done, all| {
            bar.at(done, all);
            !sign.load(Ordering::Relaxed)
        })
    });
    let done = tokio::select! {
        biased;
        stop = signals.stop() => {
            stopped.store(true, Ordering::Relaxed);
            // It looks at the sign at each piece.
            let _ = working.await;
            return Err(stop.failure());
        }
        done = &mut working => done,
    };
    done.map_err(|error| Failure::failed(cannot).because(&error))?
        .map_err(|error| {
            let failure = explain_store(cannot, &error);
            match error.kind() {
                // It is no directory, which is what the usual hint is about.
                ErrorKind::Corrupt => {
                    failure.hint("use another copy; `synod snapshot save` makes a new one")
                }
                _ => failure,
            }
        })
}
