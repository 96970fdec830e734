//! Rows of the embedded store, in process and served.

use super::super::goals::{Base, Goal, Metric};
use super::{ONE, Row, Section, Who, line};

pub(super) fn embedded() -> Vec<Row> {
    let new = |name, work, contestants: [(Who, &str); 2], metric, goal| Row {
        name,
        section: Section::Embedded,
        work,
        nodes: ONE,
        most_repeats: usize::MAX,
        contestants: contestants
            .map(|(who, args)| (who, args.to_string()))
            .into(),
        lines: vec![line("", metric, &[goal])],
        dead: 0,
    };
    let redis = |times| Goal::Times(Base::Who(Who::Redis), times);
    let etcd = |times| Goal::Times(Base::Who(Who::Etcd), times);
    let fill = "queue --case fill --connections shared --warm-up 300ms";
    let put = "raw --case put --connections shared --warm-up 300ms";
    let load = "raw --case load --items 1000000 --value-size 100 --prefix load/";
    vec![
        new(
            "embedded-1",
            "durable enqueue in process, 1 caller; Redis: LPUSH, `appendfsync always`",
            [
                (Who::Redis, "1"),
                (Who::Embedded, &format!("{fill} --producers 1")),
            ],
            Metric::Rate,
            redis(1.0),
        ),
        new(
            "embedded-64",
            "the same, 64 callers",
            [
                (Who::Redis, "64"),
                (Who::Embedded, &format!("{fill} --producers 64")),
            ],
            Metric::Rate,
            redis(1.0),
        ),
        new(
            "served-1",
            "put over gRPC, 1 caller; `synod serve` beside etcd",
            [
                (Who::Etcd, &format!("{put} --tasks 1")),
                (Who::Served, &format!("{put} --tasks 1")),
            ],
            Metric::Rate,
            etcd(1.2),
        ),
        new(
            "served-64",
            "the same, 64 callers on one connection",
            [
                (Who::Etcd, &format!("{put} --tasks 64")),
                (Who::Served, &format!("{put} --tasks 64")),
            ],
            Metric::Rate,
            etcd(2.0),
        ),
        Row {
            most_repeats: 1,
            ..new(
                "served-memory",
                "resident memory, mapped files counted, 1M keys of 100 bytes, just compacted",
                [(Who::Etcd, load), (Who::Served, load)],
                Metric::Memory,
                Goal::Within(Base::Who(Who::Etcd), 1.0),
            )
        },
    ]
}
