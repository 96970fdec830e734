//! Keys and ranges of keys.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// A key: any bytes but none at all. Cheap to clone.
///
/// An empty key can be built, so that a store can refuse it with the error that etcd gives.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// The key with these bytes, which are not copied.
    #[must_use]
    pub const fn from_static(bytes: &'static [u8]) -> Key {
        Key(Bytes::from_static(bytes))
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key's bytes, shared.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The smallest key that is greater than this one: this one with a zero byte appended.
    #[must_use]
    pub fn successor(&self) -> Key {
        let mut bytes = Vec::with_capacity(self.0.len().saturating_add(1));
        bytes.extend_from_slice(&self.0);
        bytes.push(0);
        Key(bytes.into())
    }

    /// This key with `suffix` appended.
    #[must_use]
    pub fn join(&self, suffix: impl AsRef<[u8]>) -> Key {
        Key([self.as_bytes(), suffix.as_ref()].concat().into())
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Shown as text, with bytes that are no printable ASCII escaped.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Key {
    fn from(text: String) -> Key {
        Key(text.into())
    }
}

impl From<&String> for Key {
    fn from(text: &String) -> Key {
        Key::from(text.as_str())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Key {
        Key(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Key {
    fn from(bytes: &[u8; N]) -> Key {
        Key(Bytes::copy_from_slice(bytes))
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Key {
        Key(bytes.into())
    }
}

impl From<Bytes> for Key {
    fn from(bytes: Bytes) -> Key {
        Key(bytes)
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Key {
        key.clone()
    }
}

/// Which keys a request is about, in byte order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyRange {
    /// One key.
    One(Key),
    /// From the first key, which belongs to it, to the second, which does not. Empty (and no
    /// error) when the second is not greater than the first.
    Between(Key, Key),
    /// The key and all greater ones.
    From(Key),
}

impl KeyRange {
    /// One key.
    pub fn one(key: impl Into<Key>) -> KeyRange {
        KeyRange::One(key.into())
    }

    /// From `start`, included, to `end`, excluded.
    pub fn between(start: impl Into<Key>, end: impl Into<Key>) -> KeyRange {
        KeyRange::Between(start.into(), end.into())
    }

    /// `start` and all greater keys.
    pub fn from(start: impl Into<Key>) -> KeyRange {
        KeyRange::From(start.into())
    }

    /// Every key.
    #[must_use]
    pub fn all() -> KeyRange {
        KeyRange::From(Key::from_static(b"\0"))
    }

    /// Every key that starts with `prefix`; every key at all for an empty prefix.
    pub fn prefix(prefix: impl Into<Key>) -> KeyRange {
        let prefix = prefix.into();
        if prefix.is_empty() {
            return KeyRange::all();
        }
        // The end is the prefix without its trailing 0xff bytes and its last byte raised by one.
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last.saturating_add(1));
                return KeyRange::Between(prefix, end.into());
            }
        }
        KeyRange::From(prefix)
    }

    /// The first key that can be in the range.
    #[must_use]
    pub fn start(&self) -> &Key {
        match self {
            KeyRange::One(key) | KeyRange::Between(key, _) | KeyRange::From(key) => key,
        }
    }

    /// Whether the range can hold no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Between(start, end) if end <= start)
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => one.as_bytes() == key,
            KeyRange::Between(start, end) => start.as_bytes() <= key && key < end.as_bytes(),
            KeyRange::From(start) => start.as_bytes() <= key,
        }
    }
}

impl<K: Into<Key>> From<K> for KeyRange {
    fn from(key: K) -> KeyRange {
        KeyRange::One(key.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        let range = KeyRange::prefix("ab");
        assert!(range.contains(b"ab") && range.contains(b"ab\xff"));
        assert!(!range.contains(b"ac") && !range.contains(b"aa"));
        assert_eq!(
            KeyRange::prefix(b"a\xff\xff"),
            KeyRange::between(b"a\xff\xff", "b")
        );
        assert_eq!(
            KeyRange::prefix(b"\xff"),
            KeyRange::From(Key::from(b"\xff"))
        );
        assert_eq!(KeyRange::prefix(""), KeyRange::all());
    }

    #[test]
    fn an_inverted_range_is_empty() {
        assert!(KeyRange::between("b", "a").is_empty());
        assert!(KeyRange::between("a", "a").is_empty());
        assert!(!KeyRange::between("a", "a\0").is_empty());
        assert!(!KeyRange::between("b", "a").contains(b"a"));
    }

    #[test]
    fn keys_show_as_text_where_they_are_text() {
        assert_eq!(Key::from("q/1").to_string(), "q/1");
        assert_eq!(Key::from(b"a\x00\xff").to_string(), "a\\x00\\xff");
        assert_eq!(Key::from("a").successor(), Key::from(b"a\0"));
    }
}
