//! The state in memory: every key with its history, and what changed at each revision.
//!
//! The writer applies transactions here before they are durable. Readers never notice: they read at the *published*
//! revision, and versions above it are as invisible to them as any later version is to a read in the past.
//!
//! - `history.rs`: the versions of one key.
//! - `state.rs`: all keys, the log of changes, and the counters.
//! - `view.rs`: the keys as of one revision, with the writes of an unfinished transaction on top.
//! - `compact.rs`: forgetting what no revision at or above the compacted one needs.
//! - `events.rs`: changes as watchers see them.

mod compact;
mod events;
mod history;
mod state;
mod view;

pub(crate) use history::{StoredKey, StoredValue, Version};
pub(crate) use state::{Change, State};
pub(crate) use view::{Overlay, View};
