//! `synod completions`: the completion script of a shell.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::args::Cli;
use crate::failure::Result;

pub(super) fn run(shell: clap_complete::Shell) -> Result<()> {
    // Into memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "synod", &mut script);
    let mut out = io::stdout();
    out.write_all(&script)?;
    out.flush()?;
    Ok(())
}
