//! [`Leaders`]: who leads, as it changes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use synod_store::{
    Event, EventKind, Key, KeyRange, KeyValue, RangeRequest, Revision, Store, WatchRequest,
};

use super::{Leader, LeaderEvent, is_candidate};
use crate::retry::{self, Backoff};
use crate::span::traced;
use crate::watch::{Lookout, Nudge};
use crate::{Client, Result};

/// The stream that [`Election::observe`](super::Election::observe) returns.
#[must_use = "streams do nothing unless polled"]
pub struct Leaders {
    inner: Pin<Box<dyn Stream<Item = Result<LeaderEvent>> + Send>>,
}

impl Leaders {
    pub(super) fn new(client: &Client, name: &Key) -> Leaders {
        let observer = Observer {
            client: client.clone(),
            name: name.clone(),
            store: client.shared_store(),
            patience: client.timeout(),
            view: View::new(name.join("/")),
            lookout: None,
            fresh: false,
            told: None,
            lost: false,
            ready: VecDeque::new(),
        };
        let stream = futures_util::stream::unfold(Some(observer), |observer| async move {
            let mut observer = observer?;
            let name = observer.name.clone();
            match traced!("synod.election.observe", object = name, observer.next()).await {
                Ok(event) => Some((Ok(event), Some(observer))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Leaders {
            inner: Box::pin(stream),
        }
    }
}

impl Stream for Leaders {
    type Item = Result<LeaderEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Leaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaders").finish_non_exhaustive()
    }
}

/// The candidates at one revision, in the order of their standing.
#[derive(Debug)]
struct View {
    prefix: Key,
    revision: Revision,
    order: BTreeMap<(Revision, Key), KeyValue>,
    created: BTreeMap<Key, Revision>,
}

impl View {
    fn new(prefix: Key) -> View {
        View {
            prefix,
            revision: Revision::ZERO,
            order: BTreeMap::new(),
            created: BTreeMap::new(),
        }
    }

    /// Replaces it by what was read at `revision`.
    fn replace(&mut self, revision: Revision, kvs: Vec<KeyValue>) {
        self.order.clear();
        self.created.clear();
        self.revision = revision;
        kvs.into_iter().for_each(|kv| self.put(kv));
    }

    fn put(&mut self, kv: KeyValue) {
        if !is_candidate(&self.prefix, &kv.key) {
            return;
        }
        self.delete(&kv.key);
        self.created.insert(kv.key.clone(), kv.create_revision);
        self.order.insert((kv.create_revision, kv.key.clone()), kv);
    }

    fn delete(&mut self, key: &Key) {
        if let Some(created) = self.created.remove(key) {
            self.order.remove(&(created, key.clone()));
        }
    }

    fn apply(&mut self, event: Event) {
        self.revision = self.revision.max(event.kv.mod_revision);
        match event.kind {
            EventKind::Put => self.put(event.kv),
            EventKind::Delete => self.delete(&event.kv.key),
        }
    }

    fn leader(&self) -> Option<&KeyValue> {
        self.order.values().next()
    }
}

/// Who was told to lead: when the key was created and put last, or that there is nobody.
type Told = Option<(Key, Revision, Revision)>;

struct Observer {
    /// Keeps the client from ending.
    client: Client,
    name: Key,
    store: Arc<dyn Store>,
    patience: Duration,
    view: View,
    lookout: Option<Lookout>,
    /// Whether the view has been read since the watch stands, and the watch has not failed.
    fresh: bool,
    told: Option<Told>,
    /// Whether it was told that the view is lost, and nothing since.
    lost: bool,
    ready: VecDeque<LeaderEvent>,
}

impl Observer {
    async fn next(&mut self) -> Result<LeaderEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if let Err(error) = self.step().await {
                if !error.is_transient() {
                    return Err(error);
                }
                self.fresh = false;
                // Told once for each time of trouble; after it the leader is told anew.
                self.told = None;
                if !std::mem::replace(&mut self.lost, true) {
                    return Ok(LeaderEvent::Lost(error));
                }
                Backoff::new().wait().await;
            }
        }
    }

    /// Reads the candidates if need be, else waits for what happens to them.
    async fn step(&mut self) -> Result<()> {
        let Some(lookout) = &mut self.lookout else {
            self.client.check_name(&self.name)?;
            let request = WatchRequest::new(KeyRange::prefix(self.view.prefix.clone()));
            let open = || Lookout::open(Arc::clone(&self.store), request.clone());
            self.lookout = Some(retry::insist(self.patience, open).await?);
            self.fresh = false;
            return Ok(());
        };
        if !self.fresh {
            let request = RangeRequest::new(KeyRange::prefix(self.view.prefix.clone()));
            let read = || self.store.range(request.clone());
            let response = retry::read(self.patience, read).await?;
            self.view.replace(response.header.revision, response.kvs);
            self.fresh = true;
            self.tell();
            return Ok(());
        }
        match lookout.next(self.view.revision).await {
            Ok(Nudge::Events(events)) => {
                let mut events = events.into_iter().peekable();
                while let Some(event) = events.next() {
                    let revision = event.kv.mod_revision;
                    self.view.apply(event);
                    // What happens at one revision happens at once.
                    if events
                        .peek()
                        .is_none_or(|next| next.kv.mod_revision != revision)
                    {
                        self.tell();
                    }
                }
            }
            Ok(Nudge::Read) => self.fresh = false,
            // The read that follows bears the trouble, or tells of it.
            Err(error) if error.is_transient() => self.fresh = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Makes an event of the view, if it says something new.
    fn tell(&mut self) {
        let leader = self.view.leader();
        let now = leader.map(|kv| (kv.key.clone(), kv.create_revision, kv.mod_revision));
        if self.told.as_ref() == Some(&now) {
            return;
        }
        self.ready.push_back(match leader {
            Some(kv) => LeaderEvent::Leader(Leader::from(kv.clone())),
            None => LeaderEvent::NoLeader,
        });
        self.told = Some(now);
        self.lost = false;
    }
}
