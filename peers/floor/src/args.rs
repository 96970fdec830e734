//! The options, spelled as those of `synod bench`.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Who has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Connections {
    /// Every worker its own.
    Own,
    /// All workers together one.
    Shared,
}

/// How the double barrier and the bank are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// Double barrier: everybody counts. Bank: one round trip a transfer.
    Plain,
    /// Double barrier: whoever comes last tells the others.
    Leader,
    /// Bank: read, then commit.
    TwoTrips,
}

/// What raw etcd calls can do at best.
#[derive(Debug, Clone, Parser)]
#[command(name = "synod-floor", version)]
pub(crate) struct Options {
    /// queue, priority-queue, barrier, double-barrier, lock, stm or raw
    pub(crate) workload: String,
    /// What to measure of it
    #[arg(long)]
    pub(crate) case: String,
    /// The URLs of the cluster, separated by commas
    #[arg(long)]
    pub(crate) addr: String,
    #[arg(long, default_value_t = 1)]
    pub(crate) producers: usize,
    #[arg(long, default_value_t = 1)]
    pub(crate) consumers: usize,
    #[arg(long, default_value_t = 8)]
    pub(crate) participants: usize,
    #[arg(long, default_value_t = 10)]
    pub(crate) waiters: usize,
    #[arg(long, default_value_t = 1)]
    pub(crate) tasks: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub(crate) value_size: usize,
    /// Items in the queue before
    #[arg(long, default_value_t = 0)]
    pub(crate) fill_first: usize,
    /// Items that were in the queue before those, and are deleted but not compacted
    #[arg(long, default_value_t = 0)]
    pub(crate) dead_first: usize,
    /// How many keys `load` puts
    #[arg(long, default_value_t = 0)]
    pub(crate) items: usize,
    /// The prefix of all keys, instead of one that no other has; ends in a slash
    #[arg(long)]
    pub(crate) prefix: Option<String>,
    /// Operations in a Txn
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=128))]
    pub(crate) batch: u16,
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) priorities: u16,
    /// Accounts of the bank
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=100))]
    pub(crate) accounts: u16,
    #[arg(long, default_value = "own")]
    pub(crate) connections: Connections,
    #[arg(long, default_value = "plain")]
    pub(crate) variant: Variant,
    #[arg(long, default_value = "5s", value_parser = seconds)]
    pub(crate) duration: Duration,
    #[arg(long, default_value = "1s", value_parser = seconds)]
    pub(crate) warm_up: Duration,
    #[arg(long, default_value_t = 1)]
    pub(crate) repeats: usize,
    /// json
    #[arg(long, default_value = "json", value_parser = ["json"])]
    pub(crate) output: String,
}

/// A number of seconds or milliseconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 0.001),
        (None, Some(number)) => (number, 1.0),
        (None, None) => return Err("give seconds or milliseconds: 2s, 500ms".to_owned()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{number} is no number"))?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(seconds("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(seconds("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("0.5s"), Ok(Duration::from_millis(500)));
        assert!(seconds("2").is_err() && seconds("-1s").is_err() && seconds("xs").is_err());
    }
}
