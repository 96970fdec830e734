//! The state from what the journal holds: a snapshot, if there is one, and every record behind it.
//!
//! Each record is checked against what the records before it add up to: a journal whose frames are intact, but which
//! does not tell a story, is refused like a damaged one.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;

use synod_store::{Error, ErrorKind, LeaseId, Revision};

use crate::journal::{Item, JournalError};
use crate::lease::{LeaseOp, Leases};
use crate::mvcc::{Change, State, StoredKey, Version};
use crate::record::{
    Base, Commit, CommitChange, FORMAT, Identity, Notes, Record, SnapshotEnd, SnapshotStart,
};

/// What was read so far.
#[derive(Debug)]
pub(crate) struct Recovery {
    state: State,
    /// Time to live in seconds, by id.
    leases: BTreeMap<i64, u64>,
    notes: BTreeMap<String, Bytes>,
    identity: Option<Identity>,
    term: u64,
    snapshot: Option<Snapshot>,
}

/// A snapshot while it is read.
#[derive(Debug)]
struct Snapshot {
    start: SnapshotStart,
    pairs: u64,
    commits: u64,
    whole: bool,
}

/// What a store was when it was closed.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) leases: Leases,
    pub(crate) notes: BTreeMap<String, Bytes>,
    /// `None` for a new store.
    pub(crate) identity: Option<Identity>,
    /// How often it was opened before.
    pub(crate) term: u64,
}

type Checked = Result<(), String>;

impl Recovery {
    pub(crate) fn new() -> Recovery {
        Recovery {
            state: State::new(),
            leases: BTreeMap::new(),
            notes: BTreeMap::new(),
            identity: None,
            term: 0,
            snapshot: None,
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn leases(&self) -> u64 {
        self.leases.len() as u64
    }

    pub(crate) fn notes(&self) -> u64 {
        self.notes.len() as u64
    }

    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Takes what the journal reads.
    pub(crate) fn take(&mut self, item: Item<'_>) -> Checked {
        match item {
            Item::Chunk(bytes) => self.chunk(Record::from_bytes(bytes)?),
            Item::Record(_, bytes) => {
                self.check_whole()?;
                self.record(Record::from_bytes(bytes)?)
            }
        }
    }

    fn chunk(&mut self, record: Record) -> Checked {
        match (record, &mut self.snapshot) {
            (Record::SnapshotStart(start), None) => self.begin(start),
            (_, None) => Err("a snapshot without a beginning".into()),
            (_, Some(snapshot)) if snapshot.whole => {
                Err("a snapshot goes on behind its end".into())
            }
            (Record::Base(base), Some(snapshot)) => {
                snapshot.pairs = snapshot.pairs.saturating_add(base.pairs.len() as u64);
                self.base(base)
            }
            (Record::Commit(commit), Some(snapshot)) => {
                snapshot.commits = snapshot.commits.saturating_add(1);
                self.commit(commit)
            }
            (Record::SnapshotEnd(end), Some(_)) => self.end(end),
            (
                record @ (Record::Identity(_) | Record::LeaseGrant(_) | Record::Notes(_)),
                Some(_),
            ) => self.record(record),
            _ => Err("a record that does not belong into a snapshot".into()),
        }
    }

    fn begin(&mut self, start: SnapshotStart) -> Checked {
        if start.base > start.revision || start.compacted.unwrap_or(0) > start.revision {
            return Err("a snapshot that begins behind its end".into());
        }
        self.state = State::starting_at(Revision(start.base), start.compacted.map(Revision));
        self.term = start.term;
        self.snapshot = Some(Snapshot {
            start,
            pairs: 0,
            commits: 0,
            whole: false,
        });
        Ok(())
    }

    fn base(&mut self, base: Base) -> Checked {
        for pair in base.pairs {
            let modified = Revision(pair.modified);
            let Change { key, version } = pair.at(modified);
            if !version.is_live() || modified > self.state.head() {
                return Err("a pair that is no part of the state".into());
            }
            if self.state.newest(&key).is_some() {
                return Err("a key that is in the state twice".into());
            }
            self.state.insert(&key, version);
        }
        Ok(())
    }

    fn end(&mut self, end: SnapshotEnd) -> Checked {
        let leases = self.leases.len() as u64;
        let head = self.state.head();
        let Some(snapshot) = &mut self.snapshot else {
            return Err("a snapshot without a beginning".into());
        };
        let found = SnapshotEnd {
            leases,
            pairs: snapshot.pairs,
            commits: snapshot.commits,
            notes: self.notes.len() as u64,
        };
        if found != end || head.0 != snapshot.start.revision {
            return Err("a snapshot that does not hold what it should".into());
        }
        snapshot.whole = true;
        self.prune();
        Ok(())
    }

    fn check_whole(&self) -> Checked {
        match &self.snapshot {
            Some(snapshot) if !snapshot.whole => Err("a snapshot without an end".into()),
            _ => Ok(()),
        }
    }

    fn record(&mut self, record: Record) -> Checked {
        match record {
            Record::Identity(identity) => {
                if identity.format > FORMAT {
                    return Err(format!(
                        "records of format {}, this build reads up to {FORMAT}: upgrade Synod",
                        identity.format
                    ));
                }
                if identity.cluster_id == 0 || identity.member_id == 0 {
                    return Err("an identity of zero".into());
                }
                if self.identity.replace(identity).is_some() {
                    return Err("a second identity".into());
                }
            }
            Record::Opened(opened) => {
                if opened.term != self.term.saturating_add(1) {
                    // So begins the log of a directory that an earlier build restored, which has no number to tell.
                    let lost = match self.snapshot {
                        None if self.term == 0 => ": the snapshot before it is missing",
                        _ => "",
                    };
                    return Err(format!("opening {} after {}{lost}", opened.term, self.term));
                }
                self.term = opened.term;
            }
            Record::Commit(commit) => self.commit(commit)?,
            Record::LeaseGrant(grant) => {
                if grant.id == 0 || self.leases.insert(grant.id, grant.ttl_seconds).is_some() {
                    return Err(format!("lease {:x} is granted twice", grant.id));
                }
            }
            Record::LeaseEnd(end) => {
                if self.leases.remove(&end.id).is_none() {
                    return Err(format!("lease {:x} ends without having begun", end.id));
                }
            }
            Record::Compaction(compaction) => {
                let revision = Revision(compaction.revision);
                let before = self.state.compaction();
                if revision > self.state.head() || before.is_some_and(|before| revision <= before) {
                    return Err(format!("a compaction at {revision}"));
                }
                self.state.set_compacted(revision);
                self.prune();
            }
            Record::Notes(Notes { changes }) => {
                for change in changes {
                    match change.text {
                        Some(text) => drop(self.notes.insert(change.name, text)),
                        None => drop(self.notes.remove(&change.name)),
                    }
                }
            }
            Record::SnapshotStart(_) | Record::Base(_) | Record::SnapshotEnd(_) => {
                return Err("a part of a snapshot in the log".into());
            }
        }
        Ok(())
    }

    fn prune(&mut self) {
        while self.state.prune(Revision(u64::MAX), usize::MAX) {}
    }

    fn commit(&mut self, commit: Commit) -> Checked {
        let revision = Revision(commit.revision);
        if revision != self.state.head().next() {
            let head = self.state.head();
            return Err(format!("revision {revision} after {head}"));
        }
        if commit.changes.is_empty() {
            return Err(format!("revision {revision} changes nothing"));
        }
        // What the oldest revision of a snapshot replaced may be gone.
        let may_miss =
            self.snapshot.as_ref().is_some_and(|s| !s.whole) && revision == self.state.compacted();
        let mut earlier: HashMap<StoredKey, Version> = HashMap::new();
        let several = commit.changes.len() > 1;
        let mut changes = Vec::with_capacity(commit.changes.len());
        for change in commit.changes {
            let change = self.shared_key(change, revision);
            let before = earlier
                .get(&change.key)
                .or_else(|| self.state.newest(&change.key))
                .filter(|version| version.is_live());
            if !follows(&change.version, before, may_miss) {
                return Err(format!(
                    "revision {revision} does not follow from what is there"
                ));
            }
            if several {
                earlier.insert(StoredKey::clone(&change.key), change.version.clone());
            }
            changes.push(change);
        }
        self.state.apply(changes, |_, _, _| ());
        Ok(())
    }

    /// The change with the key as the state holds it already.
    fn shared_key(&self, change: CommitChange, revision: Revision) -> Change {
        let mut change = change.at(revision);
        if let Some(key) = self.state.stored_key(&change.key) {
            change.key = StoredKey::clone(key);
        }
        change
    }

    /// The end of the journal. Every lease has its whole time from `now` on.
    pub(crate) fn finish(self, now: Duration) -> Result<Recovered, String> {
        self.check_whole()?;
        let grants = self.leases.iter().filter_map(|(id, seconds)| {
            let id = LeaseId::new(*id)?;
            Some(LeaseOp::Grant(id, Duration::from_secs(*seconds)))
        });
        let mut leases = Leases::default();
        leases.publish(grants, now);
        for (key, lease) in self.state.leased_keys() {
            if !self.leases.contains_key(&lease.get()) {
                return Err(format!("a key of lease {lease}, which does not exist"));
            }
            leases.publish([LeaseOp::Attach(lease, StoredKey::clone(key))], now);
        }
        if self.identity.is_none() && (self.term > 0 || self.state.head() > Revision(1)) {
            return Err("data without an identity".into());
        }
        Ok(Recovered {
            state: self.state,
            leases,
            notes: self.notes,
            identity: self.identity,
            term: self.term,
        })
    }
}

/// Whether a version can come after the one before.
fn follows(version: &Version, before: Option<&Version>, may_miss: bool) -> bool {
    match (version.is_live(), before) {
        (true, Some(before)) => {
            version.created == before.created && version.version == before.version.saturating_add(1)
        }
        (true, None) => may_miss || (version.created == version.modified && version.version == 1),
        (false, Some(_)) => true,
        (false, None) => may_miss,
    }
}

/// The journal's error in the store's words.
pub(crate) fn error(error: JournalError) -> Error {
    let kind = match &error {
        error if error.is_no_space() => ErrorKind::NoSpace,
        // It passes when others let go of theirs.
        error if error.is_for_want_of_files() => ErrorKind::Unavailable,
        JournalError::InUse { .. } => ErrorKind::InUse,
        JournalError::NewerFormat { .. } => ErrorKind::NewerFormat,
        JournalError::NotASynodDirectory { .. } => ErrorKind::InvalidAddress,
        JournalError::Corrupt { .. } => ErrorKind::Corrupt,
        JournalError::TooLarge { .. } => ErrorKind::TooLarge,
        JournalError::Poisoned { .. } => ErrorKind::Poisoned,
        _ => ErrorKind::Other,
    };
    Error::new(kind, error.to_string()).with_source(error)
}
