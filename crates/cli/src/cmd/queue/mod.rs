//! `synod queue`: a prompt, or one command for scripts.

mod ops;
mod pop;
mod push;
mod words;

use std::time::Duration;

use serde_json::json;

use super::Context;
use crate::args::{Global, QueueArgs, QueueCommand};
use crate::connect::{Connected, connect};
use crate::failure::Result;
use crate::local::paths;
use crate::prompt::{self, Prompt};

use ops::Ops;
use words::QueueWords;

/// The queue that is meant when no name is given.
const DEFAULT_NAME: &str = "my-test-queue";

/// How long a client may take to tidy up at the end. An item whose taker was told to stop is put
/// back meanwhile.
const TIDY: Duration = Duration::from_secs(5);

pub(super) async fn run(global: &Global, args: QueueArgs, mut context: Context) -> Result<()> {
    let name = global.name.as_deref().unwrap_or(DEFAULT_NAME);
    // For `pop` the time is for an item to come, and says nothing about a single request.
    let patience = match &args.command {
        Some(QueueCommand::Pop(_)) => None,
        _ => global.timeout,
    };
    let Connected { client, url } =
        connect(global, &context.env, patience, &mut context.signals).await?;
    let ops = Ops::new(&client, name)?;
    let done = match args.command {
        None => at_prompt(ops, &url, &mut context).await,
        Some(QueueCommand::Push(args)) => push::run(&ops, &args, &mut context).await,
        Some(QueueCommand::Pop(args)) => pop::run(&ops, &args, global.timeout, &mut context).await,
        Some(command) => once(&ops, &command, &mut context).await,
    };
    // Nothing can be said of this but what was said already.
    let _ = tokio::time::timeout(TIDY, client.close()).await;
    done
}

async fn at_prompt(ops: Ops, url: &str, context: &mut Context) -> Result<()> {
    let history = paths::state_dir(&context.env)
        .and_then(|dir| paths::make_private(&dir).map(|()| dir.join("history-queue")));
    let prompt = Prompt {
        text: format!("{}> ", ops.name()),
        greeting: format!("the queue {} at {url}; `help` shows the words", ops.name()),
        history: history.ok(),
    };
    prompt::run(
        prompt,
        &mut QueueWords::new(ops),
        &mut context.out,
        &mut context.signals,
    )
    .await
}

/// The commands that ask once and do not wait.
async fn once(ops: &Ops, command: &QueueCommand, context: &mut Context) -> Result<()> {
    let out = &mut context.out;
    let asked = async {
        match command {
            QueueCommand::Len => ops.len(out).await,
            QueueCommand::Peek => match ops.peek(out).await? {
                true => Ok(()),
                false => Err(ops.empty()),
            },
            QueueCommand::List => ops.list(out).await,
            QueueCommand::Clear => {
                let cleared = ops.clear().await?;
                Ok(out.line(&cleared.to_string(), json!({ "cleared": cleared }))?)
            }
            QueueCommand::Push(_) | QueueCommand::Pop(_) => Ok(()),
        }
    };
    tokio::select! {
        biased;
        stop = context.signals.stop() => Err(stop.failure()),
        asked = asked => asked,
    }
}
