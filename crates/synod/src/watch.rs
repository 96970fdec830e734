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
//! 4. Trouble that comes back at once is not answered at once: before a watch is opened anew there is
//!    a pause, which grows until an event, or a quiet time, shows that the watch holds.
//! 5. The net under lost events: after some 30 s without one, jittered, its user is told to read
//!    again. One read a watch, not one a waiter.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rand::Rng;
use synod_store::{Event, Revision, Store, Watch, WatchItem, WatchRequest};
use tokio::time::Instant;

use crate::Result;
use crate::retry::Backoff;

/// After this long without an event the state is read anew; up to a third more, by lot.
pub(crate) const NET: Duration = Duration::from_secs(30);

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
    since: Revision,
    net: Duration,
    next_read: Instant,
    /// What to wait before the watch is opened anew; none while it holds.
    trouble: Option<Trouble>,
}

/// How often the watch has fallen since it last held.
#[derive(Debug)]
struct Trouble {
    backoff: Backoff,
    /// Not before this moment is the watch opened anew.
    until: Instant,
}

impl Lookout {
    /// Opens a watch at now. When this returns it stands: read the state next.
    pub(crate) async fn open(store: Arc<dyn Store>, request: WatchRequest) -> Result<Lookout> {
        Lookout::open_with(store, request, NET).await
    }

    /// As [`Lookout::open`], with another time without an event after which the state is read anew.
    pub(crate) async fn open_with(
        store: Arc<dyn Store>,
        request: WatchRequest,
        net: Duration,
    ) -> Result<Lookout> {
        let watch = store.watch(request.clone()).await?;
        Ok(Lookout {
            store,
            request,
            since: watch.header().revision,
            watch: Some(watch),
            net,
            next_read: jittered(net),
            trouble: None,
        })
    }

    /// All that happens after this revision is told by [`Lookout::next`], or that something may be missing:
    /// a read made at this revision or later needs no other when the watch is there.
    pub(crate) fn since(&self) -> Revision {
        self.since
    }

    /// Waits for the next change after `read`, the revision of the last read.
    ///
    /// After [`Nudge::Read`] the watch stands again (or still), so that a read made then misses
    /// nothing. Dropping this loses nothing.
    pub(crate) async fn next(&mut self, read: Revision) -> Result<Nudge> {
        loop {
            let Some(watch) = &mut self.watch else {
                if let Some(trouble) = &self.trouble {
                    tokio::time::sleep_until(trouble.until).await;
                }
                match self.store.watch(self.request.clone()).await {
                    Ok(watch) => self.watch = Some(watch),
                    Err(error) => {
                        self.fell();
                        return Err(error.into());
                    }
                }
                self.next_read = jittered(self.net);
                return Ok(Nudge::Read);
            };
            let item = match tokio::time::timeout_at(self.next_read, watch.next()).await {
                Ok(item) => item,
                Err(_) => {
                    self.trouble = None;
                    self.next_read = jittered(self.net);
                    return Ok(Nudge::Read);
                }
            };
            match item {
                Some(Ok(WatchItem::Events(batch))) => {
                    let mut events = batch.events;
                    events.retain(|event| event.kv.mod_revision > read);
                    self.trouble = None;
                    if !events.is_empty() {
                        self.next_read = jittered(self.net);
                        return Ok(Nudge::Events(events));
                    }
                }
                Some(Ok(WatchItem::Compacted { .. })) | None => self.fell(),
                Some(Ok(_)) => self.trouble = None,
                Some(Err(error)) => {
                    self.fell();
                    return Err(error.into());
                }
            }
        }
    }

    /// The watch is gone, or could not be opened.
    fn fell(&mut self) {
        self.watch = None;
        let now = Instant::now();
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            backoff: Backoff::new(),
            until: now,
        });
        trouble.until = now + trouble.backoff.pause();
    }
}

/// When to read anew: after `net`, and up to a third more, by lot.
pub(crate) fn jittered(net: Duration) -> Instant {
    Instant::now() + net + net.mul_f64(rand::rng().random_range(0.0..0.34))
}

#[cfg(test)]
mod tests {
    use synod_store::PutRequest;

    use super::*;
    use crate::testing::{Fault, Faulty, WatchEnd, engine};

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

    #[tokio::test]
    async fn trouble_that_comes_back_at_once_is_answered_with_pauses() {
        for end in [WatchEnd::Closed, WatchEnd::Broken, WatchEnd::Compacted] {
            let faulty = Faulty::new();
            let request = WatchRequest::new("key");
            let mut lookout = Lookout::open(Arc::new(faulty.clone()), request)
                .await
                .unwrap();
            faulty.end_watches(end);
            faulty.always(Some(Fault::Refuse));
            let begin = Instant::now();
            for _ in 0..7 {
                let nudge = lookout.next(Revision::ZERO).await;
                assert!(
                    nudge.is_err(),
                    "a watch that cannot be opened shows nothing"
                );
            }
            // 5, 10, 20, 40, 80 and 160 ms at least.
            let passed = begin.elapsed();
            assert!(passed >= Duration::from_millis(300), "{end:?}: {passed:?}");
            faulty.always(None);
            let nudge = lookout.next(Revision::ZERO).await.unwrap();
            assert!(matches!(nudge, Nudge::Read), "{end:?}: {nudge:?}");
        }
    }
}
