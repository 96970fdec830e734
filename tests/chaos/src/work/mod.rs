//! The workloads: what a process of a run does with each primitive, until it is told to stop.
//!
//! Each primitive has one object, which all processes share. Every operation is written into the
//! process's history before and after; values are unique in the run. Tokens of operations in doubt are
//! resolved in the background, and the outcome is written too.

mod barriers;
mod delivery;
mod election;
mod locks;
mod process;
mod queues;
mod stm;
mod txn;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use synod::{Client, ConnectOptions, Error, Resolution, Token};
use synod_store::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::history::{Answer, Args, Call, Log, Outcome, Settled};
use crate::primitive::Primitive;

pub use process::{WorkerArgs, run as run_process};
pub use stm::open_accounts;

/// How long a client bears an unreachable store before it says that it does not know.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// How long a blocking call waits for others before it is given up.
const WAIT: Duration = Duration::from_secs(6);

/// The client of a worker, with the settings of the run.
#[must_use]
pub fn client(store: Arc<dyn Store>, name: &str, ttl: Duration) -> Client {
    ConnectOptions::new("memory:")
        .with_timeout(PATIENCE)
        .with_session_ttl(ttl)
        .with_identity(name)
        .over(store)
}

/// One process's work, or that of one client of several in a process.
#[derive(Debug)]
pub struct Work {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    log: Log,
    name: String,
    ttl: Duration,
    doubts: Mutex<Vec<(u64, Token)>>,
    /// The tasks that still run.
    running: Mutex<Vec<String>>,
}

impl Work {
    /// Begins to work with these primitives. `index` numbers the workers of the run from 0, `name` is
    /// unique among all that were ever started.
    #[must_use]
    pub fn begin(
        client: Client,
        log: Log,
        name: &str,
        index: u32,
        seed: u64,
        ttl: Duration,
        primitives: &[Primitive],
    ) -> Work {
        let (stop, stopping) = watch::channel(false);
        let mut work = Work {
            shared: Arc::new(Shared {
                client,
                log,
                name: name.to_owned(),
                ttl,
                doubts: Mutex::default(),
                running: Mutex::default(),
            }),
            tasks: JoinSet::new(),
            stop,
        };
        let mut seeds = StdRng::seed_from_u64(seed);
        for primitive in primitives {
            let mut spawner = Spawner {
                work: &mut work,
                primitive: *primitive,
                index,
                stopping: stopping.clone(),
                seeds: &mut seeds,
            };
            match primitive {
                Primitive::Queue | Primitive::PriorityQueue => queues::spawn(&mut spawner),
                Primitive::Delivery => delivery::spawn(&mut spawner),
                Primitive::Mutex | Primitive::Rwlock | Primitive::Semaphore => {
                    locks::spawn(&mut spawner);
                }
                Primitive::Election => election::spawn(&mut spawner),
                Primitive::Barrier | Primitive::DoubleBarrier => barriers::spawn(&mut spawner),
                Primitive::Stm => stm::spawn(&mut spawner),
                Primitive::Txn => txn::spawn(&mut spawner),
            }
        }
        let shared = Arc::clone(&work.shared);
        work.tasks.spawn(async move {
            let mut stopping = stopping;
            while !*stopping.borrow() {
                resolve(&shared).await;
                let _ = tokio::time::timeout(Duration::from_millis(300), stopping.changed()).await;
            }
        });
        work
    }

    /// Takes everything out of the queues, in a run in which nobody puts anything in any more.
    pub async fn drain(&self, primitives: &[Primitive]) {
        for primitive in primitives {
            let mut task = Task::new(&self.shared, *primitive, "drain", 0, self.stop.subscribe());
            match primitive {
                Primitive::Queue | Primitive::PriorityQueue => queues::drain(&mut task).await,
                Primitive::Delivery => delivery::drain(&mut task).await,
                _ => {}
            }
        }
    }

    /// Ends: no operation begins any more, those under way come to their end, doubts are resolved.
    ///
    /// # Errors
    ///
    /// The tasks that have not ended within a time in which each call must have, and those that have panicked.
    pub async fn end(mut self) -> Result<(), String> {
        self.stop.send_replace(true);
        let mut panics = Vec::new();
        let joined = async {
            while let Some(ended) = self.tasks.join_next().await {
                panics.extend(ended.err().map(|error| error.to_string()));
            }
        };
        let limit = WAIT + 4 * PATIENCE + 2 * self.shared.ttl;
        if tokio::time::timeout(limit, joined).await.is_err() {
            let running = self
                .shared
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            return Err(format!(
                "not ended within {limit:?}: {}",
                running.join(", ")
            ));
        }
        if !panics.is_empty() {
            return Err(panics.join(", "));
        }
        for _ in 0..5 {
            resolve(&self.shared).await;
        }
        self.shared.log.closed();
        // What is left behind when this fails goes with its lease.
        let _ = self.shared.client.clone().close().await;
        Ok(())
    }
}

/// Asks once for each outcome that is open.
async fn resolve(shared: &Shared) {
    let doubts = {
        let mut doubts = shared.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *doubts)
    };
    for (id, token) in doubts {
        let settled = match shared.client.resolve(&token).await {
            Ok(Resolution::Happened) => Settled::Happened,
            Ok(Resolution::Otherwise) => Settled::Otherwise,
            Ok(Resolution::NeverWill) => Settled::NeverWill,
            Ok(_) => Settled::Forgotten,
            Err(_) => {
                shared
                    .doubts
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((id, token));
                continue;
            }
        };
        shared.log.settled(id, settled);
    }
}

/// Starts the tasks of one primitive.
struct Spawner<'a> {
    work: &'a mut Work,
    primitive: Primitive,
    index: u32,
    stopping: watch::Receiver<bool>,
    seeds: &'a mut StdRng,
}

impl Spawner<'_> {
    fn spawn<F, Fut>(&mut self, name: &str, run: F)
    where
        F: FnOnce(Task) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let shared = &self.work.shared;
        let seed = self.seeds.random();
        let task = Task::new(shared, self.primitive, name, seed, self.stopping.clone());
        let running = Running::new(shared, format!("{}/{name}", self.primitive.name()));
        let run = run(task);
        self.work.tasks.spawn(async move {
            let _running = running;
            run.await;
        });
    }
}

/// Says that a task runs, for as long as it does.
struct Running {
    shared: Arc<Shared>,
    name: String,
}

impl Running {
    fn new(shared: &Arc<Shared>, name: String) -> Running {
        let mut running = shared
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        running.push(name.clone());
        Running {
            shared: Arc::clone(shared),
            name,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self
            .shared
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = running.iter().position(|name| *name == self.name) {
            running.remove(at);
        }
    }
}

/// One task of a workload.
struct Task {
    shared: Arc<Shared>,
    primitive: Primitive,
    name: String,
    rng: StdRng,
    count: u64,
    stopping: watch::Receiver<bool>,
}

impl Task {
    fn new(
        shared: &Arc<Shared>,
        primitive: Primitive,
        name: &str,
        seed: u64,
        stopping: watch::Receiver<bool>,
    ) -> Task {
        Task {
            shared: Arc::clone(shared),
            primitive,
            name: name.to_owned(),
            rng: StdRng::seed_from_u64(seed),
            count: 0,
            stopping,
        }
    }

    fn client(&self) -> &Client {
        &self.shared.client
    }

    fn object(&self) -> String {
        self.primitive.object()
    }

    /// Whether the task goes on; after a little pause then.
    async fn goes_on(&mut self) -> bool {
        self.pause(40..160).await;
        !*self.stopping.borrow()
    }

    async fn pause(&mut self, millis: std::ops::Range<u64>) {
        let millis = self.rng.random_range(millis);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// A value that no other operation of the run has.
    fn unique(&mut self) -> String {
        self.count += 1;
        let (primitive, worker) = (self.primitive.name(), &self.shared.name);
        format!("{primitive}:{worker}:{}:{}", self.name, self.count)
    }

    /// Runs an operation, and writes its history.
    async fn op<T>(
        &mut self,
        call: Call,
        args: Args,
        run: impl Future<Output = synod::Result<T>>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Option<T> {
        let id = self
            .shared
            .log
            .begin(self.primitive, call, &self.name, args);
        match run.await {
            Ok(value) => {
                self.shared.log.end(id, Outcome::Ok(answer(&value)));
                Some(value)
            }
            Err(error) => {
                self.failed(id, &error);
                self.pause(50..150).await;
                None
            }
        }
    }

    fn failed(&self, id: u64, error: &Error) {
        if !error.is_maybe_committed() {
            let failed = Outcome::Failed(error.to_string());
            return self.shared.log.end(id, failed);
        }
        self.shared.log.end(
            id,
            Outcome::Unknown {
                error: error.to_string(),
                token: error.token().map(ToString::to_string),
            },
        );
        if let Some(token) = error.token() {
            let mut doubts = self
                .shared
                .doubts
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            doubts.push((id, token.clone()));
        }
    }
}

/// Text of a value.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Arguments with a value.
fn value(value: impl Into<String>) -> Args {
    Args {
        value: Some(value.into()),
        ..Args::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_of_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let options = synod_engine::EngineOptions::memory();
        let engine = Arc::new(synod_engine::Engine::open(options).unwrap());
        let ttl = Duration::from_secs(2);
        let begin = |name: &str| {
            let log = Log::create(&directory.path().join(format!("{name}.jsonl"))).unwrap();
            let store: Arc<dyn Store> = Arc::clone(&engine) as Arc<dyn Store>;
            Work::begin(client(store, name, ttl), log, name, 0, 0, ttl, &[])
        };
        assert_eq!(begin("good").end().await, Ok(()));
        let mut work = begin("bad");
        work.tasks.spawn(async { panic!("on purpose") });
        let ended = work.end().await.unwrap_err();
        assert!(ended.contains("panicked"), "{ended}");
    }
}
