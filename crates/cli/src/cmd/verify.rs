//! `synod verify`: checks a data directory that no server uses, and changes nothing.

use std::path::Path;

use serde_json::{Value, json};
use synod_engine::{Damage, Report};

use super::Context;
use crate::args::Format;
use crate::explain::explain_store;
use crate::failure::{Exit, Failure, Result};

pub(super) async fn run(dir: &Path, mut context: Context) -> Result<()> {
    let path = dir.to_owned();
    let checking = tokio::task::spawn_blocking(move || synod_engine::verify(path));
    let cannot = format!("cannot check {}", dir.display());
    let report = tokio::select! {
        biased;
        stop = context.signals.stop() => return Err(stop.failure()),
        checked = checking => checked
            .map_err(|error| Failure::failed(&cannot).because(&error))?
            .map_err(|error| explain_store(&cannot, &error))?,
    };
    match (&report.damage, context.out.format()) {
        (None, _) => Ok(context.out.line(&text(dir, &report), fields(&report))?),
        (Some(_), Format::Json) => {
            context.out.line("", fields(&report))?;
            Err(Failure::silent(Exit::Failed))
        }
        (Some(damage), Format::Text) => Err(damaged(dir, &report, damage)),
    }
}

fn text(dir: &Path, report: &Report) -> String {
    let mut text = format!(
        "{} is sound: {} keys, {} leases, revision {}, {} bytes",
        dir.display(),
        report.keys,
        report.leases,
        report.revision,
        report.bytes
    );
    if report.torn_tail {
        text.push_str(
            "\nthe last write is not whole, as a crash leaves one that was not acknowledged yet: opening drops it",
        );
    }
    text
}

fn damaged(dir: &Path, report: &Report, damage: &Damage) -> Failure {
    Failure::failed(format!("{} is damaged", dir.display()))
        .cause(format!(
            "{}, at byte {}: {}",
            damage.file.display(),
            damage.offset,
            damage.reason
        ))
        .hint(format!(
            "restore it from a copy; intact before the damage: {} keys, up to revision {}",
            report.keys, report.revision
        ))
}

fn fields(report: &Report) -> Value {
    let damage = report.damage.as_ref().map(|damage| {
        json!({
            "file": damage.file,
            "offset": damage.offset,
            "reason": damage.reason,
        })
    });
    json!({
        "ok": report.damage.is_none(),
        "format": report.format,
        "keys": report.keys,
        "leases": report.leases,
        "revision": report.revision,
        "compact_revision": report.compact_revision,
        "bytes": report.bytes,
        "torn_tail": report.torn_tail,
        "damage": damage,
    })
}
