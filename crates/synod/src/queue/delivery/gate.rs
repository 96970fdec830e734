//! [`Gate`]: the way into a queue, whatever its order is.

use std::fmt::Debug;

use bytes::Bytes;
use synod_store::{BoxFuture, Key, KeyRange};

use crate::Result;
use crate::queue::keys::Fifo;
use crate::queue::{Core, Item, Order};
use crate::settle::Work;

/// How an item gets into a queue as one that its producer puts in.
pub(crate) trait Gate: Debug + Send + Sync + 'static {
    /// Whether an item of the queue can have this key.
    fn is_item(&self, key: &Key) -> bool;

    /// Everything that an item can be called, and others' keys in between.
    fn range(&self) -> KeyRange;

    /// The first key behind this one that an item can have.
    fn after(&self, key: &Key) -> Key;

    /// What puts a value under this key; its guards are false when the key is in use.
    fn under(&self, key: &Key, value: Bytes) -> Work;

    /// What puts a value at the end under a new key, and that key; its guards are false when another
    /// was faster. `place` is where the value was before, or the beginning of it.
    fn at_the_end<'g>(
        &'g self,
        place: &'g [u8],
        value: Bytes,
    ) -> BoxFuture<'g, Result<(Key, Work)>>;
}

impl Gate for Core<Fifo> {
    fn is_item(&self, key: &Key) -> bool {
        self.order.is_item(key)
    }

    fn range(&self) -> KeyRange {
        self.order.range()
    }

    fn after(&self, key: &Key) -> Key {
        self.order.after(key)
    }

    fn under(&self, key: &Key, value: Bytes) -> Work {
        let key = key.clone();
        self.order.back(&Item { key, value })
    }

    fn at_the_end<'g>(&'g self, _: &'g [u8], value: Bytes) -> BoxFuture<'g, Result<(Key, Work)>> {
        let mut keys = self.order.next(self.clock.unix_nanos(), 1);
        let key = keys.next().unwrap_or_else(|| self.order.start().clone());
        let work = self.under(&key, value);
        Box::pin(async move { Ok((key, work)) })
    }
}
