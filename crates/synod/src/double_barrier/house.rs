//! [`House`]: the Txns of the native layout; see the parent for the protocol.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::seq::IndexedRandom;
use synod_store::{
    Compare, CompareOp, DeleteRequest, Key, PutRequest, RangeRequest, Revision, Store, Txn, TxnOp,
    TxnOpResponse,
};
use tokio::runtime::Handle;

use super::keys::{Keys, MOST, Round};
use crate::settle::{Alternative, Outcome, Settle, Work};
use crate::sight::Sight;
use crate::{Client, Error, Result, retry};

/// What all participants of one double barrier in one client share.
#[derive(Debug)]
pub(super) struct House {
    pub(super) name: Key,
    pub(super) keys: Keys,
    pub(super) store: Arc<dyn Store>,
    pub(super) settle: Settle,
    pub(super) patience: Duration,
    pub(super) runtime: Handle,
    /// The round's key and the one that says that it is over.
    pub(super) at: Sight,
}

/// What is known of the round that gathers, until a Txn objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// When the last round before it was full: the modification revision of the round's key.
    pub(super) since: Revision,
    /// The last full round's number.
    pub(super) number: u64,
}

/// A free place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Free {
    pub(super) known: Known,
    pub(super) place: u32,
}

/// How somebody went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    /// Before the round was full: never counted.
    Withdrawn,
    /// The last of a round.
    Last,
    /// Of a full round; others may still be in it.
    Left(Revision),
    /// The place was not held any more.
    Gone,
}

impl Drop for House {
    fn drop(&mut self) {
        // Nobody in this client uses it any more. If nobody at all is inside, nothing needs to stay.
        let txn = Txn::new()
            .when([Compare::absent(self.keys.places())])
            .and_then([DeleteRequest::new(self.keys.all())]);
        let store = Arc::clone(&self.store);
        let patience = self.patience;
        self.settle.spawn(&self.runtime, async move {
            let sweep = retry::read(patience, || store.txn(txn.clone()));
            if let Err(error) = sweep.await {
                tracing::debug!(%error, "the records of a double barrier are left behind");
            }
        });
    }
}

impl House {
    pub(super) fn of(client: &Client, name: &Key, runtime: &Handle) -> Arc<House> {
        client.registry().get("double-barrier", name, || {
            let keys = Keys::new(client.own_prefix("double-barrier", name), name);
            let store = client.shared_store();
            House {
                name: name.clone(),
                at: Sight::open(Arc::clone(&store), runtime, keys.at(), client.timeout()),
                keys,
                store,
                settle: client.settle(),
                patience: client.timeout(),
                runtime: runtime.clone(),
            }
        })
    }

    /// Reads how things stand, and finds a free place: the preferred one, else one drawn by lot.
    pub(super) async fn look(&self, count: u32, preferred: Option<u32>) -> Result<Free> {
        let keys = &self.keys;
        loop {
            let reads = [
                RangeRequest::new(keys.round.clone()),
                RangeRequest::new(keys.places()).keys_only(),
                RangeRequest::new(keys.go_waiters())
                    .keys_only()
                    .with_limit(1),
                RangeRequest::new(keys.go_ready.clone()).keys_only(),
            ];
            let txn = Txn::new().and_then(reads);
            let response = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
            let mut found = response.responses.into_iter().map(|response| {
                let range = response.into_range();
                range.map(|range| range.kvs).unwrap_or_default()
            });
            let mut next = || found.next().unwrap_or_default();
            let (round, places, mut go) = (next().pop(), next(), next());
            go.extend(next());
            if let Some(kv) = go.first() {
                return Err(Error::GoLayout {
                    name: self.name.to_string(),
                    key: kv.key.to_string(),
                });
            }
            let since = round.as_ref().map_or(Revision::ZERO, |kv| kv.mod_revision);
            let round = round.and_then(|kv| Round::decode(&kv.value));
            match round {
                Some(round) if round.count == count => {
                    let taken = |place: &u32| {
                        let key = keys.place(*place);
                        places.binary_search_by(|kv| kv.key.cmp(&key)).is_ok()
                    };
                    let free: Vec<u32> = (0..count).filter(|place| !taken(place)).collect();
                    let preferred = preferred.filter(|place| free.contains(place));
                    let drawn = || free.choose(&mut rand::rng()).copied();
                    return match preferred.or_else(drawn) {
                        Some(place) => Ok(Free {
                            known: Known {
                                since,
                                number: round.number,
                            },
                            place,
                        }),
                        None => Err(Error::TooManyParticipants {
                            name: self.name.to_string(),
                            count: u64::from(count),
                        }),
                    };
                }
                // While somebody is inside, the count stands.
                Some(round) if !places.is_empty() => {
                    return Err(Error::Disagreement {
                        name: self.name.to_string(),
                        what: "count",
                        stored: u64::from(round.count),
                        asked: u64::from(count),
                    });
                }
                round => {
                    let number = round.map_or(0, |round| round.number);
                    self.set_up(since, Round { count, number }).await?;
                }
            }
        }
    }

    /// Says what count an empty house is for. Somebody else may have said so first.
    async fn set_up(&self, since: Revision, round: Round) -> Result<()> {
        let keys = &self.keys;
        let txn = Txn::new()
            .when([
                Compare::modified_at(keys.round.clone(), since),
                Compare::absent(keys.places()),
            ])
            .and_then([TxnOp::from(PutRequest::new(
                keys.round.clone(),
                round.encode(),
            ))]);
        // A late copy finds another revision, or sets up an empty house once more.
        retry::read(self.patience, || self.store.txn(txn.clone())).await?;
        Ok(())
    }

    /// Takes a place. `Some(true)`: the round is full with that. `None`: things do not stand as
    /// was known.
    pub(super) async fn take(
        &self,
        count: u32,
        free: Free,
        put: impl Fn(Key) -> PutRequest,
    ) -> Result<Option<(Revision, bool)>> {
        let keys = &self.keys;
        let own = keys.place(free.place);
        let unchanged = [
            Compare::modified_at(keys.round.clone(), free.known.since),
            Compare::absent(own.clone()),
            Compare::absent(keys.go_waiters()),
            Compare::absent(keys.go_ready.clone()),
        ];
        let others = (0..count.min(MOST)).filter(|place| *place != free.place);
        let taken = others.map(|place| {
            let op = CompareOp::Greater;
            Compare::create_revision(keys.place(place), op, free.known.since)
        });
        let round = Round {
            count,
            number: free.known.number.saturating_add(1),
        };
        let full = Alternative {
            guards: unchanged.iter().cloned().chain(taken).collect(),
            ops: vec![
                put(own.clone()).into(),
                PutRequest::new(keys.round.clone(), round.encode()).into(),
                DeleteRequest::new(keys.left.clone()).into(),
            ],
        };
        let join = Alternative {
            guards: unchanged.to_vec(),
            ops: vec![put(own).into()],
        };
        let work = Work {
            first: full,
            others: vec![join],
        };
        Ok(match self.settle.run(work).await? {
            Outcome::Done {
                alternative,
                revision,
                ..
            } => Some((revision, alternative == 0)),
            Outcome::GuardsFalse => None,
        })
    }

    /// Gives up a place in a round that is not full. False when it is full, or the place is lost.
    pub(super) async fn withdraw(&self, held: Held) -> Result<bool> {
        let Alternative { guards, ops } = self.withdrawal(held);
        let outcome = self.settle.run(Work::new(guards, ops)).await?;
        Ok(matches!(outcome, Outcome::Done { .. }))
    }

    fn withdrawal(&self, held: Held) -> Alternative {
        let own = self.keys.place(held.place);
        Alternative {
            guards: vec![
                Compare::created_at(own.clone(), held.created),
                Compare::modified_at(self.keys.round.clone(), held.since),
            ],
            ops: vec![DeleteRequest::new(own).into()],
        }
    }

    /// Gives up a place; `full` when it is known that the round was.
    pub(super) async fn leave(&self, held: Held, full: bool) -> Result<Out> {
        let keys = &self.keys;
        let own = keys.place(held.place);
        let mine = Compare::created_at(own.clone(), held.created);
        let before = u64::from(held.count.saturating_sub(1));
        let last = Alternative {
            guards: vec![
                mine.clone(),
                Compare::version(keys.left.clone(), CompareOp::Equal, before),
            ],
            ops: vec![
                DeleteRequest::new(own.clone()).into(),
                DeleteRequest::new(keys.left.clone()).into(),
                PutRequest::new(keys.done.clone(), "").into(),
            ],
        };
        let left = Alternative {
            guards: vec![mine],
            ops: vec![
                DeleteRequest::new(own).into(),
                PutRequest::new(keys.left.clone(), "").into(),
            ],
        };
        let (work, shift) = if full {
            (
                Work {
                    first: last,
                    others: vec![left],
                },
                1,
            )
        } else {
            let first = self.withdrawal(held);
            (
                Work {
                    first,
                    others: vec![last, left],
                },
                0,
            )
        };
        Ok(match self.settle.run(work).await? {
            Outcome::Done {
                alternative,
                revision,
                ..
            } => match alternative.saturating_add(shift) {
                0 => Out::Withdrawn,
                1 => Out::Last,
                _ => Out::Left(revision),
            },
            Outcome::GuardsFalse => Out::Gone,
        })
    }

    /// Reads a place and the round at one revision: when the place was taken and by which word, when
    /// the round's key was last put, and the revision.
    pub(super) async fn stand(&self, place: u32) -> Result<Standing> {
        let reads = [self.keys.place(place), self.keys.round.clone()].map(RangeRequest::new);
        let txn = Txn::new().and_then(reads);
        let response = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
        let revision = response.header.revision;
        let mut found = response.responses.into_iter().map(|response| {
            TxnOpResponse::into_range(response).and_then(|range| range.kvs.into_iter().next())
        });
        let place = found.next().flatten();
        let round = found.next().flatten();
        Ok(Standing {
            created: place
                .as_ref()
                .map_or(Revision::ZERO, |kv| kv.create_revision),
            occupant: place.map(|kv| kv.value).unwrap_or_default(),
            round: round.map_or(Revision::ZERO, |kv| kv.mod_revision),
            revision,
        })
    }
}

/// A place that was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) count: u32,
    pub(super) place: u32,
    /// The place's create revision.
    pub(super) created: Revision,
    /// The modification revision of the round's key when it was taken.
    pub(super) since: Revision,
}

/// A place and its round at one revision.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) created: Revision,
    pub(super) occupant: Bytes,
    pub(super) round: Revision,
    pub(super) revision: Revision,
}
