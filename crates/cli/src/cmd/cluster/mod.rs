//! `synod cluster`: etcd clusters on this machine.

mod start;
mod status;
mod stop;

use serde_json::{Value, json};

use super::Context;
use crate::args::{ClusterArgs, ClusterCommand};
use crate::cluster::{Folder, Member};
use crate::failure::Result;

pub(super) async fn run(args: ClusterArgs, context: Context) -> Result<()> {
    let folder = Folder::new(args.dir.as_deref(), &context.env)?;
    match args.command {
        ClusterCommand::Start(args) => start::run(&folder, &args, context).await,
        ClusterCommand::Status => status::run(&folder, context).await,
        ClusterCommand::Stop { remove_data } => stop::run(&folder, remove_data, context).await,
    }
}

/// What is recorded of a node.
fn recorded(folder: &Folder, member: &Member) -> Value {
    json!({
        "name": member.name,
        "url": member.url(),
        "peer_url": member.peer_url(),
        "pid": member.pid,
        "data": folder.data(member).display().to_string(),
        "log": folder.log(member).display().to_string(),
    })
}
