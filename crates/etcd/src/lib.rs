//! Synod's store that is an etcd v3 cluster: a thin client with fail-over, resuming watches and
//! classes of retries.
//!
//! Most users depend on the crate `synod`, whose client takes a cluster's URL. This crate is for
//! those who want the [store](synod_store::Store) itself.
//!
//! # Layout
//!
//! - [`EtcdStore`]: the store. [`EtcdOptions`], [`TlsOptions`]: how to reach it.
//! - `channels`: the endpoints, which of them is fit, and the members of the cluster.
//! - `retry`: requests with one answer, and which of them may be repeated. `error`: what a failure
//!   says. `auth`: user, password, token. `tls`: certificates.
//! - `watch`: one stream for all watches, and how they resume. `keepalive`: one stream for all
//!   renewals of leases.
//!
//! # Features
//!
//! `tls-ring` or `tls-aws-lc` for https (the cryptography), with `tls-native-roots` or
//! `tls-webpki-roots` for the certificate authorities that are trusted when none are given.

mod auth;
mod channels;
mod connector;
mod error;
mod info;
mod keepalive;
mod options;
mod retry;
mod snapshot;
mod store;
mod stream;
mod tls;
mod watch;

#[doc(hidden)]
pub use connector::{Connection, Connector};
pub use info::ServerInfo;
pub use options::{EtcdOptions, TlsOptions};
pub use snapshot::{Snapshot, SnapshotPiece};
pub use store::EtcdStore;
