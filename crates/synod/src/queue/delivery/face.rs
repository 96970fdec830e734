//! What a queue's handle offers beside `enqueue` and `dequeue`.

use std::sync::Arc;
use std::time::Duration;

use super::Delivery;
use super::taker::Taker;
#[cfg(doc)]
use crate::Error;
use crate::Result;
use crate::queue::Queue;
use crate::queue::keys::Fifo;

impl Queue {
    pub(super) fn taker(&self) -> Arc<Taker<Fifo>> {
        let own = self.client.own_prefix("queue", &self.name);
        Taker::of(&self.client, &self.core, &self.name, &own)
    }

    /// How long an item that this handle [takes](Queue::take) stays its taker's, unless that is
    /// [extended](Delivery::extend): 30 s unless set. Stores count whole seconds, rounded up, and
    /// grant at least two.
    #[must_use]
    pub fn with_visibility(mut self, visibility: Duration) -> Queue {
        self.options.visibility = visibility;
        self
    }

    /// How often an item that this handle [takes](Queue::take) may be handed out before it becomes a
    /// dead letter: 5 times unless set, `None` for no limit. What counts for an item is the
    /// handle that took it last.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: impl Into<Option<u32>>) -> Queue {
        self.options.max_attempts = attempts.into();
        self
    }

    /// Takes the first item, to be [acknowledged](Delivery::ack) when the work is done; waits while
    /// the queue is empty.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped: an item that was already on its way goes back into the
    /// queue, behind what is there; its attempt does not count.
    ///
    /// # Errors
    ///
    /// What the store answered, or [`Error::Timeout`], when it could not be reached for longer than
    /// the client's timeout; an item taken in that time goes back. [`Error::ValueTooLarge`] when the
    /// first item leaves no room for what is written beside it (about 1 KiB).
    /// [`Error::InvalidArgument`] for a visibility bound or a number of attempts of 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let queue = synod::Client::connect("memory:").await?.queue("jobs");
    /// queue.enqueue("resize cat.png").await?;
    /// let job = queue.take().await?;
    /// assert_eq!((job.value().as_ref(), job.attempt()), (&b"resize cat.png"[..], 1));
    /// job.ack().await?;
    /// # Ok(()) }) }
    /// ```
    pub async fn take(&self) -> Result<Delivery> {
        loop {
            if let Some(delivery) = self.taken(true).await? {
                return Ok(delivery);
            }
        }
    }

    /// Takes the first item; `None` when the queue is empty.
    ///
    /// # Cancel safety
    ///
    /// As [`Queue::take`].
    ///
    /// # Errors
    ///
    /// As [`Queue::take`].
    pub async fn try_take(&self) -> Result<Option<Delivery>> {
        self.taken(false).await
    }

    /// Takes the first item; waits for it at most `timeout`, then returns `None`.
    ///
    /// # Cancel safety
    ///
    /// As [`Queue::take`].
    ///
    /// # Errors
    ///
    /// As [`Queue::take`].
    pub async fn take_timeout(&self, timeout: Duration) -> Result<Option<Delivery>> {
        match tokio::time::timeout(timeout, self.take()).await {
            Ok(delivery) => delivery.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn taken(&self, waits: bool) -> Result<Option<Delivery>> {
        self.allowed()?;
        let options = self.options.check()?;
        self.taker().take(&self.client, options, waits).await
    }
}
