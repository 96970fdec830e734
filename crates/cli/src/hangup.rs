//! Whether somebody still reads what is written to standard output.

use std::io;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

/// Waits until nobody can read standard output any more: the other end of its pipe is closed. For
/// ever with a file or a terminal.
#[derive(Debug)]
pub(crate) struct Hangup {
    /// `None` once it has told.
    told: Option<oneshot::Receiver<()>>,
    gone: bool,
}

impl Hangup {
    /// Watches standard output on a thread, which ends with the process at the latest.
    pub(crate) fn watch() -> io::Result<Hangup> {
        let (tx, rx) = oneshot::channel();
        std::thread::Builder::new()
            .name("hangup".to_owned())
            .spawn(move || {
                let stdout = io::stdout();
                let ready = loop {
                    // Errors and the end are reported although no events are asked for.
                    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
                    match poll(&mut fds, None) {
                        Err(rustix::io::Errno::INTR) => {}
                        Err(_) => return,
                        Ok(_) => break fds.map(|fd| fd.revents()),
                    }
                };
                // Some systems cannot watch every kind of file, and say so at once.
                let end = PollFlags::ERR | PollFlags::HUP;
                if ready.iter().any(|events| events.intersects(end)) {
                    let _ = tx.send(());
                }
            })?;
        Ok(Hangup {
            told: Some(rx),
            gone: false,
        })
    }

    /// Waits for it; afterwards it completes at once.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn gone(&mut self) {
        if let Some(told) = &mut self.told {
            self.gone = told.await.is_ok();
            self.told = None;
        }
        if !self.gone {
            // It cannot be watched; a write will tell.
            std::future::pending::<()>().await;
        }
    }
}
