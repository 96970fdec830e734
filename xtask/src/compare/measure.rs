//! One row, measured: its stores are started, its contestants run in turns.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::programs::Programs;
use super::record::{Archive, Outcome, Record};
use super::rows::{Row, Who};
use super::stage::{Cluster, Server, fresh};
use super::{Options, machine, memory, redis};

/// The stores that a row needs.
struct Stage<'a> {
    row: &'a Row,
    duration: Duration,
    programs: &'a Programs,
    directory: PathBuf,
    etcd: Option<Cluster<'a>>,
    served: Option<Server>,
    redis: Option<Server>,
}

pub(super) fn measure(
    row: &Row,
    nodes: usize,
    options: &Options,
    programs: &Programs,
    archive: &Archive,
) -> Result<Record> {
    let has = |any: &[Who]| row.contestants.iter().any(|(who, _)| any.contains(who));
    let directory = archive.directory().join("stage");
    let etcd = match has(&[Who::Go, Who::Floor, Who::Synod, Who::Etcd]) {
        true => Some(Cluster::start(programs, &directory.join("etcd"), nodes)?),
        false => None,
    };
    let served = match has(&[Who::Served]) {
        true => Some(Server::synod(programs, &directory.join("served"))?),
        false => None,
    };
    let redis = match (has(&[Who::Redis]), &programs.redis) {
        (true, Ok((server, _))) => Some(Server::redis(server, &directory.join("redis"))?),
        _ => None,
    };
    let stage = Stage {
        row,
        duration: options.duration,
        programs,
        directory,
        etcd,
        served,
        redis,
    };
    let version = stage.etcd.as_ref().map(|cluster| cluster.version.clone());
    let mut record = Record::new(
        row.name,
        nodes,
        options.duration,
        version,
        machine::machine(),
    );
    for repeat in 1..=options.repeats.min(row.most_repeats) {
        for (who, args) in &row.contestants {
            let outcome = stage.run(*who, args);
            if let Err(error) = &outcome {
                println!("    {} {repeat}: {error:#}", who.name());
            }
            record.outcomes.push(Outcome {
                who: who.name().to_string(),
                repeat,
                outcome: outcome.map_err(|error| format!("{error:#}")),
            });
        }
    }
    for line in &row.lines {
        let figures: Vec<String> = row
            .contestants
            .iter()
            .filter_map(|(who, _)| {
                let spread = record.spread(*who, line.metric)?;
                Some(format!(
                    "{} {}",
                    who.name(),
                    line.metric.show(spread.median)
                ))
            })
            .collect();
        println!("    {}{}: {}", row.work, line.what, figures.join(", "));
    }
    Ok(record)
}

impl Stage<'_> {
    fn run(&self, who: Who, args: &str) -> Result<Value> {
        match who {
            Who::Go => {
                let program = self
                    .programs
                    .go
                    .as_ref()
                    .map_err(|why| anyhow!("skipped: {why}"))?;
                self.json(Command::new(program), args, self.etcd_url()?)
            }
            Who::Floor => self.json(Command::new(&self.programs.floor), args, self.etcd_url()?),
            Who::Etcd => {
                let answer = self.json(Command::new(&self.programs.floor), args, self.etcd_url()?);
                self.with_memory(answer?, &self.etcd.as_ref().context("no etcd")?.pids)
            }
            Who::Served => {
                let server = self.served.as_ref().context("no synod serve")?;
                let answer = self.json(Command::new(&self.programs.floor), args, &server.url);
                self.with_memory(answer?, &[server.pid()])
            }
            Who::Synod => {
                let mut command = Command::new(&self.programs.synod);
                command.arg("bench");
                let url = self.etcd_url()?;
                if self.row.dead > 0 {
                    let name = self.bury(url)?;
                    command.arg(format!("--name={name}"));
                }
                self.json(command, args, url)
            }
            Who::Embedded => {
                let data = fresh(&self.directory.join("data"))?;
                let mut command = Command::new(&self.programs.synod);
                command.arg("bench");
                let answer = self.json(command, args, &format!("file:{}", data.display()));
                std::fs::remove_dir_all(&data)?;
                answer
            }
            Who::Redis => {
                let (_, benchmark) = self
                    .programs
                    .redis
                    .as_ref()
                    .map_err(|why| anyhow!("skipped: {why}"))?;
                let server = self.redis.as_ref().context("no Redis")?;
                redis::push(
                    self.programs,
                    benchmark,
                    server.port,
                    args.parse()?,
                    self.duration,
                )
            }
        }
    }

    fn etcd_url(&self) -> Result<&str> {
        Ok(&self.etcd.as_ref().context("no etcd")?.url)
    }

    /// Runs a program of the benchmark; an error when it completed nothing.
    fn json(&self, mut command: Command, args: &str, url: &str) -> Result<Value> {
        command
            .args(args.split_whitespace())
            .arg(format!("--addr={url}"))
            .arg(format!("--duration={}ms", self.duration.as_millis()))
            .arg("--output=json");
        let answer = self.programs.json(&mut command, self.duration)?;
        if answer.pointer("/rows/0/operations").is_none() {
            bail!("it printed no row");
        }
        Ok(answer)
    }

    /// What the row says of memory, where that is what is measured.
    fn with_memory(&self, mut answer: Value, pids: &[u64]) -> Result<Value> {
        let wanted = |line: &super::rows::Line| line.metric == super::goals::Metric::Memory;
        if self.row.lines.iter().any(wanted) {
            let mut bytes: u64 = 0;
            for pid in pids {
                bytes += memory::resident(*pid)?;
            }
            let counters = answer
                .pointer_mut("/rows/0/counters")
                .and_then(Value::as_object_mut);
            counters
                .context("a row without counters")?
                .insert("resident_bytes".into(), bytes.into());
        }
        Ok(answer)
    }

    /// Puts dead keys where the queue of a new name will look first.
    fn bury(&self, url: &str) -> Result<String> {
        let name = format!("buried-{}", unique());
        let mut command = Command::new(&self.programs.floor);
        command.args([
            "queue",
            "--case",
            "bury",
            "--warm-up",
            "0s",
            "--fill-first",
            "0",
        ]);
        command
            .arg(format!("--addr={url}"))
            .arg(format!("--dead-first={}", self.row.dead))
            .arg(format!("--prefix={name}/queue/"));
        self.programs
            .json(&mut command, Duration::ZERO)
            .context("cannot put dead keys")?;
        Ok(name)
    }
}

/// A number that no run before had.
fn unique() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos())
}
