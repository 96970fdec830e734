//! The numbers of a priority: which is free behind all that is there, found without reading it.
//!
//! # Protocol
//!
//! Each Txn that puts something into a priority puts its base too, so while the base's modification
//! revision is unchanged nothing was added. From the last Txn of one's own both are known: no
//! look-up. Else, at one revision, the base's modification revision and the first 128 items from the
//! number that was free last. When there are more, the end is searched for: a number `x` lies at or
//! below the end if anything is in `[x, :)`, which a range of one key tells, so one Txn with probes at
//! doubling distances brackets it, and each Txn with 32 more between narrows the bracket to a 33rd.
//!
//! Reads of several revisions are as good as one: nothing is added unless the base changes, which the
//! Txn that puts the items compares, and what is taken meanwhile lowers the end at most. A number
//! that is too high costs nothing.

use synod_store::{Key, KeyValue, RangeRequest, Revision, Store, Txn, TxnOpResponse};

use super::keys::{ByPriority, LAST};
use crate::{Result, retry};
use std::time::Duration;

/// The most items of a priority that are read at once.
const PAGE: u64 = 128;

/// How many probes stand between the ends of a bracket.
const PROBES: u64 = 32;

/// How many priorities are looked up in one Txn, at two reads each.
const TOGETHER: usize = 32;

/// What a client knows of the end of a priority.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The base's modification revision when `next` was known to be free; `None` when it may have
    /// changed.
    pub(super) base: Option<Revision>,
    /// No item had this number or a higher one.
    pub(super) next: u64,
}

/// Finds the free numbers of priorities, of which these were free last.
pub(super) async fn look_up(
    store: &dyn Store,
    order: &ByPriority,
    hints: &[(u16, u64)],
    patience: Duration,
) -> Result<Vec<Tail>> {
    let mut tails = Vec::with_capacity(hints.len());
    for chunk in hints.chunks(TOGETHER) {
        let reads = chunk.iter().flat_map(|&(priority, hint)| {
            [
                RangeRequest::new(order.base(priority)).keys_only(),
                RangeRequest::new(order.from_number(priority, hint))
                    .with_limit(PAGE)
                    .keys_only(),
            ]
        });
        let txn = Txn::new().and_then(reads);
        let response = retry::read(patience, || store.txn(txn.clone())).await?;
        let mut answers = response
            .responses
            .into_iter()
            .filter_map(TxnOpResponse::into_range);
        for &(priority, hint) in chunk {
            let base = answers.next().and_then(|base| base.kvs.into_iter().next());
            let base = base.map_or(Revision::ZERO, |kv| kv.mod_revision);
            let page = answers.next().unwrap_or_default();
            let next = behind(order, &page.kvs).unwrap_or(hint).max(hint);
            let next = if page.more {
                search(store, order, priority, next, patience).await?
            } else {
                next
            };
            tails.push(Tail {
                base: Some(base),
                next,
            });
        }
    }
    Ok(tails)
}

/// The number behind the highest of some items.
fn behind(order: &ByPriority, items: &[KeyValue]) -> Option<u64> {
    let numbers = items.iter().filter_map(|kv| order.number(&kv.key));
    numbers.max().map(|number| number.saturating_add(1))
}

/// Finds the end of a priority, of which something lies at `low` or behind it.
async fn search(
    store: &dyn Store,
    order: &ByPriority,
    priority: u16,
    mut low: u64,
    patience: Duration,
) -> Result<u64> {
    let mut high = LAST.saturating_add(1);
    let mut bracketed = false;
    while high.saturating_sub(low) > PAGE {
        let probes = probes(low, high, bracketed);
        bracketed = true;
        let reads = probes.iter().map(|&number| {
            RangeRequest::new(order.from_number(priority, number))
                .with_limit(1)
                .keys_only()
        });
        let txn = Txn::new().and_then(reads);
        let response = retry::read(patience, || store.txn(txn.clone())).await?;
        let answers = response
            .responses
            .into_iter()
            .filter_map(TxnOpResponse::into_range);
        for (number, answer) in probes.into_iter().zip(answers) {
            match answer.kvs.first() {
                Some(kv) => low = low.max(order.number(&kv.key).unwrap_or(number)),
                None => {
                    high = number;
                    break;
                }
            }
        }
    }
    let request = RangeRequest::new(order.from_number(priority, low))
        .with_limit(PAGE.saturating_mul(2))
        .keys_only();
    let page = retry::read(patience, || store.range(request.clone())).await?;
    if page.kvs.is_empty() {
        // Taken meanwhile.
        return Ok(low);
    }
    match behind(order, &page.kvs) {
        Some(next) if !page.more => Ok(next),
        _ => walk(store, order, priority, patience).await,
    }
}

/// The numbers to probe between two: at doubling distances first, then evenly. They rise.
fn probes(low: u64, high: u64, bracketed: bool) -> Vec<u64> {
    let width = high.saturating_sub(low);
    if bracketed {
        let step = (width / PROBES.saturating_add(1)).max(1);
        let probe = |index: u64| low.saturating_add(step.saturating_mul(index));
        (1..=PROBES).map(probe).collect()
    } else {
        let distances = (7..u64::BITS).map(|bits| 1u64 << bits);
        distances
            .take_while(|distance| *distance < width)
            .map(|distance| low.saturating_add(distance))
            .collect()
    }
}

/// The end of a priority in which others' keys lie among the items, so that it must be walked
/// through.
async fn walk(
    store: &dyn Store,
    order: &ByPriority,
    priority: u16,
    patience: Duration,
) -> Result<u64> {
    const LONG_PAGE: u64 = 2048;
    let mut next = 0u64;
    let mut range = order.from_number(priority, 0);
    loop {
        let request = RangeRequest::new(range.clone())
            .with_limit(LONG_PAGE)
            .keys_only();
        let page = retry::read(patience, || store.range(request.clone())).await?;
        next = behind(order, &page.kvs).unwrap_or(0).max(next);
        let last: Option<Key> = page.kvs.into_iter().next_back().map(|kv| kv.key);
        match last.filter(|_| page.more) {
            Some(last) => range = order.rest_of(priority, &last),
            None => return Ok(next),
        }
    }
}
