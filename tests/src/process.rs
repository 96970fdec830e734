//! Child processes that end with the test: by pid when dropped, and also when the test process
//! dies without dropping anything.
//!
//! Beside each child stands a small shell that waits for the end of its standard input, whose other
//! end this process holds. When this process goes away in whatever manner, the pipe ends, and the
//! shell kills the child and removes its files. A line on the pipe sends the shell away instead.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A child process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    watchdog: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`. If this process dies, the child is killed and `files` removed.
    ///
    /// # Errors
    ///
    /// When the program, or a shell, cannot be started.
    pub fn spawn(command: &mut Command, files: Option<&Path>) -> io::Result<Process> {
        let mut child = command.spawn()?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(child.id().to_string())
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Process {
                child,
                watchdog,
                ended: None,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The standard streams that were asked to be piped can be taken from here.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether the process runs (or is paused).
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// How the process ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    ///
    /// When it has not within `limit`.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(
                begin.elapsed() < limit,
                "process {} still runs after {limit:?}",
                self.pid()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills the process (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
        self.dismiss_watchdog();
    }

    /// Asks the process to end (SIGTERM).
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Interrupts the process as Ctrl-C does (SIGINT).
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// Freezes the process (SIGSTOP).
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        // A process that was waited for has given its id back: someone else may have it now.
        if self.is_running()
            && let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }

    fn dismiss_watchdog(&mut self) {
        if let Some(mut stdin) = self.watchdog.stdin.take() {
            let _ = stdin.write_all(b"done\n");
        }
        let _ = self.watchdog.wait();
    }
}

/// Arguments: the child's pid and, optionally, files to remove.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
read -r line && exit 0
kill -9 "$1" 2>/dev/null
[ -n "$2" ] || exit 0
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$2" 2>/dev/null
    sleep 0.1
    [ -e "$2" ] || exit 0
done
"#;

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    fn exists(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_dropped_child_is_gone_with_its_watchdog() {
        let process = Process::spawn(&mut sleeper(), None).unwrap();
        let (child, watchdog) = (process.pid(), process.watchdog.id());
        assert!(exists(child) && exists(watchdog));
        drop(process);
        assert!(!exists(child) && !exists(watchdog));
    }

    #[tokio::test]
    async fn a_child_dies_and_its_files_vanish_when_nobody_is_left_to_drop_it() {
        let files = tempfile::tempdir().unwrap();
        let mut process = Process::spawn(&mut sleeper(), Some(files.path())).unwrap();
        // The end of the pipe is what the death of this process would bring.
        drop(process.watchdog.stdin.take());
        process.wait(crate::wait::PATIENCE).await;
        crate::wait::until("the files are removed", || async { !files.path().exists() }).await;
    }

    #[tokio::test]
    async fn a_paused_child_can_be_killed() {
        let mut process = Process::spawn(&mut sleeper(), None).unwrap();
        process.pause();
        assert!(process.is_running());
        process.kill();
        assert!(!process.is_running());
    }
}
