//! A claim: the Txn that takes items, so built that a race is seldom lost. Pure.
//!
//! Whoever wants one item, and has met no others, sends the first candidate alone. Where others take
//! from the same head, the store finds the first that is left by halving: `If nothing lies in [c0, c4)
//! Then (If nothing lies in [c0, c6) ...) Else (If nothing lies in [c0, c2) ...)`, and at the end `If
//! mod(c5)=r5 Then delete(c5)`. That is as many comparisons as the logarithm of the candidates, however
//! many others there are. The candidates begin where the others are expected to be by now (see
//! [`Aim`]), under the condition that nothing lies before them.
//!
//! Keys of items that do not come out in the order of their keys are compared one by one. Where that
//! leads nowhere, as others' keys lie in between, candidates are tried in order instead, each in the Else
//! of the one before: `If mod(c0)=r0 Then delete(c0) Else (If mod(c1)=r1 ...)`. Whoever wants several
//! first tries to take all of them at once, then the first that is left.
//!
//! Order is kept in all of them: a candidate is only taken when all before it are gone.

use std::collections::VecDeque;

use synod_store::{Compare, DeleteRequest, Key, KeyRange, Revision, TxnOp, TxnOpResponse};

use super::look::Candidate;
use crate::settle::{Alternative, Search, Work};

/// How a claim is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How many items the first alternative takes.
    pub(crate) batch: usize,
    /// How many single items the others try, in order.
    pub(crate) singles: usize,
    /// How many of the first are taken to be gone, and the store searches among the rest. `None` when
    /// the alternatives are tried in order.
    pub(crate) skipped: Option<usize>,
}

impl Plan {
    /// Takes these, all at once or else one, trying one after the other.
    pub(crate) fn in_turn(batch: usize, singles: usize) -> Plan {
        Plan {
            batch,
            singles,
            skipped: None,
        }
    }

    /// How far into the window the alternatives reach: any of so many may be taken.
    pub(crate) fn reach(self) -> usize {
        self.offset().saturating_add(self.singles).max(self.batch)
    }

    /// The first of the window that the single alternatives try.
    fn offset(self) -> usize {
        // A batch of one has tried the first.
        let first = if self.batch == 1 { 1 } else { 0 };
        self.skipped.unwrap_or(0).saturating_add(first)
    }

    /// How the store searches among the alternatives of [`Plan::work`], if it does.
    pub(crate) fn search(self, window: &VecDeque<Candidate>) -> Option<Search> {
        let skipped = self.skipped?;
        let tried = self.singles.saturating_add(1);
        // From each item on, the lowest key to the window's end.
        let mut lowest: Vec<Option<&Key>> = Vec::with_capacity(window.len());
        for item in window.iter().rev() {
            let so_far = lowest.last().copied().flatten();
            lowest.push(Some(so_far.map_or(&item.key, |low| low.min(&item.key))));
        }
        lowest.reverse();
        let gone = |from: usize, to: usize| {
            let keys = window.iter().skip(from).take(to.saturating_sub(from));
            let keys = keys.map(|item| &item.key);
            all_gone(keys, lowest.get(to).copied().flatten())
        };
        let mut splits = vec![Vec::new(); self.singles];
        let mut parts = vec![(0usize, tried)];
        while let Some((from, to)) = parts.pop() {
            let middle = from.saturating_add(to.saturating_sub(from) / 2);
            let before = middle.checked_sub(1).filter(|_| middle > from);
            if let Some(split) = before.and_then(|before| splits.get_mut(before)) {
                // What lies before this part was found gone on the way here.
                *split = gone(skipped.saturating_add(from), skipped.saturating_add(middle));
                parts.extend([(from, middle), (middle, to)]);
            }
        }
        Some(Search {
            common: gone(0, skipped),
            splits,
        })
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
        let batch = window.iter().skip(self.skipped.unwrap_or(0));
        let batch: Vec<&Candidate> = batch.take(self.batch).collect();
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
        if alternative == 0 && self.skipped.is_none() {
            return window.drain(..self.batch.min(window.len())).collect();
        }
        window.drain(..self.gone(alternative).min(window.len()));
        window.pop_front().into_iter().collect()
    }

    /// How many of the window were gone when this alternative ran.
    pub(crate) fn gone(self, alternative: usize) -> usize {
        let tried = self.offset().saturating_add(alternative);
        if alternative == 0 && self.skipped.is_none() {
            0
        } else {
            tried.saturating_sub(1)
        }
    }

    /// Removes from the window what is gone when no alternative could run.
    pub(crate) fn missed(self, window: &mut VecDeque<Candidate>) {
        if self.skipped.is_some() {
            // The one that is left may lie before those that were tried, or behind them.
            return;
        }
        let gone = self.offset().saturating_add(self.singles);
        window.drain(..gone.min(window.len()));
    }
}

/// What holds while none of these keys is there: one comparison for all that lie below whatever else
/// may be there, and one for each of the others, of which producers at once have put in few.
fn all_gone<'k>(keys: impl Iterator<Item = &'k Key>, others: Option<&Key>) -> Vec<Compare> {
    let (below, above): (Vec<&Key>, Vec<&Key>) =
        keys.partition(|key| others.is_none_or(|others| *key < others));
    let mut gone = Vec::with_capacity(above.len().saturating_add(1));
    if let (Some(first), Some(last)) = (below.iter().min(), below.iter().max()) {
        let range = KeyRange::Between((*first).clone(), last.successor());
        gone.push(Compare::absent(range));
    }
    gone.extend(above.into_iter().map(|key| Compare::absent(key.clone())));
    gone
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
        let plan = Plan::in_turn(1, 3);
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
    fn a_search_rules_out_exactly_what_comes_before() {
        // By age: some keys come out before lower ones.
        let keys = [3, 1, 2, 7, 4, 6, 5, 9, 8, 10, 12, 11];
        let candidate = |(revision, key): (usize, &u64)| Candidate {
            key: format!("q/{key:02}").into(),
            mod_revision: Revision(revision as u64),
            value: None,
        };
        let window: VecDeque<Candidate> = keys.iter().enumerate().map(candidate).collect();
        for skipped in 0..6 {
            for singles in 0..(window.len() - skipped) {
                let plan = Plan {
                    batch: 1,
                    singles,
                    skipped: Some(skipped),
                };
                let search = plan.search(&window).unwrap();
                assert_eq!(search.splits.len(), singles);
                for there in 0..window.len() {
                    // All before this one are gone; it and all after it are there.
                    let holds = |compares: &[Compare]| {
                        let free = |compare: &Compare| {
                            let live =
                                |item: &Candidate| compare.range.contains(item.key.as_bytes());
                            !window.iter().skip(there).any(live)
                        };
                        compares.iter().all(free)
                    };
                    assert_eq!(holds(&search.common), there >= skipped, "{skipped} {there}");
                    if there < skipped {
                        continue;
                    }
                    let (mut from, mut to) = (0, singles + 1);
                    while to - from > 1 {
                        let middle = from + (to - from) / 2;
                        if holds(&search.splits[middle - 1]) {
                            from = middle;
                        } else {
                            to = middle;
                        }
                    }
                    assert_eq!(skipped + from, there.min(skipped + singles));
                }
            }
        }
    }

    #[test]
    fn nothing_is_taken_beyond_the_reach() {
        for (batch, singles, skipped) in [(1, 0, None), (1, 5, None), (8, 3, None), (1, 4, Some(3))]
        {
            let plan = Plan {
                batch,
                singles,
                skipped,
            };
            let tried = (0..=singles).flat_map(|alternative| {
                let taken = plan.taken(&mut window(20), alternative);
                numbers(&taken)
            });
            let last = tried.max().unwrap();
            assert_eq!(plan.reach() as u64, last + 1, "{plan:?}");
        }
    }

    #[test]
    fn several_items_are_taken_at_once_or_else_the_first_that_is_left() {
        let plan = Plan::in_turn(4, 2);
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
