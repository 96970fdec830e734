//! `synod stop`: ends the server in the background.

use serde_json::json;

use super::Context;
use crate::failure::Result;
use crate::local;

pub(super) async fn run(mut context: Context) -> Result<()> {
    let port = local::paths::port(&context.env)?;
    let stopped = tokio::select! {
        biased;
        stop = context.signals.stop() => return Err(stop.failure()),
        stopped = local::stop::stop(&context.env, port) => stopped?,
    };
    let text = format!(
        "stopped the server at {} (pid {}); its data stay in {}",
        stopped.address, stopped.pid, stopped.data
    );
    let fields = json!({
        "stopped": true,
        "address": stopped.address,
        "pid": stopped.pid,
        "data": stopped.data,
    });
    Ok(context.out.line(&text, fields)?)
}
