//! `synod cluster`: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
Examples:
  synod cluster start                         three nodes of etcd on free ports of 127.0.0.1
  synod cluster status
  synod cluster stop --remove-data

Needs an etcd binary: --etcd, $SYNOD_ETCD, or `etcd` on PATH.";

/// `synod cluster`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ClusterArgs {
    /// The folder of the cluster: data, logs, and who runs [default: `cluster` in the state
    /// directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Starts a cluster in the background, and returns when all its nodes serve
    #[command(after_help = "\
Examples:
  synod cluster start
  synod cluster start --nodes 1 --dir ./one
  synod cluster start --etcd ~/etcd-v3.6.0/etcd
  export SYNOD_ADDR=$(synod cluster start --output json | jq -r .url)

Prints a line for each node, with its URL and process, and how to use them. The data stay when the
cluster ends, and the next start goes on with them, on the same ports. Exit code 1 when it runs
already. When one node does not come up, the others are ended again.
JSON: dir, etcd, version, url (all nodes, as --addr takes them), and nodes: a list of objects with
name, url, peer_url, pid, data, log.")]
    Start(StartArgs),
    /// Shows each node: whether it runs, who leads, revision and size
    #[command(after_help = "\
Examples:
  synod cluster status
  synod cluster status --dir ./one --output json

Exit code 3 when no node answers, 4 when there is no cluster in the folder.
JSON: dir, version, url, and nodes: a list of objects with name, url, peer_url, pid, data, log,
running, role (`leader`, `follower`, or null when it does not answer), revision, db_size, error.")]
    Status,
    /// Ends the nodes
    #[command(after_help = "\
Examples:
  synod cluster stop                          the data stay
  synod cluster stop --remove-data            nothing stays

Ends the processes that `synod cluster start` recorded, after looking whether they are still those.
Exit code 4 when none runs; with --remove-data only when there is nothing to remove.
JSON: dir, stopped (a list of objects with name and pid), killed (the names of those that did not
end when asked), data_removed.")]
    Stop {
        /// Remove what the cluster stored, and its logs
        #[arg(long)]
        remove_data: bool,
    },
}

/// `synod cluster start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// How many nodes: 1, 3 or 5 [default: 3, or as many as have data in the folder]
    #[arg(long, value_name = "N", value_parser = nodes)]
    pub(crate) nodes: Option<usize>,
    /// The etcd binary [default: $SYNOD_ETCD, or `etcd` on PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd: Option<PathBuf>,
}

/// A number of nodes.
pub(super) fn nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(nodes @ (1 | 3 | 5)) => Ok(nodes),
        _ => Err("a cluster has 1, 3 or 5 nodes: an even number survives no more failures".into()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn clusters_are_odd() {
        assert_eq!(super::nodes("3"), Ok(3));
        for bad in ["0", "2", "4", "7", "x"] {
            assert!(super::nodes(bad).is_err(), "{bad}");
        }
    }
}
