//! What the workers do: a file a workload.

mod barrier;
mod double_barrier;
mod election;
mod idle;
mod line;
mod lock;
mod queue;
mod raw;
mod stm;

use std::sync::Arc;
use std::time::Duration;

use synod::Client;
use tokio::task::JoinSet;

use super::clients::Clients;
use super::part::{Part, Share};
use super::spec::{Spec, Workload};

pub(crate) use line::Line;
pub(crate) use raw::prepare as prepare_keys;
pub(crate) use stm::{check as check_accounts, open as open_accounts};

/// The connected workers of a process, by what they do.
pub(crate) struct Workers {
    /// Producers, participants, tasks, or the one who releases; with their numbers.
    first: Vec<(u32, Client)>,
    /// Consumers or waiters.
    second: Vec<(u32, Client)>,
}

impl Workers {
    /// Connects them.
    pub(crate) async fn connect(
        spec: &Spec,
        share: Share,
        clients: &mut Clients,
    ) -> synod::Result<Workers> {
        let first = match spec.workload {
            Workload::Barrier => 1,
            _ => [spec.producers, spec.participants, spec.tasks]
                .into_iter()
                .flatten()
                .sum(),
        };
        let second = [spec.consumers, spec.waiters].into_iter().flatten().sum();
        let mut workers = Workers {
            first: Vec::new(),
            second: Vec::new(),
        };
        for number in share.of(first) {
            workers.first.push((number, clients.next().await?));
        }
        for number in share.of(second) {
            workers.second.push((number, clients.next().await?));
        }
        Ok(workers)
    }
}

/// Works until there are no more turns, or it is told to stop.
pub(crate) async fn run(part: &Arc<Part>, workers: Workers) {
    match part.spec.workload {
        Workload::Queue | Workload::PriorityQueue => queue::run(part, workers).await,
        Workload::Barrier => barrier::run(part, workers).await,
        Workload::DoubleBarrier => double_barrier::run(part, workers).await,
        Workload::Lock => lock::run(part, workers).await,
        Workload::Election => election::run(part, workers).await,
        Workload::Stm => stm::run(part, workers).await,
        Workload::Raw => raw::run(part, workers).await,
    }
}

/// A worker that fails so often in a row gives up.
const PATIENCE: u32 = 20;

/// How long a worker pauses after an error, so that it does not hammer a store that is gone.
const PAUSE: Duration = Duration::from_millis(20);

/// Counts the errors of a worker.
#[derive(Debug, Default)]
struct Errors(u32);

impl Errors {
    fn none(&mut self) {
        self.0 = 0;
    }

    /// Tells it, and pauses; whether to go on.
    async fn one(&mut self, part: &Part, error: &(dyn std::fmt::Display + Sync)) -> bool {
        part.meter.failed(error);
        self.0 = self.0.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = part.stop.cancelled() => {}
        }
        self.0 < PATIENCE
    }
}

/// Runs workers to their end, each in a task.
async fn all<F: Future<Output = ()> + Send + 'static>(
    part: &Arc<Part>,
    workers: Vec<(u32, Client)>,
    work: impl Fn(Arc<Part>, u32, Client) -> F,
) {
    let mut tasks = JoinSet::new();
    for (number, client) in workers {
        tasks.spawn(work(part.clone(), number, client));
    }
    finish(part, &mut tasks).await;
}

/// Waits for tasks; one that panics is an error of the measurement.
async fn finish(part: &Part, tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            part.meter.violated(format!("a worker broke off: {error}"));
        }
    }
}

/// What `call` gives, unless it is told to stop first: then the call is dropped.
async fn unless_stopped<T>(part: &Part, call: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = call => Some(done),
        () = part.stop.cancelled() => None,
    }
}
