//! Rows of the mutex and the election.

use super::{BOTH, Row, Who, go, row};

const LOCAL: &str = "lock --case cycle --tasks 8 --connections shared --warm-up 500ms";

pub(super) fn locks() -> Vec<Row> {
    vec![
        row(
            "lock-8",
            "mutex, 8 contenders on own connections",
            BOTH,
            "lock --case cycle --tasks 8 --warm-up 500ms",
            // Curator on ZooKeeper did 683 cycles a second where Go did 80.
            &[go(10.0)],
        ),
        Row {
            contestants: vec![
                (Who::Go, LOCAL.to_string()),
                (Who::Synod, format!("{LOCAL} --local-handover")),
            ],
            ..row(
                "lock-local",
                "mutex, 8 tasks on one client, `local_handover()`",
                BOTH,
                LOCAL,
                &[go(300.0)],
            )
        },
        row(
            "election-8",
            "election, 8 candidates on own connections",
            BOTH,
            "election --case cycle --tasks 8 --warm-up 500ms",
            &[go(10.0)],
        )
        .without(Who::Floor),
    ]
}
