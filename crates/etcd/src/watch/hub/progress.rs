//! Signs of progress: those that come by themselves, and those that were asked for.

use synod_store::{Revision, WatchItem};
use synod_wire::convert::watch::WatchCommand;

use super::{Doubt, Hub, Progress, Stage};

impl Hub {
    /// The server says how far one watch is, in its place among the events.
    pub(super) fn progress(&mut self, id: i64, revision: Revision) {
        let Some(entry) = self.ids.get(&id).and_then(|key| self.watches.get_mut(key)) else {
            return;
        };
        if entry.tracker.progress(revision) {
            entry.progress = Progress::Unwanted;
            self.deliver(id, WatchItem::Progress(revision));
        }
    }

    /// Asks how far the stream is, when a watch wants to know and no answer is due.
    pub(super) fn ask_progress(&mut self) {
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
    pub(super) fn progress_of_all(&mut self, revision: Revision) {
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
}
