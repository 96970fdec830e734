//! Which keys may be read, or written: ranges of keys, joined where they touch.

use bytes::Bytes;
use synod_engine::Reach;

/// Ranges of keys that neither overlap nor touch, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range>);

/// From `start` on, up to and without `end`; to the last key without one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    start: Bytes,
    end: Option<Bytes>,
}

impl Range {
    /// The keys that etcd's pair of a key and a range's end means.
    fn of(key: &Bytes, range_end: &Bytes) -> Range {
        let end = match range_end.as_ref() {
            [] => {
                let after = [key.as_ref(), &[0]].concat();
                Some(after.into())
            }
            [0] => None,
            _ => Some(range_end.clone()),
        };
        Range {
            start: key.clone(),
            end,
        }
    }

    fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether it goes as far as `end` at least.
    fn reaches(&self, end: Option<&Bytes>) -> bool {
        match (&self.end, end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(end)) => mine >= end,
        }
    }
}

impl Ranges {
    /// The union of these pairs of a key and a range's end.
    pub(super) fn new<'a>(pairs: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>) -> Ranges {
        let ranges = pairs.into_iter().map(|(key, end)| Range::of(key, end));
        let mut ranges: Vec<Range> = ranges.filter(|range| !range.is_empty()).collect();
        ranges.sort_by(|a, b| a.start.cmp(&b.start));
        let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.reaches(Some(&range.start)) => {
                    if !last.reaches(range.end.as_ref()) {
                        last.end = range.end;
                    }
                }
                _ => joined.push(range),
            }
        }
        Ranges(joined)
    }

    /// How far they go from a key on.
    pub(super) fn reach(&self, key: &[u8]) -> Reach<'_> {
        let after = self.0.partition_point(|range| range.start <= key);
        let range = after.checked_sub(1).and_then(|index| self.0.get(index));
        match range.map(|range| range.end.as_ref()) {
            Some(None) => Reach::End,
            Some(Some(end)) if end.as_ref() > key => Reach::To(end),
            _ => Reach::Nowhere,
        }
    }

    /// Whether every key of this range is among them. Of a range without keys, its first one counts.
    pub(super) fn cover(&self, key: &Bytes, range_end: &Bytes) -> bool {
        let mut wanted = Range::of(key, range_end);
        if wanted.is_empty() {
            wanted = Range::of(key, &Bytes::new());
        }
        let after = self.0.partition_point(|range| range.start <= wanted.start);
        let before = after.checked_sub(1).and_then(|index| self.0.get(index));
        before.is_some_and(|range| range.reaches(wanted.end.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn ranges(pairs: &[(&'static str, &'static str)]) -> Ranges {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, end)| (bytes(key), bytes(end)))
            .collect();
        Ranges::new(pairs.iter().map(|(key, end)| (key, end)))
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let some = ranges(&[("a", "c"), ("c", "e"), ("x", ""), ("z", "\0")]);
        let covers = |key, end| some.cover(&bytes(key), &bytes(end));
        assert!(covers("a", "e") && covers("b", "d") && covers("b", ""));
        assert!(!covers("a", "f") && !covers("e", "") && !covers("a", "\0"));
        assert!(covers("x", "") && !covers("x", "y") && !covers("x\0", ""));
        assert_eq!(some.reach(b"zz"), Reach::End);
        assert_eq!(some.reach(b"a"), Reach::To(b"e"));
        assert_eq!(some.reach(b"e"), Reach::Nowhere);
        assert!(covers("z", "\0") && covers("zz", "zzz") && !covers("y", "\0"));
    }

    #[test]
    fn what_is_no_range_gives_nothing_away() {
        assert_eq!(ranges(&[("b", "a"), ("a", "a")]), Ranges::default());
        assert!(!ranges(&[("b", "a")]).cover(&bytes("b"), &bytes("")));
        let some = ranges(&[("b", "")]);
        assert!(some.cover(&bytes("b"), &bytes("a")));
        assert!(!some.cover(&bytes("c"), &bytes("a")));
        assert!(ranges(&[("\0", "\0")]).cover(&bytes("\0"), &bytes("\0")));
        assert!(ranges(&[("", "\0")]).cover(&bytes("\0"), &bytes("\0")));
    }

    proptest! {
        /// Over keys of one letter the same can be found out letter by letter.
        #[test]
        fn as_letter_by_letter(pairs in prop::collection::vec((0_u8..12, 0_u8..12), 0..6), key in 0_u8..12, end in 0_u8..12) {
            let letter = |n: u8| Bytes::from(vec![b'a' + n]);
            let pairs: Vec<_> = pairs.into_iter().map(|(key, end)| (letter(key), letter(end))).collect();
            let ranges = Ranges::new(pairs.iter().map(|(key, end)| (key, end)));
            prop_assume!(key < end);
            // Between two letters there are keys as well: all that begin with the first.
            let allowed = (key..end).all(|n| pairs.iter().any(|(from, to)| *from <= letter(n) && letter(n) < *to));
            prop_assert_eq!(ranges.cover(&letter(key), &letter(end)), allowed);
            // Key by key the same comes out.
            let one = ranges.cover(&letter(key), &Bytes::new());
            let reach = match ranges.reach(&letter(key)) {
                Reach::Nowhere => None,
                Reach::To(end) => Some(end),
                Reach::End => return Err(TestCaseError::fail("no range goes on for ever")),
            };
            prop_assert_eq!(reach.is_some(), one);
            prop_assert_eq!(reach.is_some_and(|reach| letter(end) <= reach), allowed);
        }
    }
}
