//! A look at a queue: its first live items by key, put into the order in which they come out.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{ErrorKind, Key, KeyValue, Revision, Store};

use super::keys::Keys;
use super::scan::Scan;
use crate::Result;

/// How many items a look orders.
pub(super) const WINDOW: usize = 256;

/// An item as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) key: Key,
    pub(super) mod_revision: Revision,
    /// Its value, when it was read along.
    pub(super) value: Option<Bytes>,
}

impl Candidate {
    pub(super) fn new(kv: KeyValue, with_value: bool) -> Candidate {
        Candidate {
            key: kv.key,
            mod_revision: kv.mod_revision,
            value: with_value.then_some(kv.value),
        }
    }
}

/// Puts items into the order in which they come out: by modification revision, and within one Txn
/// by key.
pub(super) fn in_order(items: &mut [Candidate]) {
    items.sort_by(|a, b| {
        a.mod_revision
            .cmp(&b.mod_revision)
            .then_with(|| a.key.cmp(&b.key))
    });
}

/// What a look saw.
#[derive(Debug)]
pub(super) struct Look {
    /// The items in the order in which they come out.
    pub(super) items: VecDeque<Candidate>,
    /// The highest key among them.
    pub(super) last: Option<Key>,
    /// The revision at which all of it was read.
    pub(super) revision: Revision,
}

/// Reads the first items from `from` on. One round trip, unless other names lie in between.
pub(super) async fn look(
    store: &dyn Store,
    keys: &Keys,
    from: &Key,
    with_values: bool,
    patience: Duration,
) -> Result<Look> {
    'again: loop {
        let mut items = Vec::new();
        let mut scan = Scan::new(store, keys, from, !with_values, patience);
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
        let last = items.last().map(|item| item.key.clone());
        in_order(&mut items);
        return Ok(Look {
            items: items.into(),
            last,
            revision: scan.revision,
        });
    }
}
