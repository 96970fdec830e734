//! The values that a queue's measurement puts in, and the [`Ledger`] of what went in and came out: a
//! queue that is fast and loses items, or gives one out twice, must not pass.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

/// Who fills the queue before it is measured.
pub(crate) const FILLER: u32 = u32::MAX;

/// What a value says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) producer: u32,
    /// Which of the producer's items it is.
    pub(crate) number: u32,
    /// From when its latency counts; unknown in a value of less than 16 bytes. 0 for one that was there
    /// before it was measured, and has none.
    pub(crate) begin: Option<u64>,
}

/// A value of this size. One of less than 8 bytes says nothing.
pub(crate) fn value(size: usize, producer: u32, number: u32, begin: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(size.max(16));
    value.extend_from_slice(&producer.to_be_bytes());
    value.extend_from_slice(&number.to_be_bytes());
    value.extend_from_slice(&begin.to_be_bytes());
    value.resize(size.max(16), b'.');
    value.truncate(size);
    value
}

/// What a value says of itself, if it is large enough.
pub(crate) fn read(value: &[u8]) -> Option<Item> {
    let (producer, rest) = value.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    Some(Item {
        producer: u32::from_be_bytes(*producer),
        number: u32::from_be_bytes(*number),
        begin: rest.first_chunk().map(|begin| u64::from_be_bytes(*begin)),
    })
}

/// What went in and what came out, as far as one process knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// How many went in, for certain.
    pub(crate) put: u64,
    /// How many may have gone in: the call failed, or was given up.
    pub(crate) unsure: u64,
    /// How many came out.
    pub(crate) out: u64,
    /// How many calls to take one out failed: each may have taken an item with it.
    pub(crate) failed: u64,
    /// How many each producer has tried to put in.
    tried: BTreeMap<u32, u64>,
    seen: BTreeMap<u32, Bits>,
    /// Those that came out twice.
    doubled: Vec<(u32, u32)>,
}

impl Ledger {
    /// A producer has put items in, all with numbers below `next`; not `certain` when the call failed.
    pub(crate) fn put(&mut self, producer: u32, next: u32, items: u64, certain: bool) {
        let sum = if certain {
            &mut self.put
        } else {
            &mut self.unsure
        };
        *sum = sum.saturating_add(items);
        let tried = self.tried.entry(producer).or_default();
        *tried = (*tried).max(u64::from(next));
    }

    /// A value came out.
    pub(crate) fn out(&mut self, value: &[u8]) {
        self.out = self.out.saturating_add(1);
        if let Some(item) = read(value) {
            let new = self.seen.entry(item.producer).or_default().set(item.number);
            if !new {
                self.doubled.push((item.producer, item.number));
            }
        }
    }

    /// Adds what another process knows.
    pub(crate) fn merge(&mut self, other: Ledger) {
        self.put = self.put.saturating_add(other.put);
        self.unsure = self.unsure.saturating_add(other.unsure);
        self.out = self.out.saturating_add(other.out);
        self.failed = self.failed.saturating_add(other.failed);
        for (producer, tried) in other.tried {
            let most = self.tried.entry(producer).or_default();
            *most = (*most).max(tried);
        }
        self.doubled.extend(other.doubled);
        for (producer, bits) in other.seen {
            let both = self.seen.entry(producer).or_default().merge(&bits);
            self.doubled.extend(both.map(|number| (producer, number)));
        }
    }

    /// What must not be, when the queue holds `left` items at the end.
    pub(crate) fn violations(&self, left: u64) -> Vec<String> {
        let mut violations = Vec::new();
        if let Some((producer, number)) = self.doubled.first() {
            let count = self.doubled.len();
            violations.push(format!(
                "{count} items came out twice, first number {number} of producer {producer}"
            ));
        }
        let strange = self.seen.iter().find(|(producer, bits)| {
            let tried = self.tried.get(producer).copied().unwrap_or(0);
            bits.length() > tried
        });
        if let Some((producer, bits)) = strange {
            let number = bits.length().saturating_sub(1);
            violations.push(format!(
                "an item came out that nobody put in: number {number} of producer {producer}"
            ));
        }
        let accounted = self.out.saturating_add(left);
        let lost = self
            .put
            .saturating_sub(accounted.saturating_add(self.failed));
        if lost > 0 {
            violations.push(format!(
                "{lost} items got lost: {} went in, {} came out, {left} are left",
                self.put, self.out
            ));
        }
        let surplus = accounted.saturating_sub(self.put.saturating_add(self.unsure));
        if surplus > 0 {
            violations.push(format!(
                "{surplus} items are too many: {} went in, {} came out, {left} are left",
                self.put, self.out
            ));
        }
        violations
    }
}

/// A set of numbers, a bit each.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
struct Bits(Vec<u8>);

impl Bits {
    /// Adds a number; whether it was not there.
    fn set(&mut self, number: u32) -> bool {
        let index = (number / 8) as usize;
        if self.0.len() <= index {
            self.0.resize(index.saturating_add(1), 0);
        }
        let bit = 1u8 << (number % 8);
        match self.0.get_mut(index) {
            Some(byte) if *byte & bit == 0 => {
                *byte |= bit;
                true
            }
            _ => false,
        }
    }

    /// Adds those of another set; returns those that were in both.
    fn merge(&mut self, other: &Bits) -> impl Iterator<Item = u32> + use<> {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        let mut both = Vec::new();
        for (index, (mine, theirs)) in self.0.iter_mut().zip(&other.0).enumerate() {
            let common = *mine & theirs;
            *mine |= theirs;
            for bit in (0..8u32).filter(|bit| common & (1 << bit) != 0) {
                let number = (index as u64)
                    .saturating_mul(8)
                    .saturating_add(u64::from(bit));
                both.extend(u32::try_from(number));
            }
        }
        both.into_iter()
    }

    /// One more than the largest number.
    fn length(&self) -> u64 {
        let last = self.0.iter().rposition(|byte| *byte != 0);
        last.map_or(0, |index| {
            let zeros = self.0.get(index).map_or(0, |byte| byte.leading_zeros());
            (index as u64)
                .saturating_add(1)
                .saturating_mul(8)
                .saturating_sub(u64::from(zeros))
        })
    }
}

impl From<String> for Bits {
    fn from(text: String) -> Bits {
        Bits(STANDARD_NO_PAD.decode(text).unwrap_or_default())
    }
}

impl From<Bits> for String {
    fn from(bits: Bits) -> String {
        STANDARD_NO_PAD.encode(bits.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_say_as_much_as_fits() {
        let item = Item {
            producer: 3,
            number: 70_000,
            begin: Some(9),
        };
        assert_eq!(value(100, 3, 70_000, 9).len(), 100);
        assert_eq!(read(&value(100, 3, 70_000, 9)), Some(item));
        assert_eq!(read(&value(16, 3, 70_000, 9)), Some(item));
        assert_eq!(
            read(&value(8, 3, 70_000, 9)),
            Some(Item {
                begin: None,
                ..item
            })
        );
        assert_eq!(read(&value(7, 3, 70_000, 9)), None);
        assert_eq!(value(0, 3, 70_000, 9).len(), 0);
    }

    fn ledger(put: u32, out: &[u32]) -> Ledger {
        let mut ledger = Ledger::default();
        if put > 0 {
            ledger.put(1, put, u64::from(put), true);
        }
        for number in out {
            ledger.out(&value(8, 1, *number, 0));
        }
        ledger
    }

    #[test]
    fn all_accounted_for_is_fine() {
        assert!(ledger(20, &[0, 1, 19, 7]).violations(16).is_empty());
        let mut two = ledger(20, &[0, 1]);
        two.merge(ledger(0, &[19, 2]));
        assert!(two.violations(16).is_empty());
    }

    #[test]
    fn a_lost_or_doubled_item_is_found() {
        assert!(ledger(20, &[0, 1]).violations(17)[0].contains("1 items got lost"));
        assert!(ledger(20, &[0, 1]).violations(19)[0].contains("1 items are too many"));
        assert!(ledger(20, &[0, 0]).violations(18)[0].contains("came out twice"));
        assert!(ledger(20, &[20]).violations(19)[0].contains("nobody put in"));
        let mut two = ledger(20, &[0, 1]);
        two.merge(ledger(0, &[1]));
        let found = two.violations(17);
        assert!(
            found[0].contains("1 items came out twice, first number 1"),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_uncertain_is_no_violation() {
        let mut ledger = ledger(20, &[0]);
        ledger.put(1, 21, 1, false);
        ledger.failed = 1;
        assert!(ledger.violations(20).is_empty());
        assert!(ledger.violations(18).is_empty());
        assert!(!ledger.violations(17).is_empty());
        assert!(!ledger.violations(21).is_empty());
    }

    #[test]
    fn ledgers_can_be_sent() {
        let sent = serde_json::to_string(&ledger(20, &[0, 19])).unwrap();
        let mut got: Ledger = serde_json::from_str(&sent).unwrap();
        got.out(&value(8, 1, 19, 0));
        assert!(got.violations(17)[0].contains("twice"));
    }
}
