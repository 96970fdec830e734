//! Results for tests of what is made from them.

use super::machine::{Machine, Server};
use super::meter::Meter;
use super::result::{Results, Row};
use super::spec::{Case, Connections, Spec, Workload};
use super::turns::Turn;

/// A specification in which every parameter is there.
pub(super) fn spec(workload: Workload, case: Case) -> Spec {
    let many = Some(100_000);
    Spec {
        workload,
        case,
        name: "bench-x".to_owned(),
        producers: many,
        consumers: many,
        participants: many,
        waiters: many,
        tasks: many,
        items: many,
        value_size: many,
        fill_first: many,
        batch: many,
        priorities: many,
        accounts: many,
        transfers: many,
        local_handover: true,
        connections: Connections::Shared,
        processes: 1_000,
        duration: Some(std::time::Duration::from_millis(123_456)),
        warm_up: std::time::Duration::from_secs(1),
        rate: Some(12_345.678),
    }
}

/// A measurement of 1,000 operations in a second, with errors and a violation.
pub(super) fn row(spec: &Spec, repeat: u64) -> Row {
    let meter = Meter::new(1_000);
    for n in 1..=1_000u64 {
        let turn = Turn {
            begin: 0,
            counted: true,
        };
        meter.completed(turn, 1, n * n * 1_000, 1_000 + n * 1_000_000);
    }
    meter.failed(&"no <answer> & \"no\" reason\u{7}");
    meter.violated("an item got <lost>");
    meter.count("late", 7);
    meter.count("attempts", 1_234);
    Row::new(spec, repeat, 1_700_000_000, 1_000, meter.measured())
}

/// Measurements of many things, on a store with a long address.
pub(super) fn results(rows: Vec<Row>) -> Results {
    let address: Vec<_> = (1..9)
        .map(|n| format!("https://host-{n}.example:2379"))
        .collect();
    let mut results = Results::new(Server {
        address: address.join(","),
        server: "etcd <3.5.1>".to_owned(),
        nodes: 8,
        data: None,
    });
    results.machine = Machine {
        cpus: 2,
        memory: Some(24 << 30),
        os: "Linux 6.1".to_owned(),
        file_system: Some("ext4".to_owned()),
    };
    results.rows = rows;
    results
}

/// All workloads and cases, each twice.
pub(super) fn everything() -> Results {
    let mut rows = Vec::new();
    for workload in [
        Workload::Queue,
        Workload::PriorityQueue,
        Workload::Barrier,
        Workload::DoubleBarrier,
        Workload::Lock,
        Workload::Election,
        Workload::Stm,
        Workload::Raw,
    ] {
        for case in workload.cases() {
            let spec = spec(workload, *case);
            rows.extend([row(&spec, 1), row(&spec, 2)]);
        }
    }
    results(rows)
}
