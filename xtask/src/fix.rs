//! `cargo xtask fix`: writes what can be written, so that `verify` has less to complain of.

use anyhow::{Result, bail};

use crate::codegen;
use crate::steps::{Steps, cargo, run as run_program};

/// Runs the command; it takes no arguments.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("unknown arguments {args:?}; there are none");
    }
    let mut steps = Steps::default();
    steps.step("generated code", || codegen::run(&[]));
    steps.step("clippy", || {
        let mut clippy = cargo(&["clippy", "--fix", "--workspace", "--all-targets"])?;
        run_program(clippy.args(["--all-features", "--allow-dirty", "--allow-staged"]))
    });
    steps.step("format", || run_program(&mut cargo(&["fmt", "--all"])?));
    steps.finish()
}
