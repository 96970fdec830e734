//! Synod's embedded store: etcd's key-value, watch and lease semantics in this process, in memory or in a directory.
//!
//! ```
//! use synod_engine::{Engine, EngineOptions};
//! use synod_store::{PutRequest, RangeRequest, Store};
//!
//! # async fn example() -> synod_store::Result<()> {
//! let store = Engine::open(EngineOptions::memory())?;
//! store.put(PutRequest::new("greeting", "hello")).await?;
//! let answer = store.range(RangeRequest::new("greeting")).await?;
//! assert_eq!(answer.kvs[0].value, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - *Durable before visible.* A write is acknowledged, read and watched only once a crash cannot take it back. Writes
//!   that wait at the same moment share one sync.
//! - *Strictly serializable.* Every request that changes something takes one revision; reads see every write that was
//!   acknowledged before they began, at one revision, and block no writer for longer than a page of keys.
//! - *Watches are complete.* Every revision from the start on, whole and in order, or an explicit end as compacted.
//! - *Leases end late, never early*: a restart gives each its whole time again, and a stall of the process is added.
//! - *Bounded.* History and data have limits ([`EngineOptions`]); a watch that is not read costs no more than its queue.
//!
//! # Backup
//!
//! [`Engine::export`] gives a copy of an open store at one revision, while it goes on; [`restore()`] makes a directory of
//! it, [`inspect()`] tells what is in it. A directory that is closed can be copied as it is, too. [`verify()`] checks a
//! directory, or a copy, without changing it.
//!
//! # Layout
//!
//! - `engine.rs`, `options.rs`, `facade.rs`: opening it, and what it can be asked.
//! - `writer/`: the thread that changes things, a group of requests at a time. `shared.rs`: what it shares.
//! - `mvcc/`: keys and their histories. `reads.rs`, `range.rs`: reading them. `txn.rs`, `check.rs`, `room.rs`: transactions.
//! - `watch/`, `lease/`, `clock.rs`: watches, leases and the time they live by.
//! - `backup/`: copies of a store, made and restored. `notes.rs`: what is kept beside the keys. `permission.rs`: requests of
//!   those who may not write every key.
//! - `record/`: what is stored. `recover.rs`, `verify.rs`: reading it back. `journal/`: making it durable.

mod backup;
mod check;
mod clock;
mod engine;
mod facade;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod lease;
mod mvcc;
mod notes;
mod options;
mod permission;
mod range;
mod reads;
mod record;
mod recover;
mod room;
mod shared;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
#[cfg(test)]
mod tests;
mod txn;
mod verify;
mod watch;
mod writer;

pub use backup::{Backup, Export, inspect, restore};
pub use clock::{Clock, ManualClock, SystemClock, Wake};
pub use engine::{Engine, EngineStats};
pub use facade::ETCD_VERSION;
pub use options::{EngineOptions, Retention, SyncObserver};
pub use permission::{Permission, Reach};
pub use verify::{Damage, Report, verify};
