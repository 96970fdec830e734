//! What a settled operation is to do: alternatives with their guards. Pure.

use synod_store::{Compare, Txn, TxnOp};

use super::Resolution;

/// What an operation does: the first alternative whose guards hold runs, at most one.
///
/// No guard may become true again after it was false (a modification revision once gone, a key of
/// one's own once used), except the first alternative's when it is the only one, and those that
/// decide a [fork](Work::fork): there every copy that can apply marks the lane, one way or the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Work {
    pub(crate) first: Alternative,
    pub(crate) others: Vec<Alternative>,
}

/// How the store finds by halving which of an operation's alternatives is to run, instead of trying
/// one after the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Search {
    /// What must hold for any of them to run.
    pub(crate) common: Vec<Compare>,
    /// One between each two alternatives: while it holds, none of its part before it is to run. The
    /// parts are what halving comes to: all of them, then those up to its middle and from it on.
    pub(crate) splits: Vec<Vec<Compare>>,
}

impl Search {
    /// What of the [budget](super::MAX_OPS) the Txn of such a search needs at most, when its
    /// alternatives have up to `leaf` guards or operations.
    pub(crate) fn weight(&self, leaf: usize) -> usize {
        // Around it stand the compares of fence and lane, at its end the lane is marked.
        let outer = self.common.len().saturating_add(2);
        let end = leaf.saturating_add(1);
        outer
            .saturating_add(longest(&self.splits))
            .saturating_add(end)
    }
}

/// The largest sum of the splits' lengths along a path through the halves.
fn longest(splits: &[Vec<Compare>]) -> usize {
    let middle = splits.len().saturating_add(1) / 2;
    let Some((below, above)) = splits.split_at_checked(middle.saturating_sub(1)) else {
        return 0;
    };
    let Some((split, above)) = above.split_first() else {
        return 0;
    };
    let deeper = longest(below).max(longest(above));
    split.len().max(1).saturating_add(deeper)
}

/// An operation, and how the store comes to the alternative that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'w> {
    pub(super) work: &'w Work,
    pub(super) search: Option<&'w Search>,
}

/// One way for an operation to happen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alternative {
    pub(crate) guards: Vec<Compare>,
    pub(crate) ops: Vec<TxnOp>,
}

/// What the alternative that ran means for the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The operation has happened.
    Done,
    /// It only read why the operation could not be done: that has not happened.
    Read,
    /// It is the other branch of a fork: its conditions did not hold.
    Otherwise,
}

impl Effect {
    /// That of an alternative after the first.
    pub(super) fn of(ops: &[TxnOp]) -> Effect {
        if changes(ops) {
            Effect::Done
        } else {
            Effect::Read
        }
    }

    /// What it says to whoever asks for the outcome.
    pub(super) fn resolution(self) -> Resolution {
        match self {
            Effect::Done => Resolution::Happened,
            Effect::Read => Resolution::NeverWill,
            Effect::Otherwise => Resolution::Otherwise,
        }
    }
}

/// Whether any of the operations does more than read.
fn changes(ops: &[TxnOp]) -> bool {
    ops.iter().any(|op| match op {
        TxnOp::Range(_) => false,
        TxnOp::Txn(txn) => !txn.is_read_only(),
        TxnOp::Put(_) | TxnOp::Delete(_) => true,
    })
}

impl Work {
    /// What it means that this alternative ran.
    pub(super) fn effect(&self, alternative: usize) -> Effect {
        let Some(other) = alternative.checked_sub(1) else {
            return Effect::Done;
        };
        if self.as_fork().is_some() {
            return Effect::Otherwise;
        }
        self.others
            .get(other)
            .map_or(Effect::Read, |other| Effect::of(&other.ops))
    }

    pub(crate) fn new(guards: Vec<Compare>, ops: Vec<TxnOp>) -> Work {
        Work {
            first: Alternative { guards, ops },
            others: Vec::new(),
        }
    }

    /// All alternatives, in order.
    pub(super) fn alternatives(&self) -> Vec<&Alternative> {
        std::iter::once(&self.first).chain(&self.others).collect()
    }

    /// One of two lists of operations, as `guards` decide when it applies; neither, when `common`
    /// does not hold.
    pub(crate) fn fork(
        common: Vec<Compare>,
        guards: Vec<Compare>,
        then: Vec<TxnOp>,
        otherwise: Vec<TxnOp>,
    ) -> Work {
        let other = Alternative {
            guards: common.clone(),
            ops: otherwise,
        };
        let mut all = common;
        all.extend(guards);
        Work {
            first: Alternative {
                guards: all,
                ops: then,
            },
            others: vec![other],
        }
    }

    /// The guards in common, the first alternative's own and the other's operations, when this is a
    /// fork: a second alternative without a guard of its own.
    pub(super) fn as_fork(&self) -> Option<(&[Compare], &[Compare], &[TxnOp])> {
        let [other] = self.others.as_slice() else {
            return None;
        };
        let own = self.first.guards.strip_prefix(other.guards.as_slice())?;
        Some((&other.guards, own, &other.ops))
    }

    /// A fork as one Txn, each branch of which begins with its mark, if there is one.
    pub(super) fn forked(
        &self,
        own: &[Compare],
        other: &[TxnOp],
        marks: [Option<TxnOp>; 2],
    ) -> Txn {
        let [first, second] = marks;
        Txn::new()
            .when(own.iter().cloned())
            .and_then(first)
            .and_then(self.first.ops.iter().cloned())
            .or_else(second)
            .or_else(other.iter().cloned())
    }
}
