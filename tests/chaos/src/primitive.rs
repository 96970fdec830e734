//! [`Primitive`]: what a run works with, and where its objects lie.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A primitive, or one way of using it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Primitive {
    /// First in, first out; at most once.
    Queue,
    /// The most urgent first; at most once.
    PriorityQueue,
    /// Take, ack and nack of a queue: at least once.
    Delivery,
    /// One holder at a time, fenced.
    Mutex,
    /// One writer or many readers, fenced.
    Rwlock,
    /// A number of permits, fenced.
    Semaphore,
    /// One leader, who proclaims, and those who observe.
    Election,
    /// One holds, many wait.
    Barrier,
    /// A group enters and leaves together.
    DoubleBarrier,
    /// Transfers between the accounts of a bank.
    Stm,
    /// Compare and swap of registers.
    Txn,
}

impl Primitive {
    /// All of them, in the order of the report.
    pub const ALL: [Primitive; 11] = [
        Primitive::Queue,
        Primitive::PriorityQueue,
        Primitive::Delivery,
        Primitive::Mutex,
        Primitive::Rwlock,
        Primitive::Semaphore,
        Primitive::Election,
        Primitive::Barrier,
        Primitive::DoubleBarrier,
        Primitive::Stm,
        Primitive::Txn,
    ];

    /// As on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Primitive::Queue => "queue",
            Primitive::PriorityQueue => "priority-queue",
            Primitive::Delivery => "delivery",
            Primitive::Mutex => "mutex",
            Primitive::Rwlock => "rwlock",
            Primitive::Semaphore => "semaphore",
            Primitive::Election => "election",
            Primitive::Barrier => "barrier",
            Primitive::DoubleBarrier => "double-barrier",
            Primitive::Stm => "stm",
            Primitive::Txn => "txn",
        }
    }

    /// The name of the primitive's one object in a run.
    #[must_use]
    pub fn object(self) -> String {
        format!("chaos/{}", self.name())
    }

    /// The prefix of the keys that the object's users see.
    #[must_use]
    pub fn prefix(self) -> String {
        format!("chaos/{}/", self.name())
    }

    /// The key that the holders of a lock write.
    #[must_use]
    pub fn guarded(self) -> String {
        format!("chaos/guarded/{}", self.name())
    }

    /// How many operations of it must succeed in a run of so many seconds, so that the run has shown
    /// anything: far fewer than a healthy machine does.
    #[must_use]
    pub fn floor(self, seconds: u64) -> usize {
        let per_minute = match self {
            // Its members wait for each other, and for the lease of each that dies.
            Primitive::DoubleBarrier => 6,
            Primitive::Barrier | Primitive::Election | Primitive::Rwlock => 12,
            _ => 30,
        };
        usize::try_from(seconds * per_minute / 60).unwrap_or(usize::MAX)
    }
}

/// How many permits the semaphore has.
pub const PERMITS: u32 = 2;

/// How many the double barrier is for.
pub const MEMBERS: u32 = 3;

/// The accounts of the bank, and what all of them hold together.
pub const ACCOUNTS: u32 = 4;

/// What the accounts hold together.
pub const TOTAL: i64 = 400;
