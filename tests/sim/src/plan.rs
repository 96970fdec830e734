//! What goes wrong in a run, and when: drawn from the seed.

use std::time::Duration;

use crate::world::{CLIENTS, World};

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing passes between a client and the server; what was under way is gone.
    Partition(usize),
    /// What a client sends is gone.
    PartitionRequests(usize),
    /// What the server sends to a client is gone.
    PartitionReplies(usize),
    /// What a client and the server send to each other is held back, and arrives later.
    Hold(usize),
    /// A client's connections break.
    Drop(usize),
    /// The next answer to a client is lost, with its connection.
    LoseReply(usize),
    /// The server's machine loses its power, and what was not synced.
    ServerCrash,
    /// The same in the middle of a write.
    ServerCrashInWrite,
    /// The server stands still.
    ServerPause,
    /// A client's process is killed.
    ClientCrash(usize),
    /// A client's process stands still, for longer than its lease.
    ClientPause(usize),
    /// Messages take their time.
    SlowNetwork,
    /// Syncs take their time.
    SlowSync,
    /// History is compacted.
    Compact,
}

impl Fault {
    /// What they are called on the command line.
    pub(crate) const ALL: [(&'static str, Fault); 14] = [
        ("partition", Fault::Partition(0)),
        ("partition-requests", Fault::PartitionRequests(0)),
        ("partition-replies", Fault::PartitionReplies(0)),
        ("hold", Fault::Hold(0)),
        ("drop", Fault::Drop(0)),
        ("lose-reply", Fault::LoseReply(0)),
        ("server-crash", Fault::ServerCrash),
        ("server-crash-in-write", Fault::ServerCrashInWrite),
        ("server-pause", Fault::ServerPause),
        ("client-crash", Fault::ClientCrash(0)),
        ("client-pause", Fault::ClientPause(0)),
        ("slow-network", Fault::SlowNetwork),
        ("slow-sync", Fault::SlowSync),
        ("compact", Fault::Compact),
    ];

    /// The same fault, of that client if it is one of a client.
    fn of(self, client: usize) -> Fault {
        match self {
            Fault::Partition(_) => Fault::Partition(client),
            Fault::PartitionRequests(_) => Fault::PartitionRequests(client),
            Fault::PartitionReplies(_) => Fault::PartitionReplies(client),
            Fault::Hold(_) => Fault::Hold(client),
            Fault::Drop(_) => Fault::Drop(client),
            Fault::LoseReply(_) => Fault::LoseReply(client),
            Fault::ClientCrash(_) => Fault::ClientCrash(client),
            Fault::ClientPause(_) => Fault::ClientPause(client),
            other => other,
        }
    }

    fn drawn(world: &World, only: Option<Fault>) -> Fault {
        let client = world.below(CLIENTS as u64) as usize;
        let drawn = Fault::ALL[world.below(Fault::ALL.len() as u64) as usize].1;
        only.unwrap_or(drawn).of(client)
    }
}

/// A fault from one moment to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// When the first fault may come.
const FIRST: Duration = Duration::from_secs(2);
/// When the last fault ends.
pub(crate) const HEALED: Duration = Duration::from_secs(13);

/// For so long a pause waits for its client to hold something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The faults of a run, in order; all of one kind if that is wanted. Those of one kind on one host do not overlap.
pub(crate) fn draw(world: &World, only: Option<Fault>) -> Vec<Planned> {
    let mut plan: Vec<Planned> = Vec::new();
    for _ in 0..2 + world.below(5) {
        let fault = Fault::drawn(world, only);
        let from = FIRST + world.up_to(Duration::from_secs(6));
        let from = match fault {
            // With its wait it must end with the others.
            Fault::ClientPause(_) => from.min(HEALED - PATIENCE - Duration::from_secs(5)),
            _ => from,
        };
        let lasts = match fault {
            Fault::ClientPause(_) => {
                Duration::from_millis(4_300) + world.up_to(Duration::from_millis(700))
            }
            Fault::LoseReply(_) => Duration::from_secs(2),
            Fault::ServerCrash | Fault::ServerCrashInWrite => {
                Duration::from_millis(100) + world.up_to(Duration::from_secs(3))
            }
            _ => Duration::from_millis(200) + world.up_to(Duration::from_millis(4_500)),
        };
        let to = from + lasts;
        let same = |other: &Planned| kind(other.fault) == kind(fault);
        let free = |other: &Planned| other.to + PATIENCE < from || other.from > to + PATIENCE;
        if plan.iter().filter(|other| same(other)).all(free) {
            plan.push(Planned { fault, from, to });
        }
    }
    plan.sort_by_key(|planned| planned.from);
    plan
}

/// What a fault takes hold of: two of these at once would heal each other.
fn kind(fault: Fault) -> (u8, usize) {
    match fault {
        Fault::Partition(c)
        | Fault::PartitionRequests(c)
        | Fault::PartitionReplies(c)
        | Fault::Hold(c)
        | Fault::ClientCrash(c)
        | Fault::ClientPause(c) => (0, c),
        Fault::Drop(c) => (1, c),
        Fault::LoseReply(c) => (2, c),
        Fault::ServerCrash | Fault::ServerCrashInWrite | Fault::ServerPause => (3, 0),
        Fault::SlowNetwork => (4, 0),
        Fault::SlowSync => (5, 0),
        Fault::Compact => (6, 0),
    }
}

/// A fault in the store itself, planted to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// Compares of the modification revision always hold.
    IgnoredCompare,
    /// Compares of the create revision with one that was read always hold.
    IgnoredFence,
    /// Answers come before the sync.
    EarlyAnswer,
    /// A transaction that comes again is applied again.
    AppliedTwice,
    /// Compares of what a transaction has read and does not write always hold.
    UnreadCompare,
}

impl Planted {
    /// All of them, by name.
    pub(crate) const ALL: [(&'static str, Planted); 5] = [
        ("ignored-compare", Planted::IgnoredCompare),
        ("ignored-fence", Planted::IgnoredFence),
        ("early-answer", Planted::EarlyAnswer),
        ("applied-twice", Planted::AppliedTwice),
        ("unread-compare", Planted::UnreadCompare),
    ];
}
