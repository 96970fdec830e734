//! The command `synod`: Synod's primitives at a prompt and in scripts, and a server.
//!
//! # Layout
//!
//! - `args`: what can be typed. `cmd`: what it does, a file each. `output`: how answers look.
//! - `prompt`: the prompt of every primitive. `local`: the server that nobody had to set up.
//! - `bench`: how `synod bench` measures and reports.
//! - `address`, `password`, `way`, `connect`: from options and environment to a connected client.
//! - `cluster`: etcd clusters on this machine.
//! - `child`: a command that `synod` runs and stays with. `written`: where a file goes that is written.
//! - `failure`, `explain`: what went wrong, the exit code, and the way out.

mod address;
mod args;
mod bench;
mod child;
mod cluster;
mod cmd;
mod connect;
mod env;
mod explain;
mod failure;
mod hangup;
mod local;
mod output;
mod password;
mod prompt;
mod signals;
mod way;
mod written;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use args::{Cli, Command, Format, LogFormat, LogLevel};
use cmd::Context;
use env::Env;
use failure::{Failure, Result};
use output::{Output, notice};
use signals::Signals;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return refuse(&answer),
    };
    let format = cli.global.output;
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                notice(failure.render(format).trim_end());
            }
            ExitCode::from(failure.exit.code())
        }
    }
}

/// What the parser says instead of a command line: help, the version, or what is wrong with it. The
/// last is an object for whoever asked for objects, like every other failure.
fn refuse(answer: &clap::Error) -> ExitCode {
    if !answer.use_stderr() || !args::asks_for_json(std::env::args_os()) {
        answer.exit()
    }
    let failure = Failure::of_command_line(answer);
    notice(failure.render(Format::Json).trim_end());
    ExitCode::from(failure.exit.code())
}

fn start(cli: Cli) -> Result<()> {
    let env = Env::of_process();
    log(&cli.command, &env)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = worker_threads(&cli.command) {
        builder.worker_threads(threads);
    }
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("cannot start").because(&error))?;
    let format: Format = cli.global.output;
    let result = runtime.block_on(async {
        let context = Context {
            env,
            signals: Signals::listen()?,
            out: Output::stdout(format),
        };
        cmd::run(cli, context).await
    });
    // What still runs has nothing left to give back: see `queue`, which waits for what has.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// How many threads serve requests, where it is not left to the runtime (a thread a processor).
///
/// A server takes half: the store's writer and the kernel's part of each sync and packet need the rest, and with
/// more, a request that comes alone wakes threads that find nothing to do (7 switches a put instead of 5
/// on two processors). `$TOKIO_WORKER_THREADS` has the last word, as in every program on this runtime.
fn worker_threads(command: &Command) -> Option<usize> {
    if !matches!(command, Command::Serve(_)) || std::env::var_os("TOKIO_WORKER_THREADS").is_some() {
        return None;
    }
    let processors = std::thread::available_parallelism().ok()?.get();
    Some((processors / 2).max(1))
}

/// Logs to stderr what `$SYNOD_LOG` asks for: a server what happens to it, a command nothing but
/// what it says itself.
fn log(command: &Command, env: &Env) -> Result<()> {
    let (usual, format) = match command {
        Command::Serve(args) => {
            let level = args.log_level.unwrap_or(LogLevel::Info).name();
            // What others have to say interests when it is about trouble, or when everything does.
            let others = match args.log_level {
                Some(level @ (LogLevel::Error | LogLevel::Trace)) => level.name(),
                _ => "warn",
            };
            let usual = format!("{others},synod={level},synod_engine={level},synod_server={level}");
            (usual, args.log_format)
        }
        _ => ("off".to_owned(), LogFormat::Text),
    };
    let filter = match env.text("SYNOD_LOG")? {
        None => EnvFilter::new(usual),
        Some(text) => EnvFilter::try_new(&text).map_err(|error| {
            Failure::usage(format!("$SYNOD_LOG is no filter for logs: {text}"))
                .because(&error)
                .hint("such as `debug`, or `warn,synod_engine=debug`")
        })?,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // One line for each operation that is looked at, with what came of it.
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
