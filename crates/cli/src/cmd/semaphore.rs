//! `synod semaphore`: permits are held while a command runs, or until Ctrl-C.

use serde_json::json;
use synod::Client;

use super::Context;
use super::held::{self, Hold, Wait};
use super::work::{unless_stopped, with_client};
use crate::args::{Global, SemaphoreArgs};
use crate::explain::explain;
use crate::failure::{Failure, Result};

pub(super) async fn run(global: &Global, args: SemaphoreArgs, mut context: Context) -> Result<()> {
    let name = held::name_of(global, &args.object, "semaphore")?;
    if args.take > args.permits {
        return Err(Failure::usage(format!(
            "--take {} is more than all {} --permits",
            args.take, args.permits
        )));
    }
    if let Some(permits) = args.resize {
        return with_client(
            global,
            global.timeout,
            &mut context,
            async |client, _, context| resize(client, name, args.permits, permits, context).await,
        )
        .await;
    }
    let hold = Hold {
        what: match args.take {
            1 => format!("a permit of {name}"),
            n => format!("{n} permits of {name}"),
        },
        wait: Wait::of(global, &args.hold)?,
        args: &args.hold,
        variables: &[["SYNOD_SEMAPHORE_KEY", "SYNOD_SEMAPHORE_TOKEN"]],
        value: None,
        permits: Some(args.take),
    };
    with_client(global, None, &mut context, async |client, _, context| {
        let session = held::session(client, args.hold.ttl, &mut context.signals).await?;
        let semaphore = client.semaphore(name, args.permits).with_session(&session);
        let acquire = async {
            match hold.wait {
                Wait::Try => semaphore.try_acquire_many(args.take).await,
                Wait::AtMost(limit) => semaphore.acquire_many_timeout(args.take, limit).await,
                Wait::ForEver => semaphore.acquire_many(args.take).await.map(Some),
            }
        };
        let free = async {
            let free = semaphore.available_permits().await.ok();
            let words = |free| format!("{free} of {} permits are free", args.permits);
            free.map(words).into_iter().collect()
        };
        hold.run(session.clone(), acquire, free, context).await
    })
    .await
}

/// Changes how many there are.
async fn resize(
    client: &Client,
    name: &str,
    from: u32,
    to: u32,
    context: &mut Context,
) -> Result<()> {
    unless_stopped(&mut context.signals, async {
        let resized = client.semaphore(name, from).resize(to).await;
        resized.map_err(|error| explain(&format!("cannot resize {name}"), &error))
    })
    .await?;
    Ok(context
        .out
        .line(&to.to_string(), json!({ "permits": to }))?)
}
