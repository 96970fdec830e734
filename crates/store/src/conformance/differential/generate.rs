//! Makes histories from seeds. Requests are the contract's own, but their revisions count from the
//! beginning of the history, and 0 stays what it means: none, or now.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::{
    Compare, CompareOp, CompareOperand, DeleteRequest, EventFilter, Key, KeyRange, LeaseId,
    PutLease, PutRequest, PutValue, RangeRequest, Revision, SortOrder, SortTarget, Txn, TxnOp,
    WatchRequest,
};

/// The keys of histories: neighbours, prefixes of one another, and bytes at both ends. No more than
/// six, because in which order etcd sorts equal pairs is only certain of so few.
pub(super) const KEYS: [&[u8]; 6] = [b"\0", b"a", b"a\0", b"b", b"b/1", b"\xff\xff"];

/// How many leases a history has.
pub(super) const LEASES: i64 = 4;

/// One request of a history.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Step {
    /// Reads.
    Range(RangeRequest),
    /// Puts.
    Put(PutRequest),
    /// Deletes.
    Delete(DeleteRequest),
    /// Runs a transaction.
    Txn(Txn),
    /// Compacts.
    Compact(Revision, bool),
    /// Grants the lease with this number.
    Grant(i64, Duration),
    /// Revokes it.
    Revoke(i64),
    /// Renews it.
    KeepAlive(i64),
    /// Asks about it.
    TimeToLive(i64),
    /// Lists the history's leases.
    Leases,
    /// Opens a watch that stands until the end.
    Watch(WatchRequest),
}

/// The history of a seed.
pub(super) fn history(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = Random {
        rng: StdRng::seed_from_u64(seed),
        revision: 1,
    };
    // Some leases from the beginning, else most puts with one are refused.
    let ttl = Duration::from_secs(600);
    let granted = (0..LEASES - 1).map(|number| Step::Grant(number, ttl));
    let mut history: Vec<Step> = granted.collect();
    while history.len() < steps {
        history.push(random.step());
    }
    history
}

struct Random {
    rng: StdRng,
    /// The highest revision that there can be, more or less.
    revision: u64,
}

impl Random {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    fn one_of<T: Copy>(&mut self, choices: &[T], otherwise: T) -> T {
        choices.choose(&mut self.rng).copied().unwrap_or(otherwise)
    }

    fn step(&mut self) -> Step {
        match self.rng.random_range(0..100) {
            0..26 => {
                self.revision += 1;
                Step::Put(self.put(true))
            }
            26..33 => {
                self.revision += 1;
                Step::Delete(self.delete(true))
            }
            33..60 => {
                self.revision += 1;
                Step::Txn(self.txn(0))
            }
            60..78 => Step::Range(self.range_request()),
            78..86 => Step::Watch(self.watch()),
            86..89 => Step::Compact(self.revision(), self.rng.random()),
            89..93 => {
                let seconds = self.one_of(&[600, 601, 9_000_000_000, 9_000_000_001], 600);
                Step::Grant(self.lease(), Duration::from_secs(seconds))
            }
            93..95 => Step::Revoke(self.lease()),
            95..96 => Step::KeepAlive(self.lease()),
            96..99 => Step::TimeToLive(self.lease()),
            _ => Step::Leases,
        }
    }

    fn key(&mut self) -> Key {
        if self.chance(1) {
            return Key::default();
        }
        Key::from(self.one_of(&KEYS, b"a"))
    }

    fn range(&mut self) -> KeyRange {
        match self.rng.random_range(0..100) {
            0..45 => KeyRange::One(self.key()),
            45..70 => KeyRange::Between(self.key(), self.key()),
            70..80 => KeyRange::From(self.key()),
            80..92 => {
                let key = self.key();
                KeyRange::prefix(key)
            }
            _ => KeyRange::all(),
        }
    }

    /// A revision at which something happened, or soon will; never 0.
    fn revision(&mut self) -> Revision {
        Revision(self.rng.random_range(1..=self.revision + 2))
    }

    /// The number of a lease, which was granted or not.
    fn lease(&mut self) -> i64 {
        self.rng.random_range(0..LEASES)
    }

    fn value(&mut self) -> Bytes {
        let values: [&'static [u8]; 6] = [b"", b"1", b"2", b"10", b"\xff", b"value"];
        Bytes::from_static(self.one_of(&values, b""))
    }

    fn range_request(&mut self) -> RangeRequest {
        let mut request = RangeRequest::new(self.range());
        if self.chance(30) {
            request.limit = self.rng.random_range(0..6);
        }
        if self.chance(40) {
            request.revision = self.revision();
        }
        if self.chance(40) {
            let targets = [
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::CreateRevision,
                SortTarget::ModRevision,
                SortTarget::Value,
            ];
            request.sort_target = self.one_of(&targets, SortTarget::Key);
            let orders = [SortOrder::None, SortOrder::Ascending, SortOrder::Descending];
            request.sort_order = self.one_of(&orders, SortOrder::None);
        }
        request.keys_only = self.chance(10);
        request.count_only = self.chance(10);
        if self.chance(15) {
            request.min_mod_revision = Some(self.revision());
        }
        if self.chance(15) {
            request.max_mod_revision = Some(self.revision());
        }
        if self.chance(10) {
            request.min_create_revision = Some(self.revision());
        }
        if self.chance(10) {
            request.max_create_revision = Some(self.revision());
        }
        request
    }

    fn put(&mut self, keep: bool) -> PutRequest {
        let mut request = PutRequest::new(self.key(), self.value());
        if self.chance(30) {
            let id = self.lease();
            request.lease = lease_id(id).map_or(PutLease::None, PutLease::Attach);
        }
        // Not with a lease: when both the key and the lease are missing, etcd names the lease alone
        // and the key within a transaction, and nobody should rely on which.
        if keep && request.lease == PutLease::None && self.chance(12) {
            request.value = PutValue::Keep;
        }
        if keep && self.chance(8) {
            request.lease = PutLease::Keep;
        }
        request.prev_kv = self.chance(30);
        request
    }

    fn delete(&mut self, endless: bool) -> DeleteRequest {
        let mut request = DeleteRequest::new(self.range());
        if !endless && let KeyRange::From(start) = request.range {
            request.range = KeyRange::Between(start, Key::from(b"\xff\xff\xff"));
        }
        request.prev_kv = self.chance(40);
        request
    }

    fn compare(&mut self) -> Compare {
        let operand = match self.rng.random_range(0..5) {
            0 => CompareOperand::Version(self.rng.random_range(-1..4)),
            1 => CompareOperand::CreateRevision(self.revision_operand()),
            2 => CompareOperand::ModRevision(self.revision_operand()),
            3 => {
                let id = self.lease();
                let id = if self.chance(50) { None } else { lease_id(id) };
                CompareOperand::Lease(LeaseId::to_i64(id))
            }
            _ => CompareOperand::Value(self.value()),
        };
        let ops = [
            CompareOp::Equal,
            CompareOp::NotEqual,
            CompareOp::Greater,
            CompareOp::Less,
        ];
        Compare {
            range: self.range(),
            op: self.one_of(&ops, CompareOp::Equal),
            operand,
        }
    }

    fn revision_operand(&mut self) -> i64 {
        if self.chance(30) {
            0
        } else {
            self.revision().as_i64()
        }
    }

    fn txn(&mut self, depth: u32) -> Txn {
        // A put that keeps something after a delete without an end, which conflicts with nothing,
        // finds nothing to keep: etcd 3.5.1 panics then (etcd-io/etcd#14110). Of each txn on the
        // way, only one of the two.
        let keep = depth == 0 && self.chance(30);
        self.txn_of(depth, keep)
    }

    fn txn_of(&mut self, depth: u32, keep: bool) -> Txn {
        let compares = if self.chance(40) {
            0
        } else {
            self.rng.random_range(1..4)
        };
        let mut txn = Txn::new().when((0..compares).map(|_| self.compare()).collect::<Vec<_>>());
        for branch in [&mut txn.success, &mut txn.failure] {
            for _ in 0..self.rng.random_range(0..3) {
                branch.push(self.op(depth, keep));
            }
        }
        txn
    }

    fn op(&mut self, depth: u32, keep: bool) -> TxnOp {
        match self.rng.random_range(0..100) {
            0..40 => self.put(keep).into(),
            40..55 => self.delete(!keep).into(),
            55..60 if depth < 3 => self.txn_of(depth + 1, keep).into(),
            60..70 if depth < 2 => self.txn_of(depth + 1, keep).into(),
            _ => {
                let mut request = self.range_request();
                if self.chance(70) {
                    request.revision = Revision::ZERO;
                }
                request.into()
            }
        }
    }

    fn watch(&mut self) -> WatchRequest {
        let mut request = WatchRequest::new(self.range());
        if self.chance(80) {
            request.start_revision = self.revision();
        }
        request.prev_kv = self.chance(40);
        if self.chance(15) {
            request.filters.push(EventFilter::NoPut);
        }
        if self.chance(15) {
            request.filters.push(EventFilter::NoDelete);
        }
        request
    }
}

/// The lease id that stands for a lease's number in a history; the same in all histories, which
/// revoke what they granted.
pub(super) fn lease_id(number: i64) -> Option<LeaseId> {
    LeaseId::new(0x5eed_0000 + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_makes_one_history() {
        let shown = |seed| format!("{:?}", history(seed, 200));
        assert_eq!(shown(7), shown(7));
        assert_ne!(shown(7), shown(8));
    }

    #[test]
    fn histories_hold_every_kind_of_step() {
        let mut kinds: Vec<std::mem::Discriminant<Step>> = history(1, 1000)
            .iter()
            .map(std::mem::discriminant)
            .collect();
        let mut distinct = Vec::new();
        kinds.retain(|kind| {
            let new = !distinct.contains(kind);
            distinct.push(*kind);
            new
        });
        assert_eq!(kinds.len(), 11);
    }
}
