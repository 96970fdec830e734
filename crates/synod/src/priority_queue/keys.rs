//! The keys of a priority queue, and the conditions under which an item is the first. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use synod_store::{Compare, CompareOp, Key, KeyRange, PutRequest, Revision};
use tokio::sync::Mutex;

use super::numbers::Tail;
use super::producer::{Entry, fitting};
use crate::Result;
use crate::queue::{Core, Item, Order, WINDOW};
use crate::settle::Work;
use crate::slot::Slot;

/// How many digits a number has: with them the order of keys is that of numbers.
const DIGITS: usize = 16;

/// The highest number that has no more digits.
pub(super) const LAST: u64 = 9_999_999_999_999_999;

/// How many digits a priority has.
const PRIORITY_DIGITS: usize = 5;

/// The lowest priority number first, and within a priority first in, first out.
#[derive(Debug)]
pub(crate) struct ByPriority {
    prefix: Key,
    start: Key,
    end: Key,
    /// Before the priority in the key that is put with each item of it.
    bases: Key,
    /// Put with each item that comes back.
    back: Key,
    /// What is known of the end of each priority. One caller at a time puts something there.
    pub(super) tails: Slot<HashMap<u16, Arc<Mutex<Tail>>>>,
}

/// The name under which Go's recipes keep their books of a priority queue.
pub(super) fn books(name: &Key) -> Key {
    Key::from("__").join(name)
}

impl ByPriority {
    /// `/` is appended to the name as it is. `own` is the prefix of the queue's own keys.
    pub(crate) fn new(name: &Key, own: &Key) -> ByPriority {
        let prefix = name.join("/");
        ByPriority {
            start: prefix.join("00000/0"),
            // ':' comes after '9'.
            end: prefix.join("65535/:"),
            prefix,
            bases: books(name).join("/"),
            back: own.join("back"),
            tails: Slot::new(HashMap::new()),
        }
    }

    /// The key that is put with each item of a priority.
    pub(super) fn base(&self, priority: u16) -> Key {
        self.bases.join(format!("{priority:05}"))
    }

    pub(super) fn item(&self, priority: u16, number: u64) -> Key {
        self.prefix.join(format!("{priority:05}/{number:016}"))
    }

    /// The items of a priority from a number on.
    pub(super) fn numbers_from(&self, priority: u16, number: u64) -> KeyRange {
        let end = self.prefix.join(format!("{priority:05}/:"));
        KeyRange::Between(self.item(priority, number), end)
    }

    /// The items of a priority behind a key.
    pub(super) fn rest_of(&self, priority: u16, key: &Key) -> KeyRange {
        let end = self.prefix.join(format!("{priority:05}/:"));
        KeyRange::Between(key.successor(), end)
    }

    /// The priority of an item.
    pub(super) fn priority(&self, key: &Key) -> Option<u16> {
        self.parse(key).map(|(priority, _)| priority)
    }

    /// The number of an item that is counted on from: one of 16 digits.
    pub(super) fn number(&self, key: &Key) -> Option<u64> {
        let (_, digits) = self.parse(key)?;
        let digits = std::str::from_utf8(digits).ok()?;
        digits.parse().ok().filter(|_| digits.len() == DIGITS)
    }

    fn parse<'k>(&self, key: &'k Key) -> Option<(u16, &'k [u8])> {
        let suffix = key.strip_prefix(self.prefix.as_bytes())?;
        let (priority, rest) = suffix.split_at_checked(PRIORITY_DIGITS)?;
        let number = rest.strip_prefix(b"/")?;
        let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        if !digits(priority) || !digits(number) {
            return None;
        }
        let priority = std::str::from_utf8(priority).ok()?.parse().ok()?;
        Some((priority, number))
    }

    /// Nothing has come back after `revision`.
    fn nothing_back_after(&self, revision: Revision) -> Compare {
        Compare::mod_revision(self.back.clone(), CompareOp::Less, revision.next())
    }

    /// Nothing has been put into the priorities up to `end`, itself excluded, after `revision`.
    fn nothing_put_after(&self, end: Key, revision: Revision) -> Compare {
        let bases = KeyRange::Between(self.base(0), end);
        Compare::mod_revision(bases, CompareOp::Less, revision.next())
    }
}

impl Order for ByPriority {
    const EXACT: bool = true;
    const GUARDS: usize = 2;

    fn start(&self) -> &Key {
        &self.start
    }

    fn end(&self) -> &Key {
        &self.end
    }

    fn is_item(&self, key: &Key) -> bool {
        self.parse(key).is_some()
    }

    fn after(&self, key: &Key) -> Key {
        if self.is_item(key) {
            return key.successor();
        }
        let suffix = key.strip_prefix(self.prefix.as_bytes());
        match suffix.and_then(next_suffix) {
            Some(next) => self.prefix.join(next),
            None => self.end.clone(),
        }
    }

    fn rank(&self, _: Revision) -> Revision {
        Revision::ZERO
    }

    fn saw(&self, _: &Key) {}

    fn behind(&self, _: &Key) -> Option<Key> {
        None
    }

    fn beyond(&self, _: &Key, last: &Key, times: u64) -> Option<Key> {
        let (priority, number) = (self.priority(last)?, self.number(last)?);
        let window = u64::try_from(WINDOW).unwrap_or(u64::MAX);
        let end = number.saturating_add(window.saturating_mul(times));
        (end <= LAST).then(|| self.item(priority, end))
    }

    fn guards(&self, key: &Key, seen: Revision) -> Vec<Compare> {
        let mut guards = vec![self.nothing_back_after(seen)];
        // What has been put into its own priority meanwhile is behind it: it was there.
        match self.priority(key) {
            None | Some(0) => {}
            Some(priority) => guards.push(self.nothing_put_after(self.base(priority), seen)),
        }
        guards
    }

    fn proof(&self, cursor: &Key, since: Revision) -> Option<Vec<Compare>> {
        let last = Key::from(cursor.strip_suffix(b"\0")?);
        // Its own priority too: numbers begin anew when nothing is left of it. What comes back writes
        // its base as well.
        let end = self.base(self.priority(&last)?).successor();
        Some(vec![self.nothing_put_after(end, since)])
    }

    fn back(&self, item: &Item) -> Work {
        let put = |key: Key| PutRequest::new(key, "").into();
        let mut ops = vec![PutRequest::new(item.key.clone(), item.value.clone()).into()];
        ops.extend(
            self.priority(&item.key)
                .map(|priority| put(self.base(priority))),
        );
        ops.push(put(self.back.clone()));
        Work::new(vec![Compare::absent(item.key.clone())], ops)
    }

    /// Whoever puts into a priority must know the end of it.
    const FLYING: usize = 1;
    type Entry = Entry;

    fn size((_, value): &Entry) -> usize {
        value.len()
    }

    fn fitting<'e>(entries: impl Iterator<Item = &'e Entry>, most: usize, bytes: usize) -> usize {
        fitting(entries, most, bytes)
    }

    async fn put_in(core: &Core<ByPriority>, entries: &[Entry]) -> Result<()> {
        core.append(entries).await
    }

    async fn back_elsewhere(core: &Core<ByPriority>, item: &Item) -> Result<()> {
        // An item has a priority.
        let priority = core.order.priority(&item.key).unwrap_or(u16::MAX);
        core.append_for_certain(&[(priority, item.value.clone())])
            .await
    }
}

/// For what stands behind the queue's name and is no item, the first that can begin one and comes
/// after it.
fn next_suffix(suffix: &[u8]) -> Option<Vec<u8>> {
    let digits = suffix
        .iter()
        .take(PRIORITY_DIGITS)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (head, rest) = suffix.split_at_checked(digits)?;
    let tail = rest
        .strip_prefix(b"/")
        .filter(|_| digits == PRIORITY_DIGITS);
    if let Some(tail) = tail {
        let numbers = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let stranger = tail.get(numbers).copied();
        if numbers > 0 {
            // Below an item's key, or an item's key with something behind it.
            let mut next = suffix.to_vec();
            match stranger {
                Some(b'/') => {
                    next.truncate(
                        suffix
                            .len()
                            .saturating_sub(tail.len().saturating_sub(numbers)),
                    );
                    next.push(b'0');
                }
                _ => next.push(0),
            }
            return Some(next);
        }
        if stranger.is_none_or(|byte| byte < b'0') {
            return Some([head, b"/0"].concat());
        }
        // Behind all numbers of its priority.
        return raised(head);
    }
    // The digits there are, filled up with zeros, or the next ones.
    if rest.first().is_none_or(|byte| *byte <= b'/') {
        let mut next = head.to_vec();
        next.resize(PRIORITY_DIGITS, b'0');
        next.extend(b"/0");
        return Some(next);
    }
    raised(head)
}

/// The first that can begin an item and comes after all that begins with these digits.
fn raised(digits: &[u8]) -> Option<Vec<u8>> {
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let width = digits.len();
    let mut next = format!("{:0width$}", number.saturating_add(1)).into_bytes();
    if next.len() > width {
        return None;
    }
    next.resize(PRIORITY_DIGITS, b'0');
    next.extend(b"/0");
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> ByPriority {
        ByPriority::new(&Key::from("a"), &Key::from("__synod/priority_queue/a/"))
    }

    const ITEMS: [&str; 9] = [
        "a/00000/0000000000000000",
        "a/00007/0000000000000003",
        "a/00007/12",
        "a/00070/0000000000000003",
        "a/17900/0000000000000000",
        "a/17901/0",
        "a/17910/0",
        "a/20000/0",
        "a/65535/9999999999999999",
    ];

    const STRANGERS: [&str; 32] = [
        "a",
        "a/",
        "a/!",
        "a/0",
        "a/00000",
        "a/00000!",
        "a/00000/",
        "a/00007",
        "a/00007/!",
        "a/00007/0000000000000003!",
        "a/00007/0000000000000003/x",
        "a/00007/0000000000000003x",
        "a/00007/x",
        "a/000070/1",
        "a/00007x",
        "a/17",
        "a/17/3/4",
        "a/1790",
        "a/1790000000000000000",
        "a/17900x",
        "a/179:",
        "a/1x",
        "a/65535",
        "a/65535/x",
        "a/65536/0000000000000000",
        "a/70000/0000000000000000",
        "a/99999/0",
        "a/9x",
        "a/x",
        "a//1",
        "ab/00007/0000000000000003",
        "__a/00007",
    ];

    #[test]
    fn items_are_a_priority_and_a_number() {
        let order = order();
        for item in ITEMS {
            assert!(order.is_item(&Key::from(item)), "{item}");
            assert!(order.range().contains(item.as_bytes()), "{item}");
        }
        for stranger in STRANGERS {
            assert!(!order.is_item(&Key::from(stranger)), "{stranger}");
        }
        let slashed = ByPriority::new(&Key::from("a/"), &Key::from("own/"));
        assert!(slashed.is_item(&Key::from("a//00007/3")));
    }

    #[test]
    fn a_walk_skips_strangers_but_no_item() {
        let order = order();
        for from in ITEMS.iter().chain(&STRANGERS) {
            let from = Key::from(*from);
            if !order.range().contains(&from) {
                continue;
            }
            let after = order.after(&from);
            assert!(after > from, "{from:?} {after:?}");
            for item in ITEMS.map(Key::from).iter().filter(|item| **item > from) {
                assert!(after <= *item, "{from:?} {after:?} {item:?}");
            }
        }
        let skips = |from: &str, to: &str| {
            assert_eq!(order.after(&Key::from(from)), Key::from(to));
        };
        skips("a/1790000000000000000", "a/17901/0");
        skips("a/17/3/4", "a/17000/0");
        skips("a/00007/0000000000000003/x", "a/00007/00000000000000030");
        skips("a/00007/x", "a/00008/0");
        skips("a/9x", "a/65535/:");
    }

    #[test]
    fn the_order_of_keys_is_that_of_priorities_and_numbers() {
        let order = order();
        let golden = order.item(7, 3);
        assert_eq!(golden, Key::from("a/00007/0000000000000003"));
        assert_eq!(order.base(7), Key::from("__a/00007"));
        assert_eq!(order.priority(&golden), Some(7));
        assert_eq!(order.number(&golden), Some(3));
        assert_eq!(order.number(&Key::from("a/00007/12")), None);
        assert_eq!(order.number(&order.item(1, LAST)), Some(LAST));
        let mut last = Key::from("a");
        for priority in [0, 1, 9, 10, 99, 256, 9999, 10_000, 65_535] {
            for number in [0, 1, 9, 10, 123_456_789, LAST] {
                let item = order.item(priority, number);
                assert!(item > last && order.is_item(&item));
                last = item;
            }
        }
    }

    #[test]
    fn a_claim_compares_the_bases_of_more_urgent_priorities() {
        let order = order();
        let guards = |priority| order.guards(&order.item(priority, 3), Revision(9));
        assert_eq!(guards(0).len(), 1);
        let [back, bases] = &guards(7)[..] else {
            panic!("{:?}", guards(7));
        };
        assert!(back.range.contains(b"__synod/priority_queue/a/back"));
        assert!(bases.range.contains(b"__a/00000") && bases.range.contains(b"__a/00006"));
        assert!(!bases.range.contains(b"__a/00007"));
        let cursor = order.item(7, 3).successor();
        let proof = order.proof(&cursor, Revision(9)).unwrap();
        assert!(
            proof
                .iter()
                .any(|compare| compare.range.contains(b"__a/00007"))
        );
        assert!(
            !proof
                .iter()
                .any(|compare| compare.range.contains(b"__a/00008"))
        );
        assert_eq!(order.proof(order.start(), Revision(9)), None);
    }
}
