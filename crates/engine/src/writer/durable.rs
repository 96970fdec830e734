//! Making a group durable, and what follows when that fails.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use synod_store::{Applied, Error, ErrorKind, Result, Revision};

use super::Writer;
use super::group::{Failure, Group};
use crate::journal::JournalError;
use crate::recover;
use crate::watch::End;

/// How often the journal is asked whether there is space again. Tests do not wait.
const SPACE_PAUSE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 1 });
/// How long a lease whose end could not be stored for want of space lives on.
const EXPIRY_PAUSE: Duration = Duration::from_secs(1);

impl Writer {
    /// One append for the whole group. If it fails nothing of the group is seen by anybody.
    pub(super) fn make_durable(
        &mut self,
        group: &mut Group,
        base: Revision,
    ) -> Result<(), Failure> {
        if group.count == 0 {
            return Ok(());
        }
        if self.shared.why_stopped().is_some() {
            self.take_back(group, base);
            return Err(self.stopped());
        }
        let begin = Instant::now();
        let appended = self.journal.append(&group.records);
        if self.keeps_records
            && let Some(observer) = &self.shared.options.sync_observer
        {
            observer.synced(begin.elapsed(), group.count, appended.is_ok());
        }
        match appended {
            Ok(()) => {
                if std::mem::take(&mut self.refusing) {
                    tracing::info!("the log goes on: changes are taken again");
                }
                if self.low_since_look.is_none() {
                    self.note_space();
                }
                self.shared.index.fetch_add(group.count, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(self.append_failed(group, base, error)),
        }
    }

    /// Asks the journal whether it could go on behind the segment at hand. With the last room only what frees space is
    /// taken: without this, a full disk could not even be told what to delete.
    pub(super) fn note_space(&mut self) {
        let low = self.journal.is_low_on_space();
        self.low_since_look = low.then(|| self.shared.clock.now());
        self.full_since_look = None;
        self.shared.disk_full.store(low, Ordering::Relaxed);
    }

    /// While there was no space: asks again once in a while, since asking is not cheap then.
    pub(super) fn look_for_space(&mut self) {
        if self.until_look().is_some_and(|wait| wait.is_zero()) {
            self.note_space();
        }
    }

    /// How long it is until the journal should be asked whether there is space again; none while there is. Nor while a
    /// snapshot is written: to ask is to fill the disk for a moment, and the snapshot's end asks anyway.
    pub(super) fn until_look(&self) -> Option<Duration> {
        if self.snapshot.is_some() {
            return None;
        }
        let last = self.low_since_look.or(self.full_since_look)?;
        let since = self.shared.clock.now().saturating_sub(last);
        Some(self.space_pause().saturating_sub(since))
    }

    /// A clock that is moved by hand does not tell how long ago something was: nothing waits then.
    pub(super) fn space_pause(&self) -> Duration {
        if self.shared.clock.is_running() {
            SPACE_PAUSE
        } else {
            Duration::ZERO
        }
    }

    fn append_failed(&mut self, group: &mut Group, base: Revision, error: JournalError) -> Failure {
        let nothing_kept = matches!(
            error,
            JournalError::NoSpace { .. }
                | JournalError::NoSegment { .. }
                | JournalError::TooLarge { .. }
        );
        let no_segment = matches!(error, JournalError::NoSegment { .. });
        let error = recover::error(error);
        let message = error.message().to_owned();
        // What is on disk may be unknown. What may be shown is not: a later turn must not publish this one's head.
        self.take_back(group, base);
        if nothing_kept {
            if error.kind() == ErrorKind::NoSpace {
                // Until the next look. There may be room for smaller groups: they are not refused.
                self.full_since_look = Some(self.shared.clock.now());
                self.shared.disk_full.store(true, Ordering::Relaxed);
            }
            // Once, not for every group that is refused until it passes.
            if no_segment && !std::mem::replace(&mut self.refusing, true) {
                tracing::error!(%error, "changes are refused: the log has no room and cannot go on in another file");
            }
            return Failure {
                kind: error.kind(),
                applied: Applied::No,
                message,
            };
        }
        tracing::error!(%error, "a write failed; the store has stopped");
        self.shared.stop(End {
            kind: ErrorKind::Poisoned,
            message: format!("{}: {message}", ErrorKind::Poisoned.text()).into(),
        });
        Failure {
            applied: Applied::Maybe,
            ..self.stopped()
        }
    }

    fn stopped(&self) -> Failure {
        let error = self
            .shared
            .why_stopped()
            .unwrap_or_else(|| Error::from_kind(ErrorKind::Poisoned));
        Failure {
            kind: error.kind(),
            applied: Applied::No,
            message: error.message().to_owned(),
        }
    }

    /// Takes a group back that was not made durable.
    fn take_back(&mut self, group: &mut Group, base: Revision) {
        self.shared.state_mut().roll_back(base, |_, _, _| ());
        let now = self.shared.clock.now();
        let mut leases = self.shared.leases();
        leases.spare(&group.expired, now, EXPIRY_PAUSE);
        self.leases = leases.granted().collect();
        drop(leases);
        group.lease_ops.clear();
        group.notes.clear();
        group.compaction = None;
    }
}
