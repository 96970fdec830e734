//! Round trips, and the bytes of format 1.

use bytes::Bytes;
use proptest::prelude::*;
use synod_store::Revision;

use super::*;
use crate::mvcc::Change;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn change() -> impl Strategy<Value = CommitChange> {
    let numbers = (any::<u64>(), any::<u64>(), any::<i64>(), any::<u64>());
    (bytes(), prop::option::of(bytes()), numbers).prop_map(|(key, value, numbers)| CommitChange {
        key,
        value,
        created: numbers.0,
        version: numbers.1,
        lease: numbers.2,
        modified: numbers.3,
    })
}

fn record() -> impl Strategy<Value = Record> {
    let changes = || prop::collection::vec(change(), 0..4);
    let n = any::<u64>;
    prop_oneof![
        (any::<u32>(), n(), n()).prop_map(|(format, cluster_id, member_id)| Record::Identity(
            Identity {
                format,
                cluster_id,
                member_id
            }
        )),
        n().prop_map(|term| Record::Opened(Opened { term })),
        (n(), changes())
            .prop_map(|(revision, changes)| Record::Commit(Commit { revision, changes })),
        (any::<i64>(), n())
            .prop_map(|(id, ttl_seconds)| Record::LeaseGrant(LeaseGrant { id, ttl_seconds })),
        any::<i64>().prop_map(|id| Record::LeaseEnd(LeaseEnd { id })),
        n().prop_map(|revision| Record::Compaction(Compaction { revision })),
        (n(), prop::option::of(n()), n(), n()).prop_map(|(revision, compacted, term, base)| {
            Record::SnapshotStart(SnapshotStart {
                revision,
                compacted,
                term,
                base,
            })
        }),
        changes().prop_map(|pairs| Record::Base(Base { pairs })),
        (n(), n(), n(), n()).prop_map(|(leases, pairs, commits, notes)| Record::SnapshotEnd(
            SnapshotEnd {
                leases,
                pairs,
                commits,
                notes
            }
        )),
        prop::collection::vec((".*", prop::option::of(bytes())), 0..3).prop_map(|changes| {
            let changes = changes.into_iter();
            let changes = changes.map(|(name, text)| NoteChange { name, text });
            Record::Notes(Notes {
                changes: changes.collect(),
            })
        }),
    ]
}

proptest! {
    #[test]
    fn every_record_comes_back(record in record()) {
        prop_assert_eq!(Record::from_bytes(&record.clone().into_bytes()), Ok(record));
    }

    /// The encoder that writes take must give what the message gives, byte for byte.
    #[test]
    fn a_commit_is_encoded_as_its_message(
        revision: u64, changes in prop::collection::vec(change(), 0..4),
    ) {
        let changes: Vec<CommitChange> = changes
            .into_iter()
            .map(|change| CommitChange { modified: 0, ..change })
            .collect();
        let applied: Vec<Change> = changes
            .iter()
            .map(|change| change.clone().at(Revision(revision)))
            .collect();
        let message = Record::Commit(Commit { revision, changes });
        prop_assert_eq!(encode_commit(Revision(revision), &applied), message.into_bytes());
    }

    #[test]
    fn any_bytes_give_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        // What decodes must be a record that can be written again.
        if let Ok(record) = Record::from_bytes(&bytes) {
            prop_assert_eq!(Record::from_bytes(&record.clone().into_bytes()), Ok(record));
        }
    }
}

/// Stores written by an earlier build must be read by every later one: these bytes never change.
#[test]
fn the_bytes_of_format_1() {
    let put = CommitChange {
        key: Bytes::from_static(b"k"),
        value: Some(Bytes::from_static(b"v")),
        created: 3,
        version: 2,
        lease: -1,
        modified: 0,
    };
    let delete = CommitChange {
        key: Bytes::from_static(b"d"),
        ..CommitChange::default()
    };
    let golden: [(Record, &[u8]); 10] = [
        (
            Record::Identity(Identity {
                format: 1,
                cluster_id: 2,
                member_id: 3,
            }),
            b"\x0a\x14\x08\x01\x11\x02\0\0\0\0\0\0\0\x19\x03\0\0\0\0\0\0\0",
        ),
        (Record::Opened(Opened { term: 7 }), b"\x12\x02\x08\x07"),
        (
            Record::Commit(Commit {
                revision: 5,
                changes: vec![put.clone(), delete],
            }),
            b"\x1a\x15\x08\x05\x12\x0c\x0a\x01k\x12\x01v\x18\x03\x20\x02\x28\x01\x12\x03\x0a\x01d",
        ),
        (
            Record::LeaseGrant(LeaseGrant {
                id: 1,
                ttl_seconds: 60,
            }),
            b"\x22\x04\x08\x02\x10\x3c",
        ),
        (Record::LeaseEnd(LeaseEnd { id: 1 }), b"\x2a\x02\x08\x02"),
        (
            Record::Compaction(Compaction { revision: 9 }),
            b"\x32\x02\x08\x09",
        ),
        (
            Record::SnapshotStart(SnapshotStart {
                revision: 9,
                compacted: Some(0),
                term: 2,

                base: 1,
            }),
            b"\x3a\x08\x08\x09\x10\x00\x18\x02\x20\x01",
        ),
        (
            Record::Base(Base {
                pairs: vec![CommitChange { modified: 4, ..put }],
            }),
            b"\x42\x10\x0a\x0e\x0a\x01k\x12\x01v\x18\x03\x20\x02\x28\x01\x30\x04",
        ),
        (
            Record::SnapshotEnd(SnapshotEnd {
                leases: 1,
                pairs: 2,
                commits: 3,
                notes: 0,
            }),
            b"\x4a\x06\x08\x01\x10\x02\x18\x03",
        ),
        (
            Record::Notes(Notes {
                changes: vec![
                    NoteChange {
                        name: "a".into(),
                        text: Some(Bytes::from_static(b"b")),
                    },
                    NoteChange {
                        name: "c".into(),
                        text: None,
                    },
                ],
            }),
            b"\x52\x0d\x0a\x06\x0a\x01a\x12\x01b\x0a\x03\x0a\x01c",
        ),
    ];
    for (record, bytes) in golden {
        assert_eq!(record.clone().into_bytes(), bytes, "{record:?}");
        assert_eq!(Record::from_bytes(bytes), Ok(record));
    }
    assert!(
        Record::from_bytes(b"\xa2\x06\x00").is_err(),
        "an unknown kind"
    );
    assert!(
        Record::from_bytes(b"\x1a\xff").is_err(),
        "a record cut short"
    );
}
