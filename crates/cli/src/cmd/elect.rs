//! `synod elect`: leads while a command runs, or until Ctrl-C; or tells who leads.

use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use synod::Client;
use synod::election::{Leader, LeaderEvent};

use super::Context;
use super::held::{self, Hold, Wait};
use super::work::with_client;
use crate::args::{ElectArgs, Global};
use crate::explain::explain;
use crate::failure::{Exit, Failure, Result};
use crate::hangup::Hangup;
use crate::output::{Output, insert_bytes, notice};

pub(super) async fn run(global: &Global, args: ElectArgs, mut context: Context) -> Result<()> {
    let name = held::name_of(global, &args.object, "elect")?;
    let Some(value) = args.value.clone() else {
        if global.timeout.is_some() {
            return Err(Failure::usage(
                "--listen has no end, so that it takes no --timeout",
            ));
        }
        return with_client(global, None, &mut context, async |client, _, context| {
            listen(client, name, context).await
        })
        .await;
    };
    let value = Bytes::from(value.into_vec());
    let hold = Hold {
        what: format!("the leadership of {name}"),
        wait: Wait::of(global, &args.hold)?,
        args: &args.hold,
        variables: &[["SYNOD_ELECTION_KEY", "SYNOD_ELECTION_TOKEN"]],
        value: Some(value.clone()),
        permits: None,
    };
    with_client(global, None, &mut context, async |client, _, context| {
        let session = held::session(client, args.hold.ttl, &mut context.signals).await?;
        let election = client.election(name).with_session(&session);
        let campaign = async {
            match hold.wait {
                Wait::Try => election.try_campaign(&value).await,
                Wait::AtMost(limit) => election.campaign_timeout(&value, limit).await,
                Wait::ForEver => election.campaign(&value).await.map(Some),
            }
        };
        let leader = async {
            let leader = election.leader().await.ok().flatten();
            let words = |leader: Leader| {
                let value = String::from_utf8_lossy(&leader.value).into_owned();
                format!("{value} leads (key {})", leader.key)
            };
            leader.map(words).into_iter().collect()
        };
        hold.run(session.clone(), campaign, leader, context).await
    })
    .await
}

/// Prints who leads, and every change, until Ctrl-C or until nobody reads it any more.
async fn listen(client: &Client, name: &str, context: &mut Context) -> Result<()> {
    let mut hangup = Hangup::watch()?;
    let mut leaders = client.election(name).observe();
    loop {
        let event = tokio::select! {
            biased;
            stop = context.signals.stop() => return Err(stop.failure()),
            () = hangup.gone() => return Err(Failure::silent(Exit::Done)),
            event = leaders.next() => event,
        };
        match event {
            Some(Ok(LeaderEvent::Leader(leader))) => show(&leader, &mut context.out)?,
            Some(Ok(LeaderEvent::NoLeader)) => {
                context.out.line("no leader", json!({ "leader": null }))?;
            }
            Some(Ok(LeaderEvent::Lost(error))) => {
                notice(&format!("who leads {name} is not known: {error}"));
            }
            // A kind of event that this program does not know.
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                return Err(explain(
                    &format!("cannot watch the election {name}"),
                    &error,
                ));
            }
            None => {
                return Err(Failure::failed(format!(
                    "the election {name} cannot be watched any more"
                )));
            }
        }
    }
}

fn show(leader: &Leader, out: &mut Output) -> Result<()> {
    let mut fields = Map::new();
    insert_bytes(&mut fields, "key", &leader.key);
    insert_bytes(&mut fields, "value", &leader.value);
    fields.insert("token".into(), leader.revision.0.into());
    let text = [leader.key.as_bytes(), b"\n", &leader.value].concat();
    Ok(out.bytes(&text, json!({ "leader": Value::Object(fields) }))?)
}
