//! Watches that outlive their vigils, and what is known without another read: nothing is missed.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{DeleteRequest, Key, LeaseId, PutRequest, Revision, Store};

use super::super::{Place, Vigils, join};
use super::{lease, request, waiting};
use crate::testing::{Faulty, WatchEnd, until};

const PATIENCE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(3600);

async fn put(faulty: &Faulty, key: &str) -> Revision {
    let put = faulty.engine.put(PutRequest::new(key.to_owned(), "")).await;
    put.unwrap().header.revision
}

async fn delete(faulty: &Faulty, key: &str) {
    let request = DeleteRequest::new(key.to_owned());
    assert_eq!(faulty.engine.delete(request).await.unwrap().deleted, 1);
}

fn vigils(faulty: &Faulty) -> Vigils {
    Vigils::new(Arc::new(faulty.clone())).with_own_watch(LONG)
}

#[tokio::test]
async fn a_watch_that_was_left_tells_of_the_next_key_of_that_name_alone() {
    let faulty = Faulty::new();
    let vigils = vigils(&faulty);
    let (key, created) = (Key::from("p/a"), put(&faulty, "p/a").await);
    drop(vigils.open(&key, created, PATIENCE).await.unwrap());
    assert_eq!(vigils.idle(), 1);
    delete(&faulty, "p/a").await;
    let anew = put(&faulty, "p/a").await;
    let mut vigil = vigils.open(&key, anew, PATIENCE).await.unwrap();
    assert_eq!((faulty.watches(), vigils.idle()), (1, 0));
    assert!(vigil.tells_after(anew), "it has stood all the time");
    let gone = vigil.gone(anew);
    tokio::pin!(gone);
    let early = tokio::time::timeout(Duration::from_millis(20), &mut gone).await;
    assert!(early.is_err(), "the older key's end is not this one's");
    delete(&faulty, "p/a").await;
    assert!(gone.await.unwrap().is_some());
}

#[tokio::test]
async fn what_happened_while_nobody_listened_is_told() {
    let faulty = Faulty::new();
    let vigils = vigils(&faulty);
    let (key, created) = (Key::from("p/a"), put(&faulty, "p/a").await);
    drop(vigils.open(&key, created, PATIENCE).await.unwrap());
    let anew = put(&faulty, "p/b").await;
    delete(&faulty, "p/a").await;
    let mut vigil = vigils.open(&key, created, PATIENCE).await.unwrap();
    assert!(vigil.tells_after(anew));
    assert!(vigil.gone(anew).await.unwrap().is_some());
}

#[tokio::test]
async fn a_new_watch_does_not_claim_to_know_the_past() {
    let faulty = Faulty::new();
    let vigils = vigils(&faulty);
    let (key, created) = (Key::from("p/a"), put(&faulty, "p/a").await);
    put(&faulty, "other").await;
    let vigil = vigils.open(&key, created, PATIENCE).await.unwrap();
    assert!(!vigil.tells_after(created));
}

#[tokio::test]
async fn a_watch_that_fell_while_nobody_listened_leads_to_a_read() {
    for end in [WatchEnd::Compacted, WatchEnd::Closed, WatchEnd::Broken] {
        let faulty = Faulty::new();
        let vigils = vigils(&faulty);
        let (key, created) = (Key::from("p/a"), put(&faulty, "p/a").await);
        drop(vigils.open(&key, created, PATIENCE).await.unwrap());
        faulty.end_watches(end);
        delete(&faulty, "p/a").await;
        let mut vigil = vigils.open(&key, created, PATIENCE).await.unwrap();
        let told = vigil.gone(created).await.unwrap();
        assert_eq!(told, None, "{end:?}: not known");
        let read = faulty.engine.status().await.unwrap().header.revision;
        let next = tokio::time::timeout(Duration::from_millis(20), vigil.gone(read)).await;
        assert!(next.is_err() || next.unwrap().unwrap().is_none(), "{end:?}");
    }
}

/// What another has heard already, as the holder who waits for its own key's end, is not heard again.
#[tokio::test]
async fn a_watch_does_not_claim_to_tell_what_it_has_told_another() {
    let faulty = Faulty::new();
    let vigils = vigils(&faulty);
    let (key, created) = (Key::from("p/a"), put(&faulty, "p/a").await);
    let mut one = vigils.open(&key, created, PATIENCE).await.unwrap();
    // So another has seen the key, but has no watch yet.
    let seen = put(&faulty, "p/b").await;
    delete(&faulty, "p/a").await;
    assert!(one.gone(created).await.unwrap().is_some());
    drop(one);
    let other = vigils.open(&key, created, PATIENCE).await.unwrap();
    assert!(!other.tells_after(seen), "it has to read");
    // What is seen from now on needs no other read, and the watch is the same.
    assert!(other.tells_after(put(&faulty, "p/a").await));
    assert_eq!(faulty.watches(), 1);
}

#[tokio::test]
async fn a_watch_that_was_opened_anew_does_not_claim_to_know_what_it_missed() {
    let faulty = Faulty::new();
    let vigils = vigils(&faulty);
    let (key, created) = (Key::from("p/a"), put(&faulty, "p/a").await);
    let mut one = vigils.open(&key, created, PATIENCE).await.unwrap();
    let seen = put(&faulty, "p/b").await;
    faulty.end_watches(WatchEnd::Closed);
    delete(&faulty, "p/a").await;
    // Told to read, it leaves.
    assert_eq!(one.gone(created).await.unwrap(), None);
    drop(one);
    let other = vigils.open(&key, created, PATIENCE).await.unwrap();
    assert!(!other.tells_after(seen));
}

#[tokio::test]
async fn watches_that_are_left_are_few_and_end() {
    let faulty = Faulty::new();
    let vigils = vigils(&faulty).with_linger(Duration::from_millis(50));
    for number in 0..200 {
        let key = Key::from(format!("p{}/{number}", number % 20));
        drop(vigils.open(&key, Revision(1), PATIENCE).await.unwrap());
        assert!(vigils.idle() <= 64, "{}", vigils.idle());
    }
    let same = || Key::from("p/1");
    for number in 0..9 {
        let key = Key::from(format!("q/{number}"));
        drop(vigils.open(&key, Revision(1), PATIENCE).await.unwrap());
    }
    drop(vigils.open(&same(), Revision(1), PATIENCE).await.unwrap());
    until(|| vigils.idle() == 0).await;
    // And so on: another task ends the later ones.
    drop(vigils.open(&same(), Revision(1), PATIENCE).await.unwrap());
    assert_eq!(vigils.idle(), 1);
    until(|| vigils.idle() == 0).await;
}

#[tokio::test]
async fn who_shares_a_watch_late_is_told_what_was_told_before() {
    let faulty = Faulty::new();
    let vigils = vigils(&faulty);
    let keys: Vec<Key> = (0..5).map(|n| Key::from(format!("p/{n}"))).collect();
    let mut created = Vec::new();
    for key in &keys {
        created.push(put(&faulty, std::str::from_utf8(key).unwrap()).await);
    }
    let seen = created[4];
    let mut open = Vec::new();
    for at in 0..3 {
        open.push(vigils.open(&keys[at], created[at], PATIENCE).await.unwrap());
    }
    assert_eq!(faulty.watches(), 3, "the third begins a shared one");
    delete(&faulty, "p/4").await;
    delete(&faulty, "p/2").await;
    assert!(
        open[2].gone(seen).await.unwrap().is_some(),
        "so p/4 was told too"
    );
    let mut late = vigils.open(&keys[4], created[4], PATIENCE).await.unwrap();
    assert!(late.tells_after(seen));
    assert!(late.gone(seen).await.unwrap().is_some());
    // More deletions than are remembered: nothing is claimed any more.
    for number in 0..300 {
        let key = format!("p/x{number}");
        put(&faulty, &key).await;
        delete(&faulty, &key).await;
    }
    delete(&faulty, "p/1").await;
    put(&faulty, "p/1").await;
    delete(&faulty, "p/3").await;
    let last = put(&faulty, "p/last").await;
    let key = Key::from("p/last");
    let mut sentinel = vigils.open(&key, last, PATIENCE).await.unwrap();
    delete(&faulty, "p/last").await;
    assert!(sentinel.gone(last).await.unwrap().is_some());
    let late = vigils.open(&keys[3], created[3], PATIENCE).await.unwrap();
    assert!(!late.tells_after(seen) || faulty.watches() > 3);
    assert_eq!(faulty.watches(), 3);
}

/// Joins a line again and again, as one process does with a lock that others want too.
struct Contender {
    vigils: Vigils,
    suffix: &'static str,
    lease: LeaseId,
}

impl Contender {
    async fn new(faulty: &Faulty, suffix: &'static str) -> Contender {
        Contender {
            vigils: vigils(faulty),
            suffix,
            lease: lease(faulty).await,
        }
    }

    async fn join(&self) -> Place {
        join::join(&self.vigils, request(self.suffix, self.lease), None)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_busy_line_costs_three_round_trips_a_turn_and_no_watch() {
    let faulty = Faulty::new();
    let contenders = [
        Contender::new(&faulty, "a").await,
        Contender::new(&faulty, "b").await,
        Contender::new(&faulty, "c").await,
    ];
    let mut head = contenders[0].join().await;
    head.wait(pending()).await.unwrap();
    let mut line = Vec::new();
    for contender in &contenders[1..] {
        line.push(waiting(contender.join().await));
    }
    until(|| faulty.watches() == 2).await;
    let mut before = None;
    for turn in 0..30 {
        assert!(head.leave().await.unwrap());
        head = line.remove(0).await.unwrap().unwrap();
        line.push(waiting(contenders[turn % 3].join().await));
        if turn == 4 {
            // By now each has stood behind the other.
            until(|| faulty.watches() == 3).await;
            before = Some(faulty.txns());
        }
    }
    let turns = 25;
    // To leave, to look, to join.
    assert_eq!(faulty.txns() - before.unwrap(), 3 * turns);
    assert_eq!((faulty.watches(), faulty.ranges()), (3, 0));
}
