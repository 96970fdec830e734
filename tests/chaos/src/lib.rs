//! Chaos: every primitive at work in several processes over a real etcd cluster, faults injected one
//! after another, and the histories checked against what the store itself has recorded.
//!
//! # Layout
//!
//! - [`primitive`]: what is worked with; the names of their objects.
//! - [`history`]: what each process did and was told, line by line, so that a killed one loses nothing.
//! - [`record`]: what the store says happened, revision by revision; the oracle.
//! - [`work`]: the workloads, one file a primitive.
//! - [`check`]: the checkers, one file a primitive; pure.
//! - [`mangle`]: a store that breaks a protocol on purpose, or kills its process at a chosen step.
//! - [`run`]: the cluster, the faults, the phases, the report.

pub mod check;
pub mod history;
pub mod mangle;
pub mod primitive;
pub mod record;
pub mod run;
pub mod work;
