//! What the commands of all primitives have around their work: a client before it and a tidy end
//! after it, and the prompt.

use std::time::Duration;

use synod::Client;

use super::Context;
use crate::args::Global;
use crate::connect::{Connected, Limits, connect};
use crate::failure::{Failure, Result};
use crate::local::paths;
use crate::prompt::{self, Prompt, Words};
use crate::signals::Signals;

/// How long a client may take to tidy up at the end. An item whose taker was told to stop is put
/// back meanwhile.
const TIDY: Duration = Duration::from_secs(5);

/// Connects, does `work`, and leaves nothing behind.
pub(super) async fn with_client(
    global: &Global,
    limits: impl Into<Limits>,
    context: &mut Context,
    work: impl AsyncFnOnce(&Client, &str, &mut Context) -> Result<()>,
) -> Result<()> {
    let Connected { client, url, .. } =
        connect(global, &context.env, limits.into(), &mut context.signals).await?;
    let done = work(&client, &url, context).await;
    // Nothing can be said of this but what was said already.
    let _ = tokio::time::timeout(TIDY, client.close()).await;
    done
}

/// The name that `--name` gives, or the default of this kind of object.
pub(super) fn name_of<'a>(global: &'a Global, default: &'a str) -> Result<&'a str> {
    match global.name.as_deref() {
        None => Ok(default),
        Some("") => Err(Failure::usage("the name is empty").hint("--name NAME")),
        Some(name) => Ok(name),
    }
}

/// The prompt of a primitive: `command` is what was typed for it, `what` tells what is worked on.
pub(super) async fn at_prompt(
    command: &str,
    what: &str,
    name: &str,
    url: &str,
    words: &mut impl Words,
    context: &mut Context,
) -> Result<()> {
    let history = paths::state_dir(&context.env)
        .and_then(|dir| paths::make_private(&dir).map(|()| dir.join(format!("history-{command}"))));
    let prompt = Prompt {
        text: format!("{name}> "),
        greeting: format!("{what} {name} at {url}; `help` shows the words"),
        history: history.ok(),
    };
    prompt::run(prompt, words, &mut context.out, &mut context.signals).await
}

/// Does `work`, unless Ctrl-C or SIGTERM comes first: then it is dropped.
pub(super) async fn unless_stopped<T>(
    signals: &mut Signals,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        stop = signals.stop() => Err(stop.failure()),
        done = work => done,
    }
}

/// `5s`, for messages.
pub(super) fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
