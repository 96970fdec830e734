//! What a run is told.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::Fault;
use crate::mangle::Break;
use crate::primitive::Primitive;

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table, and findings in words.
    Text,
    /// One JSON object; progress goes to standard error.
    Json,
}

/// What a run is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What all choices follow from: which faults, when and on whom. Drawn by lot unless given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How long faults are made, in minutes; the end takes half a minute more.
    #[arg(long, default_value_t = 2.0)]
    pub minutes: f64,
    /// Only these primitives, separated by commas.
    #[arg(long = "primitive", value_delimiter = ',')]
    pub primitive: Vec<Primitive>,
    /// Only these faults, separated by commas.
    #[arg(long = "fault", value_delimiter = ',')]
    pub fault: Vec<Fault>,
    /// How many etcd nodes; faults that need several are left out with fewer than three.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=7))]
    pub nodes: u32,
    /// How many worker processes; the double barrier needs three.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(3..=16))]
    pub workers: u32,
    /// The time to live of sessions, in seconds.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(2..=60))]
    pub ttl: u64,
    /// The etcd binary; otherwise $SYNOD_ETCD, PATH, or what `cargo xtask test` unpacks.
    #[arg(long)]
    pub etcd: Option<PathBuf>,
    /// Where histories, the store's record and the servers' logs are kept, in a folder named after the
    /// seed.
    #[arg(long, default_value = "target/chaos")]
    pub keep: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Breaks a protocol on purpose in all workers, to see that the checkers notice.
    #[arg(long = "break", hide = true)]
    pub broken: Option<Break>,
    /// Within how many seconds everything must progress once the faults are over. When this is given, the calm ends as soon
    /// as everything has: on a machine that is busy otherwise it may take long.
    #[arg(long, hide = true)]
    pub patience: Option<u64>,
    /// The shortest and the longest pause after a fault, in milliseconds.
    #[arg(skip = (2000, 5000))]
    pub pause: (u64, u64),
}

impl Options {
    /// The primitives of the run.
    #[must_use]
    pub fn primitives(&self) -> Vec<Primitive> {
        if self.primitive.is_empty() {
            Primitive::ALL.to_vec()
        } else {
            self.primitive.clone()
        }
    }

    /// The faults of the run.
    ///
    /// # Errors
    ///
    /// When one was asked for that needs more nodes.
    pub fn faults(&self) -> anyhow::Result<Vec<Fault>> {
        let fits = |fault: &Fault| self.nodes >= 3 || !fault.needs_majority();
        if self.fault.is_empty() {
            return Ok(Fault::ALL.into_iter().filter(fits).collect());
        }
        if let Some(fault) = self.fault.iter().find(|fault| !fits(fault)) {
            anyhow::bail!("the fault {} needs at least three nodes", fault.name());
        }
        Ok(self.fault.clone())
    }

    /// The command that makes the same run again.
    #[must_use]
    pub fn again(&self, seed: u64) -> String {
        let mut command = format!("cargo xtask chaos --seed {seed} --minutes {}", self.minutes);
        if !self.primitive.is_empty() {
            command += &format!(" --primitive {}", super::names(&self.primitive));
        }
        if !self.fault.is_empty() {
            let names: Vec<&str> = self.fault.iter().map(|fault| fault.name()).collect();
            command += &format!(" --fault {}", names.join(","));
        }
        for (name, value, default) in [
            ("nodes", u64::from(self.nodes), 3),
            ("workers", u64::from(self.workers), 4),
            ("ttl", self.ttl, 4),
        ] {
            if value != default {
                command += &format!(" --{name} {value}");
            }
        }
        if let Some(broken) = self.broken.and_then(|broken| broken.to_possible_value()) {
            command += &format!(" --break {}", broken.get_name());
        }
        command
    }

    /// The folder of the run; an older one of the same seed makes way.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn directory(&self, seed: u64) -> anyhow::Result<PathBuf> {
        let directory = self.keep.join(seed.to_string());
        let _ = std::fs::remove_dir_all(&directory);
        let made = std::fs::create_dir_all(directory.join("histories"));
        made.with_context(|| format!("{} cannot be made", directory.display()))?;
        Ok(directory.canonicalize()?)
    }

    /// Says how the run goes.
    pub fn say(&self, line: impl std::fmt::Display) {
        match self.output {
            Output::Text => println!("{line}"),
            Output::Json => eprintln!("{line}"),
        }
    }
}
