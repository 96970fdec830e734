//! `synod queue` and `synod priority-queue`: a prompt, or one command for scripts. What both can do
//! is here once; they differ in what is pushed.

mod dead;
mod ops;
mod pop;
mod push;
mod take;
mod words;

use std::time::Duration;

use serde_json::json;

use super::Context;
use super::work::{at_prompt, name_of, unless_stopped, with_client};
use crate::args::{Common, Global, PriorityPushArgs, PriorityQueueArgs, PushArgs, QueueArgs};
use crate::failure::Result;

use ops::{Any, Ops};
use words::QueueWords;

/// The queues that are meant when no name is given.
const DEFAULT_NAME: &str = "my-test-queue";
const DEFAULT_PRIORITY_NAME: &str = "my-test-priority-queue";

/// What a command line asks for.
enum Action {
    Prompt,
    Push(PushArgs),
    PushPriority(PriorityPushArgs),
    Common(Common),
}

impl Action {
    /// How long a request may take. Where there is waiting for an item, the time is for that, and
    /// says nothing about a single request.
    fn patience(&self, global: &Global) -> Option<Duration> {
        match self {
            Action::Common(Common::Pop(_) | Common::Take(_)) => None,
            _ => global.timeout,
        }
    }
}

/// `synod queue`.
pub(super) async fn run(global: &Global, args: QueueArgs, mut context: Context) -> Result<()> {
    let name = name_of(global, DEFAULT_NAME)?;
    let action = match args.command.map(|command| command.split()) {
        None => Action::Prompt,
        Some(Ok(push)) => Action::Push(push),
        Some(Err(common)) => Action::Common(common),
    };
    let patience = action.patience(global);
    with_client(
        global,
        patience,
        &mut context,
        async |client, url, context| {
            let ops = Ops::new(Any::Queue(client.queue(name)), name);
            act(ops, action, global, url, context).await
        },
    )
    .await
}

/// `synod priority-queue`.
pub(super) async fn run_priority(
    global: &Global,
    args: PriorityQueueArgs,
    mut context: Context,
) -> Result<()> {
    let name = name_of(global, DEFAULT_PRIORITY_NAME)?;
    let action = match args.command.map(|command| command.split()) {
        None => Action::Prompt,
        Some(Ok(push)) => Action::PushPriority(push),
        Some(Err(common)) => Action::Common(common),
    };
    let patience = action.patience(global);
    with_client(
        global,
        patience,
        &mut context,
        async |client, url, context| {
            let ops = Ops::new(Any::Priority(client.priority_queue(name)), name);
            act(ops, action, global, url, context).await
        },
    )
    .await
}

async fn act(
    ops: Ops,
    action: Action,
    global: &Global,
    url: &str,
    context: &mut Context,
) -> Result<()> {
    match action {
        Action::Prompt => {
            let name = ops.name().to_owned();
            let (command, what) = if ops.is_priority() {
                ("priority-queue", "the priority queue")
            } else {
                ("queue", "the queue")
            };
            let mut words = QueueWords::new(ops, global.timeout);
            at_prompt(command, what, &name, url, &mut words, context).await
        }
        Action::Push(args) => push::run(&ops, &args.values, &args.how, context).await,
        Action::PushPriority(args) => push::run(&ops, &args.values, &args.how, context).await,
        Action::Common(Common::Pop(args)) => pop::run(&ops, &args, global.timeout, context).await,
        Action::Common(Common::Take(args)) => take::run(&ops, &args, global.timeout, context).await,
        Action::Common(common) => once(&ops, &common, context).await,
    }
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
            Common::Dead(command) => dead::run(ops, command, out).await,
            // Those wait: see `act`.
            Common::Pop(_) | Common::Take(_) => Ok(()),
        }
    })
    .await
}
