//! Clients whose calls are counted, and the sheets on which the counts are written.

use std::sync::Arc;
use std::time::Duration;

use synod::clock::{Clock, ManualClock, SystemClock};
use synod::{Client, ConnectOptions};
use synod_engine::{Engine, EngineOptions};
use synod_store::{BoxFuture, Replies, Store};
use synod_tests::counted::{Counted, Counts};
use synod_tests::figures::Column::{AtMost, Exact, Name, Near};
use synod_tests::figures::{Column, Figures, Table, show};

pub(crate) const VALUE: [u8; 100] = [b'x'; 100];

/// A clock that stands still, so that nothing happens because time passes; but two producers do not
/// stamp their items alike.
#[derive(Debug)]
struct Still(Arc<ManualClock>);

impl Clock for Still {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn unix_nanos(&self) -> u64 {
        SystemClock.unix_nanos()
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep_until(at)
    }
}

/// A store in memory, and what its clients go by.
pub(crate) struct Bench {
    engine: Arc<dyn Store>,
    replies: Replies,
    pub(crate) clock: Arc<ManualClock>,
}

/// A client of its own.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) counted: Counted,
}

impl Bench {
    pub(crate) fn new(replies: Replies) -> Bench {
        let engine = Engine::open(EngineOptions::memory()).unwrap();
        Bench {
            engine: Arc::new(engine),
            replies,
            clock: Arc::new(ManualClock::new()),
        }
    }

    /// Another store of the same kind, in which nobody has left anything.
    pub(crate) fn elsewhere(&self) -> Bench {
        Bench::new(self.replies)
    }

    fn store(&self) -> &'static str {
        match self.replies {
            Replies::Certain => "certain",
            Replies::Lossy => "lossy",
        }
    }

    fn client(&self, counted: &Counted) -> Client {
        let clock = Arc::new(Still(Arc::clone(&self.clock)));
        // Of a fixed length, so that bytes can be compared.
        let options = ConnectOptions::new("memory:").with_identity("some-host/12345");
        options.with_clock(clock).over(Arc::new(counted.clone()))
    }

    /// A client that nobody has used.
    pub(crate) fn stranger(&self) -> Peer {
        let counted = Counted::over(Arc::clone(&self.engine), self.replies);
        let client = self.client(&counted);
        Peer { client, counted }
    }

    /// A client that is in use: it has its session, and its records in a store that can lose answers.
    pub(crate) async fn peer(&self) -> Peer {
        let peer = self.stranger();
        warm(&peer.client).await;
        peer
    }

    /// Clients in use that are counted together, each as a process of its own.
    pub(crate) async fn crowd(&self, size: usize) -> (Vec<Client>, Counted) {
        let counted = Counted::over(Arc::clone(&self.engine), self.replies);
        let clients: Vec<Client> = (0..size).map(|_| self.client(&counted)).collect();
        for client in &clients {
            warm(client).await;
        }
        (clients, counted)
    }
}

async fn warm(client: &Client) {
    let queue = client.queue("warm");
    queue.enqueue("up").await.unwrap();
    queue.clear().await.unwrap();
    let mutex = client.mutex("warm");
    mutex.lock().await.unwrap().unlock().await.unwrap();
}

const ALONE: [(&str, Column); 11] = [
    ("call", Name),
    ("situation", Name),
    ("store", Name),
    ("in a row", Exact),
    ("calls", Exact),
    ("compares", Exact),
    ("operations", Exact),
    ("keys read", Exact),
    ("events", Exact),
    // Leases and numbers in keys are not always of one length.
    ("bytes out", Near(3.0, 40.0)),
    ("bytes in", Near(3.0, 40.0)),
];

/// How much the number of calls may vary under contention, in per cent; and how much what is in them
/// may, which depends on who comes first.
const ROOM: f64 = 30.0;
const MORE_ROOM: f64 = 150.0;

const MANY: [(&str, Column); 10] = [
    ("operation", Name),
    ("situation", Name),
    ("store", Name),
    ("calls", AtMost(ROOM, 0.1)),
    ("Txns", AtMost(ROOM, 0.1)),
    ("watches", AtMost(ROOM, 1.0)),
    ("keys read", AtMost(MORE_ROOM, 3.0)),
    ("events", AtMost(MORE_ROOM, 3.0)),
    ("bytes out", AtMost(MORE_ROOM, 300.0)),
    ("bytes in", AtMost(MORE_ROOM, 300.0)),
];

const ATTEMPTS: (&str, Column) = ("attempts", AtMost(ROOM, 0.1));

/// What a primitive costs, alone and under contention.
pub(crate) struct Sheet {
    alone: Table,
    many: Table,
}

impl Sheet {
    pub(crate) fn new(title: &str) -> Sheet {
        Sheet::with(title, &MANY)
    }

    /// A sheet on which attempts are counted too.
    pub(crate) fn with_attempts(title: &str) -> Sheet {
        let columns: Vec<_> = MANY.iter().copied().chain([ATTEMPTS]).collect();
        Sheet::with(title, &columns)
    }

    fn with(title: &str, columns: &[(&'static str, Column)]) -> Sheet {
        Sheet {
            alone: Table::new(title, "", &ALONE),
            many: Table::new(format!("{title}, under contention"), "", columns),
        }
    }

    /// An operation that nobody disturbs.
    pub(crate) fn alone(&mut self, bench: &Bench, call: &str, situation: &str, counts: Counts) {
        let numbers = [
            counts.compares,
            counts.operations,
            counts.keys_read,
            counts.events,
            counts.bytes_out,
            counts.bytes_in,
        ];
        let mut row = vec![
            call.to_owned(),
            situation.to_owned(),
            bench.store().to_owned(),
            counts.in_a_row.to_string(),
            counts.kinds(),
        ];
        row.extend(numbers.map(|number| number.to_string()));
        self.alone.row(row);
    }

    /// So many operations at once: the average of them.
    pub(crate) fn many(
        &mut self,
        bench: &Bench,
        operation: &str,
        situation: &str,
        counts: Counts,
        operations: usize,
    ) {
        self.many_attempts(bench, operation, situation, counts, operations, None);
    }

    /// The same, with how many attempts it took.
    pub(crate) fn many_attempts(
        &mut self,
        bench: &Bench,
        operation: &str,
        situation: &str,
        counts: Counts,
        operations: usize,
        attempts: Option<u64>,
    ) {
        let numbers = [
            counts.calls(),
            counts.txns,
            counts.watches,
            counts.keys_read,
            counts.events,
            counts.bytes_out,
            counts.bytes_in,
        ];
        let average = |number: u64| show(number as f64 / operations as f64);
        let mut row = [operation, situation, bench.store()]
            .map(str::to_owned)
            .to_vec();
        row.extend(numbers.into_iter().chain(attempts).map(average));
        self.many.row(row);
    }

    /// Adds the rows of a sheet that was begun alike.
    pub(crate) fn append(&mut self, other: Sheet) {
        self.alone.append(other.alone);
        self.many.append(other.many);
    }

    pub(crate) fn hand_in(self, figures: &mut Figures) {
        for table in [self.alone, self.many] {
            if !table.is_empty() {
                figures.table(table);
            }
        }
    }
}
