//! Rows of deep queues, dead keys, and more and more consumers.

use super::super::goals::{Base, Goal};
use super::{DEEP, DRAIN, ONE, Row, row};

pub(super) fn depths() -> Vec<Row> {
    const PRIORITY: &str = "priority-queue --case drain --consumers 1 --warm-up 0s";
    const DEEP_PRIORITY: &str = "priority-queue --case drain --consumers 1 --warm-up 300ms";
    const CONSUMERS: Base =
        Base::Best(&["consumers-4", "consumers-8", "consumers-16", "consumers-32"]);
    let flat = |name| Goal::Times(Base::Row(name), 1.0 / 1.2);
    let mut rows = vec![
        row(
            "depth-1k",
            "queue drain, depth 1k",
            ONE,
            &format!("{DRAIN} --fill-first 1000"),
            &[],
        )
        .depth(usize::MAX),
        row(
            "depth-100k",
            "queue drain, depth 100k",
            ONE,
            &format!("{DEEP} --fill-first 100000"),
            &[flat("depth-1k")],
        )
        .depth(3),
        row(
            "depth-1m",
            "queue drain, depth 1M",
            ONE,
            &format!("{DEEP} --fill-first 1000000"),
            &[flat("depth-1k")],
        )
        .depth(1),
        row(
            "depth-dead",
            "queue drain, depth 10k behind 100k dead keys",
            ONE,
            &format!("{DRAIN} --fill-first 10000"),
            &[flat("depth-1k")],
        )
        .depth(3),
        row(
            "priority-depth-1k",
            "priority queue dequeue, depth 1k",
            ONE,
            &format!("{PRIORITY} --fill-first 1000"),
            &[],
        )
        .depth(usize::MAX),
        row(
            "priority-depth-100k",
            "priority queue dequeue, depth 100k",
            ONE,
            &format!("{DEEP_PRIORITY} --fill-first 100000"),
            &[flat("priority-depth-1k")],
        )
        .depth(3),
        row(
            "priority-depth-1m",
            "priority queue dequeue, depth 1M",
            ONE,
            &format!("{DEEP_PRIORITY} --fill-first 1000000"),
            &[flat("priority-depth-1k")],
        )
        .depth(1),
    ];
    for dead in rows.iter_mut().filter(|row| row.name == "depth-dead") {
        dead.dead = 100_000;
    }
    for (name, work, count) in [
        (
            "consumers-4",
            "queue, 16 producers and 4 consumers, own connections",
            4,
        ),
        ("consumers-8", "the same, 8 consumers", 8),
        ("consumers-16", "the same, 16 consumers", 16),
        ("consumers-32", "the same, 32 consumers", 32),
    ] {
        let args =
            format!("queue --case transfer --producers 16 --consumers {count} --warm-up 500ms");
        rows.push(row(name, work, ONE, &args, &[Goal::Times(CONSUMERS, 0.6)]).depth(3));
    }
    rows
}
