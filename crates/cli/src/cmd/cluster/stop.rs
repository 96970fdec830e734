//! `synod cluster stop`.

use serde_json::{Value, json};

use super::Context;
use crate::cluster::{self, Folder, Stopped};
use crate::failure::Result;

pub(super) async fn run(folder: &Folder, remove: bool, mut context: Context) -> Result<()> {
    let stopped = tokio::select! {
        biased;
        stop = context.signals.stop() => return Err(stop.failure()),
        stopped = cluster::stop(folder, remove) => stopped?,
    };
    let nodes: Vec<Value> = stopped
        .ended
        .iter()
        .map(|member| json!({ "name": member.name, "pid": member.pid }))
        .collect();
    let fields = json!({
        "dir": folder.path().display().to_string(),
        "stopped": nodes,
        "killed": stopped.killed,
        "data_removed": stopped.removed,
    });
    Ok(context.out.line(&text(folder, &stopped), fields)?)
}

fn text(folder: &Folder, stopped: &Stopped) -> String {
    let dir = folder.path().display();
    let mut text = format!(
        "stopped {} of {} nodes",
        stopped.ended.len(),
        stopped.plan.members.len()
    );
    if !stopped.killed.is_empty() {
        text += &format!(
            " ({} did not end when asked, and was killed)",
            stopped.killed.join(", ")
        );
    }
    if stopped.removed {
        text += &format!("; removed their data from {dir}");
    } else {
        text += &format!("; their data stay in {dir}");
    }
    text
}
