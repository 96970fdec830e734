//! What lanes tell: whose claim took an item, and how an operation in doubt has ended.

use super::*;

fn lane(revision: u64, epoch: &str, operation: &str, ran: &str) -> Event {
    let value = format!("{operation} {ran} 1790000000");
    put(revision, &format!("__synod/lane/{epoch}/13"), &value)
}

/// Two processes put in one item each; the second, `c`, takes out both and is killed before it hears of the
/// last.
fn claims(primitive: Primitive) -> (Vec<Entry>, Vec<Event>) {
    let (mut history, mut events) = queue(primitive);
    history[1].worker = "c".to_owned();
    history[3] = history[3].clone().killed();
    for (revision, epoch) in [(2, "e1"), (3, "e2"), (4, "e2"), (5, "e2")] {
        events.push(lane(revision, epoch, &format!("o{revision}"), "0"));
    }
    events.sort_by_key(|event| event.revision);
    (history, events)
}

#[test]
fn a_loss_is_excused_by_a_claim_of_the_same_process_alone() {
    for primitive in [Queue, PriorityQueue] {
        let (history, events) = claims(primitive);
        assert_eq!(kinds(&history, events), []);

        let (history, mut events) = claims(primitive);
        for event in &mut events {
            if event.revision == 5 && event.key.contains("/lane/") {
                event.key = "__synod/lane/e1/13".to_owned();
            }
        }
        assert_eq!(kinds(&history, events), [Lost], "the other one took it");

        // Of who lives, and was told that it does not know.
        let (mut history, events) = claims(primitive);
        history[3] = history[3].clone().unknown(None);
        (history[3].began, history[3].ended) = (46, Some(55));
        assert_eq!(kinds(&history, events.clone()), []);
        let mut late = events.clone();
        for event in late.iter_mut().filter(|event| event.revision == 5) {
            event.arrived += 41_000_000_000;
        }
        assert_eq!(kinds(&history, late), [Lost], "long after it");
        history[3] = history[3].clone().unknown(Some(Settled::Otherwise));
        assert_eq!(kinds(&history, events), [Lost], "it took nothing");
    }
}

#[test]
fn a_loss_is_excused_by_the_token_of_what_took_it() {
    let (mut history, events) = claims(Queue);
    (history[3].began, history[3].ended) = (46, Some(55));
    history[3] = history[3]
        .clone()
        .doubted("e2.1.d.0.1.o5", Some(Settled::Happened));
    assert_eq!(kinds(&history, events.clone()), []);
    history[3] = history[3].clone().doubted("e2.1.d.0.1.o3", None);
    assert_eq!(kinds(&history, events.clone()), [Lost], "another operation");
    history[3] = history[3].clone().doubted("e2.1.d.0.1.o9", None);
    assert_eq!(kinds(&history, events), [Lost], "it never was");
}

#[test]
fn a_token_is_settled_as_its_lane_says() {
    use Settled::{Forgotten, Happened, NeverWill, Otherwise};
    let said = |settled: Settled, ran: Option<&str>| {
        let (mut history, mut events) = barrier_once();
        history[0] = history[0].clone().doubted("e1.1.d.0.1.o1", Some(settled));
        events.extend(ran.map(|ran| lane(9, "e1", "o1", ran)));
        kinds(&history, events)
    };
    assert_eq!(said(Happened, Some("0")), []);
    assert_eq!(said(Happened, Some("7")), []);
    for ran in [Some("else"), Some("-"), Some("3r"), None] {
        assert_eq!(said(Happened, ran), [Violation], "{ran:?}");
    }
    // Of a wait, what is said of it changes nothing else.
    assert_eq!(said(Otherwise, Some("else")), []);
    for ran in [Some("0"), Some("-"), Some("3r"), None] {
        assert_eq!(said(Otherwise, ran), [Violation], "{ran:?}");
    }
    for ran in [Some("-"), Some("3r"), None] {
        assert_eq!(said(NeverWill, ran), [], "{ran:?}");
    }
    for ran in [Some("0"), Some("else")] {
        assert_eq!(said(NeverWill, ran), [Violation], "{ran:?}");
    }
    for ran in [Some("0"), Some("-"), None] {
        assert_eq!(said(Forgotten, ran), [Violation], "{ran:?}");
    }
}

#[test]
fn what_is_forgotten_had_a_lane_that_is_gone() {
    let (mut history, mut events) = barrier_once();
    history[0] = history[0]
        .clone()
        .doubted("e1.1.d.0.1.o1", Some(Settled::Forgotten));
    events.push(lane(9, "e1", "o1", "0"));
    events.push(delete(10, "__synod/lane/e1/13"));
    assert_eq!(kinds(&history, events), []);
}

#[test]
fn no_operation_passes_twice() {
    let (mut history, mut events) = barrier_once();
    history[0] = history[0]
        .clone()
        .doubted("e1.1.d.0.1.o1", Some(Settled::Happened));
    events.push(lane(9, "e1", "o1", "0"));
    assert_eq!(kinds(&history, events.clone()), []);
    events.push(lane(10, "e1", "o1", "0"));
    assert_eq!(kinds(&history, events), [Doubled]);
}

/// Somebody waits at a barrier that nobody holds.
fn barrier_once() -> (Vec<Entry>, Vec<Event>) {
    let wait = op(Barrier, "v", Call::Wait, 15, 25).yes();
    (vec![wait], vec![put(2, "elsewhere", "")])
}
