//! `synod cluster start`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Context, recorded};
use crate::args::StartArgs;
use crate::cluster::{self, Folder};
use crate::failure::Result;

pub(super) async fn run(folder: &Folder, args: &StartArgs, mut context: Context) -> Result<()> {
    let starting = async {
        let etcd = cluster::find(args.etcd.as_deref(), &context.env).await?;
        let plan = cluster::start(folder, args.nodes, &etcd).await?;
        Ok::<_, crate::failure::Failure>((etcd, plan))
    };
    let (etcd, plan) = tokio::select! {
        biased;
        stop = context.signals.stop() => return Err(stop.failure()),
        started = starting => started?,
    };
    let mut text = String::new();
    for member in &plan.members {
        let pid = member.pid.unwrap_or_default();
        let _ = writeln!(text, "{}  {}  pid {pid}", member.name, member.url());
    }
    let nodes = match plan.members.len() {
        1 => "1 node".to_owned(),
        nodes => format!("{nodes} nodes"),
    };
    let _ = write!(
        text,
        "{nodes} of etcd {} in the background; data in {}\nuse it with --addr {}",
        etcd.version,
        folder.path().display(),
        plan.url()
    );
    let nodes: Vec<Value> = plan.members.iter().map(|m| recorded(folder, m)).collect();
    let fields = json!({
        "dir": folder.path().display().to_string(),
        "etcd": etcd.path.display().to_string(),
        "version": etcd.version,
        "url": plan.url(),
        "nodes": nodes,
    });
    Ok(context.out.line(&text, fields)?)
}
