//! Copies of an open store, and what is kept beside the keys.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use synod_store::{
    ErrorKind, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Revision, Store, Txn,
};
use tempfile::TempDir;

use super::{delete, everything, lease, put};
use crate::backup::{inspect, restore};
use crate::journal::Item;
use crate::record::{Opened, Record};
use crate::recover::Recovery;
use crate::{Engine, EngineOptions, verify};

fn file(dir: &Path) -> Engine {
    Engine::open(EngineOptions::file(dir)).unwrap()
}

async fn save(store: &Engine, to: &Path) -> Revision {
    let mut export = store.export().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = export.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(bytes.len() % 512, 32, "as etcd's clients check it");
    std::fs::write(to, bytes).unwrap();
    export.revision()
}

/// A store with history, a compaction, a lease and notes; and a copy of it.
async fn copied() -> (TempDir, Engine, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = file(&dir.path().join("data"));
    for turn in 0..20 {
        put(&store, &format!("k{}", turn % 7), &format!("v{turn}")).await;
    }
    delete(&store, KeyRange::One("k3".into())).await;
    let grant = LeaseGrantRequest::new(Duration::from_secs(60)).with_id(lease(7));
    store.lease_grant(grant).await.unwrap();
    let leased = PutRequest::new("leased", "x").with_lease(lease(7));
    store.put(leased).await.unwrap();
    store.compact(Revision(9), true).await.unwrap();
    let notes = [("a", "1"), ("b", "2")];
    let notes = notes.map(|(name, text)| (name.to_owned(), Some(Bytes::from(text))));
    store.write_notes(notes).await.unwrap();
    let copy = dir.path().join("copy");
    save(&store, &copy).await;
    (dir, store, copy)
}

fn all(_: u64, _: u64) -> bool {
    true
}

#[tokio::test]
async fn what_is_restored_is_what_was_there_but_for_who_it_is() {
    let (dir, store, copy) = copied().await;
    let told = inspect(&copy, &mut all).unwrap();
    assert_eq!((told.revision, told.compact_revision), (23, 9));
    assert_eq!((told.keys, told.leases, told.notes), (7, 1, 2));
    let target = dir.path().join("restored");
    assert_eq!(restore(&copy, &target, &mut all).unwrap(), told);
    let restored = file(&target);
    let (mut was, mut is) = (everything(&store).await, everything(&restored).await);
    // The first line names the cluster.
    assert_ne!(was.remove(0), is.remove(0));
    assert_eq!(was, is);
    assert_eq!(restored.notes(), store.notes());
    // It goes on, and opens once more.
    assert_eq!(put(&restored, "new", "1").await, Revision(24));
    restored.close().await.unwrap();
    let again = file(&target);
    assert_eq!(again.stats().keys, 8);
    assert_eq!(again.notes().len(), 2);
    assert!(
        again
            .lease_time_to_live(lease(7), false)
            .await
            .unwrap()
            .remaining
            .is_some()
    );
}

/// Before anybody has opened it, all that was restored is in the snapshot.
#[tokio::test]
async fn no_file_of_a_restored_directory_goes_missing_or_is_cut_unnoticed() {
    let (dir, _store, copy) = copied().await;
    let target = dir.path().join("restored");
    restore(&copy, &target, &mut all).unwrap();
    let report = verify(&target).unwrap();
    assert_eq!((report.damage, report.keys, report.records), (None, 7, 0));
    let refused = |path: &Path| {
        let damage = verify(&target).unwrap().damage.expect("damage");
        assert_eq!(damage.file, path);
        let error = Engine::open(EngineOptions::file(&target)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let told = format!("{} is damaged at offset {}", path.display(), damage.offset);
        assert!(error.message().starts_with(&told), "{error}, not {told}");
    };
    let aside = dir.path().join("aside");
    let mut tried = 0;
    for entry in std::fs::read_dir(&target).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "LOCK" || name.starts_with("spare") {
            continue;
        }
        std::fs::rename(&path, &aside).unwrap();
        refused(&path);
        if name != "FORMAT" {
            let bytes = std::fs::read(&aside).unwrap();
            for len in [0, 20, 50, 90, bytes.len() - 1] {
                std::fs::write(&path, &bytes[..len]).unwrap();
                refused(&path);
            }
        }
        std::fs::rename(&aside, &path).unwrap();
        tried += 1;
    }
    assert_eq!(tried, 3, "FORMAT, a snapshot, a segment");
    assert_eq!(file(&target).stats().keys, 7);
}

/// The log of a directory that an earlier build restored begins so: its snapshot was numbered as a log's beginning is.
#[test]
fn a_log_that_begins_with_a_later_opening_has_lost_its_snapshot() {
    let first = |term| {
        let record = Record::Opened(Opened { term }).into_bytes();
        Recovery::new().take(Item::Record(1, &record))
    };
    assert_eq!(first(1), Ok(()));
    let refused = first(7).unwrap_err();
    assert!(refused.contains("the snapshot before it is missing"));
}

#[tokio::test]
async fn a_directory_that_holds_anything_is_left_alone() {
    let (dir, store, copy) = copied().await;
    let taken = dir.path().join("data");
    for target in [taken.clone(), dir.path().to_owned()] {
        let error = restore(&copy, &target, &mut all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.message().contains("is not empty"), "{error}");
    }
    put(&store, "still", "there").await;
    // An empty one will do.
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    restore(&copy, &empty, &mut all).unwrap();
    assert_eq!(file(&empty).stats().keys, 7);
}

#[tokio::test]
async fn damage_is_found_wherever_it_is_and_nothing_stays_of_the_attempt() {
    let (dir, _store, copy) = copied().await;
    let whole = std::fs::read(&copy).unwrap();
    let bad = dir.path().join("bad");
    let target = dir.path().join("target");
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&bad, bytes).unwrap();
        let error = restore(&bad, &target, &mut all).unwrap_err();
        assert!(!target.exists(), "{what} leaves something behind");
        assert!(!error.message().is_empty());
        error.kind()
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&bad, &bytes).unwrap();
        let kind = inspect(&bad, &mut all).unwrap_err().kind();
        if at % 101 == 0 {
            assert_eq!(refused(&bytes, &format!("a flipped bit at {at}")), kind);
        }
        // The first bytes may be another's.
        assert!(
            matches!(kind, ErrorKind::Corrupt | ErrorKind::InvalidArgument),
            "{at}: {kind:?}"
        );
    }
    for len in (0..whole.len())
        .step_by(397)
        .chain([whole.len() - 32, whole.len() - 1])
    {
        let kind = refused(&whole[..len], &format!("{len} bytes"));
        let none = len < 16;
        assert!(kind == ErrorKind::Corrupt || none, "{len}: {kind:?}");
    }
    let mut longer = whole.clone();
    longer.extend_from_slice(&[0; 512]);
    assert_eq!(refused(&longer, "more"), ErrorKind::Corrupt);
    let bolt = [&[0; 16][..], b"\xed\xda\x0c\xed", &[0; 1000]].concat();
    assert_eq!(refused(&bolt, "etcd's"), ErrorKind::InvalidArgument);
    let error = inspect(dir.path().join("nothing"), &mut all).unwrap_err();
    assert!(error.message().contains("nothing"), "{error}");
}

#[tokio::test]
async fn of_several_restores_into_one_directory_one_is_made() {
    let (dir, _store, copy) = copied().await;
    for round in 0..20 {
        let target = dir.path().join(format!("some/where/new{round}"));
        let start = std::sync::Barrier::new(4);
        let restored = std::thread::scope(|scope| {
            let restore = || {
                start.wait();
                restore(&copy, &target, &mut all)
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(restore)).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap());
            ended.collect::<Vec<_>>()
        });
        let (made, refused): (Vec<_>, Vec<_>) = restored.into_iter().partition(Result::is_ok);
        assert_eq!(made.len(), 1);
        for error in refused {
            let error = error.unwrap_err();
            assert!(error.message().contains("is not empty"), "{error}");
        }
        let store = file(&target);
        assert_eq!(store.notes().len(), 2);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn who_ends_a_restore_finds_nothing_of_it() {
    let (dir, _store, copy) = copied().await;
    let target = dir.path().join("target");
    let mut calls = 0;
    let error = restore(&copy, &target, &mut |_, _| {
        calls += 1;
        calls < 5
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(!target.exists());
}

/// Each transaction moves one from `a` to `b`; a copy that is of one revision has a sum of zero.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_of_one_revision_while_writes_and_compactions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = file(&dir.path().join("data"));
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for turn in 0..i64::MAX {
            let filler = vec![b'x'; 2000];
            let txn = Txn::new().and_then([
                PutRequest::new("a", turn.to_string()),
                PutRequest::new("b", (-turn).to_string()),
                PutRequest::new(format!("filler{}", turn % 500), filler),
            ]);
            let Ok(done) = writer.txn(txn).await else {
                return;
            };
            if turn % 10 == 9 {
                let revision = Revision(done.header.revision.0 - 5);
                writer.compact(revision, false).await.unwrap();
            }
        }
    });
    for round in 0..5 {
        let copy = dir.path().join(format!("copy{round}"));
        let revision = loop {
            let revision = save(&store, &copy).await;
            if revision > Revision(50) {
                break revision;
            }
        };
        let target = dir.path().join(format!("restored{round}"));
        let told = restore(&copy, &target, &mut all).unwrap();
        assert_eq!(told.revision, revision.0);
        let restored = file(&target);
        let value = async |key: &str| -> i64 {
            let found = restored.range(RangeRequest::new(key)).await.unwrap();
            let text = found.kvs[0].value.clone();
            String::from_utf8(text.to_vec()).unwrap().parse().unwrap()
        };
        assert_eq!(value("a").await + value("b").await, 0);
    }
    writing.abort();
}

#[tokio::test]
async fn a_copy_that_nobody_takes_keeps_history_and_lets_go_of_it_when_dropped() {
    let store = Engine::open(EngineOptions::memory()).unwrap();
    for turn in 0..200 {
        put(&store, "k", &format!("{turn:010000}")).await;
    }
    let export = store.export().await.unwrap();
    store.compact(Revision(200), false).await.unwrap();
    put(&store, "k", "more").await;
    assert!(
        store.stats().history_bytes > 1_000_000,
        "{:?}",
        store.stats()
    );
    drop(export);
    // Answered once the space is free: the copy must have let go of it.
    let physical = store.compact(Revision(201), true);
    tokio::time::timeout(Duration::from_secs(20), physical)
        .await
        .unwrap()
        .unwrap();
    assert!(store.stats().history_bytes < 100_000, "{:?}", store.stats());
}

#[tokio::test]
async fn notes_are_durable_take_no_revision_and_survive_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let store = file(dir.path());
    let note = |name: &str, text: Option<&'static str>| (name.to_owned(), text.map(Bytes::from));
    let before = store.status().await.unwrap().header.revision;
    store
        .write_notes([note("a", Some("1")), note("b", Some("2"))])
        .await
        .unwrap();
    store
        .write_notes([note("a", None), note("c", Some("3")), note("none", None)])
        .await
        .unwrap();
    let is = |store: &Engine| -> Vec<(String, Bytes)> { store.notes().into_iter().collect() };
    let expected = [
        ("b".to_owned(), Bytes::from("2")),
        ("c".to_owned(), Bytes::from("3")),
    ];
    assert_eq!(is(&store), expected);
    assert_eq!(store.status().await.unwrap().header.revision, before);
    store.close().await.unwrap();
    let store = file(dir.path());
    assert_eq!(is(&store), expected);
    store.defragment().await.unwrap();
    store.write_notes([note("d", Some("4"))]).await.unwrap();
    store.close().await.unwrap();
    let store = file(dir.path());
    assert_eq!(is(&store)[..2], expected);
    assert_eq!(store.notes().len(), 3);
    let huge = (String::from("huge"), Some(Bytes::from(vec![0; 33 << 20])));
    let error = store.write_notes([huge]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!(store.notes().len(), 3);
}
