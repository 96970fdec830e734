//! Rows of software transactional memory.

use super::super::goals::{Goal, Metric};
use super::{BOTH, Row, Who, go, line, row};

pub(super) fn stm() -> Vec<Row> {
    let bank = "stm --case bank --tasks 10 --warm-up 500ms";
    vec![
        row(
            "stm-5",
            "STM bank, 10 tasks of one process, 5 accounts",
            BOTH,
            &format!("{bank} --accounts 5 --connections shared"),
            &[],
        )
        .lines(vec![
            line("", Metric::Rate, &[go(10.0)]),
            line(": attempts a transfer", Metric::Each("attempts"), &[]),
        ]),
        row(
            "stm-100",
            "the same, 100 accounts",
            BOTH,
            &format!("{bank} --accounts 100 --connections shared"),
            &[],
        )
        .lines(vec![
            line("", Metric::Rate, &[go(5.0)]),
            line(": attempts a transfer", Metric::Each("attempts"), &[]),
        ]),
        row(
            "stm-processes",
            "STM bank, 10 processes, 5 accounts",
            BOTH,
            &format!("{bank} --accounts 5 --processes 10"),
            &[],
        )
        .without(Who::Floor)
        .lines(vec![
            line("", Metric::Rate, &[go(2.0)]),
            line(
                ": attempts a transfer",
                Metric::Each("attempts"),
                &[Goal::Most(3.0)],
            ),
            line(": p99 over p50", Metric::Tail, &[Goal::Most(10.0)]),
        ]),
    ]
}
