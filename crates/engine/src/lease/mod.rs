//! The leases that readers and keep-alives see.
//!
//! They have a lock of their own, so that a renewal waits neither for the state nor for a sync. Only what is durable is
//! in here: the writer enters grants, ends and keys when it publishes a group.
//!
//! A renewal is not stored. After a restart every lease has its whole time to live again: late, never early.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use synod_store::{Key, LeaseId};

use crate::mvcc::StoredKey;
use crate::permission::{self, Permission};

/// The least time to live; shorter ones are raised to it, as etcd does.
pub(crate) const MIN_TTL: u64 = 2;
/// The greatest time to live that can be asked for, in seconds.
pub(crate) const MAX_TTL: u64 = 9_000_000_000;

/// What a lease is counted for against the quota: its places in the tables here and in the writer's.
pub(crate) const LEASE_BYTES: u64 = 256;

/// What `count` leases are counted for.
pub(crate) fn bytes_of(count: usize) -> u64 {
    LEASE_BYTES.saturating_mul(count as u64)
}

/// What publishing a group does to the leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaseOp {
    Grant(LeaseId, Duration),
    End(LeaseId),
    Attach(LeaseId, StoredKey),
    Detach(LeaseId, StoredKey),
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Duration,
    keys: BTreeSet<StoredKey>,
    /// The writer is about to end it: no renewal can save it any more.
    ending: bool,
}

/// All leases, by id and by when they end.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_id: HashMap<LeaseId, Lease>,
    by_deadline: BTreeSet<(Duration, LeaseId)>,
}

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The lease has its whole time to live again.
    Renewed(Duration),
    /// Its time is over, but the writer has not ended it yet; it may still have found a reason to extend it.
    Ending,
    /// There is none.
    Missing,
}

impl Leases {
    /// Enters what a group did, at the moment when it became durable.
    pub(crate) fn publish(&mut self, ops: impl IntoIterator<Item = LeaseOp>, now: Duration) {
        for op in ops {
            match op {
                LeaseOp::Grant(id, ttl) => {
                    let deadline = now.saturating_add(ttl);
                    let lease = Lease {
                        ttl,
                        deadline,
                        keys: BTreeSet::new(),
                        ending: false,
                    };
                    self.by_id.insert(id, lease);
                    self.by_deadline.insert((deadline, id));
                }
                LeaseOp::End(id) => {
                    if let Some(lease) = self.by_id.remove(&id) {
                        self.by_deadline.remove(&(lease.deadline, id));
                    }
                }
                LeaseOp::Attach(id, key) => {
                    if let Some(lease) = self.by_id.get_mut(&id) {
                        lease.keys.insert(key);
                    }
                }
                LeaseOp::Detach(id, key) => {
                    if let Some(lease) = self.by_id.get_mut(&id) {
                        lease.keys.remove(&key);
                    }
                }
            }
        }
    }

    /// Gives a lease its whole time again, unless that is over.
    pub(crate) fn renew(&mut self, id: LeaseId, now: Duration) -> Renewal {
        let Some(lease) = self.by_id.get_mut(&id) else {
            return Renewal::Missing;
        };
        if lease.ending || lease.deadline <= now {
            return Renewal::Ending;
        }
        let deadline = now.saturating_add(lease.ttl);
        self.by_deadline.remove(&(lease.deadline, id));
        self.by_deadline.insert((deadline, id));
        lease.deadline = deadline;
        Renewal::Renewed(lease.ttl)
    }

    /// What is left of a lease, and what it was granted.
    pub(crate) fn time_to_live(&self, id: LeaseId, now: Duration) -> Option<(Duration, Duration)> {
        let lease = self.by_id.get(&id)?;
        Some((lease.deadline.saturating_sub(now), lease.ttl))
    }

    /// The keys of a lease, in key order.
    pub(crate) fn keys(&self, id: LeaseId) -> Vec<Key> {
        self.stored_keys(id)
            .map(|key| Key::from(key.as_ref()))
            .collect()
    }

    /// The same as they are stored.
    pub(crate) fn stored_keys(&self, id: LeaseId) -> impl Iterator<Item = &StoredKey> {
        self.by_id
            .get(&id)
            .into_iter()
            .flat_map(|lease| &lease.keys)
    }

    /// Whether a lease has a key that `permission` does not cover; `has` tells whether it still has this one.
    pub(crate) fn any_beyond(
        &self,
        id: LeaseId,
        permission: &dyn Permission,
        has: impl Fn(&StoredKey) -> bool,
    ) -> bool {
        let lease = self.by_id.get(&id);
        lease.is_some_and(|lease| permission::any_beyond(&lease.keys, permission, has))
    }

    pub(crate) fn ids(&self) -> Vec<LeaseId> {
        self.by_id.keys().copied().collect()
    }

    /// All leases with what they were granted.
    pub(crate) fn granted(&self) -> impl Iterator<Item = (LeaseId, Duration)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease.ttl))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// When the next lease ends.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Up to `most` leases whose time is over. From now on they cannot be renewed, until [`Leases::spare`].
    pub(crate) fn due(&mut self, now: Duration, most: usize) -> Vec<LeaseId> {
        let due: Vec<LeaseId> = self
            .by_deadline
            .iter()
            .take_while(|(deadline, _)| *deadline <= now)
            .take(most)
            .map(|(_, id)| *id)
            .collect();
        for id in &due {
            if let Some(lease) = self.by_id.get_mut(id) {
                lease.ending = true;
            }
        }
        due
    }

    /// Takes the end of these leases back: it could not be made durable. They are due again after `pause`.
    pub(crate) fn spare(&mut self, ids: &[LeaseId], now: Duration, pause: Duration) {
        for id in ids {
            if let Some(lease) = self.by_id.get_mut(id) {
                lease.ending = false;
                self.by_deadline.remove(&(lease.deadline, *id));
                lease.deadline = lease.deadline.max(now.saturating_add(pause));
                self.by_deadline.insert((lease.deadline, *id));
            }
        }
    }

    /// The store stood still for `stall`, so that renewals may have waited: each lease for which that is more than a
    /// third of its time gets it on top.
    pub(crate) fn extend(&mut self, stall: Duration) {
        // Nearly every turn of the writer is a stall of less: that must not cost a look at every lease.
        if stall.saturating_mul(3) <= Duration::from_secs(MIN_TTL) {
            return;
        }
        for (id, lease) in &mut self.by_id {
            if stall.saturating_mul(3) > lease.ttl {
                self.by_deadline.remove(&(lease.deadline, *id));
                lease.deadline = lease.deadline.saturating_add(stall);
                self.by_deadline.insert((lease.deadline, *id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Reach;

    fn id(number: i64) -> LeaseId {
        LeaseId::new(number).unwrap()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn granted(leases: &[(i64, u64)]) -> Leases {
        let mut all = Leases::default();
        let grants = leases
            .iter()
            .map(|(n, ttl)| LeaseOp::Grant(id(*n), secs(*ttl)));
        all.publish(grants, secs(100));
        all
    }

    #[test]
    fn a_renewal_counts_from_now_and_comes_too_late_at_the_deadline() {
        let mut leases = granted(&[(1, 10)]);
        assert_eq!(leases.renew(id(1), secs(109)), Renewal::Renewed(secs(10)));
        assert_eq!(
            leases.time_to_live(id(1), secs(112)),
            Some((secs(7), secs(10)))
        );
        assert_eq!(leases.renew(id(1), secs(119)), Renewal::Ending);
        assert_eq!(leases.renew(id(2), secs(0)), Renewal::Missing);
        assert_eq!(leases.due(secs(118), 9), []);
        assert_eq!(leases.due(secs(119), 9), [id(1)]);
        leases.publish([LeaseOp::End(id(1))], secs(119));
        assert_eq!(leases.next_deadline(), None);
        assert_eq!(leases.len(), 0);
    }

    #[test]
    fn a_lease_that_is_ending_cannot_be_renewed_until_it_is_spared() {
        let mut leases = granted(&[(1, 10), (2, 10), (3, 30)]);
        assert_eq!(leases.due(secs(110), 1), [id(1)]);
        assert_eq!(leases.renew(id(1), secs(105)), Renewal::Ending);
        leases.spare(&[id(1)], secs(110), secs(1));
        assert_eq!(leases.due(secs(110), 9), [id(2)]);
        assert_eq!(leases.renew(id(1), secs(110)), Renewal::Renewed(secs(10)));
        assert_eq!(leases.next_deadline(), Some(secs(110)));
    }

    #[test]
    fn a_stall_is_added_where_it_is_more_than_a_third() {
        let mut leases = granted(&[(1, 10), (2, 30)]);
        leases.extend(secs(3));
        assert_eq!(leases.next_deadline(), Some(secs(110)));
        leases.extend(secs(5));
        assert_eq!(
            leases.time_to_live(id(1), secs(100)),
            Some((secs(15), secs(10)))
        );
        assert_eq!(
            leases.time_to_live(id(2), secs(100)),
            Some((secs(30), secs(30)))
        );
    }

    #[test]
    fn keys_come_and_go() {
        let mut leases = granted(&[(1, 10)]);
        let key = |text: &str| StoredKey::from(text.as_bytes());
        leases.publish(
            [
                LeaseOp::Attach(id(1), key("b")),
                LeaseOp::Attach(id(1), key("a")),
                LeaseOp::Attach(id(1), key("c")),
                LeaseOp::Detach(id(1), key("b")),
            ],
            secs(100),
        );
        assert_eq!(leases.keys(id(1)), [Key::from("a"), Key::from("c")]);
    }

    /// Ranges, each with the end before which it stops; without one it goes on for ever.
    #[derive(Debug)]
    struct Ranges(
        Vec<(Vec<u8>, Option<Vec<u8>>)>,
        std::sync::atomic::AtomicUsize,
    );

    impl Permission for Ranges {
        fn reach(&self, key: &[u8]) -> Reach<'_> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let holds = |(start, end): &&(Vec<u8>, Option<Vec<u8>>)| {
                start.as_slice() <= key && end.as_ref().is_none_or(|end| key < end.as_slice())
            };
            match self.0.iter().find(holds) {
                None => Reach::Nowhere,
                Some((_, None)) => Reach::End,
                Some((_, Some(end))) => Reach::To(end),
            }
        }
    }

    #[test]
    fn a_key_beyond_a_permission_is_found_without_asking_for_each() {
        let mut leases = granted(&[(1, 10)]);
        let key = |n: u32| StoredKey::from(format!("{n:05}").as_bytes());
        let keys = (0..9_000).map(|n| LeaseOp::Attach(id(1), key(n)));
        leases.publish(keys, secs(100));
        let bytes = |n: u32| format!("{n:05}").into_bytes();
        let asked = |ranges: &[(u32, u32)], gone: &[u32]| {
            let ranges = ranges
                .iter()
                .map(|(start, end)| (bytes(*start), (*end < 99_999).then(|| bytes(*end))));
            let ranges = Ranges(ranges.collect(), Default::default());
            let has = |found: &StoredKey| !gone.iter().any(|n| key(*n) == *found);
            let beyond = leases.any_beyond(id(1), &ranges, has);
            (beyond, ranges.1.into_inner())
        };
        assert_eq!(asked(&[(0, 99_999)], &[]), (false, 1));
        assert_eq!(asked(&[(0, 9_000)], &[]), (false, 1));
        assert_eq!(asked(&[(0, 500), (500, 9_000)], &[]), (false, 2));
        assert_eq!(asked(&[(0, 8_999)], &[]), (true, 2));
        assert_eq!(asked(&[(1, 99_999)], &[]), (true, 1));
        assert_eq!(asked(&[], &[]), (true, 1));
        assert_eq!(asked(&[(0, 500), (501, 99_999)], &[]), (true, 2));
        // One that has left it in the meantime does not count.
        assert_eq!(asked(&[(0, 500), (501, 99_999)], &[500]), (false, 3));
        assert_eq!(asked(&[(0, 500), (503, 99_999)], &[500, 501]), (true, 4));
        assert!(!leases.any_beyond(id(2), &Ranges(Vec::new(), Default::default()), |_| true));
    }
}
