//! [`Numbers`]: what makes each key of a session its own.
//!
//! A number belongs to one key at a time. It comes from a counter of the process, so that no two
//! clients ever have the same one, and goes back to its client when its key is gone *for certain*: the
//! joining Txn was answered, so that no copy of it can come late, and so was the deletion. The smallest
//! free one is given next: who contends for a lock again and again stands there under the same key each
//! time, and who stands behind finds the watch of that key still in place (`vigil`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::slot::Slot;

/// The free numbers of one client. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers(Arc<Slot<BinaryHeap<Reverse<u64>>>>);

impl Numbers {
    /// One that no key of this process has.
    pub(crate) fn take(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let free = self.0.lock().pop();
        free.map_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed), |Reverse(n)| n)
    }

    /// The key with this number is gone, and no late copy of a request can make it again.
    pub(super) fn give_back(&self, number: u64) {
        self.0.lock().push(Reverse(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_owner_at_a_time() {
        let (one, other) = (Numbers::default(), Numbers::default());
        let (a, b) = (one.take(), one.take());
        let c = other.take();
        assert!(a != b && b != c && a != c);
        one.give_back(b);
        one.give_back(a);
        assert_eq!(one.take(), a.min(b), "the smallest first");
        assert_ne!(other.take(), a.max(b), "another client's");
        assert_eq!(one.take(), a.max(b));
        assert!(![a, b, c].contains(&one.take()));
    }
}
