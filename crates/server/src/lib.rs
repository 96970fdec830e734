//! A server that speaks the etcd v3 gRPC API over any of Synod's stores: `etcdctl`, and etcd's
//! clients in Go, Python, Rust and other languages, can use an embedded store as they use an etcd.
//!
//! [`Server::new`] takes a store and [`ServerOptions`]; [`Server::serve`] serves one listener. No
//! type of the transport appears in this crate's API.
//!
//! # Layout
//!
//! - `server.rs`: from the first connection to the last. `connection.rs`: one connection.
//! - `limits.rs`: what a request may take. `options.rs`, `error.rs`: what a caller sets and gets.
//! - One file for each service: `kv.rs`, `watch/`, `lease.rs`, `maintenance.rs`, `cluster.rs`,
//!   `auth.rs`, `lock.rs`, `election/`, `health.rs` (plain HTTP too), `info.rs` (Synod's own).

mod auth;
mod checks;
mod cluster;
mod connection;
mod election;
mod error;
mod health;
mod info;
mod kv;
mod lease;
mod limits;
mod lock;
mod maintenance;
mod options;
mod server;
mod services;
mod state;
mod waiting;
mod watch;

pub use error::ServerError;
pub use options::{ServerOptions, Tls};
pub use server::Server;
