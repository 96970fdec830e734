//! Reading a queue's items page by page, by key, all at one revision.

use std::collections::VecDeque;
use std::time::Duration;

use synod_store::{
    Compare, Error, ErrorKind, Key, KeyRange, KeyValue, RangeRequest, RangeResponse, Revision,
    Store, Txn,
};

use super::order::Order;
use crate::{Result, retry};

/// A walk over the items of a queue. What lies below other names is skipped whole, so that a million
/// keys of `q/x/...` do not stand between two items of `q`.
#[derive(Debug)]
pub(crate) struct Scan<'q, O> {
    store: &'q dyn Store,
    order: &'q O,
    patience: Duration,
    keys_only: bool,
    /// Where the next page begins; `None` at the end.
    from: Option<Key>,
    /// Where pages end, so that the store need not count all that lies behind: these, then the end.
    ends: VecDeque<Key>,
    /// What must hold for the first page to begin there; else it begins at the start.
    proof: Vec<Compare>,
    /// The revision of the first page, and of all others.
    pub(crate) revision: Revision,
    /// Whether a key was met that is no item.
    pub(crate) strangers: bool,
}

impl<'q, O: Order> Scan<'q, O> {
    pub(crate) fn new(
        store: &'q dyn Store,
        order: &'q O,
        from: &Key,
        keys_only: bool,
        patience: Duration,
    ) -> Scan<'q, O> {
        let from = Some(from.clone());
        Scan {
            store,
            order,
            patience,
            keys_only,
            from,
            ends: VecDeque::new(),
            proof: Vec::new(),
            revision: Revision::ZERO,
            strangers: false,
        }
    }

    /// Begins there only if the proof holds, else at the start.
    pub(crate) fn with_proof(mut self, proof: Vec<Compare>) -> Self {
        self.proof = proof;
        self
    }

    /// Lets pages end there, as they rise: whoever asks for little is spared the rest of a long queue.
    pub(crate) fn with_ends(mut self, ends: &[Key]) -> Self {
        let from = self.from.as_ref();
        self.ends = ends
            .iter()
            .filter(|end| Some(*end) > from)
            .cloned()
            .collect();
        self
    }

    /// The items among the next `limit` keys: none at all in a page full of others. `None` at the
    /// end. Fails as compacted when the first page's revision is gone.
    pub(crate) async fn next(&mut self, limit: usize) -> Result<Option<Vec<KeyValue>>> {
        let Some(from) = &self.from else {
            return Ok(None);
        };
        let end = self.ends.front().unwrap_or(self.order.end()).clone();
        let page = |from: &Key| {
            let mut request = RangeRequest::new(KeyRange::Between(from.clone(), end.clone()))
                .with_limit(u64::try_from(limit).unwrap_or(u64::MAX))
                .at(self.revision);
            request.keys_only = self.keys_only;
            request
        };
        let request = page(from);
        let page = if self.proof.is_empty() {
            retry::read(self.patience, || self.store.range(request.clone())).await?
        } else {
            let txn = Txn::new()
                .when(std::mem::take(&mut self.proof))
                .and_then([request])
                .or_else([page(self.order.start())]);
            retry::read(self.patience, || only_page(self.store, txn.clone())).await?
        };
        if self.revision.is_zero() {
            self.revision = page.header.revision;
        }
        let last = page.kvs.last().filter(|_| page.more);
        self.from = match last {
            Some(last) => Some(self.order.after(&last.key)),
            None => self.ends.pop_front(),
        };
        // What was skipped may reach beyond.
        while self
            .ends
            .front()
            .is_some_and(|end| Some(end) <= self.from.as_ref())
        {
            self.ends.pop_front();
        }
        let mut kvs = page.kvs;
        let all = kvs.len();
        kvs.retain(|kv| self.order.is_item(&kv.key));
        self.strangers |= kvs.len() < all;
        Ok(Some(kvs))
    }
}

/// The answer of a Txn's only operation, a range.
async fn only_page(store: &dyn Store, txn: Txn) -> synod_store::Result<RangeResponse> {
    let response = store.txn(txn).await?;
    let page = response.responses.into_iter().next();
    let page = page.and_then(|page| page.into_range());
    let mut page = page.ok_or_else(|| Error::new(ErrorKind::Other, "a range was not answered"))?;
    page.header = response.header;
    Ok(page)
}
