//! The programs that are compared: built, found, run to their end within a limit.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::steps::{cargo, root, run};
use crate::{etcd, go, metadata};

/// How long a program may take beyond what it measures: it fills queues first.
const PATIENCE: Duration = Duration::from_secs(420);

/// The programs.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) synod: PathBuf,
    pub(super) floor: PathBuf,
    pub(super) etcd: PathBuf,
    /// The benchmark on Go's recipes, or why there is none.
    pub(super) go: Result<PathBuf, String>,
    /// redis-server and redis-benchmark, or why there are none.
    pub(super) redis: Result<(PathBuf, PathBuf), String>,
    /// Where output goes that is read in the end.
    directory: PathBuf,
}

impl Programs {
    /// Finds them all, and builds ours unless they shall be taken as they are.
    pub(super) fn find(directory: &Path, build: bool) -> Result<Programs> {
        let release = metadata::target_directory()?.join("release");
        if build {
            println!("==> building");
            run(&mut cargo(&[
                "build",
                "--release",
                "--package",
                "synod-cli",
                "--package",
                "synod-floor",
            ])?)?;
        }
        let ours = |name: &str| {
            let path = release.join(name);
            match path.is_file() {
                true => Ok(path),
                false => bail!("{} is missing: leave out --no-build", path.display()),
            }
        };
        let (synod, floor) = (ours("synod")?, ours("synod-floor")?);
        let etcd = etcd::find_or_install()?;
        println!("    {}", etcd::version(&etcd)?);
        let go = build_go(&directory.join("go-bench"), build)?;
        let redis = find_redis();
        for skipped in [go.as_ref().err(), redis.as_ref().err()]
            .into_iter()
            .flatten()
        {
            println!("    {skipped}");
        }
        Ok(Programs {
            synod,
            floor,
            etcd,
            go,
            redis,
            directory: directory.to_path_buf(),
        })
    }

    /// Runs a program that prints one JSON object; what it said on stderr when it failed.
    pub(super) fn json(&self, command: &mut Command, extra: Duration) -> Result<Value> {
        let text = self.text(command, extra)?;
        let line = text.lines().rev().find(|line| line.starts_with('{'));
        serde_json::from_str(line.unwrap_or_default()).context("it printed no JSON object")
    }

    /// Runs a program, and returns what it printed.
    pub(super) fn text(&self, command: &mut Command, extra: Duration) -> Result<String> {
        let (out, err) = (self.directory.join("stdout"), self.directory.join("stderr"));
        // Only what stands in the command line shall count.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("SYNOD_") || name.starts_with("ETCD") {
                command.env_remove(&*name);
            }
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()
            .with_context(|| format!("{command:?} cannot be started"))?;
        let deadline = Instant::now() + PATIENCE + extra;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                child.kill()?;
                child.wait()?;
                bail!("it did not end within {:?}", PATIENCE + extra);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let said = String::from_utf8_lossy(&fs::read(&err)?).into_owned();
        if !status.success() {
            let said: Vec<&str> = said
                .lines()
                .filter(|line| !line.trim().is_empty())
                .collect();
            let last = said.len().saturating_sub(3);
            bail!(
                "{} ({status})",
                said.get(last..).unwrap_or_default().join("; ")
            );
        }
        Ok(String::from_utf8_lossy(&fs::read(&out)?).into_owned())
    }
}

fn build_go(program: &Path, build: bool) -> Result<Result<PathBuf, String>> {
    if go::find().is_none() {
        return Ok(Err(format!("no Go: it needs {}", go::NEEDED)));
    }
    if build {
        let status = go::command()
            .arg("build")
            .arg("-o")
            .arg(program)
            .arg(".")
            .current_dir(root()?.join("peers/go/bench"))
            .status();
        if !status.context("go cannot be started")?.success() {
            bail!("peers/go/bench does not build");
        }
    }
    match program.is_file() {
        true => Ok(Ok(program.to_path_buf())),
        false => bail!("{} is missing: leave out --no-build", program.display()),
    }
}

fn find_redis() -> Result<(PathBuf, PathBuf), String> {
    match (
        etcd::on_path("redis-server"),
        etcd::on_path("redis-benchmark"),
    ) {
        (Some(server), Some(benchmark)) => Ok((server, benchmark)),
        _ => Err("no Redis: it needs redis-server and redis-benchmark on PATH".to_string()),
    }
}
