//! The claim of deliveries: the Txn that moves items out of their queue. Pure.
//!
//! *Of one item*: each offer is two alternatives, in order: *move it, if it was never handed out* (`mod(item)=r and
//! mod(tries)!=r`), and *ask how often it was* (`mod(item)=r`, get tries). Of the second the claim is
//! sent again, with the number, as one alternative (`mod(item)=r`). Items that are gone are passed
//! over, none that is there is.
//!
//! *Of several*, for callers that wait together: `If mod(tries_i)!=r_i for each, and nothing more urgent
//! has come Then (If mod(item_i)=r_i Then move it) for each Else get(tries_i) for each`. So those that are
//! there are taken whatever became of the others, and what has come back before is asked for at once.

use synod_store::{
    Compare, CompareOp, DeleteRequest, Key, PutRequest, RangeRequest, Txn, TxnOp, TxnOpResponse,
};

use super::depot::Depot;
use super::keys::Id;
use super::leases::Lease;
use super::record::{Record, decode_tries};
use super::stock::Offer;
use crate::settle::{Alternative, Work};

/// What an alternative of a claim stands for; the number is the offer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The offer was moved.
    Taken(usize),
    /// It is there, but was handed out before.
    Returned(usize),
}

/// A claim of the first of several offers that is still there.
#[derive(Debug)]
pub(super) struct Claim<'c> {
    pub(super) depot: &'c Depot,
    pub(super) id: Id,
    pub(super) lease: Lease,
    pub(super) most: Option<u32>,
}

impl Claim<'_> {
    /// What is written of an offer once it is taken.
    pub(super) fn record(&self, offer: &Offer) -> Record {
        Record {
            attempts: offer.attempts.unwrap_or(0).saturating_add(1),
            most: self.most,
            place: self.depot.place(&offer.item.key),
            payload: offer.item.value.clone().unwrap_or_default(),
        }
    }

    /// What moves an item that is in its queue: deletes it there, and puts it on its way.
    fn moving(&self, offer: &Offer) -> Vec<TxnOp> {
        let beside = &self.depot.beside;
        let key = &offer.item.key;
        let mut ops = vec![
            DeleteRequest::new(key.clone()).into(),
            PutRequest::new(beside.taken(self.id), self.record(offer).encode()).into(),
            PutRequest::new(beside.owner(self.id), self.depot.identity.clone())
                .with_lease(self.lease.id)
                .into(),
        ];
        if offer.attempts.is_some() {
            let tries = beside.tries(&self.depot.place(key));
            ops.push(DeleteRequest::new(tries).into());
        }
        ops
    }

    fn alternatives(
        &self,
        offers: &[Offer],
        first: impl Fn(&Key) -> Vec<Compare>,
    ) -> Vec<(Meaning, Alternative)> {
        let beside = &self.depot.beside;
        let mut alternatives = Vec::with_capacity(offers.len().saturating_mul(2));
        for (number, offer) in offers.iter().enumerate() {
            let (key, revision) = (&offer.item.key, offer.item.mod_revision);
            let place = self.depot.place(key);
            let tries = beside.tries(&place);
            let mut there = vec![Compare::modified_at(key.clone(), revision)];
            there.extend(first(key));
            let mut guards = there.clone();
            if offer.attempts.is_none() {
                // Item and count were written together: none of this revision, none at all.
                guards.push(Compare::mod_revision(tries, CompareOp::NotEqual, revision));
            }
            let ops = self.moving(offer);
            alternatives.push((Meaning::Taken(number), Alternative { guards, ops }));
            if offer.attempts.is_none() {
                let tries = beside.tries(&place);
                let ask = Alternative {
                    guards: there,
                    ops: vec![RangeRequest::new(tries).into()],
                };
                alternatives.push((Meaning::Returned(number), ask));
            }
        }
        alternatives
    }

    /// The claim, and what its alternatives mean. `first` is what must hold besides for an item to be
    /// the first one. `None` without offers.
    pub(super) fn work(
        &self,
        offers: &[Offer],
        first: impl Fn(&Key) -> Vec<Compare>,
    ) -> Option<(Work, Vec<Meaning>)> {
        let (meanings, alternatives): (Vec<_>, Vec<_>) =
            self.alternatives(offers, first).into_iter().unzip();
        let mut alternatives = alternatives.into_iter();
        let first = alternatives.next()?;
        let others = alternatives.collect();
        Some((Work { first, others }, meanings))
    }
}

/// The claim of several offers, each with a marker of its own. `first` is what must hold besides for the
/// last of them to be the next one.
pub(super) fn joined(depot: &Depot, offers: &[(Offer, Claim<'_>)], first: Vec<Compare>) -> Work {
    let mut fresh = Vec::new();
    let mut moves: Vec<TxnOp> = Vec::with_capacity(offers.len());
    let mut asks: Vec<TxnOp> = Vec::new();
    for (offer, claim) in offers {
        let (key, revision) = (&offer.item.key, offer.item.mod_revision);
        let there = Compare::modified_at(key.clone(), revision);
        let moving = Txn::new().when([there]).and_then(claim.moving(offer));
        moves.push(moving.into());
        if offer.attempts.is_none() {
            let tries = depot.beside.tries(&depot.place(key));
            fresh.push(Compare::mod_revision(
                tries.clone(),
                CompareOp::NotEqual,
                revision,
            ));
            asks.push(RangeRequest::new(tries).into());
        }
    }
    if asks.is_empty() {
        Work::new(first, moves)
    } else {
        Work::fork(first, fresh, moves, asks)
    }
}

/// What the answer to the question for the tries says.
pub(super) fn tries(response: TxnOpResponse) -> Option<u32> {
    let range = response.into_range()?;
    let tries = range.kvs.first().and_then(|kv| decode_tries(&kv.value));
    Some(tries.unwrap_or(0))
}
