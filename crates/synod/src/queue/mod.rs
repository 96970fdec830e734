#![doc = include_str!("../../docs/queue.md")]
//!
//! # Key layout
//!
//! ```text
//! key            value        lease  written by   deleted by
//! NAME/STAMP     the payload  none   a producer   the consumer that takes it
//! ```
//!
//! `STAMP` is the producer's wall clock in nanoseconds since 1970, 19 decimal digits; never at or
//! below the highest that this client has given or seen in the queue. Any other suffix that begins
//! with a digit and has no `/` is an item too. `/` is appended to the name as it is.
//!
//! # Protocol
//!
//! *Enqueue*: `If create(NAME/STAMP)=0 Then put`; another stamp when it is taken. Many values: in
//! Txns of at most 125 values and 1 MiB, with stamps in a row: `If nothing lies in [first, last] Then put
//! each`. The values of callers who come
//! while a Txn of this client is on its way gather, and go in one Txn of at most 125 values and
//! 512 KiB, which is one operation for all of them; see `line.rs`.
//!
//! *Dequeue*, in one task for all local callers:
//! 1. *Look*: the first 256 items of `[NAME/0, NAME/:)` by key, in one bounded range; what lies below
//!    other names (`NAME/7/x`) is skipped. The one with the lowest modification revision is first; the key
//!    breaks ties. Values are read along while they are small and nobody competes, else the claim
//!    brings them. Stores count all that lies in a range, so once a look was full the next one ends at a
//!    guessed stamp, some hundred items further; only if that is too near it goes on behind it.
//! 2. *Claim*: delete the first that still has the modification revision that was seen: `If mod(c0)=r0
//!    Then delete(c0)`. As many as callers wait for go in one deletion of the range from the lowest of
//!    their keys to the highest, if nothing else is known there: `If mod(range)<=R Then delete(range)`, R
//!    being the revision of the look; see `run.rs`. Else key by key, all or else one. A consumer that meets others has the
//!    store search for the first that is left, around where it expects it: `If nothing lies in [c0, c8)
//!    Then (If nothing lies in [c0, c12) Then (...) Else (...)) Else (...)`; see `claim.rs`. A window of 256
//!    serves that many claims: whatever comes later has a higher modification revision. The next look
//!    begins at a cursor behind the dead keys: behind the last item that was there two seconds ago, and
//!    no further than two seconds before the last stamp behind that; every 5 s at the start. Another
//!    producer's lower stamp may come in late.
//! 3. *Empty*: a look that begins at the cursor is repeated from the start. If that
//!    finds nothing either, open a watch at now, wait until it stands, look again, and wait for its
//!    events. They are the next window. The watch is closed when a claim leaves something over, unless the
//!    consumer is alone: that one keeps it while no more than 2,048 items are known and not taken yet,
//!    and opens it too when it has looked several times within a moment and always saw the whole queue. Then it need not look at all, and
//!    the order is that of the commits, whatever the stamps say.
//! 4. *Race*: every consumer in the world sees the same event, and but one would lose its claim. Who has
//!    lost one holds back a random while before the next, which adapts until about one claim in six is
//!    lost, and sees through the watch what others take meanwhile. Who is alone never waits.
//!
//! On stores that can lose answers, every Txn goes through a lane (see *Guarantees*).
//!
//! # Round trips
//!
//! | call | certain store | store that can lose answers |
//! | --- | --- | --- |
//! | `enqueue` | 1 | 1 |
//! | n `enqueue` of tasks of one client at once | 1 and (n - 1) / 125, rounded up | the same |
//! | `enqueue_many` of n | n / 125, rounded up | the same |
//! | `dequeue` from a full queue | 1, and 1 every 256 items | the same |
//! | n `dequeue` of tasks of one client at once | n / 256, rounded up, and 1 every 256 items | the same |
//! | `dequeue_many` of n, alone, as fast as they come | n / 256, rounded up | the same |
//! | `dequeue` beside N - 1 other clients, on average | 1.1, and 1 every 230 / N items | the same |
//! | the same, with N = 8, while as many put items in | 1.4, looks among them | the same |
//! | `dequeue` from an empty queue | 3 to wait, 4 beside it after a second, 1 after an item comes | the same |
//! | `peek` | 2 | 2 |
//! | `len`, `list`, `clear` | 1 a page | 1 a page |
//!
//! A client's first changing call to a store that can lose answers takes two more. Its first item takes one more there,
//! which reads how large values are, and its ninth another one, which looks once more and reads them along (or the first
//! claim that may take so many): what is known before it is taken does not depend on the answer. The averages beside
//! others are what was counted (`docs/round-trips.md`), and no bound: how often a claim is lost depends on
//! who comes first.

mod aim;
mod browse;
mod claim;
mod claiming;
mod consumer;
pub mod delivery;
mod desk;
mod finding;
mod intake;
mod keys;
mod line;
mod look;
mod order;
mod producer;
mod pulse;
mod run;
mod scan;
mod stats;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use synod_store::{Key, Revision};

use crate::span::traced;
use crate::{Client, Result};

pub(crate) use consumer::Core;
pub use delivery::{EnqueueOptions, Enqueued};
use delivery::{Side, delivery_methods};
pub(crate) use desk::Item;
pub(crate) use keys::Fifo;
pub(crate) use look::WINDOW;
pub(crate) use order::Order;
pub(crate) use producer::{PAIR_BYTES, TXN_BYTES, too_large};
pub use stats::QueueStats;

/// A queue that many processes share: first in, first out. Handles are cheap to clone.
///
/// See the [module](self) for what it promises.
#[derive(Clone)]
pub struct Queue {
    core: Arc<Core<Fifo>>,
    name: Key,
    /// Keeps the client from ending.
    client: Client,
    side: Side<Fifo>,
}

/// An item of a queue, as [`Queue::peek`] and [`Queue::list`] see it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueItem {
    /// The item's key.
    pub key: Key,
    /// The value.
    pub value: Bytes,
    /// When it was put in.
    pub revision: Revision,
}

impl QueueItem {
    fn new(key: Key, value: Bytes, revision: Revision) -> QueueItem {
        QueueItem {
            key,
            value,
            revision,
        }
    }
}

impl Queue {
    pub(crate) fn new(client: Client, name: Key) -> Queue {
        let core = client
            .registry()
            .get("queue", &name, || Core::new(Fifo::new(&name), &client));
        Queue {
            core,
            name,
            client,
            side: Side::default(),
        }
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &Key {
        &self.name
    }

    /// The client that the queue belongs to.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What this client has done with the queue so far. Asks nobody.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.core.stats.read()
    }

    /// An error if the name is one of Synod's own.
    fn allowed(&self) -> Result<()> {
        self.client.check_name(&self.name)
    }

    /// Puts a value at the end. One round trip.
    ///
    /// Values that one task puts in, one after the other, come out in that order. Those of several tasks
    /// of one client at the same time go together in one Txn: a task waits at most for what is on its
    /// way as it calls, and shares one round trip with the others then.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped before it has answered, the value may be in the queue, once, or not;
    /// it may also come in a moment later. Values that go with it are not touched by that.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`](crate::Error::Unknown) when no answer came within the client's timeout: the value may be in, or
    /// come in later; [resolve](Client::resolve) the token before putting it in again; values that went
    /// together share one token.
    /// [`Error::ValueTooLarge`](crate::Error::ValueTooLarge), or what else the store answered: the value is not in.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let queue = synod::Client::connect("memory:").await?.queue("jobs");
    /// queue.enqueue("first").await?;
    /// assert_eq!(queue.dequeue().await?, "first");
    /// # Ok(()) }) }
    /// ```
    pub fn enqueue<V: AsRef<[u8]>>(
        &self,
        value: V,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, V> {
        let value = Bytes::copy_from_slice(value.as_ref());
        traced!("synod.queue.enqueue", object = self.name, async move {
            self.allowed()?;
            if self.side.options.capacity.is_some() {
                return self.handle().put_all(vec![(Bytes::new(), value)]).await;
            }
            self.core.join(value).await
        })
    }

    /// Puts a value at the end, late or only once; see [`EnqueueOptions`]. One round trip (two more, at
    /// most every minute, for the first with an id).
    ///
    /// # Cancel safety
    ///
    /// As [`Queue::enqueue`].
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`]; [`Error::InvalidArgument`](crate::Error::InvalidArgument) for options that
    /// make no sense. A value with an id may be put in again after [`Error::Unknown`](crate::Error::Unknown)
    /// without asking what became of the first.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// use synod::delivery::{EnqueueOptions, Enqueued};
    ///
    /// let queue = synod::Client::connect("memory:").await?.queue("jobs");
    /// let once = EnqueueOptions::new().with_id("order 4711");
    /// assert_eq!(queue.enqueue_with("ship it", once.clone()).await?, Enqueued::New);
    /// assert_eq!(queue.enqueue_with("ship it", once).await?, Enqueued::AlreadyThere);
    /// assert_eq!(queue.len().await?, 1);
    /// # Ok(()) }) }
    /// ```
    pub fn enqueue_with<V: AsRef<[u8]>>(
        &self,
        value: V,
        options: EnqueueOptions,
    ) -> impl Future<Output = Result<Enqueued>> + Send + use<'_, V> {
        let value = Bytes::copy_from_slice(value.as_ref());
        traced!("synod.queue.enqueue_with", object = self.name, async move {
            self.allowed()?;
            if options.is_plain() && self.side.options.capacity.is_none() {
                return self.core.join(value).await.map(|()| Enqueued::New);
            }
            self.handle().put(Bytes::new(), value, &options).await
        })
    }

    /// Puts several values at the end, in order, in as few Txns as their number (125 each) and size
    /// (1 MiB each) allow. None is a success that asks nobody.
    ///
    /// Synod's consumers take them out in order. Go's have no order for items of one Txn.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped before it has answered, any number of the first values may be in the
    /// queue; each Txn of them wholly or not.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`]; wrapped in [`Error::Partial`](crate::Error::Partial), which counts the values that are in,
    /// when more than one Txn was needed.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let queue = synod::Client::connect("memory:").await?.queue("jobs");
    /// queue.enqueue_many(["a", "b", "c"]).await?;
    /// assert_eq!(queue.dequeue_many(2).await?, ["a", "b"]);
    /// # Ok(()) }) }
    /// ```
    pub fn enqueue_many<V: AsRef<[u8]>, I: IntoIterator<Item = V>>(
        &self,
        values: I,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, V, I> {
        let values: Vec<Bytes> = values
            .into_iter()
            .map(|value| Bytes::copy_from_slice(value.as_ref()))
            .collect();
        traced!("synod.queue.enqueue_many", object = self.name, async move {
            self.allowed()?;
            if self.side.options.capacity.is_some() {
                let values = values.into_iter().map(|value| (Bytes::new(), value));
                return self.handle().put_all(values.collect()).await;
            }
            self.core.enqueue_many(values).await
        })
    }

    /// Takes the first value out; waits while the queue is empty.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped: a value that was already on its way goes to the next
    /// caller in this process, else back into the queue under its own key (behind those that were
    /// put in meanwhile). Only if the process dies before that is done, the value is gone: at most
    /// once.
    ///
    /// # Errors
    ///
    /// What the store answered, or [`Error::Timeout`](crate::Error::Timeout), when it could not be reached for longer than
    /// the client's timeout; a value taken in that time is not lost, but treated as above.
    /// [`Error::ItemLost`](crate::Error::ItemLost).
    pub async fn dequeue(&self) -> Result<Bytes> {
        traced!("synod.queue.dequeue", object = self.name, async move {
            self.allowed()?;
            self.handle().next().await
        })
        .await
    }

    /// Takes the first value out; `None` when the queue is empty.
    ///
    /// # Cancel safety
    ///
    /// As [`Queue::dequeue`].
    ///
    /// # Errors
    ///
    /// As [`Queue::dequeue`].
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let queue = synod::Client::connect("memory:").await?.queue("jobs");
    /// assert_eq!(queue.try_dequeue().await?, None);
    /// # Ok(()) }) }
    /// ```
    pub async fn try_dequeue(&self) -> Result<Option<Bytes>> {
        traced!("synod.queue.try_dequeue", object = self.name, async move {
            self.allowed()?;
            self.handle().next_now().await
        })
        .await
    }

    /// Takes the first value out; waits for it at most `timeout`, then returns `None`.
    ///
    /// # Cancel safety
    ///
    /// As [`Queue::dequeue`].
    ///
    /// # Errors
    ///
    /// As [`Queue::dequeue`].
    pub async fn dequeue_timeout(&self, timeout: Duration) -> Result<Option<Bytes>> {
        crate::within(timeout, self.dequeue()).await
    }

    /// Takes up to `max` values out, in order; waits until there is at least one. Asking for none
    /// returns at once.
    ///
    /// One answer holds at most 100 values, and about 8 MiB of them.
    ///
    /// # Cancel safety
    ///
    /// As [`Queue::dequeue`], for all of the values.
    ///
    /// # Errors
    ///
    /// As [`Queue::dequeue`].
    pub async fn dequeue_many(&self, max: usize) -> Result<Vec<Bytes>> {
        traced!("synod.queue.dequeue_many", object = self.name, async move {
            self.allowed()?;
            self.handle().next_many(max).await
        })
        .await
    }

    /// The values as a stream that waits for more and does not end; after an error it goes on with
    /// the next try.
    ///
    /// # Cancel safety
    ///
    /// Dropping the stream is like dropping a [`Queue::dequeue`].
    pub fn stream(&self) -> Items {
        let queue = self.clone();
        Items::new(futures_util::stream::unfold(queue, |queue| async move {
            let value = queue.dequeue().await;
            Some((value, queue))
        }))
    }

    /// How many values are in the queue. One round trip for every 2048 of them.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// What the store answered.
    pub async fn len(&self) -> Result<usize> {
        traced!("synod.queue.len", object = self.name, async move {
            self.allowed()?;
            self.core.len().await
        })
        .await
    }

    /// Whether the queue is empty. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// What the store answered.
    pub async fn is_empty(&self) -> Result<bool> {
        traced!("synod.queue.is_empty", object = self.name, async move {
            self.allowed()?;
            self.core.is_empty().await
        })
        .await
    }

    /// The item that would come out next, which stays where it is; `None` when the queue is empty.
    /// Two round trips.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// What the store answered.
    pub async fn peek(&self) -> Result<Option<QueueItem>> {
        traced!("synod.queue.peek", object = self.name, async move {
            self.allowed()?;
            self.core.peek().await
        })
        .await
    }

    /// The first `limit` items in the order in which they would come out; they stay where they are. Five
    /// round trips for the first 240, which are found among the 496 lowest keys, then one for every 1024; more where a
    /// page has 256 KiB of values, as pages grow no further then.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// What the store answered.
    pub async fn list(&self, limit: usize) -> Result<Vec<QueueItem>> {
        traced!("synod.queue.list", object = self.name, async move {
            self.allowed()?;
            self.core.list(limit).await
        })
        .await
    }

    /// Deletes all values that are there when it begins; returns how many it has deleted. One round
    /// trip for every 100 of them, and one for every 2048.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, any number of values may be deleted.
    ///
    /// # Errors
    ///
    /// What the store answered; some values may be deleted then.
    pub async fn clear(&self) -> Result<usize> {
        traced!("synod.queue.clear", object = self.name, async move {
            self.allowed()?;
            self.core.clear().await
        })
        .await
    }
}

delivery_methods!(
    Queue,
    Fifo,
    "queue",
    "let queue = client.queue(\"jobs\");\nqueue.enqueue(\"resize cat.png\").await?;"
);

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The stream that [`Queue::stream`] and
/// [`PriorityQueue::stream`](crate::PriorityQueue::stream) return.
#[must_use = "streams do nothing unless polled"]
pub struct Items {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
}

impl Items {
    pub(crate) fn new(items: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Items {
        Items {
            inner: Box::pin(items),
        }
    }
}

impl Stream for Items {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}
