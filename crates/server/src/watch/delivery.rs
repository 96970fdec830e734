//! From what a watch tells to what its client is told, and how far the watch is then.

use synod_store::{Error, ErrorKind, Header, Revision, WatchBatch, WatchItem};
use synod_wire::convert::error::to_status;
use synod_wire::convert::watch::{WatchAnswer, WatchNews};

use super::fragment::{at_revisions, fragment};
use super::stream::WatchStream;
use super::watcher::Tagged;

/// How many ended watches a stream remembers.
const MOST_OVER: usize = 10_000;

impl WatchStream {
    /// What a watch tells.
    pub(super) fn item(&mut self, (id, serial, item): Tagged) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        if watcher.serial != serial {
            return;
        }
        match item {
            Some(Ok(WatchItem::Events(batch))) => self.events(id, batch),
            Some(Ok(WatchItem::Progress(revision))) => self.progressed(id, revision),
            Some(Ok(WatchItem::Compacted { compact_revision })) => {
                self.end(id, WatchNews::Compacted { compact_revision });
            }
            Some(Err(error)) => self.broken(id, &error),
            // A store's watch that ends without saying why, or says what is not known here.
            Some(Ok(_)) | None => self.broken(id, &ErrorKind::Unavailable.into()),
        }
    }

    fn broken(&mut self, id: i64, error: &Error) {
        let reason = to_status(error).message().to_owned();
        self.end(id, WatchNews::Canceled { reason });
    }

    /// Ends a watch that the store has ended.
    pub(super) fn end(&mut self, id: i64, news: WatchNews) {
        self.remove(id);
        // A client that never cancels them gets their ids back sooner.
        if self.over.len() < MOST_OVER {
            self.over.insert(id);
        }
        self.answer(self.header, id, news);
    }

    fn events(&mut self, id: i64, batch: WatchBatch) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        if let Some(notify) = &mut watcher.notify {
            notify.busy = true;
        }
        let last = batch.events.last().map(|event| event.kv.mod_revision);
        let header = Header {
            revision: batch.revision,
            ..watcher.header
        };
        let most = self.api.options().max_message_bytes();
        for batch in at_revisions(batch, most) {
            let answer = WatchAnswer::events(watcher.header, id, batch).into();
            if watcher.fragment {
                self.answers.extend(fragment(answer, most));
            } else {
                self.answers.push_back(answer);
            }
        }
        self.see(header);
        self.delivered(id, last.unwrap_or_default());
    }

    fn progressed(&mut self, id: i64, revision: Revision) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        let header = Header {
            revision,
            ..watcher.header
        };
        // A watch of the future hears nothing of what is before it.
        let wanted = watcher
            .notify
            .as_mut()
            .is_some_and(|notify| std::mem::take(&mut notify.due));
        if wanted && revision >= watcher.start {
            self.answer(header, id, WatchNews::Progress);
        }
        self.see(header);
        self.delivered(id, revision);
    }

    /// A watch has delivered everything up to `revision`.
    fn delivered(&mut self, id: i64, revision: Revision) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        watcher.delivered = watcher.delivered.max(revision);
        if watcher.behind && !self.progress.is_behind(watcher.delivered) {
            watcher.behind = false;
            self.caught_up();
        }
    }
}
