//! The rules once more, as plainly as possible: the whole state is kept for each revision, and a transaction runs on a
//! copy of it. No pages, no overlay, no histories.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{
    Compare, CompareOp, CompareOperand, DeleteResponse, ErrorKind, Event, EventKind, Header, Key,
    KeyRange, KeyValue, LeaseId, PutLease, PutResponse, PutValue, RangeRequest, RangeResponse,
    Revision, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

type Pairs = BTreeMap<Key, KeyValue>;

/// A lease: its time to live and when it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelLease {
    pub(super) ttl: Duration,
    pub(super) deadline: Duration,
}

#[derive(Debug)]
pub(super) struct Model {
    /// The pairs at each readable revision; the last entry is now.
    states: BTreeMap<u64, Pairs>,
    pub(super) events: BTreeMap<u64, Vec<Event>>,
    pub(super) leases: BTreeMap<LeaseId, ModelLease>,
    /// -1 before the first compaction, as in etcd.
    pub(super) compacted: i64,
    pub(super) now: Duration,
}

fn at(revision: u64) -> Header {
    Header {
        revision: Revision(revision),
        ..Header::default()
    }
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            states: BTreeMap::from([(1, Pairs::new())]),
            events: BTreeMap::new(),
            leases: BTreeMap::new(),
            compacted: -1,
            now: Duration::ZERO,
        }
    }

    pub(super) fn head(&self) -> u64 {
        *self.states.last_key_value().unwrap().0
    }

    fn current(&self) -> &Pairs {
        &self.states[&self.head()]
    }

    fn check_revision(&self, revision: u64) -> Result<(), ErrorKind> {
        if revision > self.head() {
            return Err(ErrorKind::FutureRevision);
        }
        if revision > 0 && i64::try_from(revision).unwrap() < self.compacted {
            return Err(ErrorKind::Compacted);
        }
        Ok(())
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ErrorKind> {
        self.check_revision(request.revision.0)?;
        Ok(self.range_in(self.current(), request, self.head()))
    }

    fn range_in(&self, current: &Pairs, request: &RangeRequest, revision: u64) -> RangeResponse {
        let pairs = match request.revision.0 {
            0 => current,
            old => &self.states[&old],
        };
        let in_range = pairs.values().filter(|kv| request.range.contains(&kv.key));
        let count = in_range.clone().count() as u64;
        let mut kvs: Vec<KeyValue> = in_range.cloned().collect();
        let limit = usize::try_from(request.limit).unwrap();
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let filtered = filters.iter().flatten().any(|bound| !bound.is_zero());
        if limit > 0 && request.sort_order == SortOrder::None && !filtered {
            kvs.truncate(limit + 1);
        }
        let [min_mod, max_mod, min_create, max_create] = filters.map(Option::unwrap_or_default);
        let below = |revision, max: Revision| max.is_zero() || revision <= max;
        kvs.retain(|kv| {
            kv.mod_revision >= min_mod
                && below(kv.mod_revision, max_mod)
                && kv.create_revision >= min_create
                && below(kv.create_revision, max_create)
        });
        // Alike ones stay in key order in both directions: turned twice, they are as they were.
        let descending = request.sort_order == SortOrder::Descending;
        if descending && request.sort_target != SortTarget::Key {
            kvs.reverse();
        }
        match request.sort_target {
            SortTarget::Key => {}
            SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
            SortTarget::CreateRevision => kvs.sort_by_key(|kv| kv.create_revision),
            SortTarget::ModRevision => kvs.sort_by_key(|kv| kv.mod_revision),
            SortTarget::Value => kvs.sort_by_key(|kv| kv.value.clone()),
        }
        if descending {
            kvs.reverse();
        }
        let more = limit > 0 && kvs.len() > limit && !request.count_only;
        if limit > 0 {
            kvs.truncate(limit);
        }
        if request.count_only {
            kvs.clear();
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse {
            header: at(revision),
            kvs,
            more,
            count,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found: Vec<&KeyValue> = self
            .current()
            .values()
            .filter(|kv| compare.range.contains(&kv.key))
            .collect();
        let holds = |kv: Option<&KeyValue>| {
            let missing = KeyValue::default();
            let it = kv.unwrap_or(&missing);
            let ordering = match &compare.operand {
                CompareOperand::Version(n) => i64::try_from(it.version).unwrap().cmp(n),
                CompareOperand::CreateRevision(n) => it.create_revision.as_i64().cmp(n),
                CompareOperand::ModRevision(n) => it.mod_revision.as_i64().cmp(n),
                CompareOperand::Lease(n) => LeaseId::to_i64(it.lease).cmp(n),
                CompareOperand::Value(_) if kv.is_none() => return false,
                CompareOperand::Value(value) => it.value.cmp(value),
            };
            match compare.op {
                CompareOp::Equal => ordering.is_eq(),
                CompareOp::NotEqual => ordering.is_ne(),
                CompareOp::Greater => ordering.is_gt(),
                CompareOp::Less => ordering.is_lt(),
            }
        };
        if found.is_empty() {
            holds(None)
        } else {
            found.into_iter().all(|kv| holds(Some(kv)))
        }
    }

    /// Chooses the branch of each transaction, outermost first.
    fn choose(&self, txn: &Txn, choices: &mut Vec<bool>) {
        let chosen = txn.compares.iter().all(|compare| self.holds(compare));
        choices.push(chosen);
        for op in if chosen { &txn.success } else { &txn.failure } {
            if let TxnOp::Txn(nested) = op {
                self.choose(nested, choices);
            }
        }
    }

    fn chosen<'t>(txn: &'t Txn, choices: &mut &[bool]) -> Vec<&'t TxnOp> {
        let (first, rest) = choices.split_first().unwrap();
        *choices = rest;
        let mut ops = Vec::new();
        for op in if *first { &txn.success } else { &txn.failure } {
            ops.push(op);
            if let TxnOp::Txn(nested) = op {
                ops.extend(Self::chosen(nested, choices));
            }
        }
        ops
    }

    pub(super) fn txn(&mut self, txn: &Txn) -> Result<TxnResponse, ErrorKind> {
        let mut choices = Vec::new();
        self.choose(txn, &mut choices);
        let ops = Self::chosen(txn, &mut choices.as_slice());
        for op in &ops {
            let TxnOp::Put(put) = op else { continue };
            let keeps = put.value == PutValue::Keep || put.lease == PutLease::Keep;
            if keeps && !self.current().contains_key(&put.key) {
                return Err(ErrorKind::KeyNotFound);
            }
            if let PutLease::Attach(lease) = put.lease
                && !self.leases.contains_key(&lease)
            {
                return Err(ErrorKind::LeaseNotFound);
            }
        }
        for op in &ops {
            if let TxnOp::Range(range) = op {
                self.check_revision(range.revision.0)?;
            }
        }
        let mut pairs = self.current().clone();
        let mut events = Vec::new();
        let mut answer = self.run(txn, &mut choices.as_slice(), &mut pairs, &mut events)?;
        answer.header = at(self.head() + u64::from(!events.is_empty()));
        self.commit(pairs, events);
        Ok(answer)
    }

    fn commit(&mut self, pairs: Pairs, events: Vec<Event>) {
        if !events.is_empty() {
            let revision = self.head() + 1;
            self.states.insert(revision, pairs);
            self.events.insert(revision, events);
        }
    }

    fn run(
        &self,
        txn: &Txn,
        choices: &mut &[bool],
        pairs: &mut Pairs,
        events: &mut Vec<Event>,
    ) -> Result<TxnResponse, ErrorKind> {
        let (succeeded, rest) = choices.split_first().unwrap();
        *choices = rest;
        let mut responses = Vec::new();
        for op in if *succeeded {
            &txn.success
        } else {
            &txn.failure
        } {
            let new = Revision(self.head() + 1);
            let response = match op {
                TxnOp::Txn(nested) => TxnOpResponse::Txn(self.run(nested, choices, pairs, events)?),
                TxnOp::Range(request) => {
                    let revision = self.head() + u64::from(!events.is_empty());
                    TxnOpResponse::Range(self.range_in(pairs, request, revision))
                }
                TxnOp::Put(put) => {
                    let before = pairs.get(&put.key).cloned();
                    let keeps = put.value == PutValue::Keep || put.lease == PutLease::Keep;
                    if keeps && before.is_none() {
                        // It was there before the transaction, which has deleted it.
                        return Err(ErrorKind::KeyNotFound);
                    }
                    let old = before.clone().unwrap_or_default();
                    let kv = KeyValue {
                        key: put.key.clone(),
                        value: match &put.value {
                            PutValue::Set(value) => value.clone(),
                            PutValue::Keep => old.value,
                        },
                        create_revision: before.as_ref().map_or(new, |kv| kv.create_revision),
                        mod_revision: new,
                        version: old.version + 1,
                        lease: match put.lease {
                            PutLease::None => None,
                            PutLease::Attach(lease) => Some(lease),
                            PutLease::Keep => old.lease,
                        },
                    };
                    events.push(self.event(kv.clone(), EventKind::Put));
                    pairs.insert(put.key.clone(), kv);
                    TxnOpResponse::Put(PutResponse {
                        header: at(new.0),
                        prev_kv: before.filter(|_| put.prev_kv),
                    })
                }
                TxnOp::Delete(request) => {
                    let gone = self.delete_in(&request.range, pairs, events);
                    TxnOpResponse::Delete(DeleteResponse {
                        header: at(self.head() + u64::from(!events.is_empty())),
                        deleted: gone.len() as u64,
                        prev_kvs: if request.prev_kv { gone } else { Vec::new() },
                    })
                }
            };
            responses.push(response);
        }
        Ok(TxnResponse {
            header: Header::default(),
            succeeded: *succeeded,
            responses,
        })
    }

    fn event(&self, kv: KeyValue, kind: EventKind) -> Event {
        // A key that is created has no pair before, not even if it was deleted in the same revision.
        let created = kind == EventKind::Put && kv.create_revision == kv.mod_revision;
        let before = self.current().get(&kv.key).cloned();
        let prev_kv = before.filter(|_| !created);
        Event { kind, kv, prev_kv }
    }

    fn delete_in(
        &self,
        range: &KeyRange,
        pairs: &mut Pairs,
        events: &mut Vec<Event>,
    ) -> Vec<KeyValue> {
        let gone: Vec<KeyValue> = pairs
            .values()
            .filter(|kv| range.contains(&kv.key))
            .cloned()
            .collect();
        for kv in &gone {
            pairs.remove(&kv.key);
            let kv = KeyValue {
                key: kv.key.clone(),
                mod_revision: Revision(self.head() + 1),
                ..KeyValue::default()
            };
            events.push(self.event(kv, EventKind::Delete));
        }
        gone
    }

    pub(super) fn compact(&mut self, revision: u64) -> Result<(), ErrorKind> {
        let signed = i64::try_from(revision).unwrap();
        if signed <= self.compacted {
            return Err(ErrorKind::Compacted);
        }
        if revision > self.head() {
            return Err(ErrorKind::FutureRevision);
        }
        self.compacted = signed;
        Ok(())
    }

    pub(super) fn grant(&mut self, id: LeaseId, ttl: Duration) -> Result<(), ErrorKind> {
        if self.leases.contains_key(&id) {
            return Err(ErrorKind::LeaseExists);
        }
        let deadline = self.now + ttl;
        self.leases.insert(id, ModelLease { ttl, deadline });
        Ok(())
    }

    pub(super) fn revoke(&mut self, id: LeaseId) -> Result<(), ErrorKind> {
        self.leases.remove(&id).ok_or(ErrorKind::LeaseNotFound)?;
        let mut pairs = self.current().clone();
        let mut events = Vec::new();
        for kv in self.current().values().filter(|kv| kv.lease == Some(id)) {
            self.delete_in(&KeyRange::One(kv.key.clone()), &mut pairs, &mut events);
        }
        self.commit(pairs, events);
        Ok(())
    }

    pub(super) fn keep_alive(&mut self, id: LeaseId) -> Result<(), ErrorKind> {
        let now = self.now;
        let lease = self.leases.get_mut(&id).ok_or(ErrorKind::LeaseNotFound)?;
        lease.deadline = now + lease.ttl;
        Ok(())
    }

    /// Moves the clock on; leases end in the order of their deadlines.
    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
        let mut due: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.deadline <= self.now)
            .map(|(id, lease)| (lease.deadline, *id))
            .collect();
        due.sort_unstable();
        for (_, id) in due {
            self.revoke(id).unwrap();
        }
    }

    pub(super) fn restart(&mut self) {
        for lease in self.leases.values_mut() {
            lease.deadline = self.now + lease.ttl;
        }
    }

    /// What a watch of everything with pairs before would tell from `start` on.
    pub(super) fn history(&self, start: u64) -> Vec<Event> {
        let gone = |revision: u64| i64::try_from(revision).unwrap() - 1 < self.compacted;
        self.events
            .range(start..)
            .flat_map(|(revision, events)| {
                events.iter().cloned().map(move |mut event| {
                    event.prev_kv = event.prev_kv.filter(|_| !gone(*revision));
                    event
                })
            })
            .collect()
    }
}
