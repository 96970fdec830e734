//! One round of the tender: what it looks at, and the moves it makes.
//!
//! It moves items into the queue, where every consumer sees them come as any other item. Each move is
//! one guarded Txn that can apply only once, whoever sends it and however late a copy arrives: it
//! compares the modification revision of a key that is never used again. So it needs no lane, and any
//! number of clients may try.

use std::collections::BTreeSet;

use synod_store::{
    Compare, DeleteRequest, Key, KeyRange, KeyValue, RangeRequest, Revision, Txn, TxnOp,
    TxnOpResponse,
};
use tokio::time::Instant;

use super::depot::{Depot, Landing, PLACES};
use super::keys::Id;
use super::record::Record;
use crate::{Result, retry};

/// How many items on their way one round looks at, and how many delayed ones.
const PAGE: (u64, u64) = (256, 32);

/// How many values are read at once.
const READS: usize = 16;

/// What one round did.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// How many items it moved.
    pub(super) moved: usize,
    /// How many somebody else moved just before.
    pub(super) lost: usize,
    /// Whether there is more to look at.
    pub(super) more: bool,
    /// When the next delayed item becomes due, in nanoseconds since 1970.
    pub(super) due: Option<u64>,
    /// When it read.
    pub(super) revision: Revision,
}

impl Depot {
    /// Looks once at what is on its way and at what is delayed, and moves what has to be.
    pub(super) async fn round(&self) -> Result<Round> {
        let (from, later_from) = {
            let mut state = self.tender.state.lock();
            state.round = Some(Instant::now());
            (state.from.take(), state.later_from.take())
        };
        let page = |range| RangeRequest::new(range).keys_only().with_limit(PAGE.0);
        let reads: Vec<TxnOp> = match from {
            Some(from) => self
                .beside
                .held_from(from)
                .map(|range| page(range).into())
                .into(),
            None => {
                let ranges = [self.beside.all_taken(), self.beside.all_owners()];
                ranges.map(|range| page(range).into()).into()
            }
        };
        let later = match (later_from, self.beside.all_later()) {
            (Some(from), KeyRange::Between(_, end)) => KeyRange::Between(from, end),
            (_, all) => all,
        };
        let later = RangeRequest::new(later).keys_only().with_limit(PAGE.1);
        let txn = Txn::new().and_then(reads).and_then([later]);

        let answer = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
        let mut round = Round {
            revision: answer.header.revision,
            ..Round::default()
        };
        let mut ranges = answer
            .responses
            .into_iter()
            .filter_map(TxnOpResponse::into_range);
        let (taken, owners, later) = (
            ranges.next().unwrap_or_default(),
            ranges.next().unwrap_or_default(),
            ranges.next().unwrap_or_default(),
        );
        let owned: BTreeSet<Id> = owners
            .kvs
            .iter()
            .filter_map(|kv| self.beside.owner_id(&kv.key))
            .collect();
        // Every marker has its item: beyond the last marker of a full page nothing is known.
        let known = owned.last().copied().filter(|_| owners.more);
        let ids = taken
            .kvs
            .iter()
            .filter_map(|kv| self.beside.taken_id(&kv.key));
        let ids: Vec<Id> = ids
            .filter(|id| known.is_none_or(|known| *id <= known))
            .collect();
        if taken.more || owners.more {
            self.tender.state.lock().from = ids.last().map(|id| id.next());
            round.more = ids.last().is_some();
        }
        let now = self.clock.unix_nanos();
        let orphans = ids
            .into_iter()
            .filter(|id| !owned.contains(id))
            .map(|id| self.beside.taken(id));
        let mut keys: Vec<Key> = orphans.collect();
        for kv in &later.kvs {
            match self.beside.due(&kv.key) {
                Some(due) if due <= now => keys.push(kv.key.clone()),
                Some(due) => {
                    round.due = Some(round.due.map_or(due, |first| first.min(due)));
                    break;
                }
                None => {}
            }
        }
        // A page full of due ones is followed by another.
        let full = later.more && round.due.is_none();
        round.more |= full;
        self.tender.state.lock().due = if full { Some(now) } else { round.due };
        self.move_all(keys, &mut round).await?;
        if full && round.moved == 0 && round.lost == 0 {
            // They stay where they are, so that the page would be the same one again.
            let last = later.kvs.last().map(|kv| kv.key.successor());
            self.tender.state.lock().later_from = last;
        }
        Ok(round)
    }

    /// Moves those of these items that are still where they were seen.
    pub(super) async fn move_all(&self, keys: Vec<Key>, round: &mut Round) -> Result<()> {
        for keys in keys.chunks(READS) {
            let txn = Txn::new().and_then(keys.iter().cloned().map(RangeRequest::new));
            let answer = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
            for range in answer
                .responses
                .into_iter()
                .filter_map(TxnOpResponse::into_range)
            {
                let moved = match range.kvs.into_iter().next() {
                    Some(kv) => self.move_one(&kv).await?,
                    None => Some(false),
                };
                match moved {
                    Some(true) => round.moved = round.moved.saturating_add(1),
                    Some(false) => round.lost = round.lost.saturating_add(1),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Moves one item to where it belongs now. False when somebody else has; `None` when it cannot be
    /// moved.
    async fn move_one(&self, kv: &KeyValue) -> Result<Option<bool>> {
        let Some(record) = Record::decode(&kv.value) else {
            tracing::warn!(key = %kv.key, "an item beside a queue cannot be read: is it of a later version?");
            return Ok(None);
        };
        // Only what was on its way has used up an attempt.
        let owner = self
            .beside
            .taken_id(&kv.key)
            .map(|id| self.beside.owner(id));
        let mut guards = vec![Compare::modified_at(kv.key.clone(), kv.mod_revision)];
        guards.extend(owner.clone().map(Compare::absent));
        for anew in (0..PLACES).map(|tried| tried > 0) {
            let landing = if owner.is_some() && record.is_used_up() {
                self.burial(&record)
            } else {
                self.entry(&record, anew).await?
            };
            let Landing {
                guards: landing_guards,
                ops,
            } = landing;
            let txn = Txn::new()
                .when(guards.iter().cloned().chain(landing_guards))
                .and_then([DeleteRequest::new(kv.key.clone())])
                .and_then(ops)
                .or_else([Txn::new().when(guards.iter().cloned())]);
            let answer = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
            if answer.succeeded {
                return Ok(Some(true));
            }
            let there = answer
                .responses
                .into_iter()
                .next()
                .and_then(TxnOpResponse::into_txn);
            if !there.is_some_and(|there| there.succeeded) {
                return Ok(Some(false));
            }
            // It is there, so its own key must be taken.
        }
        Ok(None)
    }
}
