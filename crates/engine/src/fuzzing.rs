//! What the fuzz targets call: a data directory in memory, one of whose files holds arbitrary bytes. No part of the
//! public interface.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;

use crate::journal::{FileJournal, Journal, Options, Sim, trust_frames};
use crate::record::{Commit, CommitChange, FORMAT, Identity, LeaseGrant, Opened, Record};
use crate::recover::Recovery;

const OPTIONS: Options = Options {
    sync: true,
    segment_bytes: 600,
};

/// Records that tell a story: an identity, an opening, a lease, and commits.
fn story() -> Vec<Bytes> {
    let identity = Identity {
        format: FORMAT,
        cluster_id: 1,
        member_id: 2,
    };
    let mut records = vec![
        Record::Identity(identity).into_bytes(),
        Record::Opened(Opened { term: 1 }).into_bytes(),
        Record::LeaseGrant(LeaseGrant {
            id: 7,
            ttl_seconds: 60,
        })
        .into_bytes(),
    ];
    for revision in 2..40 {
        let change = CommitChange {
            key: format!("k{revision}").into(),
            value: Some("v".into()),
            created: revision,
            version: 1,
            lease: i64::from(revision % 3 == 0) * 7,
            modified: 0,
        };
        let commit = Commit {
            revision,
            changes: vec![change],
        };
        records.push(Record::Commit(commit).into_bytes());
    }
    records
}

/// A directory that is in order, and the revision it stands at.
fn sound() -> Sim {
    static DISK: OnceLock<Sim> = OnceLock::new();
    DISK.get_or_init(|| {
        let sim = Sim::default();
        let opened = FileJournal::open_in(sim.clone(), Path::new("/d"), OPTIONS, &mut |_| Ok(()));
        if let Ok(mut journal) = opened {
            for record in story() {
                // A failure would show as a directory that holds less.
                let _ = journal.append(&[record]);
            }
        }
        sim
    })
    .copy()
}

/// The first byte chooses a file (and with its highest bit, that checksums are not compared, so that what lies behind
/// them is reached too), the second where in it the rest is written over what is there.
///
/// # Panics
///
/// When the directory opens and tells what was never written.
pub fn journal(input: &[u8]) {
    let [kind, place, bytes @ ..] = input else {
        return;
    };
    let disk = sound();
    let files = disk.files();
    let Some((path, old)) = files
        .iter()
        .nth(usize::from(kind & 0x7f) % files.len().max(1))
    else {
        return;
    };
    let is_trusting = kind & 0x80 != 0;
    let _trust = is_trusting.then(trust_frames);
    // Beginnings are of most interest: headers, the first frame.
    let at = (usize::from(*place) * 3).min(old.len());
    let mut new: Vec<u8> = old.iter().take(at).copied().collect();
    new.extend_from_slice(bytes);
    new.extend(old.iter().skip(new.len()));
    if is_trusting && let (Some(tag), Some(first)) = (old.get(24..28), new.get_mut(64..68)) {
        // A frame is looked at only with its segment's tag.
        first.copy_from_slice(tag);
    }
    let image = disk.with_file(path, Some(new));
    let mut recovery = Recovery::new();
    let opened = FileJournal::open_in(image.clone(), Path::new("/d"), OPTIONS, &mut |item| {
        recovery.take(item)
    });
    if opened.is_ok()
        && let Ok(recovered) = recovery.finish(Duration::ZERO)
    {
        let head = recovered.state.head().0;
        assert!(
            is_trusting || head <= 39,
            "revision {head} was never written"
        );
    }
    drop(opened);
    // Who only looks sees no panic either.
    let mut recovery = Recovery::new();
    let _ = crate::journal::verify(&image, Path::new("/d"), &mut |item| recovery.take(item));
}

/// A record on its own, and a second one behind it.
pub fn record(input: &[u8]) {
    let (first, second) = input.split_at(input.len() / 2);
    for bytes in [first, second, input] {
        if let Ok(record) = Record::from_bytes(bytes) {
            let again = Record::from_bytes(&record.clone().into_bytes());
            assert_eq!(
                again.as_ref(),
                Ok(&record),
                "a record is read as it was written"
            );
        }
    }
    let mut recovery = Recovery::new();
    for record in story() {
        let _ = recovery.take(crate::journal::Item::Record(0, &record));
    }
    let _ = recovery.take(crate::journal::Item::Record(0, first));
    let _ = recovery.take(crate::journal::Item::Record(0, second));
    let _ = recovery.finish(Duration::ZERO);
    let mut snapshot = Recovery::new();
    let _ = snapshot.take(crate::journal::Item::Chunk(first));
    let _ = snapshot.take(crate::journal::Item::Chunk(second));
    let _ = snapshot.finish(Duration::ZERO);
}

#[cfg(test)]
#[path = "../../../fuzz/smoke.rs"]
mod smoke;

#[cfg(test)]
mod tests {
    use super::smoke::smoke;

    #[test]
    fn files_of_arbitrary_bytes() {
        smoke("journal", 300, |bytes, _| super::journal(bytes));
    }

    #[test]
    fn records_of_arbitrary_bytes() {
        smoke("record", 1_000, |bytes, _| super::record(bytes));
    }
}
