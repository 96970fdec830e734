//! Joining a semaphore's line.

use std::sync::Arc;

use bytes::Bytes;
use synod_store::{
    Compare, CompareOp, ErrorKind, Key, KeyValue, PutRequest, RangeRequest, Revision, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};
use tokio::sync::oneshot;

use super::keys::Keys;
use super::view::{Spot, Standing, View};
use super::{SemaphorePermit, Shared};
use crate::span;
use crate::waiters::{Hold, Place, own_suffix};
use crate::{Error, Result, Session, retry};

/// A ticket in the line. Dropping it takes it back.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) hold: Hold,
    pub(super) permits: u32,
    /// Whether it had its permits as soon as it was there.
    pub(super) granted: bool,
}

impl Ticket {
    pub(super) fn spot(&self) -> Spot {
        (self.hold.created(), self.hold.key().clone())
    }

    /// The permits, which the ticket was seen to have. The session must live by the clock of this moment:
    /// the process may have been frozen since.
    pub(super) fn acquired(self) -> Result<SemaphorePermit> {
        self.hold.session().check()?;
        Ok(SemaphorePermit::new(self.hold, self.permits))
    }
}

/// Joins the line of a semaphore that has, or gets, `total` permits. When this is dropped, the
/// ticket is taken back in the background.
pub(super) async fn join(
    shared: &Arc<Shared>,
    session: Session,
    total: u32,
    permits: u32,
) -> Result<Ticket> {
    let runtime = crate::runtime()?;
    shared.client.vigils().leftovers().see_to(&runtime);
    let (answer, answered) = oneshot::channel();
    let shared = Arc::clone(shared);
    let task = async move {
        // If the caller has left, the ticket comes back, and is taken back in its turn.
        drop(answer.send(join_now(&shared, session, total, permits).await));
    };
    runtime.spawn(span::task("semaphore.join", task));
    answered.await.unwrap_or(Err(Error::NoRuntime))
}

async fn join_now(shared: &Shared, session: Session, total: u32, permits: u32) -> Result<Ticket> {
    let keys = &shared.keys;
    let key = keys.ticket(permits, &own_suffix(&shared.client, &session));
    let client = &shared.client;
    let put = PutRequest::new(key.clone(), client.identity()).with_lease(session.lease());
    let txn = request(keys, &key, put, total);
    let leftovers = client.vigils().leftovers();
    let (home, lease) = (session.home(), session.lease());
    let joining = leftovers.joining(home, key.clone(), lease);
    let sent = retry::txn(&**client.store(), &txn, client.timeout()).await;
    joining.answered();
    let doubt = sent.doubt;
    let found = match sent.answer {
        Ok(response) => read(response),
        Err(error) => Err(error.into()),
    };
    let (created, view) = match found {
        Ok(Found::Joined {
            created,
            stored,
            line,
            at,
        }) => {
            let stored = stored.or_else(|| Some(total.to_string().into()));
            (created, View::new(keys, at, stored, line))
        }
        refused => {
            if doubt {
                // A copy may have come in, or may still.
                leftovers.expect_copies(home, key, lease);
            }
            return Err(match refused {
                Ok(Found::Total(stored)) => shared.disagrees(&stored, total),
                Ok(Found::Joined { .. }) => malformed(),
                Err(error) => error,
            });
        }
    };
    let granted = view.standings().of(&(created, key.clone())) == Standing::Granted;
    let place = Place::of_own_key(client, &session, key, created, doubt);
    let hold = Hold::new(place, session, client.clone());
    Ok(Ticket {
        hold,
        permits,
        granted,
    })
}

/// Puts the ticket if the total is as expected or there is none yet; else reads why not.
fn request(keys: &Keys, key: &Key, put: PutRequest, total: u32) -> Txn {
    let expected = Compare::value(keys.total().clone(), CompareOp::Equal, total.to_string());
    let record = PutRequest::new(keys.total().clone(), total.to_string());
    let first = Txn::new()
        .when([
            Compare::absent(keys.total().clone()),
            Compare::absent(key.clone()),
        ])
        .and_then([
            TxnOp::from(put.clone()),
            keys.read_line().into(),
            record.into(),
        ])
        .or_else([
            RangeRequest::new(key.clone()).keys_only(),
            keys.read_line(),
            RangeRequest::new(keys.total().clone()),
        ]);
    Txn::new()
        .when([expected, Compare::absent(key.clone())])
        .and_then([TxnOp::from(put), keys.read_line().into()])
        .or_else([first])
}

/// What the answer to a [`request`] says.
enum Found {
    /// The ticket is there.
    Joined {
        created: Revision,
        /// The record of the total, if it had to be read: an earlier copy has put the ticket, and the
        /// semaphore may have been resized since. Else it is as asked for.
        stored: Option<Bytes>,
        line: Vec<KeyValue>,
        at: Revision,
    },
    /// It is not: the record of the total is another.
    Total(Bytes),
}

fn read(response: TxnResponse) -> Result<Found> {
    look(response).ok_or_else(malformed)
}

fn look(response: TxnResponse) -> Option<Found> {
    let at = response.header.revision;
    let (joined, responses) = if response.succeeded {
        (true, response.responses)
    } else {
        let nested = response.responses.into_iter().next()?.into_txn()?;
        (nested.succeeded, nested.responses)
    };
    let mut responses = responses.into_iter();
    let own = responses.next()?;
    let line = responses.next()?.into_range()?.kvs;
    let (created, stored) = if joined {
        (at, None)
    } else {
        let total = responses.next().and_then(TxnOpResponse::into_range)?;
        let stored = total.kvs.into_iter().next()?.value;
        match own.into_range()?.kvs.into_iter().next() {
            Some(own) => (own.create_revision, Some(stored)),
            None => return Some(Found::Total(stored)),
        }
    };
    Some(Found::Joined {
        created,
        stored,
        line,
        at,
    })
}

fn malformed() -> Error {
    synod_store::Error::new(ErrorKind::Other, "the store's answer makes no sense").into()
}
