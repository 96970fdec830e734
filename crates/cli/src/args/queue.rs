//! `synod queue`: what can be typed.

use std::ffi::OsString;

use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
Examples:
  synod queue                                 a prompt: push VALUE, pop, len, peek, help, quit
  printf 'push a\\npop\\n' | synod queue        the same words from a pipe
  synod queue push a 'b c'                    push two values
  synod queue pop --timeout 5s                take one, wait at most 5 seconds
  synod queue --name jobs pop --follow        take items as they come, until Ctrl-C
  synod queue list --output json              show what is in it, and leave it there

The queue is the one of etcd's own Go recipes: Go programs can push and pop beside this command.
At the prompt, words are split as by a shell: quotes keep spaces together, # begins a comment.";

/// `synod queue`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QueueArgs {
    #[command(subcommand)]
    pub(crate) command: Option<QueueCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Appends values
    #[command(after_help = "\
Examples:
  synod queue push hello
  synod queue push a b 'c d'                  three values, in this order
  seq 1000 | synod queue push -               each line of standard input is a value
  synod queue push -- --dashed                a value that begins with a dash

Prints nothing. JSON: pushed (how many values).")]
    Push(PushArgs),
    /// Takes the oldest item and prints it; waits while the queue is empty
    #[command(after_help = "\
Examples:
  synod queue pop
  synod queue pop --timeout 5s                exit code 4 when nothing came in time
  synod queue pop --count 10                  ten items, a line each
  synod queue pop --follow                    until Ctrl-C or SIGTERM, or with --timeout until
                                              nothing has come for that long

An item that was taken but could not be printed is pushed again.
Ctrl-C loses nothing; a second one ends at once, also in the middle of printing an item.
JSON: value, or value_base64 when it is no UTF-8; a line for each item.")]
    Pop(PopArgs),
    /// Prints how many items there are
    #[command(after_help = "\
Examples:
  synod queue len
  synod queue --name jobs len --output json   fields: len")]
    Len,
    /// Prints the oldest item and leaves it there
    #[command(after_help = "\
Examples:
  synod queue peek                            exit code 4 when the queue is empty
  synod queue peek --output json              fields: key, and value or value_base64")]
    Peek,
    /// Prints all items, the oldest first, and leaves them there
    #[command(after_help = "\
Examples:
  synod queue list
  synod queue list --output json              a line for each item; fields: key, and value or
                                              value_base64")]
    List,
    /// Removes all items, and prints how many there were
    #[command(after_help = "\
Examples:
  synod queue clear
  synod queue --name jobs clear --output json fields: cleared")]
    Clear,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The values; a single `-` reads one from each line of standard input
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    pub(crate) values: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct PopArgs {
    /// How many items to take
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// Go on for ever
    #[arg(long, conflicts_with = "count")]
    pub(crate) follow: bool,
}
