//! What is measured and what is to be reached: the table of the page, as data.

mod barriers;
mod depths;
mod embedded;
mod locks;
mod queues;
mod stm;

use super::goals::{Base, Goal, Metric};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compare) enum Who {
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
    pub(in crate::compare) fn name(self) -> &'static str {
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
    pub(in crate::compare) fn is_ours(self) -> bool {
        matches!(self, Who::Synod | Who::Served | Who::Embedded)
    }
}

/// A part of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compare) enum Section {
    /// Primitives on etcd.
    Primitives,
    /// The queue at depths, and with more and more consumers.
    Depth,
    /// The embedded store.
    Embedded,
}

/// Something that several programs do in turns.
#[derive(Debug)]
pub(in crate::compare) struct Row {
    pub(in crate::compare) name: &'static str,
    pub(in crate::compare) section: Section,
    pub(in crate::compare) work: &'static str,
    pub(in crate::compare) nodes: &'static [usize],
    /// Fewer repeats than asked for, where one takes long.
    pub(in crate::compare) most_repeats: usize,
    /// Who, with which arguments.
    pub(in crate::compare) contestants: Vec<(Who, String)>,
    pub(in crate::compare) lines: Vec<Line>,
    /// Keys that are put and deleted in front of ours before it begins.
    pub(in crate::compare) dead: usize,
}

/// A line of a table: what is read off a row, and what it should be.
#[derive(Debug)]
pub(in crate::compare) struct Line {
    /// After the row's work.
    pub(in crate::compare) what: &'static str,
    pub(in crate::compare) metric: Metric,
    pub(in crate::compare) goals: Vec<Goal>,
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
pub(in crate::compare) fn rows() -> Vec<Row> {
    let mut rows = queues::queues();
    rows.extend(queues::priority_queues());
    rows.extend(barriers::barriers());
    rows.extend(locks::locks());
    rows.extend(stm::stm());
    rows.extend(depths::depths());
    rows.extend(embedded::embedded());
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
