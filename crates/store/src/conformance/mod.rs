//! The suite that every store must pass.
//!
//! A store passes with one line, `conformance::run(&factory).await`, where the [`Factory`] makes
//! stores of the kind under test. [`cases`] lists the cases, so that each can also be a test of its
//! own. Every case states one rule in its documentation and was checked against a real etcd 3.5.1
//! before any of Synod's own stores; where etcd 3.5.1 itself breaks a rule, the case names the
//! [`Quirk`] that excuses it.
//!
//! [`differential`] goes on where cases end: it applies one random history to two stores and
//! compares every answer.
//!
//! # Layout
//!
//! One file a theme: `revisions`, `range`, `range_sort`, `put`, `delete`, `txn`, `txn_compare`,
//! `txn_nested`, `limits`, `watch`, `watch_history`, `lease`, `lease_expiry`, `compaction`,
//! `status`, `space`. `ctx` holds what cases ask the store with, `check` what they state, `case`
//! what a case is and how all of them run.

mod case;
mod check;
mod ctx;
pub mod differential;
mod factory;

mod compaction;
mod delete;
mod lease;
mod lease_expiry;
mod limits;
mod put;
mod range;
mod range_sort;
mod revisions;
mod space;
mod status;
mod txn;
mod txn_compare;
mod txn_nested;
mod watch;
mod watch_history;

pub use case::{Case, Outcome, Report, cases, run, run_case};
pub use check::Failure;
pub use ctx::Ctx;
pub use factory::{Factory, Instance, Needs, Quirk};
