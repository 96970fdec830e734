//! Prompts of `synod`: on a pipe, and on a terminal of their own; and how many watch a store, which
//! tells that somebody waits.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use rexpect::reader::Options;
use rexpect::session::{PtySession, spawn_with_options};
use tokio::task::spawn_blocking;

use crate::cli::Home;
use crate::etcd::Etcd;
use crate::process::Process;
use crate::wait::{self, PATIENCE};

/// A command on pipes: lines go in, and lines come out.
#[derive(Debug)]
pub struct Prompt {
    process: Process,
    stdin: ChildStdin,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Prompt {
    /// Starts `synod` with these arguments.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(home: &Home, args: &[&str]) -> Prompt {
        let mut process = home.start(args);
        Prompt {
            stdin: process.child().stdin.take().expect("it is a pipe"),
            stdout: process.child().stdout.take().map(BufReader::new),
            process,
        }
    }

    /// Types a line.
    ///
    /// # Panics
    ///
    /// When the command has ended.
    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("it reads its input");
    }

    /// The next line that it prints, without its newline; empty at the end.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub async fn answer(&mut self) -> String {
        let mut stdout = self.stdout.take().expect("one answer at a time");
        let reading = spawn_blocking(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("a pipe can be read");
            (stdout, line)
        });
        let (stdout, line) = wait::soon("an answer", reading)
            .await
            .expect("reading does not panic");
        self.stdout = Some(stdout);
        line.trim_end_matches('\n').to_owned()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits for its end, and returns its exit code.
    pub async fn code(&mut self) -> Option<i32> {
        self.process.wait(PATIENCE).await.code()
    }

    /// Types `quit`, and checks that it ends well.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn quit(mut self) {
        self.say("quit");
        assert_eq!(self.code().await, Some(0));
    }
}

/// Runs a command on a terminal of its own.
///
/// # Panics
///
/// When it cannot be started.
#[must_use]
pub fn terminal(mut command: Command) -> PtySession {
    command
        .env("TERM", "xterm")
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit());
    let limit = u64::try_from(PATIENCE.as_millis()).expect("it is not that long");
    let options = Options::new().timeout_ms(Some(limit));
    let mut session = spawn_with_options(command, options).expect("a terminal");
    session.process_mut().set_kill_timeout(Some(1_000));
    session
}

/// How many watchers a cluster has, on all of its members.
///
/// # Panics
///
/// When a member does not tell.
pub async fn watchers(etcd: &Etcd) -> u64 {
    let mut sum = 0;
    for endpoint in etcd.endpoints() {
        let address = endpoint.trim_start_matches("http://").to_owned();
        let asking = spawn_blocking(move || metric(&address, "etcd_debugging_mvcc_watcher_total"));
        sum += wait::soon("the metrics of a member", asking)
            .await
            .expect("asking does not panic");
    }
    sum
}

/// Waits until a cluster has more watchers than this: somebody waits.
///
/// # Panics
///
/// When it does not come to that.
pub async fn etcd_is_watched(etcd: &Etcd, before: u64) {
    wait::until("somebody watches", || async {
        watchers(etcd).await > before
    })
    .await;
}

/// Waits until somebody watches the server of ours that these options name, or the one in the
/// background.
///
/// # Panics
///
/// When it does not come to that.
pub async fn server_is_watched(home: &Home, addr: &[&str]) {
    wait::until("somebody watches", || async {
        let status = home
            .ok(&[&["status", "--output", "json"], addr].concat())
            .await;
        let status: serde_json::Value = serde_json::from_str(&status).expect("an object");
        status["watchers"].as_u64() > Some(0)
    })
    .await;
}

fn metric(address: &str, name: &str) -> u64 {
    let mut stream = TcpStream::connect(address).expect("a member listens");
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
        .expect("a member reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a member answers");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    // Counts are whole numbers, and small.
    value.unwrap_or_else(|| panic!("{name} is not among the metrics")) as u64
}
