//! A claim: the Txn that takes items, so built that a race is seldom lost. Pure.
//!
//! Whoever wants one item sends the first candidates in order, each in the Else of the one before:
//! `If mod(c0)=r0 Then delete(c0) Else (If mod(c1)=r1 Then delete(c1) Else ...)`. The store takes the
//! first that is still there, so of N consumers that look at the same head each gets an item.
//! Whoever wants several first tries to take all of them at once, then the first that is left.
//! Order is kept: a candidate is only taken when all before it are gone.

use std::collections::VecDeque;

use synod_store::{Compare, DeleteRequest, Revision, TxnOpResponse};

use super::look::Candidate;
use crate::settle::{Alternative, Work};

/// How a claim is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// How many items the first alternative takes.
    pub(super) batch: usize,
    /// How many single items the others try, in order.
    pub(super) singles: usize,
}

impl Plan {
    /// The first of the window that the single alternatives try.
    fn offset(self) -> usize {
        // A batch of one has tried the first.
        if self.batch == 1 { 1 } else { 0 }
    }

    pub(super) fn work(self, window: &VecDeque<Candidate>) -> Work {
        let singles = window.iter().skip(self.offset()).take(self.singles);
        Work {
            first: take(window.iter().take(self.batch)),
            others: singles.map(|candidate| take([candidate])).collect(),
        }
    }

    /// Removes from the window what is settled by this alternative; returns what was taken.
    pub(super) fn taken(
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
    pub(super) fn missed(self, window: &mut VecDeque<Candidate>) {
        let gone = self.offset().saturating_add(self.singles);
        window.drain(..gone.min(window.len()));
    }
}

fn take<'c>(candidates: impl IntoIterator<Item = &'c Candidate>) -> Alternative {
    let mut alternative = Alternative {
        guards: Vec::new(),
        ops: Vec::new(),
    };
    for candidate in candidates {
        let key = candidate.key.clone();
        alternative
            .guards
            .push(Compare::modified_at(key.clone(), candidate.mod_revision));
        let mut delete = DeleteRequest::new(key);
        delete.prev_kv = candidate.value.is_none();
        alternative.ops.push(delete.into());
    }
    alternative
}

/// Fills in the values that the claim's answer carried.
pub(super) fn fill_in(taken: &mut [Candidate], responses: Vec<TxnOpResponse>) {
    for (candidate, response) in taken.iter_mut().zip(responses) {
        let deleted = response
            .into_delete()
            .and_then(|deleted| deleted.prev_kvs.into_iter().next());
        if let (None, Some(kv)) = (&candidate.value, deleted) {
            candidate.value = Some(kv.value);
        }
    }
}

/// The revision at which an item taken at `revision` was still there.
pub(super) fn before(revision: Revision) -> Revision {
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
        let work = plan.work(&window(10));
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
