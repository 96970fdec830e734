//! A look at a queue: its first live items by key, put into the order in which they come out.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{Compare, ErrorKind, Key, KeyValue, Revision, Store};

use super::order::Order;
use super::scan::Scan;
use crate::Result;

/// How many items a look orders.
pub(crate) const WINDOW: usize = 256;

/// An item as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) key: Key,
    pub(crate) mod_revision: Revision,
    /// Its value, when it was read along.
    pub(crate) value: Option<Bytes>,
}

impl Candidate {
    pub(crate) fn new(kv: KeyValue, with_value: bool) -> Candidate {
        Candidate {
            key: kv.key,
            mod_revision: kv.mod_revision,
            value: with_value.then_some(kv.value),
        }
    }
}

/// Puts items into the order in which they come out: by rank, and within one rank by key.
pub(super) fn in_order<O: Order>(order: &O, items: &mut [Candidate]) {
    let rank = |item: &Candidate| order.rank(item.mod_revision);
    items.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.key.cmp(&b.key)));
}

/// What a look saw.
#[derive(Debug)]
pub(crate) struct Look {
    /// The items in the order in which they come out.
    pub(crate) items: VecDeque<Candidate>,
    /// The lowest key among them.
    pub(crate) first: Option<Key>,
    /// The highest.
    pub(crate) last: Option<Key>,
    /// The revision at which all of it was read.
    pub(crate) revision: Revision,
    /// Whether keys that are no items lie among them.
    pub(crate) strangers: bool,
}

/// Reads the first items from `from` on, if the proof holds that nothing lies before it, else from
/// the start. One round trip, unless other names lie in between.
pub(super) async fn look<O: Order>(
    store: &dyn Store,
    order: &O,
    from: &Key,
    proof: &[Compare],
    with_values: bool,
    patience: Duration,
) -> Result<Look> {
    look_until(store, order, from, &[], proof, with_values, patience).await
}

/// As [`look`], in pages that end at these keys: a store counts all that lies in a range, so a look at
/// the head of a long queue that ends nowhere costs as much as the queue is long.
pub(super) async fn look_until<O: Order>(
    store: &dyn Store,
    order: &O,
    from: &Key,
    ends: &[Key],
    proof: &[Compare],
    with_values: bool,
    patience: Duration,
) -> Result<Look> {
    'again: loop {
        let mut items = Vec::new();
        let mut scan = Scan::new(store, order, from, !with_values, patience)
            .with_ends(ends)
            .with_proof(proof.to_vec());
        while items.len() < WINDOW {
            match scan.next(WINDOW.saturating_sub(items.len())).await {
                Ok(Some(kvs)) => {
                    items.extend(kvs.into_iter().map(|kv| Candidate::new(kv, with_values)));
                }
                Ok(None) => break,
                // The revision of the first page is gone.
                Err(error) if error.kind() == Some(ErrorKind::Compacted) => continue 'again,
                Err(error) => return Err(error),
            }
        }
        let first = items.first().map(|item| item.key.clone());
        let last = items.last().map(|item| item.key.clone());
        in_order(order, &mut items);
        return Ok(Look {
            items: items.into(),
            first,
            last,
            revision: scan.revision,
            strangers: scan.strangers,
        });
    }
}
