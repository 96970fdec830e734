//! The worker processes, each behind bridges of its own to every member.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use synod_tests::bridge::{Bridge, Mode};
use synod_tests::process::Process;

use super::cluster::Cluster;
use super::options::Options;

/// A worker: its bridges stay when its process is replaced.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) index: u32,
    incarnation: u32,
    pub(super) bridges: Vec<Bridge>,
    pub(super) process: Process,
}

/// What is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) options: &'a Options,
    pub(super) directory: &'a Path,
    pub(super) seed: u64,
}

impl Worker {
    pub(super) async fn start(
        setting: Setting<'_>,
        cluster: &Cluster,
        index: u32,
    ) -> anyhow::Result<Worker> {
        let mut bridges = Vec::new();
        for member in 0..cluster.len() {
            bridges.push(Bridge::start(cluster.address(member)).await);
        }
        let process = spawn(setting, &bridges, index, 0, false).await?;
        Ok(Worker {
            index,
            incarnation: 0,
            bridges,
            process,
        })
    }

    /// A worker that does nothing until it is told to drain the queues.
    pub(super) async fn idle(
        setting: Setting<'_>,
        cluster: &Cluster,
        index: u32,
    ) -> anyhow::Result<Worker> {
        let mut bridges = Vec::new();
        for member in 0..cluster.len() {
            bridges.push(Bridge::start(cluster.address(member)).await);
        }
        let process = spawn(setting, &bridges, index, 0, true).await?;
        Ok(Worker {
            index,
            incarnation: 0,
            bridges,
            process,
        })
    }

    /// The name of the process that runs now.
    pub(super) fn name(&self) -> String {
        name(self.index, self.incarnation)
    }

    /// Starts another process in the place of one that has died.
    pub(super) async fn replace(&mut self, setting: Setting<'_>) -> anyhow::Result<()> {
        self.incarnation += 1;
        self.process = spawn(setting, &self.bridges, self.index, self.incarnation, false).await?;
        Ok(())
    }

    /// What all bridges do.
    pub(super) fn set(&self, mode: Mode) {
        for bridge in &self.bridges {
            bridge.set(mode);
        }
    }

    pub(super) fn reset(&self) {
        for bridge in &self.bridges {
            bridge.reset();
        }
    }

    pub(super) fn requested(&self) -> u64 {
        self.bridges.iter().map(Bridge::requested_bytes).sum()
    }

    pub(super) fn replied(&self) -> u64 {
        self.bridges.iter().map(Bridge::replied_bytes).sum()
    }

    /// Gives an order.
    pub(super) fn order(&mut self, order: &str) -> anyhow::Result<()> {
        let name = self.name();
        let stdin = self.process.child().stdin.as_mut();
        let stdin = stdin.context("a worker has an input")?;
        writeln!(stdin, "{order}").with_context(|| format!("{name} does not hear"))
    }

    /// An error when it has ended, as none does by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.exit_status() {
            bail!(
                "worker {} ended by itself ({status}); see workers.log",
                self.name()
            );
        }
        Ok(())
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let begin = tokio::time::Instant::now();
        loop {
            if let Some(status) = self.process.exit_status() {
                return Ok(status);
            }
            if begin.elapsed() > limit {
                bail!("worker {} does not end within {limit:?}", self.name());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn name(index: u32, incarnation: u32) -> String {
    format!("w{index}.{incarnation}")
}

async fn spawn(
    setting: Setting<'_>,
    bridges: &[Bridge],
    index: u32,
    incarnation: u32,
    idle: bool,
) -> anyhow::Result<Process> {
    let Setting {
        options,
        directory,
        seed,
    } = setting;
    let name = name(index, incarnation);
    // Not all prefer the same member.
    let mut urls: Vec<String> = bridges.iter().map(Bridge::url).collect();
    let turn = index as usize % urls.len().max(1);
    urls.rotate_left(turn);
    let log = directory.join("workers.log");
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = Command::new(super::stage::program()?);
    command
        .arg("work")
        .args(["--url", &urls.join(",")])
        .args(["--name", &name])
        .args(["--index", &index.to_string()])
        .args([
            "--seed",
            &(seed ^ (u64::from(index) << 32 | u64::from(incarnation))).to_string(),
        ])
        .args(["--ttl", &options.ttl.to_string()])
        .args(["--primitives", &super::names(&options.primitives())])
        .arg("--history")
        .arg(directory.join("histories").join(format!("{name}.jsonl")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log);
    if idle {
        command.arg("--idle");
    }
    if let Some(broken) = options
        .broken
        .and_then(|b| clap::ValueEnum::to_possible_value(&b))
    {
        command.args(["--break", broken.get_name()]);
    }
    let mut process = Process::spawn(&mut command, None)?;
    let output = process
        .child()
        .stdout
        .take()
        .context("a worker has an output")?;
    let ready = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map(|_| line)
    });
    let line = tokio::time::timeout(Duration::from_secs(60), ready).await;
    let line = line.with_context(|| format!("worker {name} does not begin"))???;
    if line.trim() != "ready" {
        bail!("worker {name} does not begin; see workers.log");
    }
    Ok(process)
}
