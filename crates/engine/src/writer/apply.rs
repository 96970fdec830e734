//! Carrying out one command on the state in memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{
    CompactResponse, Error, ErrorKind, LeaseGrantResponse, LeaseId, LeaseRevokeResponse, Result,
    Revision, Txn, TxnResponse,
};

use super::Writer;
use super::group::Group;
use super::head::Head;
use crate::lease::{self, LeaseOp, MAX_TTL, MIN_TTL};
use crate::mvcc::{Change, State, StoredKey, Version};
use crate::permission::{self, Guard, Permission};
use crate::record::{Compaction, LeaseEnd, LeaseGrant, NoteChange, Notes, Record, encode_commit};
use crate::txn::{self, Ground};

/// What all notes may take up.
const MAX_NOTES_BYTES: usize = 32 << 20;

impl Writer {
    /// Applies the changes of one revision.
    fn commit(&self, head: &mut Head<'_>, group: &mut Group, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let state = head.state();
        let revision = state.head().next();
        self.record(group, || encode_commit(revision, &changes));
        state.apply(changes, |key, from, to| group.moved(key, from, to));
    }

    /// Stores a record with the group, if records are kept.
    fn record(&self, group: &mut Group, record: impl FnOnce() -> Bytes) {
        group.count = group.count.saturating_add(1);
        if self.keeps_records {
            group.records.push(record());
        }
    }

    /// Refuses what needs space while there is none.
    fn check_space(&self) -> Result<()> {
        if self.low_since_look.is_some() {
            let text = format!("{}: the disk is full", ErrorKind::NoSpace.text());
            return Err(Error::new(ErrorKind::NoSpace, text));
        }
        if self.shared.over_quota.load(Ordering::Relaxed) {
            return Err(ErrorKind::NoSpace.into());
        }
        Ok(())
    }

    /// What counts against the quota: data, history and leases.
    pub(super) fn used_bytes(&self, state: &State) -> u64 {
        let leases = lease::bytes_of(self.leases.len());
        state.total_bytes().saturating_add(leases)
    }

    /// Refuses what would grow by `growth` beyond the quota, and from then on whatever grows.
    fn check_quota(&mut self, used: u64, growth: u64) -> Result<()> {
        let quota = self.shared.options.quota_bytes;
        if growth > 0 && used.saturating_add(growth) > quota {
            self.upkeep.full_at = used;
            self.shared.over_quota.store(true, Ordering::Relaxed);
            return Err(ErrorKind::NoSpace.into());
        }
        Ok(())
    }

    /// The oldest readable revision, this group's compactions included.
    fn compacted(state: &State, group: &Group) -> Option<Revision> {
        group.compaction.or(state.compaction())
    }

    pub(super) fn txn(
        &mut self,
        head: &mut Head<'_>,
        group: &mut Group,
        txn: &Txn,
        puts: bool,
    ) -> Result<TxnResponse> {
        if puts {
            self.check_space()?;
        }
        let run = |state: &State| {
            let ground = Ground {
                state,
                at: state.head(),
                compacted: Self::compacted(state, group).unwrap_or_default(),
                has_lease: &|id| self.leases.contains_key(&id),
            };
            txn::run(&ground, txn)
        };
        let outcome = if txn::is_wide(txn) {
            head.look(run)?
        } else {
            run(head.state())?
        };
        let used = self.used_bytes(head.state());
        let live = outcome.changes.iter().filter(|c| c.version.is_live());
        let growth = live.fold(0, |sum: u64, change| sum.saturating_add(change.cost()));
        self.check_quota(used, growth)?;
        self.commit(head, group, outcome.changes);
        let mut response = outcome.response;
        response.header = self.shared.header_at(response.header.revision);
        Ok(response)
    }

    pub(super) fn grant(
        &mut self,
        head: &mut Head<'_>,
        group: &mut Group,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> Result<LeaseGrantResponse> {
        let seconds = ttl
            .as_secs()
            .saturating_add(u64::from(ttl.subsec_nanos() > 0));
        if seconds > MAX_TTL {
            return Err(ErrorKind::LeaseTtlTooLarge.into());
        }
        let seconds = seconds.max(MIN_TTL);
        let id = match id {
            Some(id) if self.leases.contains_key(&id) => return Err(ErrorKind::LeaseExists.into()),
            Some(id) => id,
            None => self.free_lease_id(),
        };
        self.check_space()?;
        self.check_quota(self.used_bytes(head.state()), lease::LEASE_BYTES)?;
        let ttl = Duration::from_secs(seconds);
        self.leases.insert(id, ttl);
        group.lease_ops.push(LeaseOp::Grant(id, ttl));
        self.record(group, || {
            Record::LeaseGrant(LeaseGrant {
                id: id.get(),
                ttl_seconds: seconds,
            })
            .into_bytes()
        });
        Ok(LeaseGrantResponse {
            header: self.shared.header_at(head.state().head()),
            id,
            ttl,
        })
    }

    fn free_lease_id(&self) -> LeaseId {
        loop {
            let id = LeaseId::new(rand::random_range(1..=i64::MAX));
            if let Some(id) = id.filter(|id| !self.leases.contains_key(id)) {
                return id;
            }
        }
    }

    /// Refuses a transaction that would attach to a lease one of whose keys its sender may not write.
    pub(super) fn check_guard(
        &self,
        head: &mut Head<'_>,
        group: &mut Group,
        guard: &Guard,
    ) -> Result<()> {
        let mut leases = guard.leases.iter();
        leases.try_for_each(|id| self.check_keys(head, group, *id, guard.permission.as_ref()))
    }

    /// Refuses who may not write all keys that a lease has now, this group's changes included.
    fn check_keys(
        &self,
        head: &mut Head<'_>,
        group: &mut Group,
        id: LeaseId,
        permission: &dyn Permission,
    ) -> Result<()> {
        let state = head.state();
        // Some of those that are published, or joined in this group, may have left it in this group.
        let has = |key: &StoredKey| state.newest(key).is_some_and(|v| v.lease == Some(id));
        let attached = group.attached(id);
        let beyond = attached.is_some_and(|keys| permission::any_beyond(keys, permission, has))
            || self.shared.leases().any_beyond(id, permission, has);
        if beyond {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }

    /// Ends a lease and deletes its keys in one revision; with a `permission`, only if that covers all of these keys.
    pub(super) fn end_lease(
        &mut self,
        head: &mut Head<'_>,
        group: &mut Group,
        id: LeaseId,
        permission: Option<&dyn Permission>,
    ) -> Result<LeaseRevokeResponse> {
        if !self.leases.contains_key(&id) {
            return Err(ErrorKind::LeaseNotFound.into());
        }
        if let Some(permission) = permission {
            self.check_keys(head, group, id, permission)?;
        }
        self.leases.remove(&id);
        // The published keys and this group's; some of them may have left the lease in this group.
        let mut keys = group.attached(id).cloned().unwrap_or_default();
        keys.extend(self.shared.leases().stored_keys(id).cloned());
        let state = head.state();
        let revision = state.head().next();
        let changes: Vec<Change> = keys
            .into_iter()
            .filter(|key| state.newest(key).is_some_and(|v| v.lease == Some(id)))
            .map(|key| Change {
                key,
                version: Version::deletion(revision),
            })
            .collect();
        self.record(group, || {
            Record::LeaseEnd(LeaseEnd { id: id.get() }).into_bytes()
        });
        self.commit(head, group, changes);
        group.lease_ops.push(LeaseOp::End(id));
        Ok(LeaseRevokeResponse {
            header: self.shared.header_at(head.state().head()),
        })
    }

    /// Keeps notes beside the keys.
    ///
    /// As with deletes, a full disk is no reason to refuse: users must be kept out all the same. The bound is there so
    /// that the quota cannot be passed by this way.
    pub(super) fn note(&self, group: &mut Group, changes: Vec<NoteChange>) -> Result<()> {
        let size = |name: &str, text: &Bytes| name.len().saturating_add(text.len());
        let kept = {
            let notes = self.shared.notes();
            let sizes = notes.iter().map(|(name, text)| size(name, text));
            sizes.fold(0_usize, usize::saturating_add)
        };
        let written = changes.iter().chain(&group.notes);
        let written = written.filter_map(|change| Some(size(&change.name, change.text.as_ref()?)));
        let grown = written.fold(0_usize, usize::saturating_add);
        if grown > 0 && kept.saturating_add(grown) > MAX_NOTES_BYTES {
            let text = "there is no room for more users and roles";
            return Err(Error::new(ErrorKind::NoSpace, text));
        }
        self.record(group, || {
            Record::Notes(Notes {
                changes: changes.clone(),
            })
            .into_bytes()
        });
        group.notes.extend(changes);
        Ok(())
    }

    /// Forgets history below `revision` once the group is durable.
    pub(super) fn compact(
        &self,
        head: &mut Head<'_>,
        group: &mut Group,
        revision: Revision,
    ) -> Result<CompactResponse> {
        let state = head.state();
        if Self::compacted(state, group).is_some_and(|compacted| revision <= compacted) {
            return Err(ErrorKind::Compacted.into());
        }
        if revision > state.head() {
            return Err(ErrorKind::FutureRevision.into());
        }
        group.compaction = Some(revision);
        self.record(group, || {
            Record::Compaction(Compaction {
                revision: revision.0,
            })
            .into_bytes()
        });
        Ok(CompactResponse {
            header: self.shared.header_at(head.state().head()),
        })
    }
}
