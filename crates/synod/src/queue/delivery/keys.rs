//! The keys that stand beside a queue; see the parent for what they mean. Pure.

use std::fmt;

use synod_store::{Key, KeyRange};

/// The name of one thing that lies beside a queue, drawn by lot, so that it is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(u128);

impl Id {
    pub(super) fn draw() -> Id {
        Id(rand::random())
    }

    /// The one after this.
    pub(super) fn next(self) -> Id {
        Id(self.0.saturating_add(1))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The keys beside one queue.
#[derive(Debug, Clone)]
pub(super) struct Beside {
    taken: Key,
    owner: Key,
    held: Key,
    tries: Key,
    later: Key,
    dead: Key,
    once: Key,
    room: Key,
}

impl Beside {
    /// Under this prefix, which is Synod's own.
    pub(super) fn new(own: &Key) -> Beside {
        Beside {
            taken: own.join("taken/"),
            // '-' comes before '/': one range holds both.
            owner: own.join("taken-by/"),
            held: own.join("taken"),
            tries: own.join("tries/"),
            later: own.join("later/"),
            dead: own.join("dead/"),
            once: own.join("once/"),
            room: own.join("room"),
        }
    }

    /// An item that is on its way.
    pub(super) fn taken(&self, id: Id) -> Key {
        self.taken.join(id.to_string())
    }

    /// The leased marker of whoever has it.
    pub(super) fn owner(&self, id: Id) -> Key {
        self.owner.join(id.to_string())
    }

    /// How often the item at this place was handed out.
    pub(super) fn tries(&self, place: &[u8]) -> Key {
        self.tries.join(place)
    }

    /// A delayed item. They lie in the order in which they become due.
    pub(super) fn later(&self, due: u64, id: Id) -> Key {
        self.later.join(format!("{due:020}-{id}"))
    }

    /// A dead letter. They lie in the order in which they died, by the clock of who saw it.
    pub(super) fn dead(&self, now: u64, id: Id) -> Key {
        self.dead.join(format!("{now:020}-{id}"))
    }

    /// The mark of a de-duplication id.
    pub(super) fn once(&self, id: &[u8]) -> Key {
        self.once.join(id)
    }

    /// What all touch who put in only as much as there is room for.
    pub(super) fn room(&self) -> &Key {
        &self.room
    }

    /// All items on their way, and all markers.
    pub(super) fn all_held(&self) -> KeyRange {
        KeyRange::prefix(self.held.clone())
    }

    pub(super) fn all_taken(&self) -> KeyRange {
        KeyRange::prefix(self.taken.clone())
    }

    pub(super) fn all_owners(&self) -> KeyRange {
        KeyRange::prefix(self.owner.clone())
    }

    pub(super) fn all_tries(&self) -> KeyRange {
        KeyRange::prefix(self.tries.clone())
    }

    pub(super) fn all_later(&self) -> KeyRange {
        KeyRange::prefix(self.later.clone())
    }

    pub(super) fn all_dead(&self) -> KeyRange {
        KeyRange::prefix(self.dead.clone())
    }

    /// The items on their way from this one on, and their markers.
    pub(super) fn held_from(&self, from: Id) -> [KeyRange; 2] {
        [
            (&self.taken, self.taken(from)),
            (&self.owner, self.owner(from)),
        ]
        .map(|(prefix, from)| {
            // 'g' comes after every hexadecimal digit.
            KeyRange::Between(from, prefix.join("g"))
        })
    }

    pub(super) fn taken_id(&self, key: &Key) -> Option<Id> {
        id(key.strip_prefix(self.taken.as_bytes())?)
    }

    pub(super) fn owner_id(&self, key: &Key) -> Option<Id> {
        id(key.strip_prefix(self.owner.as_bytes())?)
    }

    /// The place that a count of tries is of.
    pub(super) fn tries_place<'k>(&self, key: &'k Key) -> Option<&'k [u8]> {
        key.strip_prefix(self.tries.as_bytes())
    }

    /// When a delayed item becomes due, in nanoseconds since 1970.
    pub(super) fn due(&self, key: &Key) -> Option<u64> {
        stamp(key.strip_prefix(self.later.as_bytes())?)
    }

    /// When a dead letter died, in nanoseconds since 1970; `None` for a key of something else.
    pub(super) fn died(&self, key: &Key) -> Option<u64> {
        stamp(key.strip_prefix(self.dead.as_bytes())?)
    }
}

fn id(bytes: &[u8]) -> Option<Id> {
    let lower = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let text = std::str::from_utf8(bytes).ok()?;
    let whole = text.len() == 32 && bytes.iter().all(lower);
    whole
        .then(|| u128::from_str_radix(text, 16).ok().map(Id))
        .flatten()
}

fn stamp(suffix: &[u8]) -> Option<u64> {
    let (digits, rest) = suffix.split_at_checked(20)?;
    id(rest.strip_prefix(b"-")?)?;
    let plain = digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside() -> Beside {
        Beside::new(&Key::from("__synod/queue/jobs/"))
    }

    #[test]
    fn the_layout_is_what_the_head_of_the_module_says() {
        let (beside, id) = (beside(), Id(255));
        let hex = "000000000000000000000000000000ff";
        let own = |rest: String| Key::from(format!("__synod/queue/jobs/{rest}"));
        assert_eq!(beside.taken(id), own(format!("taken/{hex}")));
        assert_eq!(beside.owner(id), own(format!("taken-by/{hex}")));
        assert_eq!(beside.tries(b"179"), own("tries/179".to_owned()));
        assert_eq!(
            beside.later(7, id),
            own(format!("later/00000000000000000007-{hex}"))
        );
        assert_eq!(
            beside.dead(u64::MAX, id),
            own(format!("dead/18446744073709551615-{hex}"))
        );
        assert_eq!(beside.once(b"a/b"), own("once/a/b".to_owned()));
        assert_eq!(*beside.room(), own("room".to_owned()));
    }

    #[test]
    fn what_is_written_is_recognised() {
        let (beside, id) = (beside(), Id::draw());
        assert_eq!(beside.taken_id(&beside.taken(id)), Some(id));
        assert_eq!(beside.owner_id(&beside.owner(id)), Some(id));
        assert_eq!(beside.taken_id(&beside.owner(id)), None);
        assert_eq!(beside.owner_id(&beside.taken(id)), None);
        assert_eq!(beside.due(&beside.later(7, id)), Some(7));
        assert_eq!(beside.died(&beside.dead(7, id)), Some(7));
        assert_eq!(beside.due(&beside.dead(7, id)), None);
        assert_eq!(beside.tries_place(&beside.tries(b"1/2")), Some(&b"1/2"[..]));
        for bad in ["", "x", "0000000000000000000+-", "7-00"] {
            assert_eq!(
                beside.due(&Key::from(format!("__synod/queue/jobs/later/{bad}"))),
                None
            );
        }
    }

    #[test]
    fn one_range_holds_items_and_markers_and_nothing_else() {
        let (beside, id) = (beside(), Id::draw());
        let held = beside.all_held();
        assert!(held.contains(&beside.taken(id)) && held.contains(&beside.owner(id)));
        for other in [
            beside.tries(b"1"),
            beside.later(1, id),
            beside.dead(1, id),
            beside.once(b"taken"),
            beside.room().clone(),
        ] {
            assert!(!held.contains(&other), "{other}");
        }
        let [taken, owner] = beside.held_from(id);
        assert!(taken.contains(&beside.taken(id)) && !taken.contains(&beside.owner(id)));
        assert!(owner.contains(&beside.owner(id)) && !owner.contains(&beside.taken(id)));
        assert!(taken.contains(&beside.taken(Id(u128::MAX))));
    }
}
