//! What is written of an item while it is out of its queue, and of failed deliveries while it is
//! back in it. Pure.
//!
//! # Format
//!
//! ```text
//! taken, later and dead:  "1 ATTEMPTS MOST LENGTH " PLACE "\n" PAYLOAD
//! tries:                  "1 ATTEMPTS"
//! ```
//!
//! The first number is the format's version. `ATTEMPTS` counts how often the item was handed out so
//! far, `MOST` how often it may be (0: without end), both decimal. `PLACE` is `LENGTH` bytes: what
//! comes after `NAME/` in the item's key; nothing for an item that has not been in the queue yet. The
//! rest is the payload as it was put in.

use bytes::Bytes;

/// The version that is written, and the only one there is so far.
const VERSION: &str = "1";

/// No header is longer than this, without its place.
const LONGEST: usize = 64;

/// An item that is out of its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// How often it was handed out so far.
    pub(super) attempts: u32,
    /// How often it may be; `None` without end.
    pub(super) most: Option<u32>,
    /// Its key without the queue's prefix; empty when it has not had one.
    pub(super) place: Bytes,
    /// What was put in.
    pub(super) payload: Bytes,
}

impl Record {
    pub(super) fn encode(&self) -> Bytes {
        let most = self.most.unwrap_or(0);
        let header = format!("{VERSION} {} {most} {} ", self.attempts, self.place.len());
        let mut bytes = Vec::with_capacity(
            header
                .len()
                .saturating_add(self.place.len())
                .saturating_add(self.payload.len())
                .saturating_add(1),
        );
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&self.place);
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.payload);
        bytes.into()
    }

    /// `None` when the bytes are no record, or one of a later version.
    pub(super) fn decode(bytes: &Bytes) -> Option<Record> {
        let head = bytes.get(..bytes.len().min(LONGEST))?;
        let mut words = head.splitn(5, |&byte| byte == b' ');
        let mut read = 0usize;
        let mut word = || {
            let word = std::str::from_utf8(words.next()?).ok()?;
            read = read.saturating_add(word.len()).saturating_add(1);
            Some(word)
        };
        if word()? != VERSION {
            return None;
        }
        let attempts = number(word()?)?;
        let most = number(word()?)?;
        let length = usize::try_from(number(word()?)?).ok()?;
        let place_end = read.checked_add(length)?;
        if bytes.get(place_end) != Some(&b'\n') {
            return None;
        }
        Some(Record {
            attempts,
            most: (most > 0).then_some(most),
            place: bytes.slice(read..place_end),
            payload: bytes.slice(place_end.checked_add(1)?..),
        })
    }

    /// Whether it may not be handed out again.
    pub(super) fn is_used_up(&self) -> bool {
        self.most.is_some_and(|most| self.attempts >= most)
    }
}

/// A decimal number without sign or space.
fn number(word: &str) -> Option<u32> {
    let plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| word.parse().ok()).flatten()
}

/// How often an item that is back in its queue was handed out.
pub(super) fn encode_tries(attempts: u32) -> Bytes {
    format!("{VERSION} {attempts}").into()
}

/// `None` when the bytes say nothing of the kind, or in a later version.
pub(super) fn decode_tries(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (version, attempts) = text.split_once(' ')?;
    (version == VERSION).then(|| number(attempts)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(place: &'static str, payload: &'static [u8]) -> Record {
        Record {
            attempts: 2,
            most: Some(5),
            place: Bytes::from_static(place.as_bytes()),
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn records_survive_their_encoding() {
        let places = [
            "",
            "1790000000000000000",
            "00007/0000000000000003",
            "1 2\n3",
        ];
        let payloads: [&[u8]; 5] = [b"", b"hello", b"\n", b" 1 2 3 4 5 \n\n", &[0, 255, 10, 32]];
        for place in places {
            for payload in payloads {
                for (attempts, most) in [(0, None), (1, Some(1)), (u32::MAX, Some(u32::MAX))] {
                    let record = Record {
                        attempts,
                        most,
                        ..record(place, payload)
                    };
                    assert_eq!(Record::decode(&record.encode()), Some(record));
                }
            }
        }
        for attempts in [0, 7, u32::MAX] {
            assert_eq!(decode_tries(&encode_tries(attempts)), Some(attempts));
        }
    }

    #[test]
    fn the_bytes_are_what_they_were() {
        let queue = record("1790000000000000000", b"hello");
        assert_eq!(queue.encode(), "1 2 5 19 1790000000000000000\nhello");
        let endless = Record {
            most: None,
            ..record("", b"")
        };
        assert_eq!(endless.encode(), "1 2 0 0 \n");
        assert_eq!(encode_tries(3), "1 3");
    }

    #[test]
    fn anything_else_is_no_record() {
        let bad = [
            "",
            "1",
            "1 2 5 0",
            "1 2 5 0 x",
            "2 2 5 0 \n",
            "1 +2 5 0 \n",
            "1 2 5 9 short\n",
            "1 2 5 99999999999 \n",
            "1  5 0 \n",
            "hello",
        ];
        for bad in bad {
            assert_eq!(
                Record::decode(&Bytes::from_static(bad.as_bytes())),
                None,
                "{bad:?}"
            );
        }
        for bad in ["", "1", "2 1", "1 -1", "1 x"] {
            assert_eq!(decode_tries(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        let mut record = record("", b"");
        for (attempts, most, used_up) in [(4, Some(5), false), (5, Some(5), true), (9, None, false)]
        {
            (record.attempts, record.most) = (attempts, most);
            assert_eq!(record.is_used_up(), used_up);
        }
    }
}
