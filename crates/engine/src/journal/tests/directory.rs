//! The directory on a real disk: who has it open, what it is, who may read it, and copies of it.

use std::fs;
use std::path::Path;

use super::super::{Disk, Memory, verify};
use super::*;

fn open_at(dir: &Path) -> Result<(FileJournal, Vec<Bytes>), JournalError> {
    let mut found = Vec::new();
    let journal = FileJournal::open_in(Disk, dir, OPTIONS, &mut |item| {
        let (Item::Chunk(bytes) | Item::Record(_, bytes)) = item;
        found.push(Bytes::copy_from_slice(bytes));
        Ok(())
    })?;
    Ok((journal, found))
}

fn fail(dir: &Path) -> JournalError {
    open_at(dir).map(|_| ()).unwrap_err()
}

#[test]
fn a_second_opener_is_told_who_has_it_and_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (journal, _) = open_at(&dir).unwrap();
    let error = fail(&dir);
    let pid = std::process::id();
    assert!(matches!(&error, JournalError::InUse { pid: Some(found), .. } if *found == pid));
    let text = error.to_string();
    assert!(text.contains(&format!("in use by process {pid}")), "{text}");
    assert!(text.contains("have one process serve it"), "{text}");
    let refused = verify(&Disk, &dir, &mut |_| Ok(()));
    assert!(matches!(refused, Err(JournalError::InUse { .. })));
    drop(journal);
    open_at(&dir).unwrap();
}

#[test]
fn a_running_snapshot_keeps_the_directory_locked() {
    let home = tempfile::tempdir().unwrap();
    let (mut journal, _) = open_at(home.path()).unwrap();
    journal.append(&[record(1)]).unwrap();
    let mut snapshot = journal.begin_snapshot().unwrap();
    drop(journal);
    assert!(matches!(fail(home.path()), JournalError::InUse { .. }));
    snapshot.write(&record(1)).unwrap();
    snapshot.commit().unwrap();
    assert_eq!(open_at(home.path()).unwrap().1, expected(1));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    drop(open_at(home.path()).unwrap());
    let format = home.path().join("FORMAT");
    assert_eq!(
        fs::read_to_string(&format).unwrap(),
        "synod data, format 1\n"
    );
    fs::write(&format, "synod data, format 2\n").unwrap();
    let text = fail(home.path()).to_string();
    assert!(
        text.ends_with("has format 2, this build reads up to 1: upgrade Synod"),
        "{text}"
    );
    assert!(verify(&Disk, home.path(), &mut |_| Ok(())).is_err());
}

#[test]
fn what_is_not_ours_is_refused_and_left_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let not_ours = |dir: &Path| matches!(fail(dir), JournalError::NotASynodDirectory { .. });
    let file = home.path().join("file");
    fs::write(&file, "text").unwrap();
    assert!(not_ours(&file), "a file");
    assert!(
        not_ours(home.path()),
        "a directory with something else in it"
    );
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        1,
        "no lock file is left there"
    );
    assert!(not_ours(&file.join("below")), "below a file");
    let missing = verify(&Disk, &home.path().join("missing"), &mut |_| Ok(()));
    assert!(matches!(
        missing,
        Err(JournalError::NotASynodDirectory { .. })
    ));
    assert!(!home.path().join("missing").exists());
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("a").join("b");
    let (mut journal, _) = open_at(&dir).unwrap();
    journal.append(&[record(1)]).unwrap();
    journal.begin_snapshot().unwrap().commit().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert!(names.len() >= 5, "{names:?}");
    for path in names {
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
}

#[test]
fn a_cold_copy_is_a_backup() {
    let home = tempfile::tempdir().unwrap();
    let (data, backup) = (home.path().join("data"), home.path().join("backup"));
    let (mut journal, _) = open_at(&data).unwrap();
    for n in 1..=20 {
        journal.append(&[record(n)]).unwrap();
        if n == 9 {
            let mut snapshot = journal.begin_snapshot().unwrap();
            (1..=9).for_each(|n| snapshot.write(&record(n)).unwrap());
            snapshot.commit().unwrap();
        }
    }
    drop(journal);
    fs::create_dir(&backup).unwrap();
    for entry in fs::read_dir(&data).unwrap().map(Result::unwrap) {
        if entry.file_name() != "LOCK" {
            fs::copy(entry.path(), backup.join(entry.file_name())).unwrap();
        }
    }
    let report = verify(&Disk, &backup, &mut |_| Ok(())).unwrap();
    assert_eq!(
        (report.snapshot_chunks, report.records, report.damage),
        (9, 11, None)
    );
    assert!(!backup.join("LOCK").exists(), "looking changes nothing");
    let (mut journal, found) = open_at(&backup).unwrap();
    assert_eq!(found, expected(20));
    journal.append(&[record(21)]).unwrap();
    assert_eq!(
        open_at(&data).unwrap().1,
        expected(20),
        "the original goes on by itself"
    );
}

#[test]
fn appends_go_on_while_another_thread_writes_a_snapshot() {
    let home = tempfile::tempdir().unwrap();
    let (mut journal, _) = open_at(home.path()).unwrap();
    journal.append(&[record(1)]).unwrap();
    let mut snapshot = journal.begin_snapshot().unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        snapshot.write(&record(1)).unwrap();
        wait.recv().unwrap();
        snapshot.commit().unwrap();
    });
    for n in 2..=40 {
        journal.append(&[record(n)]).unwrap();
    }
    go.send(()).unwrap();
    for n in 41..=60 {
        journal.append(&[record(n)]).unwrap();
    }
    writer.join().unwrap();
    assert!(journal.size_on_disk().unwrap() > 400);
    drop(journal);
    assert_eq!(open_at(home.path()).unwrap().1, expected(60));
}

#[test]
fn the_one_in_memory_keeps_nothing_and_counts() {
    let mut journal: Box<dyn Journal> = Box::new(Memory::new());
    journal.append(&[record(1), record(2)]).unwrap();
    journal.begin_snapshot().unwrap().commit().unwrap();
    assert_eq!(
        (
            journal.next_record(),
            journal.log_bytes(),
            journal.size_on_disk().unwrap()
        ),
        (3, 0, 0)
    );
}
