//! Calls that fail, and a full disk: never an acknowledgement that does not hold, and a reopen finds them all.

use super::*;

/// Some appends and a snapshot; stops at the first error.
fn run(author: &mut Author) -> Result<(), JournalError> {
    for group in [1, 2, 1] {
        author.append(group)?;
    }
    author.snapshot(1)?;
    for group in [1, 1, 9, 1] {
        author.append(group)?;
    }
    Ok(())
}

#[test]
fn after_any_failed_call_nothing_acknowledged_is_lost() {
    let (mut poisoned, mut refused) = (0, 0);
    for call in 0.. {
        let sim = Sim::default();
        let mut author = Author::new(&sim);
        sim.fail_call(call);
        let outcome = run(&mut author);
        if !sim.has_failed() {
            outcome.unwrap();
            println!("{call} calls, {poisoned} poisoned, {refused} refused");
            assert!(call > 30 && poisoned > 15 && refused > 5);
            break;
        }
        let mut tried = author.whole[author.whole.len() - 1];
        let unfinished = tried > author.acknowledged;
        let later = author.append(1);
        if matches!(outcome, Err(JournalError::NoSegment { .. })) {
            // The log was not touched: what was refused is not there, and the next is taken.
            later.unwrap();
            tried = author.acknowledged;
            refused += 1;
        } else if unfinished {
            // An append that failed is the last: no later one is acknowledged.
            assert!(
                matches!(later, Err(JournalError::Poisoned { .. })),
                "call {call}: {later:?}"
            );
            assert!(author.journal.begin_snapshot().is_err());
            poisoned += 1;
        }
        let bounds = (author.acknowledged, tried.max(author.acknowledged));
        let how = format!("call {call} failed");
        author.check(&sim.power_loss(), bounds, &format!("{how}, power lost"));
        author.check(&sim.copy(), bounds, &format!("{how}, killed"));

        // The same running system: its memory may show what its disk does not have.
        let Author { journal, whole, .. } = author;
        drop(journal);
        let mut again = Author::new(&sim);
        again.whole.extend(whole);
        assert!(
            (bounds.0..=bounds.1).contains(&again.acknowledged),
            "{how}, reopened"
        );
        let shown = (again.acknowledged, again.acknowledged);
        again.check(
            &sim.power_loss(),
            shown,
            &format!("{how}, shown, power lost"),
        );
        again.append(1).unwrap();
        let all = (again.acknowledged, again.acknowledged);
        again.check(
            &sim.power_loss(),
            all,
            &format!("{how}, reopened, power lost"),
        );
    }
}

#[test]
fn a_full_disk_is_told_early_then_refuses_and_works_again_when_there_is_space() {
    let sim = Sim::default();
    let mut author = Author::new(&sim);
    sim.set_capacity(Some(1_500));
    while !author.journal.is_low_on_space() {
        author.append(1).unwrap();
    }
    let told = author.acknowledged;
    let error = loop {
        if let Err(e) = author.append(1) {
            break e;
        }
    };
    assert!(
        author.acknowledged >= told + 4,
        "told at {told}, refused at {}",
        author.acknowledged
    );
    assert!(matches!(error, JournalError::NoSpace { .. }), "{error}");
    assert!(
        author.append(1).unwrap_err().is_no_space(),
        "still full, and not poisoned"
    );
    assert!(author.journal.is_low_on_space());
    assert!(
        sim.files().keys().all(|p| !named(p, ".tmp")),
        "no half segment takes up space"
    );
    author.whole.push(author.acknowledged);

    // Also a process that starts on the full disk reads all, and is told.
    let full = sim.copy();
    full.set_capacity(Some(1_500));
    let (mut journal, found) = open(&full).unwrap();
    assert_eq!(found, expected(author.acknowledged));
    assert!(journal.is_low_on_space());
    drop(journal);
    let all = (author.acknowledged, author.acknowledged);
    author.check(&sim.power_loss(), all, "full");

    sim.set_capacity(None);
    sim.refuse_descriptors(0, usize::MAX);
    assert!(author.journal.is_low_on_space(), "nobody knows better yet");
    sim.refuse_descriptors(0, 0);
    assert!(!author.journal.is_low_on_space());
    author.append(2).unwrap();
    let all = (author.acknowledged, author.acknowledged);
    author.check(&sim.power_loss(), all, "space again");
}

/// However long there are no descriptors, from whichever call on: what needed one is refused, and nothing else.
#[test]
fn a_missing_descriptor_refuses_a_group_and_never_the_next() {
    let mut refused = 0;
    for (calls, from) in [1, 9, 60]
        .into_iter()
        .flat_map(|calls| (0..120).map(move |from| (calls, from)))
    {
        let sim = Sim::default();
        let mut author = Author::new(&sim);
        sim.refuse_descriptors(from, calls);
        let how = format!("{calls} calls from {from} on without a descriptor");
        let mut check = |outcome: Result<(), JournalError>| match outcome {
            Ok(()) => {}
            Err(error @ (JournalError::NoSegment { .. } | JournalError::Io { .. })) => {
                refused += 1;
                let text = error.to_string();
                assert!(
                    !cfg!(unix) || text.contains("raise its limit (`ulimit -n`)"),
                    "{how}: {text}"
                );
            }
            Err(other) => panic!("{how}: {other}"),
        };
        for group in [1, 1, 9, 1, 1, 1, 1] {
            check(author.append(group));
            assert!(!author.journal.is_low_on_space(), "{how}: no full disk");
        }
        check(author.snapshot(1));
        for group in [1, 1, 9, 1] {
            check(author.append(group));
        }
        check(author.snapshot(0));
        sim.refuse_descriptors(0, 0);
        author.append(1).unwrap();
        let all = (author.acknowledged, author.acknowledged);
        author.check(&sim.power_loss(), all, &format!("{how}, power lost"));
        author.check(&sim.copy(), all, &format!("{how}, killed"));
        assert!(!author.journal.is_low_on_space(), "{how}: a reserve again");
        let spare =
            |path: &PathBuf| path.starts_with(dir()) && path.to_string_lossy().contains("spare.");
        assert!(sim.files().keys().any(spare), "{how}");
    }
    assert!(refused > 100, "{refused}");
}

fn logs(sim: &Sim) -> usize {
    let files = sim.files();
    files.keys().filter(|path| named(path, ".log")).count()
}

/// Making the next segment needs descriptors; from then on the log has all that it needs.
#[test]
fn an_append_that_has_its_segment_needs_no_descriptor() {
    let sim = Sim::default();
    let mut author = Author::new(&sim);
    let (mut kept, mut rolled) = (0, 0);
    for _ in 0..40 {
        let before = logs(&sim);
        // What making the segment takes, and no more.
        sim.refuse_descriptors(2, usize::MAX);
        match author.append(1) {
            Ok(()) => kept += 1,
            Err(error) => panic!("{error}"),
        }
        sim.refuse_descriptors(0, 0);
        rolled += logs(&sim) - before;
        // The next one finds a reserve.
        assert!(!author.journal.is_low_on_space());
    }
    assert!(kept == 40 && rolled > 3, "{kept} {rolled}");
    author.check(&sim.power_loss(), (40, 40), "none left");
}

#[test]
fn a_full_disk_stops_a_snapshot_and_not_the_log() {
    let sim = Sim::default();
    let mut author = Author::new(&sim);
    for _ in 0..12 {
        author.append(1).unwrap();
    }
    let log = author.journal.log_bytes();
    let mut snapshot = author.journal.begin_snapshot().unwrap();
    sim.set_capacity(Some(sim.used()));
    let full = (1..=12)
        .try_for_each(|n| snapshot.write(&record(n)))
        .and_then(|()| snapshot.commit());
    assert!(full.unwrap_err().is_no_space());
    author.append(1).unwrap();
    assert!(author.journal.log_bytes() > log, "it covers nothing");
    author.check(&sim.power_loss(), (13, 13), "no snapshot");

    // One that succeeds covers what was there when it began, and nothing of what came meanwhile.
    sim.set_capacity(None);
    author.snapshot(1).unwrap();
    let last = author.journal.log_bytes();
    assert!(last > 0 && last < log, "{last} of {log}");
}

/// Whichever call of it fails, also for want of space: the log is whole, and goes on where nobody knows otherwise.
#[test]
fn a_failed_snapshot_on_a_full_disk_loses_nothing() {
    let (mut refused, mut poisoned, mut late) = (0, 0, 0);
    for (call, fills) in (0..).flat_map(|call| [(call, false), (call, true)]) {
        let sim = Sim::default();
        let mut author = Author::new(&sim);
        author.fill_disk(399);
        if fills {
            sim.fill_at_call(call);
        } else {
            sim.fail_call(call);
        }
        let outcome = author.tight_snapshot();
        if !sim.has_failed() {
            outcome.unwrap();
            println!("{call} calls, {refused} refused, {poisoned} poisoned, {late} late");
            assert!(call > 10 && refused > 8 && poisoned > 3 && late > 1);
            break;
        }
        let how = format!("call {call} failed, full {fills}");
        let all = (author.acknowledged, author.acknowledged);
        author.check(&sim.power_loss(), all, &format!("{how}, power lost"));
        author.check(&sim.copy(), all, &format!("{how}, killed"));
        assert!(
            !sim.files().keys().any(|path| named(path, "next.tmp")) || outcome.is_err(),
            "{how}"
        );
        let mut is_late = false;
        match author.append(1) {
            // There was room for one before, and is now.
            Ok(()) => refused += usize::from(outcome.is_err()),
            Err(JournalError::Poisoned { .. }) if outcome.is_err() => poisoned += 1,
            // The log went on, and the snapshot has no name, or one that may not be durable: the small segment has no
            // room, but another try, or opening it again, gives back what is covered.
            Err(error) => {
                assert!(error.is_no_space() && outcome.is_err(), "{how}: {error}");
                late += 1;
                if author.tight_snapshot().is_ok() {
                    author.append(1).unwrap();
                }
                is_late = true;
            }
        }
        let tried = (all.0, all.0 + 1);
        author.check(
            &sim.power_loss(),
            tried,
            &format!("{how}, gone on, power lost"),
        );
        // In the same running system.
        let Author { journal, .. } = author;
        drop(journal);
        if !is_late {
            sim.set_capacity(None);
        }
        let mut again = Author::new(&sim);
        again.append(1).unwrap();
        again.check(
            &sim.power_loss(),
            (again.acknowledged, again.acknowledged),
            &how,
        );
    }
}

#[test]
fn a_group_that_no_segment_can_hold_is_refused_and_nothing_else() {
    let mut author = Author::new(&Sim::default());
    let huge = Bytes::from(vec![0; 1 << 20]);
    let refused = author.journal.append(&vec![huge; 1_025]);
    assert!(matches!(refused, Err(JournalError::TooLarge { .. })));
    author.append(1).unwrap();
}
