//! `cargo xtask chaos`: builds the chaos program, finds an etcd, and runs it with the given options.

use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::{cargo, root, run as run_program};
use crate::{etcd, metadata};

/// Runs the command with the arguments after its name, which are the program's (`--help` shows them).
pub(crate) fn run(args: &[String]) -> Result<()> {
    // With the checks of a debug build: speed is not what is looked for.
    run_program(&mut cargo(&[
        "build",
        "--quiet",
        "--package",
        "synod-chaos",
    ])?)?;
    let program = metadata::target_directory()?.join("debug/synod-chaos");
    let mut command = Command::new(program);
    if !args.iter().any(|arg| arg == "--help" || arg == "-h") {
        command.env("SYNOD_ETCD", etcd::find_or_install()?);
    }
    // In the tree's root, below which it keeps what it found.
    let status = command
        .args(args)
        .current_dir(root()?)
        .status()
        .context("synod-chaos cannot be started")?;
    // Its own words have said why.
    if !status.success() {
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}
