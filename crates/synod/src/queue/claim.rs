//! A claim: the Txn that takes items, so built that a race is seldom lost. Pure.
//!
//! Whoever wants one item sends the first candidates in order, each in the Else of the one before:
//! `If mod(c0)=r0 Then delete(c0) Else (If mod(c1)=r1 Then delete(c1) Else ...)`. The store takes the
//! first that is still there, so of N consumers that look at the same head each gets an item.
//! Whoever wants several first tries to take all of them at once, then the first that is left.
//! Order is kept: a candidate is only taken when all before it are gone.

use std::collections::VecDeque;

use synod_store::{Compare, DeleteRequest, Revision, TxnOp, TxnOpResponse};

use super::look::Candidate;
use crate::settle::{Alternative, Work};

/// How a claim is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How many items the first alternative takes.
    pub(crate) batch: usize,
    /// How many single items the others try, in order.
    pub(crate) singles: usize,
}

impl Plan {
    /// The first of the window that the single alternatives try.
    fn offset(self) -> usize {
        // A batch of one has tried the first.
        if self.batch == 1 { 1 } else { 0 }
    }

    /// The operation that takes items of the window. `guards` are what must hold besides for an
    /// item to come out, and with it all before it; `taking` is what is done with each item, among it one
    /// deletion.
    pub(crate) fn work(
        self,
        window: &VecDeque<Candidate>,
        guards: impl Fn(&Candidate) -> Vec<Compare>,
        taking: impl Fn(&Candidate) -> Vec<TxnOp>,
    ) -> Work {
        let take = |items: &[&Candidate]| Alternative {
            guards: items
                .iter()
                .map(|item| Compare::modified_at(item.key.clone(), item.mod_revision))
                .chain(items.last().map(|last| guards(last)).unwrap_or_default())
                .collect(),
            ops: items.iter().flat_map(|item| taking(item)).collect(),
        };
        let batch: Vec<&Candidate> = window.iter().take(self.batch).collect();
        let singles = window.iter().skip(self.offset()).take(self.singles);
        Work {
            first: take(&batch),
            others: singles.map(|item| take(&[item])).collect(),
        }
    }

    /// Removes from the window what is settled by this alternative; returns what was taken.
    pub(crate) fn taken(
        self,
        window: &mut VecDeque<Candidate>,
        alternative: usize,
    ) -> Vec<Candidate> {
        if alternative == 0 {
            return window.drain(..self.batch.min(window.len())).collect();
        }
        let gone = self.offset().saturating_add(alternative).saturating_sub(1);
        window.drain(..gone.min(window.len()));
        window.pop_front().into_iter().collect()
    }

    /// Removes from the window what is gone when no alternative could run.
    pub(crate) fn missed(self, window: &mut VecDeque<Candidate>) {
        let gone = self.offset().saturating_add(self.singles);
        window.drain(..gone.min(window.len()));
    }
}

/// Takes an item out for good: its deletion, which brings the value unless it is known.
pub(crate) fn delete(candidate: &Candidate) -> Vec<TxnOp> {
    let mut delete = DeleteRequest::new(candidate.key.clone());
    delete.prev_kv = candidate.value.is_none();
    vec![delete.into()]
}

/// Fills in the values that the deletions among the claim's answers carried.
pub(crate) fn fill_in(taken: &mut [Candidate], responses: Vec<TxnOpResponse>) {
    let deletions = responses.into_iter().filter_map(TxnOpResponse::into_delete);
    for (candidate, deleted) in taken.iter_mut().zip(deletions) {
        if let (None, Some(kv)) = (&candidate.value, deleted.prev_kvs.into_iter().next()) {
            candidate.value = Some(kv.value);
        }
    }
}

/// The revision at which an item taken at `revision` was still there.
pub(crate) fn before(revision: Revision) -> Revision {
    revision.prev()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(count: u64) -> VecDeque<Candidate> {
        let candidate = |n: u64| Candidate {
            key: format!("q/{n}").into(),
            mod_revision: Revision(n),
            value: None,
        };
        (0..count).map(candidate).collect()
    }

    fn numbers(candidates: &[Candidate]) -> Vec<u64> {
        candidates
            .iter()
            .map(|candidate| candidate.mod_revision.0)
            .collect()
    }

    #[test]
    fn one_item_is_the_first_that_is_left() {
        let plan = Plan {
            batch: 1,
            singles: 3,
        };
        let work = plan.work(&window(10), |_| Vec::new(), delete);
        assert_eq!(work.others.len(), 3);
        for alternative in 0..=3 {
            let mut window = window(10);
            let taken = plan.taken(&mut window, alternative);
            assert_eq!(numbers(&taken), [alternative as u64]);
            assert_eq!(window.len(), 9 - alternative);
        }
        let mut window = window(10);
        plan.missed(&mut window);
        assert_eq!(window.len(), 6);
    }

    #[test]
    fn several_items_are_taken_at_once_or_else_the_first_that_is_left() {
        let plan = Plan {
            batch: 4,
            singles: 2,
        };
        let mut all = window(10);
        assert_eq!(numbers(&plan.taken(&mut all, 0)), [0, 1, 2, 3]);
        let mut second = window(10);
        assert_eq!(numbers(&plan.taken(&mut second, 2)), [1]);
        assert_eq!(second.len(), 8);
        let mut missed = window(10);
        plan.missed(&mut missed);
        assert_eq!(missed.len(), 8);
    }
}
