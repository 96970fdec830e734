//! [`Board`]: what is known of the store, and the group that is to change it next. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use synod_store::{Key, KeyRange, Revision};

use super::Answer;
use super::group::{Demands, Group, Member, Pending, Refusal};
use crate::stm::sets::{Fetched, Seen, Sets, encloses};

/// The most keys and bytes of values that are kept from commit to commit.
const MAX_KEYS: usize = 1024;
const MAX_BYTES: usize = 1 << 20;

/// A key as the store holds it at the base.
#[derive(Debug, Clone)]
struct Known {
    seen: Seen,
    /// The step at which the board said something else of it last.
    changed: u64,
}

/// What the board says of a key or a range at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It has been noted.
    Noted,
    /// The store has to be asked.
    Unknown,
    /// It has changed since the step.
    Stale,
}

/// Where the transactions of a client meet; see the parent.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Counts the changes of the board.
    step: u64,
    /// The store's state that `known` is of; `None` when nothing is known.
    base: Option<Revision>,
    /// From this revision to the base, nobody but the groups of this board has changed the store.
    since: Revision,
    known: BTreeMap<Key, Known>,
    /// Of these ranges all keys are known.
    ranges: Vec<KeyRange>,
    pub(super) group: Group,
    /// The group whose commit is on its way, or whose refusal is being looked into.
    flying: Option<Group>,
    /// The number of the last member.
    last: u64,
    /// Whether a task is at work that will let the group take off, and look after it until it has
    /// landed.
    pub(super) scheduled: bool,
}

impl Board {
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    pub(super) fn base(&self) -> Option<Revision> {
        self.base
    }

    /// Whether no group gathers and none is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.flying.is_none() && self.group.is_empty()
    }

    pub(super) fn is_flying(&self) -> bool {
        self.flying.is_some()
    }

    /// What will be under a key when the group has committed, if it changes it.
    fn pending(&self, key: &Key) -> Option<&Pending> {
        let flying = || self.flying.as_ref()?.writes.get(key);
        self.group.writes.get(key).or_else(flying)
    }

    fn all_pending(&self) -> impl Iterator<Item = (&Key, &Pending)> {
        let flying = self.flying.as_ref().map(|group| group.writes.iter());
        self.group.writes.iter().chain(flying.into_iter().flatten())
    }

    /// Whether the board says anything of a key or a range.
    pub(super) fn knows(&self, range: &KeyRange) -> bool {
        match range {
            KeyRange::One(key) => {
                self.pending(key).is_some()
                    || self.known.contains_key(key)
                    || self.ranges.iter().any(|known| known.contains(key))
            }
            _ => self.ranges.iter().any(|known| encloses(known, range)),
        }
    }

    /// Whether what was seen from this base on can still be followed.
    fn follows(&self, base: Revision) -> bool {
        self.base == Some(base) || (self.base.is_some() && self.since <= base)
    }

    /// Notes what the board says of a key or range, as of the step that the attempt reads.
    pub(super) fn take(&self, sets: &mut Sets, range: &KeyRange) -> Said {
        let (Some(step), Some(base)) = (sets.step(), sets.snapshot()) else {
            return Said::Unknown;
        };
        if !self.follows(base) {
            return Said::Stale;
        }
        match range {
            KeyRange::One(key) => {
                if let Some(pending) = self.pending(key) {
                    return note_pending(sets, step, key, pending);
                }
                if let Some(known) = self.known.get(key) {
                    return note_known(sets, step, key, known);
                }
                if self.ranges.iter().any(|range| range.contains(key)) {
                    sets.note_key(key, Seen::default(), false);
                    return Said::Noted;
                }
                Said::Unknown
            }
            _ if self.knows(range) => self.take_range(sets, step, range),
            _ => Said::Unknown,
        }
    }

    fn take_range(&self, sets: &mut Sets, step: u64, range: &KeyRange) -> Said {
        let pending = self.all_pending().filter(|(key, _)| range.contains(key));
        for (key, pending) in pending {
            if note_pending(sets, step, key, pending) == Said::Stale {
                return Said::Stale;
            }
        }
        let known = self.known.iter().filter(|(key, _)| range.contains(key));
        for (key, known) in known {
            if note_known(sets, step, key, known) == Said::Stale {
                return Said::Stale;
            }
        }
        sets.note_range(range.clone());
        Said::Noted
    }

    /// Notes what the store said of its state at the attempt's base, and what has become of it on the
    /// board up to the attempt's step.
    pub(super) fn add(&self, sets: &mut Sets, fetched: Fetched) -> Said {
        let (Some(step), Some(base)) = (sets.step(), sets.snapshot()) else {
            return Said::Stale;
        };
        if !self.follows(base) {
            return Said::Stale;
        }
        for key in fetched.keys.keys() {
            let said = match (self.pending(key), self.known.get(key)) {
                (Some(pending), _) => note_pending(sets, step, key, pending),
                (None, Some(known)) => note_known(sets, step, key, known),
                (None, None) => Said::Unknown,
            };
            if said == Said::Stale {
                return Said::Stale;
            }
        }
        for range in fetched.ranges {
            if self.take_range(sets, step, &range) == Said::Stale {
                return Said::Stale;
            }
        }
        for (key, seen) in fetched.keys {
            sets.note_key(&key, seen, false);
        }
        Said::Noted
    }

    /// Learns what the store holds. `fresh` says whether what the board knows is worth more.
    pub(super) fn learn(&mut self, fetched: &Fetched, fresh: bool) {
        let revision = fetched.revision;
        let newer = self.base.is_none_or(|base| !fresh && base < revision);
        if newer && self.is_idle() {
            self.forget();
            self.base = Some(revision);
            self.since = revision;
        }
        // Its own groups' changes since are known.
        let follows = self
            .base
            .is_some_and(|base| self.since <= revision && revision <= base);
        if !follows || self.is_flying() && self.base != Some(revision) {
            return;
        }
        for (key, seen) in &fetched.keys {
            let known = || Known {
                seen: seen.clone(),
                changed: 0,
            };
            self.known.entry(key.clone()).or_insert_with(known);
        }
        if self.base == Some(revision) {
            self.learn_ranges(fetched.ranges.iter());
        }
        self.bound();
    }

    fn learn_ranges<'r>(&mut self, ranges: impl Iterator<Item = &'r KeyRange>) {
        for range in ranges {
            if !self.ranges.iter().any(|known| encloses(known, range)) {
                self.ranges.push(range.clone());
            }
        }
    }

    /// What a transaction demands of the store to be the next member; checked against what the
    /// members before it do.
    fn demands(&self, sets: &Sets) -> Result<Demands, Refusal> {
        match (sets.step(), sets.snapshot()) {
            (Some(step), Some(base)) => self.demands_on_board(sets, step, base),
            (_, snapshot) => self.demands_on_store(sets, snapshot.unwrap_or_default()),
        }
    }

    fn demands_on_board(&self, sets: &Sets, step: u64, from: Revision) -> Result<Demands, Refusal> {
        let Some(base) = self.base.filter(|_| self.follows(from)) else {
            return Err(Refusal::Stale);
        };
        let mut demands = Demands::default();
        for (key, seen) in sets.reads() {
            let (expected, changed) = match (self.pending(key), self.known.get(key)) {
                // The member that wrote it demands what there is to demand.
                (Some(pending), _) => (None, pending.changed),
                (None, Some(known)) => (Some(&known.seen), known.changed),
                // What it saw has been taken back.
                (None, None) if sets.is_pending(key) => return Err(Refusal::Stale),
                (None, None) => (Some(seen), 0),
            };
            if changed > step {
                return Err(Refusal::Stale);
            }
            if let Some(expected) = expected {
                demands.keys.insert(key.clone(), expected.clone());
            }
        }
        let late = |key: &Key| self.changed(key) > step;
        for range in sets.ranges() {
            let mut keys = self
                .known
                .keys()
                .chain(self.all_pending().map(|(key, _)| key));
            if keys.any(|key| range.contains(key) && late(key)) {
                return Err(Refusal::Stale);
            }
            demands.ranges.push((range.clone(), base));
        }
        for key in sets.blind() {
            if late(key) {
                return Err(Refusal::Stale);
            }
            demands.blind.insert(key.clone(), base);
        }
        Ok(demands)
    }

    /// At which step the board said something else of a key last.
    fn changed(&self, key: &Key) -> u64 {
        let known = || self.known.get(key).map_or(0, |known| known.changed);
        self.pending(key)
            .map_or_else(known, |pending| pending.changed)
    }

    fn demands_on_store(&self, sets: &Sets, snapshot: Revision) -> Result<Demands, Refusal> {
        let mut demands = Demands::default();
        let newer = |key: &Key, known: &Known| {
            known.seen.revision > snapshot && !self.group.writes.contains_key(key)
        };
        for (key, seen) in sets.reads() {
            let known = self.known.get(key).filter(|_| self.base >= Some(snapshot));
            let other = known.is_some_and(|known| known.seen.revision != seen.revision);
            if other || self.pending(key).is_some() {
                return Err(Refusal::Stale);
            }
            demands.keys.insert(key.clone(), seen.clone());
        }
        for range in sets.ranges() {
            let pending = self.all_pending().any(|(key, _)| range.contains(key));
            let mut known = self.known.iter().filter(|(key, _)| range.contains(key));
            if pending || known.any(|(key, known)| newer(key, known)) {
                return Err(Refusal::Stale);
            }
            demands.ranges.push((range.clone(), snapshot));
        }
        for key in sets.blind() {
            let known = self.known.get(key).is_some_and(|known| newer(key, known));
            if known || self.pending(key).is_some() {
                return Err(Refusal::Stale);
            }
            demands.blind.insert(key.clone(), snapshot);
        }
        Ok(demands)
    }

    /// Makes a transaction the next member of the group; returns its number.
    pub(super) fn join(
        &mut self,
        sets: &Sets,
        answer: tokio::sync::oneshot::Sender<Answer>,
    ) -> Result<u64, Refusal> {
        if self.is_flying() {
            return Err(Refusal::NotNow);
        }
        let demands = self.demands(sets)?;
        if let Err(refusal) = self.group.check(&demands, sets) {
            self.group.full |= refusal == Refusal::NotNow;
            return Err(refusal);
        }
        self.step = self.step.saturating_add(1);
        self.last = self.last.saturating_add(1);
        let member = Member::new(self.last, self.step, demands, sets, answer);
        self.group.add(member);
        Ok(self.last)
    }

    /// Takes a member out of the group that gathers, and all after it, who have to run again. False
    /// when its commit is on its way, or over.
    pub(super) fn leave(&mut self, id: u64) -> bool {
        let Some(out) = self.group.cut(id) else {
            return false;
        };
        self.step = self.step.saturating_add(1);
        for member in out {
            for key in member.keys_written() {
                if let Some(pending) = self.group.writes.get_mut(key) {
                    pending.changed = self.step;
                } else if let Some(known) = self.known.get_mut(key) {
                    known.changed = self.step;
                }
            }
            // Whoever has left does not listen.
            let _ = member.answer.send(Answer::Stale);
        }
        true
    }

    /// The group takes off. False when nobody is in it.
    pub(super) fn take_off(&mut self) -> bool {
        if self.group.is_empty() {
            return false;
        }
        self.flying = Some(std::mem::take(&mut self.group));
        true
    }

    pub(super) fn flying(&self) -> Option<&Group> {
        self.flying.as_ref()
    }

    /// The members of the group on its way, to be told something.
    pub(super) fn passengers(&mut self) -> Vec<Member> {
        let flying = self.flying.as_mut();
        flying.map_or_else(Vec::new, |group| std::mem::take(&mut group.members))
    }

    /// The group on its way has committed at this revision.
    pub(super) fn land(&mut self, revision: Revision) {
        self.scheduled = false;
        let Some(group) = self.flying.take() else {
            return;
        };
        let only = |base: Revision| revision == base || revision == base.next();
        if !self.base.is_some_and(only) {
            // Others have been at work: what this commit has not compared may be old.
            self.known
                .retain(|key, _| group.demands.keys.contains_key(key));
            let kept =
                |range: &KeyRange| group.demands.ranges.iter().any(|known| known.0 == *range);
            self.ranges.retain(kept);
            self.since = revision;
        }
        self.base = Some(revision);
        let now = self.step.saturating_add(1);
        self.step = now;
        for (key, seen) in group.demands.keys {
            let known = self.known.entry(key);
            let known = known.or_insert_with(|| Known {
                seen: seen.clone(),
                changed: 0,
            });
            // The commit has compared it, so it is what the store holds.
            if known.seen.revision != seen.revision {
                *known = Known { seen, changed: now };
            }
        }
        self.learn_ranges(group.demands.ranges.iter().map(|known| &known.0));
        for (key, pending) in group.writes {
            let value: Option<Bytes> = pending.write.value();
            let known = Known {
                seen: Seen {
                    revision: if value.is_some() {
                        revision
                    } else {
                        Revision::ZERO
                    },
                    value,
                },
                changed: pending.changed,
            };
            self.known.insert(key, known);
        }
        self.bound();
    }

    /// The group on its way has met a conflict or an error; this is what the store holds, if known.
    pub(super) fn fail(&mut self, found: Option<Fetched>) {
        self.flying = None;
        self.scheduled = false;
        self.forget();
        let Some(found) = found else { return };
        self.base = Some(found.revision);
        self.since = found.revision;
        let changed = self.step;
        let known = |(key, seen)| (key, Known { seen, changed });
        self.known = found.keys.into_iter().map(known).collect();
        self.ranges = found.ranges;
    }

    /// Forgets all that is known of the store. Who has read it cannot go on.
    pub(super) fn forget(&mut self) {
        self.step = self.step.saturating_add(1);
        self.base = None;
        self.known.clear();
        self.ranges.clear();
    }

    /// Forgets the state of a revision, which the store does not have any more.
    pub(super) fn forget_state(&mut self, revision: Revision) {
        if self.base == Some(revision) {
            self.forget();
        }
    }

    /// Keeps the memory within its bounds.
    fn bound(&mut self) {
        let size = |known: &Known| known.seen.value.as_ref().map_or(0, Bytes::len);
        let bytes = self.known.values().map(size).fold(0, usize::saturating_add);
        if self.known.len() > MAX_KEYS || bytes > MAX_BYTES || self.ranges.len() > MAX_KEYS {
            // Nobody can follow any more what has changed under the keys that go.
            self.forget();
        }
    }

    /// Notes at which revision that has been committed which an attempt saw pending under a key.
    /// [`Said::Unknown`] as long as it is pending.
    pub(super) fn settle(&self, sets: &mut Sets, key: &Key) -> Said {
        let (Some(step), Some(base)) = (sets.step(), sets.snapshot()) else {
            return Said::Stale;
        };
        if !self.follows(base) || self.changed(key) > step {
            return Said::Stale;
        }
        if self.pending(key).is_some() {
            return Said::Unknown;
        }
        let Some(known) = self.known.get(key) else {
            return Said::Stale;
        };
        sets.settle(key, known.seen.revision);
        Said::Noted
    }
}

fn note_pending(sets: &mut Sets, step: u64, key: &Key, pending: &Pending) -> Said {
    if pending.changed > step {
        return Said::Stale;
    }
    let seen = Seen {
        value: pending.write.value(),
        revision: Revision::ZERO,
    };
    sets.note_key(key, seen, true);
    Said::Noted
}

fn note_known(sets: &mut Sets, step: u64, key: &Key, known: &Known) -> Said {
    if known.changed > step {
        return Said::Stale;
    }
    sets.note_key(key, known.seen.clone(), false);
    Said::Noted
}
