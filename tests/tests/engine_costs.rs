//! What the embedded store costs, in counts: allocations, memory kept and bytes written, on fixed work,
//! compared with the committed `docs/engine-costs.md`. One test, as the allocator counts the whole process.

use std::alloc::System;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use synod::Client;
use synod_engine::{Engine, EngineOptions};
use synod_store::{
    DeleteRequest, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Store, Txn, Watch,
    WatchItem, WatchRequest,
};
use synod_tests::cli::{Home, Served};
use synod_tests::figures::Column::{Name, Near};
use synod_tests::figures::{Column, Figures, Table, show};
use synod_tests::{skip, wait};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const HEAD: &str = "\
# What the embedded store and its clients cost

Counts, not seconds: they are the same on every machine. Values have 100 bytes, keys 10. This file is made by a
test, and every figure in it is compared with what the test finds, within 5 % (`cargo test -p synod-tests
--test engine_costs`; CONTRIBUTING.md says how to write it anew). All is built without optimisation, as tests
are; allocations hardly depend on that.

*allocations* and *allocated* are those of caller and store together, an operation; *kept* is what the work has
left in memory, an operation, and varies by some bytes; *written* are bytes given to the operating system, *writes
in all* the calls that did so: each write of the log is followed by one sync.
";

const COLUMNS: [(&str, Column); 8] = [
    ("store", Name),
    ("work", Name),
    ("operation", Name),
    ("allocations", Near(5.0, 0.1)),
    ("allocated, bytes", Near(5.0, 4.0)),
    ("kept, bytes", Near(10.0, 48.0)),
    ("written, bytes", Near(5.0, 1.0)),
    ("writes in all", Near(10.0, 8.0)),
];

const VALUE: Bytes = Bytes::from_static(&[b'x'; 100]);

fn put(number: usize) -> PutRequest {
    PutRequest::new(format!("key/{number:06}"), VALUE)
}

/// Bytes that this process has written, and how often; `None` where the system does not say.
fn written() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let find = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|number| number.trim().parse().ok())
    };
    Some((find("wchar:")?, find("syscw:")?))
}

struct Measure {
    store: &'static str,
    engine: Engine,
    table: Table,
}

impl Measure {
    /// When the store answers this, it has done what it still did for the work before.
    async fn settle(&self) {
        self.engine
            .put(PutRequest::new("settled", ""))
            .await
            .unwrap();
    }

    async fn work<T>(
        &mut self,
        work: &str,
        operation: &str,
        operations: usize,
        run: impl AsyncFnOnce(Engine) -> T,
    ) -> T {
        self.settle().await;
        let region = Region::new(ALLOCATOR);
        let before = written();
        let done = run(self.engine.clone()).await;
        // The writes are counted before the settling's own.
        let after = written();
        self.settle().await;
        let change = region.change();
        let each = |number: f64| show(number / operations as f64);
        let kept = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
        let (bytes, calls) = match before.zip(after) {
            Some(((b0, c0), (b1, c1))) => ((b1 - b0) as f64, (c1 - c0) as f64),
            None => (0.0, 0.0),
        };
        let allocations = (change.allocations + change.reallocations) as f64;
        self.table.row(vec![
            self.store.to_owned(),
            work.to_owned(),
            operation.to_owned(),
            each(allocations),
            each(change.bytes_allocated as f64),
            each(kept),
            each(bytes),
            show(calls),
        ]);
        done
    }
}

/// Reads `count` events of each watch.
async fn read(watches: &mut [Watch], count: usize) {
    for watch in watches {
        let mut seen = 0;
        while seen < count {
            match watch.next().await {
                Some(Ok(WatchItem::Events(batch))) => seen += batch.events.len(),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn all(store: &'static str, engine: Engine) -> Table {
    let table = Table::new(store, "", &COLUMNS);
    let mut measure = Measure {
        store,
        engine,
        table,
    };
    // The first of everything allocates what is kept for good.
    measure.engine.put(put(0)).await.unwrap();

    let puts = async |engine: Engine| {
        for number in 0..300 {
            engine.put(put(number)).await.unwrap();
        }
    };
    measure
        .work("300 puts of new keys, one by one", "put", 300, puts)
        .await;
    measure
        .work("300 puts of keys that exist", "put", 300, puts)
        .await;
    let joined = async |engine: Engine| {
        for round in 0..6 {
            let puts = (0..50).map(|number| engine.put(put(2000 + round * 50 + number)));
            for done in join_all(puts).await {
                done.unwrap();
            }
        }
    };
    measure
        .work("300 puts of new keys, 50 at once", "put", 300, joined)
        .await;
    let txns = async |engine: Engine| {
        for txn in 0..100 {
            let puts = (0..100).map(|number| put(10_000 + txn * 100 + number));
            engine.txn(Txn::new().and_then(puts)).await.unwrap();
        }
    };
    measure
        .work("100 Txns of 100 puts of new keys", "put", 10_000, txns)
        .await;
    let gets = async |engine: Engine| {
        for number in 0..300 {
            let found = engine
                .range(RangeRequest::new(put(number).key))
                .await
                .unwrap();
            assert_eq!(found.kvs.len(), 1);
        }
    };
    measure.work("300 reads of a key", "read", 300, gets).await;
    let ranges = async |engine: Engine| {
        for txn in 0..100 {
            let (start, end) = (put(10_000 + txn * 100).key, put(10_100 + txn * 100).key);
            let request = RangeRequest::new(KeyRange::between(start, end));
            assert_eq!(engine.range(request).await.unwrap().kvs.len(), 100);
        }
    };
    measure
        .work("100 reads of 100 keys", "key", 10_000, ranges)
        .await;
    let deletes = async |engine: Engine| {
        for number in 0..300 {
            engine
                .delete(DeleteRequest::new(put(number).key))
                .await
                .unwrap();
        }
    };
    measure
        .work("300 deletes of a key", "delete", 300, deletes)
        .await;

    let open = async |engine: Engine| {
        let mut watches = Vec::with_capacity(100);
        for _ in 0..100 {
            let request = WatchRequest::new(KeyRange::prefix("watched/"));
            watches.push(engine.watch(request).await.unwrap());
        }
        watches
    };
    let mut watches = measure.work("100 watches opened", "watch", 100, open).await;
    measure
        .work(
            "100 puts seen by 100 watches",
            "event",
            10_000,
            async |engine| {
                for number in 0..100 {
                    let key = format!("watched/{number:03}");
                    engine.put(PutRequest::new(key, VALUE)).await.unwrap();
                    read(&mut watches, 1).await;
                }
            },
        )
        .await;
    drop(watches);
    let leases = async |engine: Engine| {
        for _ in 0..100 {
            let request = LeaseGrantRequest::new(wait::TEST_LIMIT);
            engine.lease_grant(request).await.unwrap();
        }
    };
    measure
        .work("100 leases granted", "lease", 100, leases)
        .await;
    measure.table
}

/// What a client of a server in another process allocates for a dequeue, and what it keeps: the same,
/// however many items the queue has and however many there were.
async fn client(home: &Home) -> Table {
    let columns = [
        ("queue", Name),
        ("operation", Name),
        ("allocations", Near(15.0, 10.0)),
        ("allocated, bytes", Near(15.0, 500.0)),
        ("kept, bytes", Near(15.0, 300.0)),
    ];
    let about = "A client of its own process, served; 300 items taken one by one.";
    let mut table = Table::new("client", about, &columns);
    let mut found = Vec::new();
    for (name, items, dead) in [
        ("1,000 items", 1000, 0),
        ("20,000 items", 20_000, 0),
        ("1,000 items behind 5,000 dead keys", 1000, 5000),
    ] {
        let mut served = Served::start(home, &["--memory", "--listen", "127.0.0.1:0"]).await;
        let other = Client::connect(&served.url).await.unwrap();
        let source = other.queue("deep");
        source
            .enqueue_many(vec![VALUE; items + dead])
            .await
            .unwrap();
        let mut left = dead;
        while left > 0 {
            left -= source.dequeue_many(left.min(100)).await.unwrap().len();
        }
        let client = Client::connect(&served.url).await.unwrap();
        let queue = client.queue("deep");
        assert_eq!(queue.dequeue().await.unwrap(), VALUE);
        let region = Region::new(ALLOCATOR);
        for _ in 0..300 {
            assert_eq!(queue.dequeue().await.unwrap(), VALUE);
        }
        let change = region.change();
        let kept = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
        let allocated = change.bytes_allocated as f64;
        let allocations = (change.allocations + change.reallocations) as f64;
        let numbers = [allocations, allocated, kept].map(|number| show(number / 300.0));
        let mut row = vec![name.to_owned(), "dequeue".to_owned()];
        row.extend(numbers);
        table.row(row);
        found.push(allocated);
        served.process().kill();
    }
    let (first, rest) = found.split_first().unwrap();
    assert!(rest.iter().all(|deep| *deep < first * 1.2), "{found:?}");
    table
}

#[test]
fn the_engine_costs_what_is_committed() {
    if !cfg!(debug_assertions) || written().is_none() {
        skip!("the committed figures are those of a build without optimisation, on Linux");
    }
    // Without drivers: so the runtime itself writes nothing.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut figures = Figures::new("engine-costs.md", "--test engine_costs", HEAD);
    let memory = Engine::open(EngineOptions::memory()).unwrap();
    figures.table(runtime.block_on(all("memory", memory)));
    let directory = tempfile::tempdir().unwrap();
    let file = Engine::open(EngineOptions::file(directory.path())).unwrap();
    figures.table(runtime.block_on(all("file", file)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    figures.table(runtime.block_on(client(&Home::new())));
    figures.check();
}
