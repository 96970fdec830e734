//! The program behind `cargo xtask chaos`: the runner, and the workers that it starts.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use synod_chaos::run::Options;
use synod_chaos::work::WorkerArgs;

/// Faults on a real etcd cluster while every primitive is at work, and a check of what came of it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", version)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks the histories of an earlier run once more: the folder named after its seed.
    Check {
        /// The folder.
        folder: std::path::PathBuf,
    },
    /// What the runner starts.
    #[command(hide = true)]
    Work(Box<WorkerArgs>),
}

#[tokio::main]
async fn main() -> ExitCode {
    let program = Program::parse();
    let ended = match program.command {
        Some(Command::Work(args)) => synod_chaos::work::run_process(*args).await,
        Some(Command::Check { folder }) => synod_chaos::run::check_again(&folder),
        None => synod_chaos::run::run(program.options).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
