//! What the writer, the readers and the watches share.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use synod_store::{Alarm, AlarmKind, Applied, Error, ErrorKind, Header, Result, Revision};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::lease::{self, Leases};
use crate::mvcc::State;
use crate::options::EngineOptions;
use crate::watch::{End, Hub};
use crate::writer::{Command, Queued};

/// The most bytes of requests that wait for the writer; more are refused.
const MAX_WAITING_BYTES: usize = 256 << 20;
/// What a waiting request counts beside its own size.
const COMMAND_BYTES: usize = 256;

/// Who an engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    /// How often the store was opened.
    pub(crate) term: u64,
}

/// A revision that is kept for a read.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    shared: &'a Shared,
    revision: Revision,
}

impl Held<'_> {
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        {
            let mut held = self.shared.held();
            if let Entry::Occupied(mut holders) = held.entry(self.revision) {
                *holders.get_mut() = holders.get().saturating_sub(1);
                if *holders.get() == 0 {
                    holders.remove();
                }
            }
        }
        // What was kept may be pruned now.
        self.shared.send(Command::Wake);
    }
}

/// The engine without its writer.
///
/// No lock is held over a call to the journal. Order: state, then leases, hub or what is held, then a watch's
/// queue.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: EngineOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) who: Who,
    state: RwLock<State>,
    /// How many reads have each of these revisions kept.
    held: Mutex<BTreeMap<Revision, usize>>,
    /// The last revision that is durable: what readers see.
    published: AtomicU64,
    leases: Mutex<Leases>,
    /// What is kept beside the keys, as far as it is durable.
    notes: Mutex<BTreeMap<String, Bytes>>,
    pub(crate) hub: Hub,
    /// How many records the store ever had.
    pub(crate) index: AtomicU64,
    /// The quota is used up.
    pub(crate) over_quota: AtomicBool,
    /// The disk was full at the last append.
    pub(crate) disk_full: AtomicBool,
    /// Bytes that the journal takes on disk.
    pub(crate) disk_bytes: AtomicU64,
    /// Why nothing is written any more.
    stopped: Mutex<Option<End>>,
    commands: Sender<Queued>,
    /// Bytes of requests that wait for the writer.
    waiting: AtomicUsize,
    /// Rung for a writer that is driven by a task, whenever a command was sent.
    #[cfg(feature = "simulation")]
    pub(crate) bell: tokio::sync::Notify,
}

impl Shared {
    pub(crate) fn new(
        options: EngineOptions,
        who: Who,
        state: State,
        leases: Leases,
        index: u64,
        commands: Sender<Queued>,
    ) -> Shared {
        let head = state.head();
        let used = state
            .total_bytes()
            .saturating_add(lease::bytes_of(leases.len()));
        Shared {
            clock: Arc::clone(&options.clock),
            over_quota: AtomicBool::new(used >= options.quota_bytes),
            options,
            who,
            state: RwLock::new(state),
            held: Mutex::default(),
            published: AtomicU64::new(head.0),
            leases: Mutex::new(leases),
            notes: Mutex::default(),
            hub: Hub::new(head),
            index: AtomicU64::new(index),
            disk_full: AtomicBool::new(false),
            disk_bytes: AtomicU64::new(0),
            stopped: Mutex::new(None),
            commands,
            waiting: AtomicUsize::new(0),
            #[cfg(feature = "simulation")]
            bell: tokio::sync::Notify::new(),
        }
    }

    // A panic while a lock is held is a bug of ours that stops the writer; what the lock guards is still readable.

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Revision, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has everything from the published revision on kept until the answer is dropped. It may be compacted all the same.
    pub(crate) fn hold(&self) -> Held<'_> {
        // With the lock held the published revision is at least the compacted one, and nothing is pruned.
        let _state = self.state();
        let revision = self.published();
        let mut held = self.held();
        let holders = held.entry(revision).or_default();
        *holders = holders.saturating_add(1);
        Held {
            shared: self,
            revision,
        }
    }

    /// The oldest revision that is kept for a read.
    pub(crate) fn oldest_held(&self) -> Option<Revision> {
        self.held().first_key_value().map(|(oldest, _)| *oldest)
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notes(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last durable revision.
    pub(crate) fn published(&self) -> Revision {
        Revision(self.published.load(Ordering::Acquire))
    }

    pub(crate) fn publish(&self, revision: Revision) {
        self.published.store(revision.0, Ordering::Release);
    }

    /// The header of an answer given now.
    pub(crate) fn header(&self) -> Header {
        self.header_at(self.published())
    }

    pub(crate) fn header_at(&self, revision: Revision) -> Header {
        Header {
            cluster_id: self.who.cluster_id,
            member_id: self.who.member_id,
            revision,
            raft_term: self.who.term,
        }
    }

    /// Whether puts are refused.
    pub(crate) fn is_full(&self) -> bool {
        self.over_quota.load(Ordering::Relaxed) || self.disk_full.load(Ordering::Relaxed)
    }

    /// The alarms that stand.
    pub(crate) fn alarms(&self) -> Vec<Alarm> {
        let alarm = Alarm {
            member_id: self.who.member_id,
            kind: AlarmKind::NoSpace,
        };
        self.is_full().then_some(alarm).into_iter().collect()
    }

    fn stopped(&self) -> MutexGuard<'_, Option<End>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes nothing any more. The first reason stays, unless the store is closed after it.
    pub(crate) fn stop(&self, end: End) {
        let end = {
            let mut stopped = self.stopped();
            if end.kind == ErrorKind::Closed {
                stopped.insert(end).clone()
            } else {
                stopped.get_or_insert(end).clone()
            }
        };
        self.hub.end(&end);
    }

    /// Why nothing is written any more, if so.
    pub(crate) fn why_stopped(&self) -> Option<Error> {
        self.stopped().as_ref().map(End::error)
    }

    /// Reads go on after a failed write, but not after a close.
    pub(crate) fn check_readable(&self) -> Result<()> {
        match self.why_stopped() {
            Some(error) if error.kind() == ErrorKind::Closed => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends a command that nobody waits for.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.enqueue(0, command)
    }

    fn enqueue(&self, size: usize, command: Command) -> bool {
        let sent = self.commands.send(Queued { size, command }).is_ok();
        #[cfg(feature = "simulation")]
        self.bell.notify_one();
        sent
    }

    /// Sends a command of `size` bytes, and waits for the writer's answer.
    ///
    /// # Cancel safety
    ///
    /// The command is sent at the first poll; dropped later, it is carried out all the same.
    pub(crate) async fn ask<T>(
        &self,
        size: usize,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        if let Some(error) = self.why_stopped() {
            return Err(error);
        }
        let size = size.saturating_add(COMMAND_BYTES);
        if self.waiting.fetch_add(size, Ordering::Relaxed) > MAX_WAITING_BYTES {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            return Err(ErrorKind::TooManyRequests.into());
        }
        let (reply, answer) = oneshot::channel();
        let command = command(reply);
        if !self.enqueue(size, command) {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            return Err(self
                .why_stopped()
                .unwrap_or_else(|| ErrorKind::Closed.into()));
        }
        match answer.await {
            Ok(answer) => answer,
            // The writer is gone without an answer.
            Err(_) => Err(self
                .why_stopped()
                .unwrap_or_else(|| ErrorKind::Poisoned.into())
                .with_applied(Applied::Maybe)),
        }
    }

    #[cfg(test)]
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The writer took a command that counted `size`.
    pub(crate) fn taken(&self, size: usize) {
        self.waiting.fetch_sub(size, Ordering::Relaxed);
    }
}
