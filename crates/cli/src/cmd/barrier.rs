//! `synod barrier`: a prompt, or one command for scripts.

use std::time::Duration;

use serde_json::json;
use synod::{Barrier, Client, Session};

use super::Context;
use super::held;
use super::work::{at_prompt, name_of, show, unless_stopped, with_client};
use crate::args::{BarrierArgs, BarrierCommand, Global, HoldBarrierArgs};
use crate::child::{Child, command, result_of};
use crate::explain::explain;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::prompt::{Word, Words};

/// The barrier that is meant when no name is given.
const DEFAULT_NAME: &str = "my-test-barrier";

/// The time to live of a hold that ends with this process.
const TTL: Duration = Duration::from_secs(10);

/// How long the release at the end may take; the lease is the backstop.
const RELEASE: Duration = Duration::from_secs(5);

pub(super) async fn run(global: &Global, args: BarrierArgs, mut context: Context) -> Result<()> {
    let name = name_of(global, DEFAULT_NAME)?;
    let releases = match &args.command {
        None | Some(BarrierCommand::Release) => true,
        Some(BarrierCommand::Hold(hold)) => hold.is_bound(),
        Some(BarrierCommand::Wait) => false,
    };
    if args.go && !releases {
        return Err(
            Failure::usage("--go says how to release, which this does not do")
                .hint("it is the release that wakes Go programs: `synod barrier release --go`"),
        );
    }
    // Where there may be waiting, the time is for that, and says nothing about a single request.
    let patience = match &args.command {
        None | Some(BarrierCommand::Wait) => None,
        Some(_) => global.timeout,
    };
    with_client(
        global,
        patience,
        &mut context,
        async |client, url, context| {
            let gate = Gate::new(client, name, args.go, global.timeout);
            match &args.command {
                None => {
                    let mut words = BarrierWords(gate);
                    at_prompt("barrier", "the barrier", name, url, &mut words, context).await
                }
                Some(BarrierCommand::Hold(hold)) if hold.is_bound() => {
                    hold_here(client, gate, hold, context).await
                }
                Some(command) => {
                    unless_stopped(&mut context.signals, async {
                        match command {
                            BarrierCommand::Hold(_) => gate.hold(&mut context.out).await,
                            BarrierCommand::Release => gate.release(&mut context.out).await,
                            BarrierCommand::Wait => gate.wait(&mut context.out).await,
                        }
                    })
                    .await
                }
            }
        },
    )
    .await
}

/// A barrier, for somebody who types.
struct Gate {
    barrier: Barrier,
    name: String,
    /// How long to wait for its release.
    limit: Option<Duration>,
}

impl Gate {
    fn new(client: &Client, name: &str, go: bool, limit: Option<Duration>) -> Gate {
        let barrier = client.barrier(name);
        Gate {
            barrier: if go {
                barrier.wake_old_go_waiters()
            } else {
                barrier
            },
            name: name.to_owned(),
            limit,
        }
    }

    async fn take_hold(&self) -> Result<()> {
        let held = self.barrier.hold().await;
        held.map_err(|error| explain(&format!("cannot hold the barrier {}", self.name), &error))
    }

    async fn let_go(&self) -> Result<bool> {
        let released = self.barrier.release().await;
        released
            .map_err(|error| explain(&format!("cannot release the barrier {}", self.name), &error))
    }

    async fn hold(&self, out: &mut Output) -> Result<()> {
        self.take_hold().await?;
        Ok(out.line("hold", json!({ "held": true }))?)
    }

    async fn release(&self, out: &mut Output) -> Result<()> {
        self.let_go().await?;
        Ok(out.line("released", json!({ "released": true }))?)
    }

    async fn wait(&self, out: &mut Output) -> Result<()> {
        let waited = match self.limit {
            None => self.barrier.wait().await.map(|()| true),
            // Also when no time is left, an open barrier is found open.
            Some(limit) => match self.barrier.is_held().await {
                Ok(true) => self.barrier.wait_timeout(limit).await,
                open => open.map(|_| true),
            },
        };
        let name = &self.name;
        match waited {
            Ok(true) => Ok(out.line("after wait", json!({ "waited": true }))?),
            Ok(false) => Err(Failure::new(
                Exit::Nothing,
                format!(
                    "the barrier {name} was not released within {}",
                    show(self.limit.unwrap_or_default())
                ),
            )),
            Err(error) => Err(explain(
                &format!("cannot wait for the barrier {name}"),
                &error,
            )),
        }
    }
}

impl HoldBarrierArgs {
    /// Whether the hold ends with this process.
    fn is_bound(&self) -> bool {
        self.ttl.is_some() || !self.command.is_empty()
    }
}

/// Holds it while a command runs, or until Ctrl-C.
async fn hold_here(
    client: &Client,
    gate: Gate,
    args: &HoldBarrierArgs,
    context: &mut Context,
) -> Result<()> {
    let session = held::session(client, args.ttl.unwrap_or(TTL), &mut context.signals).await?;
    let gate = Gate {
        barrier: gate.barrier.with_session(&session),
        ..gate
    };
    let stayed = match unless_stopped(&mut context.signals, gate.take_hold()).await {
        Ok(()) => stay(&gate, &session, args, context).await,
        Err(failure) => Err(failure),
    };
    let ending = async {
        // Only one's own hold, and for Go programs not with the lease alone.
        if is_ours(client, &gate, &session).await {
            gate.let_go().await?;
        }
        let closed = session.close().await;
        closed.map_err(|error| explain("cannot end the session", &error))
    };
    let ended = tokio::time::timeout(RELEASE, ending).await;
    stayed?;
    ended.unwrap_or_else(|_| {
        Err(Failure::new(
            Exit::Unreachable,
            format!("could not release {} within {}", gate.name, show(RELEASE)),
        )
        .hint("that happens when the time of --ttl has run out"))
    })
}

async fn stay(
    gate: &Gate,
    session: &Session,
    args: &HoldBarrierArgs,
    context: &mut Context,
) -> Result<()> {
    let lost = || Failure::new(Exit::Lost, format!("lost the barrier {}", gate.name));
    let Some(command) = command(&args.command) else {
        context.out.line("hold", json!({ "held": true }))?;
        return tokio::select! {
            biased;
            stop = context.signals.stop() => Err(stop.failure()),
            () = session.lost() => Err(lost()),
        };
    };
    let gone = async {
        session.lost().await;
        format!("lost the barrier {}: the command is being ended", gate.name)
    };
    let child = Child::spawn(command, None)?;
    let ended = child.stay(gone, args.grace, &mut context.signals).await?;
    if ended.lost {
        return Err(lost().cause(format!("the command was ended, with code {}", ended.code)));
    }
    result_of(ended.code)
}

/// Whether the barrier is held with the lease of this session.
async fn is_ours(client: &Client, gate: &Gate, session: &Session) -> bool {
    let request = synod_store::RangeRequest::new(gate.barrier.name().clone());
    let found = client.store().range(request).await;
    found.is_ok_and(|found| {
        let mut leases = found.kvs.iter().map(|kv| kv.lease);
        leases.any(|lease| lease == Some(session.lease()))
    })
}

/// The words of the prompt.
struct BarrierWords(Gate);

const WORDS: [Word; 3] = [
    Word::alone("hold", "close the barrier", "hold takes no value"),
    Word::alone("release", "open it again", "release takes no value"),
    Word::alone("wait", "wait until nobody holds it", "wait takes no value"),
];

impl Words for BarrierWords {
    fn words(&self) -> &'static [Word] {
        &WORDS
    }

    async fn run(&mut self, word: &str, _: &[Vec<u8>], out: &mut Output) -> Result<()> {
        match word {
            "hold" => self.0.hold(out).await,
            "release" => self.0.release(out).await,
            "wait" => self.0.wait(out).await,
            // Whoever calls knows the table.
            _ => Err(Failure::answer(Exit::Usage, "unknown action")),
        }
    }
}
