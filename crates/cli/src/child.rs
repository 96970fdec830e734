//! A command that `synod` runs, and stays with until it ends.
//!
//! Away from a terminal the command has a process group of its own, and signals go to all of it: the
//! children of a shell end with the shell. On a terminal it stays in ours, so that it can read there
//! and Ctrl-C and Ctrl-Z reach both at once; then a signal of ours goes to the command alone.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::failure::{Exit, Failure, Result};
use crate::local::process::Process;
use crate::output::notice;
use crate::signals::{Signals, Stop};

/// A running command.
#[derive(Debug)]
pub(crate) struct Child {
    process: Option<Process>,
    /// Its process group, when that is its own.
    group: Option<Pid>,
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
}

/// How a command has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit code, as a shell has it.
    pub(crate) code: u8,
    /// Whether we ended it, because what it ran under was lost.
    pub(crate) lost: bool,
    /// Whether we were told to stop meanwhile.
    pub(crate) stopped: Option<Stop>,
}

/// A command line: the program and its arguments.
pub(crate) fn command(line: &[OsString]) -> Option<Command> {
    let (program, args) = line.split_first()?;
    let mut command = Command::new(program);
    command.args(args);
    Some(command)
}

/// Whether one of the standard streams is a terminal.
pub(crate) fn on_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

impl Child {
    /// Starts a command; `input` becomes its standard input, or else it has ours.
    pub(crate) fn spawn(mut command: Command, input: Option<&[u8]>) -> Result<Child> {
        // With an input of its own it does not read from the terminal.
        let own_group = input.is_some() || !on_terminal();
        if own_group {
            command.process_group(0);
        }
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let program = command.get_program().to_owned();
        let mut child = command.spawn().map_err(|error| {
            let exit = match error.kind() {
                io::ErrorKind::NotFound => 127,
                _ => 126,
            };
            let text = format!("cannot run {}", program.to_string_lossy());
            Failure::new(Exit::Command(exit), text).because(&error)
        })?;
        let pid = child.id();
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // Before anybody waits for it, so that its number is still its own.
        let process = Process::find(pid).ok().flatten();
        let (tx, ended) = oneshot::channel();
        let stdin = child.stdin.take();
        let input = input.map(<[u8]>::to_vec);
        let writer = move || {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // Who does not read all of its input closes it early.
                let _ = stdin.write_all(&input);
            }
        };
        let waiter = move || {
            let _ = tx.send(child.wait());
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("input")
            .spawn(writer)
            .and_then(|_| thread("child").spawn(waiter))
            .map_err(|error| Failure::failed("cannot start a thread").because(&error))?;
        Ok(Child {
            process,
            group: group.filter(|_| own_group),
            ended,
        })
    }

    /// Sends a signal. One that has ended gets none.
    fn signal(&self, signal: Signal) {
        // An error means that there is nobody left to get it.
        match (self.group, &self.process) {
            (Some(group), _) => drop(kill_process_group(group, signal)),
            (None, Some(process)) => drop(process.signal(signal)),
            (None, None) => {}
        }
    }

    /// Stays with the command until it ends. It gets our signals; a second SIGTERM and a third Ctrl-C
    /// become a SIGKILL.
    /// When `lost` completes, its text is said, and the command gets SIGTERM and, after `grace`,
    /// SIGKILL.
    pub(crate) async fn stay(
        mut self,
        lost: impl Future<Output = String>,
        grace: Duration,
        signals: &mut Signals,
    ) -> Result<Ended> {
        signals.take_all();
        let mut lost = std::pin::pin!(lost);
        let mut is_lost = false;
        let mut stopped = None;
        let mut interrupts: u32 = 0;
        let mut kill_at = None;
        let status = loop {
            tokio::select! {
                biased;
                status = &mut self.ended => break status,
                text = &mut lost, if !is_lost => {
                    is_lost = true;
                    notice(&text);
                    self.signal(Signal::TERM);
                    kill_at = Some(Instant::now() + grace);
                }
                () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                    self.signal(Signal::KILL);
                    kill_at = None;
                }
                stop = signals.each() => {
                    let again = stopped == Some(Stop::Terminate);
                    interrupts = interrupts.saturating_add(1);
                    match stop {
                        Stop::Terminate if again => self.signal(Signal::KILL),
                        Stop::Terminate => self.signal(Signal::TERM),
                        Stop::Interrupt if interrupts > 2 => self.signal(Signal::KILL),
                        // The terminal has sent it to the command as well.
                        Stop::Interrupt if self.group.is_none() => {}
                        Stop::Interrupt => self.signal(Signal::INT),
                    }
                    stopped = Some(stop);
                }
            }
        };
        signals.release_all();
        let status = status
            .map_err(|_| Failure::failed("the command was lost sight of"))?
            .map_err(|error| Failure::failed("cannot wait for the command").because(&error))?;
        Ok(Ended {
            code: code(status),
            lost: is_lost,
            stopped,
        })
    }
}

/// The exit code that a shell would give.
fn code(status: ExitStatus) -> u8 {
    let number = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => signal.saturating_add(128),
        (None, None) => 1,
    };
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// The end of a program whose command ended with this code.
pub(crate) fn result_of(code: u8) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Failure::silent(Exit::Command(code))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        command
    }

    async fn run(line: &str, input: Option<&[u8]>) -> u8 {
        let child = Child::spawn(shell(line), input).unwrap();
        let mut signals = Signals::listen().unwrap();
        let ended = child
            .stay(std::future::pending(), Duration::ZERO, &mut signals)
            .await
            .unwrap();
        assert!(!ended.lost && ended.stopped.is_none());
        ended.code
    }

    #[tokio::test]
    async fn codes_are_those_of_a_shell() {
        assert_eq!(run("exit 0", None).await, 0);
        assert_eq!(run("exit 7", None).await, 7);
        assert_eq!(run("kill -9 $$", None).await, 137);
        let missing = Child::spawn(Command::new("/nonexistent/program"), None).unwrap_err();
        assert_eq!(missing.exit, Exit::Command(127));
        let directory = Child::spawn(Command::new("/"), None).unwrap_err();
        assert_eq!(directory.exit, Exit::Command(126));
    }

    #[tokio::test]
    async fn the_input_arrives_and_need_not_be_read() {
        let line = "test \"$(cat)\" = hello";
        assert_eq!(run(line, Some(b"hello")).await, 0);
        assert_eq!(run(line, Some(b"hallo")).await, 1);
        let large = vec![b'x'; 1 << 20];
        assert_eq!(run("exit 3", Some(&large)).await, 3);
    }

    #[tokio::test]
    async fn a_command_under_what_is_lost_is_ended_with_its_children() {
        for (line, code) in [
            ("sleep 60; exit 0", 143),
            ("trap '' TERM; sleep 60; exit 0", 137),
        ] {
            let child = Child::spawn(shell(line), Some(b"")).unwrap();
            let group = child.group.unwrap();
            let mut signals = Signals::listen().unwrap();
            let lost = async { "lost".to_owned() };
            let ended = child
                .stay(lost, Duration::from_millis(100), &mut signals)
                .await
                .unwrap();
            // The signal may come before the shell has set its trap.
            assert!(ended.lost);
            assert!([code, 143].contains(&ended.code), "{line}: {ended:?}");
            let deadline = Instant::now() + Duration::from_secs(30);
            while rustix::process::test_kill_process_group(group).is_ok() {
                assert!(Instant::now() < deadline, "its children still run");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}
