//! [`Group`]: transactions that are to be committed together, and the Txn that does it. Pure.

use std::collections::BTreeMap;

use synod_store::{Compare, CompareOp, Key, KeyRange, Revision, TxnOp};
use tokio::sync::oneshot;

use super::Answer;
use crate::stm::sets::{MAX_COMPARES, MAX_REREADS, Seen, Sets, Write, rereads};

/// The most bytes that the keys and values of a group may have, unless one transaction alone has more.
const MAX_BYTES: usize = 512 * 1024;

/// What the store must hold for a transaction to commit.
#[derive(Debug, Default)]
pub(super) struct Demands {
    /// Keys as they were read.
    pub(super) keys: BTreeMap<Key, Seen>,
    /// Ranges of which nothing may be newer.
    pub(super) ranges: Vec<(KeyRange, Revision)>,
    /// Keys that are only written, and may not be newer.
    pub(super) blind: BTreeMap<Key, Revision>,
}

/// Why a transaction does not become a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What it has read is not so any more: it has to run again.
    Stale,
    /// There is no room for it before the next landing.
    NotNow,
}

/// What a member will do to a key, and the step at which it joined.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) write: Write,
    pub(super) changed: u64,
}

/// A transaction of the group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: u64,
    step: u64,
    demands: Demands,
    writes: BTreeMap<Key, Write>,
    pub(super) answer: oneshot::Sender<Answer>,
}

impl Member {
    pub(super) fn new(
        id: u64,
        step: u64,
        demands: Demands,
        sets: &Sets,
        answer: oneshot::Sender<Answer>,
    ) -> Member {
        Member {
            id,
            step,
            demands,
            writes: sets.writes().clone(),
            answer,
        }
    }

    pub(super) fn keys_written(&self) -> impl Iterator<Item = &Key> {
        self.writes.keys()
    }
}

/// The transactions that go together, in their order.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) members: Vec<Member>,
    pub(super) demands: Demands,
    /// What is under the keys after the last of them.
    pub(super) writes: BTreeMap<Key, Pending>,
    bytes: usize,
    /// Somebody found no room.
    pub(super) full: bool,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether there is room for one more, which demands this and writes that.
    pub(super) fn check(&self, more: &Demands, sets: &Sets) -> Result<(), Refusal> {
        self.check_demands(more)?;
        if self.is_empty() {
            return Ok(());
        }
        let new = |key: &&Key| !self.demands.keys.contains_key(*key);
        let keys = self.demands.keys.len() + more.keys.keys().filter(new).count();
        let new =
            |range: &&(KeyRange, _)| !self.demands.ranges.iter().any(|known| known.0 == range.0);
        let ranges = self.demands.ranges.len() + more.ranges.iter().filter(new).count();
        let new = |key: &&Key| !self.demands.blind.contains_key(*key);
        let blind = self.demands.blind.len() + more.blind.keys().filter(new).count();
        let new = |key: &&Key| !self.writes.contains_key(*key);
        let writes = self.writes.len() + sets.writes().keys().filter(new).count();
        let fits = keys + ranges + blind <= MAX_COMPARES
            && keys + ranges <= MAX_REREADS
            && writes <= MAX_REREADS
            && self.bytes + bytes(sets.writes()) <= MAX_BYTES;
        // A lease that is gone fails who attaches it, so nobody else may write over that.
        let leased = |key: &Key| {
            let pending = self.writes.get(key).map(|pending| &pending.write);
            matches!(pending, Some(Write::Put(_, Some(_))))
        };
        if fits && !sets.writes().keys().any(leased) {
            Ok(())
        } else {
            Err(Refusal::NotNow)
        }
    }

    /// Two that demand what cannot both be so would fail together.
    fn check_demands(&self, more: &Demands) -> Result<(), Refusal> {
        let newer = |demands: &Demands, key: &Key, revision: Revision| {
            let in_range =
                |known: &(KeyRange, Revision)| known.0.contains(key) && known.1 < revision;
            let blind = demands.blind.get(key).is_some_and(|most| *most < revision);
            blind || demands.ranges.iter().any(in_range)
        };
        let clash = |(key, seen): (&Key, &Seen)| {
            let known = self.demands.keys.get(key);
            known.is_some_and(|known| known.revision != seen.revision)
                || newer(&self.demands, key, seen.revision)
        };
        let keys = &self.demands.keys;
        if more.keys.iter().any(clash) || keys.iter().any(|(k, seen)| newer(more, k, seen.revision))
        {
            return Err(Refusal::Stale);
        }
        Ok(())
    }

    /// Adds a member at the end.
    pub(super) fn add(&mut self, member: Member) {
        self.demands.merge(&member.demands);
        self.bytes = self.bytes.saturating_add(bytes(&member.writes));
        for (key, write) in &member.writes {
            let pending = Pending {
                write: write.clone(),
                changed: member.step,
            };
            self.writes.insert(key.clone(), pending);
        }
        self.members.push(member);
    }

    /// Takes a member out, and all after it, which may have seen what it wrote. `None` when it is
    /// not one of them.
    pub(super) fn cut(&mut self, id: u64) -> Option<Vec<Member>> {
        let at = self.members.iter().position(|member| member.id == id)?;
        let out = self.members.split_off(at);
        let stay = std::mem::take(self);
        for member in stay.members {
            self.add(member);
        }
        Some(out)
    }

    /// The conditions of the commit: those of all members, on the state before it.
    pub(super) fn compares(&self) -> Vec<Compare> {
        let keys = self.demands.keys.iter();
        let keys = keys.map(|(key, seen)| Compare::modified_at(key.clone(), seen.revision));
        let unchanged = |range: KeyRange, most: Revision| {
            Compare::mod_revision(range, CompareOp::Less, most.next())
        };
        let ranges = self.demands.ranges.iter().cloned();
        let blind = self.demands.blind.iter();
        // A key that another member has read is compared as it was read.
        let blind = blind.filter(|(key, _)| !self.demands.keys.contains_key(*key));
        keys.chain(ranges.map(|(range, most)| unchanged(range, most)))
            .chain(blind.map(|(key, most)| unchanged(KeyRange::One(key.clone()), *most)))
            .collect()
    }

    /// What the commit does: what the last of them leaves under each key.
    pub(super) fn ops(&self) -> Vec<TxnOp> {
        let writes = self.writes.iter();
        writes.map(|(key, pending)| pending.write.op(key)).collect()
    }

    /// What is read again when the conditions do not hold.
    pub(super) fn rereads(&self) -> Vec<KeyRange> {
        let ranges: Vec<KeyRange> = self
            .demands
            .ranges
            .iter()
            .map(|known| known.0.clone())
            .collect();
        rereads(self.demands.keys.keys(), &ranges)
    }
}

impl Demands {
    fn merge(&mut self, more: &Demands) {
        for (key, seen) in &more.keys {
            self.keys.insert(key.clone(), seen.clone());
        }
        for (range, most) in &more.ranges {
            match self.ranges.iter_mut().find(|known| known.0 == *range) {
                Some(known) => known.1 = known.1.min(*most),
                None => self.ranges.push((range.clone(), *most)),
            }
        }
        for (key, most) in &more.blind {
            let known = self.blind.entry(key.clone()).or_insert(*most);
            *known = (*known).min(*most);
        }
    }
}

fn bytes(writes: &BTreeMap<Key, Write>) -> usize {
    let sizes = writes.iter().map(|(key, write)| {
        let value = match write {
            Write::Put(value, _) => value.len(),
            Write::Delete => 0,
        };
        key.len().saturating_add(value)
    });
    sizes.fold(0, usize::saturating_add)
}
