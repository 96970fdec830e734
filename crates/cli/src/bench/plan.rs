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
    if !matches!(case, Case::Idle | Case::Release | Case::Rounds) {
        options.push("rate");
    }
    if !matches!(case, Case::Idle | Case::Release) {
        options.push("processes");
    }
    options
}

fn given(args: &BenchArgs) -> [(&'static str, Number); 14] {
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
        connections: args.connections.unwrap_or(Connections::Own),
        processes: if has("processes") { args.processes } else { 1 },
        duration,
        warm_up,
        rate: args.rate.filter(|_| has("rate")),
    }
}
