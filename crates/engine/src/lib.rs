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
//! # Layout
//!
//! - `engine.rs`, `options.rs`, `facade.rs`: opening it, and what it can be asked.
//! - `writer/`: the thread that changes things, a group of requests at a time. `shared.rs`: what it shares.
//! - `mvcc/`: keys and their histories. `reads.rs`, `range.rs`: reading them. `txn.rs`, `check.rs`: transactions.
//! - `watch/`, `lease/`, `clock.rs`: watches, leases and the time they live by.
//! - `record/`: what is stored.

mod check;
mod clock;
mod engine;
mod facade;
// The engine that calls it is built beside it; this line goes when both meet.
#[allow(dead_code, unused_imports)]
mod journal;
mod lease;
mod mvcc;
mod options;
mod range;
mod reads;
mod record;
mod seam;
mod shared;
mod txn;
mod watch;
mod writer;

pub use clock::{Clock, ManualClock, SystemClock, Wake};
pub use engine::{Engine, EngineStats};
pub use facade::ETCD_VERSION;
pub use options::{EngineOptions, Retention};
