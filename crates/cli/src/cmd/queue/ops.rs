//! What can be done to a queue, and how its answers are shown: the same at the prompt and in
//! scripts.

use bytes::Bytes;
use serde_json::json;
use synod::{Client, Queue};

use crate::explain::explain;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Output, notice};

/// A queue, for somebody who types.
#[derive(Debug)]
pub(super) struct Ops {
    queue: Queue,
    name: String,
}

impl Ops {
    pub(super) fn new(client: &Client, name: &str) -> Ops {
        Ops {
            queue: client.queue(name),
            name: name.to_owned(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Appends values, in order.
    pub(super) async fn push(&self, values: Vec<Bytes>) -> Result<()> {
        let pushed = match values.as_slice() {
            [value] => self.queue.enqueue(value).await,
            values => self.queue.enqueue_many(values).await,
        };
        pushed.map_err(|error| explain(&format!("cannot push to {}", self.name), &error))
    }

    /// Takes the oldest item; waits for one.
    pub(super) async fn take(&self) -> Result<Bytes> {
        self.queue
            .dequeue()
            .await
            .map_err(|error| self.cannot_pop(&error))
    }

    /// Takes the oldest item, if there is one.
    pub(super) async fn try_take(&self) -> Result<Option<Bytes>> {
        self.queue
            .try_dequeue()
            .await
            .map_err(|error| self.cannot_pop(&error))
    }

    fn cannot_pop(&self, error: &synod::Error) -> Failure {
        explain(&format!("cannot pop from {}", self.name), error)
    }

    /// Prints an item that was taken. One that cannot be printed is pushed again, so that it is not
    /// lost; it has lost its place.
    pub(super) async fn show(&self, item: Bytes, out: &mut Output) -> Result<()> {
        let Err(error) = out.value(&item, json!({})) else {
            return Ok(());
        };
        match self.queue.enqueue(&item).await {
            Ok(()) => {
                notice("an item could not be printed: it was pushed again, to the end");
                Err(error.into())
            }
            Err(lost) => Err(explain(
                &format!(
                    "an item of {} bytes was taken, could neither be printed ({error}) nor pushed \
                     again, and is lost",
                    item.len()
                ),
                &lost,
            )),
        }
    }

    /// Prints how many items there are.
    pub(super) async fn len(&self, out: &mut Output) -> Result<()> {
        let len = self
            .queue
            .len()
            .await
            .map_err(|error| self.cannot_read(&error))?;
        Ok(out.line(&len.to_string(), json!({ "len": len }))?)
    }

    /// Prints the oldest item, if there is one; tells whether there is.
    pub(super) async fn peek(&self, out: &mut Output) -> Result<bool> {
        let item = self
            .queue
            .peek()
            .await
            .map_err(|error| self.cannot_read(&error))?;
        let Some(item) = item else {
            return Ok(false);
        };
        out.value(&item.value, json!({ "key": item.key.to_string() }))?;
        Ok(true)
    }

    /// Prints all items.
    pub(super) async fn list(&self, out: &mut Output) -> Result<()> {
        let items = self
            .queue
            .list(usize::MAX)
            .await
            .map_err(|error| self.cannot_read(&error))?;
        for item in items {
            out.value(&item.value, json!({ "key": item.key.to_string() }))?;
        }
        Ok(())
    }

    fn cannot_read(&self, error: &synod::Error) -> Failure {
        explain(&format!("cannot read {}", self.name), error)
    }

    /// Removes all items; tells how many there were.
    pub(super) async fn clear(&self) -> Result<usize> {
        self.queue
            .clear()
            .await
            .map_err(|error| explain(&format!("cannot clear {}", self.name), &error))
    }

    /// What is said of an empty queue where an item is needed.
    pub(super) fn empty(&self) -> Failure {
        Failure::new(Exit::Nothing, format!("{} is empty", self.name))
    }
}
