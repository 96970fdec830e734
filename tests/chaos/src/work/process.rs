//! A worker as a process: what the runner starts, kills and freezes.
//!
//! It obeys lines on its standard input: `stop` to end in good order, `drain` to empty the queues and
//! end, `die N WHEN` to kill itself at its N-th changing request from now. When the input ends the
//! runner is gone, and so is the worker.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_store::Store;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{PATIENCE, Work, client};
use crate::history::Log;
use crate::mangle::{Break, Mangle, When};
use crate::primitive::Primitive;

/// What a worker is told when it is started.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// The store's URLs, separated by commas.
    #[arg(long)]
    pub url: String,
    /// Its name, unique in the run.
    #[arg(long)]
    pub name: String,
    /// Its number among the workers, from 0.
    #[arg(long)]
    pub index: u32,
    /// What its choices follow from.
    #[arg(long)]
    pub seed: u64,
    /// The time to live of its sessions, in seconds.
    #[arg(long)]
    pub ttl: u64,
    /// Where it writes its history.
    #[arg(long)]
    pub history: PathBuf,
    /// What it works with.
    #[arg(long, value_delimiter = ',')]
    pub primitives: Vec<Primitive>,
    /// Breaks a protocol on purpose.
    #[arg(long = "break")]
    pub broken: Option<Break>,
    /// Does nothing until it is told what.
    #[arg(long)]
    pub idle: bool,
}

/// Runs the worker.
///
/// # Errors
///
/// When it cannot begin.
pub async fn run(args: WorkerArgs) -> anyhow::Result<ExitCode> {
    // A panic in any task, also one of the library's own, is the end of the process: the runner takes note of
    // that. Otherwise the task alone would be gone, and its call would look as if its process had been killed.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::abort()
    }));
    let endpoints: Vec<String> = args.url.split(',').map(str::to_owned).collect();
    // As a client of Synod connects, but never past the bridges: members' own addresses are not asked.
    let options = EtcdOptions::new(endpoints)
        .with_connect_timeout(PATIENCE.min(Duration::from_secs(3)))
        .with_request_timeout(PATIENCE.min(Duration::from_secs(5)))
        .with_member_sync(None);
    let store: Arc<dyn Store> = Arc::new(EtcdStore::connect(options).await?);
    let mangle = Mangle::new(store, args.broken);
    let death = mangle.death();
    let ttl = Duration::from_secs(args.ttl);
    let client = client(Arc::new(mangle), &args.name, ttl);
    let log = Log::create(&args.history)?;
    let primitives: &[Primitive] = if args.idle { &[] } else { &args.primitives };
    let work = Work::begin(
        client, log, &args.name, args.index, args.seed, ttl, primitives,
    );
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    println!("ready");
    loop {
        let Some(order) = orders.next_line().await? else {
            return Ok(ExitCode::FAILURE);
        };
        let mut words = order.split(' ');
        match words.next() {
            Some("stop") => break,
            Some("drain") => {
                work.drain(&args.primitives).await;
                break;
            }
            Some("die") => {
                let steps = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
                let when = words.next().and_then(When::parse).unwrap_or(When::Before);
                death.set(steps, when);
            }
            _ => anyhow::bail!("{order:?} is no order"),
        }
    }
    match work.end().await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => {
            eprintln!("{}: {why}", args.name);
            Ok(ExitCode::from(3))
        }
    }
}
