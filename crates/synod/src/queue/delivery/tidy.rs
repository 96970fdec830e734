//! Counts of tries whose items were taken out by somebody who knows nothing of them.
//!
//! The count of an item that is back in its queue was written in the same Txn as the item: it counts
//! only while both have the same modification revision. A `dequeue`, or a consumer of Go's, leaves it
//! behind; here such counts are deleted, a page at a time: `If mod(tries)=t and mod(item)!=t Then
//! delete(tries)`. An item that has another modification revision never has `t` again.

use std::time::Duration;

use synod_store::{
    Compare, CompareOp, DeleteRequest, Key, KeyRange, RangeRequest, Txn, TxnOpResponse,
};
use tokio::time::Instant;

use super::depot::Depot;
use crate::{Result, retry};

/// How many counts are looked at in a round.
const PAGE: u64 = 64;

/// How often.
const EVERY: Duration = Duration::from_secs(30);

/// When and where the next page is looked at.
#[derive(Debug, Default)]
pub(super) struct Tidy {
    last: Option<Instant>,
    from: Option<Key>,
}

impl Depot {
    /// Looks at a page of counts, if the last time was long ago. One round trip when there are none.
    pub(super) async fn tidy(&self) -> Result<()> {
        let range = {
            let mut tidy = self.tidy.lock();
            if tidy.last.is_some_and(|last| last.elapsed() < EVERY) {
                return Ok(());
            }
            tidy.last = Some(Instant::now());
            match (tidy.from.take(), self.beside.all_tries()) {
                (Some(from), KeyRange::Between(_, end)) => KeyRange::Between(from, end),
                (_, all) => all,
            }
        };
        let request = RangeRequest::new(range).keys_only().with_limit(PAGE);
        let page = retry::read(self.patience, || self.store.range(request.clone())).await?;
        if page.more {
            self.tidy.lock().from = page.kvs.last().map(|kv| kv.key.successor());
        }
        let counts: Vec<_> = page
            .kvs
            .iter()
            .filter_map(|kv| {
                let place = self.beside.tries_place(&kv.key)?;
                Some((kv, self.prefix.join(place)))
            })
            .collect();
        if counts.is_empty() {
            return Ok(());
        }
        let reads = counts
            .iter()
            .map(|(_, item)| RangeRequest::new(item.clone()).keys_only());
        let txn = Txn::new().and_then(reads);
        let answer = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
        let items = answer.responses.into_iter().map(TxnOpResponse::into_range);
        for ((count, item), now) in counts.into_iter().zip(items) {
            let now = now.and_then(|range| range.kvs.into_iter().next());
            if now.is_some_and(|now| now.mod_revision == count.mod_revision) {
                continue;
            }
            let stale = Txn::new()
                .when([
                    Compare::modified_at(count.key.clone(), count.mod_revision),
                    Compare::mod_revision(item, CompareOp::NotEqual, count.mod_revision),
                ])
                .and_then([DeleteRequest::new(count.key.clone())]);
            retry::read(self.patience, || self.store.txn(stale.clone())).await?;
        }
        Ok(())
    }
}
