//! An etcd cluster on this machine, of real etcd processes on loopback ports, to try things out and
//! to measure on.
//!
//! Everything lies in one folder:
//!
//! | what | where |
//! | --- | --- |
//! | who runs, on which ports, from which binary | `cluster.json` |
//! | locked by who starts or stops it | `cluster.lock` |
//! | a node's data, and what it said | `n1`, `n1.log` and so on |
//!
//! 1. To start: lock, and refuse when one of the recorded processes runs. A folder that has data
//!    keeps its ports and its number of nodes; a new one gets free ports. Record the processes as
//!    soon as they are there, so that they can be ended whatever happens, and wait until each node
//!    answers a linearizable read, which needs a leader. What fails half way ends all of them, and
//!    a new folder is emptied again.
//! 2. To end: hold each recorded process, look whether its command line names this folder's data
//!    (a number may have passed to another process), and only then send SIGTERM.
//!
//! The processes are groups of their own, without a terminal: they outlive whoever started them.

mod binary;
mod folder;
mod member;
mod ports;
mod start;
mod stop;

pub(crate) use binary::find;
pub(crate) use folder::{Folder, Plan};
pub(crate) use member::{Health, Member};
pub(crate) use start::start;
pub(crate) use stop::{Stopped, stop};
