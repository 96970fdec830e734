//! Runs one seed of the simulation: clients, server and engine in one thread, on virtual time.
//!
//! ```text
//! synod-sim SEED [--workload NAME] [--fault NAME] [--plant NAME] [--trace]
//! ```
//!
//! Prints a line with what was done and which faults there were; with `--trace` every call and answer before it. Ends
//! with 1 when an invariant was broken, and says which. `tests/seeds.rs` runs many.

mod chance;
mod client;
mod clock;
mod history;
mod invariants;
mod net;
mod node;
mod oracle;
mod plan;
mod planted;
mod run;
mod traced;
mod workloads;
mod world;

use std::process::ExitCode;

use plan::{Fault, Planted};
use workloads::Workload;

/// What the command line asks for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    seed: u64,
    workload: Workload,
    fault: Option<Fault>,
    planted: Option<Planted>,
    trace: bool,
}

fn asked(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let seed = words.next().ok_or("which seed?")?;
    let seed: u64 = seed.parse().map_err(|_| format!("{seed:?} is no seed"))?;
    let mut asked = Asked {
        seed,
        workload: Workload::of(seed),
        fault: None,
        planted: None,
        trace: false,
    };
    fn named<T: Copy>(all: &[(&str, T)], name: Option<String>) -> Result<T, String> {
        let name = name.ok_or("a name is missing")?;
        let found = all.iter().find(|(other, _)| *other == name);
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        found
            .map(|(_, is)| *is)
            .ok_or(format!("{name:?} is none of {names:?}"))
    }
    while let Some(word) = words.next() {
        match word.as_str() {
            "--workload" => asked.workload = named(&Workload::ALL, words.next())?,
            "--fault" => asked.fault = Some(named(&Fault::ALL, words.next())?),
            "--plant" => asked.planted = Some(named(&Planted::ALL, words.next())?),
            "--trace" => asked.trace = true,
            other => return Err(format!("{other:?} is not known")),
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let asked = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(reason) => {
            eprintln!(
                "{reason}\nsynod-sim SEED [--workload NAME] [--fault NAME] [--plant NAME] [--trace]"
            );
            return ExitCode::from(2);
        }
    };
    // A thread that has drawn nothing yet: hash maps draw once for each.
    let simulation = std::thread::Builder::new()
        .stack_size(16 << 20)
        .spawn(move || {
            chance::begin(asked.seed);
            run::run(asked)
        });
    let report = simulation.expect("a thread").join();
    let Ok(report) = report else {
        return ExitCode::from(3);
    };
    if asked.trace {
        print!("{}", report.trace);
    }
    println!("{}", report.summary);
    match report.result {
        Ok(()) => ExitCode::SUCCESS,
        Err(violation) => {
            println!("seed {}: {violation}", asked.seed);
            ExitCode::FAILURE
        }
    }
}
