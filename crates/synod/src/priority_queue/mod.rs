#![doc = include_str!("../../docs/priority_queue.md")]
//!
//! # Key layout
//!
//! ```text
//! key                                  value        lease  written by            deleted by
//! NAME/PPPPP/NUMBER                    the payload  none   a producer            the consumer that takes it
//! __NAME/PPPPP                         empty        none   whoever writes items  nobody
//! __synod/priority_queue/NAME/back     empty        none   whoever puts back     nobody
//! ```
//!
//! `PPPPP` is the priority, five decimal digits, `NUMBER` 16 of them: their order is that of the
//! items. `__NAME/PPPPP` is the priority's *base*: every Txn that writes an item of it writes the base
//! too. `/` is appended to the name as it is; keys of other shapes below it are no items.
//!
//! # Protocol
//!
//! *Enqueue*: `If mod(base)=b and create(NAME/PPPPP/N)=0 Then put(base), put(NAME/PPPPP/N)`, where at
//! the base's modification revision `b` no item had the number `N` or a higher one. Both are known from
//! one's own last Txn, or looked up: `b`, and the items from the last known number on, in one read; if
//! there are more than 128, their end is found by probes, never by reading them. When another producer
//! was first, look up and try again, after a random while, until the client's timeout. The producers
//! of one client take turns: the values of callers who come while a Txn is on its way gather, of any
//! priorities, and go in one Txn of at most 125 operations and 512 KiB, which is one operation for all of
//! them (see `queue/line.rs`). Many values: as many as fit, of any priorities, in each Txn.
//!
//! *Dequeue*: the [queue's](crate::queue) consumer, with another order and these differences:
//! 1. *Look*: the first 256 items by key, at revision `s`. After a full one the next ends at a guessed
//!    number of the last item's priority, and goes on behind it only if that was too near. Where all items before a cursor were gone
//!    at revision `g`, the look begins there: `If mod([__NAME/00000, __NAME/PPPPP])<=g Then range(from
//!    the cursor) Else range(from the start)`.
//! 2. *Claim*: each item under the condition that nothing has come before it since `s`: `If mod(c)=r and
//!    mod([__NAME/00000, __NAME/PPPPP))<=s and mod(back)<=s Then delete(c)`, the base of its own
//!    priority left out, as what is put there comes after it. A window of 256 serves that many claims.
//! 3. *Doubt*: when no candidate could be claimed, either they are gone or something more urgent has
//!    come. The watch tells, or a look.
//! 4. *Watch*: it stays open while at most 32 candidates are left, and what it has told by then is taken in
//!    before each claim: where the queue is short, anything that comes may be the first.
//!
//! *Back*: an item whose caller left goes back: `If create(item)=0 Then put(item), put(base), put(back)`.
//! If its key is in use by now, it is put at the end of its priority.
//!
//! # Why it holds
//!
//! *Nothing is overwritten*: whoever writes an item writes its base and compares it with what was read
//! (Go too), or compares the item's key with nothing. *The first comes out*: at `s` all items up to the
//! candidate were known. What is put in later behind a more urgent base, or back, changes a key that
//! the claim compares; what is put into the candidate's own priority gets a higher number, because the
//! candidate was there all the time. So at its commit the claim takes the first item there is.
//!
//! # Round trips
//!
//! | call | certain store | store that can lose answers |
//! | --- | --- | --- |
//! | `enqueue` | 1; 2 after others, and the first into a priority | the same |
//! | `enqueue` into a priority where others put in more than 128 items since | 4 to 7 | the same |
//! | `enqueue_many` of n into p priorities | (n + p) / 125, rounded up, and 1 to look up | the same |
//! | n `enqueue` of tasks of one client at once | 1 and (n - 1 + p) / 125, rounded up | the same |
//! | `dequeue` from a full queue | 1, and 1 every 256 items | the same |
//! | n `dequeue` of tasks of one client at once | n / 100, rounded up, and 1 every 256 items | the same |
//! | `dequeue` after something more urgent came | 3 | the same |
//! | `dequeue` from an empty queue | 3 to wait, 4 beside it after a second, 1 after an item comes | the same |
//! | `peek` | 2 | 2 |
//! | `len`, `list`, `clear` | 1 a page | 1 a page |
//!
//! A claim's compares cost the store as much as there are more urgent priorities that were ever used.
//! A client's first changing call to a store that can lose answers takes two more.

mod gate;
mod keys;
mod numbers;
mod producer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{ErrorKind, Key, Revision};

use crate::queue::delivery::{EnqueueOptions, Enqueued, Side, delivery_methods};
use crate::queue::{Core, Items, QueueItem, QueueStats};
use crate::span::traced;
use crate::{Client, Error, Result};

pub(crate) use keys::ByPriority;

/// A queue that many processes share, from which the lowest priority number comes out first, and
/// within a priority what went in first. Handles are cheap to clone.
///
/// See the [module](self) for what it promises.
#[derive(Clone)]
pub struct PriorityQueue {
    core: Arc<Core<ByPriority>>,
    name: Key,
    /// Keeps the client from ending.
    client: Client,
    side: Side<ByPriority>,
}

/// An item of a priority queue, as [`PriorityQueue::peek`] and [`PriorityQueue::list`] see it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PriorityItem {
    /// The item's key.
    pub key: Key,
    /// The value.
    pub value: Bytes,
    /// The priority: 0 is the most urgent.
    pub priority: u16,
    /// When it was put in.
    pub revision: Revision,
}

impl Client {
    /// The priority queue of this name. Asks nobody: a queue exists as long as it holds something.
    ///
    /// Handles of one name in one client share their reading, so that their callers do not compete.
    #[must_use]
    pub fn priority_queue(&self, name: impl Into<Key>) -> PriorityQueue {
        let name = name.into();
        let make = || {
            let own = self.own_prefix("priority_queue", &name);
            Core::new(ByPriority::new(&name, &own), self)
        };
        PriorityQueue {
            core: self.registry().get("priority_queue", &name, make),
            name: name.clone(),
            client: self.clone(),
            side: Side::default(),
        }
    }
}

impl PriorityQueue {
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

    /// An error if the name, or that of its books, is one of Synod's own.
    fn allowed(&self) -> Result<()> {
        self.client.check_name(&self.name)?;
        self.client.check_name(&keys::books(&self.name))
    }

    /// The error, with the way out when the user lacks a grant.
    fn explained(&self, error: Error) -> Error {
        match error {
            Error::Store(source) if source.kind() == ErrorKind::PermissionDenied => {
                Error::PriorityQueueDenied {
                    items: self.name.join("/").to_string(),
                    books: keys::books(&self.name).join("/").to_string(),
                    source,
                }
            }
            Error::Partial { done, source } => Error::Partial {
                done,
                source: Box::new(self.explained(*source)),
            },
            other => other,
        }
    }

    /// Puts a value behind all others of its priority. **The lower number comes out first**: 0 is the
    /// most urgent. One round trip, or two when another client was the last to put something into this
    /// priority.
    ///
    /// Values that one task puts into one priority, one after the other, come out in that order. Those
    /// of several tasks of one client at the same time go together in one Txn, whatever their priorities.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped before it has answered, the value may be in the queue, once, or not;
    /// it may also come in a moment later.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when no answer came within the client's timeout: the value may be in, or
    /// come in later; [resolve](Client::resolve) the token before putting it in again.
    /// [`Error::Timeout`] when other producers of this priority were first for so long, or the store
    /// could not be reached; [`Error::ValueTooLarge`]; [`Error::InvalidArgument`] when the queue holds an
    /// item with one of the last of 10^16 numbers; or what else the store answered: the value is not in.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let queue = synod::Client::connect("memory:").await?.priority_queue("jobs");
    /// queue.enqueue("can wait", 9).await?;
    /// queue.enqueue("urgent", 0).await?;
    /// assert_eq!(queue.dequeue().await?, "urgent");
    /// # Ok(()) }) }
    /// ```
    pub fn enqueue<V: AsRef<[u8]>>(
        &self,
        value: V,
        priority: u16,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, V> {
        let value = Bytes::copy_from_slice(value.as_ref());
        traced!(
            "synod.priority_queue.enqueue",
            object = self.name,
            async move {
                self.allowed()?;
                let done = if self.side.options.capacity.is_some() {
                    let entry = (gate::place_of(priority), value);
                    self.handle().put_all(vec![entry]).await
                } else {
                    self.core.join((priority, value)).await
                };
                done.map_err(|error| self.explained(error))
            }
        )
    }

    /// Puts a value behind all others of its priority, late or only once; see [`EnqueueOptions`]. Two
    /// round trips (one more, at most every minute, for the first with an id).
    ///
    /// # Cancel safety
    ///
    /// As [`PriorityQueue::enqueue`].
    ///
    /// # Errors
    ///
    /// As [`PriorityQueue::enqueue`]; [`Error::InvalidArgument`] for options that make no sense. A value
    /// with an id may be put in again after [`Error::Unknown`] without asking what became of the first.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// use std::time::Duration;
    /// use synod::delivery::EnqueueOptions;
    ///
    /// let queue = synod::Client::connect("memory:").await?.priority_queue("jobs");
    /// let late = EnqueueOptions::new().with_delay(Duration::from_millis(20));
    /// queue.enqueue_with("urgent, but not yet", 0, late).await?;
    /// assert_eq!(queue.len().await?, 0);
    /// assert_eq!(queue.dequeue().await?, "urgent, but not yet");
    /// # Ok(()) }) }
    /// ```
    pub fn enqueue_with<V: AsRef<[u8]>>(
        &self,
        value: V,
        priority: u16,
        options: EnqueueOptions,
    ) -> impl Future<Output = Result<Enqueued>> + Send + use<'_, V> {
        let value = Bytes::copy_from_slice(value.as_ref());
        traced!(
            "synod.priority_queue.enqueue_with",
            object = self.name,
            async move {
                self.allowed()?;
                let done = if options.is_plain() && self.side.options.capacity.is_none() {
                    let done = self.core.join((priority, value)).await;
                    done.map(|()| Enqueued::New)
                } else {
                    let place = gate::place_of(priority);
                    self.handle().put(place, value, &options).await
                };
                done.map_err(|error| self.explained(error))
            }
        )
    }

    /// Puts several values with their priorities in, in as few Txns as their number (at most 125 keys
    /// each, a value and each priority of the Txn is one) and size (1 MiB each) allow. None is a success
    /// that asks nobody.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped before it has answered, any number of the first values may be in the
    /// queue; each Txn of them wholly or not.
    ///
    /// # Errors
    ///
    /// As [`PriorityQueue::enqueue`]; wrapped in [`Error::Partial`], which counts the values that
    /// are in, when more than one Txn was needed.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let queue = synod::Client::connect("memory:").await?.priority_queue("jobs");
    /// queue.enqueue_many([("c", 3), ("a", 1), ("b", 2), ("A", 1)]).await?;
    /// assert_eq!(queue.dequeue_many(3).await?, ["a", "A", "b"]);
    /// # Ok(()) }) }
    /// ```
    pub fn enqueue_many<V: AsRef<[u8]>, I: IntoIterator<Item = (V, u16)>>(
        &self,
        values: I,
    ) -> impl Future<Output = Result<()>> + Send + use<'_, V, I> {
        let entries: Vec<(u16, Bytes)> = values
            .into_iter()
            .map(|(value, priority)| (priority, Bytes::copy_from_slice(value.as_ref())))
            .collect();
        traced!(
            "synod.priority_queue.enqueue_many",
            object = self.name,
            async move {
                self.allowed()?;
                if self.side.options.capacity.is_some() {
                    let entries = entries.into_iter();
                    let entries =
                        entries.map(|(priority, value)| (gate::place_of(priority), value));
                    let done = self.handle().put_all(entries.collect()).await;
                    return done.map_err(|error| self.explained(error));
                }
                let done = self.core.enqueue_many(entries).await;
                done.map_err(|error| self.explained(error))
            }
        )
    }

    /// Takes the most urgent value out; waits while the queue is empty.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped: a value that was already on its way goes back into the
    /// queue, to its old place. Only if the process dies before that is done, the value is gone: at
    /// most once.
    ///
    /// # Errors
    ///
    /// What the store answered, or [`Error::Timeout`], when it could not be reached for longer than
    /// the client's timeout; a value taken in that time is not lost, but treated as above.
    /// [`Error::ItemLost`].
    pub async fn dequeue(&self) -> Result<Bytes> {
        traced!(
            "synod.priority_queue.dequeue",
            object = self.name,
            async move {
                self.allowed()?;
                let items = self.handle().next().await;
                items.map_err(|error| self.explained(error))
            }
        )
        .await
    }

    /// Takes the most urgent value out; `None` when the queue is empty.
    ///
    /// # Cancel safety
    ///
    /// As [`PriorityQueue::dequeue`].
    ///
    /// # Errors
    ///
    /// As [`PriorityQueue::dequeue`].
    pub async fn try_dequeue(&self) -> Result<Option<Bytes>> {
        traced!(
            "synod.priority_queue.try_dequeue",
            object = self.name,
            async move {
                self.allowed()?;
                let items = self.handle().next_now().await;
                items.map_err(|error| self.explained(error))
            }
        )
        .await
    }

    /// Takes the most urgent value out; waits for one at most `timeout`, then returns `None`.
    ///
    /// # Cancel safety
    ///
    /// As [`PriorityQueue::dequeue`].
    ///
    /// # Errors
    ///
    /// As [`PriorityQueue::dequeue`].
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
    /// As [`PriorityQueue::dequeue`], for all of the values.
    ///
    /// # Errors
    ///
    /// As [`PriorityQueue::dequeue`].
    pub async fn dequeue_many(&self, max: usize) -> Result<Vec<Bytes>> {
        traced!(
            "synod.priority_queue.dequeue_many",
            object = self.name,
            async move {
                self.allowed()?;
                let items = self.handle().next_many(max).await;
                items.map_err(|error| self.explained(error))
            }
        )
        .await
    }

    /// The values as a stream that waits for more and does not end; after an error it goes on with
    /// the next try.
    ///
    /// # Cancel safety
    ///
    /// Dropping the stream is like dropping a [`PriorityQueue::dequeue`].
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
        traced!("synod.priority_queue.len", object = self.name, async move {
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
        traced!(
            "synod.priority_queue.is_empty",
            object = self.name,
            async move {
                self.allowed()?;
                self.core.is_empty().await
            }
        )
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
    pub async fn peek(&self) -> Result<Option<PriorityItem>> {
        traced!(
            "synod.priority_queue.peek",
            object = self.name,
            async move {
                self.allowed()?;
                Ok(self.core.peek().await?.map(|item| self.item(item)))
            }
        )
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
    pub async fn list(&self, limit: usize) -> Result<Vec<PriorityItem>> {
        traced!(
            "synod.priority_queue.list",
            object = self.name,
            async move {
                self.allowed()?;
                let items = self.core.list(limit).await?;
                Ok(items.into_iter().map(|item| self.item(item)).collect())
            }
        )
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
        traced!(
            "synod.priority_queue.clear",
            object = self.name,
            async move {
                self.allowed()?;
                self.core.clear().await
            }
        )
        .await
    }

    fn item(&self, item: QueueItem) -> PriorityItem {
        PriorityItem {
            // Whatever is listed has one.
            priority: self.core.order.priority(&item.key).unwrap_or(u16::MAX),
            key: item.key,
            value: item.value,
            revision: item.revision,
        }
    }
}

delivery_methods!(
    PriorityQueue,
    ByPriority,
    "priority_queue",
    "let queue = client.priority_queue(\"jobs\");\nqueue.enqueue(\"resize cat.png\", 7).await?;"
);

impl fmt::Debug for PriorityQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriorityQueue")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
