//! Slow syncs: strace holds a member up each time it asks the disk to keep what it wrote.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use synod_tests::process::Process;

/// How long each sync takes longer, in microseconds.
const DELAY: u32 = 150_000;

/// Why syncs cannot be made slow here; `None` when they can.
pub(super) fn missing() -> Option<String> {
    let tried = Command::new("strace")
        .args([
            "-f",
            "-e",
            "trace=fdatasync",
            "-e",
            "inject=fdatasync:delay_enter=1",
            "true",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match tried {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("strace cannot trace here ({status})")),
        Err(error) => Some(format!("there is no strace ({error})")),
    }
}

/// A member whose syncs are slow.
#[derive(Debug)]
pub(super) struct Slow {
    strace: Process,
    output: PathBuf,
}

impl Slow {
    /// Slows a process down, and waits until it has been held up.
    pub(super) async fn start(pid: u32, directory: &Path) -> anyhow::Result<Slow> {
        let output = directory.join(format!("strace-{pid}.log"));
        let mut command = Command::new("strace");
        command
            .args(["-q", "-f", "-p", &pid.to_string(), "-e", "trace=fdatasync"])
            .args(["-e", &format!("inject=fdatasync:delay_enter={DELAY}"), "-o"])
            .arg(&output)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let strace = Process::spawn(&mut command, None).context("strace does not start")?;
        Ok(Slow { strace, output })
    }

    /// Lets it go; how many syncs were slow.
    pub(super) async fn end(mut self) -> anyhow::Result<usize> {
        self.strace.interrupt();
        // Only after its end is the process let go for certain.
        let limit = Duration::from_secs(10);
        let begin = tokio::time::Instant::now();
        while self.strace.is_running() && begin.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.strace.kill();
        let text = std::fs::read_to_string(&self.output)?;
        Ok(text
            .lines()
            .filter(|line| line.contains("(DELAYED)"))
            .count())
    }
}
