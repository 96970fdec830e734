#![doc = include_str!("../../docs/txn.md")]
//!
//! # Protocol
//!
//! There are no keys but the user's. One that only reads is sent as it is, and again when no answer comes.
//! One that can write passes through a lane on stores that can lose answers, as a fork: `If the lane is open Then
//! (If CONDITIONS Then mark the lane 0 + OPERATIONS Else mark it 1 + OTHER OPERATIONS)`. So the record tells
//! which list ran, also when the answer was lost; what that list has read is then asked again, from the history
//! before and at the record's revision.
//!
//! A guard's transaction has a fence around it: `If FENCE Then (all of the above)`, else
//! [`Error::NotOwner`].

mod recall;
#[cfg(test)]
mod tests;
mod words;

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use synod_store::{ErrorKind, Header, Revision, TxnOpResponse};

use crate::settle::{MAX_OPS, Outcome, Work, weight, weight_of_fork};
use crate::span::traced;
use crate::waiters::Turn;
use crate::{Client, Error, Result, retry};

pub(crate) use recall::overlap;
pub use synod_store::{
    Compare, CompareOp, DeleteRequest, KeyRange, PutRequest, RangeRequest, TxnOp, TxnResponse,
};
pub use words::{delete, get, nested, put, put_with_lease};

/// A transaction to be: give it conditions and operations, then await it.
///
/// # Cancel safety
///
/// When it is dropped before it has answered, it may have happened, once, or not; it may also happen
/// a moment later. One that has not been awaited yet has done nothing.
///
/// # Errors
///
/// [`Error::TooManyOperations`] before anything is sent; [`Error::Unknown`] when no answer came within
/// the client's timeout: [resolve](Client::resolve) its token before repeating it;
/// [`Error::AnswersLost`] when it has happened, but what it read cannot be told any more;
/// [`Error::NotOwner`] when it came from a guard that owns nothing any more; else what the store
/// answered: nothing has happened.
#[derive(Debug, Clone)]
#[must_use = "a transaction does nothing unless awaited"]
pub struct Txn {
    client: Client,
    fence: Option<Compare>,
    /// The guard's turn, outside of which it does not begin.
    turn: Option<Turn>,
    txn: synod_store::Txn,
}

/// What became of a transaction.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) succeeded: bool,
    /// When it happened; the store's revision at that moment, when it changed nothing.
    pub(crate) revision: Revision,
    /// The answers of the branch that ran; `None` when they were lost.
    pub(crate) responses: Option<Vec<TxnOpResponse>>,
}

impl Client {
    /// A transaction: several operations as one, if conditions hold. See [`txn`](crate::txn).
    pub fn txn(&self) -> Txn {
        Txn {
            client: self.clone(),
            fence: None,
            turn: None,
            txn: synod_store::Txn::new(),
        }
    }
}

impl Txn {
    /// Adds conditions, all of which must hold.
    pub fn when(mut self, compares: impl IntoIterator<Item = Compare>) -> Txn {
        self.txn = self.txn.when(compares);
        self
    }

    /// Adds operations that run when the conditions hold.
    pub fn and_then<O: Into<TxnOp>>(mut self, ops: impl IntoIterator<Item = O>) -> Txn {
        self.txn = self.txn.and_then(ops);
        self
    }

    /// Adds operations that run when a condition does not hold.
    pub fn or_else<O: Into<TxnOp>>(mut self, ops: impl IntoIterator<Item = O>) -> Txn {
        self.txn = self.txn.or_else(ops);
        self
    }

    /// Neither list of operations runs unless `fence` holds: [`Error::NotOwner`] then. A fence that
    /// was false once must stay so.
    pub(crate) fn fenced(mut self, fence: Compare) -> Txn {
        self.fence = Some(fence);
        self
    }

    /// It does not begin once this turn is over: [`Error::NotOwner`] then.
    pub(crate) fn within(mut self, turn: Turn) -> Txn {
        self.turn = Some(turn);
        self
    }

    /// An error when the store's budget of operations cannot hold it.
    fn check(&self) -> Result<()> {
        let fences = usize::from(self.fence.is_some());
        let needed = weight(&self.txn);
        let total = if self.txn.is_read_only() {
            needed.saturating_add(fences)
        } else {
            weight_of_fork(fences, &self.txn)
        };
        if total <= MAX_OPS {
            return Ok(());
        }
        let lists = self.txn.success.len().max(self.txn.failure.len());
        Err(Error::TooManyOperations {
            what: if self.txn.compares.len() > lists {
                "compares"
            } else {
                "operations"
            },
            needed,
            limit: MAX_OPS.saturating_sub(total.saturating_sub(needed)),
        })
    }

    /// An error when it would delete Synod's own keys along with others: among them is its own
    /// record.
    fn check_deletes(&self) -> Result<()> {
        let own = self.client.system_prefix();
        if own.is_empty() || !deletes(&self.txn, &KeyRange::prefix(own)) {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "the transaction would delete Synod's own keys under {own:?} together with others: \
             delete the ranges before and after them"
        )))
    }

    async fn run(self) -> Result<TxnResponse> {
        traced!("synod.txn.send", async move {
            let branches = [self.txn.success.clone(), self.txn.failure.clone()];
            let (store, patience) = (self.client.shared_store(), self.client.timeout());
            let sent = self.send().await?;
            let (revision, succeeded) = (sent.revision, sent.succeeded);
            let responses = match sent.responses {
                Some(responses) => responses,
                // Only the record told; what was read is still in the store's history.
                None => {
                    let [success, failure] = branches;
                    let ops = if succeeded { success } else { failure };
                    recall::recall(store, patience, revision, &ops)
                        .await
                        .map_err(|error| Error::AnswersLost {
                            revision,
                            succeeded,
                            reason: error.to_string(),
                        })?
                }
            };
            Ok(TxnResponse {
                header: Header {
                    revision,
                    ..Header::default()
                },
                succeeded,
                responses,
            })
        })
        .await
    }

    /// Runs it; answers that were lost stay so.
    pub(crate) async fn send(mut self) -> Result<Sent> {
        let Some(turn) = self.turn.take() else {
            return self.send_now().await;
        };
        let under_way = turn.begin().ok_or_else(|| self.not_owner())?;
        under_way.ended(self.send_now().await)
    }

    async fn send_now(self) -> Result<Sent> {
        self.check()?;
        self.check_deletes()?;
        if self.txn.is_read_only() {
            return self.read().await;
        }
        let (not_owner, fenced) = (self.not_owner(), self.fence.is_some());
        let synod_store::Txn {
            compares,
            success,
            failure,
        } = self.txn;
        let work = Work::fork(self.fence.into_iter().collect(), compares, success, failure);
        match self.client.settle().run(work).await? {
            Outcome::Done {
                alternative,
                revision,
                responses,
            } => Ok(Sent {
                succeeded: alternative == 0,
                revision,
                responses,
            }),
            Outcome::GuardsFalse if fenced => Err(not_owner),
            // Without a guard in common this means one thing: a lease of its puts ended while it
            // was not known whether it had happened.
            Outcome::GuardsFalse => Err(synod_store::Error::from(ErrorKind::LeaseNotFound).into()),
        }
    }

    /// One that changes nothing is sent as it is, and may be sent again.
    async fn read(self) -> Result<Sent> {
        let not_owner = self.not_owner();
        let fenced = self.fence.is_some();
        let txn = match self.fence {
            Some(fence) => synod_store::Txn::new().when([fence]).and_then([self.txn]),
            None => self.txn,
        };
        let store = self.client.shared_store();
        let mut response = retry::read(self.client.timeout(), || store.txn(txn.clone())).await?;
        let revision = response.header.revision;
        if fenced {
            let inner = response.responses.pop().and_then(TxnOpResponse::into_txn);
            response = inner.ok_or(not_owner)?;
        }
        Ok(Sent {
            succeeded: response.succeeded,
            revision,
            responses: Some(response.responses),
        })
    }

    fn not_owner(&self) -> Error {
        let key = self.fence.as_ref().map(|fence| fence.range.start());
        Error::NotOwner {
            key: key.map_or_else(String::new, ToString::to_string),
        }
    }
}

/// Whether a transaction can delete a range that has keys of `own`; single keys do not count.
fn deletes(txn: &synod_store::Txn, own: &KeyRange) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        TxnOp::Delete(delete) => {
            !matches!(delete.range, KeyRange::One(_)) && overlap(&delete.range, own)
        }
        TxnOp::Txn(inner) => deletes(inner, own),
        TxnOp::Range(_) | TxnOp::Put(_) => false,
    })
}

impl IntoFuture for Txn {
    type Output = Result<TxnResponse>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<TxnResponse>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
