//! All watches of a client and the stream that they share, as a state machine: commands and answers
//! in, messages and items out.
//!
//! Every time a watch is made on a stream it gets an id that was never used before, so that no late
//! answer is taken for one of its successor. A server refuses a watch without naming its id, but
//! answers in the order in which watches were asked for.
//!
//! Orders and streams are here; `answers` and `progress` are what the server says.

mod answers;
mod progress;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use synod_store::{Error, Header, Result, WatchItem, WatchRequest};
use synod_wire::convert::watch::{WatchCommand, WatchCreate};
use tokio::sync::oneshot;

use super::buffer::Buffer;
use super::fragments::Joiner;
use super::resume::Tracker;
use crate::error::copy;

/// A watch of this client, whatever it is called on a stream.
pub(crate) type Key = u64;

/// Whom to tell that a watch stands.
pub(crate) type Created = oneshot::Sender<Result<Header>>;

/// What the owner of a watch wants.
#[derive(Debug)]
pub(crate) enum Order {
    /// A watch.
    Add(Box<Add>),
    /// It again, after its buffer was too full.
    Continue,
    /// To be told how far it is.
    Progress,
    /// It no more.
    Close,
}

/// A watch to make.
#[derive(Debug)]
pub(crate) struct Add {
    pub(crate) request: WatchRequest,
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) created: Created,
}

/// A watch that was refused for want of a permission, which an old token may be the reason of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) key: Key,
    pub(crate) request: WatchRequest,
}

/// The watches.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    watches: HashMap<Key, Entry>,
    /// Which watch has which id on the stream that stands.
    ids: HashMap<i64, Key>,
    /// Ids asked for and not yet answered, in order.
    asked: VecDeque<i64>,
    last_id: i64,
    is_open: bool,
    /// Whether a progress that was asked for comes in its place among the events.
    ordered_progress: bool,
    /// Whether an answer about progress is due. Never more than one: answers do not tell which
    /// request they are to.
    progress_asked: bool,
    /// Whether a refusal may be due to an old token.
    renewable: bool,
    out: Vec<WatchCommand>,
    denied: Vec<Denied>,
}

#[derive(Debug)]
struct Entry {
    request: WatchRequest,
    tracker: Tracker,
    joiner: Joiner,
    buffer: Arc<Buffer>,
    /// Until the watch stands for the first time.
    created: Option<Created>,
    stage: Stage,
    progress: Progress,
    denials: u32,
}

/// How a watch is with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be asked for as soon as there is a stream.
    Waiting,
    /// Asked for, or standing, under this id.
    Live {
        id: i64,
        /// Whether the server has answered.
        stands: bool,
        /// Whether the server has sent all of the past, as far as can be told.
        caught_up: bool,
    },
    /// Cancelled, for its reader does not read; or being looked into.
    Paused,
}

/// How far a wish for a sign of progress has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unwanted,
    /// To be asked for.
    Wanted(Doubt),
    /// Asked for after the watch stood: the answer is about it too.
    Asked(Doubt),
}

/// Whether an answer has come already that may have overtaken events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    Unanswered,
    AnsweredOnce,
}

impl Hub {
    /// No watches. `renewable` when a refused permission may be due to an old token.
    pub(crate) fn new(renewable: bool) -> Hub {
        Hub {
            renewable,
            ..Hub::default()
        }
    }

    /// Obeys an order.
    pub(crate) fn order(&mut self, key: Key, order: Order) {
        match order {
            Order::Add(add) => {
                let entry = Entry {
                    tracker: Tracker::new(add.request.start_revision),
                    request: add.request,
                    joiner: Joiner::default(),
                    buffer: add.buffer,
                    created: Some(add.created),
                    stage: Stage::Waiting,
                    progress: Progress::Unwanted,
                    denials: 0,
                };
                self.watches.insert(key, entry);
                self.ask(key);
            }
            Order::Continue => {
                if let Some(entry) = self.watches.get_mut(&key)
                    && entry.stage == Stage::Paused
                {
                    entry.stage = Stage::Waiting;
                    self.ask(key);
                }
            }
            Order::Progress => {
                if let Some(entry) = self.watches.get_mut(&key)
                    && entry.progress == Progress::Unwanted
                {
                    entry.progress = Progress::Wanted(Doubt::Unanswered);
                    self.ask_progress();
                }
            }
            Order::Close => self.remove(key),
        }
    }

    /// Whether there is a watch that needs a stream.
    pub(crate) fn is_wanted(&self) -> bool {
        self.watches
            .values()
            .any(|entry| entry.stage != Stage::Paused)
    }

    /// Whether an answer is due.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// There is a new stream: everything is asked for again, from where it stopped.
    pub(crate) fn opened(&mut self, ordered_progress: bool) {
        self.lost();
        self.is_open = true;
        self.ordered_progress = ordered_progress;
        let mut waiting: Vec<Key> = self
            .watches
            .iter()
            .filter(|(_, entry)| entry.stage == Stage::Waiting)
            .map(|(key, _)| *key)
            .collect();
        // In the order in which they were made, which helps whoever reads a trace.
        waiting.sort_unstable();
        for key in waiting {
            self.ask(key);
        }
    }

    /// The stream is gone.
    pub(crate) fn lost(&mut self) {
        self.is_open = false;
        self.ids.clear();
        self.asked.clear();
        self.out.clear();
        self.progress_asked = false;
        for entry in self.watches.values_mut() {
            entry.joiner.clear();
            if matches!(entry.stage, Stage::Live { .. }) {
                entry.stage = Stage::Waiting;
            }
            if entry.progress != Progress::Unwanted {
                entry.progress = Progress::Wanted(Doubt::Unanswered);
            }
        }
    }

    /// Takes what is to be sent.
    pub(crate) fn take_commands(&mut self) -> Vec<WatchCommand> {
        std::mem::take(&mut self.out)
    }

    /// Takes what was refused and has to be looked into; see [`Hub::settle`].
    pub(crate) fn take_denied(&mut self) -> Vec<Denied> {
        std::mem::take(&mut self.denied)
    }

    /// What came of looking into a refusal: an error, or nothing, so that it is asked for again.
    pub(crate) fn settle(&mut self, key: Key, verdict: Result<()>) {
        match verdict {
            Ok(()) => self.order(key, Order::Continue),
            Err(error) => self.end(key, Err(error)),
        }
    }

    /// No watch will ever be made: all end with this error.
    pub(crate) fn refuse_all(&mut self, error: &Error) {
        let keys: Vec<Key> = self.watches.keys().copied().collect();
        for key in keys {
            self.end(key, Err(copy(error)));
        }
    }

    /// Those who wait for their first watch are told why there is none. Watches that stood before
    /// go on waiting.
    pub(crate) fn refuse_new(&mut self, error: &Error) {
        let new = self.watches.iter().filter(|(_, e)| e.created.is_some());
        let keys: Vec<Key> = new.map(|(key, _)| *key).collect();
        for key in keys {
            self.end(key, Err(copy(error)));
        }
    }

    /// Asks the server for a watch, if there is a stream.
    fn ask(&mut self, key: Key) {
        if !self.is_open {
            return;
        }
        let Some(entry) = self.watches.get_mut(&key) else {
            return;
        };
        // Ids begin with 1: 0 lets the server choose.
        self.last_id += 1;
        let id = self.last_id;
        entry.stage = Stage::Live {
            id,
            stands: false,
            caught_up: false,
        };
        self.ids.insert(id, key);
        self.asked.push_back(id);
        self.out.push(WatchCommand::Create(WatchCreate {
            request: WatchRequest {
                start_revision: entry.tracker.start(),
                ..entry.request.clone()
            },
            watch_id: id,
            fragment: true,
        }));
    }

    /// Gives a watch its last item.
    fn end(&mut self, key: Key, item: Result<WatchItem>) {
        let Some(entry) = self.watches.get_mut(&key) else {
            return;
        };
        match (entry.created.take(), item) {
            (Some(created), Err(error)) => {
                let _ = created.send(Err(error));
            }
            (_, item) => entry.buffer.end(item),
        }
        self.remove(key);
    }

    /// Forgets a watch, here and at the server.
    fn remove(&mut self, key: Key) {
        if let Some(Entry {
            stage: Stage::Live { id, .. },
            ..
        }) = self.watches.remove(&key)
            && self.ids.remove(&id).is_some()
        {
            self.out.push(WatchCommand::Cancel(id));
        }
    }
}
