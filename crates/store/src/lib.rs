//! The contract of Synod's stores: a key-value store with revisions, transactions, watches and
//! leases, with etcd v3's semantics in Rust's words.
//!
//! Most users depend on the crate `synod`, which holds the primitives; this crate is for those who
//! write a store, or who want to speak to one directly.
//!
//! # Layout
//!
//! - [`Store`]: the trait; everything a store can be asked.
//! - [`Key`], [`KeyRange`]: what is asked about. [`Revision`], [`LeaseId`], [`Header`]: the numbers.
//! - [`RangeRequest`], [`PutRequest`], [`DeleteRequest`]: one operation; [`Txn`], [`Compare`]: many at once.
//! - [`Watch`], [`WatchRequest`], [`WatchItem`]: what happens next.
//! - [`Error`]: answers *may I retry?*, *may it have been applied?*, *is the lease gone?*
//! - [`Namespace`]: a store seen through a key prefix.
//! - [`forward!`]: what a store around another store need not write.
//! - `conformance` (a feature): the suite that every store must pass.
//!
//! # Rules that hold for every store
//!
//! A fresh store is at revision 1. Every request that changes something takes exactly one
//! revision; requests that change nothing take none. Reads are linearizable unless they ask not to
//! be, and all of one request is answered at one revision.

mod error;
mod forward;
mod key;
mod kv;
mod lease;
mod namespace;
mod revision;
mod status;
mod store;
mod txn;
mod watch;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use error::{Applied, Error, ErrorKind, Result};
pub use key::{Key, KeyRange};
pub use kv::{
    DeleteRequest, DeleteResponse, KeyValue, PutLease, PutRequest, PutResponse, PutValue,
    RangeRequest, RangeResponse, SortOrder, SortTarget,
};
pub use lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseListResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse,
};
pub use namespace::Namespace;
pub use revision::{Header, LeaseId, Revision};
pub use status::{Alarm, AlarmKind, CompactResponse, HashResponse, Member, StatusResponse};
pub use store::{BoxFuture, Replies, Store};
pub use txn::{Compare, CompareOp, CompareOperand, Txn, TxnOp, TxnOpResponse, TxnResponse};
pub use watch::{Event, EventFilter, EventKind, Watch, WatchBatch, WatchItem, WatchRequest};
