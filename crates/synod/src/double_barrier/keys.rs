//! The keys of the native layout, and what stands in them.

use bytes::Bytes;
use synod_store::{Key, KeyRange};

/// The most participants: one Txn compares the places of all of them, and etcd takes 128 operations
/// along a path of nested Txns, of which the rest is for the other guards.
pub(super) const MOST: u32 = 112;

/// The keys of one double barrier.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: Key,
    /// The number of the last full round, and the count. Its modification revision is the round's
    /// identity.
    pub(super) round: Key,
    /// Put by the last to leave.
    pub(super) done: Key,
    /// Its version counts those who have left.
    pub(super) left: Key,
    /// Put by who makes old copies of a Txn void.
    pub(super) void: Key,
    places: Key,
    go_waiters: Key,
    /// Where etcd's Go recipe has its flag.
    pub(super) go_ready: Key,
}

impl Keys {
    pub(super) fn new(prefix: Key, name: &Key) -> Keys {
        Keys {
            round: prefix.join("at/round"),
            done: prefix.join("at/done"),
            left: prefix.join("left"),
            void: prefix.join("void"),
            places: prefix.join("place/"),
            go_waiters: name.join("/waiters/"),
            go_ready: name.join("/ready"),
            prefix,
        }
    }

    /// Everything.
    pub(super) fn all(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    /// What all participants watch: two events a round.
    pub(super) fn at(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.join("at/"))
    }

    pub(super) fn places(&self) -> KeyRange {
        KeyRange::prefix(self.places.clone())
    }

    pub(super) fn place(&self, number: u32) -> Key {
        self.places.join(format!("{number:03}"))
    }

    /// Where etcd's Go recipe has its waiters.
    pub(super) fn go_waiters(&self) -> KeyRange {
        KeyRange::prefix(self.go_waiters.clone())
    }
}

/// What the round's key says: `COUNT ROUND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    /// How many participants a round has.
    pub(super) count: u32,
    /// How many rounds have been full.
    pub(super) number: u64,
}

impl Round {
    pub(super) fn encode(self) -> String {
        format!("{} {}", self.count, self.number)
    }

    pub(super) fn decode(value: &[u8]) -> Option<Round> {
        let (count, number) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(Round {
            count: count.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

/// What stands in a place: the word of the one call that took it, and who that is.
pub(super) fn occupant(word: u128, identity: &[u8]) -> Bytes {
    [format!("{word:032x} ").as_bytes(), identity]
        .concat()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_survive_their_encoding() {
        let round = Round {
            count: 32,
            number: 7,
        };
        assert_eq!(round.encode(), "32 7");
        assert_eq!(Round::decode(b"32 7"), Some(round));
        for bad in ["", "32", "x 7", "32 x", "32 7 9"] {
            assert_eq!(Round::decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn names_do_not_meet() {
        let keys = Keys::new(Key::from("__synod/double-barrier/a/"), &Key::from("a"));
        assert!(keys.places().contains(&keys.place(MOST)));
        assert!(keys.at().contains(&keys.round) && keys.at().contains(&keys.done));
        assert!(!keys.at().contains(&keys.left) && !keys.places().contains(&keys.left));
        assert!(!keys.at().contains(&keys.void) && !keys.places().contains(&keys.void));
        assert!(keys.all().contains(&keys.left) && keys.all().contains(&keys.void));
        assert!(keys.go_waiters().contains(b"a/waiters/1790000000000000000"));
        assert!(!keys.go_waiters().contains(b"ab/waiters/1"));
    }
}
