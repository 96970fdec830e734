//! Reading a queue's items page by page, by key, all at one revision.

use std::time::Duration;

use synod_store::{Key, KeyValue, RangeRequest, Revision, Store};

use super::keys::Keys;
use crate::{Result, retry};

/// A walk over the items of a queue. What lies below other names is skipped whole, so that a million
/// keys of `q/x/...` do not stand between two items of `q`.
#[derive(Debug)]
pub(super) struct Scan<'q> {
    store: &'q dyn Store,
    keys: &'q Keys,
    patience: Duration,
    keys_only: bool,
    /// Where the next page begins; `None` at the end.
    from: Option<Key>,
    /// The revision of the first page, and of all others.
    pub(super) revision: Revision,
}

impl<'q> Scan<'q> {
    pub(super) fn new(
        store: &'q dyn Store,
        keys: &'q Keys,
        from: &Key,
        keys_only: bool,
        patience: Duration,
    ) -> Scan<'q> {
        let from = Some(from.clone());
        Scan {
            store,
            keys,
            patience,
            keys_only,
            from,
            revision: Revision::ZERO,
        }
    }

    /// The items among the next `limit` keys: none at all in a page full of others. `None` at the
    /// end. Fails as compacted when the first page's revision is gone.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Option<Vec<KeyValue>>> {
        let Some(from) = &self.from else {
            return Ok(None);
        };
        let mut request = RangeRequest::new(self.keys.range_from(from))
            .with_limit(u64::try_from(limit).unwrap_or(u64::MAX))
            .at(self.revision);
        request.keys_only = self.keys_only;
        let page = retry::read(self.patience, || self.store.range(request.clone())).await?;
        if self.revision.is_zero() {
            self.revision = page.header.revision;
        }
        self.from = page.kvs.last().filter(|_| page.more).map(|kv| {
            self.keys
                .after_nested(&kv.key)
                .unwrap_or_else(|| kv.key.successor())
        });
        let mut kvs = page.kvs;
        kvs.retain(|kv| self.keys.is_item(&kv.key));
        Ok(Some(kvs))
    }
}
