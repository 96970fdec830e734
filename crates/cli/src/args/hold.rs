//! `synod lock`, `rwlock`, `semaphore` and `elect`: what can be typed. They hold something while a
//! command runs, or until Ctrl-C.

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::global::duration;

/// What all of them can be told.
#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// For so long it stays held after this process died, or lost the store
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) ttl: Duration,
    /// Give up at once when it cannot be had, with exit code 4
    #[arg(long = "try")]
    pub(crate) only_try: bool,
    /// For so long the command may go on after SIGTERM when it was lost; then comes SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) grace: Duration,
    /// What to run while it is held; without it, it is held until Ctrl-C
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

const LOCK_EXAMPLES: &str = "\
Examples:
  synod lock deploy -- ./deploy.sh            wait for the lock, run the script, release it
  synod lock deploy --try -- ./deploy.sh      or exit code 4 and who holds it
  synod lock deploy --timeout 1m -- make      wait at most a minute
  synod lock deploy                           print the key and hold the lock until Ctrl-C
  synod lock deploy -- sh -c 'etcdctl txn ... mod(\"fence\") < \"'$SYNOD_LOCK_TOKEN'\"'

The lock is that of etcd's Go package and of `etcdctl lock`: they and this command exclude each
other. Who came first gets it first.
The command finds in its environment SYNOD_LOCK_KEY and SYNOD_LOCK_TOKEN, and the same in
ETCD_LOCK_KEY and ETCD_LOCK_REV. The token is a number that rises with each holder: whoever is
written to can refuse an older one, which is what protects from a holder that was frozen.
Ctrl-C and SIGTERM go to the command; a second SIGTERM kills it. When the lock is lost, the command
gets SIGTERM and, after --grace, SIGKILL, with its children unless it runs on a terminal.
The exit code is the command's; 6 when the lock was lost.
JSON, without a command: key, token.";

/// `synod lock`.
#[derive(Debug, Args)]
#[command(after_help = LOCK_EXAMPLES)]
pub(crate) struct LockArgs {
    /// The lock
    #[arg(value_name = "NAME")]
    pub(crate) object: String,
    #[command(flatten)]
    pub(crate) hold: HoldArgs,
}

const RWLOCK_EXAMPLES: &str = "\
Examples:
  synod rwlock index --read -- ./search.sh    beside other readers
  synod rwlock index --write -- ./rebuild.sh  alone
  synod rwlock index --write --try            exit code 4 and who holds it, when somebody does
  synod rwlock index --read                   print the key and hold the lock until Ctrl-C

The lock is that of etcd's Go recipes. It is fair: a reader that comes after a waiting writer waits
for it.
The command finds in its environment SYNOD_LOCK_KEY and SYNOD_LOCK_TOKEN, and the same in
ETCD_LOCK_KEY and ETCD_LOCK_REV; signals, the lock's loss and the exit code are as for `synod lock`.
JSON, without a command: key, token.";

/// `synod rwlock`.
#[derive(Debug, Args)]
#[command(after_help = RWLOCK_EXAMPLES)]
#[command(group(ArgGroup::new("mode").args(["read", "write"]).required(true)))]
pub(crate) struct RwLockArgs {
    /// The lock
    #[arg(value_name = "NAME")]
    pub(crate) object: String,
    /// Hold it together with other readers
    #[arg(long)]
    pub(crate) read: bool,
    /// Hold it alone
    #[arg(long)]
    pub(crate) write: bool,
    #[command(flatten)]
    pub(crate) hold: HoldArgs,
}

const SEMAPHORE_EXAMPLES: &str = "\
Examples:
  synod semaphore backups --permits 3 -- ./backup.sh
                                              three at once, everywhere
  synod semaphore cores --permits 16 --take 4 -- make -j4
  synod semaphore backups --permits 3 --try   exit code 4 when all are taken
  synod semaphore backups --permits 3         print the key and keep a permit until Ctrl-C
  synod semaphore backups --permits 3 --resize 5
                                              let there be 5 from now on

All who use a semaphore must say the same number of --permits; --resize changes it. Who came first gets them first; those
of a process that died come back after its --ttl.
The command finds in its environment SYNOD_SEMAPHORE_KEY and SYNOD_SEMAPHORE_TOKEN; signals, the
permits' loss and the exit code are as for `synod lock`.
JSON, without a command: key, token, permits (how many are held); with --resize: permits.";

/// `synod semaphore`.
#[derive(Debug, Args)]
#[command(after_help = SEMAPHORE_EXAMPLES)]
pub(crate) struct SemaphoreArgs {
    /// The semaphore
    #[arg(value_name = "NAME")]
    pub(crate) object: String,
    /// How many permits there are, for all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) permits: u32,
    /// How many of them to take
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) take: u32,
    /// Change how many there are for all to this number, and print it
    #[arg(long, value_name = "N", conflicts_with_all = ["take", "only_try", "command"], value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) resize: Option<u32>,
    #[command(flatten)]
    pub(crate) hold: HoldArgs,
}

const ELECT_EXAMPLES: &str = "\
Examples:
  synod elect db host1:5432                   campaign; when elected, print key and value, and lead
                                              until Ctrl-C
  synod elect db host1:5432 -- ./serve.sh     run the command while leading
  synod elect db host1:5432 --try             exit code 4 and who leads, when somebody does
  synod elect db --listen                     print who leads, and every change, until Ctrl-C
  synod elect db --listen --output json

The election is that of etcd's Go package and of `etcdctl elect`. Who came first leads first.
--listen prints the leader's key and value, a line each, or `no leader`.
The command finds in its environment SYNOD_ELECTION_KEY and SYNOD_ELECTION_TOKEN; signals, the loss
of the leadership and the exit code are as for `synod lock`.
JSON: key, value (or value_base64) and token when elected; with --listen a line for each change:
leader (null, or an object with key, value or value_base64, and token).";

/// `synod elect`.
#[derive(Debug, Args)]
#[command(after_help = ELECT_EXAMPLES)]
#[command(group(ArgGroup::new("role").args(["value", "listen"]).required(true)))]
pub(crate) struct ElectArgs {
    /// The election
    #[arg(value_name = "NAME")]
    pub(crate) object: String,
    /// What to say of oneself as the leader
    #[arg(value_name = "VALUE")]
    pub(crate) value: Option<OsString>,
    /// Print who leads, and every change
    #[arg(long, conflicts_with_all = ["only_try", "command"])]
    pub(crate) listen: bool,
    #[command(flatten)]
    pub(crate) hold: HoldArgs,
}
