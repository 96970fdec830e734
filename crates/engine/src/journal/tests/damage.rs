//! Flipped bits, missing files, arbitrary bytes: refused, or only the tail is cut; never a hole, never a panic.

use proptest::prelude::*;

use super::super::verify::Report;
use super::super::{segment, verify};
use super::*;

/// A disk with a snapshot and three segments behind it, and how many records it holds in whole groups.
fn journal() -> (Sim, Vec<u64>) {
    let mut author = Author::new(&Sim::default());
    author.append(4).unwrap();
    author.snapshot(0).unwrap();
    for group in [2, 1, 3, 1, 1, 2, 1, 1, 3, 1, 1, 2, 1] {
        author.append(group).unwrap();
    }
    let Author { sim, whole, .. } = author;
    let segments = sim.files().into_keys().filter(|p| named(p, ".log")).count();
    assert!(segments >= 3, "{segments}");
    (sim, whole)
}

fn check(sim: &Sim) -> Report {
    verify(sim, &dir(), &mut |_| Ok(())).unwrap()
}

#[test]
fn every_flipped_bit_is_refused_or_costs_the_last_group_alone() {
    let (sim, whole) = journal();
    let [.., before, all] = whole[..] else {
        panic!()
    };
    let last = file(&sim, ".log").0;
    let (mut refused, mut cut, mut harmless) = (0, 0, 0);
    for (path, bytes) in sim.files() {
        if path.to_str().unwrap().contains("spare") {
            continue;
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let image = sim.with_file(&path, Some(bytes));
            let report = verify(&image, &dir(), &mut |_| Ok(()));
            match open(&image) {
                Err(JournalError::Corrupt { file, .. }) => {
                    assert_eq!(report.unwrap().damage.unwrap().file, file);
                    assert!(
                        file == path || named(&path, ".log"),
                        "{path:?}: blamed {file:?}"
                    );
                    refused += 1;
                }
                Err(JournalError::NewerFormat { .. } | JournalError::NotASynodDirectory { .. }) => {
                    assert!(report.is_err());
                    refused += 1;
                }
                Err(e) => panic!("{path:?} bit {bit}: {e}"),
                Ok((_, found)) => {
                    let report = report.unwrap();
                    assert_eq!(
                        (report.damage, report.records + 4),
                        (None, found.len() as u64)
                    );
                    assert_eq!(found, expected(found.len() as u64));
                    if found.len() as u64 == all {
                        harmless += 1;
                    } else {
                        assert_eq!((found.len() as u64, &path), (before, &last), "bit {bit}");
                        cut += 1;
                    }
                }
            }
        }
    }
    println!("{refused} refused, {cut} cut the last group, {harmless} in unused bytes");
    assert!(refused > 5_000 && cut >= 8 * 28);
}

#[test]
fn every_missing_file_is_noticed() {
    let (sim, _) = journal();
    for path in sim.files().into_keys() {
        if named(&path, "LOCK") || path.to_str().unwrap().contains("spare") {
            continue;
        }
        let image = sim.with_file(&path, None);
        let opened = open(&image);
        assert!(opened.is_err(), "{path:?}");
        let before = sim.with_file(&path, None).files();
        assert_eq!(image.files(), before, "nothing is changed");
    }
}

#[test]
fn a_hole_is_refused_also_when_the_header_before_it_is_gone() {
    let (sim, _) = journal();
    for (path, bytes) in sim.files().into_iter().filter(|(p, _)| named(p, ".log")) {
        let mut bytes = bytes;
        // The first frame zeroed: the segment looks empty but for what follows.
        bytes[segment::HEADER..segment::HEADER + 28].fill(0);
        let image = sim.with_file(&path, Some(bytes));
        let Err(JournalError::Corrupt {
            file,
            offset,
            reason,
        }) = open(&image).map(|_| ())
        else {
            panic!("{path:?} opened");
        };
        assert!((file, offset) == (path, segment::HEADER as u64) && reason.contains("intact"));
    }
}

/// A disk whose last segment holds groups of one record, all of one length; where each begins.
fn equal_frames() -> (Author, PathBuf, Vec<u8>, Vec<usize>) {
    let mut author = Author::new(&Sim::default());
    for _ in 0..2 {
        author.append(1).unwrap();
    }
    let (path, bytes) = file(&author.sim, ".log");
    let begins: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(at, w)| *at >= segment::HEADER && *w == &bytes[segment::HEADER..][..4])
        .map(|(at, _)| at)
        .collect();
    assert_eq!(begins.len(), 2);
    (author, path, bytes, begins)
}

#[test]
fn an_intact_record_in_the_wrong_place_is_refused() {
    let (author, path, mut bytes, begins) = equal_frames();
    // What a misdirected write does: the second frame again as a third.
    let third = 2 * begins[1] - begins[0];
    bytes.copy_within(begins[1]..third, third);
    let image = author.sim.with_file(&path, Some(bytes));
    let Err(JournalError::Corrupt { offset, reason, .. }) = open(&image).map(|_| ()) else {
        panic!("opened");
    };
    assert_eq!(
        (offset, reason.as_str()),
        (third as u64, "record 2 where 3 belongs")
    );
}

#[test]
fn records_lost_before_an_empty_segment_are_noticed() {
    let (mut author, path, _, begins) = equal_frames();
    drop(author.journal.begin_snapshot().unwrap());
    let mut bytes = author.sim.files().remove(&path).unwrap();
    bytes[begins[1]..].fill(0);
    let image = author.sim.with_file(&path, Some(bytes));
    let Err(JournalError::Corrupt { file, reason, .. }) = open(&image).map(|_| ()) else {
        panic!("opened");
    };
    assert!(
        file != path && reason.contains("missing or damaged at its end"),
        "{reason}"
    );
}

#[test]
fn verify_tells_a_torn_tail_and_changes_nothing() {
    let (sim, whole) = journal();
    let (path, bytes) = file(&sim, ".log");
    let sound = check(&sim);
    assert_eq!((sound.damage.clone(), sound.torn_tail), (None, None));
    assert_eq!(
        sound.records + sound.snapshot_chunks,
        whole[whole.len() - 1]
    );
    assert!(sound.snapshot.is_some() && sound.segments >= 3 && sound.snapshot_bytes > 0);

    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    let mut torn = bytes.clone();
    torn[end] = 0;
    let image = sim.with_file(&path, Some(torn));
    let before = image.files();
    let report = check(&image);
    assert!(report.torn_tail.is_some() && report.damage.is_none());
    assert_eq!(image.files(), before);
    drop(open(&image).unwrap());
    assert_eq!(check(&image).torn_tail, None, "opening has cut it");
}

#[test]
fn what_replay_cannot_read_is_damage_at_its_place() {
    let (sim, _) = journal();
    let refuse = &mut |item: Item<'_>| match item {
        Item::Record(7, _) => Err("no such kind".to_owned()),
        _ => Ok(()),
    };
    let opened = FileJournal::open_in(sim.clone(), &dir(), OPTIONS, refuse);
    let error = opened.map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("no such kind") && error.contains(".log"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_as_a_file_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..700), keep in 0usize..200, which in 0usize..5,
    ) {
        let (sim, whole) = journal();
        let files: Vec<_> = sim.files().into_iter().filter(|(p, _)| !named(p, "LOCK")).collect();
        let (path, old) = &files[which % files.len()];
        let new: Vec<u8> = old.iter().take(keep).copied().chain(bytes).collect();
        let image = sim.with_file(path, Some(new));
        if let Ok((_, found)) = open(&image) {
            prop_assert!(whole.contains(&(found.len() as u64)));
            prop_assert_eq!(&found, &expected(found.len() as u64));
        }
    }
}
