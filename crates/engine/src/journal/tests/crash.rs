//! A crash after every call, with every image of the disk that it may leave.

use super::*;

/// Groups of several sizes over several segments, one larger than a segment, and two snapshots.
pub(super) fn history() -> Author {
    let sim = Sim::default();
    let mut author = Author::new(&sim);
    for group in [1, 3, 1, 1, 2] {
        author.append(group).unwrap();
    }
    author.snapshot(3).unwrap();
    for group in [1, 12, 1, 2] {
        author.append(group).unwrap();
    }
    author.snapshot(1).unwrap();
    for group in [1, 1, 4, 1] {
        author.append(group).unwrap();
    }
    author
}

/// A full disk: a snapshot that does not fit, one that does, and how it goes on.
fn full() -> Author {
    let sim = Sim::default();
    let mut author = Author::new(&sim);
    author.fill_disk(200);
    assert!(
        author
            .journal
            .begin_snapshot()
            .is_err_and(|e| e.is_no_space())
    );
    assert!(author.tight_snapshot().unwrap_err().is_no_space());
    // It has lost no room by that.
    author.append(1).unwrap();
    author.fill_disk(399);
    let before = logs(&author);
    author.tight_snapshot().unwrap();
    assert_eq!((before, logs(&author)), (2, 1));
    assert_eq!(author.journal.log_bytes(), 0);
    assert!(!author.journal.is_low_on_space(), "what it gave back");
    for group in [1, 2, 1] {
        author.append(group).unwrap();
    }
    sim.set_capacity(None);
    author.append(9).unwrap();
    author.snapshot(1).unwrap();
    author.append(1).unwrap();
    author
}

fn logs(author: &Author) -> usize {
    let files = author.sim.files();
    files.keys().filter(|path| named(path, ".log")).count()
}

#[test]
fn whatever_a_crash_leaves_all_acknowledged_is_there_and_nothing_else() {
    crash_anywhere(&history(), 3_000);
}

#[test]
fn a_snapshot_on_a_full_disk_is_whole_or_not_there_after_any_crash() {
    crash_anywhere(&full(), 1_000);
}

fn crash_anywhere(author: &Author, least: usize) {
    let mut images = 0;
    let mut kinds = std::collections::BTreeSet::new();
    for ops in 0..=author.sim.ops() {
        let bounds = author.bounds(ops);
        for (how, image) in author.sim.images(ops) {
            let how = format!("after call {ops}, {how}");
            let count = author.check(&image, bounds, &how);
            kinds.insert(if count == bounds.1 { "kept" } else { "cut" });
            images += 1;
        }
    }
    println!("{} calls, {images} images", author.sim.ops());
    assert!(
        images > least && kinds.len() == 2,
        "the enumeration has lost its bite: {images}"
    );
}

#[test]
fn a_crash_amid_recovery_changes_nothing() {
    crash_twice(&history(), (8, 17), 1_000);
}

#[test]
fn a_second_crash_after_one_on_a_full_disk_changes_nothing() {
    crash_twice(&full(), (8, 17), 1_000);
}

fn crash_twice(author: &Author, (calls, some): (usize, usize), least: usize) {
    let mut images = 0;
    for ops in (0..=author.sim.ops()).step_by(calls) {
        for (how, image) in author.sim.images(ops).into_iter().step_by(some) {
            let before = image.ops();
            let (_, found) = open(&image).unwrap();
            let found = found.len() as u64;
            // What one recovery has shown must not be taken back by the next.
            let at_most = author.bounds(ops).1;
            for again in before..=image.ops() {
                for (how2, second) in image.images(again) {
                    let done = again == image.ops();
                    let low = if done { found } else { author.bounds(ops).0 };
                    let how = format!("after call {ops}, {how}; then after {again}, {how2}");
                    author.check(&second, (low, at_most), &how);
                    images += 1;
                }
            }
        }
    }
    println!("{images} images");
    assert!(images > least, "{images}");
}

#[test]
fn a_crash_while_the_directory_is_made_leaves_an_empty_store_or_none() {
    let sim = Sim::default();
    drop(open(&sim).unwrap());
    for ops in 0..=sim.ops() {
        for (how, image) in sim.images(ops) {
            let (mut journal, found) = open(&image).unwrap_or_else(|e| panic!("{ops} {how}: {e}"));
            assert!(found.is_empty());
            journal.append(&[record(1)]).unwrap();
        }
    }
}

#[test]
fn an_abandoned_snapshot_leaves_nothing_behind() {
    let mut author = Author::new(&Sim::default());
    author.append(3).unwrap();
    let mut snapshot = author.journal.begin_snapshot().unwrap();
    snapshot.write(b"half").unwrap();
    let log = author.journal.log_bytes();
    drop(snapshot);
    assert!(
        log > 0 && author.journal.log_bytes() == log,
        "it covers nothing"
    );
    assert!(
        author
            .sim
            .files()
            .keys()
            .all(|p| !named(p, ".tmp") && !named(p, ".snap"))
    );
    author.append(1).unwrap();
    author.check(&author.sim.copy(), (4, 4), "abandoned");
}

#[test]
fn a_snapshot_retires_the_log_and_its_files_are_used_again() {
    let mut author = Author::new(&Sim::default());
    let mut sizes = Vec::new();
    for _ in 0..6 {
        for _ in 0..20 {
            author.append(1).unwrap();
            let files = author.sim.files();
            let mut logs = files.iter().filter(|(p, _)| named(p, ".log"));
            assert!(
                logs.all(|(_, bytes)| bytes.len() == 400),
                "room for the seal is kept"
            );
        }
        assert!(author.journal.log_bytes() > 800);
        author.snapshot(0).unwrap();
        assert_eq!(author.journal.log_bytes(), 0);
        let snapshot = file(&author.sim, ".snap").1.len() as u64;
        sizes.push(author.journal.size_on_disk().unwrap() - snapshot);
    }
    assert!(
        sizes.iter().all(|s| *s <= 5 * 400),
        "one segment and what is in reserve: {sizes:?}"
    );
    let spare = author.sim.files().remove(&dir().join("spare.3")).unwrap();
    let old = spare.windows(4).any(|w| w == b":xxx");
    assert!(old, "it holds old records, which must not come back");
    for _ in 0..4 {
        author.append(1).unwrap();
    }
    author.check(&author.sim.copy(), (124, 124), "reused");
}
