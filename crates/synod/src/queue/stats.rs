//! [`QueueStats`]: what a client has done with a queue, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one client has done with one queue, by all handles of its name together, since the first of
/// those that live was made. See [`Queue::stats`](crate::Queue::stats).
///
/// `lost_claims / taken` tells how much consumers in other processes get in each other's way: each
/// lost claim is a round trip for nothing. `enqueued / puts` tells how many values went in together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueStats {
    /// Txns that were to take something out, by `dequeue` and its like.
    pub claims: u64,
    /// Those of them that took nothing: others had been faster.
    pub lost_claims: u64,
    /// Values taken out.
    pub taken: u64,
    /// Reads of the queue's head.
    pub looks: u64,
    /// Txns that were to put values in, by `enqueue` and `enqueue_many`.
    pub puts: u64,
    /// Values in them.
    pub enqueued: u64,
}

/// The counters behind [`QueueStats`].
#[derive(Debug, Default)]
pub(crate) struct Stats {
    claims: AtomicU64,
    lost_claims: AtomicU64,
    taken: AtomicU64,
    looks: AtomicU64,
    puts: AtomicU64,
    enqueued: AtomicU64,
}

impl Stats {
    /// A claim took so many; none when it was lost.
    pub(super) fn claim(&self, taken: usize) {
        add(&self.claims, 1);
        add(&self.taken, taken);
        if taken == 0 {
            add(&self.lost_claims, 1);
        }
    }

    /// The head was read.
    pub(super) fn look(&self) {
        add(&self.looks, 1);
    }

    /// A Txn is sent that puts so many values in.
    pub(crate) fn puts(&self, values: usize) {
        add(&self.puts, 1);
        add(&self.enqueued, values);
    }

    pub(crate) fn read(&self) -> QueueStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        QueueStats {
            claims: read(&self.claims),
            lost_claims: read(&self.lost_claims),
            taken: read(&self.taken),
            looks: read(&self.looks),
            puts: read(&self.puts),
            enqueued: read(&self.enqueued),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    counter.fetch_add(count, Ordering::Relaxed);
}
