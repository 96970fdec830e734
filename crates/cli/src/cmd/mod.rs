//! What the commands do: a file or folder each, named like the command.

mod barrier;
mod bench;
mod cluster;
mod completions;
mod double_barrier;
mod elect;
mod held;
mod lock;
mod queue;
mod rwlock;
mod semaphore;
mod serve;
mod snapshot;
mod status;
mod stm;
mod stop;
mod txn;
mod verify;
mod work;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::args::{Cli, Command};
use crate::env::Env;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::signals::Signals;

/// What every command is given.
pub(crate) struct Context {
    pub(crate) env: Env,
    pub(crate) signals: Signals,
    pub(crate) out: Output,
}

/// Runs a command.
pub(crate) async fn run(cli: Cli, context: Context) -> Result<()> {
    let global = cli.global;
    // A shell is content with nothing to do: the item would be gone, the lock have protected nothing.
    if cli.command.runs().is_some_and(is_blank) {
        return Err(Failure::usage("the command to run is empty")
            .hint("if it comes from a variable of a shell: is that set?"));
    }
    match cli.command {
        Command::Queue(args) => queue::run(&global, args, context).await,
        Command::PriorityQueue(args) => queue::run_priority(&global, args, context).await,
        Command::Barrier(args) => barrier::run(&global, args, context).await,
        Command::DoubleBarrier(args) => double_barrier::run(&global, args, context).await,
        Command::Lock(args) => lock::run(&global, args, context).await,
        Command::RwLock(args) => rwlock::run(&global, args, context).await,
        Command::Semaphore(args) => semaphore::run(&global, args, context).await,
        Command::Elect(args) => elect::run(&global, args, context).await,
        Command::Stm(args) => stm::run(&global, args, context).await,
        Command::Txn(args) => txn::run(&global, args, context).await,
        Command::Bench(args) => bench::run(&global, args, context).await,
        Command::Cluster(args) => {
            global.refuse_connection("cluster", "it works on processes of this machine")?;
            cluster::run(args, context).await
        }
        Command::Serve(args) => {
            global.refuse_connection("serve", "a server listens: see --listen and --cert-file")?;
            serve::run(args, context).await
        }
        Command::Snapshot(args) => snapshot::run(&global, args, context).await,
        Command::Status => {
            global.refuse_name("status")?;
            status::run(&global, context).await
        }
        Command::Stop => {
            global.refuse_connection("stop", "it ends the server on this machine alone")?;
            stop::run(context).await
        }
        Command::Verify { dir } => {
            global.refuse_connection("verify", "it reads a directory")?;
            verify::run(&dir, context).await
        }
        Command::Completions { shell } => {
            global.refuse_connection("completions", "it prints a script")?;
            completions::run(shell)
        }
    }
}

fn is_blank(line: &OsStr) -> bool {
    line.as_bytes().iter().all(u8::is_ascii_whitespace)
}
