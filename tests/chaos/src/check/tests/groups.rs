//! Elections, barriers, the bank and registers.

use super::*;

/// Two leaders, one after the other, and who asks and observes.
fn election() -> (Vec<Entry>, Vec<Event>) {
    let [one, two] = ["chaos/election/a-1", "chaos/election/b-1"];
    let shown = |call: Call, at: u64, token: u64, value: &str| {
        op(Election, "o", call, at, at + 5)
            .told(|answer| (answer.token, answer.value) = (Some(token), Some(value.to_owned())))
    };
    let history = vec![
        op(Election, "v", Call::Acquire, 15, 25)
            .of("a")
            .granted(one, 2),
        op(Election, "v", Call::Proclaim, 26, 35).of("a2").under(2),
        shown(Call::Observe, 27, 2, "a"),
        shown(Call::Leader, 36, 2, "a2"),
        op(Election, "v", Call::Release, 45, 55).under(2),
        op(Election, "w", Call::Acquire, 35, 58)
            .of("b")
            .granted(two, 4),
        op(Election, "w", Call::Proclaim, 59, 65).of("b2").under(4),
        shown(Call::Observe, 66, 4, "b2"),
        shown(Call::Leader, 67, 4, "b2"),
    ];
    let mut events = vec![
        put(2, one, "a"),
        put(3, one, "a2"),
        put(4, two, "b"),
        delete(5, one),
        put(6, two, "b2"),
    ];
    (events[1].created, events[4].created) = (2, 4);
    (history, events)
}

#[test]
fn leaders_lead_one_after_the_other_and_are_shown_so() {
    let (history, events) = election();
    assert_eq!(kinds(&history, events), []);

    let (mut history, events) = election();
    history[5].ended = Some(40);
    assert_eq!(
        kinds(&history, events),
        [Violation],
        "elected while another led"
    );

    let (history, mut events) = election();
    let resigned = events.remove(3);
    events.push(resigned);
    (events[3].revision, events[4].revision) = (5, 6);
    assert!(
        kinds(&history, events).contains(&Violation),
        "proclaimed by who does not lead"
    );

    let (mut history, events) = election();
    history.swap(2, 7);
    assert!(
        kinds(&history, events).contains(&Violation),
        "an older leader after a newer one"
    );

    let (mut history, events) = election();
    history[8] = Entry {
        began: 67,
        ended: Some(70),
        ..history[3].clone()
    };
    assert_eq!(kinds(&history, events), [Violation], "a stale answer");

    let (history, mut events) = election();
    events.remove(1);
    assert!(
        kinds(&history, events).contains(&Lost),
        "a proclamation that never was"
    );
}

#[test]
fn nobody_is_no_answer_while_somebody_leads() {
    let (mut history, mut events) = election();
    let nobody = op(Election, "o", Call::Leader, 27, 34);
    // In the end nobody leads: then that is found in the record always.
    events.push(delete(7, "chaos/election/b-1"));
    history.push(nobody.clone());
    assert_eq!(
        kinds(&history, events.clone()),
        [Violation],
        "one led all the while"
    );
    history.pop();
    history.push(Entry {
        ended: Some(59),
        ..nobody
    });
    assert_eq!(
        kinds(&history, events),
        [],
        "it was proven to lead until 45 only"
    );
}

#[test]
fn a_new_stream_begins_no_earlier_than_the_last_one_was() {
    let (mut history, events) = election();
    history.push(Entry {
        began: 70,
        ended: Some(72),
        ..history[2].clone().counting(2)
    });
    assert_eq!(kinds(&history, events), [Violation]);
}

/// Held by one, released by it; another passes.
fn barrier() -> (Vec<Entry>, Vec<Event>) {
    let history = vec![
        op(Barrier, "v", Call::Hold, 15, 25),
        op(Barrier, "v", Call::Open, 40, 55).yes(),
        op(Barrier, "w", Call::Wait, 26, 56).yes(),
        op(Barrier, "v", Call::Hold, 60, 75),
    ];
    let key = "chaos/barrier";
    (
        history,
        vec![put(2, key, "v"), delete(5, key), put(7, key, "v")],
    )
}

#[test]
fn nobody_passes_a_barrier_that_is_held() {
    let (history, events) = barrier();
    assert_eq!(kinds(&history, events), []);

    let (mut history, events) = barrier();
    history[2].ended = Some(39);
    assert_eq!(
        kinds(&history, events),
        [Violation],
        "passed before it was opened"
    );

    let (mut history, events) = barrier();
    history[2].began = 76;
    history[2].ended = Some(80);
    assert_eq!(
        kinds(&history, events),
        [Violation],
        "passed after it was held again"
    );

    let (mut history, events) = barrier();
    history[1] = history[1].clone().failed();
    assert!(
        kinds(&history, events).contains(&Violation),
        "opened by nobody"
    );

    let (mut history, events) = barrier();
    history[3] = history[3].clone().failed();
    assert_eq!(
        kinds(&history, events),
        [Doubled],
        "held once more than anybody did"
    );

    let (history, mut events) = barrier();
    events.pop();
    assert_eq!(kinds(&history, events), [Lost], "a hold that never was");
}

#[test]
fn one_release_in_doubt_excuses_no_pass_of_later_holds() {
    for doubt in [None, Some(Settled::Happened)] {
        let (mut history, mut events) = barrier();
        history[1] = history[1].clone().unknown(doubt);
        history.push(op(Barrier, "v", Call::Open, 90, 105).yes());
        events.push(delete(10, "chaos/barrier"));
        history.push(op(Barrier, "v", Call::Hold, 110, 125));
        events.push(put(12, "chaos/barrier", "v"));
        assert_eq!(kinds(&history, events.clone()), []);
        for at in [76, 126] {
            let mut history = history.clone();
            history.push(op(Barrier, "w", Call::Wait, at, at + 10).yes());
            assert_eq!(kinds(&history, events.clone()), [Violation], "{at}");
        }
        // A hold in doubt began no earlier than the gap before it.
        history[3] = history[3].clone().unknown(Some(Settled::Happened));
        assert_eq!(kinds(&history, events.clone()), []);
        history.push(op(Barrier, "w", Call::Wait, 126, 130).yes());
        assert_eq!(kinds(&history, events), [Violation]);
    }
}

#[test]
fn a_release_is_one_deletion() {
    let (mut history, events) = barrier();
    history.push(op(Barrier, "w", Call::Open, 41, 56).yes());
    assert_eq!(kinds(&history, events), [Doubled], "two opened it once");

    let (mut history, events) = barrier();
    history[1] = history[1].clone().told(|answer| answer.yes = Some(false));
    assert_eq!(kinds(&history, events), [Violation], "opened by nobody");

    let (mut history, mut events) = barrier();
    events.push(delete(10, "chaos/barrier"));
    history.push(op(Barrier, "v", Call::Open, 90, 105).unknown(Some(Settled::NeverWill)));
    assert_eq!(kinds(&history, events), [Violation], "settled wrongly");
}

/// A round of three.
fn double_barrier() -> (Vec<Entry>, Vec<Event>) {
    let prefix = "__synod/double-barrier/chaos%2Fdouble-barrier/";
    let mut history = Vec::new();
    let mut events = vec![put(2, &format!("{prefix}at/round"), "3 0")];
    for (number, worker) in ["u", "v", "w"].into_iter().enumerate() {
        let at = 30 + 10 * number as u64;
        let enter = op(DoubleBarrier, worker, Call::Enter, at, 65);
        history.push(enter.told(|answer| (answer.yes, answer.token) = (Some(true), Some(1))));
        history.push(
            op(DoubleBarrier, worker, Call::Leave, at + 40, 115)
                .under(1)
                .yes(),
        );
        let place = format!("{prefix}place/00{number}");
        events.push(put(
            4 + number as u64,
            &place,
            &format!("{number:032x} {worker}"),
        ));
    }
    events.push(put(6, &format!("{prefix}at/round"), "3 1"));
    (history, events)
}

#[test]
fn a_group_enters_together_and_leaves_together() {
    let (history, events) = double_barrier();
    assert_eq!(kinds(&history, events), []);

    let (history, mut events) = double_barrier();
    events.remove(3);
    assert!(
        kinds(&history, events).contains(&Violation),
        "full with two of three"
    );

    let (mut history, events) = double_barrier();
    history[0].ended = Some(45);
    assert_eq!(
        kinds(&history, events),
        [Violation],
        "in before the others had come"
    );

    let (mut history, events) = double_barrier();
    history.push(Entry {
        worker: "x".into(),
        ..history[0].clone()
    });
    assert_eq!(kinds(&history, events), [Violation], "a fourth member");

    let (mut history, events) = double_barrier();
    history[1].ended = Some(75);
    assert_eq!(
        kinds(&history, events),
        [Violation],
        "out before the others"
    );

    let (mut history, events) = double_barrier();
    history[5] = history[5].clone().failed();
    history[1].ended = Some(85);
    history[3].ended = Some(85);
    assert_eq!(
        kinds(&history, events),
        [],
        "who had died is not waited for"
    );
}

/// The same three once more, from revision 16 on.
fn double_barrier_twice() -> (Vec<Entry>, Vec<Event>) {
    let (mut history, mut events) = double_barrier();
    let again: Vec<Event> = events[1..4].to_vec();
    for event in &again {
        events.push(delete(10, &event.key));
    }
    for event in again {
        events.push(Event {
            revision: event.revision + 14,
            arrived: event.arrived + 140,
            created: event.created + 14,
            ..event
        });
    }
    let flag = events[0].key.clone();
    events.push(put(20, &flag, "3 2"));
    for mut entry in history.clone() {
        (entry.began, entry.id) = (entry.began + 140, entry.id + 140);
        entry.ended = entry.ended.map(|ended| ended + 140);
        entry.args.token = entry.args.token.map(|_| 2);
        if let Some(Outcome::Ok(answer)) = &mut entry.outcome {
            answer.token = answer.token.map(|_| 2);
        }
        history.push(entry);
    }
    (history, events)
}

#[test]
fn in_later_rounds_too_nobody_is_in_before_all_have_come() {
    let (history, events) = double_barrier_twice();
    assert_eq!(kinds(&history, events), []);

    let (mut history, events) = double_barrier_twice();
    history[6].ended = Some(185);
    assert_eq!(
        kinds(&history, events),
        [Violation],
        "in before the last of the second round had come"
    );

    let (mut history, events) = double_barrier_twice();
    history[10] = history[10].clone().unknown(None);
    assert_eq!(kinds(&history, events.clone()), [], "one was in doubt");
    history[6].ended = Some(185);
    assert_eq!(kinds(&history, events), [Violation], "of the second round");

    let (mut history, events) = double_barrier_twice();
    history[10] = history[10].clone().told(|answer| answer.yes = Some(false));
    assert_eq!(
        kinds(&history, events),
        [Violation],
        "said not to have entered, but counted"
    );
}

fn accounts(revision: u64, balances: [&str; 4]) -> Vec<Event> {
    let key = |number: usize| format!("chaos/stm/account/{number}");
    let all = balances.into_iter().enumerate();
    all.filter(|(_, balance)| !balance.is_empty())
        .map(|(number, balance)| put(revision, &key(number), balance))
        .collect()
}

/// The bank opens, and two transfers are made.
fn bank() -> (Vec<Entry>, Vec<Event>) {
    let (from, to) = ("chaos/stm/account/0", "chaos/stm/account/1");
    let moved = |at: u64, name: &str, amount: u64, revision: u64, read: [&str; 2]| {
        op(Stm, "w", Call::Transfer, at, at + 8)
            .of(name)
            .on(&[from, to, "chaos/stm/log/w.t"])
            .counting(amount)
            .told(|answer| {
                (answer.revision, answer.place) = (Some(revision), Some(0));
                let reads = [from, to].into_iter().zip(read);
                answer.reads = reads.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            })
    };
    let audit = op(Stm, "v", Call::Audit, 46, 49).told(|answer| {
        answer.revision = Some(4);
        let held = accounts(4, ["88 b", "112 b", "100 o", "100 o"]);
        answer.reads = held
            .into_iter()
            .map(|e| (e.key, e.value.unwrap_or_default()))
            .collect();
    });
    let history = vec![
        moved(22, "a", 5, 3, ["100 o", "100 o"]),
        moved(32, "b", 7, 4, ["95 a", "105 a"]),
        audit,
    ];
    let mut events = accounts(2, ["100 o", "100 o", "100 o", "100 o"]);
    events.extend(accounts(3, ["95 a", "105 a", "", ""]));
    events.push(put(3, "chaos/stm/log/w.t", "a"));
    events.extend(accounts(4, ["88 b", "112 b", "", ""]));
    events.push(put(4, "chaos/stm/log/w.t", "b"));
    (history, events)
}

#[test]
fn the_bank_loses_no_transfer() {
    let (history, events) = bank();
    assert_eq!(kinds(&history, events), []);

    let (history, mut events) = bank();
    events[7].value = Some("93 b".into());
    assert!(
        kinds(&history, events).contains(&Lost),
        "a transfer was overwritten"
    );

    let (history, mut events) = bank();
    events.truncate(7);
    assert!(
        kinds(&history, events).contains(&Lost),
        "a transfer never was"
    );

    let (mut history, events) = bank();
    history[1] = history[1].clone().failed();
    assert_eq!(kinds(&history, events), [Violation], "said to have failed");

    let (mut history, events) = bank();
    history[1] = history[1].clone().unknown(Some(Settled::Otherwise));
    assert_eq!(kinds(&history, events), [Violation], "settled wrongly");

    let (mut history, mut events) = bank();
    history[1] = history[1].clone().unknown(Some(Settled::Happened));
    history.pop();
    assert_eq!(kinds(&history, events.clone()), []);
    events.truncate(7);
    assert_eq!(
        kinds(&history, events),
        [Lost],
        "settled wrongly the other way"
    );

    let (mut history, events) = bank();
    if let Some(Outcome::Ok(answer)) = &mut history[1].outcome {
        answer
            .reads
            .insert("chaos/stm/account/0".into(), "100 o".into());
    }
    assert_eq!(kinds(&history, events), [Violation], "a stale read");

    for (third, expected) in [("100 o", vec![]), ("93 c", vec![Violation])] {
        let (mut history, events) = bank();
        if let Some(Outcome::Ok(answer)) = &mut history[1].outcome {
            answer
                .reads
                .insert("chaos/stm/account/2".into(), third.into());
        }
        assert_eq!(
            kinds(&history, events),
            expected,
            "of what it did not write"
        );
    }

    let (mut history, events) = bank();
    if let Some(Outcome::Ok(answer)) = &mut history[2].outcome {
        answer.revision = Some(3);
    }
    assert!(
        kinds(&history, events).contains(&Violation),
        "an audit of another state"
    );

    let (history, mut events) = bank();
    events.extend(accounts(5, ["95 a", "105 a", "", ""]));
    events.push(put(5, "chaos/stm/log/w.t", "a"));
    assert!(
        kinds(&history, events).contains(&Doubled),
        "a transfer committed twice"
    );
}

/// A register that is set, swapped, and read; one swap is refused.
fn register() -> (Vec<Entry>, Vec<Event>) {
    let key = "chaos/txn/0";
    let swap = |at: u64, value: &str, seen: u64| {
        op(Txn, "w", Call::Swap, at, at + 8)
            .of(value)
            .on(&[key])
            .counting(seen)
    };
    let at = |answer: &mut Answer, revision: u64, yes: bool, value: Option<&str>| {
        answer.revision = Some(revision);
        answer.yes = Some(yes);
        answer.value = value.map(str::to_owned);
    };
    let history = vec![
        swap(15, "a", 0).told(|answer| at(answer, 2, true, None)),
        swap(25, "b", 0).told(|answer| at(answer, 3, false, Some("a"))),
        swap(35, "c", 2).told(|answer| at(answer, 4, true, None)),
        op(Txn, "v", Call::Read, 45, 50)
            .on(&[key])
            .told(|answer| at(answer, 4, true, Some("c"))),
    ];
    let mut second = put(4, key, "c");
    second.created = 2;
    (history, vec![put(2, key, "a"), second])
}

#[test]
fn registers_are_strictly_serializable() {
    let (history, events) = register();
    assert_eq!(kinds(&history, events), []);

    let (history, mut events) = register();
    events.insert(1, put(3, "chaos/txn/0", "b"));
    assert!(
        kinds(&history, events).contains(&Violation),
        "swapped although it was refused"
    );

    let (history, mut events) = register();
    events.pop();
    assert!(
        kinds(&history, events).contains(&Lost),
        "a swap that never was"
    );

    let (mut history, events) = register();
    history[2].args.number = Some(0);
    assert_eq!(
        kinds(&history, events),
        [Violation],
        "swapped over something else"
    );

    let (mut history, events) = register();
    if let Some(Outcome::Ok(answer)) = &mut history[3].outcome {
        answer.value = Some("a".into());
    }
    assert_eq!(kinds(&history, events), [Violation], "a read of the past");

    let (mut history, events) = register();
    if let Some(Outcome::Ok(answer)) = &mut history[3].outcome {
        (answer.value, answer.revision) = (Some("a".into()), Some(3));
    }
    assert_eq!(kinds(&history, events), [Violation], "against real time");

    let (mut history, mut events) = register();
    history[2] = history[2].clone().unknown(Some(Settled::Happened));
    history.pop();
    assert_eq!(kinds(&history, events.clone()), []);
    events.pop();
    assert_eq!(
        kinds(&history, events),
        [Lost],
        "settled as done, and never was"
    );

    let (mut history, events) = register();
    history[1].args.number = Some(2);
    assert_eq!(
        kinds(&history, events),
        [Violation],
        "refused although it had seen what stood there"
    );

    let (mut history, events) = register();
    history[2] = history[2].clone().unknown(Some(Settled::NeverWill));
    assert_eq!(kinds(&history, events), [Violation], "settled wrongly");
}
