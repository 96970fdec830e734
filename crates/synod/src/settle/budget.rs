//! How many operations fit into the Txn of a settled operation. Pure.

use synod_store::{Txn, TxnOp};

/// The most operations that etcd takes along one path through nested Txns.
pub(crate) const MAX_OPS: usize = 128;

/// What of the budget of [`MAX_OPS`] a Txn needs: the largest sum of list lengths along a path, as
/// etcd counts it.
pub(crate) fn weight(txn: &Txn) -> usize {
    let own = txn
        .compares
        .len()
        .max(txn.success.len())
        .max(txn.failure.len());
    let inner = txn.success.iter().chain(&txn.failure).map(|op| match op {
        TxnOp::Txn(txn) => weight(txn),
        _ => 0,
    });
    own.saturating_add(inner.max().unwrap_or(0))
}

/// What of the budget of [`MAX_OPS`] a [fork](Work::fork) needs on the stores that ask for most,
/// when `txn` holds its guards and both lists.
pub(crate) fn weight_of_fork(common: usize, txn: &Txn) -> usize {
    // Around it stand the compares of fence and lane, inside it the lane is marked.
    let lists = txn.success.len().max(txn.failure.len());
    let own = lists.saturating_add(1).max(txn.compares.len());
    let nested = weight(txn).saturating_sub(lists.max(txn.compares.len()));
    own.saturating_add(nested)
        .saturating_add(common)
        .saturating_add(2)
}

/// How many other alternatives of `each_guards` guards and `each_ops` operations fit into the
/// budget of `limit`, after a first one of `guards` guards and `first_ops` operations.
pub(crate) fn room_for_others(
    limit: usize,
    ticketed: bool,
    (guards, first_ops): (usize, usize),
    (each_guards, each_ops): (usize, usize),
) -> usize {
    // With a ticket each level marks the lane, the outermost compares and reads lane and fence,
    // and one more level compares them again.
    let (first, between, each) = if ticketed {
        (
            (guards + 2).max(first_ops + 1).max(3),
            2,
            (each_ops + 1).max(each_guards),
        )
    } else {
        (
            guards.max(first_ops).max(1),
            0,
            each_ops.max(each_guards).max(1),
        )
    };
    limit.saturating_sub(first).saturating_sub(between) / each
}

#[cfg(test)]
mod tests {
    use synod_store::{Compare, PutRequest, Revision};

    use super::super::token::OpId;
    use super::super::txn::{Ticket, plain};
    use super::super::work::{Alternative, Job, Search, Work};
    use super::*;

    #[test]
    fn a_search_weighs_no_more_than_it_says() {
        let ticket = Ticket {
            fence: "f".into(),
            fence_created: Revision(1),
            lane: "l".into(),
            lane_mod: Revision(2),
            op: OpId(3),
            begun: 4,
        };
        let alternative = Alternative {
            guards: vec![Compare::absent("a")],
            ops: vec![PutRequest::new("a", "").into()],
        };
        let absent = |count: usize| vec![Compare::absent("a"); count];
        for others in 0..40usize {
            for (common, each) in [(0, 0), (0, 1), (7, 1), (3, 5), (90, 2)] {
                let work = Work {
                    first: alternative.clone(),
                    others: vec![alternative.clone(); others],
                };
                let search = Search {
                    common: absent(common),
                    splits: (0..others).map(|n| absent(each + n % 3)).collect(),
                };
                let job = Job {
                    work: &work,
                    search: Some(&search),
                };
                let said = search.weight(1);
                let most = weight(&job.txn(Some(&ticket)));
                assert!(most <= said, "{others} {common} {each}: {most} {said}");
                assert!(said <= most + 2, "{others} {common} {each}: {most} {said}");
                assert!(weight(&job.txn(None)) <= said);
            }
        }
    }

    #[test]
    fn the_room_for_alternatives_is_what_etcd_counts() {
        let ticket = Ticket {
            fence: "f".into(),
            fence_created: Revision(1),
            lane: "l".into(),
            lane_mod: Revision(2),
            op: OpId(3),
            begun: 4,
        };
        // Guards of their own: alternatives with common ones would make a fork.
        let alternative = |name: &str, guards: usize, ops: usize| Alternative {
            guards: (0..guards)
                .map(|i| Compare::absent(format!("{name}{i}")))
                .collect(),
            ops: (0..ops)
                .map(|i| PutRequest::new(format!("k{i}"), "").into())
                .collect(),
        };
        for (n, each) in [1, 2, 50, 100, 122, 126]
            .into_iter()
            .flat_map(|n| [(1, 1), (3, 1), (2, 4)].map(|each| (n, each)))
        {
            for ticketed in [false, true] {
                let room = room_for_others(MAX_OPS, ticketed, (n, n), each);
                let build = |others| {
                    let others = vec![alternative("other", each.0, each.1); others];
                    let work = Work {
                        first: alternative("first", n, n),
                        others,
                    };
                    weight(&if ticketed {
                        ticket.txn(&work)
                    } else {
                        plain(&work)
                    })
                };
                if n <= 122 || !ticketed {
                    assert!(
                        build(room) <= MAX_OPS,
                        "{n} {each:?} {ticketed}: {}",
                        build(room)
                    );
                }
                assert!(
                    build(room + 1) > MAX_OPS,
                    "{n} {each:?} {ticketed}: {}",
                    build(room + 1)
                );
            }
        }
    }

    #[test]
    fn the_weight_of_a_fork_is_what_etcd_counts() {
        let ticket = Ticket {
            fence: "f".into(),
            fence_created: Revision(1),
            lane: "l".into(),
            lane_mod: Revision(2),
            op: OpId(3),
            begun: 4,
        };
        let guards = |n: usize| (0..n).map(|i| Compare::absent(format!("k{i}")));
        let ops = |n: usize| (0..n).map(|i| PutRequest::new(format!("k{i}"), ""));
        for (compares, then, otherwise, inner) in [
            (0, 0, 0, 0),
            (5, 1, 1, 0),
            (1, 5, 2, 3),
            (2, 3, 7, 4),
            (4, 4, 4, 9),
        ] {
            for common in 0..3 {
                let nested = Txn::new().and_then(ops(inner));
                let txn = Txn::new()
                    .when(guards(compares))
                    .and_then(ops(then))
                    .or_else(ops(otherwise))
                    .or_else([nested]);
                let work = Work::fork(
                    guards(common).collect(),
                    txn.compares.clone(),
                    txn.success.clone(),
                    txn.failure.clone(),
                );
                assert_eq!(weight(&ticket.txn(&work)), weight_of_fork(common, &txn));
                assert!(weight(&plain(&work)) <= weight_of_fork(common, &txn));
            }
        }
    }
}
