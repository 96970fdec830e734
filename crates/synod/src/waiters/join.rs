//! Joining a line, with or without the readiness to wait in it.

use synod_store::{
    Compare, ErrorKind, KeyRange, KeyValue, PutRequest, RangeRequest, Revision, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{Join, Line, Place, Suffix, Vigils};
use crate::span;
use crate::{Error, Result, retry};

/// What a joining Txn came to.
enum Joined {
    Place(Box<Place>),
    /// Somebody is there, and nothing was written.
    Taken,
    /// Keys that do not count are there, and nothing was written.
    Nested,
}

/// Joins a line; see [`super::join`]. `home` is where the session is kept; the runtime of this moment if that is not
/// known.
pub(super) async fn join(vigils: &Vigils, join: Join, home: Option<&Handle>) -> Result<Place> {
    match in_background(vigils, join, home, false).await? {
        Joined::Place(place) => Ok(*place),
        Joined::Taken | Joined::Nested => Err(malformed()),
    }
}

/// Takes the head of a line if nobody is in it; else nothing stays behind.
pub(super) async fn try_join(
    vigils: &Vigils,
    mut join: Join,
    home: &Handle,
) -> Result<Option<Place>> {
    match in_background(vigils, join.clone(), Some(home), true).await? {
        Joined::Place(place) => Ok(Some(*place)),
        Joined::Taken => Ok(None),
        Joined::Nested => {
            if join.sharing == Suffix::Unique {
                // A copy of the first Txn may still come, and its key is deleted then: another one's
                // must not be the same.
                join.suffix = [join.suffix.as_ref(), b"-2".as_slice()].concat().into();
            }
            let place = self::join(vigils, join, Some(home)).await?;
            if place.position() == 0 {
                return Ok(Some(place));
            }
            place.leave().await?;
            Ok(None)
        }
    }
}

/// Joins in a task of its own: when the caller has left, the place comes back, and is left in its
/// turn.
async fn in_background(
    vigils: &Vigils,
    join: Join,
    home: Option<&Handle>,
    only_if_free: bool,
) -> Result<Joined> {
    let runtime = crate::runtime()?;
    vigils.leftovers().see_to(&runtime);
    let (answer, answered) = oneshot::channel();
    let task = {
        let (vigils, home) = (vigils.clone(), home.unwrap_or(&runtime).clone());
        async move {
            drop(answer.send(send(vigils, join, home, only_if_free).await));
        }
    };
    runtime.spawn(span::task("line.join", task));
    answered.await.unwrap_or(Err(Error::NoRuntime))
}

async fn send(vigils: Vigils, join: Join, home: Handle, only_if_free: bool) -> Result<Joined> {
    let key = join.prefix.join(&join.suffix);
    let line = Line::of(&join.prefix, &join.neighbours);
    let mut compares = vec![Compare::absent(key.clone())];
    if only_if_free {
        let empty = |prefix| Compare::absent(KeyRange::prefix(prefix));
        compares.extend(line.prefixes.iter().map(empty));
    }
    let put = PutRequest::new(key.clone(), join.value.clone()).with_lease(join.lease);
    let reads = || line.reads().map(TxnOp::from);
    let txn = Txn::new()
        .when(compares)
        .and_then([TxnOp::from(put)].into_iter().chain(reads()))
        .or_else(
            [TxnOp::from(RangeRequest::new(key.clone()))]
                .into_iter()
                .chain(reads()),
        );
    let store = vigils.store();
    let unique = join.sharing == Suffix::Unique;
    let joining = unique.then(|| vigils.leftovers().joining(&home, key.clone(), join.lease));
    let sent = retry::txn(&**store, &txn, join.patience).await;
    if let Some(joining) = joining {
        joining.answered();
    }
    let doubt = sent.doubt;
    let watch_for_copies = |doubt: bool| {
        if doubt && unique {
            let leftovers = vigils.leftovers();
            leftovers.expect_copies(&home, key.clone(), join.lease);
        }
    };
    let response = match sent.answer {
        Ok(response) => response,
        Err(error) => {
            watch_for_copies(doubt);
            return Err(error.into());
        }
    };
    let joined = response.succeeded;
    let header = response.header;
    let (found, others) = read(response, joined, &line)?;
    let created = match (&found, joined) {
        (Some(kv), _) => kv.create_revision,
        (None, true) => header.revision,
        (None, false) if only_if_free => {
            watch_for_copies(doubt);
            let taken = others.is_some();
            return Ok(if taken { Joined::Taken } else { Joined::Nested });
        }
        (None, false) => return Err(malformed()),
    };
    // A key that was found after a lost answer is this call's own, if nobody else can know it.
    let own = joined || (doubt && unique);
    if !own && unique {
        return Err(Error::NotOwner {
            key: key.to_string(),
        });
    }
    let mut place = Box::new(Place {
        vigils,
        home,
        key,
        line,
        created,
        lease: join.lease,
        patience: join.patience,
        found: found.filter(|_| !own),
        number: None,
        seen: header.revision,
        position: 0,
        nearest: None,
        head: None,
        leave_on_drop: own,
        doubt: doubt && own,
    });
    place.count(others.into_iter().flatten());
    if place.position == 0 {
        place.head = Some(header);
    }
    Ok(Joined::Place(place))
}

/// The own key as it was found, and the keys of the line; `None` when there are none.
type Seen = (Option<KeyValue>, Option<Vec<KeyValue>>);

fn read(response: TxnResponse, joined: bool, line: &Line) -> Result<Seen> {
    let mut responses = response.responses.into_iter();
    let own = responses.next().ok_or_else(malformed)?;
    let mut others = Vec::new();
    for response in responses {
        let range = response.into_range().ok_or_else(malformed)?;
        others.extend(range.kvs.into_iter().filter(|kv| line.counts(&kv.key)));
    }
    let found = if joined {
        None
    } else {
        let range = TxnOpResponse::into_range(own).ok_or_else(malformed)?;
        range.kvs.into_iter().next()
    };
    Ok((found, (!others.is_empty()).then_some(others)))
}

fn malformed() -> Error {
    let text = "the store's answer makes no sense";
    synod_store::Error::new(ErrorKind::Other, text).into()
}

impl Place {
    /// Notes who is before, among the keys of the line.
    pub(super) fn count(&mut self, others: impl Iterator<Item = KeyValue>) {
        self.position = 0;
        self.nearest = None;
        for kv in others.filter(|kv| kv.create_revision < self.created) {
            self.position += 1;
            let one: (Revision, _) = (kv.create_revision, kv.key);
            if self.nearest.as_ref().is_none_or(|nearest| *nearest < one) {
                self.nearest = Some(one);
            }
        }
    }
}
