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
                RangeRequest::new(order.numbers_from(priority, hint))
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
            RangeRequest::new(order.numbers_from(priority, number))
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
    let request = RangeRequest::new(order.numbers_from(priority, low))
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
    let mut range = order.numbers_from(priority, 0);
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

#[cfg(test)]
mod tests {
    use synod_store::{DeleteRequest, KeyRange, PutRequest};

    use super::*;
    use crate::testing::Faulty;

    fn order() -> ByPriority {
        ByPriority::new(&Key::from("q"), &Key::from("own/"))
    }

    /// Looks the end of priority 7 up; returns it, and how many requests that took.
    async fn end(faulty: &Faulty, hint: u64) -> (u64, usize) {
        let before = faulty.txns() + faulty.ranges();
        let patience = Duration::from_secs(20);
        let tails = look_up(faulty, &order(), &[(7, hint)], patience).await;
        let requests = faulty.txns() + faulty.ranges() - before;
        (tails.unwrap()[0].next, requests)
    }

    async fn put(faulty: &Faulty, key: Key) {
        let request = PutRequest::new(key, "");
        faulty.engine.put(request).await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_a_long_priority_is_found_in_few_small_reads() {
        let faulty = Faulty::new();
        let order = order();
        assert_eq!(end(&faulty, 0).await, (0, 1));
        assert_eq!(end(&faulty, 5).await, (5, 1));
        for number in 0..10_000 {
            put(&faulty, order.item(7, number)).await;
        }
        // Its neighbours are not counted.
        put(&faulty, order.item(6, 77_777)).await;
        put(&faulty, order.item(8, 88_888)).await;
        for hint in [0, 9_999, 10_000, 10_001, 5_000, 9_900] {
            let answered = faulty.answered();
            let (next, requests) = end(&faulty, hint).await;
            assert_eq!(next, hint.max(10_000));
            assert!(requests <= 5, "{hint}: {requests}");
            let answered = faulty.answered() - answered;
            assert!(answered <= 600, "{hint}: {answered} keys");
        }
        // The front is gone, and there are holes.
        for (from, to) in [(0, 5_000), (7_000, 7_300), (9_990, 9_999)] {
            let range = KeyRange::Between(order.item(7, from), order.item(7, to));
            let request = DeleteRequest::new(range);
            faulty.engine.delete(request).await.unwrap();
        }
        for hint in [0, 6_000, 9_000, 9_999] {
            assert_eq!(end(&faulty, hint).await.0, 10_000, "{hint}");
        }
    }

    #[tokio::test]
    async fn far_numbers_are_found_too() {
        let faulty = Faulty::new();
        let order = order();
        for number in (0..200).chain([1 << 20, (1 << 40) + 5, LAST - 1000]) {
            put(&faulty, order.item(7, number)).await;
        }
        let (next, requests) = end(&faulty, 0).await;
        assert_eq!(next, LAST - 999);
        assert!(requests <= 14, "{requests}");
    }

    #[tokio::test]
    async fn others_keys_among_the_items_do_not_count() {
        let faulty = Faulty::new();
        let order = order();
        for number in 0..300 {
            put(&faulty, order.item(7, number)).await;
        }
        for stranger in ["q/00007/9x", "q/00007/0000000000000299/x", "q/00007/99"] {
            put(&faulty, Key::from(stranger)).await;
            assert_eq!(end(&faulty, 0).await.0, 300, "{stranger}");
        }
        for number in 0..300 {
            let key = Key::from(format!("q/00007/0000000000000200/{number}"));
            put(&faulty, key).await;
        }
        assert_eq!(end(&faulty, 0).await.0, 300);
    }
}
