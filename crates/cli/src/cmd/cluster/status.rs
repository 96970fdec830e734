//! `synod cluster status`.

use serde_json::{Value, json};

use super::{Context, recorded};
use crate::cluster::{Folder, Health, Member, Plan};
use crate::cmd::status::bytes;
use crate::failure::{Exit, Failure, Result};

pub(super) async fn run(folder: &Folder, mut context: Context) -> Result<()> {
    let Some(plan) = folder.plan()? else {
        return Err(Failure::new(
            Exit::Nothing,
            format!("there is no cluster in {}", folder.path().display()),
        )
        .hint("`synod cluster start` makes one; --dir names another folder"));
    };
    let nodes = tokio::select! {
        biased;
        stop = context.signals.stop() => return Err(stop.failure()),
        asked = ask(folder, &plan) => asked?,
    };
    let answers = nodes
        .iter()
        .any(|(_, health)| matches!(health, Health::Serves(_)));
    let lines: Vec<String> = nodes.iter().map(|(m, health)| line(m, health)).collect();
    let objects: Vec<Value> = nodes
        .iter()
        .map(|(member, health)| object(folder, member, health))
        .collect();
    let text = format!(
        "{}\netcd {}; data in {}",
        lines.join("\n"),
        plan.version,
        folder.path().display()
    );
    let fields = json!({
        "dir": folder.path().display().to_string(),
        "version": plan.version,
        "url": plan.url(),
        "nodes": objects,
    });
    context.out.line(&text, fields)?;
    if answers {
        Ok(())
    } else {
        Err(
            Failure::new(Exit::Unreachable, "no node of the cluster answers")
                .hint("`synod cluster start` starts it again"),
        )
    }
}

async fn ask<'a>(folder: &Folder, plan: &'a Plan) -> Result<Vec<(&'a Member, Health)>> {
    let asked = plan.members.iter().map(|member| member.health(folder));
    let healths = futures_util::future::try_join_all(asked).await?;
    Ok(plan.members.iter().zip(healths).collect())
}

fn role(status: &synod_store::StatusResponse) -> &'static str {
    if status.leader == status.header.member_id {
        "leader"
    } else {
        "follower"
    }
}

fn line(member: &Member, health: &Health) -> String {
    let head = format!("{}  {}", member.name, member.url());
    let pid = member.pid.unwrap_or_default();
    match health {
        Health::Serves(status) => format!(
            "{head}  pid {pid:<7}  {:<8}  revision {}, {}",
            role(status),
            status.header.revision,
            bytes(status.db_size)
        ),
        Health::Silent(why) => format!("{head}  pid {pid:<7}  does not answer: {why}"),
        Health::Ended => format!("{head}  does not run"),
    }
}

fn object(folder: &Folder, member: &Member, health: &Health) -> Value {
    let mut object = recorded(folder, member);
    let (status, error) = match health {
        Health::Serves(status) => (Some(status), None),
        Health::Silent(why) => (None, Some(why.as_str())),
        Health::Ended => (None, None),
    };
    if let Value::Object(fields) = &mut object {
        let running = !matches!(health, Health::Ended);
        if !running {
            fields.insert("pid".into(), Value::Null);
        }
        fields.insert("running".into(), json!(running));
        fields.insert("role".into(), json!(status.map(role)));
        let revision = status.map(|status| status.header.revision.as_i64());
        fields.insert("revision".into(), json!(revision));
        let size = status.map(|status| status.db_size);
        fields.insert("db_size".into(), json!(size));
        fields.insert("error".into(), json!(error));
    }
    object
}
