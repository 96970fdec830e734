//! The keys of a queue: what belongs to it, and the stamps that name its items. Pure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use synod_store::{Compare, Key, PutRequest, Revision};

use super::consumer::Core;
use super::desk::Item;
use super::order::Order;
use super::producer::fitting;
use crate::Result;
use crate::settle::{Outcome, Work};

/// The largest stamp that is counted on from. A key above it (somebody's joke, or a clock gone mad)
/// must not drag ours to where there are no more numbers.
const HIGHEST: u64 = 9_000_000_000_000_000_000;

/// How far a cursor stays behind the highest stamp that was seen, or behind the items that were there
/// so long ago: a stamp that is given early, or by a clock that is behind, may come into the store later
/// than a higher one.
pub(super) const LAG: Duration = Duration::from_secs(2);

const LAG_NANOS: u64 = LAG.as_secs() * 1_000_000_000;

/// First in, first out.
#[derive(Debug)]
pub(crate) struct Fifo {
    keys: Keys,
    stamps: Stamps,
}

impl Fifo {
    pub(crate) fn new(name: &Key) -> Fifo {
        Fifo {
            keys: Keys::new(name),
            stamps: Stamps::default(),
        }
    }

    /// Keys for `count` items in a row, which rise.
    pub(super) fn next(&self, now: u64, count: usize) -> impl Iterator<Item = Key> {
        let first = self.stamps.take(now, count);
        (first..).take(count).map(|stamp| self.keys.item(stamp))
    }
}

impl Order for Fifo {
    /// A look orders what it has seen; who comes later has a higher modification revision.
    const EXACT: bool = false;
    const GUARDS: usize = 0;

    fn start(&self) -> &Key {
        &self.keys.start
    }

    fn end(&self) -> &Key {
        &self.keys.end
    }

    fn is_item(&self, key: &Key) -> bool {
        self.keys.is_item(key)
    }

    fn after(&self, key: &Key) -> Key {
        self.keys
            .after_nested(key)
            .unwrap_or_else(|| key.successor())
    }

    fn rank(&self, modified: Revision) -> Revision {
        modified
    }

    fn saw(&self, key: &Key) {
        if let Some(stamp) = self.keys.stamp(key) {
            self.stamps.saw(stamp);
        }
    }

    fn behind(&self, last: &Key) -> Option<Key> {
        Some(self.keys.behind(last))
    }

    fn beyond(&self, first: &Key, last: &Key, times: u64) -> Option<Key> {
        let (first, last) = (self.keys.stamp(first)?, self.keys.stamp(last)?);
        let width = last.saturating_sub(first).max(1).saturating_mul(times);
        let end = last.saturating_add(width);
        (end <= HIGHEST).then(|| self.keys.item(end))
    }

    fn guards(&self, _: &Key, _: Revision) -> Vec<Compare> {
        Vec::new()
    }

    fn proof(&self, _: &Key, _: Revision) -> Option<Vec<Compare>> {
        None
    }

    fn back(&self, item: &Item) -> Work {
        let put = PutRequest::new(item.key.clone(), item.value.clone());
        Work::new(vec![Compare::absent(item.key.clone())], vec![put.into()])
    }

    /// What a Txn costs the server hardly depends on how many values are in it: the same callers in two
    /// Txns at a time are more work for the same values, and no sooner done.
    const FLYING: usize = 1;
    type Entry = Bytes;

    fn size(value: &Bytes) -> usize {
        value.len()
    }

    fn fitting<'e>(values: impl Iterator<Item = &'e Bytes>, most: usize, bytes: usize) -> usize {
        fitting(values, most, bytes)
    }

    async fn put_in(core: &Core<Fifo>, values: &[Bytes]) -> Result<()> {
        core.put(values).await
    }

    async fn back_elsewhere(core: &Core<Fifo>, item: &Item) -> Result<()> {
        loop {
            for key in core.order.next(core.clock.unix_nanos(), 1) {
                let value = item.value.clone();
                let work = core.order.back(&Item { key, value });
                if let Outcome::Done { .. } = core.settle.run_to_end(work).await? {
                    return Ok(());
                }
            }
        }
    }
}

/// The keys of one queue.
#[derive(Debug, Clone)]
struct Keys {
    prefix: Key,
    start: Key,
    end: Key,
}

impl Keys {
    /// `/` is appended to the name as it is, also to one that ends in it.
    fn new(name: &Key) -> Keys {
        let prefix = name.join("/");
        // The digits: '0' to '9', and ':' comes after '9'.
        Keys {
            start: prefix.join("0"),
            end: prefix.join(":"),
            prefix,
        }
    }

    /// For a key of something below the queue's name (`q/7/x`), the first key after all that is
    /// below there; `None` for an item.
    fn after_nested(&self, key: &Key) -> Option<Key> {
        let suffix = key.strip_prefix(self.prefix.as_bytes())?;
        let slash = suffix.iter().position(|&byte| byte == b'/')?;
        // '0' comes after '/'.
        let segment = suffix.get(..slash)?;
        Some(self.prefix.join(segment).join("0"))
    }

    fn is_item(&self, key: &Key) -> bool {
        (&self.start..&self.end).contains(&key) && self.after_nested(key).is_none()
    }

    /// The key of an item with this stamp.
    fn item(&self, stamp: u64) -> Key {
        self.prefix.join(format!("{stamp:019}"))
    }

    /// Where a cursor may stand when all items up to `last` are gone.
    fn behind(&self, last: &Key) -> Key {
        match self.stamp(last) {
            Some(stamp) => self.item(stamp.saturating_sub(LAG_NANOS)),
            None => last.successor(),
        }
    }

    /// The stamp of an item, when its suffix is one: 19 digits.
    fn stamp(&self, key: &Key) -> Option<u64> {
        let suffix = key.strip_prefix(self.prefix.as_bytes())?;
        let digits = suffix.len() == 19 && suffix.iter().all(u8::is_ascii_digit);
        let stamp = std::str::from_utf8(suffix)
            .ok()
            .filter(|_| digits)?
            .parse()
            .ok()?;
        (stamp <= HIGHEST).then_some(stamp)
    }
}

/// The stamps that a client gives: the wall clock's nanoseconds, but never one at or below the
/// highest that it has given or seen in this queue.
#[derive(Debug, Default)]
struct Stamps {
    highest: AtomicU64,
}

impl Stamps {
    /// Takes note of a stamp that is in the queue.
    fn saw(&self, stamp: u64) {
        self.highest
            .fetch_max(stamp.min(HIGHEST), Ordering::Relaxed);
    }

    /// `count` stamps in a row; returns the first.
    fn take(&self, now: u64, count: usize) -> u64 {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        let first = |highest: u64| {
            let next = highest.saturating_add(1);
            // Past the last number that is counted on from, only the clock is left.
            if next > HIGHEST {
                now.min(HIGHEST)
            } else {
                next.max(now)
            }
        };
        let update = |highest| Some(first(highest).saturating_add(count).saturating_sub(1));
        match self
            .highest
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update)
        {
            Ok(before) | Err(before) => first(before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_owns_its_direct_children_that_begin_with_a_digit() {
        let keys = Keys::new(&Key::from("a"));
        for item in ["a/1790000000000000000", "a/0", "a/9x", "a/1-2"] {
            assert!(keys.is_item(&Key::from(item)), "{item}");
        }
        for other in [
            "ab/1",
            "a",
            "a/",
            "a/x",
            "a/1/2",
            "a/00007/0000000000000003",
            "a/:",
            "b/1",
        ] {
            assert!(!keys.is_item(&Key::from(other)), "{other}");
        }
        assert!(Keys::new(&Key::from("a/")).is_item(&Key::from("a//1")));
    }

    #[test]
    fn what_lies_below_another_name_is_skipped_whole() {
        let keys = Keys::new(&Key::from("a"));
        let after = keys.after_nested(&Key::from("a/17/3/4")).unwrap();
        assert_eq!(after, Key::from("a/170"));
        assert!(after > Key::from("a/17/\u{ff}") && after < Key::from("a/170 "));
        assert_eq!(keys.after_nested(&Key::from("a/17")), None);
    }

    #[test]
    fn stamps_rise_whatever_the_clock_says() {
        let stamps = Stamps::default();
        assert_eq!(stamps.take(1000, 1), 1000);
        assert_eq!(stamps.take(500, 3), 1001);
        assert_eq!(stamps.take(500, 1), 1004);
        stamps.saw(5000);
        assert_eq!(stamps.take(2000, 1), 5001);
        assert_eq!(stamps.take(9000, 2), 9000);
        assert_eq!(stamps.take(9000, 1), 9002);
    }

    #[test]
    fn an_absurd_stamp_does_not_use_up_the_numbers() {
        let keys = Keys::new(&Key::from("a"));
        assert_eq!(keys.stamp(&Key::from("a/9999999999999999999")), None);
        assert_eq!(keys.stamp(&Key::from("a/123")), None);
        assert_eq!(
            keys.stamp(&Key::from("a/1790000000000000000")),
            Some(1_790_000_000_000_000_000)
        );
        let stamps = Stamps::default();
        stamps.saw(u64::MAX);
        let now = 1_790_000_000_000_000_000;
        assert_eq!(stamps.take(now, 1), now);
        assert_eq!(keys.item(stamps.take(now, 1)).len(), 2 + 19);
    }
}
