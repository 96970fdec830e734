//! The command line: what can be typed. What it does is in `cmd`.

mod barrier;
mod bench;
mod cluster;
mod global;
mod hold;
mod queue;
mod serve;
mod snapshot;
mod stm;
mod txn;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use barrier::{BarrierArgs, BarrierCommand, DoubleBarrierArgs, HoldBarrierArgs};
pub(crate) use bench::{BenchArgs, Numbers, What};
pub(crate) use cluster::{ClusterArgs, ClusterCommand, StartArgs};
pub(crate) use global::{Format, Global};
pub(crate) use hold::{ElectArgs, HoldArgs, LockArgs, RwLockArgs, SemaphoreArgs};
pub(crate) use queue::{
    Common, DeadCommand, PopArgs, PriorityPushArgs, PriorityQueueArgs, PriorityQueueCommand,
    PushArgs, PushHow, QueueArgs, QueueCommand, TakeArgs,
};
pub(crate) use serve::{CompactionMode, LogFormat, LogLevel, ServeArgs};
pub(crate) use snapshot::{SnapshotArgs, SnapshotCommand};
pub(crate) use stm::{BankArgs, Level, StmArgs, StmCommand};
pub(crate) use txn::TxnArgs;

use crate::failure::EXIT_CODES;

/// What `synod` and `synod --help` open with.
const ABOUT: &str =
    "Coordination for programs that must agree: queues, locks, barriers and transactions";

const LONG_ABOUT: &str = "\
Coordination for programs that must agree: queues, locks, elections, semaphores, barriers and \
transactions over an etcd-like store.

With no address given, and nothing listening on 127.0.0.1:2379, synod starts a server of its own \
there in the background, with its data in your data directory: `synod status` shows it, \
`synod stop` ends it. Point --addr at an etcd cluster, and the same commands work there.";

const EXAMPLES: &str = "\
Examples:
  synod queue                                 a prompt: push VALUE, pop, help, quit
  synod queue push hello                      one command for scripts
  synod queue take --exec ./work.sh           an item is gone only when the command succeeds
  synod lock deploy -- ./deploy.sh            one at a time, on all machines
  synod elect db host1:5432 -- ./serve.sh     one leads, and the next one takes over
  synod barrier wait                          until somebody opens it
  synod double-barrier -c 3 -- ./phase.sh     begin and end together
  synod txn --when 'version(k) = 0' --then 'put k v'
  synod bench queue                           how fast it is here, and on any store
  synod --addr h1:2379,h2:2379 queue pop      on an etcd cluster
  synod --addr file:/var/lib/app queue len    on an embedded store, without a server
  synod serve --data ./data                   a server that etcd's clients can use too
  synod snapshot save backup.snap             a copy of all data, while the server goes on
  synod cluster start --nodes 3               an etcd cluster on this machine

Environment:
  SYNOD_ADDR, ETCDCTL_ENDPOINTS               --addr, the first one that is set
  SYNOD_USER, ETCDCTL_USER                    --user
  SYNOD_PASSWORD, ETCDCTL_PASSWORD            the password for --user
  SYNOD_CACERT, SYNOD_CERT, SYNOD_KEY         --cacert, --cert, --key (ETCDCTL_... as well)
  SYNOD_LOCAL_PORT                            port of the background server; 2379
  SYNOD_DATA_DIR                              data of the background server; $XDG_DATA_HOME/synod
                                              or ~/.local/share/synod
  SYNOD_STATE_DIR                             its log and state, and the prompts' histories;
                                              $XDG_STATE_HOME/synod or ~/.local/state/synod
  SYNOD_ETCD                                  the etcd binary for `synod cluster`
  SYNOD_LOG                                   what to log on stderr, such as `debug`
";

/// The command line of `synod`.
#[derive(Debug, Parser)]
#[command(
    name = "synod",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_long_help = format!("{EXAMPLES}\n{EXIT_CODES}"),
    after_help = "`synod --help` adds examples, environment variables and exit codes.",
    max_term_width = 100,
    disable_help_subcommand = true,
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A queue: a prompt, or one of its commands
    Queue(QueueArgs),
    /// A queue whose lowest numbers come out first: a prompt, or one of its commands
    #[command(visible_alias = "pq")]
    PriorityQueue(PriorityQueueArgs),
    /// A barrier that one closes and opens for all: a prompt, or one of its commands
    Barrier(BarrierArgs),
    /// A barrier at which all meet, twice: a prompt, or a command between entering and leaving
    DoubleBarrier(DoubleBarrierArgs),
    /// Holds a lock while a command runs, or until Ctrl-C
    Lock(LockArgs),
    /// Holds a readers-writer lock while a command runs, or until Ctrl-C
    #[command(name = "rwlock")]
    RwLock(RwLockArgs),
    /// Holds permits of a semaphore while a command runs, or until Ctrl-C
    Semaphore(SemaphoreArgs),
    /// Leads while a command runs, or until Ctrl-C; or tells who leads
    Elect(ElectArgs),
    /// Software transactional memory, shown at work
    Stm(StmArgs),
    /// One transaction: conditions, and what runs when they hold or do not
    Txn(TxnArgs),
    /// Measures the primitives on a store: throughput, latencies, and whether they keep their word
    Bench(BenchArgs),
    /// Serves the etcd v3 API in the foreground, on a durable store or in memory
    Serve(ServeArgs),
    /// Copies of a store: saves one, checks it, restores it
    Snapshot(SnapshotArgs),
    /// An etcd cluster on this machine, to try things on: starts it, shows it, ends it
    Cluster(ClusterArgs),
    /// Shows what answers, where its data is, its size, revision and clients
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// Ends the server that runs in the background
    #[command(after_help = STOP_EXAMPLES)]
    Stop,
    /// Checks a data directory that no server uses; changes nothing
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// The data directory
        dir: PathBuf,
    },
    /// Prints the completion script of a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// What is to be run: a program, or a line for `sh`.
    pub(crate) fn runs(&self) -> Option<&OsStr> {
        let line = match self {
            Command::Queue(QueueArgs {
                command: Some(QueueCommand::Take(take)),
            })
            | Command::PriorityQueue(PriorityQueueArgs {
                command: Some(PriorityQueueCommand::Take(take)),
            }) => return Some(&take.exec),
            Command::Barrier(BarrierArgs {
                command: Some(BarrierCommand::Hold(hold)),
                ..
            }) => &hold.command,
            Command::DoubleBarrier(args) => &args.command,
            Command::Lock(args) => &args.hold.command,
            Command::RwLock(args) => &args.hold.command,
            Command::Semaphore(args) => &args.hold.command,
            Command::Elect(args) => &args.hold.command,
            _ => return None,
        };
        line.first().map(OsString::as_os_str)
    }
}

/// Whether a command line that could not be read asks for JSON all the same.
pub(crate) fn asks_for_json(line: impl Iterator<Item = OsString>) -> bool {
    let ours: Vec<OsString> = line.take_while(|word| word != "--").collect();
    ours.iter().any(|word| word == "--output=json")
        || ours.windows(2).any(|pair| pair == ["--output", "json"])
}

const STATUS_EXAMPLES: &str = "\
Examples:
  synod status                                the server on this machine
  synod status --output json                  the same as one JSON object
  synod status --addr https://db1:2379 --cacert ca.pem

Nothing is started. Exit code 3 when nothing answers.

JSON: address, server (`synod` or `etcd`), version, api_version, cluster_id, member_id, revision,
compact_revision, db_size, db_size_in_use, alarms; of a Synod server also pid, ready (whether it
takes writes), auth_enabled, data, started_at (seconds since 1970), connections, watchers, leases,
keys, requests, db_size_quota, listen, and of the one in the background also log. Where logins are
on, who has not logged in is told no more than whether the server works.";

const STOP_EXAMPLES: &str = "\
Examples:
  synod stop
  SYNOD_LOCAL_PORT=2479 synod stop

Ends the server that `synod` started in the background, and no other: its process must be the one
that answers at the address. The data stay. Exit code 4 when none runs.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  synod verify ./data
  synod verify ./data --output json

Exit code 1 when it is damaged. JSON: ok, format, keys, leases, revision, compact_revision, bytes,
torn_tail (a crash left a write unfinished, which is no damage), and damage (null, or an object
with file, offset and reason).";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  synod completions bash > ~/.local/share/bash-completion/completions/synod
  synod completions zsh > ~/.zfunc/_synod
  synod completions fish > ~/.config/fish/completions/synod.fish";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_has_examples() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{help}");
            for command in command.get_subcommands_mut() {
                check(command);
            }
        }
        check(&mut Cli::command());
    }

    /// They would be taken for each other.
    #[test]
    fn nothing_has_the_id_of_a_global_option() {
        fn check(command: &clap::Command, global: &[String]) {
            for command in command.get_subcommands() {
                for arg in command.get_arguments() {
                    let id = arg.get_id().to_string();
                    assert!(!global.contains(&id), "{id} of {}", command.get_name());
                }
                check(command, global);
            }
        }
        let command = Cli::command();
        let global: Vec<String> = command
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .map(|arg| arg.get_id().to_string())
            .collect();
        assert!(global.contains(&"key".to_owned()));
        check(&command, &global);
    }

    #[test]
    fn a_line_that_cannot_be_read_may_ask_for_json() {
        let asks = |line: &str| asks_for_json(line.split(' ').map(OsString::from));
        assert!(asks("synod queue --output json --bogus"));
        assert!(asks("synod --output=json nothing"));
        assert!(!asks("synod queue --output text json"));
        assert!(!asks("synod lock a -- tool --output json"));
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in [
            "synod --addr h:1 --name q queue push a",
            "synod queue --addr h:1 --name q push a",
            "synod queue push --addr h:1 --name q a",
            "synod queue push a --addr h:1 --name q",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.addr.as_deref(), Some("h:1"), "{line}");
            assert_eq!(cli.global.name.as_deref(), Some("q"), "{line}");
        }
    }
}
