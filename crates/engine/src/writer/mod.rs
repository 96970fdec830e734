//! The writer: the one thread that changes anything.
//!
//! Each turn:
//! 1. wait for a command, or for the next lease to end;
//! 2. take all commands that wait, up to a bound, and carry them out in memory, at revisions above the published one,
//!    where no reader sees them (`apply.rs`);
//! 3. make all of it durable with one append (`durable.rs`);
//! 4. publish the revision, the leases and the compaction; answer; hand the changes to the watches;
//! 5. forget some compacted history, and see whether more should be compacted (`upkeep.rs`), or whether the log has grown
//!    so long that a snapshot should replace it (`snapshot.rs`).
//!
//! If the append fails, the group is never published. When the disk was merely full, or no file could be opened to go on
//! in, nothing was kept, so the group is taken back and the next one tries again. After any other failure nobody can know what is on disk: the engine stops,
//! and only opening it again tells.

mod apply;
mod command;
#[cfg(feature = "simulation")]
mod driver;
mod durable;
mod group;
mod head;
mod snapshot;
mod upkeep;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;

use synod_store::{AlarmKind, CompactResponse, ErrorKind, LeaseId, Result, Revision};

use crate::journal::Journal;
use crate::shared::Shared;
use crate::watch::End;
pub(crate) use command::{Command, Queued, Reply};
#[cfg(feature = "simulation")]
pub use driver::{Driver, Moment};
use group::{Failure, Group};
use head::Head;
pub(crate) use snapshot::{Plan, write};
use snapshot::{Retry, Running};
use upkeep::Upkeep;

/// A group has at most so many commands ...
const GROUP_COMMANDS: usize = 1024;
/// ... of about so many bytes.
const GROUP_BYTES: usize = 8 << 20;
/// The state's lock is given to readers between so many commands of a group.
const COMMANDS_A_LOCK: usize = 32;
/// Leases that end in one group.
const EXPIRIES_A_GROUP: usize = 256;

/// The writer's own.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    commands: Receiver<Queued>,
    /// A command that was taken and belongs into the next turn.
    held: Option<Queued>,
    journal: Box<dyn Journal>,
    /// Whether the journal keeps what it is given.
    keeps_records: bool,
    /// The leases as of the unpublished head.
    leases: HashMap<LeaseId, Duration>,
    /// Compactions whose askers wait until the space is free.
    physical: Vec<Physical>,
    upkeep: Upkeep,
    snapshot: Option<Running>,
    /// Copies that are being made: what keeps them from pruning.
    exports: Vec<Weak<Revision>>,
    /// After a failure, until a snapshot succeeds.
    retry: Option<Retry>,
    /// When a snapshot was begun last for no other reason than a full disk.
    shrunk: Option<Duration>,
    /// Who waits for a snapshot.
    defragment: Vec<Reply<()>>,
    /// How long the log was when the files were measured last.
    measured: u64,
    /// While the disk is so full that only what frees space is taken: when that was looked at last, by the clock.
    low_since_look: Option<Duration>,
    /// When a group was refused for want of space, unless that was looked at since.
    full_since_look: Option<Duration>,
    /// Whether the last group was refused for want of a file to go on in.
    refusing: bool,
}

/// Somebody who waits until all before a revision is forgotten.
struct Physical {
    reply: Reply<CompactResponse>,
    answer: CompactResponse,
    revision: Revision,
}

/// What a turn left to do.
#[derive(Default)]
struct Turn {
    group: Group,
    settled: Vec<Reply<()>>,
    close: Option<Option<Reply<()>>>,
    physical: Vec<Physical>,
}

/// Sees to it that nobody waits for a writer that is gone.
struct LastWords(Arc<Shared>);

impl Drop for LastWords {
    fn drop(&mut self) {
        // After a close this is said already, and the first reason stays; else the writer panicked.
        self.0.stop(End {
            kind: ErrorKind::Poisoned,
            message: ErrorKind::Poisoned.text().into(),
        });
    }
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: Receiver<Queued>,
        journal: Box<dyn Journal>,
        keeps_records: bool,
    ) -> Writer {
        let leases = shared.leases().granted().collect();
        let upkeep = Upkeep::new(&shared);
        let mut writer = Writer {
            shared,
            commands,
            held: None,
            journal,
            keeps_records,
            leases,
            physical: Vec::new(),
            upkeep,
            snapshot: None,
            exports: Vec::new(),
            retry: None,
            shrunk: None,
            defragment: Vec::new(),
            measured: 0,
            low_since_look: None,
            full_since_look: None,
            refusing: false,
        };
        writer.measure_disk();
        writer
    }

    /// Works until it is closed.
    pub(crate) fn run(mut self) {
        let _last_words = LastWords(Arc::clone(&self.shared));
        loop {
            let first = self.next_command();
            let mut turn = Turn::default();
            let base = self.apply(first, &mut turn);
            let result = self.make_durable(&mut turn.group, base);
            if let Some(reply) = self.conclude(turn, result) {
                self.close(reply);
                return;
            }
            self.maintain();
        }
    }

    /// Publishes a group that is durable, and answers; gives back who asked to close, if anybody did.
    fn conclude(
        &mut self,
        mut turn: Turn,
        durable: Result<(), Failure>,
    ) -> Option<Option<Reply<()>>> {
        if durable.is_ok() {
            self.publish(&mut turn.group);
        }
        let Turn {
            group,
            settled,
            close,
            physical,
        } = turn;
        match durable {
            Ok(()) => {
                self.physical.extend(physical);
                group.settle(None);
                // After the answers, so that a writer does not pay for the watches of others; before the next
                // turn, so that no more than one group waits to be handed out, and before history is pruned.
                self.dispatch();
            }
            Err(failure) => {
                group.settle(Some(&failure));
                for Physical { reply, .. } in physical {
                    let _ = reply.send(Err(failure.error()));
                }
            }
        }
        for reply in settled {
            let _ = reply.send(Ok(()));
        }
        close
    }

    /// Waits for a command as long as nothing else is due.
    fn next_command(&mut self) -> Option<Queued> {
        if let Some(queued) = self.held.take() {
            return Some(queued);
        }
        if let Ok(queued) = self.commands.try_recv() {
            return Some(queued);
        }
        let wait = self.wait();
        let before = self.shared.clock.now();
        let received = match wait {
            Some(wait) => self.commands.recv_timeout(wait),
            None => self
                .commands
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
        };
        let waited = self.shared.clock.now().saturating_sub(before);
        self.upkeep
            .waited(waited.min(wait.unwrap_or(Duration::MAX)));
        // The shared part holds a sender, so the channel cannot be disconnected.
        received.ok()
    }

    /// Carries out a group in memory; gives back the revision that it begins at.
    fn apply(&mut self, first: Option<Queued>, turn: &mut Turn) -> Revision {
        let base = self.shared.published();
        let mut queued = first;
        let (mut commands, mut bytes) = (0_usize, 0_usize);
        self.look_for_space();
        self.expire(&mut turn.group);
        let shared = Arc::clone(&self.shared);
        let mut head = Head::new(&shared);
        while let Some(Queued { size, command }) = queued {
            if commands > 0 && matches!(command, Command::Settle { .. }) {
                // Leases were looked at before it came: it waits for the next look.
                self.held = Some(Queued { size, command });
                break;
            }
            shared.taken(size);
            let is_close = matches!(command, Command::Close { .. });
            self.carry_out(&mut head, turn, command);
            commands = commands.saturating_add(1);
            bytes = bytes.saturating_add(size);
            if is_close || commands >= GROUP_COMMANDS || bytes >= GROUP_BYTES {
                break;
            }
            if commands.is_multiple_of(COMMANDS_A_LOCK) {
                head.release();
            }
            queued = self.commands.try_recv().ok();
        }
        base
    }

    fn carry_out(&mut self, head: &mut Head<'_>, turn: &mut Turn, command: Command) {
        let group = &mut turn.group;
        match command {
            Command::Txn {
                txn,
                puts,
                guard,
                reply,
            } => {
                let allowed = guard.map_or(Ok(()), |guard| self.check_guard(head, group, &guard));
                let answer = allowed.and_then(|()| self.txn(head, group, &txn, puts));
                group.answer_txn(reply, answer);
            }
            Command::Grant { id, ttl, reply } => {
                let answer = self.grant(head, group, id, ttl);
                group.answer(reply, answer);
            }
            Command::Revoke {
                id,
                permission,
                reply,
            } => {
                let answer = self.end_lease(head, group, id, permission.as_deref());
                group.answer(reply, answer);
            }
            Command::Compact {
                revision,
                physical,
                reply,
            } => match self.compact(head, group, revision) {
                Ok(answer) if physical => turn.physical.push(Physical {
                    reply,
                    answer,
                    revision,
                }),
                answer => group.answer(reply, answer),
            },
            Command::Disarm { kind, reply } => {
                let stood = self.shared.alarms();
                if kind == AlarmKind::NoSpace {
                    self.shared.over_quota.store(false, Ordering::Relaxed);
                }
                let stood = stood.into_iter().filter(|alarm| alarm.kind == kind);
                group.answer(reply, Ok(stood.collect()));
            }
            Command::Note { changes, reply } => {
                let answer = self.note(group, changes);
                group.answer(reply, answer);
            }
            Command::Export { reply } => {
                // It reads the state, which this group may have locked.
                head.release();
                let plan = self.plan();
                self.exports.push(Arc::downgrade(&plan.floor));
                // It tells of what is published already, so it need not wait for this group.
                let _ = reply.send(Ok(plan));
            }
            Command::Settle { reply } => turn.settled.push(reply),
            Command::Defragment { reply } if self.keeps_records => self.defragment.push(reply),
            // Memory that is not needed any more was given back already.
            Command::Defragment { reply } => turn.settled.push(reply),
            // What is due is seen to after each turn. This may be of a snapshot before the one at hand.
            Command::SnapshotDone | Command::Wake => {}
            Command::Close { reply } => turn.close = Some(reply),
        }
    }

    /// Ends the leases whose time is over.
    fn expire(&mut self, group: &mut Group) {
        if self.shared.why_stopped().is_some() {
            return;
        }
        let now = self.shared.clock.now();
        let stall = self.upkeep.stall(now, self.shared.clock.is_running());
        let due = {
            let mut leases = self.shared.leases();
            if let Some(stall) = stall {
                leases.extend(stall);
            }
            leases.due(now, EXPIRIES_A_GROUP)
        };
        if due.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut head = Head::new(&shared);
        for id in due {
            // It cannot be missing: what is in the table was published, and nothing of this group came before.
            if self.end_lease(&mut head, group, id, None).is_ok() {
                group.expired.push(id);
            }
        }
    }

    /// Lets everybody see a group that is durable.
    fn publish(&mut self, group: &mut Group) {
        let shared = &self.shared;
        let now = shared.clock.now();
        let head = shared.state().head();
        {
            // Under one lock: a lease's keys come and go in the same moment for those who ask for the lease.
            let mut leases = shared.leases();
            shared.publish(head);
            leases.publish(group.lease_ops.drain(..), now);
        }
        if !group.notes.is_empty() {
            let mut notes = shared.notes();
            for change in group.notes.drain(..) {
                match change.text {
                    Some(text) => drop(notes.insert(change.name, text)),
                    None => drop(notes.remove(&change.name)),
                }
            }
        }
        // After the revision: a reader that finds it compacted looks for a newer one.
        if let Some(revision) = group.compaction {
            shared.state_mut().set_compacted(revision);
        }
    }

    /// Hands what is published to the watches.
    fn dispatch(&self) {
        let shared = &self.shared;
        let published = shared.published();
        let now = shared.clock.now();
        shared.hub.dispatch(&shared.state(), published, now);
    }

    /// Lets go of the data, then answers.
    fn close(mut self, reply: Option<Reply<()>>) {
        self.shared.stop(End {
            kind: ErrorKind::Closed,
            message: ErrorKind::Closed.text().into(),
        });
        // It keeps the directory, too.
        if let Some(running) = self.snapshot.take() {
            running.cancel();
        }
        let Writer {
            journal, commands, ..
        } = self;
        drop(journal);
        // What still waits is dropped, and its askers learn that the store is closed.
        drop(commands);
        if let Some(reply) = reply {
            let _ = reply.send(Ok(()));
        }
    }
}
