//! The Txns of a settled operation: how they are built, and what their answers say. Pure.

use synod_store::{
    Compare, Key, PutRequest, RangeRequest, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::Resolution;
use super::token::{OpId, Token};
use super::work::{Alternative, Effect, Job, Search, Work};

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

/// What a lane says: `OP ALTERNATIVE SECONDS`, with `-` for an operation given up, `else` for the other branch of a
/// fork, and an `r` behind the number of an alternative that only reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) op: OpId,
    /// Which alternative ran; `None` when it was given up and can never happen.
    pub(crate) alternative: Option<usize>,
    /// What that means.
    pub(crate) effect: Effect,
    /// When the operation began, in seconds since 1970.
    pub(crate) begun: u64,
}

impl Record {
    pub(crate) fn encode(self) -> String {
        match self.alternative {
            Some(alternative) => {
                let ran = match self.effect {
                    Effect::Done => alternative.to_string(),
                    Effect::Read => format!("{alternative}r"),
                    Effect::Otherwise => "else".to_owned(),
                };
                format!("{} {ran} {}", self.op, self.begun)
            }
            None => format!("{} - {}", self.op, self.begun),
        }
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Record> {
        let mut parts = std::str::from_utf8(value).ok()?.split(' ');
        let op = OpId(u128::from_str_radix(parts.next()?, 16).ok()?);
        let (alternative, effect) = match parts.next()? {
            "-" => (None, Effect::Read),
            "else" => (Some(1), Effect::Otherwise),
            text => match text.strip_suffix('r') {
                Some(number) => (Some(number.parse().ok()?), Effect::Read),
                None => (Some(text.parse().ok()?), Effect::Done),
            },
        };
        let begun = parts.next()?.parse().ok()?;
        Some(Record {
            op,
            alternative,
            effect,
            begun,
        })
    }

    /// What the record says to whoever asks for the outcome.
    pub(super) fn resolution(self) -> Resolution {
        match self.alternative {
            Some(_) => self.effect.resolution(),
            None => Resolution::NeverWill,
        }
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
    /// What its caller is told while its outcome is open.
    pub(super) fn token(&self, epoch: u128, lane: u32) -> Token {
        Token {
            epoch,
            fence_created: self.fence_created,
            lane,
            lane_mod: self.lane_mod,
            begun: self.begun,
            op: self.op,
        }
    }

    /// The fence lives, and nothing has passed through the lane since.
    fn open(&self) -> [Compare; 2] {
        [
            Compare::created_at(self.fence.clone(), self.fence_created),
            Compare::modified_at(self.lane.clone(), self.lane_mod),
        ]
    }

    fn mark(&self, alternative: Option<usize>, effect: Effect) -> TxnOp {
        let record = Record {
            op: self.op,
            alternative,
            effect,
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
            .and_then([self.mark(None, Effect::Read)])
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
            let marks = [
                Some(self.mark(Some(0), Effect::Done)),
                Some(self.mark(Some(1), Effect::Otherwise)),
            ];
            return Txn::new()
                .when(self.open())
                .when(common.iter().cloned())
                .and_then([work.forked(own, other, marks)])
                .or_else(self.reads());
        }
        let mut txn = Txn::new()
            .when(self.open())
            .when(work.first.guards.iter().cloned())
            .and_then([self.mark(Some(0), Effect::Done)])
            .and_then(work.first.ops.iter().cloned())
            .or_else(self.reads());
        if let Some(chain) = chain(&work.others, Some(self)) {
            txn = txn.or_else([Txn::new().when(self.open()).and_then([chain])]);
        }
        txn
    }

    /// The Txn of an operation with a search: `If fence and lane are open and what is common holds
    /// Then search Else read both`.
    fn searching(&self, work: &Work, search: &Search) -> Txn {
        Txn::new()
            .when(self.open())
            .when(search.common.iter().cloned())
            .and_then(halve(&work.alternatives(), 0, &search.splits, Some(self)))
            .or_else(self.reads())
    }

    /// What the answer to [`Ticket::txn`] says.
    fn read(&self, job: Job<'_>, response: TxnResponse) -> Answer {
        if job.search.is_some() && response.succeeded {
            let count = job.work.others.len().saturating_add(1);
            return match found(response, count) {
                Found::At(alternative, mut responses) if !responses.is_empty() => {
                    responses.remove(0);
                    Answer::Done {
                        alternative,
                        responses,
                    }
                }
                Found::Nothing => Answer::GuardsFalse,
                _ => Answer::Malformed,
            };
        }
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

impl Job<'_> {
    /// The Txn of the operation, through a lane or, where no answer is lost, alone.
    pub(super) fn txn(self, ticket: Option<&Ticket>) -> Txn {
        match (ticket, self.search) {
            (Some(ticket), None) => ticket.txn(self.work),
            (Some(ticket), Some(search)) => ticket.searching(self.work, search),
            (None, None) => plain(self.work),
            (None, Some(search)) => Txn::new()
                .when(search.common.iter().cloned())
                .and_then(halve(&self.work.alternatives(), 0, &search.splits, None)),
        }
    }

    /// What the answer to it says.
    pub(super) fn read(self, ticket: Option<&Ticket>, response: TxnResponse) -> Answer {
        if let Some(ticket) = ticket {
            return ticket.read(self, response);
        }
        if self.search.is_none() {
            return read_plain(self.work, response);
        }
        if !response.succeeded {
            return Answer::GuardsFalse;
        }
        match found(response, self.work.others.len().saturating_add(1)) {
            Found::At(alternative, responses) => Answer::Done {
                alternative,
                responses,
            },
            Found::Nothing => Answer::GuardsFalse,
            Found::Nonsense => Answer::Malformed,
        }
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
        let mark = ticket
            .map(|ticket| ticket.mark(Some(index.saturating_add(1)), Effect::of(&alternative.ops)));
        let txn = Txn::new()
            .when(alternative.guards.iter().cloned())
            .and_then(mark)
            .and_then(alternative.ops.iter().cloned())
            .or_else(inner);
        inner = Some(txn);
    }
    inner
}

/// The search among alternatives, of which the first has this number: `If nothing before the middle is to
/// run Then the upper half Else the lower half`, down to one of them.
fn halve(
    alternatives: &[&Alternative],
    number: usize,
    splits: &[Vec<Compare>],
    ticket: Option<&Ticket>,
) -> Option<Txn> {
    if let [alternative] = alternatives {
        let effect = match number {
            0 => Effect::Done,
            _ => Effect::of(&alternative.ops),
        };
        let mark = ticket.map(|ticket| ticket.mark(Some(number), effect));
        let leaf = Txn::new().when(alternative.guards.iter().cloned());
        return Some(
            leaf.and_then(mark)
                .and_then(alternative.ops.iter().cloned()),
        );
    }
    let middle = alternatives.len() / 2;
    let (lower, upper) = alternatives.split_at_checked(middle)?;
    // The split before the middle belongs to neither half.
    let (below, above) = splits.split_at_checked(middle.checked_sub(1)?)?;
    let (split, above) = above.split_first()?;
    Some(
        Txn::new()
            .when(split.iter().cloned())
            .and_then(halve(upper, number.saturating_add(middle), above, ticket))
            .or_else(halve(lower, number, below, ticket)),
    )
}

/// Where a search has led.
enum Found {
    At(usize, Vec<TxnOpResponse>),
    Nothing,
    Nonsense,
}

/// Follows the answer of a search among so many alternatives, whose own conditions held.
fn found(response: TxnResponse, mut count: usize) -> Found {
    let mut number = 0usize;
    let mut responses = response.responses;
    loop {
        let Some(TxnOpResponse::Txn(node)) = responses.into_iter().next() else {
            return Found::Nonsense;
        };
        if count <= 1 {
            return if node.succeeded {
                Found::At(number, node.responses)
            } else {
                Found::Nothing
            };
        }
        let middle = count / 2;
        if node.succeeded {
            number = number.saturating_add(middle);
            count = count.saturating_sub(middle);
        } else {
            count = middle;
        }
        responses = node.responses;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_their_encoding() {
        for (alternative, effect) in [
            (None, Effect::Read),
            (Some(0), Effect::Done),
            (Some(61), Effect::Done),
            (Some(2), Effect::Read),
            (Some(1), Effect::Otherwise),
        ] {
            let record = Record {
                op: OpId(9),
                alternative,
                effect,
                begun: 1_790_000_000,
            };
            assert_eq!(Record::decode(record.encode().as_bytes()), Some(record));
        }
        let golden = "000000000000000000000000000000ff 2 1790000000";
        let record = Record {
            op: OpId(255),
            alternative: Some(2),
            effect: Effect::Done,
            begun: 1_790_000_000,
        };
        assert_eq!(record.encode(), golden);
        let read = Record {
            effect: Effect::Read,
            ..record
        };
        assert_eq!(read.encode(), golden.replace(" 2 ", " 2r "));
        for bad in ["", "x 1 2", "ff", "ff x 1", "ff 1 x"] {
            assert_eq!(Record::decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
