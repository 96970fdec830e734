//! What the server says of watches: created, refused, events, the end.

use synod_store::{Error, ErrorKind, Event, Header, Result, Revision, WatchBatch, WatchItem};
use synod_wire::convert::error::{Call, from_status};
use synod_wire::convert::watch::{NO_WATCH, WatchAnswer, WatchCommand, WatchNews};

use super::{Denied, Hub, Stage};
use crate::error::{Cause, cause, status_of_reason};

/// How often a watch is asked for again that was refused although its user may read the keys.
pub(super) const DENIALS: u32 = 3;

impl Hub {
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

    /// Gives an item to the reader of a watch, and cancels the watch when it has too many.
    pub(super) fn deliver(&mut self, id: i64, item: WatchItem) {
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
}
