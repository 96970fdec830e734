//! Histories that are wrong on purpose: each checker objects to what it is there for, and to nothing in
//! the history before it was spoilt. Times are ten times the revisions.

mod groups;
mod lanes;

use super::{Kind, check_one};
use crate::history::{Answer, Args, Call, Entry, Outcome, Settled};
use crate::primitive::Primitive;
use crate::record::{Event, Record};

/// An operation of worker `w`, from one time to another.
fn op(primitive: Primitive, worker: &str, call: Call, from: u64, to: u64) -> Entry {
    Entry {
        worker: worker.to_owned(),
        task: "t".to_owned(),
        id: from,
        primitive,
        call,
        args: Args::default(),
        began: from,
        ended: Some(to),
        outcome: Some(Outcome::Ok(Answer::default())),
        settled: None,
    }
}

impl Entry {
    fn of(mut self, value: &str) -> Entry {
        self.args.value = Some(value.to_owned());
        self
    }

    fn under(mut self, token: u64) -> Entry {
        self.args.token = Some(token);
        self
    }

    fn counting(mut self, number: u64) -> Entry {
        self.args.number = Some(number);
        self
    }

    fn on(mut self, keys: &[&str]) -> Entry {
        self.args.keys = keys.iter().map(ToString::to_string).collect();
        self
    }

    fn mode(mut self, mode: &str) -> Entry {
        self.args.mode = Some(mode.to_owned());
        self
    }

    fn told(mut self, tell: impl FnOnce(&mut Answer)) -> Entry {
        let mut answer = Answer::default();
        tell(&mut answer);
        self.outcome = Some(Outcome::Ok(answer));
        self
    }

    fn got(self, value: &str) -> Entry {
        self.told(|answer| answer.value = Some(value.to_owned()))
    }

    fn granted(self, key: &str, token: u64) -> Entry {
        self.told(|answer| (answer.key, answer.token) = (Some(key.to_owned()), Some(token)))
    }

    fn yes(self) -> Entry {
        self.told(|answer| answer.yes = Some(true))
    }

    fn failed(mut self) -> Entry {
        self.outcome = Some(Outcome::Failed("no".to_owned()));
        self
    }

    fn killed(mut self) -> Entry {
        (self.ended, self.outcome) = (None, None);
        self
    }

    fn unknown(self, settled: Option<Settled>) -> Entry {
        self.doubted("t", settled)
    }

    fn doubted(mut self, token: &str, settled: Option<Settled>) -> Entry {
        self.outcome = Some(Outcome::Unknown {
            error: "late".to_owned(),
            token: Some(token.to_owned()),
        });
        self.settled = settled;
        self
    }
}

fn put(revision: u64, key: &str, value: &str) -> Event {
    Event {
        revision,
        arrived: revision * 10,
        key: key.to_owned(),
        value: Some(value.to_owned()),
        created: revision,
    }
}

fn delete(revision: u64, key: &str) -> Event {
    Event {
        value: None,
        created: 0,
        ..put(revision, key, "")
    }
}

/// What the checker says: kinds, each once.
fn kinds(history: &[Entry], events: Vec<Event>) -> Vec<Kind> {
    let entries: Vec<&Entry> = history.iter().collect();
    let record = Record { events };
    let mut kinds: Vec<Kind> = check_one(history[0].primitive, &entries, &record, true)
        .into_iter()
        .map(|finding| finding.kind)
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

use Kind::{Doubled, Lost, Violation};
use Primitive::{
    Barrier, Delivery, DoubleBarrier, Election, Mutex, PriorityQueue, Queue, Rwlock, Semaphore,
    Stm, Txn,
};

/// Two producers, one consumer: a and b in, a and b out.
fn queue(primitive: Primitive) -> (Vec<Entry>, Vec<Event>) {
    let prefix = primitive.prefix();
    let [a, b] = ["0/1", "0/2"].map(|key| format!("{prefix}{key}"));
    let history = vec![
        op(primitive, "p", Call::Enqueue, 15, 25).of("a"),
        op(primitive, "p", Call::Enqueue, 26, 35).of("b"),
        op(primitive, "c", Call::Dequeue, 36, 45).got("a"),
        op(primitive, "c", Call::Dequeue, 46, 55).got("b"),
    ];
    let events = vec![
        put(2, &a, "a"),
        put(3, &b, "b"),
        delete(4, &a),
        delete(5, &b),
    ];
    (history, events)
}

#[test]
fn queues_lose_double_and_reorder_nothing() {
    for primitive in [Queue, PriorityQueue] {
        let good = || queue(primitive);
        let (history, events) = good();
        assert_eq!(kinds(&history, events), []);

        let (history, mut events) = good();
        events.retain(|event| !event.key.ends_with('2'));
        assert!(
            kinds(&history, events).contains(&Lost),
            "acknowledged, never put"
        );

        let (mut history, events) = good();
        history[3] = history[3].clone().failed();
        assert_eq!(kinds(&history, events), [Lost], "taken out, got by nobody");

        let (mut history, events) = good();
        history[3] = history[3].clone().killed();
        assert_eq!(
            kinds(&history, events),
            [],
            "a killed consumer may have had it"
        );

        let (mut history, events) = good();
        history.push(op(primitive, "d", Call::Dequeue, 46, 56).got("b"));
        assert_eq!(
            kinds(&history, events),
            [Doubled],
            "one item came out twice"
        );

        let (history, mut events) = good();
        events.push(put(6, &events[0].key.clone(), "a"));
        assert!(kinds(&history, events).contains(&Doubled), "it came back");

        let (history, mut events) = good();
        events.insert(2, put(3, &format!("{}0/3", primitive.prefix()), "b"));
        assert!(
            kinds(&history, events).contains(&Doubled),
            "it was put twice"
        );

        let (history, mut events) = good();
        (events[2].key, events[3].key) = (events[3].key.clone(), events[2].key.clone());
        assert_eq!(
            kinds(&history, events),
            [Violation],
            "the second came out first"
        );

        let (mut history, events) = good();
        history[0] = history[0].clone().failed();
        assert_eq!(
            kinds(&history, events),
            [Violation],
            "it was said to have failed"
        );

        let (mut history, events) = good();
        history[0] = history[0].clone().unknown(Some(Settled::NeverWill));
        assert_eq!(
            kinds(&history, events),
            [Violation],
            "it was settled wrongly"
        );

        let (mut history, mut events) = good();
        history.remove(0);
        assert!(
            kinds(&history, events.clone()).contains(&Violation),
            "put by nobody"
        );

        let (history, _) = good();
        (events[0].revision, events[1].revision) = (3, 2);
        events.swap(0, 1);
        assert!(
            kinds(&history, events).contains(&Violation),
            "against real time"
        );

        let (mut history, mut events) = good();
        history.truncate(3);
        events.truncate(3);
        assert_eq!(
            kinds(&history, events),
            [Violation],
            "left over after all was drained"
        );
    }
}

#[test]
fn what_comes_into_a_priority_comes_behind_what_is_there() {
    for (primitive, expected) in [(PriorityQueue, vec![Violation]), (Queue, vec![])] {
        let (mut history, mut events) = queue(primitive);
        events[1].key = format!("{}0/0", primitive.prefix());
        events[3].key = events[1].key.clone();
        if primitive == PriorityQueue {
            // It leaves by the order of keys, too: only its coming was wrong.
            events.swap(2, 3);
            (events[2].revision, events[3].revision) = (4, 5);
            (history[2], history[3]) = (history[2].clone().got("b"), history[3].clone().got("a"));
        }
        assert_eq!(kinds(&history, events), expected);
    }
}

/// One item, given back once, then acknowledged.
fn delivery() -> (Vec<Entry>, Vec<Event>) {
    let beside = "__synod/queue/chaos%2Fdelivery/";
    let item = "chaos/delivery/1";
    let took = |from: u64, attempt: u64| {
        op(Delivery, "c", Call::Take, from, from + 9)
            .told(|answer| (answer.value, answer.token) = (Some("a".into()), Some(attempt)))
    };
    let history = vec![
        op(Delivery, "p", Call::Enqueue, 15, 25).of("a"),
        took(26, 1),
        op(Delivery, "c", Call::Nack, 36, 45).of("a").under(1),
        took(46, 2),
        op(Delivery, "c", Call::Ack, 56, 65).of("a").under(2),
    ];
    let (taken, marker) = (format!("{beside}taken/"), format!("{beside}taken-by/"));
    let record = |attempt: u32| format!("1 {attempt} 0 1 1\na");
    let events = vec![
        put(2, item, "a"),
        delete(3, item),
        put(3, &format!("{taken}x"), &record(1)),
        put(3, &format!("{marker}x"), "c"),
        delete(4, &format!("{taken}x")),
        delete(4, &format!("{marker}x")),
        put(4, item, "a"),
        delete(5, item),
        put(5, &format!("{taken}y"), &record(2)),
        put(5, &format!("{marker}y"), "c"),
        delete(6, &format!("{taken}y")),
        delete(6, &format!("{marker}y")),
    ];
    (history, events)
}

#[test]
fn deliveries_end_once_and_come_back_only_when_nobody_has_them() {
    let (history, events) = delivery();
    assert_eq!(kinds(&history, events), []);

    let (mut history, events) = delivery();
    history.pop();
    assert_eq!(
        kinds(&history, events),
        [Lost],
        "it left, and nobody acknowledged it"
    );

    let (mut history, events) = delivery();
    history[4] = history[4].clone().failed();
    assert_eq!(
        kinds(&history, events),
        [Lost],
        "its acknowledgement had failed"
    );

    let (mut history, events) = delivery();
    history[4] = history[4].clone().unknown(Some(Settled::NeverWill));
    assert!(
        kinds(&history, events).contains(&Violation),
        "settled wrongly"
    );

    let (history, mut events) = delivery();
    events.truncate(10);
    assert!(
        kinds(&history, events).contains(&Doubled),
        "acknowledged, and still there"
    );

    let (history, mut events) = delivery();
    events.push(put(7, "chaos/delivery/9", "a"));
    assert!(
        kinds(&history, events).contains(&Doubled),
        "it came back after its end"
    );

    let (history, mut events) = delivery();
    events.remove(5);
    assert!(
        kinds(&history, events).contains(&Doubled),
        "it came back while somebody had it"
    );

    let (mut history, events) = delivery();
    history.push(Entry {
        worker: "d".into(),
        ..history[3].clone()
    });
    assert_eq!(kinds(&history, events), [Doubled], "two got one delivery");

    let (history, mut events) = delivery();
    events.remove(6);
    assert!(
        kinds(&history, events).contains(&Lost),
        "a nack has dropped it"
    );
}

#[test]
fn what_is_given_back_comes_back_and_who_acknowledges_has_it() {
    let (mut history, mut events) = delivery();
    history.truncate(3);
    events.truncate(4);
    assert!(
        kinds(&history, events).contains(&Violation),
        "given back, and did not come back"
    );

    let (mut history, events) = delivery();
    history[4].args.token = Some(1);
    history.push(Entry {
        worker: "d".into(),
        ..history[4].clone().under(2).unknown(None)
    });
    assert_eq!(
        kinds(&history, events),
        [Violation],
        "a stale acknowledgement was said to be good"
    );
}

/// Two holders, one after the other; each writes under its guard.
fn lock(primitive: Primitive) -> (Vec<Entry>, Vec<Event>) {
    let line = match primitive {
        Semaphore => "__synod/semaphore/chaos%2Fsemaphore/line/".to_owned(),
        Rwlock => format!("{}write/", primitive.prefix()),
        _ => primitive.prefix(),
    };
    let (one, two) = (format!("{line}2-a-1"), format!("{line}2-b-1"));
    let data = primitive.guarded();
    let held = |worker: &str, from: u64, key: &str, token: u64, value: &str| {
        let own = |call: Call, at: u64| op(primitive, worker, call, at, at + 9).mode("write");
        vec![
            own(Call::Acquire, from).granted(key, token).counting(2),
            own(Call::Write, from + 10).of(value).under(token),
            own(Call::Release, from + 20).under(token),
        ]
    };
    let mut history = held("v", 16, &one, 2, "a");
    history.extend(held("w", 46, &two, 5, "b"));
    let events = vec![
        put(2, &one, "v"),
        put(3, &data, "a"),
        delete(4, &one),
        put(5, &two, "w"),
        put(6, &data, "b"),
        delete(7, &two),
    ];
    (history, events)
}

#[test]
fn locks_let_in_one_and_tokens_of_the_past_write_nothing() {
    for primitive in [Mutex, Rwlock, Semaphore] {
        let good = || lock(primitive);
        let (history, events) = good();
        assert_eq!(kinds(&history, events), []);

        let (mut history, events) = good();
        history[3].ended = Some(30);
        history[3].began = 20;
        assert!(
            kinds(&history, events).contains(&Violation),
            "in while another wrote"
        );

        let (history, mut events) = good();
        let first = events.remove(2);
        events.push(first);
        assert!(
            kinds(&history, events).contains(&Violation),
            "written though another was before"
        );

        let (history, mut events) = good();
        events.swap(1, 2);
        (events[1].revision, events[2].revision) = (3, 4);
        assert!(
            kinds(&history, events).contains(&Violation),
            "written after the release"
        );

        let (mut history, events) = good();
        history[1].call = Call::StaleWrite;
        assert_eq!(
            kinds(&history, events),
            [Violation],
            "a token of the past was accepted"
        );

        // After a release in doubt it is one of the present, until that has happened.
        let (mut history, mut events) = good();
        history[1].call = Call::StaleWrite;
        history[2] = history[2].clone().unknown(None);
        assert_eq!(kinds(&history, events.clone()), []);
        events.swap(1, 2);
        (events[1].revision, events[2].revision) = (3, 4);
        assert_eq!(
            kinds(&history, events),
            [Violation],
            "accepted after the release"
        );

        let (history, mut events) = good();
        events.remove(1);
        assert_eq!(kinds(&history, events), [Lost], "never written");

        let (mut history, events) = good();
        history[1] = history[1].clone().failed();
        assert_eq!(
            kinds(&history, events),
            [Violation],
            "said to be refused, but written"
        );

        let (mut history, events) = good();
        history[3] = history[3].clone().granted(&events[0].key, 2);
        assert!(
            kinds(&history, events).contains(&Doubled),
            "one token given twice"
        );

        let (mut history, events) = good();
        history[3] = history[3].clone().granted("nowhere", 5);
        assert!(kinds(&history, events).contains(&Violation), "no such key");
    }
}

/// A reader between two writers.
fn reader() -> (Vec<Entry>, Vec<Event>) {
    let (mut history, mut events) = lock(Rwlock);
    let key = format!("{}read/4-r-1", Rwlock.prefix());
    let acquire = op(Rwlock, "r", Call::Acquire, 39, 42).mode("read");
    history.push(acquire.granted(&key, 4).counting(1));
    events.insert(3, put(4, &key, "r"));
    events.insert(4, delete(5, &key));
    (history, events)
}

#[test]
fn a_reader_sees_no_writer() {
    let read = |at: u64, value: &str, revision: u64| {
        op(Rwlock, "r", Call::Read, at, at + 5)
            .under(4)
            .told(|answer| {
                (answer.value, answer.revision) = (Some(value.to_owned()), Some(revision));
            })
    };
    let (mut history, events) = reader();
    history.push(read(43, "a", 4));
    assert_eq!(kinds(&history, events.clone()), []);
    history.push(read(66, "b", 6));
    assert_eq!(
        kinds(&history, events.clone()),
        [Violation],
        "two reads under one hold differ"
    );
    history.pop();
    history.push(read(37, "b", 4));
    assert!(
        kinds(&history, events).contains(&Violation),
        "that was not there then"
    );

    let (mut history, events) = reader();
    history.push(read(66, "b", 6));
    assert_eq!(kinds(&history, events), [Violation], "after its hold");

    let (mut history, mut events) = reader();
    history.push(read(43, "a", 4));
    let gone = events.remove(2);
    events.push(Event {
        revision: 8,
        arrived: 80,
        ..gone
    });
    assert!(
        kinds(&history, events).contains(&Violation),
        "beside a writer who was before"
    );

    let (mut history, events) = reader();
    history.push(read(43, "a", 4).under(99));
    assert_eq!(kinds(&history, events), [Violation], "without a hold");
}

#[test]
fn more_than_all_permits_are_too_many() {
    let (mut history, events) = lock(Semaphore);
    for entry in &mut history {
        entry.args.number = Some(1);
    }
    history[3].ended = Some(30);
    history[3].began = 20;
    assert_eq!(kinds(&history, events), [], "two of two are not too many");
}
