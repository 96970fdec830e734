//! The Txns of a settled operation: how they are built, and what their answers say. Pure.

use synod_store::{
    Compare, Key, PutRequest, RangeRequest, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::token::OpId;

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

/// One way for an operation to happen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alternative {
    pub(crate) guards: Vec<Compare>,
    pub(crate) ops: Vec<TxnOp>,
}

impl Work {
    pub(crate) fn new(guards: Vec<Compare>, ops: Vec<TxnOp>) -> Work {
        Work {
            first: Alternative { guards, ops },
            others: Vec::new(),
        }
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
    fn as_fork(&self) -> Option<(&[Compare], &[Compare], &[TxnOp])> {
        let [other] = self.others.as_slice() else {
            return None;
        };
        let own = self.first.guards.strip_prefix(other.guards.as_slice())?;
        Some((&other.guards, own, &other.ops))
    }

    /// A fork as one Txn, each branch of which begins with its mark, if there is one.
    fn forked(&self, own: &[Compare], other: &[TxnOp], marks: [Option<TxnOp>; 2]) -> Txn {
        let [first, second] = marks;
        Txn::new()
            .when(own.iter().cloned())
            .and_then(first)
            .and_then(self.first.ops.iter().cloned())
            .or_else(second)
            .or_else(other.iter().cloned())
    }
}

/// A lane at one moment, and the operation that is to pass through it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ticket {
    pub(crate) fence: Key,
    pub(crate) fence_created: Revision,
    pub(crate) lane: Key,
    pub(crate) lane_mod: Revision,
    pub(crate) op: OpId,
    /// Seconds since 1970, for those who sweep.
    pub(crate) begun: u64,
}

/// What a lane says: `OP ALTERNATIVE SECONDS`, with `-` for an operation given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) op: OpId,
    /// Which alternative ran; `None` when it was given up and can never happen.
    pub(crate) alternative: Option<usize>,
    /// When the operation began, in seconds since 1970.
    pub(crate) begun: u64,
}

impl Record {
    pub(crate) fn encode(self) -> String {
        match self.alternative {
            Some(alternative) => format!("{} {alternative} {}", self.op, self.begun),
            None => format!("{} - {}", self.op, self.begun),
        }
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Record> {
        let mut parts = std::str::from_utf8(value).ok()?.split(' ');
        let op = OpId(u128::from_str_radix(parts.next()?, 16).ok()?);
        let alternative = match parts.next()? {
            "-" => None,
            number => Some(number.parse().ok()?),
        };
        let begun = parts.next()?.parse().ok()?;
        Some(Record {
            op,
            alternative,
            begun,
        })
    }
}

/// What the store's answer to a settled operation says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// It happened now: which alternative, and the answers of its operations.
    Done {
        alternative: usize,
        responses: Vec<TxnOpResponse>,
    },
    /// The lane could not be used; this is how things stand.
    Refused(Standing),
    /// Fence and lane are in order, but no alternative's guards held.
    GuardsFalse,
    /// The answer has not the shape of its request.
    Malformed,
}

/// A lane and its fence, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) lane_mod: Revision,
    pub(crate) record: Option<Record>,
    pub(crate) fence_created: Revision,
}

impl Ticket {
    /// The fence lives, and nothing has passed through the lane since.
    fn open(&self) -> [Compare; 2] {
        [
            Compare::created_at(self.fence.clone(), self.fence_created),
            Compare::modified_at(self.lane.clone(), self.lane_mod),
        ]
    }

    fn mark(&self, alternative: Option<usize>) -> TxnOp {
        let record = Record {
            op: self.op,
            alternative,
            begun: self.begun,
        };
        PutRequest::new(self.lane.clone(), record.encode()).into()
    }

    fn reads(&self) -> [TxnOp; 2] {
        [
            RangeRequest::new(self.lane.clone()).into(),
            RangeRequest::new(self.fence.clone()).into(),
        ]
    }

    /// The Txn that makes sure that the operation never happens, if it has not.
    pub(crate) fn void(&self) -> Txn {
        Txn::new()
            .when(self.open())
            .and_then([self.mark(None)])
            .or_else(self.reads())
    }

    /// The Txn of the operation.
    ///
    /// `If fence and lane are open and the first guards hold Then mark the lane + work Else read
    /// both + If open Then the other alternatives, one inside the other's Else`. A fork is `If open
    /// and the guards in common hold Then (If the guards hold Then mark + work Else mark + the other
    /// work) Else read both`: the store's budget of operations goes further so.
    pub(crate) fn txn(&self, work: &Work) -> Txn {
        if let Some((common, own, other)) = work.as_fork() {
            let marks = [Some(self.mark(Some(0))), Some(self.mark(Some(1)))];
            return Txn::new()
                .when(self.open())
                .when(common.iter().cloned())
                .and_then([work.forked(own, other, marks)])
                .or_else(self.reads());
        }
        let mut txn = Txn::new()
            .when(self.open())
            .when(work.first.guards.iter().cloned())
            .and_then([self.mark(Some(0))])
            .and_then(work.first.ops.iter().cloned())
            .or_else(self.reads());
        if let Some(chain) = chain(&work.others, Some(self)) {
            txn = txn.or_else([Txn::new().when(self.open()).and_then([chain])]);
        }
        txn
    }

    /// What the answer to [`Ticket::txn`] says.
    pub(crate) fn read(&self, response: TxnResponse) -> Answer {
        let mut responses = response.responses.into_iter();
        if response.succeeded {
            // The first answer is the lane's, in a fork that of the branch.
            let (alternative, mut responses) = match responses.next() {
                Some(TxnOpResponse::Txn(fork)) => read_fork(fork),
                Some(mark) => (0, std::iter::once(mark).chain(responses).collect()),
                None => return Answer::Malformed,
            };
            if !matches!(responses.first(), Some(TxnOpResponse::Put(_))) {
                return Answer::Malformed;
            }
            responses.remove(0);
            return Answer::Done {
                alternative,
                responses,
            };
        }
        let (Some(lane), Some(fence)) = (responses.next(), responses.next()) else {
            return Answer::Malformed;
        };
        let Some(standing) = Standing::read(lane, fence) else {
            return Answer::Malformed;
        };
        if standing.lane_mod != self.lane_mod || standing.fence_created != self.fence_created {
            return Answer::Refused(standing);
        }
        let Some(others) = responses.next().and_then(TxnOpResponse::into_txn) else {
            return Answer::GuardsFalse;
        };
        let Some(TxnOpResponse::Txn(chain)) = others.responses.into_iter().next() else {
            return Answer::Malformed;
        };
        match read_chain(chain) {
            Some((index, mut responses)) => {
                if responses.is_empty() {
                    return Answer::Malformed;
                }
                responses.remove(0);
                Answer::Done {
                    alternative: index.saturating_add(1),
                    responses,
                }
            }
            None => Answer::GuardsFalse,
        }
    }
}

impl Standing {
    fn read(lane: TxnOpResponse, fence: TxnOpResponse) -> Option<Standing> {
        let lane = lane.into_range()?.kvs.into_iter().next();
        let fence = fence.into_range()?.kvs.into_iter().next();
        Some(Standing {
            lane_mod: lane.as_ref().map_or(Revision::ZERO, |kv| kv.mod_revision),
            record: lane.and_then(|kv| Record::decode(&kv.value)),
            fence_created: fence.map_or(Revision::ZERO, |kv| kv.create_revision),
        })
    }

    /// How things stand, from the Else of [`Ticket::void`].
    pub(crate) fn from_reads(response: TxnResponse) -> Option<Standing> {
        let mut responses = response.responses.into_iter();
        Standing::read(responses.next()?, responses.next()?)
    }

    /// What the lane says of this operation.
    pub(crate) fn record_of(&self, op: OpId) -> Option<Record> {
        self.record.filter(|record| record.op == op)
    }
}

/// The Txn of an operation on a store that loses no answer: the alternatives alone.
pub(crate) fn plain(work: &Work) -> Txn {
    if let Some((common, own, other)) = work.as_fork() {
        let fork = work.forked(own, other, [None, None]);
        return if common.is_empty() {
            fork
        } else {
            Txn::new().when(common.iter().cloned()).and_then([fork])
        };
    }
    let mut txn = Txn::new()
        .when(work.first.guards.iter().cloned())
        .and_then(work.first.ops.iter().cloned());
    if let Some(chain) = chain(&work.others, None) {
        txn = txn.or_else([chain]);
    }
    txn
}

/// What the answer to [`plain`] says.
pub(crate) fn read_plain(work: &Work, response: TxnResponse) -> Answer {
    if let Some((common, _, _)) = work.as_fork() {
        let fork = if common.is_empty() {
            Some(response)
        } else {
            let inner = response.responses.into_iter().next();
            inner.and_then(TxnOpResponse::into_txn)
        };
        return fork.map_or(Answer::GuardsFalse, |fork| {
            let (alternative, responses) = read_fork(fork);
            Answer::Done {
                alternative,
                responses,
            }
        });
    }
    match read_chain(response) {
        Some((alternative, responses)) => Answer::Done {
            alternative,
            responses,
        },
        None => Answer::GuardsFalse,
    }
}

/// The alternatives after the first, each in the Else of the one before.
fn chain(others: &[Alternative], ticket: Option<&Ticket>) -> Option<Txn> {
    let mut inner: Option<Txn> = None;
    for (index, alternative) in others.iter().enumerate().rev() {
        let mark = ticket.map(|ticket| ticket.mark(Some(index.saturating_add(1))));
        let txn = Txn::new()
            .when(alternative.guards.iter().cloned())
            .and_then(mark)
            .and_then(alternative.ops.iter().cloned())
            .or_else(inner);
        inner = Some(txn);
    }
    inner
}

/// Which branch of a fork ran, and its answers.
fn read_fork(fork: TxnResponse) -> (usize, Vec<TxnOpResponse>) {
    (usize::from(!fork.succeeded), fork.responses)
}

/// Which Txn of a chain succeeded, and its answers.
fn read_chain(mut response: TxnResponse) -> Option<(usize, Vec<TxnOpResponse>)> {
    let mut index = 0usize;
    loop {
        if response.succeeded {
            return Some((index, response.responses));
        }
        match response.responses.pop() {
            Some(TxnOpResponse::Txn(inner)) => response = inner,
            _ => return None,
        }
        index = index.saturating_add(1);
    }
}

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
    use super::*;

    #[test]
    fn records_survive_their_encoding() {
        for alternative in [None, Some(0), Some(61)] {
            let record = Record {
                op: OpId(9),
                alternative,
                begun: 1_790_000_000,
            };
            assert_eq!(Record::decode(record.encode().as_bytes()), Some(record));
        }
        let golden = "000000000000000000000000000000ff 2 1790000000";
        let record = Record {
            op: OpId(255),
            alternative: Some(2),
            begun: 1_790_000_000,
        };
        assert_eq!(record.encode(), golden);
        for bad in ["", "x 1 2", "ff", "ff x 1", "ff 1 x"] {
            assert_eq!(Record::decode(bad.as_bytes()), None, "{bad}");
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
}
