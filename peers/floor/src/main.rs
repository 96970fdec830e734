//! `synod-floor`: what raw etcd calls can do at best, with the workloads, options and JSON of
//! `synod bench`, so that both can be run in turns on one cluster.
//!
//! Each workload does what the primitive must do, with as few calls as we know, arranged as well as
//! we know, and with knowledge that a primitive has not: which key is next, who stands before whom,
//! that nobody dies. It is a mark to come near, not something to use.

mod args;
mod barrier;
mod double_barrier;
mod lock;
mod measure;
mod queue;
mod queue_transfer;
mod raw;
mod report;
mod stm;
mod store;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use args::Options;
use measure::Row;
use store::Cluster;

fn main() -> ExitCode {
    let options = Options::parse();
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("synod-floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start(options: &Options) -> Result<()> {
    let cluster = Cluster::connect(&options.addr).await?;
    let mut rows = Vec::new();
    for repeat in 1..=options.repeats {
        let unique = || format!("bench-floor-{:016x}/", rand::random::<u64>());
        let bench = Bench {
            options: options.clone(),
            cluster: cluster.clone(),
            prefix: options.prefix.clone().unwrap_or_else(unique),
        };
        let mut row = measure(&bench).await?;
        row.repeat = repeat;
        rows.push(row);
    }
    println!("{}", report::report(options, &cluster, &rows));
    Ok(())
}

/// One repeat.
struct Bench {
    options: Options,
    cluster: Cluster,
    /// Of all keys.
    prefix: String,
}

async fn measure(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    match (options.workload.as_str(), options.case.as_str()) {
        ("queue" | "priority-queue", "fill") => queue::fill(bench).await,
        ("queue" | "priority-queue", "drain") => queue::drain(bench).await,
        ("queue" | "priority-queue", "idle") => queue::idle(bench).await,
        ("queue" | "priority-queue", "batch") => queue::batch(bench).await,
        ("queue", "bury") => queue::bury(bench).await,
        ("queue", "transfer") => queue_transfer::transfer(bench).await,
        ("barrier", "release") => barrier::release(bench).await,
        ("double-barrier", "rounds") => double_barrier::rounds(bench).await,
        ("lock", "cycle") => lock::cycle(bench).await,
        ("stm", "bank") => stm::bank(bench).await,
        ("raw", "put" | "get" | "txn" | "batch") => raw::run(bench).await,
        ("raw", "load") => raw::load(bench).await,
        (workload, case) => bail!("there is no floor of {workload} with a case {case}"),
    }
}
