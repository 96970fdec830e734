//! Ctrl-C and SIGTERM, as something to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::failure::{Exit, Failure, Result};

/// Ctrl-C and SIGTERM. From [`Signals::listen`] on they no longer end the process by themselves.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    /// How many Ctrl-C came.
    interrupts: watch::Receiver<u64>,
    /// Whether SIGTERM came.
    terminated: watch::Receiver<bool>,
    /// The Ctrl-C that somebody has acted on.
    handled: Arc<AtomicU64>,
}

/// What should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Ctrl-C: what is being done now.
    Interrupt,
    /// SIGTERM: the program.
    Terminate,
}

impl Stop {
    /// The end of a program that was told so.
    pub(crate) fn failure(self) -> Failure {
        Failure::silent(match self {
            Stop::Interrupt => Exit::Interrupted,
            Stop::Terminate => Exit::Terminated,
        })
    }
}

impl Signals {
    /// Starts listening; inside a runtime.
    pub(crate) fn listen() -> Result<Signals> {
        let cannot =
            |error: std::io::Error| Failure::failed("cannot listen for signals").because(&error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let (interrupts_tx, interrupts) = watch::channel(0);
        let (terminated_tx, terminated) = watch::channel(false);
        let handled = Arc::new(AtomicU64::new(0));
        let acted = Arc::clone(&handled);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = interrupt.recv() => {
                        let before = *interrupts_tx.borrow();
                        // Nobody has acted on the one before: whoever should is stuck, perhaps in
                        // a write to a reader that does not read.
                        if before > acted.load(Ordering::Acquire) {
                            std::process::exit(Exit::Interrupted as i32);
                        }
                        interrupts_tx.send_modify(|count| *count = before.saturating_add(1));
                    }
                    Some(()) = terminate.recv() => {
                        if *terminated_tx.borrow() {
                            std::process::exit(Exit::Terminated as i32);
                        }
                        terminated_tx.send_replace(true);
                    }
                    else => return,
                }
            }
        });
        Ok(Signals {
            interrupts,
            terminated,
            handled,
        })
    }

    /// Waits for either of them. A Ctrl-C is reported once.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was not reported stays to be.
    pub(crate) async fn stop(&mut self) -> Stop {
        let handled = Arc::clone(&self.handled);
        tokio::select! {
            biased;
            Ok(_) = self.terminated.wait_for(|terminated| *terminated) => Stop::Terminate,
            Ok(count) = self.interrupts.wait_for(|count| *count > handled.load(Ordering::Acquire)) => {
                handled.store(*count, Ordering::Release);
                Stop::Interrupt
            }
            // The runtime ends, and we with it.
            else => std::future::pending().await,
        }
    }
}
