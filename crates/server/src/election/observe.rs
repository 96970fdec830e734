//! Who leads, and what they proclaim, as it happens.
//!
//! 1. Read the oldest key at revision r. If there is none, watch the line from r + 1: the first key
//!    that is put is the oldest.
//! 2. Tell it, and watch that key from the revision after the one told.
//! 3. Each put of it is a proclamation: tell it. When it is deleted, or history is gone: step 1.

use std::collections::VecDeque;

use futures_util::StreamExt;
use synod_store::{
    Event, EventKind, Header, Key, KeyRange, KeyValue, Revision, Store, Watch, WatchItem,
    WatchRequest,
};
use tonic::Status;

use crate::state::Api;
use crate::waiting::unknown;

pub(super) struct Observer {
    api: Api,
    prefix: Key,
    watch: Option<Watching>,
    /// Events that were delivered together with the last one told.
    events: VecDeque<Event>,
}

struct Watching {
    watch: Watch,
    /// Whether it is of a leader's key; else of a line without one.
    led: bool,
}

impl Observer {
    pub(super) fn new(api: Api, prefix: Key) -> Observer {
        Observer {
            api,
            prefix,
            watch: None,
            events: VecDeque::new(),
        }
    }

    /// The next leader or proclamation.
    pub(super) async fn next(&mut self) -> Result<(Header, KeyValue), Status> {
        loop {
            let Some(watching) = &mut self.watch else {
                if let Some(leader) = self.look().await? {
                    return Ok(leader);
                }
                continue;
            };
            if let Some(event) = self.events.pop_front() {
                match (event.kind, watching.led) {
                    (EventKind::Put, led) => {
                        let revision = event.kv.mod_revision;
                        let header = Header {
                            revision,
                            ..watching.watch.header()
                        };
                        if !led {
                            let key = event.kv.key.clone();
                            self.follow(KeyRange::One(key), revision, true).await?;
                        }
                        return Ok((header, event.kv));
                    }
                    (EventKind::Delete, true) => self.watch = None,
                    (EventKind::Delete, false) => {}
                }
                continue;
            }
            match watching.watch.next().await {
                Some(Ok(WatchItem::Events(batch))) => self.events.extend(batch.events),
                Some(Ok(WatchItem::Progress(_))) => {}
                // History is gone, or the watch ended: the state tells.
                Some(Ok(_)) | None => self.watch = None,
                Some(Err(error)) => return Err(unknown(error)),
            }
        }
    }

    /// Reads who leads, and watches from there.
    async fn look(&mut self) -> Result<Option<(Header, KeyValue)>, Status> {
        let (header, leader) = self.api.find_leader(&self.prefix).await?;
        let (range, led) = match &leader {
            Some(leader) => (KeyRange::One(leader.key.clone()), true),
            None => (KeyRange::prefix(self.prefix.clone()), false),
        };
        self.follow(range, header.revision, led).await?;
        Ok(leader.map(|leader| (header, leader)))
    }

    async fn follow(&mut self, range: KeyRange, after: Revision, led: bool) -> Result<(), Status> {
        self.events.clear();
        let request = WatchRequest::new(range).starting_at(after.next());
        let watch = self.api.store().watch(request).await.map_err(unknown)?;
        self.watch = Some(Watching { watch, led });
        Ok(())
    }
}
