//! From what was typed to the [`Spec`]s to measure. What means nothing is refused, not passed over.

use std::time::Duration;

use super::spec::{Case, Connections, Number, Spec, Workload};
use crate::args::{BenchArgs, Numbers, What};
use crate::failure::{Failure, Result};

/// How long to measure when nothing else ends it.
const DURATION: Duration = Duration::from_secs(5);

/// How long to run before that.
const WARM_UP: Duration = Duration::from_secs(1);

/// What to measure, in this order; all keys lie under `name`.
pub(crate) fn specs(args: &BenchArgs, name: &str, embedded: bool) -> Result<Vec<Spec>> {
    if args.processes > 1 && embedded {
        return Err(
            Failure::usage("--processes needs a store that processes can share")
                .cause("an embedded store belongs to one process")
                .hint("serve it: `synod serve --data DIR`, and give its address with --addr"),
        );
    }
    let chosen = chosen(args)?;
    refuse_what_means_nothing(args, &chosen)?;
    Ok(chosen
        .iter()
        .map(|(workload, case)| settle(args, name, *workload, *case))
        .collect())
}

/// The cases that are meant.
fn chosen(args: &BenchArgs) -> Result<Vec<(Workload, Case)>> {
    match args.what {
        What::One(workload) => match args.case {
            None => Ok(vec![(workload, workload.default_case())]),
            Some(case) if workload.cases().contains(&case) => Ok(vec![(workload, case)]),
            Some(case) => {
                let cases: Vec<String> = workload.cases().iter().map(Case::to_string).collect();
                Err(
                    Failure::usage(format!("`synod bench {workload}` has no case {case}"))
                        .hint(format!("its cases: {}", cases.join(", "))),
                )
            }
        },
        What::All => match args.case {
            None => Ok(ALL.to_vec()),
            Some(_) => Err(Failure::usage("`synod bench all` takes no --case")
                .hint("name a workload with it, such as `synod bench queue --case drain`")),
        },
        What::Worker => Ok(Vec::new()),
    }
}

/// What `all` measures.
const ALL: [(Workload, Case); 14] = [
    (Workload::Raw, Case::Put),
    (Workload::Raw, Case::Get),
    (Workload::Raw, Case::Txn),
    (Workload::Raw, Case::Batch),
    (Workload::Queue, Case::Transfer),
    (Workload::Queue, Case::Drain),
    (Workload::Queue, Case::Idle),
    (Workload::Queue, Case::Batch),
    (Workload::PriorityQueue, Case::Transfer),
    (Workload::Barrier, Case::Release),
    (Workload::DoubleBarrier, Case::Rounds),
    (Workload::Lock, Case::Cycle),
    (Workload::Election, Case::Cycle),
    (Workload::Stm, Case::Bank),
];

/// The names of the options of a case, `--` left out.
fn options(workload: Workload, case: Case) -> Vec<&'static str> {
    let mut options = match (workload, case) {
        (_, Case::Transfer) => vec![
            "producers",
            "consumers",
            "items",
            "fill-first",
            "value-size",
        ],
        (_, Case::Fill) => vec!["producers", "items", "fill-first", "value-size"],
        (_, Case::Drain) => vec!["consumers", "fill-first", "value-size"],
        (_, Case::Idle) => vec!["consumers", "items", "value-size"],
        (Workload::Raw, Case::Batch) => vec!["tasks", "items", "batch", "value-size"],
        (_, Case::Batch) => vec!["tasks", "items", "batch", "fill-first", "value-size"],
        (_, Case::Release) => vec!["waiters", "items"],
        (_, Case::Rounds) => vec!["participants", "items"],
        (_, Case::Cycle) => vec!["tasks", "items"],
        (_, Case::Bank) => vec!["tasks", "transfers", "accounts"],
        (_, Case::Get | Case::Put | Case::Txn) => vec!["tasks", "items", "value-size"],
    };
    if workload == Workload::PriorityQueue {
        options.push("priorities");
    }
    if workload == Workload::Lock {
        options.push("local-handover");
    }
    if !matches!(case, Case::Idle | Case::Release | Case::Rounds) {
        options.push("rate");
    }
    if !matches!(case, Case::Idle | Case::Release) {
        options.push("processes");
    }
    options
}

fn given(args: &BenchArgs) -> [(&'static str, Number); 15] {
    let Numbers {
        producers,
        consumers,
        participants,
        waiters,
        tasks,
        items,
        value_size,
        fill_first,
        batch,
        priorities,
        accounts,
        transfers,
    } = args.numbers;
    [
        ("producers", producers),
        ("consumers", consumers),
        ("participants", participants),
        ("waiters", waiters),
        ("tasks", tasks),
        ("items", items),
        ("value-size", value_size),
        ("fill-first", fill_first),
        ("batch", batch),
        ("priorities", priorities),
        ("accounts", accounts),
        ("transfers", transfers),
        ("local-handover", args.local_handover.then_some(1)),
        ("rate", args.rate.map(|_| 1)),
        (
            "processes",
            Some(args.processes).filter(|processes| *processes > 1),
        ),
    ]
}

/// An option must mean something to at least one case.
fn refuse_what_means_nothing(args: &BenchArgs, chosen: &[(Workload, Case)]) -> Result<()> {
    for (option, number) in given(args) {
        let known =
            |(workload, case): &(Workload, Case)| options(*workload, *case).contains(&option);
        if number.is_none() || chosen.iter().any(known) {
            continue;
        }
        let Some((workload, case)) = chosen.first() else {
            continue;
        };
        let theirs: Vec<String> = options(*workload, *case)
            .into_iter()
            .chain(["connections", "duration", "warm-up", "repeats", "report"])
            .map(|option| format!("--{option}"))
            .collect();
        return Err(Failure::usage(format!(
            "`synod bench {workload} --case {case}` takes no --{option}"
        ))
        .hint(format!("its options: {}", theirs.join(", "))));
    }
    Ok(())
}

/// Every parameter of a case: as typed, or its default.
fn settle(args: &BenchArgs, name: &str, workload: Workload, case: Case) -> Spec {
    let options = options(workload, case);
    let has = |option: &str| options.contains(&option);
    let number =
        |option: &str, given: Number, default: u64| has(option).then(|| given.unwrap_or(default));
    let given = &args.numbers;
    let transfers = match (given.transfers, args.duration) {
        (None, None) => number("transfers", None, 100),
        (transfers, _) => transfers.filter(|_| has("transfers")),
    };
    let items = given.items.filter(|_| has("items"));
    let counted = items.is_some() || transfers.is_some();
    let duration = args.duration.or((!counted).then_some(DURATION));
    let one = matches!(case, Case::Drain | Case::Idle);
    let warm_up = match (args.warm_up, args.duration) {
        (Some(warm_up), _) => warm_up,
        // What is taken out before it is measured would be missing.
        (None, _) if counted || case == Case::Drain => Duration::ZERO,
        // A short measurement has a short warm-up.
        (None, given) => given.map_or(WARM_UP, |given| WARM_UP.min(given / 5)),
    };
    Spec {
        workload,
        case,
        name: name.to_owned(),
        producers: if case == Case::Idle {
            Some(1)
        } else {
            number("producers", given.producers, 4)
        },
        consumers: number("consumers", given.consumers, if one { 1 } else { 4 }),
        participants: number("participants", given.participants, 8),
        waiters: number("waiters", given.waiters, 10),
        tasks: number(
            "tasks",
            given.tasks,
            if case == Case::Bank { 10 } else { 8 },
        ),
        items,
        value_size: number("value-size", given.value_size, 100),
        fill_first: number(
            "fill-first",
            given.fill_first,
            if case == Case::Drain { 10_000 } else { 0 },
        ),
        batch: number("batch", given.batch, 100),
        priorities: number("priorities", given.priorities, 10),
        accounts: number("accounts", given.accounts, 100),
        transfers,
        local_handover: args.local_handover && has("local-handover"),
        connections: args.connections.unwrap_or(Connections::Own),
        processes: if has("processes") { args.processes } else { 1 },
        duration,
        warm_up,
        rate: args.rate.filter(|_| has("rate")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command, Format};

    fn args(line: &str) -> BenchArgs {
        let line = format!("synod bench {line}");
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Bench(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn one(line: &str) -> Spec {
        specs(&args(line), "n", false).unwrap().remove(0)
    }

    #[test]
    fn the_defaults() {
        let spec = one("queue");
        assert_eq!(spec.case, Case::Transfer);
        assert_eq!((spec.producers, spec.consumers), (Some(4), Some(4)));
        assert_eq!(
            (spec.value_size, spec.tasks, spec.limit()),
            (Some(100), None, None)
        );
        assert_eq!((spec.duration, spec.warm_up), (Some(DURATION), WARM_UP));
        let spec = one("queue --items 7");
        assert_eq!((spec.duration, spec.limit()), (None, Some(7)));
        assert_eq!(spec.warm_up, Duration::ZERO);
        let spec = one("queue --case drain");
        assert_eq!((spec.consumers, spec.fill_first), (Some(1), Some(10_000)));
        assert_eq!(
            (spec.duration, spec.warm_up),
            (Some(DURATION), Duration::ZERO)
        );
        assert_eq!(one("stm").limit(), Some(1_000));
        let spec = one("stm --duration 2s");
        assert_eq!(
            (spec.limit(), spec.duration),
            (None, Some(Duration::from_secs(2)))
        );
        assert_eq!(spec.warm_up, Duration::from_millis(400));
        assert_eq!(one("raw --case batch --batch 9").batch, Some(9));
        assert_eq!(one("queue --case idle").producers, Some(1));
    }

    #[test]
    fn every_option_of_a_case_means_something_to_it() {
        for what in [
            "queue",
            "priority-queue",
            "barrier",
            "double-barrier",
            "lock",
            "election",
            "stm",
            "raw",
        ] {
            let plain = args(what);
            let What::One(workload) = plain.what else {
                panic!("{what}");
            };
            for case in workload.cases() {
                for option in options(workload, *case) {
                    let plain = one(&format!("{what} --case {case}"));
                    let value = if option == "local-handover" {
                        ""
                    } else {
                        " 77"
                    };
                    let changed = one(&format!("{what} --case {case} --{option}{value}"));
                    assert_ne!(plain, changed, "{what} --case {case} --{option}");
                }
            }
        }
    }

    #[test]
    fn what_means_nothing_is_refused_with_the_way_out() {
        for (line, message, hint) in [
            (
                "lock --case drain",
                "`synod bench lock` has no case drain",
                "its cases: cycle",
            ),
            ("all --case drain", "takes no --case", "name a workload"),
            (
                "lock --producers 2",
                "takes no --producers",
                "its options: --tasks, --items",
            ),
            (
                "queue --case idle --rate 5",
                "takes no --rate",
                "--consumers",
            ),
            ("barrier --processes 2", "takes no --processes", "--waiters"),
            (
                "queue --priorities 2",
                "takes no --priorities",
                "--value-size",
            ),
        ] {
            let refused = specs(&args(line), "n", false).unwrap_err();
            assert_eq!(refused.exit.code(), 2, "{line}");
            let text = refused.render(Format::Text);
            assert!(text.contains(message) && text.contains(hint), "{text}");
        }
        let refused = specs(&args("queue --processes 2"), "n", true).unwrap_err();
        assert!(refused.render(Format::Text).contains("synod serve --data"));
        assert!(specs(&args("queue --processes 1"), "n", true).is_ok());
    }

    /// In all of them an option must mean something somewhere, and does nothing elsewhere.
    #[test]
    fn all_takes_what_any_of_them_does() {
        let all = specs(
            &args("all --tasks 3 --processes 2 --duration 1s"),
            "n",
            false,
        )
        .unwrap();
        assert_eq!(all.len(), ALL.len());
        for spec in all {
            assert!(spec.tasks.is_none_or(|tasks| tasks == 3));
            let alone = matches!(spec.case, Case::Idle | Case::Release);
            assert_eq!(spec.processes, if alone { 1 } else { 2 });
        }
        let workloads = |one: &(Workload, Case)| one.0;
        let known: Vec<_> = ALL.iter().map(workloads).collect();
        assert!(
            [Workload::Stm, Workload::Election, Workload::Raw]
                .iter()
                .all(|one| known.contains(one))
        );
    }
}
