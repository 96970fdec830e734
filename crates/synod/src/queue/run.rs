//! A run: items that come out one after the other and whose keys lie side by side, taken all by one
//! deletion. Pure.
//!
//! A claim of a hundred items by their keys is a hundred comparisons and a hundred deletions, which a
//! server parses, checks, writes to its log and answers one by one. If between the lowest and the highest
//! of their keys nothing else lies, one of each will do:
//!
//! `If mod(all in [lowest, highest]) <= seen Then delete [lowest, highest], and say what it was`
//!
//! # Why it holds
//!
//! `seen` is a revision at which everything in the range was known. Whatever was put there later,
//! anew or over an item, has a higher one: then the comparison fails and nothing is taken, so that
//! no stranger's key and no item of a later turn is deleted. What others have taken meanwhile the
//! comparison does not notice, nor need it: the answer says what was deleted, and that alone was taken, by
//! this deletion and nobody else. All that comes out before the last of them was known, and is gone or
//! among them: order is kept. When the answer is lost but the lane says that it happened, the same is read
//! at the revision before: the range holds then what the deletion found. When that history is gone, too, nobody
//! can say any more which of them there were; so a [`FEW`] whose values are known are taken key by key
//! instead, where the lane says it all.
//!
//! A key that is no item (`NAME/7/x`) may lie among the keys: where one was seen there are no runs.
//! Producers whose clocks disagree put new items between known ones; a run that failed is followed by
//! [`APART`] claims key by key, which do not mind.

use std::collections::VecDeque;

use synod_store::{Compare, CompareOp, DeleteRequest, KeyRange, KeyValue, Revision, TxnOpResponse};

use super::look::Candidate;
use crate::settle::Work;

/// So many are no run worth that.
pub(super) const FEW: usize = 16;

/// After a run that failed so many claims are made key by key.
pub(super) const APART: u32 = 16;

/// The first so many items of a window, which nothing known lies between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// From the lowest of their keys to the highest.
    pub(super) range: KeyRange,
    /// How many there are.
    pub(super) count: usize,
}

impl Run {
    /// The first `count` of the window; `None` when another item of it lies between their keys.
    pub(super) fn of(window: &VecDeque<Candidate>, count: usize) -> Option<Run> {
        let keys = || window.iter().take(count).map(|item| &item.key);
        let (lowest, highest) = (keys().min()?, keys().max()?);
        let within = |item: &&Candidate| (lowest..=highest).contains(&&item.key);
        if window.iter().skip(count).any(|item| within(&item)) {
            return None;
        }
        Some(Run {
            range: KeyRange::Between(lowest.clone(), highest.successor()),
            count: count.min(window.len()),
        })
    }

    /// The operation that takes what is left of them, if nothing was put there after `seen`.
    pub(super) fn work(&self, seen: Revision) -> Work {
        let unchanged = Compare::mod_revision(self.range.clone(), CompareOp::Less, seen.next());
        let mut delete = DeleteRequest::new(self.range.clone());
        delete.prev_kv = true;
        Work::new(vec![unchanged], vec![delete.into()])
    }
}

/// What the deletion among the answers has taken.
pub(super) fn deleted(responses: Vec<TxnOpResponse>) -> Vec<KeyValue> {
    let deletions = responses.into_iter().filter_map(TxnOpResponse::into_delete);
    deletions.flat_map(|deleted| deleted.prev_kvs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By age; the number of each is its key.
    fn window(keys: &[u64]) -> VecDeque<Candidate> {
        let candidate = |(age, key): (usize, &u64)| Candidate {
            key: format!("q/{key:02}").into(),
            mod_revision: Revision(age as u64 + 1),
            value: None,
        };
        keys.iter().enumerate().map(candidate).collect()
    }

    #[test]
    fn a_run_spans_its_items_and_no_other() {
        let window = window(&[3, 1, 2, 7, 4, 9]);
        let between = |first: &str, last: &str| {
            let end = synod_store::Key::from(last).successor();
            Some(KeyRange::Between(first.into(), end))
        };
        let range = |count| Run::of(&window, count).map(|run| run.range);
        assert_eq!(range(1), between("q/03", "q/03"));
        assert_eq!(range(2), None, "2 lies between 1 and 3");
        assert_eq!(range(3), between("q/01", "q/03"));
        assert_eq!(range(4), None, "4 lies between 1 and 7");
        assert_eq!(range(5), between("q/01", "q/07"));
        assert_eq!(range(6), between("q/01", "q/09"));
        assert_eq!(Run::of(&window, 9).map(|run| run.count), Some(6));
        assert_eq!(Run::of(&VecDeque::new(), 3), None);
    }
}
