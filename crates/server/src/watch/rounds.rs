//! Asking the watches of a stream how far they are: all of them, when the client asks, and the quiet
//! ones that want to tell from time to time.

use std::time::Duration;

use synod_store::Header;
use synod_wire::convert::watch::{NO_WATCH, WatchAnswer, WatchNews};
use synod_wire::etcdserverpb as pb;

use super::progress::Reached;
use super::stream::WatchStream;

/// After how long watches that have not said how far they are get asked again: a store behind a
/// network may lose the question, and a watch of the future has no answer yet.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl WatchStream {
    /// Begins to wait for all watches to get to the store's revision, or, if one of them begins
    /// later, to its beginning.
    pub(super) fn start_round(&mut self, header: Header) {
        self.see(header);
        let starts = self.watchers.values().map(|watcher| watcher.start);
        let revision = starts.max().unwrap_or_default().max(header.revision);
        let mut behind: usize = 0;
        for watcher in self.watchers.values_mut() {
            watcher.behind = watcher.delivered < revision;
            if watcher.behind {
                behind = behind.saturating_add(1);
            }
        }
        let reached = self.progress.begin(revision, behind);
        self.reach(reached);
        self.ask_those_behind();
    }

    pub(super) fn caught_up(&mut self) {
        let reached = self.progress.caught_up();
        self.reach(reached);
    }

    fn reach(&mut self, reached: Option<Reached>) {
        if let Some(reached) = reached {
            let header = Header {
                revision: reached.revision,
                ..self.header
            };
            self.reached = Some((header, reached));
            self.ask_again = None;
        }
    }

    /// The answer to one of the requests for progress that can be answered.
    pub(super) fn next_reached(&mut self) -> Option<pb::WatchResponse> {
        let (header, reached) = self.reached.as_mut()?;
        let header = *header;
        reached.requests = reached.requests.saturating_sub(1);
        if reached.requests == 0 {
            self.reached = None;
        }
        Some(
            WatchAnswer {
                header,
                watch_id: NO_WATCH,
                news: WatchNews::Progress,
            }
            .into(),
        )
    }

    pub(super) fn ask_those_behind(&mut self) {
        if !self.progress.is_waiting() {
            return;
        }
        for watcher in self.watchers.values().filter(|watcher| watcher.behind) {
            (watcher.ask)();
        }
        self.ask_again = Some(Box::pin(tokio::time::sleep(ASK_AGAIN)));
    }

    /// Asks the watches that want signs of progress, and told nothing for a while, how far they are.
    pub(super) fn ask_the_quiet(&mut self) {
        for watcher in self.watchers.values_mut() {
            let Some(notify) = &mut watcher.notify else {
                continue;
            };
            if !std::mem::take(&mut notify.busy) {
                notify.due = true;
                (watcher.ask)();
            }
        }
    }
}
