//! The desk at which local callers wait for items, and to which items come back whose caller left.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use synod_store::Key;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::consumer::Core;
use super::order::Order;
use crate::{Error, Result};

/// An item that this client has taken.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: Key,
    pub(crate) value: Bytes,
}

/// A caller that waits.
#[derive(Debug)]
struct Want {
    number: u64,
    since: Instant,
    /// The most items that it takes.
    max: usize,
    /// Whether it waits while the queue is empty.
    waits: bool,
    reply: oneshot::Sender<Result<Vec<Item>>>,
}

/// Who waits, and what waits for a caller.
#[derive(Debug)]
pub(super) struct Desk {
    /// Whether an item that was taken before a caller came is not for it.
    exact: bool,
    wants: VecDeque<Want>,
    /// Items whose caller left.
    returned: VecDeque<Item>,
    /// Items that could not be put back: they wait here for the next local caller.
    stuck: VecDeque<Item>,
    next_number: u64,
    /// Whether the consumer's task runs.
    running: bool,
}

/// What the callers want at one moment.
#[derive(Debug)]
pub(super) struct Demand {
    /// How many items.
    pub(super) wanted: usize,
    /// Whether one of them wants an answer although the queue is empty.
    pub(super) tries: bool,
    /// Whether one of them waits for an item.
    pub(super) waits: bool,
    /// Callers with a lower number were there at this moment.
    pub(super) before: u64,
    /// Items that nobody here wants.
    pub(super) surplus: Vec<Item>,
}

impl Desk {
    pub(super) fn new(exact: bool) -> Desk {
        Desk {
            exact,
            wants: VecDeque::new(),
            returned: VecDeque::new(),
            stuck: VecDeque::new(),
            next_number: 0,
            running: false,
        }
    }

    /// A caller comes. Returns where it waits, and whether the task must be started.
    pub(super) fn ask(
        &mut self,
        max: usize,
        waits: bool,
    ) -> (oneshot::Receiver<Result<Vec<Item>>>, bool) {
        let (reply, receiver) = oneshot::channel();
        let (number, since) = (self.next_number, Instant::now());
        self.next_number = self.next_number.saturating_add(1);
        self.wants.push_back(Want {
            number,
            since,
            max,
            waits,
            reply,
        });
        (receiver, self.start())
    }

    /// Marks the task as running. False when it was.
    pub(super) fn start(&mut self) -> bool {
        !std::mem::replace(&mut self.running, true)
    }

    /// Items come back. Returns whether the task must be started.
    pub(super) fn give_back(&mut self, items: Vec<Item>) -> bool {
        self.returned.extend(items);
        self.start()
    }

    /// An item could not be put back.
    pub(super) fn keep(&mut self, item: Item) {
        self.stuck.push_back(item);
    }

    /// Hands out in order what was taken when callers with numbers below `before` were there;
    /// returns what nobody took.
    pub(super) fn hand_out(&mut self, mut items: VecDeque<Item>, before: u64) -> VecDeque<Item> {
        while !items.is_empty() {
            let Some(want) = self.wants.front() else {
                break;
            };
            if self.exact && want.number >= before {
                break;
            }
            let Some(want) = self.wants.pop_front() else {
                break;
            };
            if want.reply.is_closed() {
                continue;
            }
            let batch = items.drain(..want.max.min(items.len())).collect();
            if let Err(Ok(back)) = want.reply.send(Ok(batch)) {
                back.into_iter()
                    .rev()
                    .for_each(|item| items.push_front(item));
            }
        }
        items
    }

    /// What is wanted now. Items that came back are handed out first.
    pub(super) fn demand(&mut self) -> Demand {
        self.wants.retain(|want| !want.reply.is_closed());
        let returned = std::mem::take(&mut self.returned);
        let surplus = self.hand_out(returned, 0).into();
        let stuck = std::mem::take(&mut self.stuck);
        self.stuck = self.hand_out(stuck, u64::MAX);
        Demand {
            wanted: self
                .wants
                .iter()
                .map(|want| want.max)
                .fold(0, usize::saturating_add),
            tries: self.wants.iter().any(|want| !want.waits),
            waits: self.wants.iter().any(|want| want.waits),
            before: self.next_number,
            surplus,
        }
    }

    /// The queue was empty after callers with lower numbers had come: those who do not wait leave.
    pub(super) fn answer_tries(&mut self, before: u64) {
        self.answer_if(
            |want| !want.waits && want.number < before,
            || Ok(Vec::new()),
        );
    }

    /// Tells everybody who has waited for `patience`, counted from `since` at the earliest.
    pub(super) fn fail(&mut self, error: &Error, since: Instant, patience: Duration) {
        self.answer_if(
            |want| want.since.max(since).elapsed() >= patience,
            || Err(error.clone()),
        );
    }

    fn answer_if(&mut self, which: impl Fn(&Want) -> bool, answer: impl Fn() -> Result<Vec<Item>>) {
        let (answered, waiting) = std::mem::take(&mut self.wants).into_iter().partition(which);
        self.wants = waiting;
        let answered: VecDeque<Want> = answered;
        for want in answered {
            // A caller that has left needs no answer; nothing is lost with it.
            let _ = want.reply.send(answer());
        }
    }

    /// Ends the task if there is nothing for it to do.
    pub(super) fn retire(&mut self) -> bool {
        let idle = self.wants.is_empty() && self.returned.is_empty();
        if idle {
            self.running = false;
        }
        idle
    }

    /// The task has died: whoever waits is told by the end of its channel.
    pub(super) fn abort(&mut self) {
        self.running = false;
        self.wants.clear();
    }
}

/// A caller's place at the desk. When it is dropped, what was handed to it goes to the next.
#[derive(Debug)]
pub(crate) struct Ticket<O: Order> {
    core: Arc<Core<O>>,
    runtime: Handle,
    receiver: Option<oneshot::Receiver<Result<Vec<Item>>>>,
}

impl<O: Order> Ticket<O> {
    pub(super) fn new(
        core: Arc<Core<O>>,
        runtime: Handle,
        receiver: oneshot::Receiver<Result<Vec<Item>>>,
    ) -> Ticket<O> {
        Ticket {
            core,
            runtime,
            receiver: Some(receiver),
        }
    }
}

impl<O: Order> Future for Ticket<O> {
    type Output = Result<Vec<Item>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(receiver) = &mut self.receiver else {
            return Poll::Ready(Err(Error::NoRuntime));
        };
        let answer = std::task::ready!(Pin::new(receiver).poll(cx));
        self.receiver = None;
        Poll::Ready(answer.unwrap_or(Err(Error::NoRuntime)))
    }
}

impl<O: Order> Drop for Ticket<O> {
    fn drop(&mut self) {
        if let Some(mut receiver) = self.receiver.take() {
            receiver.close();
            let items = match receiver.try_recv() {
                Ok(Ok(items)) => items,
                _ => Vec::new(),
            };
            self.core.left(items, &self.runtime);
        }
    }
}
