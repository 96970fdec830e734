//! `synod bench`: what can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::cluster::nodes;
use super::global::duration;
use crate::bench::spec::{Case, Connections, Workload};

const BENCH_EXAMPLES: &str = "\
Examples:
  synod bench queue                           4 producers and 4 consumers, for 5s
  synod bench queue --producers 16 --consumers 16 --items 20000 --repeats 5
  synod bench queue --case drain --fill-first 10000 --consumers 1
  synod bench queue --case idle --duration 10s    how long an item takes to a waiting consumer
  synod bench queue --rate 500                open loop: 500 items a second, stalls show
  synod bench lock --tasks 8 --addr h1:2379,h2:2379,h3:2379
  synod bench lock --connections shared --local-handover
  synod bench stm --processes 10 --tasks 10   ten processes, a task each
  synod bench raw --case put --tasks 64 --connections shared --addr memory:
  synod bench all --report report.html        one after the other, and a page to look at
  synod bench all --cluster 3 --report r.html the same on three nodes of etcd, started for it

Workloads, their cases (the first is the default) and options:
  queue, priority-queue
    transfer   in and out at once             --producers --consumers --items --fill-first
    fill       in alone                       --producers --items --fill-first
    drain      out alone, of --fill-first     --consumers --fill-first
    idle       one at a time, to consumers that wait   --consumers --items
    batch      many a call, in and out        --tasks --batch --items --fill-first
    all with --value-size; priority-queue with --priorities
  barrier      release: until the last returned        --waiters --items
  double-barrier   rounds: all enter and leave         --participants --items
  lock         cycle: taken and given back             --tasks --items --local-handover
  election     cycle: led and resigned                 --tasks --items
  stm          bank: money moves                       --tasks --transfers --accounts
  raw          put, get, txn, batch: the store's own calls, the floor of everything above
                                              --tasks --items --value-size --batch
  all          one case of each and more      whatever of these is given, where it applies
For all: --connections --duration --warm-up --repeats --report --cluster; --processes, not with idle and
release; --rate, not with idle, release and rounds.

It counts until --duration, or until --items are done (--transfers a task for stm), whichever is
first. Everything is checked while it is measured: no item lost or doubled, no lock held twice, no
money made. Keys lie under a name of this run (--name), and are deleted at the end, after Ctrl-C too.
Exit code 1 when an operation failed, a check failed, or nothing was completed.

JSON, one object: format (1), program (name, version), store (address, server, nodes), machine (cpus,
memory_bytes, os, file_system), started_at (seconds since 1970), rows: a list with workload, case,
repeat (from 1), started_at, parameters (those that apply), operations, seconds, per_second, unit,
errors, first_error, violations (what a check found), latency_of, latency_us (count, mean, p50, p90,
p99, max), counters (what the case can tell: late, attempts, and of queues claims, lost_claims, taken,
looks, puts, warm-up included), series (operations in each tenth of the run); summary: for each thing
measured the median, min and max over its repeats of per_second, p50_us,
p90_us, p99_us and max_us.";

/// `synod bench`.
#[derive(Debug, Args)]
#[command(after_help = BENCH_EXAMPLES)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) what: What,
    /// What of it; see below
    #[arg(long)]
    pub(crate) case: Option<Case>,
    #[command(flatten)]
    pub(crate) numbers: Numbers,
    /// Hand a lock over in memory between the tasks that share a connection
    #[arg(long)]
    pub(crate) local_handover: bool,
    /// Who has a connection [default: own]
    #[arg(long, value_name = "WHO")]
    pub(crate) connections: Option<Connections>,
    /// Spread the workers over so many processes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) processes: u64,
    /// How long to measure [default: 5s unless a number of operations is given]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// How long to run before it is measured [default: 1s with a duration alone, else none]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) warm_up: Option<Duration>,
    /// How often to measure: medians, and how far they are apart
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) repeats: u64,
    /// Begin so many operations a second on a schedule, and count latencies from it (open loop)
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Measure on an etcd cluster of so many nodes (1, 3 or 5) on this machine, which is started for it
    /// and ended afterwards; needs an etcd binary as `synod cluster start` does
    #[arg(long, value_name = "NODES", value_parser = nodes, conflicts_with = "addr")]
    pub(crate) cluster: Option<usize>,
    /// Write a report with charts: FILE.html or FILE.svg
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

/// The numbers that some cases have.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Numbers {
    /// Who puts items in [default: 4]
    #[arg(long, value_name = "N", value_parser = workers())]
    pub(crate) producers: Option<u64>,
    /// Who takes items out [default: 4; 1 for drain and idle]
    #[arg(long, value_name = "N", value_parser = workers())]
    pub(crate) consumers: Option<u64>,
    /// Who meets at the double barrier [default: 8]
    #[arg(long, value_name = "N", value_parser = workers())]
    pub(crate) participants: Option<u64>,
    /// Who waits at the barrier [default: 10]
    #[arg(long, value_name = "N", value_parser = workers())]
    pub(crate) waiters: Option<u64>,
    /// How many do it at once [default: 8; 10 for stm]
    #[arg(long, value_name = "N", value_parser = workers())]
    pub(crate) tasks: Option<u64>,
    /// How many operations to count: items, rounds, cycles or calls
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) items: Option<u64>,
    /// Bytes of a value; from 8 on every item is checked [default: 100]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) value_size: Option<u64>,
    /// How many items are in the queue before it is measured [default: 10000 for drain, else 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub(crate) fill_first: Option<u64>,
    /// How many items a call [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) batch: Option<u64>,
    /// How many priorities items are spread over [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) priorities: Option<u64>,
    /// How many accounts money moves between [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=100_000))]
    pub(crate) accounts: Option<u64>,
    /// How many transfers each task makes [default: 100 unless --duration is given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) transfers: Option<u64>,
}

fn workers() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=100_000)
}

/// What is measured: a workload, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    One(Workload),
    All,
    /// What `--processes` starts.
    Worker,
}

impl ValueEnum for What {
    fn value_variants<'a>() -> &'a [What] {
        &[
            What::One(Workload::Queue),
            What::One(Workload::PriorityQueue),
            What::One(Workload::Barrier),
            What::One(Workload::DoubleBarrier),
            What::One(Workload::Lock),
            What::One(Workload::Election),
            What::One(Workload::Stm),
            What::One(Workload::Raw),
            What::All,
            What::Worker,
        ]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self {
            What::One(workload) => workload.to_possible_value(),
            What::All => Some(clap::builder::PossibleValue::new("all").help("One after the other")),
            What::Worker => Some(clap::builder::PossibleValue::new("worker").hide(true)),
        }
    }
}

/// Operations a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.001..=1e7).contains(&rate) => Ok(rate),
        _ => Err("give a number of operations a second, from 0.001 to 10000000".to_owned()),
    }
}
