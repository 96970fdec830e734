//! Rows of the barrier and the double barrier.

use super::super::goals::{Base, Goal, Metric};
use super::{BOTH, ONE, Row, Who, floor, line, row};

pub(super) fn barriers() -> Vec<Row> {
    let release = "barrier --case release --warm-up 300ms";
    let rounds = "double-barrier --case rounds --warm-up 500ms";
    let within = Goal::Within(Base::Who(Who::Floor), 1.3);
    let last = |goals: &[Goal]| vec![line("", Metric::Latency("p50"), goals)];
    vec![
        row(
            "barrier-10",
            "barrier, release to the last of 10 waiters, own connections",
            BOTH,
            &format!("{release} --waiters 10"),
            &[],
        )
        .lines(last(&[within])),
        row(
            "barrier-100",
            "the same, 100 waiters",
            BOTH,
            &format!("{release} --waiters 100"),
            &[],
        )
        .lines(last(&[within])),
        row(
            "barrier-10-shared",
            "the same, 10 waiters on one client",
            ONE,
            &format!("{release} --waiters 10 --connections shared"),
            &[],
        )
        .lines(last(&[within])),
        row(
            "barrier-100-shared",
            "the same, 100 waiters on one client",
            BOTH,
            &format!("{release} --waiters 100 --connections shared"),
            &[],
        )
        .lines(last(&[within])),
        row(
            "double-barrier-2",
            "double barrier, rounds of 2, own connections",
            BOTH,
            &format!("{rounds} --participants 2"),
            &[floor(0.8)],
        ),
        row(
            "double-barrier-8",
            "the same, rounds of 8",
            BOTH,
            &format!("{rounds} --participants 8"),
            &[floor(0.8)],
        ),
        row(
            "double-barrier-32",
            "the same, rounds of 32",
            BOTH,
            &format!("{rounds} --participants 32"),
            &[floor(1.0)],
        ),
        row(
            "double-barrier-32-shared",
            "the same, rounds of 32 on one client",
            BOTH,
            &format!("{rounds} --participants 32 --connections shared"),
            &[],
        ),
    ]
}
