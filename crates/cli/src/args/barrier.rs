//! `synod barrier` and `synod double-barrier`: what can be typed.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::global::duration;

const BARRIER_EXAMPLES: &str = "\
Examples:
  synod barrier                               a prompt: hold, wait, release, help, quit
  printf 'hold\\nrelease\\nwait\\n' | synod barrier
  synod barrier --name maintenance hold       close it, for all
  synod barrier --name maintenance wait && ./work.sh
  synod barrier --name maintenance release    open it again

The barrier is that of etcd's Go recipes: Go programs can hold and wait beside this command.";

/// `synod barrier`.
#[derive(Debug, Args)]
#[command(after_help = BARRIER_EXAMPLES)]
pub(crate) struct BarrierArgs {
    /// When releasing, also wake Go clients up to etcd 3.5.33, which miss the release otherwise
    #[arg(long, global = true)]
    pub(crate) go: bool,
    #[command(subcommand)]
    pub(crate) command: Option<BarrierCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BarrierCommand {
    /// Closes the barrier: whoever waits does so until it is released
    #[command(after_help = "\
Examples:
  synod barrier hold                          until somebody releases it; exit code 1 and who holds
                                              it, when somebody does
  synod barrier hold -- ./migrate.sh          while the command runs
  synod barrier hold --ttl 1m                 until Ctrl-C

Prints `hold`, but not when it runs a command. With a command or --ttl the barrier is released when
this process ends, and at most --ttl (10s) after it was killed, or lost the store.
The exit code is the command's; 6 when the store was lost, which ends the command.
JSON: held (true).")]
    Hold(HoldBarrierArgs),
    /// Opens the barrier
    #[command(after_help = "\
Examples:
  synod barrier release
  synod barrier release --go                  wake Go clients up to etcd 3.5.33 as well

Prints `released`, also when nobody held it. JSON: released (true).")]
    Release,
    /// Waits until nobody holds the barrier
    #[command(after_help = "\
Examples:
  synod barrier wait
  synod barrier wait --timeout 5s             exit code 4 when it is still held then

Prints `after wait`. JSON: waited (true).")]
    Wait,
}

#[derive(Debug, Args)]
pub(crate) struct HoldBarrierArgs {
    /// Hold it as long as this process lives, and so long after it died, or lost the store
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// For so long the command may go on after SIGTERM when the store was lost; then comes SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, requires = "command")]
    pub(crate) grace: Duration,
    /// What to run while it is held
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

const DOUBLE_BARRIER_EXAMPLES: &str = "\
Examples:
  synod double-barrier -c 3                   a prompt: enter, leave, help, quit
  synod double-barrier -c 3 -- ./phase.sh     enter, run the command, leave
  synod double-barrier -c 3 --timeout 1m -- ./phase.sh
                                              exit code 4 when the others do not come in a minute
  synod double-barrier -c 2 --go              with programs that use etcd's Go recipes

`enter` returns when all have entered, `leave` when all have left; each prints its name then. All
must say the same count. It can be used again and again.
With a command the exit code is the command's, which is run only when all have entered; whatever it
is, this process leaves.
JSON: entered (true), left (true).";

/// `synod double-barrier`.
#[derive(Debug, Args)]
#[command(after_help = DOUBLE_BARRIER_EXAMPLES)]
pub(crate) struct DoubleBarrierArgs {
    /// How many take part
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Use the keys of etcd's Go recipes, so that Go programs can take part; all must do so then
    #[arg(long)]
    pub(crate) go: bool,
    /// For so long this process counts as taking part after it died, or lost the store
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) ttl: Duration,
    /// For so long the command may go on after SIGTERM when the store was lost; then comes SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, requires = "command")]
    pub(crate) grace: Duration,
    /// What to run between entering and leaving
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}
