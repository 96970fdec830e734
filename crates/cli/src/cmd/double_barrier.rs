//! `synod double-barrier`: a prompt, or a command between entering and leaving.

use std::time::Duration;

use serde_json::json;
use synod::{Client, DoubleBarrier};

use super::Context;
use super::held;
use super::work::{at_prompt, name_of, show, unless_stopped, with_client};
use crate::args::{DoubleBarrierArgs, Global};
use crate::child::{Child, command, result_of};
use crate::connect::Limits;
use crate::explain::explain;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::prompt::{Word, Words};

/// The double barrier that is meant when no name is given.
const DEFAULT_NAME: &str = "my-test-double-barrier";

/// How long the session's end may take; the lease is the backstop.
const RELEASE: Duration = Duration::from_secs(5);

pub(super) async fn run(
    global: &Global,
    args: DoubleBarrierArgs,
    mut context: Context,
) -> Result<()> {
    let name = name_of(global, DEFAULT_NAME)?;
    held::check_ttl(args.ttl)?;
    let limits = Limits {
        // The time is for the others to come, and says nothing about a single request.
        patience: None,
        session_ttl: Some(args.ttl),
    };
    with_client(
        global,
        limits,
        &mut context,
        async |client, url, context| {
            let member = Member {
                barrier: barrier(client, name, &args),
                name: name.to_owned(),
                limit: global.timeout,
            };
            if args.command.is_empty() {
                let what = "the double barrier";
                let mut words = MemberWords(member);
                at_prompt("double-barrier", what, name, url, &mut words, context).await
            } else {
                between(client, member, &args, context).await
            }
        },
    )
    .await
}

fn barrier(client: &Client, name: &str, args: &DoubleBarrierArgs) -> DoubleBarrier {
    let barrier = client.double_barrier(name, args.count);
    if args.go {
        barrier.go_compatible()
    } else {
        barrier
    }
}

/// One who takes part.
struct Member {
    barrier: DoubleBarrier,
    name: String,
    /// How long to wait for the others.
    limit: Option<Duration>,
}

impl Member {
    async fn enter(&self) -> Result<()> {
        let entered = match self.limit {
            None => self.barrier.enter().await.map(|()| true),
            Some(limit) => self.barrier.enter_timeout(limit).await,
        };
        match entered {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.late("entered")),
            Err(error) => Err(explain(&format!("cannot enter {}", self.name), &error)),
        }
    }

    async fn leave(&self) -> Result<()> {
        let left = match self.limit {
            None => self.barrier.leave().await.map(|()| true),
            Some(limit) => self.barrier.leave_timeout(limit).await,
        };
        match left {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.late("left")),
            Err(error) => Err(explain(&format!("cannot leave {}", self.name), &error)),
        }
    }

    fn late(&self, did: &str) -> Failure {
        let limit = show(self.limit.unwrap_or_default());
        let (name, count) = (&self.name, self.barrier.count());
        Failure::new(
            Exit::Nothing,
            format!("not all {count} have {did} {name} within {limit}"),
        )
    }
}

/// Enters, runs the command, and leaves.
async fn between(
    client: &Client,
    member: Member,
    args: &DoubleBarrierArgs,
    context: &mut Context,
) -> Result<()> {
    let session = held::session(client, args.ttl, &mut context.signals).await?;
    let member = Member {
        barrier: member.barrier.with_session(&session),
        ..member
    };
    let done = async {
        unless_stopped(&mut context.signals, member.enter()).await?;
        let Some(command) = command(&args.command) else {
            return Ok(());
        };
        let lost = async {
            session.lost().await;
            format!("lost {}: the command is being ended", member.name)
        };
        // Also when it cannot be run, the others are let go.
        let ran = match Child::spawn(command, None) {
            Ok(child) => child.stay(lost, args.grace, &mut context.signals).await,
            Err(failure) => Err(failure),
        };
        if let Ok(ended) = &ran
            && ended.lost
        {
            let cause = format!("the command was ended, with code {}", ended.code);
            return Err(
                Failure::new(Exit::Lost, format!("lost the place in {}", member.name)).cause(cause),
            );
        }
        let left = unless_stopped(&mut context.signals, member.leave()).await;
        result_of(ran?.code)?;
        left
    }
    .await;
    // An error says that the lease runs out by itself.
    let _ = tokio::time::timeout(RELEASE, session.close()).await;
    done
}

/// The words of the prompt.
struct MemberWords(Member);

const WORDS: [Word; 2] = [
    Word::alone(
        "enter",
        "wait until all have entered",
        "enter takes no value",
    ),
    Word::alone("leave", "wait until all have left", "leave takes no value"),
];

impl Words for MemberWords {
    fn words(&self) -> &'static [Word] {
        &WORDS
    }

    async fn run(&mut self, word: &str, _: &[Vec<u8>], out: &mut Output) -> Result<()> {
        match word {
            "enter" => {
                self.0.enter().await?;
                Ok(out.line("enter", json!({ "entered": true }))?)
            }
            "leave" => {
                self.0.leave().await?;
                Ok(out.line("leave", json!({ "left": true }))?)
            }
            // Whoever calls knows the table.
            _ => Err(Failure::answer(Exit::Usage, "unknown action")),
        }
    }
}
