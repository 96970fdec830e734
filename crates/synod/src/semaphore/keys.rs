//! The keys of one semaphore.

use std::sync::Arc;

use synod_store::{Key, KeyRange, RangeRequest};

/// Where a semaphore's keys lie. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    prefix: Key,
    total: Key,
    line: Key,
}

impl Keys {
    pub(super) fn new(prefix: Key) -> Keys {
        let inner = Inner {
            total: prefix.join("total"),
            line: prefix.join("line/"),
            prefix,
        };
        Keys {
            inner: Arc::new(inner),
        }
    }

    /// Everything of this semaphore.
    pub(super) fn all(&self) -> KeyRange {
        KeyRange::prefix(self.inner.prefix.clone())
    }

    /// The record of the total.
    pub(super) fn total(&self) -> &Key {
        &self.inner.total
    }

    /// All tickets.
    pub(super) fn line(&self) -> KeyRange {
        KeyRange::prefix(self.inner.line.clone())
    }

    /// Reads the tickets, which say everything in their keys.
    pub(super) fn read_line(&self) -> RangeRequest {
        RangeRequest::new(self.line()).keys_only()
    }

    /// The key of a ticket with this unique suffix.
    pub(super) fn ticket(&self, permits: u32, suffix: &str) -> Key {
        self.inner.line.join(format!("{permits}-{suffix}"))
    }

    /// How many permits a ticket is for; `None` for a key that is none.
    pub(super) fn permits(&self, key: &[u8]) -> Option<u32> {
        let rest = key.strip_prefix(self.inner.line.as_bytes())?;
        let end = rest.iter().position(|&byte| byte == b'-')?;
        parse(rest.get(..end)?)
    }
}

/// A number of permits, as it is written.
pub(super) fn parse(text: &[u8]) -> Option<u32> {
    let number: u32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // One way to write a number, so that equal totals are equal values.
    (number > 0 && number.to_string().as_bytes() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_says_how_many_permits_it_is_for() {
        let keys = Keys::new("__synod/semaphore/pool/".into());
        let ticket = keys.ticket(12, "ab-1");
        assert_eq!(ticket, Key::from("__synod/semaphore/pool/line/12-ab-1"));
        assert_eq!(keys.permits(&ticket), Some(12));
        assert!(keys.line().contains(&ticket) && keys.all().contains(keys.total()));
        assert!(!keys.line().contains(keys.total()));
    }

    #[test]
    fn what_is_no_ticket_counts_for_nothing() {
        let keys = Keys::new("p/".into());
        for key in [
            "p/total",
            "p/line/",
            "p/line/-a",
            "p/line/0-a",
            "p/line/01-a",
            "p/line/+1-a",
            "p/line/4294967296-a",
            "p/line/x-a",
            "p/line/7",
        ] {
            assert_eq!(keys.permits(key.as_bytes()), None, "{key}");
        }
        assert_eq!(keys.permits(b"p/line/4294967295-a"), Some(u32::MAX));
    }
}
