//! `synod queue`: a prompt, or one command for scripts.

mod ops;
mod pop;
mod push;
mod words;

use serde_json::json;

use super::Context;
use super::work::{at_prompt, name_of, unless_stopped, with_client};
use crate::args::{Common, Global, QueueArgs};
use crate::failure::Result;

use ops::Ops;
use words::QueueWords;

/// The queue that is meant when no name is given.
const DEFAULT_NAME: &str = "my-test-queue";

pub(super) async fn run(global: &Global, args: QueueArgs, mut context: Context) -> Result<()> {
    let name = name_of(global, DEFAULT_NAME)?;
    let command = args.command.map(|command| command.split());
    // For `pop` the time is for an item to come, and says nothing about a single request.
    let patience = match &command {
        Some(Err(Common::Pop(_))) => None,
        _ => global.timeout,
    };
    with_client(
        global,
        patience,
        &mut context,
        async |client, url, context| {
            let ops = Ops::new(client, name);
            match command {
                None => {
                    let mut words = QueueWords::new(ops);
                    at_prompt("queue", "the queue", name, url, &mut words, context).await
                }
                Some(Ok(args)) => push::run(&ops, &args, context).await,
                Some(Err(Common::Pop(args))) => {
                    pop::run(&ops, &args, global.timeout, context).await
                }
                Some(Err(command)) => once(&ops, &command, context).await,
            }
        },
    )
    .await
}

/// The commands that ask once and do not wait.
async fn once(ops: &Ops, command: &Common, context: &mut Context) -> Result<()> {
    let out = &mut context.out;
    unless_stopped(&mut context.signals, async {
        match command {
            Common::Len => ops.len(out).await,
            Common::Peek => match ops.peek(out).await? {
                true => Ok(()),
                false => Err(ops.empty()),
            },
            Common::List => ops.list(out).await,
            Common::Clear => {
                let cleared = ops.clear().await?;
                Ok(out.line(&cleared.to_string(), json!({ "cleared": cleared }))?)
            }
            Common::Pop(_) | Common::Take(_) | Common::Dead(_) => Ok(()),
        }
    })
    .await
}
