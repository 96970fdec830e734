//! [`Side`]: the part of a queue's handle that deliveries need, and the methods that both kinds of
//! queue offer alike.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use synod_store::Key;

use super::depot::Depot;
use super::options::{EnqueueOptions, Enqueued, Options};
use super::taker::Taker;
use super::tender::LONGER;
use super::{Delivery, GLANCES, Gate};
use crate::queue::{Core, Order};
use crate::{Client, Error, Result};

/// What a handle knows of deliveries.
#[derive(Debug)]
pub(crate) struct Side<O: Order> {
    /// Clones of a handle keep it alive, so that what one has seen serves all.
    taker: Arc<OnceLock<Arc<Taker<O>>>>,
    pub(crate) options: Options,
}

impl<O: Order> Clone for Side<O> {
    fn clone(&self) -> Side<O> {
        Side {
            taker: Arc::clone(&self.taker),
            options: self.options,
        }
    }
}

impl<O: Order> Default for Side<O> {
    fn default() -> Side<O> {
        Side {
            taker: Arc::default(),
            options: Options::default(),
        }
    }
}

/// The other parts of the handle.
#[derive(Debug)]
pub(crate) struct Handle<'h, O: Order> {
    pub(crate) side: &'h Side<O>,
    pub(crate) client: &'h Client,
    pub(crate) core: &'h Arc<Core<O>>,
    pub(crate) name: &'h Key,
    /// What kind of queue it is, in keys.
    pub(crate) kind: &'static str,
}

impl<O: Order> Handle<'_, O>
where
    Core<O>: Gate,
{
    fn taker(&self) -> &Arc<Taker<O>> {
        self.side.taker.get_or_init(|| {
            let own = self.client.own_prefix(self.kind, self.name);
            Taker::of(self.client, self.core, self.name, &own)
        })
    }

    pub(crate) fn depot(&self) -> &Arc<Depot> {
        &self.taker().depot
    }

    /// How many callers wait for a delivery.
    #[cfg(test)]
    pub(crate) fn takers_in_line(&self) -> usize {
        self.taker().wants.lock().len()
    }

    /// Takes up to `max` items; waits for the first one if asked to.
    pub(crate) async fn take(&self, max: usize, waits: bool) -> Result<Vec<Delivery>> {
        let options = self.side.options.check()?;
        if max == 0 {
            return Ok(Vec::new());
        }
        let taker = self.taker();
        loop {
            let taken = taker.take(self.client, options, max, waits).await?;
            if !taken.is_empty() || !waits {
                return Ok(taken);
            }
        }
    }

    pub(crate) async fn put(
        &self,
        place: Bytes,
        value: Bytes,
        options: &EnqueueOptions,
    ) -> Result<Enqueued> {
        let size = value.len();
        let capacity = self.side.options.capacity;
        let put = self.depot().put(place, value, capacity, options).await;
        put.map_err(|error| crate::queue::too_large(error, size))
    }

    /// Puts values in one after the other, each only if there is room.
    pub(crate) async fn put_all(&self, values: Vec<(Bytes, Bytes)>) -> Result<()> {
        let (options, several) = (EnqueueOptions::new(), values.len() > 1);
        for (done, (place, value)) in values.into_iter().enumerate() {
            match self.put(place, value, &options).await {
                Ok(_) => {}
                Err(source) if several => {
                    return Err(Error::Partial {
                        done,
                        source: Box::new(source),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes the first item out for good; waits for one, also for those that are delayed or that come back.
    pub(crate) async fn next(&self) -> Result<Bytes> {
        self.attend(self.core.next()).await
    }

    /// As [`Handle::next`], up to so many.
    pub(crate) async fn next_many(&self, max: usize) -> Result<Vec<Bytes>> {
        self.attend(self.core.next_many(max)).await
    }

    /// Takes the first item out for good, if there is one.
    pub(crate) async fn next_now(&self) -> Result<Option<Bytes>> {
        let taken = self.core.next_now().await?;
        if taken.is_some() || !self.depot().is_due(GLANCES) {
            return Ok(taken);
        }
        // Somebody who died may have left something.
        match self.depot().round().await {
            Ok(round) if round.moved > 0 => self.core.next_now().await,
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::debug!(%error, "items on their way could not be looked at");
                Ok(None)
            }
        }
    }

    async fn attend<T>(&self, taking: impl Future<Output = T>) -> T {
        tokio::pin!(taking);
        if let Ok(taken) = tokio::time::timeout(PATIENT, &mut taking).await {
            self.glance();
            return taken;
        }
        loop {
            // Asked for anew now and then: it ends with the runtime of the caller that it began with.
            let _tended = self.depot().tended(LONGER);
            if let Ok(taken) = tokio::time::timeout(GLANCES, &mut taking).await {
                return taken;
            }
        }
    }

    /// Who never waits looks around now and then.
    fn glance(&self) {
        let taker = self.side.taker.get();
        let known = taker.is_some_and(|taker| taker.depot.knows_of_due());
        if (known || self.core.glances(GLANCES))
            && let Ok(runtime) = crate::runtime()
        {
            self.depot().tend_when_due(&runtime, GLANCES);
        }
    }
}

/// Who has waited so long hears from then on when an item is due, or comes back. It costs two watches, which those who find
/// something sooner need not have.
const PATIENT: Duration = Duration::from_secs(1);

/// Makes the methods that a handle of either kind has.
macro_rules! delivery_methods {
    ($handle:ident, $order:ty, $kind:literal, $put:literal) => {
        impl $handle {
            pub(crate) fn handle(&self) -> $crate::queue::delivery::Handle<'_, $order> {
                $crate::queue::delivery::Handle {
                    side: &self.side,
                    client: &self.client,
                    core: &self.core,
                    name: &self.name,
                    kind: $kind,
                }
            }

            /// How long an item that this handle takes stays its taker's, unless that is
            /// [extended](crate::Delivery::extend): 30 s unless set. Stores count whole seconds, rounded
            /// up, and grant at least two.
            #[must_use]
            pub fn with_visibility(mut self, visibility: std::time::Duration) -> $handle {
                self.side.options.visibility = visibility;
                self
            }

            /// How often an item that this handle takes may be handed out before it becomes a
            /// [dead letter](crate::delivery::DeadLetters): 5 times unless set, `None` for no limit. What
            /// counts for an item is the handle that took it last.
            #[must_use]
            pub fn with_max_attempts(mut self, attempts: impl Into<Option<u32>>) -> $handle {
                self.side.options.max_attempts = attempts.into();
                self
            }

            /// How many items there may be for this handle to put another one in; `None`, as unless
            /// set, for no limit. Those on their way and those delayed count, dead letters do not.
            ///
            /// Exact among handles that have a capacity, however many put in at once; all of them should
            /// have the same. Producers without one, and Go's, put in as much as they want. Each value
            /// costs two round trips then, and a Txn of its own.
            #[must_use]
            pub fn with_capacity(mut self, capacity: impl Into<Option<u64>>) -> $handle {
                self.side.options.capacity = capacity.into();
                self
            }

            /// Takes the first item, to be [acknowledged](crate::Delivery::ack) when the work is done;
            /// waits while there is none.
            ///
            /// One round trip while items that were seen last time are left, two with a new look, four the first
            /// time; on an empty queue six until it waits.
            ///
            /// # Cancel safety
            ///
            /// Nothing is lost when this is dropped: an item that was already on its way goes back
            /// into the queue as if it had been [given back](crate::Delivery::nack), but its attempt does
            /// not count.
            ///
            /// # Errors
            ///
            /// What the store answered, or [`Error::Timeout`](crate::Error::Timeout), when it could not be
            /// reached for longer than the client's timeout; an item taken in that time goes back.
            /// [`Error::ValueTooLarge`](crate::Error::ValueTooLarge) when the first item leaves no room
            /// for what is written beside it (about 1 KiB): only a dequeue gets it out.
            /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a visibility bound or a number
            /// of attempts of 0.
            ///
            /// # Examples
            ///
            /// ```
            /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
            /// # let client = synod::Client::connect("memory:").await?;
            #[doc = $put]
            /// let job = queue.take().await?;
            /// assert_eq!((job.value().as_ref(), job.attempt()), (&b"resize cat.png"[..], 1));
            /// job.ack().await?;
            /// # Ok(()) }) }
            /// ```
            pub async fn take(&self) -> $crate::Result<$crate::Delivery> {
                traced!(
                    concat!("synod.", $kind, ".take"),
                    object = self.name,
                    async move {
                        self.allowed()?;
                        loop {
                            if let Some(delivery) = self.handle().take(1, true).await?.pop() {
                                return Ok(delivery);
                            }
                        }
                    }
                )
                .await
            }

            /// Takes up to `max` of the first items at once, in order; waits for the first one. As many
            /// as one request can move: 100 at most, less of large values.
            ///
            /// Each is a delivery of its own, to be acknowledged or given back by itself. Those that are
            /// acknowledged at the same time share a round trip, as with `futures::future::join_all`.
            ///
            /// # Cancel safety
            ///
            #[doc = concat!("As [`", stringify!($handle), "::take`].")]
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`", stringify!($handle), "::take`].")]
            ///
            /// # Examples
            ///
            /// ```
            /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
            /// # let client = synod::Client::connect("memory:").await?;
            #[doc = $put]
            /// for job in queue.take_many(10).await? {
            ///     assert_eq!(job.value().as_ref(), b"resize cat.png");
            ///     job.ack().await?;
            /// }
            /// # Ok(()) }) }
            /// ```
            pub async fn take_many(&self, max: usize) -> $crate::Result<Vec<$crate::Delivery>> {
                traced!(
                    concat!("synod.", $kind, ".take_many"),
                    object = self.name,
                    async move {
                        self.allowed()?;
                        self.handle().take(max, true).await
                    }
                )
                .await
            }

            /// Takes the first item; `None` when there is none.
            ///
            /// # Cancel safety
            ///
            #[doc = concat!("As [`", stringify!($handle), "::take`].")]
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`", stringify!($handle), "::take`].")]
            pub async fn try_take(&self) -> $crate::Result<Option<$crate::Delivery>> {
                traced!(
                    concat!("synod.", $kind, ".try_take"),
                    object = self.name,
                    async move {
                        self.allowed()?;
                        let taken = self.handle().take(1, false).await;
                        taken.map(|mut taken| taken.pop())
                    }
                )
                .await
            }

            /// Takes the first item; waits for it at most `timeout`, then returns `None`.
            ///
            /// # Cancel safety
            ///
            #[doc = concat!("As [`", stringify!($handle), "::take`].")]
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`", stringify!($handle), "::take`].")]
            pub async fn take_timeout(
                &self,
                timeout: std::time::Duration,
            ) -> $crate::Result<Option<$crate::Delivery>> {
                $crate::within(timeout, self.take()).await
            }

            /// The items that were handed out as often as they may be, and came back.
            #[must_use]
            pub fn dead(&self) -> $crate::delivery::DeadLetters {
                let depot = std::sync::Arc::clone(self.handle().depot());
                $crate::delivery::DeadLetters::new(depot, self.client.clone(), self.allowed())
            }
        }
    };
}

pub(crate) use delivery_methods;
