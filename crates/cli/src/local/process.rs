//! A process, also one that is not our child: to be sent signals, and waited for.
//!
//! On Linux it is held by a file descriptor, which never comes to mean another process, as a
//! number can.

use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// A process by its id.
#[derive(Debug)]
pub(crate) struct Process {
    #[cfg(target_os = "linux")]
    fd: std::os::fd::OwnedFd,
    #[cfg(not(target_os = "linux"))]
    pid: Pid,
}

impl Process {
    /// The process with this id; `None` when there is none.
    pub(crate) fn find(pid: u32) -> io::Result<Option<Process>> {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        match Process::open(pid) {
            Ok(process) => Ok(Some(process)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(target_os = "linux")]
    fn open(pid: Pid) -> rustix::io::Result<Process> {
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        Ok(Process { fd })
    }

    #[cfg(not(target_os = "linux"))]
    fn open(pid: Pid) -> rustix::io::Result<Process> {
        rustix::process::test_kill_process(pid)?;
        Ok(Process { pid })
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::process::pidfd_send_signal(&self.fd, signal)?;
        #[cfg(not(target_os = "linux"))]
        rustix::process::kill_process(self.pid, signal)?;
        Ok(())
    }

    /// Waits for the end; false when it has not come in time.
    pub(crate) async fn ended(&self, within: Duration) -> io::Result<bool> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if self.has_ended()? {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[cfg(target_os = "linux")]
    fn has_ended(&self) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        // Readable from the end on, also while nobody has collected the exit code.
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn has_ended(&self) -> io::Result<bool> {
        match rustix::process::test_kill_process(self.pid) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::SRCH) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_found_ended_and_waited_for() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = Process::find(child.id()).unwrap().unwrap();
        assert!(!process.ended(Duration::ZERO).await.unwrap());
        process.terminate().unwrap();
        let status = tokio::task::spawn_blocking(move || child.wait())
            .await
            .unwrap()
            .unwrap();
        assert!(!status.success());
        assert!(process.ended(Duration::from_secs(10)).await.unwrap());
    }

    #[test]
    fn no_process_has_the_number_zero() {
        assert!(Process::find(0).unwrap().is_none());
        assert!(Process::find(u32::MAX).unwrap().is_none());
    }
}
