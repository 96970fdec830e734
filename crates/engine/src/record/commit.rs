//! What one revision changed.

use bytes::Bytes;
use prost::Message;
use synod_store::{LeaseId, Revision};

use crate::mvcc::{Change, StoredKey, Version};

/// All changes of one revision, in the order of its operations.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Commit {
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) changes: Vec<CommitChange>,
}

/// One key set to one version. The numbers that follow from the state before are stored too: a snapshot may begin
/// without that state, and a replay can check itself.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommitChange {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    /// Missing for a deletion.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) value: Option<Bytes>,
    #[prost(uint64, tag = "3")]
    pub(crate) created: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) version: u64,
    /// Zero for none.
    #[prost(sint64, tag = "5")]
    pub(crate) lease: i64,
    /// When it was made, where that is not the revision of the record that holds it.
    #[prost(uint64, tag = "6")]
    pub(crate) modified: u64,
}

impl CommitChange {
    /// `modified` is left out: the record that holds the change says it.
    pub(crate) fn new(key: &[u8], version: &Version) -> CommitChange {
        CommitChange {
            key: Bytes::copy_from_slice(key),
            value: version.value.clone(),
            created: version.created.0,
            version: version.version,
            lease: LeaseId::to_i64(version.lease),
            modified: 0,
        }
    }

    /// The change as one of `revision`.
    pub(crate) fn at(self, revision: Revision) -> Change {
        let version = Version {
            modified: revision,
            created: Revision(self.created),
            version: self.version,
            lease: LeaseId::new(self.lease),
            value: self.value.map(|value| Bytes::copy_from_slice(&value)),
        };
        Change {
            key: StoredKey::from(self.key.as_ref()),
            version,
        }
    }
}

impl Commit {
    pub(crate) fn new(revision: Revision, changes: &[Change]) -> Commit {
        Commit {
            revision: revision.0,
            changes: changes
                .iter()
                .map(|change| CommitChange::new(&change.key, &change.version))
                .collect(),
        }
    }
}
