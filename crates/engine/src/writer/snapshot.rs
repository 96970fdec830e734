//! Snapshots, so that the log does not grow for ever: written by a thread of their own, page by page, while the writer
//! goes on.
//!
//! A snapshot holds what was published when it began: the leases, every pair as it was just before the oldest readable
//! revision, and every readable revision. Later versions do not disturb it, since it reads at its own revisions, and
//! nothing it needs is pruned while it is written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{KeyRange, LeaseId, Result, Revision};

use super::Writer;
use super::command::{Command, Reply};
use crate::journal::{JournalError, Snapshot};
use crate::mvcc::View;
use crate::record::{
    Base, Commit, CommitChange, FORMAT, Identity, LeaseGrant, NoteChange, Notes, Record,
    SnapshotEnd, SnapshotStart,
};
use crate::recover;
use crate::shared::Shared;

/// Keys looked at, or revisions, while the state's lock is held once.
const PAGE: usize = 256;
/// Bytes of values at which a page ends before.
const PAGE_BYTES: usize = 1 << 20;

/// A snapshot that is being written.
#[derive(Debug)]
pub(super) struct Running {
    thread: JoinHandle<Result<(), JournalError>>,
    /// Set when all but the thread's end is over, so that joining it takes no time.
    done: Arc<AtomicBool>,
    /// Nothing at or above this revision may be pruned meanwhile.
    pub(super) floor: Revision,
    cancel: Arc<AtomicBool>,
}

/// When another snapshot is worth an attempt after one that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    /// The log is as long as this.
    log: u64,
    /// Or there is less to write than this.
    total: u64,
    /// When it failed, by the clock: on a full disk others may have made room since.
    failed: Duration,
}

/// How long it is on a full disk until another attempt is worth it although nothing has changed in the store.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// What a snapshot is of.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) start: SnapshotStart,
    identity: Identity,
    leases: Vec<(LeaseId, Duration)>,
    notes: BTreeMap<String, Bytes>,
    /// Nothing at or above this revision may be pruned meanwhile.
    pub(super) floor: Arc<Revision>,
    cancel: Arc<AtomicBool>,
}

impl Running {
    /// Stops it where it is; the log stays as it was.
    pub(super) fn cancel(self) {
        self.cancel.store(true, Ordering::Relaxed);
        // However it ends, there is nothing left to do with it.
        let _ = self.thread.join();
    }
}

impl Writer {
    /// Begins a snapshot when the log has become long.
    pub(super) fn look_after_snapshot(&mut self) {
        if self
            .snapshot
            .as_ref()
            .is_some_and(|s| s.done.load(Ordering::Acquire) || s.thread.is_finished())
        {
            self.finish_snapshot();
        }
        if !self.keeps_records || self.snapshot.is_some() {
            return;
        }
        let log = self.journal.log_bytes();
        let total = self.shared.state().total_bytes();
        let now = self.shared.clock.now();
        let low = self.low_since_look.is_some();
        let again = self.retry.is_none_or(|retry| {
            let long_ago = now.saturating_sub(retry.failed) >= RETRY_PAUSE;
            log >= retry.log || total < retry.total || low && long_ago
        });
        // On a full disk a shorter log is worth an attempt, too: it gives back its files. But not for each change.
        let rested = self
            .shrunk
            .is_none_or(|last| now.saturating_sub(last) >= self.space_pause());
        let shrinks = low && log > total && rested;
        let long = log > self.shared.options.snapshot_bytes.max(total);
        if !(again && (long || shrinks) || !self.defragment.is_empty()) {
            return;
        }
        if shrinks {
            self.shrunk = Some(now);
        }
        if let Err(error) = self.begin_snapshot() {
            self.snapshot_failed(error);
        }
    }

    /// What is published now. To be asked by the writer's thread, which alone publishes and prunes.
    pub(super) fn plan(&self) -> Plan {
        let state = self.shared.state();
        let floor = state.compacted();
        let start = SnapshotStart {
            revision: self.shared.published().0,
            compacted: state.compaction().map(|revision| revision.0),
            term: self.shared.who.term,
            // A fresh store is at revision 1, so 2 is the first one with changes.
            base: floor.max(Revision(2)).prev().0,
        };
        drop(state);
        Plan {
            start,
            identity: Identity {
                format: FORMAT,
                cluster_id: self.shared.who.cluster_id,
                member_id: self.shared.who.member_id,
            },
            leases: self.shared.leases().granted().collect(),
            notes: self.shared.notes().clone(),
            floor: Arc::new(floor),
            cancel: Arc::default(),
        }
    }

    fn begin_snapshot(&mut self) -> Result<(), JournalError> {
        let sink = match self.journal.begin_snapshot() {
            Err(error) if error.is_no_space() => return self.tight_snapshot(),
            sink => sink?,
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let mut plan = self.plan();
        plan.cancel = Arc::clone(&cancel);
        let floor = *plan.floor;
        let shared = Arc::clone(&self.shared);
        let done = Arc::new(AtomicBool::new(false));
        let sign = Arc::clone(&done);
        let thread = std::thread::Builder::new()
            .name("synod-snapshot".to_owned())
            .spawn(move || {
                let result = write(&shared, &plan, sink);
                sign.store(true, Ordering::Release);
                shared.send(Command::SnapshotDone);
                result
            })
            .map_err(|source| JournalError::Io {
                path: self.shared.options.path.clone().unwrap_or_default(),
                source,
            })?;
        self.snapshot = Some(Running {
            thread,
            done,
            floor,
            cancel,
        });
        Ok(())
    }

    /// Writes a snapshot at once, in what little room there is. The writer waits for it, but it is no larger than a
    /// segment: enough when most was deleted and compacted.
    fn tight_snapshot(&mut self) -> Result<(), JournalError> {
        let plan = self.plan();
        let sink = self.journal.begin_tight_snapshot()?;
        write(&self.shared, &plan, sink)?;
        self.snapshot_succeeded();
        self.look_at_files();
        Ok(())
    }

    /// Takes note of a snapshot that is done.
    pub(super) fn finish_snapshot(&mut self) {
        let Some(running) = self.snapshot.take() else {
            return;
        };
        match running.thread.join() {
            Ok(Ok(())) => self.snapshot_succeeded(),
            Ok(Err(error)) => self.snapshot_failed(error),
            // It panicked: the log is whole all the same.
            Err(_) => self.snapshot_failed(JournalError::TooLarge { bytes: 0 }),
        }
        self.look_at_files();
    }

    fn look_at_files(&mut self) {
        self.measure_disk();
        if self.low_since_look.or(self.full_since_look).is_some() {
            self.note_space();
        }
    }

    fn snapshot_succeeded(&mut self) {
        self.retry = None;
        for reply in self.defragment.drain(..) {
            let _ = reply.send(Ok(()));
        }
    }

    /// The log goes on; another snapshot is tried when it has grown some more, when there is less to write, or, on a full
    /// disk, after a while.
    fn snapshot_failed(&mut self, error: JournalError) {
        tracing::warn!(%error, "a snapshot failed; the log goes on growing");
        let log = self.journal.log_bytes();
        // On a full disk the log cannot grow by much; a sixteenth of it is a fair time, too.
        let grown = self.shared.options.snapshot_bytes.min(log / 16).max(1);
        let total = self.shared.state().total_bytes();
        self.retry = Some(Retry {
            log: log.saturating_add(grown),
            total: total.saturating_sub(total / 16),
            failed: self.shared.clock.now(),
        });
        let error = recover::error(error);
        for reply in self.defragment.drain(..) {
            let error = synod_store::Error::new(error.kind(), error.message());
            let _: Result<(), _> = Reply::send(reply, Err(error));
        }
    }

    /// Notes how much the files take.
    pub(super) fn measure_disk(&mut self) {
        self.measured = self.journal.log_bytes();
        if let Some(bytes) = self.journal.size_on_disk() {
            self.shared.disk_bytes.store(bytes, Ordering::Relaxed);
        }
    }
}

/// Writes a snapshot; leaves nothing behind when it is cancelled.
pub(crate) fn write(
    shared: &Shared,
    plan: &Plan,
    mut sink: Box<dyn Snapshot + '_>,
) -> Result<(), JournalError> {
    let SnapshotStart { base, revision, .. } = plan.start;
    let mut put = |record: Record| sink.write(&record.into_bytes());
    put(Record::SnapshotStart(plan.start))?;
    put(Record::Identity(plan.identity))?;
    for (id, ttl) in &plan.leases {
        put(Record::LeaseGrant(LeaseGrant {
            id: id.get(),
            ttl_seconds: ttl.as_secs(),
        }))?;
    }
    let mut end = SnapshotEnd {
        leases: plan.leases.len() as u64,
        pairs: 0,
        commits: 0,
        notes: plan.notes.len() as u64,
    };
    for (name, text) in &plan.notes {
        put(Record::Notes(Notes {
            changes: vec![NoteChange {
                name: name.clone(),
                text: Some(text.clone()),
            }],
        }))?;
    }
    let mut after = None;
    loop {
        let mut pairs = Vec::new();
        let mut bytes = 0_usize;
        after = {
            let state = shared.state();
            let view = View::new(&state, Revision(base));
            view.walk(&KeyRange::all(), after.as_deref(), PAGE, |key, version| {
                bytes = bytes.saturating_add(version.value.as_ref().map_or(0, |v| v.len()));
                pairs.push(CommitChange {
                    modified: version.modified.0,
                    ..CommitChange::new(key, version)
                });
                if bytes > PAGE_BYTES { PAGE } else { 1 }
            })
        };
        end.pairs = end.pairs.saturating_add(pairs.len() as u64);
        if !pairs.is_empty() {
            put(Record::Base(Base { pairs }))?;
        }
        if plan.cancel.load(Ordering::Relaxed) {
            return Ok(());
        }
        if after.is_none() {
            break;
        }
    }
    let mut next = Revision(base).next();
    while next <= Revision(revision) {
        let mut commits = Vec::new();
        let mut bytes = 0_usize;
        {
            let state = shared.state();
            while next <= Revision(revision) && commits.len() < PAGE && bytes < PAGE_BYTES {
                let changes: Vec<CommitChange> = state
                    .changes_of(next)
                    .into_iter()
                    .map(|(key, version)| CommitChange::new(key, version))
                    .collect();
                for change in &changes {
                    let value = change.value.as_ref().map_or(0, |value| value.len());
                    bytes = bytes.saturating_add(value).saturating_add(change.key.len());
                }
                commits.push(Commit {
                    revision: next.0,
                    changes,
                });
                next = next.next();
            }
        }
        for commit in commits {
            end.commits = end.commits.saturating_add(1);
            put(Record::Commit(commit))?;
        }
        if plan.cancel.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
    put(Record::SnapshotEnd(end))?;
    sink.commit()
}
