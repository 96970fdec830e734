//! `synod stm`: what can be typed.

use clap::{Args, Subcommand, ValueEnum};

const STM_EXAMPLES: &str = "\
Examples:
  synod stm bank                              move money between accounts, and count it afterwards";

/// `synod stm`.
#[derive(Debug, Args)]
#[command(after_help = STM_EXAMPLES)]
pub(crate) struct StmArgs {
    #[command(subcommand)]
    pub(crate) command: StmCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StmCommand {
    /// Moves money between accounts in many tasks at once; none may appear or vanish
    #[command(after_help = "\
Examples:
  synod stm bank
  synod stm bank --accounts 20 --tasks 50 --transfers 200
  synod stm bank --isolation read-committed   what a level that does not validate loses
  synod --addr h1:2379,h2:2379 stm bank       on an etcd cluster; from several machines at once

Each transfer moves half of what is in a random account to another one, in one transaction. The
accounts are made when they are not there, and never reset, so that several of these can work on the
same ones: with the same --accounts and --balance, or under another --name.
Prints one line for each account and one for their sum: `account accts/0: 87`, `account sum is 500`;
on stderr what is under way, and at the end how many transfers and attempts there were in a second.
Exit code 1 when the sum is wrong.
JSON: accounts (a list of objects with key and balance), sum, expected, transfers, attempts, seconds,
transfers_per_second, attempts_per_second.")]
    Bank(BankArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BankArgs {
    /// How many accounts there are
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub(crate) accounts: u32,
    /// What is in each at the beginning
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000_000))]
    pub(crate) balance: u64,
    /// How many tasks make transfers at once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tasks: u32,
    /// How many transfers each of them makes
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) transfers: u32,
    /// What transactions are safe from
    #[arg(long, value_name = "LEVEL", default_value = "serializable-snapshot")]
    pub(crate) isolation: Level,
}

/// A level of isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// One moment's state, and nobody wrote what is read or written since.
    SerializableSnapshot,
    /// One moment's state, and nobody wrote what is read since.
    Serializable,
    /// Nobody wrote what is read since it was.
    RepeatableReads,
    /// Nothing is checked: money may get lost.
    ReadCommitted,
}
