//! `synod serve`: what can be typed. Where etcd has a flag for a thing, it has etcd's name.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  synod serve --data ./data                   durable, on 127.0.0.1:2379
  synod serve --memory --listen 127.0.0.1:0   keeps nothing, on any free port
  synod serve --data ./data --listen 0.0.0.0:2379 \\
      --cert-file server.pem --key-file server-key.pem \\
      --trusted-ca-file ca.pem --client-cert-auth
  synod serve --data ./data --listen 0.0.0.0:2379 \\
      --cert-file server.pem --key-file server-key.pem --root-password-file root.txt

Other machines are served over TLS only, and only to clients that show a certificate or log in.
/metrics is for Prometheus; /livez and /readyz tell whether it runs and takes writes; `etcdctl user`
and `etcdctl role` say who may do what.
Prints one line when it is ready. Ends on SIGTERM and Ctrl-C, after answering what it has begun, with
exit code 0.
etcd's own clients can connect: `etcdctl --endpoints 127.0.0.1:2379 put k v`.";

/// How old revisions are chosen for compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompactionMode {
    /// By age.
    Periodic,
    /// By number.
    Revision,
}

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What is logged at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// What failed.
    Error,
    /// What may need somebody.
    Warn,
    /// What happens.
    Info,
    /// Each operation.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Its name in a filter.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// `synod serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2379")]
    pub(crate) listen: String,
    /// Where clients reach this server, as shown in the member list [default: what it listens on]
    #[arg(long, value_name = "URL[,URL...]", value_delimiter = ',')]
    pub(crate) advertise_client_urls: Vec<String>,

    /// The directory to keep the data in [default: the one of the server in the background]
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    pub(crate) data: Option<PathBuf>,
    /// Keep the data in memory, and lose them at the end
    #[arg(long)]
    pub(crate) memory: bool,

    /// Serve other machines without TLS or without logins
    #[arg(long)]
    pub(crate) insecure: bool,
    /// The server's certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key_file", help_heading = "TLS")]
    pub(crate) cert_file: Option<PathBuf>,
    /// The key of --cert-file (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert_file",
        help_heading = "TLS"
    )]
    pub(crate) key_file: Option<PathBuf>,
    /// The authority that signs clients' certificates (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "client_cert_auth",
        help_heading = "TLS"
    )]
    pub(crate) trusted_ca_file: Option<PathBuf>,
    /// Serve only clients that show a certificate of --trusted-ca-file
    #[arg(long, requires_all = ["trusted_ca_file", "cert_file"], help_heading = "TLS")]
    pub(crate) client_cert_auth: bool,

    /// At the first start: make the user `root` with the password in this file, who may do
    /// everything, and let in only who logs in. Later it changes nothing
    #[arg(long, value_name = "FILE", help_heading = "Users")]
    pub(crate) root_password_file: Option<PathBuf>,
    /// How many seconds a login is good without being used
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Users"
    )]
    pub(crate) auth_token_ttl: u32,

    /// How to write the log on standard error
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Log"
    )]
    pub(crate) log_format: LogFormat,
    /// What to log at least; $SYNOD_LOG can tell in more detail
    #[arg(long, value_name = "LEVEL", help_heading = "Log")]
    pub(crate) log_level: Option<LogLevel>,

    /// The largest request, in bytes
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 1_572_864,
        help_heading = "Limits"
    )]
    pub(crate) max_request_bytes: usize,
    /// The most operations in one list of a transaction; 16 times as many in all its lists
    #[arg(long, value_name = "N", default_value_t = 128, help_heading = "Limits")]
    pub(crate) max_txn_ops: usize,
    /// The most connections at once; one more is closed as it opens. Each is an open file: when the
    /// system allows too few (ulimit -n), there are fewer connections, and the log says so
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        help_heading = "Limits"
    )]
    pub(crate) max_connections: usize,
    /// The most requests and streams at once on one connection
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        help_heading = "Limits"
    )]
    pub(crate) max_concurrent_streams: u32,
    /// The most calls that last as long as their clients want, of all clients together: streams of
    /// watches and renewals, waiting locks and candidates
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        help_heading = "Limits"
    )]
    pub(crate) max_open_streams: u64,
    /// The most watches at once, of all clients together; each KiB of their keys counts as one more
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        help_heading = "Limits"
    )]
    pub(crate) max_watchers: u64,
    /// How many bytes the data may take before puts are refused; 0 for the default, 2 GiB
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 0,
        help_heading = "Limits"
    )]
    pub(crate) quota_backend_bytes: u64,
    /// Whether --auto-compaction-retention is an age or a number of revisions
    #[arg(
        long,
        value_name = "MODE",
        requires = "auto_compaction_retention",
        help_heading = "Limits"
    )]
    pub(crate) auto_compaction_mode: Option<CompactionMode>,
    /// How much history to keep: an age such as 30m (a bare number: hours), or with
    /// `--auto-compaction-mode revision` a number of revisions; 0 keeps all
    #[arg(long, value_name = "AGE|N", help_heading = "Limits")]
    pub(crate) auto_compaction_retention: Option<String>,

    /// Writes who and where it is to this file while it serves: the server in the background
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) state_file: Option<PathBuf>,
}
