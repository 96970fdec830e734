//! One group: what the commands that are made durable together did.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use synod_store::{Applied, Error, ErrorKind, LeaseId, Result, Revision, TxnResponse};

use super::command::Reply;
use crate::lease::LeaseOp;
use crate::mvcc::StoredKey;
use crate::record::NoteChange;

/// Why a group was not made durable.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) applied: Applied,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn error(&self) -> Error {
        Error::new(self.kind, self.message.clone()).with_applied(self.applied)
    }
}

/// What is sent when the group is settled.
enum Answer {
    /// Nearly all answers; so it needs no box.
    Txn(Reply<TxnResponse>, Result<TxnResponse>),
    Other(Box<dyn Settle>),
}

/// Sends an answer of any type.
trait Settle: Send {
    fn settle(self: Box<Self>, failure: Option<&Failure>);
}

impl<T: Send> Settle for (Reply<T>, Result<T>) {
    fn settle(self: Box<Self>, failure: Option<&Failure>) {
        let (reply, answer) = *self;
        send(reply, answer, failure);
    }
}

fn send<T>(reply: Reply<T>, answer: Result<T>, failure: Option<&Failure>) {
    let answer = match failure {
        None => answer,
        Some(failure) => Err(failure.error()),
    };
    // Nobody waits any more if the caller was dropped.
    let _ = reply.send(answer);
}

/// What a group did to the state in memory, what is to be stored of it, and who waits for it.
#[derive(Default)]
pub(super) struct Group {
    pub(super) records: Vec<Bytes>,
    pub(super) lease_ops: Vec<LeaseOp>,
    /// The highest compaction.
    pub(super) compaction: Option<Revision>,
    /// Leases that end in this group because their time is over.
    pub(super) expired: Vec<LeaseId>,
    pub(super) notes: Vec<NoteChange>,
    /// How many records there would be if records were kept.
    pub(super) count: u64,
    answers: Vec<Answer>,
    /// The keys that joined each lease, as far as somebody has asked, and how many of the lease operations are in there.
    attached: HashMap<LeaseId, BTreeSet<StoredKey>>,
    indexed: usize,
}

impl Group {
    /// Answers `reply` when the group is durable. Even a refusal waits: it may rest on what the group did before.
    pub(super) fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, answer: Result<T>) {
        self.answers.push(Answer::Other(Box::new((reply, answer))));
    }

    /// The same for a transaction.
    pub(super) fn answer_txn(&mut self, reply: Reply<TxnResponse>, answer: Result<TxnResponse>) {
        self.answers.push(Answer::Txn(reply, answer));
    }

    pub(super) fn settle(self, failure: Option<&Failure>) {
        for answer in self.answers {
            match answer {
                Answer::Txn(reply, answer) => send(reply, answer, failure),
                Answer::Other(answer) => answer.settle(failure),
            }
        }
    }

    /// Notes that a key left a lease, or joined one.
    pub(super) fn moved(&mut self, key: &StoredKey, from: Option<LeaseId>, to: Option<LeaseId>) {
        if let Some(id) = from {
            self.lease_ops
                .push(LeaseOp::Detach(id, StoredKey::clone(key)));
        }
        if let Some(id) = to {
            self.lease_ops
                .push(LeaseOp::Attach(id, StoredKey::clone(key)));
        }
    }

    /// The keys that joined a lease in this group; some may have left it again.
    ///
    /// However many ask, each operation is looked at once; where nobody asks, none is.
    pub(super) fn attached(&mut self, id: LeaseId) -> Option<&BTreeSet<StoredKey>> {
        for op in self.lease_ops.get(self.indexed..).unwrap_or_default() {
            if let LeaseOp::Attach(lease, key) = op {
                let keys = self.attached.entry(*lease).or_default();
                keys.insert(StoredKey::clone(key));
            }
        }
        self.indexed = self.lease_ops.len();
        self.attached.get(&id)
    }
}
