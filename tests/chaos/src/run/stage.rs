//! [`Stage`]: everything that a run has started, and what is asked of all of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_store::Store;

use super::cluster::Cluster;
use super::options::Options;
use super::report::Report;
use super::workers::{Setting, Worker};
use crate::record::{Record, Recorder};
use crate::work;

/// Everything that a run has started. It ends with this, and also when this process dies.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) workers: Vec<Worker>,
    pub(super) cluster: Cluster,
    /// A connection that no fault touches but those of the servers themselves.
    pub(super) store: Arc<dyn Store>,
    pub(super) recorder: Recorder,
    pub(super) options: Options,
    pub(super) directory: PathBuf,
    seed: u64,
}

impl Stage {
    /// Starts the cluster, the recorder and the workers.
    pub(super) async fn set(
        options: &Options,
        seed: u64,
        directory: &Path,
    ) -> anyhow::Result<Stage> {
        let binary = options.etcd.clone().or_else(synod_tests::etcd::binary);
        let binary = binary.context(synod_tests::etcd::NO_ETCD)?;
        let nodes = options.nodes as usize;
        let cluster = Cluster::start(binary, nodes, directory).await?;
        let urls: Vec<String> = (0..nodes).map(|member| cluster.url(member)).collect();
        let etcd = EtcdOptions::new(urls).with_member_sync(None);
        let store: Arc<dyn Store> = Arc::new(EtcdStore::connect(etcd).await?);
        let recorder = Recorder::begin(Arc::clone(&store)).await?;
        let client = work::client(
            Arc::clone(&store),
            "runner",
            Duration::from_secs(options.ttl),
        );
        work::open_accounts(&client).await?;
        client.close().await?;
        let mut stage = Stage {
            workers: Vec::new(),
            cluster,
            store,
            recorder,
            options: options.clone(),
            directory: directory.to_owned(),
            seed,
        };
        for index in 0..options.workers {
            let worker = Worker::start(stage.setting(), &stage.cluster, index).await?;
            stage.workers.push(worker);
        }
        options.say(format!(
            "{} etcd, {} workers, {}",
            nodes,
            options.workers,
            super::names(&options.primitives())
        ));
        Ok(stage)
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            options: &self.options,
            directory: &self.directory,
            seed: self.seed,
        }
    }

    /// Starts another process in the place of a worker that has died.
    pub(super) async fn replace(&mut self, worker: usize) -> anyhow::Result<()> {
        let setting = Setting {
            options: &self.options,
            directory: &self.directory,
            seed: self.seed,
        };
        self.workers[worker].replace(setting).await
    }

    /// Lets time pass without a fault; an error when a process ends in it.
    pub(super) async fn calm(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            self.cluster.check()?;
            for worker in &mut self.workers {
                worker.check()?;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Ends the workers in good order, and drains the queues with another one.
    pub(super) async fn finish(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let limit = Duration::from_secs(60 + 4 * self.options.ttl);
        for worker in &mut self.workers {
            worker.order("stop")?;
        }
        for worker in &mut self.workers {
            let status = worker.ended(limit).await?;
            if !status.success() {
                report.stuck.push(format!(
                    "worker {} could not end ({status}); see workers.log",
                    worker.name()
                ));
            }
        }
        let index = self.options.workers;
        let mut drain = Worker::idle(self.setting(), &self.cluster, index).await?;
        drain.order("drain")?;
        let status = drain.ended(Duration::from_secs(180)).await?;
        anyhow::ensure!(
            status.success(),
            "the queues could not be drained ({status})"
        );
        Ok(())
    }

    /// The record of the store, up to now.
    pub(super) async fn record(&self) -> anyhow::Result<Record> {
        self.recorder.reach(&*self.store).await?;
        self.recorder.save(&self.directory.join("record.jsonl"))?;
        Ok(self.recorder.record())
    }

    pub(super) fn histories(&self) -> PathBuf {
        self.directory.join("histories")
    }
}

/// This program, which is the workers' too. A test names it, as it runs in another.
pub(super) fn program() -> anyhow::Result<PathBuf> {
    match std::env::var_os("SYNOD_CHAOS_BIN") {
        Some(path) => Ok(path.into()),
        None => Ok(std::env::current_exe()?),
    }
}
