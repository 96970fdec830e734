//! Ranges of keys, and those among them that hold a key: found without a look at each of the others.
//!
//! A search tree in the order of the ranges' beginnings, in which each node knows how far the ranges below it reach. A
//! subtree whose ranges all end before the key, or all begin behind it, is passed over. What holds the tree flat is
//! chance (a treap): nobody can choose ranges that make it deep. Finding `k` of `n` ranges looks at about `k * log(n)`.

use std::cmp::Ordering;

use synod_store::{Key, KeyRange};

/// Values by range; each range once.
#[derive(Debug)]
pub(super) struct Intervals<V> {
    root: Link<V>,
}

type Link<V> = Option<Box<Node<V>>>;

/// Where a range ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Before(Key),
    Never,
}

impl End {
    fn is_behind(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => end.as_bytes() > key,
            End::Never => true,
        }
    }
}

#[derive(Debug)]
struct Node<V> {
    start: Key,
    end: End,
    value: V,
    /// Greater than those of all nodes below.
    priority: u64,
    /// The furthest end of this node and all below.
    furthest: End,
    left: Link<V>,
    right: Link<V>,
}

/// What orders the tree.
fn bounds(range: &KeyRange) -> (Key, End) {
    match range {
        KeyRange::One(key) => (key.clone(), End::Before(key.join(b"\0"))),
        KeyRange::Between(start, end) => (start.clone(), End::Before(end.clone())),
        KeyRange::From(start) => (start.clone(), End::Never),
    }
}

impl<V> Node<V> {
    fn order(&self, start: &Key, end: &End) -> Ordering {
        (start, end).cmp(&(&self.start, &self.end))
    }

    /// After a change below.
    fn measure(&mut self) {
        let below = [&self.left, &self.right];
        let below = below.into_iter().flatten().map(|node| &node.furthest);
        let furthest = below.fold(&self.end, |a, b| a.max(b));
        if self.furthest != *furthest {
            self.furthest = furthest.clone();
        }
    }
}

/// What lies before and what behind these bounds, which are in no node.
fn split<V>(link: Link<V>, start: &Key, end: &End) -> (Link<V>, Link<V>) {
    let Some(mut node) = link else {
        return (None, None);
    };
    if node.order(start, end).is_lt() {
        let (before, behind) = split(node.left.take(), start, end);
        node.left = behind;
        node.measure();
        (before, Some(node))
    } else {
        let (before, behind) = split(node.right.take(), start, end);
        node.right = before;
        node.measure();
        (Some(node), behind)
    }
}

/// One tree of two, of which all of the second lies behind the first.
fn merge<V>(before: Link<V>, behind: Link<V>) -> Link<V> {
    match (before, behind) {
        (Some(mut before), Some(mut behind)) => {
            if before.priority > behind.priority {
                before.right = merge(before.right.take(), Some(behind));
                before.measure();
                Some(before)
            } else {
                behind.left = merge(Some(before), behind.left.take());
                behind.measure();
                Some(behind)
            }
        }
        (one, other) => one.or(other),
    }
}

fn insert<V>(link: Link<V>, mut new: Box<Node<V>>) -> Box<Node<V>> {
    match link {
        Some(mut node) if node.priority >= new.priority => {
            if node.order(&new.start, &new.end).is_lt() {
                node.left = Some(insert(node.left.take(), new));
            } else {
                node.right = Some(insert(node.right.take(), new));
            }
            node.measure();
            node
        }
        below => {
            (new.left, new.right) = split(below, &new.start, &new.end);
            new.measure();
            new
        }
    }
}

fn remove<V>(link: Link<V>, start: &Key, end: &End) -> Link<V> {
    let mut node = link?;
    match node.order(start, end) {
        Ordering::Equal => return merge(node.left.take(), node.right.take()),
        Ordering::Less => node.left = remove(node.left.take(), start, end),
        Ordering::Greater => node.right = remove(node.right.take(), start, end),
    }
    node.measure();
    Some(node)
}

fn find<'a, V>(link: &'a mut Link<V>, start: &Key, end: &End) -> Option<&'a mut V> {
    let node = link.as_mut()?;
    match node.order(start, end) {
        Ordering::Equal => Some(&mut node.value),
        Ordering::Less => find(&mut node.left, start, end),
        Ordering::Greater => find(&mut node.right, start, end),
    }
}

/// How many nodes it looked at.
fn visit<'a, V>(link: &'a Link<V>, key: &[u8], show: &mut impl FnMut(&'a V)) -> usize {
    let Some(node) = link.as_deref() else {
        return 0;
    };
    let mut looked = 1;
    if node.furthest.is_behind(key) {
        looked += visit(&node.left, key, show);
        if node.start.as_bytes() <= key {
            if node.end.is_behind(key) {
                show(&node.value);
            }
            looked += visit(&node.right, key, show);
        }
    }
    looked
}

impl<V> Default for Intervals<V> {
    fn default() -> Intervals<V> {
        Intervals { root: None }
    }
}

impl<V: Default> Intervals<V> {
    /// Changes the value of a range; a new one if it has none.
    pub(super) fn change<T>(&mut self, range: &KeyRange, change: impl FnOnce(&mut V) -> T) -> T {
        let (start, end) = bounds(range);
        if let Some(value) = find(&mut self.root, &start, &end) {
            return change(value);
        }
        let mut value = V::default();
        let changed = change(&mut value);
        let new = Node {
            start,
            furthest: end.clone(),
            end,
            value,
            priority: rand::random(),
            left: None,
            right: None,
        };
        self.root = Some(insert(self.root.take(), Box::new(new)));
        changed
    }

    /// Changes the value of a range that has one, and takes it out if nothing is left of it.
    pub(super) fn shrink<T>(
        &mut self,
        range: &KeyRange,
        change: impl FnOnce(&mut V) -> T,
        is_empty: impl FnOnce(&V) -> bool,
    ) -> Option<T> {
        let (start, end) = bounds(range);
        let value = find(&mut self.root, &start, &end)?;
        let changed = change(value);
        if is_empty(value) {
            self.root = remove(self.root.take(), &start, &end);
        }
        Some(changed)
    }

    /// Shows the values of the ranges that hold `key`. Gives back how many ranges it looked at.
    pub(super) fn for_each<'a>(&'a self, key: &[u8], mut show: impl FnMut(&'a V)) -> usize {
        visit(&self.root, key, &mut show)
    }

    /// All values.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        let mut left: Vec<&Node<V>> = self.root.as_deref().into_iter().collect();
        std::iter::from_fn(move || {
            let node = left.pop()?;
            left.extend(
                [&node.left, &node.right]
                    .into_iter()
                    .filter_map(|link| link.as_deref()),
            );
            Some(&node.value)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(intervals: &Intervals<Vec<usize>>, key: &[u8]) -> Vec<usize> {
        let mut all = Vec::new();
        intervals.for_each(key, |ids| all.extend(ids));
        all.sort_unstable();
        all
    }

    fn any_range() -> impl Strategy<Value = KeyRange> {
        let key = || prop::collection::vec(b'a'..=b'c', 0..4);
        (key(), key(), 0..8).prop_map(|(start, end, kind)| match kind {
            0 => KeyRange::from(start),
            1 => KeyRange::one(start),
            _ => KeyRange::between(start.clone().min(end.clone()), start.max(end)),
        })
    }

    proptest! {
        /// Ranges come and go, some of them more than once: what is found is what a look at each finds.
        #[test]
        fn finds_what_a_look_at_each_finds(
            ranges in prop::collection::vec(any_range(), 0..40),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
            keys in prop::collection::vec(prop::collection::vec(b'a'..=b'c', 0..5), 1..20),
        ) {
            let mut intervals: Intervals<Vec<usize>> = Intervals::default();
            let mut live: Vec<(usize, KeyRange)> = ranges.into_iter().enumerate().collect();
            for (id, range) in &live {
                intervals.change(range, |ids| ids.push(*id));
            }
            for index in gone {
                for key in &keys {
                    let expected: Vec<usize> = live
                        .iter()
                        .filter(|(_, range)| range.contains(key))
                        .map(|(id, _)| *id)
                        .collect();
                    prop_assert_eq!(found(&intervals, key), expected);
                }
                let mut all: Vec<usize> = intervals.values().flatten().copied().collect();
                all.sort_unstable();
                prop_assert_eq!(all, live.iter().map(|(id, _)| *id).collect::<Vec<_>>());
                if live.is_empty() {
                    break;
                }
                let (id, range) = live.remove(index.index(live.len()));
                let removed = intervals.shrink(
                    &range,
                    |ids| ids.retain(|found| *found != id),
                    Vec::is_empty,
                );
                prop_assert!(removed.is_some());
            }
            for (id, range) in live {
                intervals.shrink(&range, |ids| ids.retain(|found| *found != id), Vec::is_empty);
            }
            prop_assert!(intervals.root.is_none());
        }
    }

    fn range(start: usize, end: usize) -> KeyRange {
        KeyRange::between(format!("{start:06}"), format!("{end:06}"))
    }

    /// Whatever order ranges come in, a key that few of them hold is not held against all others.
    #[test]
    fn many_ranges_that_do_not_hold_a_key_cost_next_to_nothing() {
        let many = 30_000;
        type Shape = fn(usize, usize) -> KeyRange;
        let shapes: [(&str, Shape); 4] = [
            ("beside each other", |n, _| range(2 * n, 2 * n + 1)),
            ("one in the other", |n, many| range(n, 3 * many - n)),
            ("all from one key on", |n, _| range(0, n + 1)),
            ("all up to one key", |n, many| range(n, many)),
        ];
        for (shape, make) in shapes {
            let mut intervals: Intervals<Vec<usize>> = Intervals::default();
            for n in 0..many {
                intervals.change(&make(n, many), |ids| ids.push(n));
            }
            for key in ["", "000", "099999", "1", "z"] {
                let mut held = 0;
                let looked = intervals.for_each(key.as_bytes(), |_| held += 1);
                assert!(held <= 1, "{shape}, {key:?}: {held}");
                assert!(looked < 200, "{shape}, {key:?}: looked at {looked}");
            }
            for n in 0..many {
                intervals.shrink(&make(n, many), Vec::clear, Vec::is_empty);
            }
            assert!(intervals.root.is_none(), "{shape}");
        }
    }
}
