//! `synod snapshot`: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
Examples:
  synod snapshot save backup.snap             of the server on this machine, while it goes on
  synod snapshot save backup.snap --addr https://db1:2379 --cacert ca.pem --user root
  synod snapshot save backup.snap --addr file:./data
  synod snapshot status backup.snap
  synod snapshot restore backup.snap --data ./restored && synod serve --data ./restored

The format is Synod's own: `etcdctl snapshot save` takes a copy from `synod serve` as well, but a
real etcd cannot restore it, and Synod none of etcd's.";

const SAVE_EXAMPLES: &str = "\
Examples:
  synod snapshot save backup.snap
  SYNOD_PASSWORD=... synod snapshot save backup.snap --addr https://db1:2379 --user root
  synod snapshot save backup.snap --addr file:./data      no process may use the directory

The copy is of one revision, and writes go on meanwhile. It is checked as a whole before FILE
appears, readable by its owner alone; a FILE that was there is replaced (the one that it leads to,
when it is a link), but no device and no pipe. It holds the users' passwords as hashes. JSON: file,
revision, keys, leases, bytes, sha256.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  synod snapshot restore backup.snap --data ./restored

Revisions stay as they are; each lease has its whole time again; users and roles are restored; the
store gets a new identity, so that clients do not take it for the old one. JSON: data, revision,
keys, leases, bytes, sha256.";

const STATUS_EXAMPLES: &str = "\
Examples:
  synod snapshot status backup.snap
  synod snapshot status backup.snap --output json

Reads and checks all of it. Exit code 1 when it is damaged. JSON: file, revision, compact_revision,
keys, leases, notes (users and roles), cluster_id, bytes, sha256.";

/// `synod snapshot`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub(crate) command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Saves a copy of a store: of the server at --addr, or of a `file:` store that nobody uses
    #[command(after_help = SAVE_EXAMPLES)]
    Save {
        /// The file to write
        file: PathBuf,
    },
    /// Makes a data directory of a copy
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore {
        /// The copy
        file: PathBuf,
        /// The directory to make; it must be missing or empty
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Checks a copy and tells what is in it
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// The copy
        file: PathBuf,
    },
}
