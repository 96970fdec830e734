//! [`House`]: the Txns of the native layout; see the parent for the protocol.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::seq::IndexedRandom;
use synod_store::{
    Applied, Compare, CompareOp, DeleteRequest, ErrorKind, Key, PutRequest, RangeRequest, Revision,
    Store, Txn, TxnOp, TxnOpResponse,
};
use tokio::runtime::Handle;

use super::keys::{Keys, MOST, Round};
use crate::errand::{Runtimes, errand};
use crate::retry::Sent;
use crate::settle::{Outcome, Settle, Work};
use crate::sight::LastingSight;
use crate::slot::Slot;
use crate::{Client, Error, Result, Session, retry, session};

/// What all participants of one double barrier in one client share.
#[derive(Debug)]
pub(super) struct House {
    pub(super) name: Key,
    pub(super) keys: Keys,
    pub(super) store: Arc<dyn Store>,
    pub(super) settle: Settle,
    pub(super) patience: Duration,
    /// The round's key and the one that says that it is over.
    pub(super) at: LastingSight,
    /// Where the last one who entered keeps its session.
    pub(super) home: Slot<Option<Handle>>,
}

/// What is known of the round that gathers, until a Txn objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// When the last round before it was full: the modification revision of the round's key.
    pub(super) since: Revision,
    /// The last full round's number.
    pub(super) number: u64,
    /// When somebody last made old copies of a Txn void; zero when nobody ever did.
    pub(super) void: Revision,
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
    Left,
    /// The place was not held any more.
    Gone,
}

impl Drop for House {
    fn drop(&mut self) {
        // Nobody in this client uses it any more. If nobody at all is inside, nothing needs to stay.
        let txn = Txn::new()
            .when([Compare::absent(self.keys.places())])
            .and_then([DeleteRequest::new(self.keys.all())]);
        let home = self.home.lock().take();
        let runtimes = match (Handle::try_current(), home) {
            (Ok(first), second) => Runtimes { first, second },
            (Err(_), Some(first)) => Runtimes {
                first,
                second: None,
            },
            (Err(_), None) => return,
        };
        let (store, patience) = (Arc::clone(&self.store), self.patience);
        errand(&self.settle, runtimes, "double_barrier.tidy", move || {
            let (store, txn) = (Arc::clone(&store), txn.clone());
            async move {
                let sweep = retry::read(patience, || store.txn(txn.clone()));
                if let Err(error) = sweep.await {
                    tracing::debug!(%error, "the records of a double barrier are left behind");
                }
            }
        });
    }
}

impl House {
    pub(super) fn of(client: &Client, name: &Key) -> Arc<House> {
        client.registry().get("double-barrier", name, || {
            let keys = Keys::new(client.own_prefix("double-barrier", name), name);
            let store = client.shared_store();
            House {
                name: name.clone(),
                at: LastingSight::new(Arc::clone(&store), keys.at(), client.timeout()),
                home: Slot::default(),
                keys,
                store,
                settle: client.settle(),
                patience: client.timeout(),
            }
        })
    }

    /// Reads how things stand, and finds a free place: the preferred one, else one drawn by lot.
    pub(super) async fn look(&self, count: u32, preferred: Option<u32>) -> Result<Free> {
        let keys = &self.keys;
        loop {
            let reads = [
                RangeRequest::new(keys.round.clone()),
                RangeRequest::new(keys.void.clone()).keys_only(),
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
            let (round, void, places) = (next().pop(), next().pop(), next());
            let mut go = next();
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
                                void: void.map_or(Revision::ZERO, |kv| kv.mod_revision),
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

    /// Takes a place, by which `occupant` is known.
    pub(super) async fn take(
        &self,
        count: u32,
        free: Free,
        occupant: &Bytes,
        session: &Session,
    ) -> Take {
        let keys = &self.keys;
        let others = (0..count.min(MOST)).filter(|place| *place != free.place);
        let taken = others.map(|place| {
            let op = CompareOp::Greater;
            Compare::create_revision(keys.place(place), op, free.known.since)
        });
        let round = Round {
            count,
            number: free.known.number.saturating_add(1),
        };
        let full = Txn::new().when(taken).and_then([
            TxnOp::from(PutRequest::new(keys.round.clone(), round.encode())),
            DeleteRequest::new(keys.left.clone()).into(),
        ]);
        let own = keys.place(free.place);
        let put = PutRequest::new(own.clone(), occupant.clone()).with_lease(session.lease());
        let txn = Txn::new()
            .when([
                Compare::modified_at(keys.round.clone(), free.known.since),
                Compare::modified_at(keys.void.clone(), free.known.void),
                Compare::absent(own),
                Compare::absent(keys.go_waiters()),
                Compare::absent(keys.go_ready.clone()),
            ])
            .and_then([TxnOp::from(put), full.into()]);
        let Sent { answer, doubt } = retry::txn(&*self.store, &txn, self.patience).await;
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                // A lease does not come back: no copy can apply, and what one has put is gone.
                let open = doubt && !error.is_lease_gone();
                // Which says itself whether a copy may have applied.
                let error = session::lease_gone(session, error.into());
                return Take::Failed { error, open };
            }
        };
        if response.succeeded {
            let full = response.responses.into_iter().nth(1);
            let full = full.and_then(TxnOpResponse::into_txn);
            return Take::Taken(Taken {
                created: response.header.revision,
                full: full.is_some_and(|full| full.succeeded),
                doubt,
            });
        }
        if !doubt {
            return Take::Stale;
        }
        match self.stand_for_good(free).await {
            Ok(standing) if standing.occupant == occupant => Take::Taken(Taken {
                created: standing.created,
                full: standing.round == standing.created,
                // None can arrive any more.
                doubt: false,
            }),
            Ok(_) => Take::Stale,
            Err(_) => {
                let error = synod_store::Error::from_kind(ErrorKind::Timeout);
                Take::Failed {
                    error: error.with_applied(Applied::Maybe).into(),
                    open: true,
                }
            }
        }
    }

    /// How a place stands once no copy of a Txn that was to take it can apply any more.
    pub(super) async fn stand_for_good(&self, free: Free) -> Result<Standing> {
        let void = &self.keys.void;
        let txn = Txn::new()
            .when([Compare::modified_at(void.clone(), free.known.void)])
            .and_then([PutRequest::new(void.clone(), "")]);
        // Whoever was faster has made them void too.
        retry::read(self.patience, || self.store.txn(txn.clone())).await?;
        self.stand(free.place).await
    }

    /// Gives up a place in a round that is not full. False when it is full, or the place is lost.
    pub(super) async fn withdraw(&self, held: Held) -> Result<bool> {
        let guards = self.withdrawal(held);
        let outcome = self.settle.run(Work::new(guards, self.withdrawn(held)));
        Ok(matches!(outcome.await?, Outcome::Done { .. }))
    }

    fn withdrawal(&self, held: Held) -> Vec<Compare> {
        vec![
            Compare::created_at(self.keys.place(held.place), held.created),
            Compare::modified_at(self.keys.round.clone(), held.known.since),
        ]
    }

    fn withdrawn(&self, held: Held) -> Vec<TxnOp> {
        let mut ops = vec![DeleteRequest::new(self.keys.place(held.place)).into()];
        if held.doubt {
            // The round gathers still: a late copy would take the place again.
            ops.push(PutRequest::new(self.keys.void.clone(), "").into());
        }
        ops
    }

    /// Gives up a place; `full` when it is known that the round was.
    ///
    /// A place is created once, so however often this is sent it happens once. An answer that was lost
    /// tells only that it has happened, not how.
    pub(super) async fn leave(&self, held: Held, session: &Session, full: bool) -> Result<Out> {
        let keys = &self.keys;
        let own = keys.place(held.place);
        let before = u64::from(held.count.saturating_sub(1));
        let last = Txn::new()
            .when([Compare::version(
                keys.left.clone(),
                CompareOp::Equal,
                before,
            )])
            .and_then([
                TxnOp::from(DeleteRequest::new(keys.left.clone())),
                PutRequest::new(keys.done.clone(), "").into(),
            ])
            .or_else([PutRequest::new(keys.left.clone(), "")]);
        let delete = TxnOp::from(DeleteRequest::new(own.clone()));
        let mut txn = Txn::new().and_then([delete, last.into()]);
        if full {
            txn = txn.when([Compare::created_at(own, held.created)]);
        } else {
            // Not in the round, or in it, or neither.
            txn = Txn::new()
                .when(self.withdrawal(held))
                .and_then(self.withdrawn(held))
                .or_else([txn.when([Compare::created_at(own, held.created)])]);
        }
        let Sent { answer, doubt } = retry::txn(&*self.store, &txn, self.patience).await;
        let response = answer?;
        let left = if full {
            response.succeeded.then_some(response.responses)
        } else if response.succeeded {
            return Ok(Out::Withdrawn);
        } else {
            let left = response.responses.into_iter().next();
            let left = left.and_then(TxnOpResponse::into_txn);
            left.filter(|left| left.succeeded)
                .map(|left| left.responses)
        };
        match left {
            Some(responses) => {
                let last = responses.into_iter().nth(1);
                let last = last.and_then(TxnOpResponse::into_txn);
                Ok(match last {
                    Some(last) if last.succeeded => Out::Last,
                    _ => Out::Left,
                })
            }
            // Nobody else deletes the place as long as the lease lives: an earlier copy has.
            None if doubt && self.is_alive(session).await? => Ok(Out::Left),
            None => Ok(Out::Gone),
        }
    }

    /// Whether the store says that the session's lease is there.
    async fn is_alive(&self, session: &Session) -> Result<bool> {
        let lease = || self.store.lease_time_to_live(session.lease(), false);
        let lease = retry::read(self.patience, lease).await?;
        Ok(lease.remaining.is_some())
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

/// What came of an attempt to take a place.
#[derive(Debug)]
pub(super) enum Take {
    Taken(Taken),
    /// Things do not stand as was known.
    Stale,
    /// `open`: it may be taken all the same, now or later.
    Failed {
        error: Error,
        open: bool,
    },
}

/// A place as it was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) created: Revision,
    /// The round is full with that.
    pub(super) full: bool,
    /// A copy of the Txn was not answered.
    pub(super) doubt: bool,
}

/// A place that was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) count: u32,
    pub(super) place: u32,
    /// The place's create revision.
    pub(super) created: Revision,
    /// What was known of the round when it was taken.
    pub(super) known: Known,
    /// Whether a copy of the Txn that took it may still arrive.
    pub(super) doubt: bool,
}

/// A place and its round at one revision.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) created: Revision,
    pub(super) occupant: Bytes,
    pub(super) round: Revision,
    pub(super) revision: Revision,
}
