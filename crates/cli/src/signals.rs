//! Ctrl-C and SIGTERM, as something to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::failure::{Exit, Failure, Result};

/// Ctrl-C and SIGTERM. From [`Signals::listen`] on they no longer end the process by themselves.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    /// How many of each came.
    came: watch::Receiver<Counts>,
    acted: Arc<Acted>,
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    interrupts: u64,
    terminates: u64,
}

/// The signals that somebody has acted on.
#[derive(Debug, Default)]
struct Acted {
    interrupts: AtomicU64,
    terminates: AtomicU64,
    /// Somebody acts on each of them, however many come: none ends the process.
    all: AtomicBool,
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
        let (tx, came) = watch::channel(Counts::default());
        let acted = Arc::new(Acted::default());
        let by = Arc::clone(&acted);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = interrupt.recv() => {
                        let before = tx.borrow().interrupts;
                        let patient = by.all.load(Ordering::Acquire);
                        // Nobody has acted on the one before: whoever should is stuck, perhaps in
                        // a write to a reader that does not read.
                        if !patient && before > by.interrupts.load(Ordering::Acquire) {
                            std::process::exit(i32::from(Exit::Interrupted.code()));
                        }
                        tx.send_modify(|came| came.interrupts = before.saturating_add(1));
                    }
                    Some(()) = terminate.recv() => {
                        let before = tx.borrow().terminates;
                        if !by.all.load(Ordering::Acquire) && before > 0 {
                            std::process::exit(i32::from(Exit::Terminated.code()));
                        }
                        tx.send_modify(|came| came.terminates = before.saturating_add(1));
                    }
                    else => return,
                }
            }
        });
        Ok(Signals { came, acted })
    }

    /// Waits for either of them. A Ctrl-C is reported once.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was not reported stays to be.
    pub(crate) async fn stop(&mut self) -> Stop {
        let acted = Arc::clone(&self.acted);
        let came = self.came.wait_for(|came| {
            came.terminates > 0 || came.interrupts > acted.interrupts.load(Ordering::Acquire)
        });
        match came.await.map(|came| *came) {
            Ok(came) if came.terminates > 0 => Stop::Terminate,
            Ok(came) => {
                self.acted
                    .interrupts
                    .store(came.interrupts, Ordering::Release);
                Stop::Interrupt
            }
            // The runtime ends, and we with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// From now on [`Signals::each`] is asked for every signal, and none ends the process.
    pub(crate) fn take_all(&self) {
        self.acted.all.store(true, Ordering::Release);
    }

    /// What [`Signals::take_all`] began ends.
    pub(crate) fn release_all(&self) {
        self.acted.all.store(false, Ordering::Release);
    }

    /// Waits for the next signal. Each is reported, also every further SIGTERM; several of one kind
    /// that came at once may be reported as one.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was not reported stays to be.
    pub(crate) async fn each(&mut self) -> Stop {
        let acted = Arc::clone(&self.acted);
        let came = self.came.wait_for(|came| {
            came.terminates > acted.terminates.load(Ordering::Acquire)
                || came.interrupts > acted.interrupts.load(Ordering::Acquire)
        });
        match came.await.map(|came| *came) {
            Ok(came) if came.terminates > acted.terminates.load(Ordering::Acquire) => {
                acted.terminates.store(came.terminates, Ordering::Release);
                Stop::Terminate
            }
            Ok(came) => {
                acted.interrupts.store(came.interrupts, Ordering::Release);
                Stop::Interrupt
            }
            Err(_) => std::future::pending().await,
        }
    }
}
