//! [`Acks`]: acknowledgements of one client that go together.
//!
//! # Protocol
//!
//! While one Txn of acknowledgements is on its way those that come gather, and go in the next: `If
//! create(taken-by/ID)=m for each Then delete(taken/ID), delete(taken-by/ID) for each`. All or none, so
//! that also a lost answer, which only says that it has happened, says it of each. When the guards are
//! false, one of the deliveries has ended: each is sent alone then, and its caller learns what became of
//! it. So nobody fails for another's sake, and nothing is acknowledged that was taken back.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::join_all;
use synod_store::{Applied, ErrorKind};
use tokio::sync::oneshot;

use super::depot::Depot;
use super::held::Held;
use crate::settle::Outcome;
use crate::slot::Slot;
use crate::{Error, Result};

/// The most that go together: two operations each, and a lane's mark, within the store's budget.
const MOST: usize = 60;

/// How many Txns of acknowledgements are on their way at once.
const SENDERS: usize = 2;

/// How often a caller asks again because the runtime of another has ended.
const RESTARTS: usize = 8;

/// Acknowledgements of one queue in one client that wait for others to be answered.
#[derive(Debug, Default)]
pub(super) struct Acks(Slot<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Ack>,
    senders: usize,
}

#[derive(Debug)]
struct Ack {
    held: Arc<Held>,
    /// `None`: it was not sent.
    reply: oneshot::Sender<Option<Result<()>>>,
}

#[cfg(test)]
impl Acks {
    /// How many wait, and how many tasks send.
    pub(super) fn standing(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.waiting.len(), state.senders)
    }
}

impl Depot {
    /// Acknowledges a delivery, together with others of this client.
    pub(super) async fn ack(self: &Arc<Depot>, held: &Arc<Held>) -> Result<()> {
        for _ in 0..RESTARTS {
            let (reply, answer) = oneshot::channel();
            let runtime = crate::runtime()?;
            let start = {
                let mut state = self.acks.0.lock();
                let held = Arc::clone(held);
                state.waiting.push_back(Ack { held, reply });
                let start = state.senders < SENDERS;
                state.senders = state.senders.saturating_add(usize::from(start));
                start
            };
            if start {
                let sender = Sender {
                    depot: Arc::clone(self),
                    retired: false,
                };
                self.settle.spawn(&runtime, "delivery.ack", sender.run());
            }
            match answer.await {
                Ok(Some(answer)) => return answer,
                // The task that was to send it has ended with another caller's runtime.
                Ok(None) => tokio::task::yield_now().await,
                // It has ended while the acknowledgement was on its way.
                Err(_) => return Err(abandoned()),
            }
        }
        Err(Error::NoRuntime)
    }
}

/// The answer of an acknowledgement that was on its way when the runtime ended that had sent it.
fn abandoned() -> Error {
    synod_store::Error::new(
        ErrorKind::Unavailable,
        "the runtime has ended in which the acknowledgements of several callers were on their way",
    )
    .with_applied(Applied::Maybe)
    .into()
}

/// Sends what waits, until nothing does.
struct Sender {
    depot: Arc<Depot>,
    retired: bool,
}

impl Sender {
    async fn run(mut self) {
        loop {
            // Who was woken together with the first asks now.
            tokio::task::yield_now().await;
            let some: Vec<Ack> = {
                let mut state = self.depot.acks.0.lock();
                let count = state.waiting.len().min(MOST);
                if count == 0 {
                    state.senders = state.senders.saturating_sub(1);
                    self.retired = true;
                    return;
                }
                state.waiting.drain(..count).collect()
            };
            send(some).await;
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.retired {
            return;
        }
        // Ended with its runtime.
        let waiting = {
            let mut state = self.depot.acks.0.lock();
            state.senders = state.senders.saturating_sub(1);
            std::mem::take(&mut state.waiting)
        };
        for ack in waiting {
            // It may have left.
            let _ = ack.reply.send(None);
        }
    }
}

/// Acknowledges all of these, or else each by itself.
async fn send(acks: Vec<Ack>) {
    if acks.len() > 1 {
        let held: Vec<&Held> = acks.iter().map(|ack| &*ack.held).collect();
        let answer = match Held::ack_all(&held).await {
            Ok(Outcome::Done { .. }) => Some(Ok(())),
            Ok(Outcome::GuardsFalse) => None,
            // The store takes less than etcd does.
            Err(error) if error.kind() == Some(ErrorKind::TooManyOperations) => None,
            Err(error) => Some(Err(error)),
        };
        if let Some(answer) = answer {
            for ack in acks {
                // It may have left.
                let _ = ack.reply.send(Some(answer.clone()));
            }
            return;
        }
    }
    join_all(acks.into_iter().map(|ack| async move {
        let answer = ack.held.ack().await;
        let _ = ack.reply.send(Some(answer));
    }))
    .await;
}
