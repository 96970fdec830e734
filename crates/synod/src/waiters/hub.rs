//! [`Hub`]: one watch of a prefix that tells each of many which of its keys are gone.
//!
//! # Protocol
//!
//! 1. One task watches the deletions under the prefix. A subscriber names a key and its create revision
//!    `c`, waits until the watch stands, and reads the key by itself.
//! 2. A deletion of the key after `c` is told to its subscribers, and to nobody else.
//! 3. Whenever events may be missing (compaction, a broken watch, and every 30 s or so), the task reads
//!    the prefix, keys only, once for all subscribers. A key that is not there at a revision of at least `c`, or was
//!    created anew, is gone. A subscriber who came before that read was made is covered by it; one who
//!    comes later reads by itself, under a watch that stands or under the next such read.
//! 4. The last deletions are remembered. Who has seen its key at a revision `r`, and subscribes later, is
//!    told at once if the key is among them; if they reach back to `r`, it need not read.
//! 5. The store could not be reached for the patience, or refuses: all are told, and the hub is over. The
//!    task's runtime ends: all are told that, and go elsewhere.
//!
//! The last subscriber's end is the hub's.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use synod_store::{
    Event, EventFilter, EventKind, Key, KeyRange, RangeRequest, RangeResponse, Revision, Store,
    WatchRequest,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::sync::watch::Sender;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::slot::Slot;
use crate::span;
use crate::watch::{self, Lookout, Nudge};
use crate::{Error, Result, retry};

/// How many deletions are remembered.
const REMEMBERED: usize = 256;

/// One watch for many.
#[derive(Debug)]
pub(super) struct Hub {
    subscribers: Slot<Subscribers>,
    phase: Sender<Phase>,
    /// Ends the task with the last owner of the hub.
    _task: DropGuard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Standing,
    Over,
}

#[derive(Debug, Default)]
struct Subscribers {
    next: u64,
    by_key: HashMap<Key, Vec<Subscriber>>,
    recent: VecDeque<(Revision, Key)>,
    /// Every deletion after this revision that was told is in `recent`; unknown until the watch stands.
    complete_after: Option<Revision>,
}

impl Subscribers {
    /// When the key that was created then is known to have been gone.
    fn gone_at(&self, key: &Key, created: Revision) -> Option<Revision> {
        let later = |(revision, _): &&(Revision, Key)| *revision > created;
        let mut recent = self.recent.iter().rev().take_while(later);
        recent.find_map(|(at, gone)| (gone == key).then_some(*at))
    }

    fn remember(&mut self, revision: Revision, key: Key) {
        self.recent.push_back((revision, key));
        if self.recent.len() > REMEMBERED
            && let Some((oldest, _)) = self.recent.pop_front()
        {
            self.complete_after = self.complete_after.map(|after| after.max(oldest));
        }
    }

    /// Everything was read at this revision, for events may be missing before it.
    fn read_at(&mut self, revision: Revision) {
        self.recent.clear();
        self.complete_after = Some(revision);
    }
}

#[derive(Debug)]
struct Subscriber {
    number: u64,
    created: Revision,
    tell: oneshot::Sender<Word>,
}

/// What a subscriber is told, once.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// The key is gone; a revision at which it was.
    Gone(Revision),
    /// The hub is over, because of this.
    Failed(Error),
    /// The hub is over with the runtime that it ran in.
    Ended,
}

/// The part of one who waits for the end of a key. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Subscription {
    hub: Arc<Hub>,
    key: Key,
    number: u64,
    word: oneshot::Receiver<Word>,
    /// What was said, once it was.
    said: Option<Word>,
    /// Every deletion after this revision is, or was, told.
    since: Option<Revision>,
}

impl Hub {
    /// A hub without subscribers; it ends with its last owner.
    pub(super) fn start(
        runtime: &Handle,
        store: Arc<dyn Store>,
        prefix: Key,
        patience: Duration,
        net: Duration,
    ) -> Arc<Hub> {
        let ending = CancellationToken::new();
        let hub = Arc::new(Hub {
            subscribers: Slot::default(),
            phase: Sender::new(Phase::Opening),
            _task: ending.clone().drop_guard(),
        });
        let task = Task {
            hub: Arc::downgrade(&hub),
            store,
            prefix,
            patience,
            net,
        };
        runtime.spawn(span::task("line.watch", async move {
            tokio::select! {
                () = ending.cancelled() => {}
                Err(error) = task.follow() => task.end(&Word::Failed(error)),
            }
        }));
        hub
    }

    /// Whether it tells nobody anything any more.
    pub(super) fn is_over(&self) -> bool {
        *self.phase.borrow() == Phase::Over
    }

    pub(super) fn subscribe(hub: Arc<Hub>, key: Key, created: Revision) -> Subscription {
        let (tell, word) = oneshot::channel();
        let mut subscribers = hub.subscribers.lock();
        let number = subscribers.next;
        subscribers.next = number.wrapping_add(1);
        let subscriber = Subscriber {
            number,
            created,
            tell,
        };
        let since = subscribers.complete_after;
        if let Some(at) = subscribers.gone_at(&key, created) {
            let _ = subscriber.tell.send(Word::Gone(at));
        } else if !hub.is_over() {
            let of_key = subscribers.by_key.entry(key.clone()).or_default();
            of_key.push(subscriber);
        } // A hub that is over tells nobody: dropping the other end says so.
        drop(subscribers);
        Subscription {
            hub,
            key,
            number,
            word,
            said: None,
            since,
        }
    }

    /// Tells those of whose keys this is true that they were gone at this revision.
    fn tell(&self, at: Revision, gone: impl Fn(&Key, Revision) -> bool) {
        let mut subscribers = self.subscribers.lock();
        subscribers.by_key.retain(|key, of_key| {
            tell_some(of_key, at, |created| gone(key, created));
            !of_key.is_empty()
        });
    }

    fn tell_of(&self, event: &Event) {
        let mut subscribers = self.subscribers.lock();
        subscribers.remember(event.kv.mod_revision, event.kv.key.clone());
        if let Some(of_key) = subscribers.by_key.get_mut(&event.kv.key) {
            let at = event.kv.mod_revision;
            tell_some(of_key, at, |created| at > created);
        }
    }
}

/// Takes out those for whom this is true, and tells them.
fn tell_some(subscribers: &mut Vec<Subscriber>, at: Revision, gone: impl Fn(Revision) -> bool) {
    let told = subscribers.extract_if(.., |subscriber| gone(subscriber.created));
    for subscriber in told {
        // One who has left meanwhile need not know.
        let _ = subscriber.tell.send(Word::Gone(at));
    }
}

/// What runs as long as the hub.
struct Task {
    hub: Weak<Hub>,
    store: Arc<dyn Store>,
    prefix: Key,
    patience: Duration,
    /// After so long the prefix is read anew.
    net: Duration,
}

impl Task {
    async fn follow(&self) -> Result<Infallible> {
        let request = WatchRequest::new(KeyRange::prefix(&self.prefix)).without(EventFilter::NoPut);
        let open = || Lookout::open_with(Arc::clone(&self.store), request.clone(), self.net);
        let mut lookout = retry::insist(self.patience, open).await?;
        self.with_hub(|hub| {
            hub.subscribers.lock().read_at(lookout.since());
            hub.phase.send_if_modified(|phase| {
                let opening = *phase == Phase::Opening;
                if opening {
                    *phase = Phase::Standing;
                }
                opening
            });
        });
        let mut next_look = watch::jittered(self.net);
        loop {
            // Other keys' events must not keep the net from being cast.
            let next = tokio::time::timeout_at(next_look, lookout.next(Revision::ZERO));
            let Ok(nudge) = next.await else {
                next_look = watch::jittered(self.net);
                self.look().await?;
                continue;
            };
            match nudge {
                Ok(Nudge::Events(events)) => self.with_hub(|hub| {
                    for event in events
                        .iter()
                        .filter(|event| event.kind == EventKind::Delete)
                    {
                        hub.tell_of(event);
                    }
                }),
                Ok(Nudge::Read) => self.look().await?,
                // The read bears the trouble, or tells of it.
                Err(error) if error.is_transient() => self.look().await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn look(&self) -> Result<()> {
        let request = RangeRequest::new(KeyRange::prefix(&self.prefix)).keys_only();
        let read = || self.store.range(request.clone());
        let RangeResponse { header, kvs, .. } = retry::read(self.patience, read).await?;
        let there: HashMap<_, _> = kvs
            .into_iter()
            .map(|kv| (kv.key, kv.create_revision))
            .collect();
        let gone = |key: &Key, created: Revision| {
            created <= header.revision && there.get(key) != Some(&created)
        };
        self.with_hub(|hub| {
            hub.subscribers.lock().read_at(header.revision);
            hub.tell(header.revision, gone);
        });
        Ok(())
    }

    fn with_hub(&self, act: impl FnOnce(&Hub)) {
        if let Some(hub) = self.hub.upgrade() {
            act(&hub);
        }
    }

    /// Tells all subscribers the last word. None is taken in after it.
    fn end(&self, word: &Word) {
        self.with_hub(|hub| {
            let mut subscribers = hub.subscribers.lock();
            hub.phase.send_replace(Phase::Over);
            for (_, of_key) in subscribers.by_key.drain() {
                for subscriber in of_key {
                    let _ = subscriber.tell.send(word.clone());
                }
            }
        });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Also when the runtime drops it in the middle.
        self.end(&Word::Ended);
    }
}

impl Subscription {
    /// Everything that happens after this revision is told.
    pub(super) fn since(&self) -> Option<Revision> {
        self.since
    }

    /// Waits until the watch stands. False when the hub has ended with its runtime.
    pub(super) async fn stands(&mut self) -> Result<bool> {
        let mut phase = self.hub.phase.subscribe();
        let reached = phase.wait_for(|phase| *phase != Phase::Opening).await;
        if reached.is_ok_and(|phase| *phase == Phase::Standing) {
            return Ok(true);
        }
        match self.word().await {
            Word::Gone(_) => Ok(true),
            Word::Failed(error) => Err(error),
            Word::Ended => Ok(false),
        }
    }

    /// Waits for the word of the hub; the same one ever after.
    pub(super) async fn word(&mut self) -> Word {
        if let Some(said) = &self.said {
            return said.clone();
        }
        let word = (&mut self.word).await.unwrap_or(Word::Ended);
        self.said.insert(word).clone()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut subscribers = self.hub.subscribers.lock();
        if let Some(of_key) = subscribers.by_key.get_mut(&self.key) {
            of_key.retain(|subscriber| subscriber.number != self.number);
            if of_key.is_empty() {
                subscribers.by_key.remove(&self.key);
            }
        }
    }
}
