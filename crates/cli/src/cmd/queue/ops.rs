//! What can be done to a queue of either kind, and how its answers are shown: the same at the prompt
//! and in scripts.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use synod::delivery::EnqueueOptions;
use synod::{Error, PriorityQueue, Queue};
use synod_store::Key;
use tokio::time::timeout;

use crate::args::{PushHow, TakeArgs};
use crate::explain::explain;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;

/// A queue of either kind.
#[derive(Debug, Clone)]
pub(super) enum Any {
    Queue(Queue),
    Priority(PriorityQueue),
}

/// Calls the same method of either.
macro_rules! either {
    ($any:expr, $queue:ident => $call:expr) => {
        match $any {
            $crate::cmd::queue::ops::Any::Queue($queue) => $call,
            $crate::cmd::queue::ops::Any::Priority($queue) => $call,
        }
    };
}
pub(super) use either;

/// How long a store may take to answer that it is there.
const ANSWER: Duration = Duration::from_secs(2);

/// A queue, for somebody who types.
#[derive(Debug)]
pub(super) struct Ops {
    any: Any,
    name: String,
}

/// A value to push, with its priority in a priority queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    pub(super) priority: Option<u16>,
}

/// Why something cannot be pushed: the words of the prompt.
pub(super) const MUST_SET_VALUE: &str = "must set value to push";
pub(super) const MUST_SET_BOTH: &str = "must set value and priority to push";
pub(super) const MUST_SET_UINT16: &str = "must set uint16 as priority";

/// A priority, as it is typed: digits and nothing else.
pub(super) fn priority(text: &[u8]) -> Option<u16> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Ops {
    pub(super) fn new(any: Any, name: &str) -> Ops {
        Ops {
            any,
            name: name.to_owned(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn any(&self) -> &Any {
        &self.any
    }

    pub(super) fn is_priority(&self) -> bool {
        matches!(self.any, Any::Priority(_))
    }

    /// What stands on a line: a value, or a value and its priority; or the words that say what is
    /// missing.
    pub(super) fn entry(&self, words: &[Vec<u8>]) -> Result<Entry, &'static str> {
        let entry = |value: &[u8], priority| Entry {
            value: Bytes::copy_from_slice(value),
            priority,
        };
        match (&self.any, words) {
            (Any::Queue(_), [value]) => Ok(entry(value, None)),
            (Any::Queue(_), _) => Err(MUST_SET_VALUE),
            (Any::Priority(_), [value, number]) => match priority(number) {
                Some(number) => Ok(entry(value, Some(number))),
                None => Err(MUST_SET_UINT16),
            },
            (Any::Priority(_), _) => Err(MUST_SET_BOTH),
        }
    }

    /// Puts entries in, in order, and counts those that went in, also when others could not.
    pub(super) async fn push(&self, entries: &[Entry], count: &mut usize) -> Result<()> {
        let pushed = match (&self.any, entries) {
            (Any::Queue(queue), [entry]) => queue.enqueue(&entry.value).await,
            (Any::Queue(queue), entries) => {
                let values = entries.iter().map(|entry| &entry.value);
                queue.enqueue_many(values).await
            }
            (Any::Priority(queue), entries) => {
                let pairs = entries
                    .iter()
                    .map(|entry| (&entry.value, entry.priority.unwrap_or_default()));
                queue.enqueue_many(pairs).await
            }
        };
        let (done, pushed) = match pushed {
            Ok(()) => (entries.len(), Ok(())),
            Err(Error::Partial { done, source }) => (done, Err(self.cannot_push(&source))),
            Err(error) => (0, Err(self.cannot_push(&error))),
        };
        *count = count.saturating_add(done);
        pushed
    }

    /// Puts one in as these options say; false when one with the same id was put in before.
    pub(super) async fn push_with(&self, entry: &Entry, how: &PushHow) -> Result<bool> {
        let mut options = EnqueueOptions::new();
        if let Some(delay) = how.delay {
            options = options.with_delay(delay);
        }
        if let Some(id) = &how.id {
            options = options.with_id(id);
        }
        if let Some(window) = how.id_window {
            options = options.with_id_window(window);
        }
        let pushed = match &self.any {
            Any::Queue(queue) => {
                let queue = queue.clone().with_capacity(how.capacity);
                queue.enqueue_with(&entry.value, options).await
            }
            Any::Priority(queue) => {
                let queue = queue.clone().with_capacity(how.capacity);
                let priority = entry.priority.unwrap_or_default();
                queue.enqueue_with(&entry.value, priority, options).await
            }
        };
        let pushed = pushed.map_err(|error| self.cannot_push(&error))?;
        Ok(pushed.is_new())
    }

    /// The queue, for taking as these options say.
    pub(super) fn taking(&self, args: &TakeArgs) -> Any {
        let attempts = args.max_attempts;
        let attempts = (attempts > 0).then_some(attempts);
        match self.any.clone() {
            Any::Queue(queue) => Any::Queue(
                queue
                    .with_visibility(args.visibility)
                    .with_max_attempts(attempts),
            ),
            Any::Priority(queue) => Any::Priority(
                queue
                    .with_visibility(args.visibility)
                    .with_max_attempts(attempts),
            ),
        }
    }

    fn cannot_push(&self, error: &synod::Error) -> Failure {
        explain(&format!("cannot push to {}", self.name), error)
    }

    /// Takes the first item; waits for one.
    pub(super) async fn take(&self) -> Result<Bytes> {
        either!(&self.any, queue => queue.dequeue().await).map_err(|error| self.cannot_pop(&error))
    }

    /// Takes the first item, if there is one.
    pub(super) async fn try_take(&self) -> Result<Option<Bytes>> {
        either!(&self.any, queue => queue.try_dequeue().await)
            .map_err(|error| self.cannot_pop(&error))
    }

    fn cannot_pop(&self, error: &synod::Error) -> Failure {
        explain(&format!("cannot pop from {}", self.name), error)
    }

    /// Prints an item that was taken. One that cannot be printed is pushed again, so that it is not
    /// lost; it has lost its place, which is a failure also when it is only that the reader went away. In
    /// a priority queue it comes before all others then: it was the first.
    pub(super) async fn show(&self, item: Bytes, out: &mut Output) -> Result<()> {
        let Err(error) = out.value(&item, json!({})) else {
            return Ok(());
        };
        let (pushed, place) = match &self.any {
            Any::Queue(queue) => (queue.enqueue(&item).await, "to the end"),
            Any::Priority(queue) => (queue.enqueue(&item, 0).await, "with priority 0"),
        };
        match pushed {
            Ok(()) => Err(Failure::failed(format!(
                "an item could not be printed: it was pushed again, {place}"
            ))
            .because(&error)
            .at_once()),
            Err(lost) => Err(explain(
                &format!(
                    "an item of {} bytes was taken, could neither be printed ({error}) nor pushed \
                     again, and is lost",
                    item.len()
                ),
                &lost,
            )
            .at_once()),
        }
    }

    /// Prints how many items there are.
    pub(super) async fn len(&self, out: &mut Output) -> Result<()> {
        let len = either!(&self.any, queue => queue.len().await)
            .map_err(|error| self.cannot_read(&error))?;
        Ok(out.line(&len.to_string(), json!({ "len": len }))?)
    }

    /// Prints the first item, if there is one; tells whether there is.
    pub(super) async fn peek(&self, out: &mut Output) -> Result<bool> {
        let first = match &self.any {
            Any::Queue(queue) => {
                let item = queue.peek().await;
                item.map(|item| item.map(|item| (item.value, fields(&item.key, None))))
            }
            Any::Priority(queue) => {
                let item = queue.peek().await;
                item.map(|item| {
                    item.map(|item| (item.value, fields(&item.key, Some(item.priority))))
                })
            }
        };
        let Some((value, fields)) = first.map_err(|error| self.cannot_read(&error))? else {
            return Ok(false);
        };
        out.value(&value, fields)?;
        Ok(true)
    }

    /// Prints all items.
    pub(super) async fn list(&self, out: &mut Output) -> Result<()> {
        match &self.any {
            Any::Queue(queue) => {
                let items = queue.list(usize::MAX).await;
                for item in items.map_err(|error| self.cannot_read(&error))? {
                    out.value(&item.value, fields(&item.key, None))?;
                }
            }
            Any::Priority(queue) => {
                let items = queue.list(usize::MAX).await;
                for item in items.map_err(|error| self.cannot_read(&error))? {
                    out.value(&item.value, fields(&item.key, Some(item.priority)))?;
                }
            }
        }
        Ok(())
    }

    fn cannot_read(&self, error: &synod::Error) -> Failure {
        explain(&format!("cannot read {}", self.name), error)
    }

    /// Removes all items; tells how many there were.
    pub(super) async fn clear(&self) -> Result<usize> {
        either!(&self.any, queue => queue.clear().await)
            .map_err(|error| explain(&format!("cannot clear {}", self.name), &error))
    }

    /// Whether the store answers. That nothing has come says nothing of a queue whose store is gone.
    pub(super) async fn answers(&self) -> Result<()> {
        let asked = timeout(ANSWER, async {
            either!(&self.any, queue => queue.is_empty().await)
        });
        match asked.await {
            Ok(asked) => asked.map(|_| ()).map_err(|error| self.cannot_read(&error)),
            Err(_) => {
                let after = Error::Timeout { after: ANSWER };
                Err(self.cannot_read(&after))
            }
        }
    }

    /// What is said of an empty queue where an item is needed.
    pub(super) fn empty(&self) -> Failure {
        Failure::new(Exit::Nothing, format!("{} is empty", self.name))
    }
}

fn fields(key: &Key, priority: Option<u16>) -> Value {
    let mut fields = json!({ "key": key.to_string() });
    if let (Some(object), Some(priority)) = (fields.as_object_mut(), priority) {
        object.insert("priority".into(), priority.into());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_a_number_of_16_bits() {
        assert_eq!(priority(b"0"), Some(0));
        assert_eq!(priority(b"65535"), Some(65535));
        assert_eq!(priority(b"007"), Some(7));
        for text in ["65536", "-1", "+1", "abc", "", "1.0", " 1", "0x1"] {
            assert_eq!(priority(text.as_bytes()), None, "{text:?}");
        }
    }
}
