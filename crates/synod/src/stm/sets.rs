//! What one attempt has read and written, and the Txn that commits it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use synod_store::{
    Compare, CompareOp, DeleteRequest, Key, KeyRange, KeyValue, LeaseId, PutRequest, RangeRequest,
    RangeResponse, Revision, TxnOp,
};

use super::Isolation;
use crate::settle::MAX_OPS;
use crate::{Error, Result};

/// The most compares that a commit has room for, beside those of Synod's own record.
pub(super) const MAX_COMPARES: usize = MAX_OPS - 2;

/// The most reads that a commit has room for in its Else, beside Synod's own record.
pub(super) const MAX_REREADS: usize = MAX_OPS - 3;

/// A key as an attempt has read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// `None` when the key was absent.
    pub(super) value: Option<Bytes>,
    /// Zero when the key was absent.
    pub(super) revision: Revision,
}

impl From<KeyValue> for Seen {
    fn from(kv: KeyValue) -> Seen {
        Seen {
            value: Some(kv.value),
            revision: kv.mod_revision,
        }
    }
}

/// What an attempt will do to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    Put(Bytes, Option<LeaseId>),
    Delete,
}

impl Write {
    /// What is under the key then.
    pub(super) fn value(&self) -> Option<Bytes> {
        match self {
            Write::Put(value, _) => Some(value.clone()),
            Write::Delete => None,
        }
    }

    /// The operation that does it.
    pub(super) fn op(&self, key: &Key) -> TxnOp {
        match self {
            Write::Put(value, lease) => {
                let put = PutRequest::new(key, value.clone());
                match lease {
                    Some(lease) => put.with_lease(*lease).into(),
                    None => put.into(),
                }
            }
            Write::Delete => DeleteRequest::new(key).into(),
        }
    }
}

/// Reads that one request brought, for an attempt to use when it comes to them.
#[derive(Debug, Clone, Default)]
pub(super) struct Fetched {
    /// The state that was read.
    pub(super) revision: Revision,
    pub(super) keys: BTreeMap<Key, Seen>,
    /// Of these ranges every key is in `keys`.
    pub(super) ranges: Vec<KeyRange>,
    /// How many keys a range holds that is too large for a commit; of it not all were read.
    cut: Option<usize>,
}

impl Fetched {
    /// Nothing yet, of the state of a revision.
    pub(super) fn at(revision: Revision) -> Fetched {
        Fetched {
            revision,
            ..Fetched::default()
        }
    }

    /// Adds the answer to a read.
    pub(super) fn add(&mut self, range: KeyRange, response: RangeResponse) {
        let kvs = response.kvs.into_iter();
        if let KeyRange::One(key) = range {
            let seen = kvs.last().map(Seen::from).unwrap_or_default();
            self.keys.insert(key, seen);
        } else {
            self.keys.extend(kvs.map(|kv| (kv.key.clone(), kv.into())));
            if response.more {
                self.cut = Some(usize::try_from(response.count).unwrap_or(usize::MAX));
            } else {
                self.ranges.push(range);
            }
        }
    }

    fn get(&self, key: &Key) -> Option<Seen> {
        let in_range = || self.ranges.iter().any(|range| range.contains(key));
        let seen = self.keys.get(key).cloned();
        seen.or_else(|| in_range().then(Seen::default))
    }
}

/// The read set and the write set of an attempt.
#[derive(Debug, Default)]
pub(super) struct Sets {
    isolation: Isolation,
    /// The state that all reads are of, at the levels that read one state.
    snapshot: Option<Revision>,
    reads: BTreeMap<Key, Seen>,
    /// Ranges that were read wholly; every key of theirs is in `reads`.
    ranges: Vec<KeyRange>,
    writes: BTreeMap<Key, Write>,
    /// What a request before the attempt has read.
    ahead: Option<Fetched>,
    ahead_used: bool,
    /// How many requests the reads took.
    requests: usize,
    /// The step of the client's [board](super::hall) that the reads are of, when they are of it.
    step: Option<u64>,
    /// Keys that were read as transactions of this client leave them that have not committed yet.
    pending: BTreeSet<Key>,
}

impl Sets {
    pub(super) fn new(isolation: Isolation, ahead: Option<Fetched>) -> Sets {
        let snapshot = ahead.as_ref().map(|ahead| ahead.revision);
        Sets {
            isolation,
            snapshot: snapshot.filter(|_| isolation.is_snapshot()),
            ahead,
            ..Sets::default()
        }
    }

    /// Reads from now on are of the client's board, at this step, which stands on the store's state
    /// of this revision.
    pub(super) fn begin_on_board(&mut self, step: u64, base: Revision) {
        self.step = Some(step);
        self.snapshot = Some(base);
    }

    /// The step of the board that the reads are of; `None` when they are of the store.
    pub(super) fn step(&self) -> Option<u64> {
        self.step
    }

    /// Notes what the board says of a key. What was read before stays as it was read.
    pub(super) fn note_key(&mut self, key: &Key, seen: Seen, pending: bool) {
        if self.reads.contains_key(key) {
            return;
        }
        self.reads.insert(key.clone(), seen);
        if pending {
            self.pending.insert(key.clone());
        }
    }

    /// Notes that all keys of a range have been noted.
    pub(super) fn note_range(&mut self, range: KeyRange) {
        self.ranges.push(range);
    }

    /// Whether the key was read as it will be once transactions of this client have committed.
    pub(super) fn is_pending(&self, key: &Key) -> bool {
        self.pending.contains(key)
    }

    /// What was pending has been committed, at this revision.
    pub(super) fn settle(&mut self, key: &Key, revision: Revision) {
        self.pending.remove(key);
        if let Some(seen) = self.reads.get_mut(key) {
            seen.revision = revision;
        }
    }

    /// What was read: keys, and ranges each of whose keys is among them.
    pub(super) fn reads(&self) -> &BTreeMap<Key, Seen> {
        &self.reads
    }

    pub(super) fn ranges(&self) -> &[KeyRange] {
        &self.ranges
    }

    pub(super) fn writes(&self) -> &BTreeMap<Key, Write> {
        &self.writes
    }

    /// Takes back all writes: what was read is still to be confirmed.
    pub(super) fn discard_writes(&mut self) {
        self.writes.clear();
    }

    /// The state to read from; `None` for the current one.
    pub(super) fn snapshot(&self) -> Option<Revision> {
        self.snapshot
    }

    /// What the attempt sees under a key; `None` when the store has to be asked.
    pub(super) fn get(&mut self, key: &Key) -> Option<Option<Bytes>> {
        match self.writes.get(key) {
            Some(Write::Put(value, _)) => return Some(Some(value.clone())),
            Some(Write::Delete) => return Some(None),
            None => {}
        }
        Some(self.seen(key)?.value)
    }

    /// What the store holds under a key; `None` when it has to be asked.
    pub(super) fn seen(&mut self, key: &Key) -> Option<Seen> {
        if let Some(seen) = self.reads.get(key) {
            return Some(seen.clone());
        }
        if self.isolation.is_snapshot() && self.ranges.iter().any(|range| range.contains(key)) {
            return Some(Seen::default());
        }
        let seen = self.ahead.as_ref()?.get(key)?;
        self.use_ahead();
        self.reads.insert(key.clone(), seen.clone());
        Some(seen)
    }

    /// What a request before the attempt's first read has brought.
    pub(super) fn read_ahead(&mut self, fetched: Fetched) {
        if self.isolation.is_snapshot() {
            self.snapshot.get_or_insert(fetched.revision);
        }
        self.ahead = Some(fetched);
    }

    fn use_ahead(&mut self) {
        if !std::mem::replace(&mut self.ahead_used, true) {
            self.requests = self.requests.saturating_add(1);
        }
    }

    /// Whether a range can be answered without asking the store.
    pub(super) fn covers(&mut self, range: &KeyRange) -> bool {
        if !self.isolation.is_snapshot() {
            return false;
        }
        if self.ranges.iter().any(|known| encloses(known, range)) {
            return true;
        }
        let Some(ahead) = &self.ahead else {
            return false;
        };
        if !ahead.ranges.contains(range) {
            return false;
        }
        let keys = ahead.keys.iter().filter(|(key, _)| range.contains(key));
        let keys: Vec<(Key, Seen)> = keys.map(|(k, seen)| (k.clone(), seen.clone())).collect();
        self.use_ahead();
        self.reads.extend(keys);
        self.ranges.push(range.clone());
        true
    }

    /// Notes what a request has read. What was read before stays as it was read.
    pub(super) fn note(&mut self, fetched: Fetched) {
        self.requests = self.requests.saturating_add(1);
        if self.isolation.is_snapshot() {
            self.snapshot.get_or_insert(fetched.revision);
        }
        for (key, seen) in fetched.keys {
            self.reads.entry(key).or_insert(seen);
        }
        if self.isolation.is_snapshot() {
            self.ranges.extend(fetched.ranges);
        }
    }

    /// The pairs of a range that has been noted, as the attempt sees them.
    pub(super) fn range(&self, range: &KeyRange) -> Vec<(Key, Bytes)> {
        let in_range = |key: &&Key| range.contains(key);
        let mut pairs: BTreeMap<&Key, &Bytes> = BTreeMap::new();
        for (key, seen) in self.reads.iter().filter(|(key, _)| in_range(key)) {
            if let Some(value) = &seen.value {
                pairs.insert(key, value);
            }
        }
        for (key, write) in self.writes.iter().filter(|(key, _)| in_range(key)) {
            match write {
                Write::Put(value, _) => pairs.insert(key, value),
                Write::Delete => pairs.remove(key),
            };
        }
        pairs
            .into_iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    pub(super) fn put(&mut self, key: Key, value: Bytes, lease: Option<LeaseId>) {
        self.writes.insert(key, Write::Put(value, lease));
    }

    pub(super) fn delete(&mut self, key: Key) {
        self.writes.insert(key, Write::Delete);
    }

    /// An error when these reads are more than a commit can compare.
    pub(super) fn check_room(&self, fetched: &Fetched) -> Result<()> {
        let new = |key: &&Key| !self.reads.contains_key(*key);
        let keys = fetched.keys.keys().filter(new).count();
        let keys = fetched.cut.unwrap_or(keys);
        let ranges = usize::from(fetched.cut.is_some()).saturating_add(fetched.ranges.len());
        self.check_count(keys.saturating_add(ranges))
    }

    /// An error when `more` reads are more than a commit can compare.
    pub(super) fn check_count(&self, more: usize) -> Result<()> {
        let used = self.reads.len().saturating_add(self.ranges.len());
        let needed = used.saturating_add(more);
        if self.isolation.validates() && needed > MAX_COMPARES {
            return Err(Error::TooManyOperations {
                what: "compares",
                needed,
                limit: MAX_COMPARES,
            });
        }
        Ok(())
    }

    pub(super) fn isolation(&self) -> Isolation {
        self.isolation
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.writes.is_empty()
    }

    /// Whether there is nothing to compare when nothing was written: all was read at one moment.
    pub(super) fn is_one_read(&self) -> bool {
        if self.step.is_some() {
            // What the board says is not known to be so until it has been compared.
            return self.reads_nothing();
        }
        !self.isolation.validates()
            || self.requests == 0
            || (self.isolation.is_snapshot() && self.requests == 1)
    }

    /// The conditions of the commit.
    pub(super) fn compares(&self) -> Vec<Compare> {
        if !self.isolation.validates() {
            return Vec::new();
        }
        let mut compares = Vec::with_capacity(self.reads.len());
        for (key, seen) in &self.reads {
            compares.push(Compare::modified_at(key.clone(), seen.revision));
        }
        let Some(snapshot) = self.snapshot else {
            return compares;
        };
        let unchanged =
            |range: KeyRange| Compare::mod_revision(range, CompareOp::Less, snapshot.next());
        compares.extend(self.ranges.iter().cloned().map(unchanged));
        let blind = self.blind().cloned();
        compares.extend(blind.map(|key| unchanged(KeyRange::One(key))));
        compares
    }

    /// The keys that are only written, where these are not to be newer than the first read either.
    pub(super) fn blind(&self) -> impl Iterator<Item = &Key> {
        let guarded = self.isolation == Isolation::SerializableSnapshot && !self.reads_nothing();
        let writes = guarded.then(|| self.writes.keys());
        writes.into_iter().flatten().filter(|key| {
            let in_range = || self.ranges.iter().any(|range| range.contains(key));
            !self.reads.contains_key(*key) && !in_range()
        })
    }

    pub(super) fn reads_nothing(&self) -> bool {
        self.reads.is_empty() && self.ranges.is_empty()
    }

    /// What the commit does.
    pub(super) fn ops(&self) -> Vec<TxnOp> {
        self.writes
            .iter()
            .map(|(key, write)| write.op(key))
            .collect()
    }

    /// What is read again when the conditions do not hold, for the next attempt.
    pub(super) fn rereads(&self) -> Vec<KeyRange> {
        if !self.isolation.validates() {
            return Vec::new();
        }
        rereads(self.reads.keys(), &self.ranges)
    }
}

/// These keys and ranges, no key twice, as many as a commit can read.
pub(super) fn rereads<'k>(
    keys: impl Iterator<Item = &'k Key>,
    ranges: &[KeyRange],
) -> Vec<KeyRange> {
    let single = |key: &&Key| !ranges.iter().any(|range| range.contains(key));
    let mut all: Vec<KeyRange> = keys.filter(single).cloned().map(KeyRange::One).collect();
    all.extend(ranges.iter().cloned());
    all.truncate(MAX_REREADS);
    all
}

/// The request that reads a key, or a range as far as a commit has room for it.
pub(super) fn bounded(range: &KeyRange) -> RangeRequest {
    let most = u64::try_from(MAX_COMPARES).unwrap_or(u64::MAX);
    match range {
        KeyRange::One(_) => RangeRequest::new(range.clone()),
        _ => RangeRequest::new(range.clone()).with_limit(most),
    }
}

/// Whether every key of `inner` is one of `outer`.
pub(super) fn encloses(outer: &KeyRange, inner: &KeyRange) -> bool {
    if inner.is_empty() {
        return true;
    }
    match (outer, inner) {
        (_, KeyRange::One(key)) => outer.contains(key),
        (KeyRange::From(from), _) => from <= inner.start(),
        (KeyRange::Between(start, end), KeyRange::Between(first, last)) => {
            start <= first && last <= end
        }
        _ => false,
    }
}
