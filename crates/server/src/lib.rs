//! A server that speaks the etcd v3 gRPC API over any of Synod's stores: `etcdctl`, and etcd's
//! clients in Go, Python, Rust and other languages, can use an embedded store as they use an etcd.
//!
//! [`Server::embedded`] takes an engine and [`ServerOptions`], [`Server::new`] any other store;
//! [`Server::serve`] serves one listener. No
//! type of the transport appears in this crate's API.
//!
//! # Where it differs from etcd
//!
//! Every rule of etcd's services is tested on a real etcd 3.5.1 and on this server by the same lines
//! (`tests/tests/server_*.rs`), and so is what etcdctl prints. These differences are meant:
//!
//! - *Not there*, refused as UNIMPLEMENTED with a reason: Downgrade, raising an alarm by hand, adding
//!   and updating members; over a store other than the engine's, snapshots, users and roles.
//! - *Snapshots* are in Synod's own format: `etcdctl snapshot save` takes them, `etcdctl snapshot status`
//!   and a real etcd do not; `synod snapshot` does.
//! - *Asks for a login where etcd 3.5.1 does not*, as later releases do: leases, alarms, the list of
//!   members; for the role `root`: compaction and changes of members. Nested transactions are looked
//!   into, and so are puts of a transaction that attach to a lease. An empty password is refused.
//! - *Logins* are by password, or by the name in a certificate; tokens are simple ones that end at a restart; the revision
//!   of users and roles is never found to be old. A stream of watches without a login is refused as it opens, not watch by
//!   watch.
//! - *Its own*: sizes, hashes (comparable between copies of one store only), the numbers of Raft; an
//!   embedded store has no peer URLs; `/metrics` has its own names beside some of etcd's.
//! - *Headers are always whole*: etcd 3.5 leaves the revision out of MemberList's and of the answer
//!   that ends a compacted watch, and the header out of Defragment's.
//! - *Faults of etcd 3.5.1 that it does not have*: progress of a watch stream never overtakes events
//!   (etcd's issue 15220) and waits for a watch that begins in the future (20221); a Lock or Campaign
//!   call whose lease ends while it waits is told (19597).
//! - *Refused*: unknown sort targets and orders, as newer releases of etcd do; unknown comparisons;
//!   transactions nested deeper than about 50 levels.
//! - A watch from a negative revision is answered as compacted with revision 1 where nothing was
//!   compacted yet; etcd takes -1 for the beginning, and names -1 for what is below.
//!
//! # Limits
//!
//! [`ServerOptions`] bounds connections, requests on each, open streams, watches, the size of a request and how
//! long it may take to arrive; of all requests that are still arriving at most 128 of the largest size
//! are held, besides 32 KiB of each connection, and 64 in the buffers of streams. All conditions and operations of a
//! transaction, nested ones too, are at most 16 times [`ServerOptions::with_max_txn_ops`]. Answers of a range have no limit,
//! as in etcd: a range is as large as what it is asked for; those of a transaction have that of its store.
//!
//! # Layout
//!
//! - `server.rs`: from the first connection to the last. `connection.rs`: one connection.
//! - `direct.rs`: which service a call goes to. `limits/`: what a request may take. `options.rs`, `error.rs`: what a caller sets and gets.
//! - One file for each service: `kv.rs`, `watch/`, `lease.rs`, `maintenance.rs`, `cluster.rs`,
//!   `auth/`, `lock.rs`, `election/`, `health.rs` (plain HTTP too), `info.rs` (Synod's own).
//! - `snapshot.rs`: copies of the store. `meter.rs`, `metrics/`: what is counted, with the feature `metrics`.

mod auth;
mod checks;
mod cluster;
mod connection;
mod direct;
mod election;
mod error;
mod health;
mod info;
mod kv;
mod lease;
mod limits;
mod lock;
mod maintenance;
mod meter;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/off.rs"]
mod metrics;
mod options;
mod server;
mod services;
mod snapshot;
mod state;
mod waiting;
mod watch;

pub use error::ServerError;
#[cfg(feature = "metrics")]
pub use metrics::{Kind, METRICS, Metric, Metrics};
pub use options::{ServerOptions, Tls};
pub use server::Server;
