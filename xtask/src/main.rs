//! The project's own commands: `cargo xtask <command> [options]`. Each command is one file beside
//! this one and one line in [`COMMANDS`].

mod chaos;
mod codegen;
mod compare;
mod etcd;
mod fix;
mod go;
mod house;
mod licences;
mod metadata;
mod steps;
mod test;
mod verify;

use std::process::ExitCode;

/// A subcommand: its name, what `cargo xtask` says about it, and what it does with the arguments
/// that follow.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "test",
        about: "run every test on every store, with a real etcd (--filter PATTERN, --package NAME)",
        run: test::run,
    },
    Command {
        name: "verify",
        about: "check everything but the tests; never writes in the tree",
        run: verify::run,
    },
    Command {
        name: "fix",
        about: "write what can be written: generated code, clippy's suggestions, format",
        run: fix::run,
    },
    Command {
        name: "codegen",
        about: "write crates/wire/src/generated from the .proto files (--check: only compare)",
        run: codegen::run,
    },
    Command {
        name: "chaos",
        about: "faults on a real etcd cluster with every primitive at work, and a check of what came \
                of it (--seed N, --minutes M, --primitive P,.., --fault F,.., --nodes 3; --help)",
        run: chaos::run,
    },
    Command {
        name: "compare",
        about: "measure beside Go, raw calls and Redis, and write docs/performance.md \
                (--rows NAMES, --nodes 1,3, --repeats N, --seconds S, --render-only)",
        run: compare::run,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        usage();
        return ExitCode::FAILURE;
    };
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        usage();
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("no command `{name}`");
        usage();
        return ExitCode::FAILURE;
    };
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() {
    eprintln!("usage: cargo xtask <command> [options]\n");
    for command in COMMANDS {
        eprintln!("  {:<10} {}", command.name, command.about);
    }
}
