//! The line in which a client's enqueues into one queue gather, to go together.
//!
//! # Protocol
//!
//! 1. Who finds nothing on its way sends its value at once, in its own task.
//! 2. Who comes while as many Txns as [`Order::FLYING`] are on their way waits in line.
//! 3. When one of them has landed, a task takes those that wait, in order and as many as fit into one
//!    Txn, and sends them as one operation. It goes on until nobody waits.
//!
//! # Why nothing changes for a caller
//!
//! *One operation, one outcome*: the Txn puts all of its values or none, and is settled as one, so
//! whatever became of it became of each value: all callers get the same answer, and one token serves
//! all whose outcome is [unknown](Error::Unknown). *What concerns one concerns it alone*: when the
//! store refuses the whole for good, the values are sent again one by one, and each caller gets its
//! own answer. *Leaving*: a value whose caller leaves while it waits is never sent; later it is as with a
//! caller that had sent it alone. *Order*: values keep the order of the line, and who puts in one after
//! the other waits for each.
//!
//! A caller that has waited in line for the client's timeout leaves it: its value is not in.

use std::collections::VecDeque;
use std::sync::Arc;

use synod_store::{Applied, ErrorKind};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::consumer::Core;
use super::order::Order;
use crate::{Error, Result};

/// The most operations that a Txn of several callers has: what a lane leaves of etcd's limit.
pub(super) const TOGETHER: usize = 125;

/// The most bytes that the values of several callers have in one Txn.
const TOGETHER_BYTES: usize = 512 << 10;

/// Who waits to put something in, and how much is on its way.
#[derive(Debug)]
pub(super) struct Line<E> {
    waiting: VecDeque<Waiting<E>>,
    flying: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Waiting<E> {
    number: u64,
    entry: E,
    reply: oneshot::Sender<Reply<E>>,
}

#[derive(Debug)]
enum Reply<E> {
    /// What became of it.
    Done(Result<()>),
    /// The task that was to send it has ended with its runtime: it was not sent.
    Again(E),
}

/// What goes together, and whom to answer.
type Together<E> = (Vec<E>, Vec<oneshot::Sender<Reply<E>>>);

/// Where a caller finds itself.
enum Place<E> {
    /// Nothing, or little, is on its way: the value can be sent.
    First(E),
    Behind(u64, oneshot::Receiver<Reply<E>>),
}

impl<E> Default for Line<E> {
    fn default() -> Line<E> {
        Line {
            waiting: VecDeque::new(),
            flying: 0,
            next_number: 0,
        }
    }
}

impl<E> Line<E> {
    /// How many have entered that are still in line or were the first.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len().saturating_add(self.flying)
    }

    fn enter(&mut self, entry: E, most: usize) -> Place<E> {
        if self.flying < most && self.waiting.is_empty() {
            self.flying = self.flying.saturating_add(1);
            return Place::First(entry);
        }
        let (reply, receiver) = oneshot::channel();
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.waiting.push_back(Waiting {
            number,
            entry,
            reply,
        });
        Place::Behind(number, receiver)
    }

    /// Takes a caller out of the line. False when its value is on its way, or was.
    fn leave(&mut self, number: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.number != number);
        self.waiting.len() < before
    }

    /// Something has landed. Returns whether there is more to send: then the caller sends it.
    fn land(&mut self) -> bool {
        let more = !self.waiting.is_empty();
        if !more {
            self.flying = self.flying.saturating_sub(1);
        }
        more
    }
}

/// A value is on its way in its caller's task; dropped when it has landed, or the caller has left.
struct Landing<'c, O: Order> {
    core: &'c Arc<Core<O>>,
    runtime: Handle,
}

impl<O: Order> Drop for Landing<'_, O> {
    fn drop(&mut self) {
        if self.core.line.lock().land() {
            let carrier = Carrier {
                core: Arc::clone(self.core),
                done: false,
            };
            let carry = Arc::clone(self.core).carry(carrier);
            self.core
                .settle
                .spawn(&self.runtime, "queue.producer", carry);
        }
    }
}

/// The task that sends what waits in line. When it ends with its runtime, those in line try again.
struct Carrier<O: Order> {
    core: Arc<Core<O>>,
    done: bool,
}

impl<O: Order> Drop for Carrier<O> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let waiting = {
            let mut line = self.core.line.lock();
            line.flying = line.flying.saturating_sub(1);
            std::mem::take(&mut line.waiting)
        };
        for Waiting { entry, reply, .. } in waiting {
            // Who has left needs no answer.
            let _ = reply.send(Reply::Again(entry));
        }
    }
}

impl<O: Order> Core<O> {
    /// How many are in line or on their way.
    #[cfg(test)]
    pub(crate) fn in_line(&self) -> usize {
        self.line.lock().len()
    }

    /// Puts one value in, together with what others put in at the same time.
    pub(crate) async fn join(self: &Arc<Core<O>>, mut entry: O::Entry) -> Result<()> {
        loop {
            let runtime = crate::runtime()?;
            let place = self.line.lock().enter(entry, O::FLYING);
            let (number, mut receiver) = match place {
                Place::First(entry) => {
                    let core = self;
                    let _landing = Landing { core, runtime };
                    return self.put_one(entry).await;
                }
                Place::Behind(number, receiver) => (number, receiver),
            };
            let reply = match tokio::time::timeout(self.patience, &mut receiver).await {
                Ok(reply) => reply,
                Err(_) if self.line.lock().leave(number) => {
                    return Err(Error::Timeout {
                        after: self.patience,
                    });
                }
                // It is on its way, and answered within another timeout.
                Err(_) => receiver.await,
            };
            match reply {
                Ok(Reply::Done(done)) => return done,
                Ok(Reply::Again(back)) => entry = back,
                Err(_) => return Err(abandoned()),
            }
        }
    }

    async fn put_one(&self, entry: O::Entry) -> Result<()> {
        let size = O::size(&entry);
        self.stats.puts(1);
        let put = O::put_in(self, std::slice::from_ref(&entry)).await;
        put.map_err(|error| super::too_large(error, size))
    }

    /// Sends what waits in line, until nothing does.
    async fn carry(self: Arc<Core<O>>, mut carrier: Carrier<O>) {
        loop {
            // Those who were just answered may come again at once: they go along.
            tokio::task::yield_now().await;
            let (entries, replies) = self.together();
            if entries.is_empty() {
                // Seen and done under one lock: who comes now finds the line free.
                let mut line = self.line.lock();
                if !line.land() {
                    carrier.done = true;
                    return;
                }
                continue;
            }
            self.stats.puts(entries.len());
            match O::put_in(&self, &entries).await {
                // Whatever the store has against one of them, it is not the others' fault.
                Err(error)
                    if entries.len() > 1
                        && !error.is_maybe_committed()
                        && !error.is_transient() =>
                {
                    for (entry, reply) in entries.into_iter().zip(replies) {
                        if !reply.is_closed() {
                            let _ = reply.send(Reply::Done(self.put_one(entry).await));
                        }
                    }
                }
                done => {
                    let size = entries.first().map_or(0, O::size);
                    let done = done.map_err(|error| super::too_large(error, size));
                    for reply in replies {
                        let _ = reply.send(Reply::Done(done.clone()));
                    }
                }
            }
        }
    }

    /// Takes those out of the line that go together; none when nobody waits.
    fn together(&self) -> Together<O::Entry> {
        let mut line = self.line.lock();
        line.waiting.retain(|waiting| !waiting.reply.is_closed());
        let entries = line.waiting.iter().map(|waiting| &waiting.entry);
        let count = O::fitting(entries, TOGETHER, TOGETHER_BYTES);
        let count = count.min(line.waiting.len());
        let together = line.waiting.drain(..count);
        together
            .map(|waiting| (waiting.entry, waiting.reply))
            .unzip()
    }
}

/// The answer of a value that was on its way when the runtime ended that had sent it.
fn abandoned() -> Error {
    synod_store::Error::new(
        ErrorKind::Unavailable,
        "the runtime has ended in which the values of several callers were on their way",
    )
    .with_applied(Applied::Maybe)
    .into()
}
