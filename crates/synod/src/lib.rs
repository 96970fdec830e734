//! Primitives for programs that must agree, over an etcd cluster or an embedded store.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), synod::Error> {
//! use synod::{Client, txn::put};
//!
//! // "http://127.0.0.1:2379" for `synod serve` or an etcd cluster, "file:PATH" to keep the data.
//! let client = Client::connect("memory:").await?;
//! let guard = client.mutex("report").lock().await?;
//! // Rises from holder to holder: let other systems refuse a lower one than they have seen.
//! println!("fencing token {}", guard.fencing_token());
//! // Changes nothing once the lock has passed on to another.
//! guard.txn().and_then([put("report-owner", "me")]).await?;
//! guard.unlock().await?;
//! # client.close().await
//! # }
//! ```
//!
//! The token and the guarded transaction are there for a process that is frozen past its lease, and wakes as if it
//! still held the lock. `examples/fencing.rs` shows that its late writes are refused:
//! `cargo run -p synod --example fencing`.
//!
//! Which primitive for which need: see the [`guide`].
//!
//! # Layout
//!
//! - [`Client`]: connects to a store by its URL; everything is made from it.
//! - [`barrier`]: one holds, many wait; shared with etcd's Go recipes.
//! - [`delivery`]: items of both queues that outlive their consumer; dead letters, delays, capacity.
//! - [`double_barrier`]: a group enters together and leaves together, round after round.
//! - [`election`]: one leader among candidates, and who it is; shared with etcd's Go packages.
//! - [`mutex`]: one holder at a time, in the order of asking; shared with etcd's Go packages.
//! - [`priority_queue`]: the most urgent first, among any number of processes.
//! - [`queue`]: first in, first out, among any number of processes; shared with etcd's Go recipes.
//! - [`rwlock`]: one writer or many readers, in the order of asking; shared with etcd's Go recipes.
//! - [`semaphore`]: a number of permits that many processes share, in the order of asking.
//! - [`session`]: one lease, kept alive, under whatever must go when its holder does.
//! - [`stm`]: transactions that read and write as if they were alone.
//! - [`txn`]: several operations under conditions, all or none.
//! - `testing` (with the feature of this name): a store and a TCP bridge that go wrong on demand, for your tests.
//! - [`Error`]: what goes wrong, with predicates that say what to do.
//! - [`clock`]: the time that all of this goes by, as an argument.
//! - [`store`]: the contract below, for those who want to speak to a store directly.
//!
//! Each operation runs in a span of the crate `tracing`, at the level `debug`, with the name of its primitive and what came
//! of it, and never a value: `docs/tracing.md` in the repository lists them. Without a subscriber that asks for them they
//! cost one atomic load each.
//!
//! Under the primitives lie mechanisms, each there once: `settle` (operations that happen once or
//! never, over a network that loses answers), `watch` (nobody sleeps through a change), `sight` (a range
//! of keys watched once for all who wait in a client), `waiters` (a line in which each knows who is
//! before it), `span` (a span around each operation and each task).

pub mod barrier;
mod client;
pub mod clock;
pub mod double_barrier;
pub mod election;
mod errand;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod layout;
mod linger;
pub mod mutex;
pub mod priority_queue;
pub mod queue;
mod registry;
mod retry;
pub mod rwlock;
pub mod semaphore;
pub mod session;
mod settle;
mod sight;
mod slot;
mod span;
pub mod stm;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod txn;
mod waiters;
mod watch;

/// The contract of the stores: see the crate `synod-store`.
pub use synod_store as store;

pub use barrier::Barrier;
pub use client::{Client, ConnectOptions, TlsOptions};
pub use double_barrier::DoubleBarrier;
pub use election::{Election, Leader, LeaderEvent, Leadership};
pub use error::{Error, Result};
pub use mutex::{Mutex, MutexGuard};
pub use priority_queue::PriorityQueue;
pub use queue::Queue;
pub use queue::delivery::{self, Delivery};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Semaphore, SemaphorePermit};
pub use session::{Session, SessionBuilder, SessionState};
pub use settle::{ParseTokenError, Resolution, Token};
pub use stm::{Isolation, Stm, Tx};
pub use txn::Txn;

/// Mechanisms for Synod's own server. Not for others: they may change with every release.
#[doc(hidden)]
pub mod __mechanism {
    /// A line in which each waits for the one before it.
    pub mod waiters {
        pub use crate::waiters::{Join, Lines, Neighbours, Place, Suffix};
    }
}

#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

/// What `future` gives, or `None` when that takes longer than `timeout`.
async fn within<T>(
    timeout: std::time::Duration,
    future: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    // Without one a timer cannot even be made.
    runtime()?;
    match tokio::time::timeout(timeout, future).await {
        Ok(done) => done.map(Some),
        Err(_) => Ok(None),
    }
}

/// The runtime that the call is made in.
fn runtime() -> Result<tokio::runtime::Handle> {
    tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)
}

/// The code of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The code of the Chinese README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.zh.md")]
struct ReadmeInChinese;
