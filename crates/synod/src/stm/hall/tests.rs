//! The board on its own: who sees what, who may join, and what becomes of them.

use synod_store::{KeyValue, RangeResponse};
use tokio::sync::oneshot::{self, Receiver};

use super::board::Board;
use super::*;

const LEVEL: Isolation = Isolation::SerializableSnapshot;

/// A board that knows keys as of revision 10, each put at revision 5.
fn board(keys: &[&str]) -> Board {
    let mut board = Board::default();
    let mut fetched = Fetched::at(Revision(10));
    for key in keys {
        fetched.add(KeyRange::one(*key), found(&[(key, 5)]));
    }
    board.learn(&fetched, false);
    board
}

fn found(pairs: &[(&str, u64)]) -> RangeResponse {
    let kv = |(key, revision): &(&str, u64)| KeyValue {
        key: Key::from(*key),
        value: "old".into(),
        mod_revision: Revision(*revision),
        ..KeyValue::default()
    };
    RangeResponse {
        kvs: pairs.iter().map(kv).collect(),
        ..RangeResponse::default()
    }
}

/// An attempt that reads keys of the board, and writes keys.
fn attempt(board: &Board, reads: &[&str], writes: &[&str]) -> Sets {
    let mut sets = Sets::new(LEVEL, None);
    sets.begin_on_board(board.step(), board.base().unwrap());
    for key in reads {
        assert_eq!(board.take(&mut sets, &KeyRange::one(*key)), Said::Noted);
    }
    for key in writes {
        sets.put(Key::from(*key), "new".into(), None);
    }
    sets
}

fn join(board: &mut Board, sets: &Sets) -> std::result::Result<(u64, Receiver<Answer>), Refusal> {
    let (sender, answer) = oneshot::channel();
    Ok((board.join(sets, sender)?, answer))
}

fn value(sets: &mut Sets, key: &str) -> String {
    let value = sets.get(&Key::from(key)).flatten().unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

#[test]
fn who_leaves_takes_along_what_it_wrote_and_who_saw_it() {
    let mut board = board(&["a", "b"]);
    let before = attempt(&board, &["b"], &["b"]);
    let (_, mut stays) = join(&mut board, &before).unwrap();
    let first = attempt(&board, &["a"], &["a", "c"]);
    let (id, _) = join(&mut board, &first).unwrap();
    let mut second = attempt(&board, &["a"], &["a"]);
    assert_eq!(value(&mut second, "a"), "new");
    let (_, mut answer) = join(&mut board, &second).unwrap();
    let third = attempt(&board, &["a"], &["d"]);
    assert!(board.leave(id));
    assert!(matches!(answer.try_recv(), Ok(Answer::Stale)));
    assert!(stays.try_recv().is_err());
    // One that has read it, and has not joined yet, cannot any more.
    assert_eq!(join(&mut board, &third).unwrap_err(), Refusal::Stale);
    assert_eq!(board.group.ops().len(), 1);
    let mut again = Sets::new(LEVEL, None);
    again.begin_on_board(board.step(), board.base().unwrap());
    assert_eq!(board.take(&mut again, &KeyRange::one("a")), Said::Noted);
    assert_eq!(board.take(&mut again, &KeyRange::one("c")), Said::Unknown);
    again.put("x".into(), "".into(), None);
    assert_eq!(again.get(&"a".into()).flatten().unwrap(), "old");
    assert!(join(&mut board, &again).is_ok());
    // Nobody leaves after the take-off.
    assert!(board.take_off());
    assert!(!board.leave(1));
}

#[test]
fn who_was_overtaken_does_not_join() {
    for (reads, writes, overtaken) in [
        (["a", "b"], ["x"], true),
        (["b", "b"], ["a"], true),
        (["b", "b"], ["x"], false),
    ] {
        let mut board = board(&["a", "b"]);
        let slow = attempt(&board, &reads, &writes);
        let quick = attempt(&board, &["a"], &["a"]);
        join(&mut board, &quick).unwrap();
        assert_eq!(join(&mut board, &slow).is_err(), overtaken, "{reads:?}");
        // Whatever it has read of before, it sees no mixture.
        let mut slow = slow;
        if reads[0] == "b" {
            assert_eq!(board.take(&mut slow, &KeyRange::one("a")), Said::Stale);
        }
    }
}

#[test]
fn a_key_that_comes_into_a_range_is_a_change_of_it() {
    let mut board = board(&["a"]);
    let range = KeyRange::prefix("r/");
    let mut fetched = Fetched::at(Revision(10));
    fetched.add(range.clone(), found(&[("r/1", 5)]));
    board.learn(&fetched, true);
    let mut slow = attempt(&board, &[], &["x"]);
    assert_eq!(board.take(&mut slow, &range), Said::Noted);
    let quick = attempt(&board, &["a"], &["r/2"]);
    join(&mut board, &quick).unwrap();
    assert_eq!(join(&mut board, &slow).unwrap_err(), Refusal::Stale);
    let mut next = attempt(&board, &[], &[]);
    assert_eq!(board.take(&mut next, &range), Said::Noted);
    assert_eq!(next.range(&range).len(), 2);
}

/// Only what a commit has compared is known to be so after it, unless nobody else was there.
#[test]
fn what_others_may_have_changed_is_forgotten() {
    for (revision, kept) in [(11, true), (12, false)] {
        let mut board = board(&["a", "b"]);
        let early = attempt(&board, &["b"], &["x"]);
        let one = attempt(&board, &["a"], &["a"]);
        join(&mut board, &one).unwrap();
        assert!(board.take_off());
        assert_eq!(join(&mut board, &early).unwrap_err(), Refusal::NotNow);
        board.land(Revision(revision));
        assert_eq!(board.base(), Some(Revision(revision)));
        assert!(board.knows(&KeyRange::one("a")));
        assert_eq!(board.knows(&KeyRange::one("b")), kept);
        // What it read is of a state that can be followed only then.
        assert_eq!(join(&mut board, &early).is_ok(), kept);
        let next = attempt(&board, &["a"], &["a"]);
        assert_eq!(next.reads()[&Key::from("a")].revision, Revision(revision));
    }
}

#[test]
fn after_a_conflict_nothing_that_was_seen_holds() {
    let mut board = board(&["a", "b"]);
    let one = attempt(&board, &["a"], &["a"]);
    join(&mut board, &one).unwrap();
    let seen = attempt(&board, &["a"], &["b"]);
    board.take_off();
    let mut fetched = Fetched::at(Revision(20));
    fetched.add(KeyRange::one("a"), found(&[("a", 19)]));
    board.fail(Some(fetched));
    assert_eq!(join(&mut board, &seen).unwrap_err(), Refusal::Stale);
    let next = attempt(&board, &["a"], &["a"]);
    assert_eq!(next.reads()[&Key::from("a")].revision, Revision(19));
    assert!(join(&mut board, &next).is_ok());
}

/// An attempt that has read the store joins a group only if it is not in the way of a member.
#[test]
fn who_read_the_store_sees_nothing_that_pends() {
    for (key, revision, joins) in [("a", 5, false), ("b", 5, true), ("b", 9, false)] {
        let mut board = board(&["a", "b"]);
        let one = attempt(&board, &["a", "b"], &["a"]);
        join(&mut board, &one).unwrap();
        let mut sets = Sets::new(LEVEL, None);
        let mut fetched = Fetched::at(Revision(10));
        fetched.add(KeyRange::one(key), found(&[(key, revision)]));
        sets.note(fetched);
        sets.put("x".into(), "".into(), None);
        assert_eq!(join(&mut board, &sets).is_ok(), joins, "{key} {revision}");
    }
}
