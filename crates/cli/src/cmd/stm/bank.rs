//! `synod stm bank`: tasks move money between accounts at the same time; none appears or vanishes.
//!
//! Every committed transfer keeps the sum, so that it holds at any moment, whoever else is at work:
//! it is read in one transaction once the tasks of this process have ended.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::{Value, json};
use synod::Client;
use synod::stm::Isolation;
use tokio::task::JoinSet;

use super::accounts::Accounts;
use crate::args::{BankArgs, Level};
use crate::cmd::Context;
use crate::cmd::work::unless_stopped;
use crate::explain::explain;
use crate::failure::{Failure, Result};
use crate::output::notice;

/// How often it is said how far the work has come: on a terminal, and elsewhere.
const OFTEN: Duration = Duration::from_millis(200);
const SELDOM: Duration = Duration::from_secs(2);

/// How far the work has come.
#[derive(Debug, Default)]
struct Progress {
    transfers: AtomicU64,
    attempts: AtomicU64,
}

pub(super) async fn run(
    client: &Client,
    name: &str,
    args: &BankArgs,
    context: &mut Context,
) -> Result<()> {
    let accounts = Accounts::new(client, name, args.accounts);
    let progress = Arc::new(Progress::default());
    let begin = Instant::now();
    let balances = unless_stopped(&mut context.signals, async {
        accounts.open(args).await?;
        work(&accounts, args, &progress, begin).await?;
        accounts.balances().await
    })
    .await?;
    let done = Rate::of(&progress, begin);
    if std::io::stderr().is_terminal() {
        // The line that says how far the work has come.
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    done.tell();
    let sum: u64 = balances.iter().map(|(_, balance)| balance).sum();
    let expected = args.balance.saturating_mul(u64::from(args.accounts));
    let mut lines: Vec<String> = balances
        .iter()
        .map(|(key, balance)| format!("account {key}: {balance}"))
        .collect();
    lines.push(format!("account sum is {sum}"));
    let listed: Vec<Value> = balances
        .iter()
        .map(|(key, balance)| json!({ "key": key.to_string(), "balance": balance }))
        .collect();
    let fields = json!({
        "accounts": listed,
        "sum": sum,
        "expected": expected,
        "transfers": done.transfers,
        "attempts": done.attempts,
        "seconds": done.seconds,
        "transfers_per_second": done.per_second(done.transfers),
        "attempts_per_second": done.per_second(done.attempts),
    });
    context.out.line(&lines.join("\n"), fields)?;
    if sum == expected {
        return Ok(());
    }
    let failure = accounts.unfit(format!("the sum is wrong: {sum} instead of {expected}"));
    Err(if args.isolation == Level::ReadCommitted {
        failure.cause("read-committed validates nothing: that is what it allows")
    } else {
        failure.cause(
            "a transfer was not isolated from another, here or in another run; or the accounts \
             were made with another --balance",
        )
    })
}

/// Runs the tasks to their end; the first error ends them all.
async fn work(
    accounts: &Accounts,
    args: &BankArgs,
    progress: &Arc<Progress>,
    begin: Instant,
) -> Result<()> {
    let isolation = match args.isolation {
        Level::SerializableSnapshot => Isolation::SerializableSnapshot,
        Level::Serializable => Isolation::Serializable,
        Level::RepeatableReads => Isolation::RepeatableReads,
        Level::ReadCommitted => Isolation::ReadCommitted,
    };
    let mut tasks = JoinSet::new();
    for _ in 0..args.tasks {
        let (accounts, progress, transfers) = (accounts.clone(), progress.clone(), args.transfers);
        tasks.spawn(async move {
            for _ in 0..transfers {
                let (from, to) = two_of(accounts.len());
                let committed = accounts.transfer(isolation, from, to).await?;
                progress.transfers.fetch_add(1, Ordering::Relaxed);
                let attempts = u64::from(committed.attempts);
                progress.attempts.fetch_add(attempts, Ordering::Relaxed);
            }
            Ok::<(), synod::Error>(())
        });
    }
    let all = u64::from(args.tasks).saturating_mul(u64::from(args.transfers));
    let reporter = Reporter::new(all);
    let mut tick = tokio::time::interval(reporter.every());
    tick.tick().await;
    loop {
        tokio::select! {
            biased;
            ended = tasks.join_next() => match ended {
                None => break,
                Some(ended) => ended
                    .map_err(|error| Failure::failed("a task broke off").because(&error))?
                    .map_err(|error| explain("cannot transfer", &error))?,
            },
            _ = tick.tick() => reporter.report(&Rate::of(progress, begin)),
        }
    }
    Ok(())
}

/// Two different numbers below `count`, which is two at least.
fn two_of(count: usize) -> (usize, usize) {
    let mut random = rand::rng();
    let from = random.random_range(0..count);
    let other = random.random_range(0..count.saturating_sub(1));
    // Those from the first number on move up by one.
    (
        from,
        if other >= from {
            other.saturating_add(1)
        } else {
            other
        },
    )
}

/// Says on stderr how far the work has come: on a terminal always in the same line.
struct Reporter {
    all: u64,
    terminal: bool,
}

impl Reporter {
    fn new(all: u64) -> Reporter {
        Reporter {
            all,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn every(&self) -> Duration {
        if self.terminal { OFTEN } else { SELDOM }
    }

    fn report(&self, rate: &Rate) {
        let text = format!(
            "{} of {} transfers, {} attempts",
            rate.transfers, self.all, rate.attempts
        );
        if self.terminal {
            // A closed stderr is nobody's loss.
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}\r");
        } else {
            notice(&text);
        }
    }
}

/// What was done, and how fast.
struct Rate {
    transfers: u64,
    attempts: u64,
    seconds: f64,
}

impl Rate {
    fn of(progress: &Progress, begin: Instant) -> Rate {
        Rate {
            transfers: progress.transfers.load(Ordering::Relaxed),
            attempts: progress.attempts.load(Ordering::Relaxed),
            seconds: begin.elapsed().as_secs_f64(),
        }
    }

    fn per_second(&self, number: u64) -> u64 {
        // Rates are far below the numbers that a float cannot hold.
        (number as f64 / self.seconds.max(1e-6)).round() as u64
    }

    fn tell(&self) {
        notice(&format!(
            "{} transfers in {:.1}s: {} transfers and {} attempts a second",
            self.transfers,
            self.seconds,
            self.per_second(self.transfers),
            self.per_second(self.attempts)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_pays_themselves() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..2_000 {
            let (from, to) = two_of(3);
            assert!(from != to && from < 3 && to < 3);
            seen.insert((from, to));
        }
        assert_eq!(seen.len(), 6);
    }
}
