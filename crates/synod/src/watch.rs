//! [`Lookout`]: a watch under which nobody sleeps through a change.
//!
//! # Protocol
//!
//! 1. Open the watch at *now*, never at a revision that has passed (etcd serves those only every
//!    100 ms), and wait until it stands: header revision `w`.
//! 2. Its user reads the state, at revision `r >= w`. What happened up to `r` is in the read, what
//!    happens after it comes as an event: events at or below `r` are ignored.
//! 3. Compaction, an error, or a stream that closed: nothing is concluded. The watch is opened anew and
//!    its user told to read again.
//! 4. The net under lost events: after some 30 s without one, jittered, its user is told to read
//!    again. One read a watch, not one a waiter.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rand::Rng;
use synod_store::{Event, Revision, Store, Watch, WatchItem, WatchRequest};
use tokio::time::Instant;

use crate::Result;

/// After this long without an event the state is read anew; up to a third more, by lot.
const NET: Duration = Duration::from_secs(30);

/// What to do next.
#[derive(Debug)]
pub(crate) enum Nudge {
    /// Something changed, after the revision that was read.
    Events(Vec<Event>),
    /// Read the state again: events may be missing.
    Read,
}

/// A watch that stands, and comes back when it falls.
#[derive(Debug)]
pub(crate) struct Lookout {
    store: Arc<dyn Store>,
    request: WatchRequest,
    watch: Option<Watch>,
    net: Duration,
    next_read: Instant,
}

impl Lookout {
    /// Opens a watch at now. When this returns it stands: read the state next.
    pub(crate) async fn open(store: Arc<dyn Store>, request: WatchRequest) -> Result<Lookout> {
        Lookout::open_with(store, request, NET).await
    }

    async fn open_with(
        store: Arc<dyn Store>,
        request: WatchRequest,
        net: Duration,
    ) -> Result<Lookout> {
        let watch = store.watch(request.clone()).await?;
        Ok(Lookout {
            store,
            request,
            watch: Some(watch),
            net,
            next_read: jittered(net),
        })
    }

    /// Waits for the next change after `read`, the revision of the last read.
    ///
    /// After [`Nudge::Read`] the watch stands again (or still), so that a read made then misses
    /// nothing. Dropping this loses nothing.
    pub(crate) async fn next(&mut self, read: Revision) -> Result<Nudge> {
        loop {
            let Some(watch) = &mut self.watch else {
                self.watch = Some(self.store.watch(self.request.clone()).await?);
                self.next_read = jittered(self.net);
                return Ok(Nudge::Read);
            };
            let item = match tokio::time::timeout_at(self.next_read, watch.next()).await {
                Ok(item) => item,
                Err(_) => {
                    self.next_read = jittered(self.net);
                    return Ok(Nudge::Read);
                }
            };
            match item {
                Some(Ok(WatchItem::Events(batch))) => {
                    let mut events = batch.events;
                    events.retain(|event| event.kv.mod_revision > read);
                    if !events.is_empty() {
                        self.next_read = jittered(self.net);
                        return Ok(Nudge::Events(events));
                    }
                }
                Some(Ok(WatchItem::Compacted { .. })) | None => self.watch = None,
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.watch = None;
                    return Err(error.into());
                }
            }
        }
    }
}

fn jittered(net: Duration) -> Instant {
    Instant::now() + net + net.mul_f64(rand::rng().random_range(0.0..0.34))
}

#[cfg(test)]
mod tests {
    use synod_store::PutRequest;

    use super::*;
    use crate::testing::engine;

    #[tokio::test]
    async fn silence_leads_to_a_read() {
        let request = WatchRequest::new("key");
        let net = Duration::from_millis(10);
        let mut lookout = Lookout::open_with(engine(), request, net).await.unwrap();
        for _ in 0..3 {
            let nudge = lookout.next(Revision::ZERO).await.unwrap();
            assert!(matches!(nudge, Nudge::Read), "{nudge:?}");
        }
    }

    #[tokio::test]
    async fn what_the_read_has_seen_is_ignored() {
        let store = engine();
        let request = WatchRequest::new("key");
        let mut lookout = Lookout::open(Arc::clone(&store), request).await.unwrap();
        let read = store
            .put(PutRequest::new("key", "1"))
            .await
            .unwrap()
            .header
            .revision;
        store.put(PutRequest::new("key", "2")).await.unwrap();
        match lookout.next(read).await.unwrap() {
            Nudge::Events(events) => {
                let values: Vec<_> = events.into_iter().map(|event| event.kv.value).collect();
                assert_eq!(values, ["2"]);
            }
            Nudge::Read => panic!("nothing was lost"),
        }
    }
}
