//! All watches of a client and the stream that they share, as a state machine: commands and answers
//! in, messages and items out.
//!
//! Every time a watch is made on a stream it gets an id that was never used before, so that no late
//! answer is taken for one of its successor. A server refuses a watch without naming its id, but
//! answers in the order in which watches were asked for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use synod_store::{
    Error, ErrorKind, Event, Header, Result, Revision, WatchBatch, WatchItem, WatchRequest,
};
use synod_wire::convert::error::{Call, from_status};
use synod_wire::convert::watch::{NO_WATCH, WatchAnswer, WatchCommand, WatchCreate, WatchNews};
use tokio::sync::oneshot;

use super::buffer::Buffer;
use super::fragments::Joiner;
use super::resume::Tracker;
use crate::error::{Cause, cause, copy, status_of_reason};

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

/// How often a watch is asked for again that was refused although its user may read the keys.
const DENIALS: u32 = 3;

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

    /// An answer came.
    ///
    /// # Errors
    ///
    /// When it makes no sense.
    pub(crate) fn answer(&mut self, answer: WatchAnswer) -> Result<()> {
        let WatchAnswer {
            header,
            watch_id,
            news,
        } = answer;
        match news {
            WatchNews::Created => self.created(watch_id, header),
            WatchNews::Refused { reason } => {
                let id = self.next_asked(watch_id)?;
                self.ended(id, &reason)
            }
            WatchNews::Progress if watch_id == NO_WATCH => {
                self.progress_of_all(header.revision);
                Ok(())
            }
            // Of a watch that was closed, or made anew under another id.
            _ if !self.ids.contains_key(&watch_id) => Ok(()),
            WatchNews::Progress => {
                self.progress(watch_id, header.revision);
                Ok(())
            }
            WatchNews::Events { events, fragment } => {
                self.events(watch_id, header.revision, events, fragment);
                Ok(())
            }
            WatchNews::Compacted { compact_revision } => {
                if let Some(key) = self.ids.remove(&watch_id) {
                    self.end(key, Ok(WatchItem::Compacted { compact_revision }));
                }
                Ok(())
            }
            WatchNews::Canceled { reason } => self.ended(watch_id, &reason),
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

    /// The oldest id that was asked for, which the answer is about.
    fn next_asked(&mut self, named: i64) -> Result<i64> {
        match self.asked.pop_front() {
            Some(id) if named == NO_WATCH || named == id => Ok(id),
            _ => Err(Error::new(
                ErrorKind::Other,
                format!("malformed answer: watch {named} was not asked for"),
            )),
        }
    }

    fn created(&mut self, watch_id: i64, header: Header) -> Result<()> {
        let id = self.next_asked(watch_id)?;
        let Some(entry) = self.ids.get(&id).and_then(|key| self.watches.get_mut(key)) else {
            // Closed meanwhile; the server has been told.
            return Ok(());
        };
        entry.tracker.created(header.revision);
        entry.denials = 0;
        entry.stage = Stage::Live {
            id,
            stands: true,
            caught_up: entry.tracker.start() > header.revision,
        };
        if let Some(created) = entry.created.take() {
            // When this fails the watch is being closed: an order for that is on its way.
            let _ = created.send(Ok(header));
        }
        self.ask_progress();
        Ok(())
    }

    fn events(&mut self, id: i64, revision: Revision, events: Vec<Event>, more: bool) {
        let Some(entry) = self.ids.get(&id).and_then(|key| self.watches.get_mut(key)) else {
            return;
        };
        let mut events = entry.joiner.join(events, more);
        entry.tracker.events(&mut events);
        let Some(last) = events.last().map(|event| event.kv.mod_revision) else {
            return;
        };
        if !more {
            entry.stage = Stage::Live {
                id,
                stands: true,
                caught_up: true,
            };
        }
        let revision = if more { last } else { revision.max(last) };
        let batch = WatchBatch { revision, events };
        self.deliver(id, WatchItem::Events(batch));
        self.ask_progress();
    }

    /// The server says how far one watch is, in its place among the events.
    fn progress(&mut self, id: i64, revision: Revision) {
        let Some(entry) = self.ids.get(&id).and_then(|key| self.watches.get_mut(key)) else {
            return;
        };
        if entry.tracker.progress(revision) {
            entry.progress = Progress::Unwanted;
            self.deliver(id, WatchItem::Progress(revision));
        }
    }

    /// Asks how far the stream is, when a watch wants to know and no answer is due.
    fn ask_progress(&mut self) {
        if self.progress_asked {
            return;
        }
        for entry in self.watches.values_mut() {
            if let Progress::Wanted(doubt) = entry.progress
                && let Stage::Live {
                    stands: true,
                    caught_up,
                    ..
                } = entry.stage
                && (caught_up || self.ordered_progress)
            {
                entry.progress = Progress::Asked(doubt);
                self.progress_asked = true;
            }
        }
        if self.progress_asked {
            self.out.push(WatchCommand::Progress);
        }
    }

    /// The server says how far the stream is.
    ///
    /// Old servers say so without regard to events that they have still to send
    /// (etcd-io/etcd#15220). Of them a second answer is awaited, before which they have sent what
    /// the first one overtook; a watch that is behind does not ask; and nothing is built on the
    /// answer: a watch that resumes does so after its last event.
    fn progress_of_all(&mut self, revision: Revision) {
        self.progress_asked = false;
        let mut told = Vec::new();
        for entry in self.watches.values_mut() {
            let (Progress::Asked(doubt), Stage::Live { id, .. }) = (entry.progress, entry.stage)
            else {
                continue;
            };
            if !self.ordered_progress && doubt == Doubt::Unanswered {
                entry.progress = Progress::Wanted(Doubt::AnsweredOnce);
                continue;
            }
            entry.progress = Progress::Unwanted;
            let mut tracker = entry.tracker;
            if tracker.progress(revision) {
                told.push(id);
            }
            if self.ordered_progress {
                entry.tracker = tracker;
            }
        }
        for id in told {
            self.deliver(id, WatchItem::Progress(revision));
        }
        self.ask_progress();
    }

    /// Gives an item to the reader of a watch, and cancels the watch when it has too many.
    fn deliver(&mut self, id: i64, item: WatchItem) {
        let Some(entry) = self.ids.get(&id).and_then(|key| self.watches.get_mut(key)) else {
            return;
        };
        if !entry.buffer.push(item) {
            entry.joiner.clear();
            entry.stage = Stage::Paused;
            self.ids.remove(&id);
            self.out.push(WatchCommand::Cancel(id));
        }
    }

    /// The server ended, or did not make, the watch with this id.
    ///
    /// # Errors
    ///
    /// When the reason may go away: another stream is tried.
    fn ended(&mut self, id: i64, reason: &str) -> Result<()> {
        let Some(key) = self.ids.remove(&id) else {
            return Ok(());
        };
        let status = status_of_reason(reason);
        let cause = cause(&status);
        let Some(entry) = self.watches.get_mut(&key) else {
            return Ok(());
        };
        entry.joiner.clear();
        entry.stage = Stage::Waiting;
        let error = from_status(&status, Call::Read);
        let denied = cause == Cause::Token || error.kind() == ErrorKind::PermissionDenied;
        if denied && self.renewable && entry.denials < DENIALS {
            entry.denials += 1;
            entry.stage = Stage::Paused;
            let request = entry.request.clone();
            self.denied.push(Denied { key, request });
            return Ok(());
        }
        if matches!(cause, Cause::Unfit | Cause::Busy) || reason.is_empty() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("a watch was cancelled: {reason}"),
            ));
        }
        let kind = match error.kind() {
            _ if cause == Cause::Token => ErrorKind::Unauthenticated,
            // What etcd says of a watch that makes no sense has no code.
            ErrorKind::Other if reason.starts_with("mvcc: ") => ErrorKind::InvalidArgument,
            kind => kind,
        };
        self.end(key, Err(Error::new(kind, error.message())));
        Ok(())
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
