//! `synod queue push`: values from the command line, or one from each line of standard input.

use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use serde_json::json;

use super::Context;
use super::ops::Ops;
use crate::args::{Format, PushArgs};
use crate::failure::{Failure, Result};
use crate::prompt::Lines;

/// How many lines are pushed at once, if so many are there.
const BATCH: usize = 64;

pub(super) async fn run(ops: &Ops, args: &PushArgs, context: &mut Context) -> Result<()> {
    let mut pushed = 0;
    let pushing = async {
        match args.values.as_slice() {
            [] => Err(Failure::usage("must set value to push")
                .hint("give values, or `-` to read one from each line of standard input")),
            [dash] if dash == "-" => push_lines(ops, &mut pushed).await,
            values => {
                let values: Vec<Bytes> = values
                    .iter()
                    .map(|value| Bytes::from(value.clone().into_vec()))
                    .collect();
                let count = values.len();
                ops.push(values).await?;
                pushed = count;
                Ok(())
            }
        }
    };
    let result = tokio::select! {
        biased;
        stop = context.signals.stop() => Err(stop.failure()),
        result = pushing => result,
    };
    match result {
        Ok(()) if context.out.format() == Format::Json => {
            Ok(context.out.line("", json!({ "pushed": pushed }))?)
        }
        Err(failure) if pushed > 0 && !failure.is_silent() => {
            Err(failure.cause(format!("the first {pushed} lines were pushed")))
        }
        result => result,
    }
}

async fn push_lines(ops: &Ops, pushed: &mut usize) -> Result<()> {
    let cannot =
        |error: std::io::Error| Failure::failed("cannot read standard input").because(&error);
    let mut lines = Lines::of_stdin().map_err(cannot)?;
    loop {
        let batch = lines.batch(BATCH).await.map_err(cannot)?;
        if batch.is_empty() {
            return Ok(());
        }
        let count = batch.len();
        ops.push(batch.into_iter().map(Bytes::from).collect())
            .await?;
        *pushed = pushed.saturating_add(count);
    }
}
