//! Many local waiters share their watches, and miss nothing by that.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{DeleteRequest, ErrorKind, Key, PutRequest, Revision, Store};
use tokio::task::JoinHandle;

use super::super::vigil::Vigil;
use super::super::{Lines, Vigils, join};
use super::{lease, request, waiting};
use crate::Result;
use crate::testing::{Fault, Faulty, WatchEnd, overdue_in_trouble, runtime, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// A store with keys `p/0`, `p/1` and so on, and the revisions at which they were put.
async fn keys(faulty: &Faulty, count: usize) -> Vec<(Key, Revision)> {
    let mut keys = Vec::new();
    for number in 0..count {
        let key = Key::from(format!("p/{number}"));
        let put = faulty.engine.put(PutRequest::new(key.clone(), "")).await;
        keys.push((key, put.unwrap().header.revision));
    }
    keys
}

async fn delete(faulty: &Faulty, key: &Key) {
    let request = DeleteRequest::new(key.clone());
    assert_eq!(faulty.engine.delete(request).await.unwrap().deleted, 1);
}

fn until_gone(vigils: &Vigils, (key, created): &(Key, Revision)) -> JoinHandle<Result<()>> {
    let (vigils, key, created) = (vigils.clone(), key.clone(), *created);
    tokio::spawn(async move { vigils.until_gone(&key, created, PATIENCE).await })
}

/// Vigils for all of these keys, and how many watches they took.
async fn open_all(faulty: &Faulty, vigils: &Vigils, keys: &[(Key, Revision)]) -> Vec<Vigil> {
    let mut open = Vec::new();
    for (key, created) in keys {
        open.push(vigils.open(key, *created, PATIENCE).await.unwrap());
    }
    assert!(faulty.watches() <= 3, "{} watches", faulty.watches());
    open
}

#[tokio::test]
async fn many_vigils_take_three_watches() {
    let faulty = Faulty::new();
    let keys = keys(&faulty, 50).await;
    let vigils = Vigils::new(Arc::new(faulty.clone()));
    let tasks: Vec<_> = keys.iter().map(|key| until_gone(&vigils, key)).collect();
    // Each reads its key once its watch stands.
    until(|| faulty.ranges() == 50).await;
    assert_eq!(faulty.watches(), 3);
    for ((key, _), task) in keys.iter().zip(tasks) {
        assert!(!task.is_finished());
        delete(&faulty, key).await;
        task.await.unwrap().unwrap();
    }
    assert_eq!(faulty.watches(), 3);
}

#[tokio::test]
async fn other_prefixes_have_watches_of_their_own() {
    let faulty = Faulty::new();
    let vigils = Vigils::new(Arc::new(faulty.clone()));
    let mut open = Vec::new();
    for key in ["a/1", "a/2", "b/1", "b/2", "a/b/1", "a/b/2"] {
        open.push(vigils.open(&key.into(), Revision(1), PATIENCE).await);
    }
    assert_eq!(faulty.watches(), 6);
    assert!(open.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_hub_ends_with_its_last_vigil_and_single_watches_come_again() {
    let faulty = Faulty::new();
    let keys = keys(&faulty, 10).await;
    let vigils = Vigils::new(Arc::new(faulty.clone())).with_linger(Duration::from_millis(10));
    for round in 1..=3 {
        let mut open = Vec::new();
        for (key, created) in &keys {
            open.push(vigils.open(key, *created, PATIENCE).await.unwrap());
        }
        assert_eq!(faulty.watches(), 3 * round);
        drop(open);
        until(|| vigils.idle() == 0).await;
    }
}

#[tokio::test]
async fn what_a_broken_watch_did_not_tell_is_read_once_for_all() {
    for end in [WatchEnd::Compacted, WatchEnd::Closed, WatchEnd::Broken] {
        let faulty = Faulty::new();
        let keys = keys(&faulty, 20).await;
        let vigils = Vigils::new(Arc::new(faulty.clone()));
        let mut open = open_all(&faulty, &vigils, &keys).await;
        let mut shared = open.split_off(2);
        drop(open);
        let ranges = faulty.ranges();
        faulty.end_watches(end);
        for (key, _) in &keys[2..] {
            delete(&faulty, key).await;
        }
        for vigil in &mut shared {
            assert!(
                vigil.gone(Revision::ZERO).await.unwrap().is_some(),
                "{end:?}"
            );
        }
        let read = faulty.ranges() - ranges;
        assert!((1..=3).contains(&read), "{end:?}: {read} reads");
    }
}

#[tokio::test]
async fn a_key_that_was_made_anew_is_gone_and_a_later_one_is_not() {
    let faulty = Faulty::new();
    let keys = keys(&faulty, 4).await;
    let vigils = Vigils::new(Arc::new(faulty.clone()));
    let mut open = open_all(&faulty, &vigils, &keys).await;
    let (key, created) = keys[3].clone();
    delete(&faulty, &key).await;
    let put = PutRequest::new(key.clone(), "");
    let anew = faulty.engine.put(put).await.unwrap().header.revision;
    let mut later = vigils.open(&key, anew, PATIENCE).await.unwrap();
    assert!(open[3].gone(created).await.unwrap().is_some());
    faulty.end_watches(WatchEnd::Broken);
    let waiting = tokio::spawn(async move { later.gone(anew).await });
    // The read after the broken watch finds the later key in place.
    let ranges = faulty.ranges();
    until(|| faulty.ranges() > ranges || faulty.watches() > 3).await;
    assert!(!waiting.is_finished());
    delete(&faulty, &key).await;
    assert!(waiting.await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn trouble_ends_and_nothing_was_missed() {
    let faulty = Faulty::new();
    let keys = keys(&faulty, 5).await;
    let vigils = Vigils::new(Arc::new(faulty.clone()));
    let tasks: Vec<_> = keys.iter().map(|key| until_gone(&vigils, key)).collect();
    until(|| faulty.ranges() == 5).await;
    faulty.always(Some(Fault::Refuse));
    faulty.end_watches(WatchEnd::Broken);
    for (key, _) in &keys {
        delete(&faulty, key).await;
    }
    let ranges = faulty.ranges();
    until(|| faulty.ranges() > ranges).await;
    assert!(tasks.iter().all(|task| !task.is_finished()));
    faulty.always(None);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_hub_that_reaches_nobody_gives_up_and_another_takes_its_place() {
    let faulty = Faulty::new();
    let keys = keys(&faulty, 3).await;
    let vigils = Vigils::new(Arc::new(faulty.clone()));
    let single = open_all(&faulty, &vigils, &keys[..2]).await;
    faulty.always(Some(Fault::Refuse));
    let (key, created) = keys[2].clone();
    let opening = overdue_in_trouble(&faulty, vigils.open(&key, created, PATIENCE));
    let error = opening.await.unwrap_err();
    assert!(error.is_timeout() || error.kind() == Some(ErrorKind::Unavailable));
    faulty.always(None);
    let mut vigil = vigils.open(&key, created, PATIENCE).await.unwrap();
    delete(&faulty, &key).await;
    assert!(vigil.gone(created).await.unwrap().is_some());
    drop(single);
}

#[test]
fn a_runtime_that_ends_takes_its_hub_with_it_and_leaves_nobody_asleep() {
    let (first, second) = (runtime(), runtime());
    let faulty = second.block_on(async { Faulty::new() });
    let vigils = Vigils::new(Arc::new(faulty.clone()));
    let (keys, open) = first.block_on(async {
        let keys = keys(&faulty, 4).await;
        let open = open_all(&faulty, &vigils, &keys).await;
        (keys, open)
    });
    second.block_on(async {
        let waiting = until_gone(&vigils, &keys[3]);
        until(|| faulty.ranges() == 1).await;
        first.shutdown_background();
        // It looks again, under another watch.
        until(|| faulty.watches() == 4 && faulty.ranges() >= 2).await;
        delete(&faulty, &keys[3].0).await;
        waiting.await.unwrap().unwrap();
        drop(open);
    });
}

/// A deletion that no watch tells of is found by reading from time to time (etcd #18089).
#[tokio::test]
async fn issue_18089_a_lost_delete_event_strands_nobody() {
    let faulty = Faulty::new();
    let keys = keys(&faulty, 6).await;
    let vigils = Vigils::new(Arc::new(faulty.clone())).with_net(Duration::from_millis(50));
    faulty.lose_events();
    let tasks: Vec<_> = keys.iter().map(|key| until_gone(&vigils, key)).collect();
    until(|| faulty.ranges() >= 6).await;
    for (key, _) in &keys {
        delete(&faulty, key).await;
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(faulty.watches(), 3, "they all stand");
}

/// As above, in a line of waiters (etcd #18089).
#[tokio::test]
async fn issue_18089_a_line_goes_on_without_events() {
    let faulty = Faulty::new();
    let vigils = Vigils::new(Arc::new(faulty.clone())).with_net(Duration::from_millis(50));
    faulty.lose_events();
    let lease = lease(&faulty).await;
    let mut waiters = Vec::new();
    for suffix in ["a", "b", "c", "d", "e"] {
        let place = join::join(&vigils, request(suffix, lease), None)
            .await
            .unwrap();
        waiters.push(waiting(place));
    }
    for waiter in waiters {
        assert!(waiter.await.unwrap().unwrap().leave().await.unwrap());
    }
}

/// Whoever joins through the same [`Lines`], as a server's callers do, shares the watches.
#[tokio::test]
async fn callers_of_a_server_share_their_watches() {
    let faulty = Faulty::new();
    let lines = Lines::new(Arc::new(faulty.clone()));
    let lease = lease(&faulty).await;
    let mut waiters = Vec::new();
    for number in 0..20 {
        let place = lines.join(request(&format!("{number:02}"), lease)).await;
        waiters.push(waiting(place.unwrap()));
        tokio::task::yield_now().await;
    }
    for waiter in waiters {
        assert!(waiter.await.unwrap().unwrap().leave().await.unwrap());
    }
    assert!(faulty.watches() <= 3, "{} watches", faulty.watches());
}
