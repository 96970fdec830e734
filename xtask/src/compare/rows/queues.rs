//! Rows of the queue and the priority queue.

use super::super::goals::{Goal, Metric};
use super::{BOTH, DRAIN, ONE, Row, Who, floor, go, line, row};

pub(super) fn queues() -> Vec<Row> {
    let transfer = "queue --case transfer --producers 16 --consumers 16 --warm-up 500ms";
    vec![
        row(
            "queue-drain-1k",
            "queue drain, 1 consumer, one item a call, depth 1k",
            ONE,
            &format!("{DRAIN} --fill-first 1000"),
            &[],
        ),
        row(
            "queue-drain-10k",
            "the same, depth 10k",
            BOTH,
            &format!("{DRAIN} --fill-first 10000"),
            &[go(20.0)],
        ),
        row(
            "queue-drain-50k",
            "the same, depth 50k",
            BOTH,
            &format!("{DRAIN} --fill-first 50000"),
            &[go(70.0)],
        ),
        row(
            "queue-transfer-own",
            "queue, 16 producers and 16 consumers, own connections",
            BOTH,
            transfer,
            &[go(10.0)],
        )
        .lines(vec![
            line("", Metric::Rate, &[go(10.0)]),
            line(
                ": lost claims an item",
                Metric::Per("lost_claims", "taken"),
                &[Goal::Most(0.2)],
            ),
        ]),
        row(
            "queue-transfer-shared",
            "the same, 16 and 16 tasks on one client",
            BOTH,
            &format!("{transfer} --connections shared"),
            &[floor(0.5)],
        ),
        row(
            "queue-batch",
            "`enqueue_many` and `dequeue_many` of 100",
            BOTH,
            "queue --case batch --tasks 1 --batch 100 --warm-up 500ms",
            &[floor(0.8)],
        )
        .without(Who::Go),
        row(
            "queue-idle",
            "queue nearly empty, enqueue to a waiting consumer's return",
            BOTH,
            "queue --case idle --warm-up 200ms",
            &[],
        )
        .lines(vec![
            line(", p50", Metric::Latency("p50"), &[go(20.0)]),
            line(", p99", Metric::Latency("p99"), &[go(10.0)]),
        ]),
    ]
}

pub(super) fn priority_queues() -> Vec<Row> {
    let fill = "priority-queue --case fill --producers 1 --warm-up 0s";
    let drain = "priority-queue --case drain --consumers 1 --warm-up 0s";
    vec![
        row(
            "priority-fill-1k",
            "priority queue, depth 1k: enqueue",
            ONE,
            &format!("{fill} --fill-first 1000"),
            &[floor(0.75)],
        ),
        row(
            "priority-fill-10k",
            "priority queue, depth 10k: enqueue",
            BOTH,
            &format!("{fill} --fill-first 10000"),
            &[floor(0.75), go(4.0)],
        ),
        row(
            "priority-fill-50k",
            "priority queue, depth 50k: enqueue",
            ONE,
            &format!("{fill} --fill-first 50000"),
            &[floor(0.75), go(20.0)],
        ),
        row(
            "priority-drain-1k",
            "priority queue, depth 1k: dequeue",
            ONE,
            &format!("{drain} --fill-first 1000"),
            &[floor(0.75)],
        ),
        row(
            "priority-drain-10k",
            "priority queue, depth 10k: dequeue",
            BOTH,
            &format!("{drain} --fill-first 10000"),
            &[floor(0.75), go(2.7)],
        ),
        row(
            "priority-drain-50k",
            "priority queue, depth 50k: dequeue",
            ONE,
            &format!("{drain} --fill-first 50000"),
            &[floor(0.75), go(20.0)],
        ),
    ]
}
