//! What is measured and what is to be reached: the table of the page, as data.

use super::goals::{Base, Goal, Metric};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// etcd's own Go recipes, on etcd.
    Go,
    /// Raw calls, on etcd.
    Floor,
    /// Synod, on etcd.
    Synod,
    /// Raw calls, on etcd, beside [`Who::Served`].
    Etcd,
    /// The same raw calls, on `synod serve`.
    Served,
    /// `redis-benchmark` on a Redis that syncs each write.
    Redis,
    /// Synod on an embedded store in its own process.
    Embedded,
}

impl Who {
    /// As it stands in records.
    pub(super) fn name(self) -> &'static str {
        match self {
            Who::Go => "go",
            Who::Floor => "floor",
            Who::Synod => "synod",
            Who::Etcd => "etcd",
            Who::Served => "served",
            Who::Redis => "redis",
            Who::Embedded => "embedded",
        }
    }

    /// Whether it is what the goals are for.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Who::Synod | Who::Served | Who::Embedded)
    }
}

/// A part of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Primitives on etcd.
    Primitives,
    /// The queue at depths, and with more and more consumers.
    Depth,
    /// The embedded store.
    Embedded,
}

/// Something that several programs do in turns.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) section: Section,
    pub(super) work: &'static str,
    pub(super) nodes: &'static [usize],
    /// Fewer repeats than asked for, where one takes long.
    pub(super) most_repeats: usize,
    /// Who, with which arguments.
    pub(super) contestants: Vec<(Who, String)>,
    pub(super) lines: Vec<Line>,
    /// Keys that are put and deleted in front of ours before it begins.
    pub(super) dead: usize,
}

/// A line of a table: what is read off a row, and what it should be.
#[derive(Debug)]
pub(super) struct Line {
    /// After the row's work.
    pub(super) what: &'static str,
    pub(super) metric: Metric,
    pub(super) goals: Vec<Goal>,
}

const BOTH: &[usize] = &[1, 3];
const ONE: &[usize] = &[1];

fn line(what: &'static str, metric: Metric, goals: &[Goal]) -> Line {
    let goals = goals.to_vec();
    Line {
        what,
        metric,
        goals,
    }
}

/// A row of all three on etcd, with the same arguments, whose rate counts.
fn row(
    name: &'static str,
    work: &'static str,
    nodes: &'static [usize],
    args: &str,
    goals: &[Goal],
) -> Row {
    Row {
        name,
        section: Section::Primitives,
        work,
        nodes,
        most_repeats: usize::MAX,
        contestants: [Who::Go, Who::Floor, Who::Synod]
            .map(|who| (who, args.to_string()))
            .into(),
        lines: vec![line("", Metric::Rate, goals)],
        dead: 0,
    }
}

impl Row {
    fn without(mut self, who: Who) -> Row {
        self.contestants
            .retain(|(contestant, _)| *contestant != who);
        self
    }

    fn lines(mut self, lines: Vec<Line>) -> Row {
        self.lines = lines;
        self
    }

    fn depth(mut self, most_repeats: usize) -> Row {
        self.section = Section::Depth;
        self.most_repeats = most_repeats;
        self.without(Who::Go).without(Who::Floor)
    }
}

/// All rows, in the page's order.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = queues();
    rows.extend(priority_queues());
    rows.extend(barriers());
    rows.extend(locks());
    rows.extend(stm());
    rows.extend(depths());
    rows.extend(embedded());
    rows
}

fn go(times: f64) -> Goal {
    Goal::Times(Base::Who(Who::Go), times)
}

fn floor(times: f64) -> Goal {
    Goal::Times(Base::Who(Who::Floor), times)
}

const DRAIN: &str = "queue --case drain --consumers 1 --warm-up 0s";

/// The same where it cannot come to an end meanwhile: the first look at a deep queue, which happens
/// once, is not counted.
const DEEP: &str = "queue --case drain --consumers 1 --warm-up 300ms";

fn queues() -> Vec<Row> {
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

fn priority_queues() -> Vec<Row> {
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

fn barriers() -> Vec<Row> {
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

const LOCAL: &str = "lock --case cycle --tasks 8 --connections shared --warm-up 500ms";

fn locks() -> Vec<Row> {
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

fn stm() -> Vec<Row> {
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

fn depths() -> Vec<Row> {
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

fn embedded() -> Vec<Row> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_bases_exist() {
        let rows = rows();
        let mut names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        let known = |name: &str| rows.iter().any(|row| row.name == name);
        for goal in rows
            .iter()
            .flat_map(|row| &row.lines)
            .flat_map(|line| &line.goals)
        {
            match goal.base() {
                Some(Base::Row(name)) => assert!(known(name), "{name}"),
                Some(Base::Best(names)) => {
                    names.iter().for_each(|name| assert!(known(name), "{name}"))
                }
                Some(Base::Who(_)) | None => {}
            }
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows.len());
        // What is compared with somebody must have them beside it.
        for row in &rows {
            assert!(
                row.contestants.iter().any(|(who, _)| who.is_ours()),
                "{}",
                row.name
            );
            for goal in row.lines.iter().flat_map(|line| &line.goals) {
                if let Some(Base::Who(base)) = goal.base() {
                    assert!(
                        row.contestants.iter().any(|(who, _)| *who == base),
                        "{}",
                        row.name
                    );
                }
            }
        }
    }
}
