//! `push`: values from the command line, or one from each line of standard input.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use serde_json::json;

use super::Context;
use super::ops::{Entry, MUST_SET_BOTH, MUST_SET_UINT16, MUST_SET_VALUE, Ops, priority};
use crate::args::{Format, PushHow};
use crate::cmd::work::unless_stopped;
use crate::failure::{Failure, Result};
use crate::output::notice;
use crate::prompt::Lines;

/// How many lines are pushed at once, if so many are there.
const BATCH: usize = 64;

pub(super) async fn run(
    ops: &Ops,
    values: &[OsString],
    how: &PushHow,
    context: &mut Context,
) -> Result<()> {
    let lines = matches!(values, [dash] if dash == "-");
    if how.id.is_some() && (lines || (values.len() > 1 && !ops.is_priority())) {
        return Err(Failure::usage("--id names a single value").hint("push them one by one"));
    }
    let mut pushed = 0;
    let pushing = async {
        if lines {
            return push_lines(ops, how, &mut pushed).await;
        }
        push(ops, &entries(ops, values)?, how, &mut pushed).await
    };
    match unless_stopped(&mut context.signals, pushing).await {
        Ok(()) if context.out.format() == Format::Json => {
            Ok(context.out.line("", json!({ "pushed": pushed }))?)
        }
        Err(failure) if pushed > 0 && !failure.is_silent() => {
            let what = if lines { "lines" } else { "values" };
            Err(failure.cause(format!("the first {pushed} {what} were pushed")))
        }
        result => result,
    }
}

/// Pushes entries, and counts those that went in.
async fn push(ops: &Ops, entries: &[Entry], how: &PushHow, pushed: &mut usize) -> Result<()> {
    if how.is_plain() {
        return ops.push(entries, pushed).await;
    }
    for entry in entries {
        if ops.push_with(entry, how).await? {
            *pushed = pushed.saturating_add(1);
        } else {
            notice("nothing was pushed: a value with this --id was pushed before");
        }
    }
    Ok(())
}

/// What the command line says.
fn entries(ops: &Ops, values: &[OsString]) -> Result<Vec<Entry>> {
    let values: Vec<Vec<u8>> = values.iter().cloned().map(OsStringExt::into_vec).collect();
    if ops.is_priority() {
        return match ops.entry(&values) {
            Ok(entry) => Ok(vec![entry]),
            Err(words) => Err(missing(words)),
        };
    }
    if values.is_empty() {
        return Err(missing(MUST_SET_VALUE));
    }
    let entry = |value: Vec<u8>| Entry {
        value: value.into(),
        priority: None,
    };
    Ok(values.into_iter().map(entry).collect())
}

fn missing(words: &'static str) -> Failure {
    Failure::usage(words).hint(match words {
        MUST_SET_UINT16 => "a number from 0, which is the most urgent, to 65535",
        MUST_SET_BOTH => {
            "give both, or `-` to read a value, a space and its priority from each line of standard \
             input"
        }
        _ => "give values, or `-` to read one from each line of standard input",
    })
}

/// What a line of standard input says: in a priority queue its last word is the priority.
fn of_line(ops: &Ops, line: Vec<u8>) -> Result<Entry, &'static str> {
    if !ops.is_priority() {
        return Ok(Entry {
            value: line.into(),
            priority: None,
        });
    }
    let line = Bytes::from(line);
    let at = line.iter().rposition(|byte| *byte == b' ');
    let at = at.ok_or(MUST_SET_BOTH)?;
    let number = line.get(at.saturating_add(1)..).unwrap_or_default();
    Ok(Entry {
        value: line.slice(..at),
        priority: Some(priority(number).ok_or(MUST_SET_UINT16)?),
    })
}

async fn push_lines(ops: &Ops, how: &PushHow, pushed: &mut usize) -> Result<()> {
    let cannot =
        |error: std::io::Error| Failure::failed("cannot read standard input").because(&error);
    let mut lines = Lines::of_stdin().map_err(cannot)?;
    loop {
        let batch = lines.batch(BATCH).await.map_err(cannot)?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::with_capacity(batch.len());
        let mut wrong = None;
        for line in batch {
            match of_line(ops, line) {
                Ok(entry) => entries.push(entry),
                Err(words) => {
                    wrong = Some(missing(words));
                    break;
                }
            }
        }
        push(ops, &entries, how, pushed).await?;
        if let Some(wrong) = wrong {
            return Err(wrong.cause(format!("line {}", pushed.saturating_add(1))));
        }
    }
}
