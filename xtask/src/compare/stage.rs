//! The stores that rows run on: fresh for each row, gone after it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::programs::Programs;

/// How long a store may take to start.
const START: Duration = Duration::from_secs(30);

/// An etcd cluster that `synod cluster` started.
pub(super) struct Cluster<'a> {
    programs: &'a Programs,
    directory: PathBuf,
    pub(super) url: String,
    pub(super) version: String,
    pub(super) pids: Vec<u64>,
}

impl<'a> Cluster<'a> {
    pub(super) fn start(
        programs: &'a Programs,
        directory: &Path,
        nodes: usize,
    ) -> Result<Cluster<'a>> {
        // From a run that was killed.
        let mut stop = command(programs, directory, &["stop", "--remove-data"]);
        let _ = programs.text(&mut stop, Duration::ZERO);
        let nodes = nodes.to_string();
        let mut start = command(programs, directory, &["start", "--nodes", &nodes]);
        start.arg("--output=json").arg("--etcd").arg(&programs.etcd);
        let started = programs
            .json(&mut start, Duration::ZERO)
            .context("synod cluster start")?;
        let text = |name: &str| {
            started
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_string)
        };
        let members = started.get("nodes").and_then(Value::as_array);
        let pids = members
            .into_iter()
            .flatten()
            .filter_map(|node| node.get("pid")?.as_u64());
        Ok(Cluster {
            programs,
            directory: directory.to_path_buf(),
            url: text("url").context("a cluster without a URL")?,
            version: text("version").context("a cluster without a version")?,
            pids: pids.collect(),
        })
    }
}

fn command(programs: &Programs, directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(&programs.synod);
    command
        .arg("cluster")
        .args(words)
        .arg("--dir")
        .arg(directory);
    command
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        let mut stop = command(self.programs, &self.directory, &["stop", "--remove-data"]);
        if let Err(error) = self.programs.text(&mut stop, Duration::ZERO) {
            eprintln!(
                "    the cluster in {} is left: {error:#}",
                self.directory.display()
            );
        }
    }
}

/// A server that is a child of this process, and its directory.
pub(super) struct Server {
    child: Child,
    directory: PathBuf,
    pub(super) url: String,
    pub(super) port: u16,
}

impl Server {
    /// `synod serve` on a durable store.
    pub(super) fn synod(programs: &Programs, directory: &Path) -> Result<Server> {
        let directory = fresh(directory)?;
        let mut child = Command::new(&programs.synod)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&directory)
            .env("SYNOD_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("synod serve cannot be started")?;
        let stdout = child.stdout.take();
        let mut server = Server {
            child,
            directory,
            url: String::new(),
            port: 0,
        };
        let mut line = String::new();
        BufReader::new(stdout.context("no output")?).read_line(&mut line)?;
        // "... on http://127.0.0.1:PORT ..."
        let url = line
            .split_whitespace()
            .find(|word| word.starts_with("http://127.0.0.1:"));
        let url = url.with_context(|| format!("synod serve says {line:?}"))?;
        server.url = url.trim_end_matches([',', ';', '.', ')']).to_string();
        Ok(server)
    }

    /// A Redis that syncs each write before it answers.
    pub(super) fn redis(server: &Path, directory: &Path) -> Result<Server> {
        let directory = fresh(directory)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let child = Command::new(server)
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--save",
                "",
            ])
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--loglevel",
                "warning",
            ])
            .arg("--dir")
            .arg(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("redis-server cannot be started")?;
        let server = Server {
            child,
            directory,
            url: format!("redis://127.0.0.1:{port}"),
            port,
        };
        let deadline = Instant::now() + START;
        while !pongs(port) {
            if Instant::now() >= deadline {
                bail!("redis-server does not answer");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub(super) fn pid(&self) -> u64 {
        u64::from(self.child.id())
    }
}

/// Whether a Redis answers.
fn pongs(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0u8; 5];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    };
    ask().unwrap_or(false)
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing in it is of use any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// An empty directory.
pub(super) fn fresh(directory: &Path) -> Result<PathBuf> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)?;
    Ok(directory.to_path_buf())
}
