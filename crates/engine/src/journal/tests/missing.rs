//! Files that are missing or were cut: refused by name, from whatever state of the directory they go.

use super::super::dir::Home;
use super::super::snapshot::{self, Position};
use super::super::{Snapshot, segment, verify};
use super::crash::history;
use super::*;

fn refused(sim: &Sim) -> (PathBuf, u64, String) {
    let opened = FileJournal::open_in(sim.clone(), &dir(), OPTIONS, &mut |_| Ok(()));
    match opened.map(|_| ()) {
        Err(JournalError::Corrupt {
            file,
            offset,
            reason,
        }) => (file, offset, reason),
        other => panic!("{other:?}"),
    }
}

/// That opening and looking refuse it with the same words, without changing anything.
fn refused_by_both(sim: &Sim) -> (PathBuf, u64, String) {
    let before = sim.files();
    let looked = verify(sim, &dir(), &mut |_| Ok(())).unwrap();
    let looked = looked.damage.expect("opening refuses it");
    let opened = refused(sim);
    assert_eq!(
        (looked.file, looked.offset, looked.reason),
        opened,
        "looking and opening differ"
    );
    assert_eq!(sim.files(), before);
    opened
}

fn names(sim: &Sim, ending: &str) -> Vec<u64> {
    let files = sim.files().into_keys().filter(|p| named(p, ending));
    let stems = files.map(|p| p.file_stem().unwrap().to_str().unwrap().parse().unwrap());
    stems.collect()
}

/// A directory as a restore makes it: a snapshot, and no record ever.
fn restored() -> Sim {
    let sim = Sim::default();
    let (mut journal, _) = open(&sim).unwrap();
    let mut snapshot = journal.begin_snapshot().unwrap();
    snapshot.write(b"what was restored").unwrap();
    snapshot.commit().unwrap();
    sim
}

/// The same as builds made it that put a snapshot before segment 1.
fn restored_earlier() -> Sim {
    let sim = Sim::default();
    drop(open(&sim).unwrap());
    let (home, _, new) = Home::open(sim.clone(), &dir(), OPTIONS).unwrap();
    assert!(!new);
    let position = Position {
        segment: 1,
        next: 1,
        chain: 0,
    };
    let mut snapshot =
        Box::new(snapshot::Writer::new(&home, position, std::sync::Arc::default()).unwrap());
    snapshot.write(b"what was restored").unwrap();
    snapshot.commit().unwrap();
    sim
}

fn items(sim: &Sim) -> (FileJournal<Sim>, Vec<Bytes>) {
    let mut found = Vec::new();
    let journal = FileJournal::open_in(sim.clone(), &dir(), OPTIONS, &mut |item| {
        let (Item::Chunk(bytes) | Item::Record(_, bytes)) = item;
        found.push(Bytes::copy_from_slice(bytes));
        Ok(())
    });
    (journal.unwrap(), found)
}

#[test]
fn a_missing_snapshot_is_refused_by_name_however_often_one_was_made() {
    let snapshots = |count: usize| {
        let mut author = Author::new(&Sim::default());
        for _ in 0..count {
            author.append(4).unwrap();
            author.snapshot(2).unwrap();
        }
        author
    };
    let mut disks = vec![("restored".to_owned(), restored())];
    for count in 1..4 {
        let mut author = snapshots(count);
        disks.push((format!("{count} snapshots"), author.sim.copy()));
        author.append(9).unwrap();
        disks.push((format!("{count} snapshots, more"), author.sim.copy()));
    }
    for (how, sim) in disks {
        let (path, _) = file(&sim, ".snap");
        assert!(names(&sim, ".snap") > vec![1], "{how}");
        let (file, _, reason) = refused_by_both(&sim.with_file(&path, None));
        assert_eq!(file, path, "{how}");
        assert!(
            reason.contains("this snapshot is missing"),
            "{how}: {reason}"
        );
    }
}

#[test]
fn what_an_earlier_build_restored_opens_and_is_watched_from_its_next_snapshot_on() {
    let sim = restored_earlier();
    let text = Bytes::from("what was restored");
    assert_eq!(
        (names(&sim, ".snap"), names(&sim, ".log")),
        (vec![1], vec![1])
    );
    let (mut journal, found) = items(&sim);
    assert_eq!(found, std::slice::from_ref(&text));
    journal.append(&[record(1)]).unwrap();
    drop(journal);
    let (mut journal, found) = items(&sim);
    assert_eq!(found, [text, record(1)]);
    let mut snapshot = journal.begin_snapshot().unwrap();
    snapshot.write(b"anew").unwrap();
    snapshot.commit().unwrap();
    drop(journal);
    assert_eq!(items(&sim).1, ["anew"]);
    let (path, _) = file(&sim, ".snap");
    assert_eq!(refused_by_both(&sim.with_file(&path, None)).0, path);
}

/// Whatever file goes from whatever a crash leaves: all that was acknowledged is there, or it is refused.
#[test]
fn no_missing_file_goes_unnoticed_after_a_crash_at_any_call() {
    let author = history();
    let (mut refused, mut harmless) = (0, 0);
    for ops in 0..=author.sim.ops() {
        let (low, high) = author.bounds(ops);
        for (how, image) in author.sim.images(ops).into_iter().step_by(5) {
            for path in image.files().into_keys().filter(|p| !named(p, "LOCK")) {
                let image = image.with_file(&path, None);
                let how = format!("after call {ops}, {how}, without {path:?}");
                match open(&image) {
                    Ok((_, found)) => {
                        let count = found.len() as u64;
                        assert!((low..=high).contains(&count), "{how}: {count}, not {low}");
                        assert_eq!(found, expected(count), "{how}");
                        harmless += 1;
                    }
                    Err(JournalError::Corrupt { .. }) => refused += 1,
                    Err(e) => panic!("{how}: {e}"),
                }
            }
        }
    }
    println!("{refused} refused, {harmless} without loss");
    assert!(
        refused > 1_000 && harmless > 1_000,
        "{refused} refused, {harmless} without loss"
    );
}

#[test]
fn a_file_that_was_cut_is_refused_at_every_length() {
    let mut author = Author::new(&Sim::default());
    author.append(4).unwrap();
    author.snapshot(0).unwrap();
    for group in [2, 1, 12, 1, 3, 1, 1] {
        author.append(group).unwrap();
    }
    let all = author.acknowledged;
    let sim = author.sim.copy();
    assert!(names(&sim, ".log").len() >= 3);
    for (path, bytes) in sim.files() {
        if path.to_str().unwrap().contains("spare") || named(&path, "LOCK") {
            continue;
        }
        for len in 0..bytes.len() {
            let image = sim.with_file(&path, Some(bytes[..len].to_vec()));
            if named(&path, "FORMAT") {
                assert!(open(&image).is_err());
                continue;
            }
            let (file, offset, reason) = refused_by_both(&image);
            assert_eq!(file, path, "{len}: {reason}");
            if named(&path, ".log") && len >= segment::HEADER {
                let whole = format!("it was {} bytes long", bytes.len());
                assert!(offset == len as u64 && reason.contains(&whole), "{reason}");
            }
        }
        // Longer ones have lost nothing.
        if named(&path, ".log") {
            let longer = [&bytes[..], &[0; 100]].concat();
            let (_, found) = open(&sim.with_file(&path, Some(longer))).unwrap();
            assert_eq!(found, expected(all));
        }
    }
}

#[test]
fn a_group_larger_than_a_segment_has_a_file_of_its_own_length_and_so_has_what_reuses_it() {
    let mut author = Author::new(&Sim::default());
    author.append(40).unwrap();
    let (path, bytes) = file(&author.sim, ".log");
    assert!(bytes.len() > 2 * 400, "{}", bytes.len());
    let cut = bytes[..bytes.len() - 1].to_vec();
    assert_eq!(refused(&author.sim.with_file(&path, Some(cut))).0, path);

    // Opened with a smaller size of segments, the reserve holds larger ones.
    let Author { sim, journal, .. } = author;
    drop(journal);
    let small = Options {
        segment_bytes: 200,
        ..OPTIONS
    };
    let (mut journal, found) = open_with(&sim, small).unwrap();
    let mut count = found.len() as u64;
    while names(&sim, ".log").len() < 4 {
        count += 1;
        journal.append(&[record(count)]).unwrap();
    }
    drop(journal);
    for (path, bytes) in sim.files().into_iter().filter(|(p, _)| named(p, ".log")) {
        let cut = bytes[..bytes.len() - 1].to_vec();
        assert_eq!(refused(&sim.with_file(&path, Some(cut))).0, path);
    }
    assert_eq!(open(&sim).unwrap().1, expected(count));
}

/// Its header has zeros where the length is now.
#[test]
fn a_segment_of_an_earlier_build_has_the_one_length_that_these_knew() {
    let sim = Sim::default();
    let options = Options::default();
    let (mut journal, _) = open_with(&sim, options).unwrap();
    for n in 1..=5 {
        journal.append(&[record(n)]).unwrap();
    }
    drop(journal);
    let (path, mut bytes) = file(&sim, ".log");
    assert_eq!(bytes[44..52], options.segment_bytes.to_le_bytes());
    bytes[44..52].fill(0);
    let crc = crc32fast::hash(&bytes[16..64]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    let earlier = sim.with_file(&path, Some(bytes.clone()));
    assert_eq!(open_with(&earlier.copy(), options).unwrap().1, expected(5));
    for len in [200, 600, 900, bytes.len() - 1] {
        let image = earlier.with_file(&path, Some(bytes[..len].to_vec()));
        let (file, offset, reason) = refused_by_both(&image);
        assert_eq!((file, offset), (path.clone(), len as u64));
        assert!(reason.contains("it was 4194304 bytes long"), "{reason}");
    }
    // Where another segment follows, that one tells whether it is complete.
    let (mut journal, _) = open_with(&earlier, options).unwrap();
    drop(journal.begin_snapshot().unwrap());
    drop(journal);
    let mut bytes = earlier.files().remove(&path).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    bytes.truncate(end);
    let image = earlier.with_file(&path, Some(bytes.clone()));
    assert_eq!(open_with(&image, options).unwrap().1, expected(5));
    bytes.truncate(end - 30);
    refused_by_both(&earlier.with_file(&path, Some(bytes)));
}

#[test]
fn a_missing_format_is_told_alike_by_who_opens_and_who_looks() {
    let format = dir().join("FORMAT");
    let mut author = Author::new(&Sim::default());
    author.append(3).unwrap();
    let young = author.sim.copy();
    author.snapshot(2).unwrap();
    let disks = [young, author.sim.copy(), restored(), restored_earlier()];
    for (n, sim) in disks.into_iter().enumerate() {
        let image = sim.with_file(&format, None);
        let (file, _, reason) = refused_by_both(&image);
        assert_eq!(file, format, "{n}");
        assert!(reason.contains("missing, beside data"), "{reason}");
        // What else there is was looked at.
        let sound = verify(&sim, &dir(), &mut |_| Ok(())).unwrap();
        let report = verify(&image, &dir(), &mut |_| Ok(())).unwrap();
        assert_eq!(
            (report.records, report.snapshot_chunks),
            (sound.records, sound.snapshot_chunks)
        );
    }
    // A directory that was being made holds nothing to miss.
    let sim = Sim::default();
    drop(open(&sim).unwrap());
    let image = sim.with_file(&format, None);
    let looked = verify(&image, &dir(), &mut |_| Ok(())).unwrap_err();
    assert!(
        matches!(looked, JournalError::NotASynodDirectory { .. }),
        "{looked}"
    );
    assert!(open(&image).unwrap().1.is_empty());
}
