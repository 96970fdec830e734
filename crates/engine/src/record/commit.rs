//! What one revision changed.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use synod_store::{LeaseId, Revision};

use crate::mvcc::{Change, StoredKey, StoredValue, Version};

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
            value: version.value.as_deref().map(Bytes::copy_from_slice),
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
            value: self.value.map(|value| StoredValue::from(value.as_ref())),
        };
        Change {
            key: StoredKey::from(self.key.as_ref()),
            version,
        }
    }
}

/// The record of a [`Commit`] of these changes, as its message would be encoded, but from where the bytes lie: every
/// write takes this way, and the message would first be a copy of its own of each key and value.
pub(crate) fn encode(revision: Revision, changes: &[Change]) -> Bytes {
    let inner =
        field_len(1, revision.0).saturating_add(changes.iter().fold(0, |sum: usize, change| {
            sum.saturating_add(nested_len(2, change_len(change)))
        }));
    let mut out = Vec::with_capacity(nested_len(ENVELOPE_TAG, inner));
    begin_nested(ENVELOPE_TAG, inner, &mut out);
    number(1, revision.0, &mut out);
    for change in changes {
        begin_nested(2, change_len(change), &mut out);
        let version = &change.version;
        if !change.key.is_empty() {
            bytes(1, &change.key, &mut out);
        }
        if let Some(value) = &version.value {
            bytes(2, value, &mut out);
        }
        for (tag, value) in numbers(version) {
            number(tag, value, &mut out);
        }
    }
    out.into()
}

/// The tag of a commit among the kinds of records.
const ENVELOPE_TAG: u32 = 3;

/// The numbered fields of a change. `modified` is left out, as in [`CommitChange::new`].
fn numbers(version: &Version) -> [(u32, u64); 3] {
    let lease = LeaseId::to_i64(version.lease);
    let zigzag = ((lease << 1) ^ (lease >> 63)).cast_unsigned();
    [(3, version.created.0), (4, version.version), (5, zigzag)]
}

fn change_len(change: &Change) -> usize {
    let key = match change.key.len() {
        0 => 0,
        len => nested_len(1, len),
    };
    let value = change.version.value.as_ref();
    let value = value.map_or(0, |value| nested_len(2, value.len()));
    numbers(&change.version)
        .into_iter()
        .fold(key.saturating_add(value), |sum, (tag, number)| {
            sum.saturating_add(field_len(tag, number))
        })
}

/// Bytes of a number's field: none for zero.
fn field_len(tag: u32, number: u64) -> usize {
    match number {
        0 => 0,
        number => key_len(tag).saturating_add(encoded_len_varint(number)),
    }
}

/// Bytes of a field that holds `len` bytes.
fn nested_len(tag: u32, len: usize) -> usize {
    key_len(tag)
        .saturating_add(encoded_len_varint(len as u64))
        .saturating_add(len)
}

fn number(tag: u32, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(number, out);
    }
}

fn begin_nested(tag: u32, len: usize, out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

fn bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    begin_nested(tag, bytes.len(), out);
    out.extend_from_slice(bytes);
}
