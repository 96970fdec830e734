//! `synod queue` and `synod priority-queue`: what can be typed. The commands of both are the same,
//! but for what is pushed.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::global::duration;

const QUEUE_EXAMPLES: &str = "\
Examples:
  synod queue                                 a prompt: push VALUE, pop, len, peek, help, quit
  printf 'push a\\npop\\n' | synod queue        the same words from a pipe
  synod queue push a 'b c'                    push two values
  synod queue pop --timeout 5s                take one, wait at most 5 seconds
  synod queue --name jobs pop --follow        take items as they come, until Ctrl-C
  synod queue take --exec ./work.sh           run a command on an item; it is not lost when that fails
  synod queue --timeout 5s                    a prompt whose pop waits at most 5 seconds
  synod queue list --output json              show what is in it, and leave it there

The queue is the one of etcd's own Go recipes: Go programs can push and pop beside this command.
At the prompt, words are split as by a shell: quotes keep spaces together, # begins a comment.";

const PRIORITY_QUEUE_EXAMPLES: &str = "\
Examples:
  synod pq                                    a prompt: push VALUE PRIORITY, pop, len, peek, help, quit
  printf 'push a 2\\npush b 1\\npop\\n' | synod pq
  synod pq push urgent 0                      the lower number comes out first
  synod pq pop --timeout 5s                   take one, wait at most 5 seconds
  synod pq --name jobs pop --follow           take items as they come, until Ctrl-C
  synod pq take --exec ./work.sh              run a command on an item; it is not lost when that fails
  synod pq list --output json                 show what is in it, and leave it there

A priority is a number from 0 to 65535; of two items with the same one, the first pushed comes out
first. The queue is the one of etcd's own Go recipes: Go programs can push and pop beside this
command.
At the prompt, words are split as by a shell: quotes keep spaces together, # begins a comment.";

/// `synod queue`.
#[derive(Debug, Args)]
#[command(after_help = QUEUE_EXAMPLES)]
pub(crate) struct QueueArgs {
    #[command(subcommand)]
    pub(crate) command: Option<QueueCommand>,
}

/// `synod priority-queue`.
#[derive(Debug, Args)]
#[command(after_help = PRIORITY_QUEUE_EXAMPLES)]
pub(crate) struct PriorityQueueArgs {
    #[command(subcommand)]
    pub(crate) command: Option<PriorityQueueCommand>,
}

/// The commands of a queue: `$cmd` is what is typed for it, `$pad` makes it as wide as `queue`.
macro_rules! queue_commands {
    ($name:ident, $cmd:literal, $pad:literal, push: $push:ty, $push_about:literal, $push_help:literal) => {
        #[derive(Debug, Subcommand)]
        pub(crate) enum $name {
            #[doc = $push_about]
            #[command(after_help = $push_help)]
            Push($push),
            /// Takes the first item and prints it; waits while there is none
            #[command(after_help = concat!("\
Examples:
  synod ", $cmd, " pop
  synod ", $cmd, " pop --timeout 5s", $pad, "                exit code 4 when nothing came in time
  synod ", $cmd, " pop --count 10", $pad, "                  ten items, a line each
  synod ", $cmd, " pop --follow", $pad, "                    until Ctrl-C or SIGTERM, or with --timeout
                                              until nothing has come for that long

An item that was taken but could not be printed is pushed again, at most one: exit code 1 then.
Ctrl-C loses nothing; a second one ends at once, also in the middle of printing an item.
JSON: value, or value_base64 when it is no UTF-8; a line for each item."))]
            Pop(PopArgs),
            /// Runs a command on the first item; only when it succeeds, the item is gone
            #[command(after_help = concat!("\
Examples:
  synod ", $cmd, " take --exec ./work.sh
  synod ", $cmd, " take --follow --exec 'tar -x -C /srv'
  synod ", $cmd, " take --max-attempts 3 --retry-after 10s --follow --exec ./work.sh
  synod ", $cmd, " take --timeout 0s --exec ./work.sh
                                              exit code 4 when nothing is there

The command is a line for `sh`. The item is its standard input, byte for byte; SYNOD_ITEM_KEY names
it, SYNOD_ITEM_ATTEMPT counts its deliveries from 1. When the command exits with 0 the item is
acknowledged and gone, else it goes back, to be delivered again. The same happens when this process
dies, as soon as --visibility has run out; while the command runs, that time is extended. An item
that has been delivered --max-attempts times is put aside: see `synod ", $cmd, " dead`.
Ctrl-C and SIGTERM go to the command, and nothing more is taken.
The exit code is the command's, of the first one that failed when there were several; 6 when its
delivery ended under it. A command that cannot be run (126, 127) ends everything.
JSON: a line for each item with key, attempt, code (of the command) and outcome (`acked`, `nacked`,
or `ended` when the delivery ended under the command, which is killed then)."))]
            Take(TakeArgs),
            /// The items that failed too often
            Dead(DeadArgs),
            /// Prints how many items there are
            #[command(after_help = concat!("\
Examples:
  synod ", $cmd, " len
  synod ", $cmd, " --name jobs len --output json", $pad, "   fields: len"))]
            Len,
            /// Prints the first item and leaves it there
            #[command(after_help = concat!("\
Examples:
  synod ", $cmd, " peek", $pad, "                            exit code 4 when the queue is empty
  synod ", $cmd, " peek --output json", $pad, "              fields: key, value or value_base64, and in a
                                              priority queue priority"))]
            Peek,
            /// Prints all items, the first one first, and leaves them there
            #[command(after_help = concat!("\
Examples:
  synod ", $cmd, " list
  synod ", $cmd, " list --output json", $pad, "              a line for each item, with the fields of `peek`"))]
            List,
            /// Removes all items, and prints how many there were
            #[command(after_help = concat!("\
Examples:
  synod ", $cmd, " clear
  synod ", $cmd, " --name jobs clear --output json", $pad, " fields: cleared"))]
            Clear,
        }

        impl $name {
            /// What to push, or what else to do.
            pub(crate) fn split(self) -> Result<$push, Common> {
                Err(match self {
                    $name::Push(args) => return Ok(args),
                    $name::Pop(args) => Common::Pop(args),
                    $name::Take(args) => Common::Take(args),
                    $name::Dead(args) => Common::Dead(args.command),
                    $name::Len => Common::Len,
                    $name::Peek => Common::Peek,
                    $name::List => Common::List,
                    $name::Clear => Common::Clear,
                })
            }
        }
    };
}

queue_commands!(QueueCommand, "queue", "", push: PushArgs, "Appends values", "\
Examples:
  synod queue push hello
  synod queue push a b 'c d'                  three values, in this order
  seq 1000 | synod queue push -               each line of standard input is a value
  synod queue push -- --dashed                a value that begins with a dash
  synod queue push later --delay 10m          it can be taken in ten minutes
  synod queue push job --id 2026-11-22        once, when this is repeated within five minutes
  synod queue push job --capacity 1000        exit code 1 when so many items are there

Prints nothing. JSON: pushed (how many values).");

queue_commands!(PriorityQueueCommand, "pq", "   ", push: PriorityPushArgs, "Puts a value in, under its priority", "\
Examples:
  synod pq push urgent 0
  synod pq push 'when there is time' 65535
  printf 'a 2\\nb c 1\\n' | synod pq push -     each line of standard input is a value, a space and its
                                              priority
  synod pq push later 5 --delay 10m           it can be taken in ten minutes
  synod pq push job 5 --id 2026-11-22         once, when this is repeated within five minutes
  synod pq push job 5 --capacity 1000         exit code 1 when so many items are there

Prints nothing. JSON: pushed (how many values).");

/// What both can do.
#[derive(Debug)]
pub(crate) enum Common {
    Pop(PopArgs),
    Take(TakeArgs),
    Dead(DeadCommand),
    Len,
    Peek,
    List,
    Clear,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The values; a single `-` reads one from each line of standard input
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    pub(crate) values: Vec<OsString>,
    #[command(flatten)]
    pub(crate) how: PushHow,
}

#[derive(Debug, Args)]
pub(crate) struct PriorityPushArgs {
    /// The value and its priority; a single `-` reads both from each line of standard input
    #[arg(value_names = ["VALUE", "PRIORITY"], num_args = 0..=2, allow_negative_numbers = true)]
    pub(crate) values: Vec<OsString>,
    #[command(flatten)]
    pub(crate) how: PushHow,
}

/// How values go in.
#[derive(Debug, Clone, Args)]
pub(crate) struct PushHow {
    /// Nobody can take it before so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) delay: Option<Duration>,
    /// Push it only if nothing was pushed with this id lately
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// For how long an id is remembered [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "id")]
    pub(crate) id_window: Option<Duration>,
    /// Refuse it when the queue holds so many items; those that are taken or delayed count
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) capacity: Option<u64>,
}

impl PushHow {
    /// Whether they ask for nothing special.
    pub(crate) fn is_plain(&self) -> bool {
        self.delay.is_none() && self.id.is_none() && self.capacity.is_none()
    }
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

#[derive(Debug, Args)]
pub(crate) struct TakeArgs {
    /// What to run, as a line for `sh`
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: OsString,
    /// Deliver the item again when nothing was heard of this process for so long
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) visibility: Duration,
    /// Put the item aside after so many deliveries; 0 for never
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) max_attempts: u32,
    /// Deliver an item whose command failed again after so long, instead of at once
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) retry_after: Option<Duration>,
    /// For so long the command may go on after SIGTERM when its delivery ended; then comes SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) many: PopArgs,
}

const DEAD_EXAMPLES: &str = "\
Examples:
  synod queue dead list                       the items that failed too often
  synod queue dead requeue                    put them all back
  synod queue --name jobs dead clear
  synod pq dead list                          the same for a priority queue";

/// `synod queue dead`.
#[derive(Debug, Args)]
#[command(after_help = DEAD_EXAMPLES)]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    pub(crate) command: DeadCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Prints them, and leaves them there
    #[command(after_help = "\
Examples:
  synod queue dead list
  synod queue dead list --output json         a line for each item; fields: key, item (the key that it
                                              had in the queue), attempts, and value or value_base64")]
    List,
    /// Puts them back into the queue, with no attempts counted, and prints how many there were
    #[command(after_help = "\
Examples:
  synod queue dead requeue
  synod queue dead requeue KEY                one of them, by its key in `dead list --output json`

Exit code 4 when there is none with this key. JSON: requeued.")]
    Requeue {
        /// The key of a single one
        #[arg(value_name = "KEY")]
        letter: Option<OsString>,
    },
    /// Removes them, and prints how many there were
    #[command(after_help = "\
Examples:
  synod queue dead clear
  synod queue dead clear --output json        fields: cleared")]
    Clear,
}
