//! Semaphores in one process, over a store that loses answers.

use std::time::Duration;

use synod_store::{KeyRange, PutRequest, RangeRequest, Store};

use crate::testing::{FAULTS, Fault, Faulty, WatchEnd, soon, until, until_async};
use crate::{Error, Semaphore, SemaphorePermit};

const TIMEOUT: Duration = Duration::from_secs(10);

async fn tickets(faulty: &Faulty) -> u64 {
    let range = RangeRequest::new(KeyRange::prefix("__synod/semaphore/s/line/")).count_only();
    faulty.engine.range(range).await.unwrap().count
}

async fn until_tickets(faulty: &Faulty, count: u64) {
    until_async(async || tickets(faulty).await == count).await;
}

type Waiting = tokio::task::JoinHandle<crate::Result<SemaphorePermit>>;

/// Begins to wait, and returns when the ticket is in the line.
async fn waiting(faulty: &Faulty, semaphore: &Semaphore, permits: u32) -> Waiting {
    let before = tickets(faulty).await;
    let semaphore = semaphore.clone();
    let task = tokio::spawn(async move { semaphore.acquire_many(permits).await });
    until_tickets(faulty, before + 1).await;
    task
}

#[tokio::test]
async fn permits_are_given_in_order_and_nobody_overtakes() {
    let faulty = Faulty::new();
    let (one, two) = (faulty.client(TIMEOUT), faulty.client(TIMEOUT));
    let (one, two) = (one.semaphore("s", 3), two.semaphore("s", 3));
    assert_eq!(one.available_permits().await.unwrap(), 3);
    let held = one.acquire_many(2).await.unwrap();
    assert_eq!(
        (held.num_permits(), two.available_permits().await.unwrap()),
        (2, 1)
    );
    let large = waiting(&faulty, &two, 2).await;
    // One permit is free, but somebody waits already.
    let small = waiting(&faulty, &one, 1).await;
    assert!(one.try_acquire().await.unwrap().is_none());
    assert_eq!(tickets(&faulty).await, 3);
    assert!(!large.is_finished() && !small.is_finished());
    let token = held.fencing_token();
    held.release().await.unwrap();
    let large = soon(large).await.unwrap().unwrap();
    let small = soon(small).await.unwrap().unwrap();
    assert!(token < large.fencing_token() && large.fencing_token() < small.fencing_token());
    assert_eq!(one.available_permits().await.unwrap(), 0);
    drop(large);
    until_tickets(&faulty, 1).await;
    small.release().await.unwrap();
    assert_eq!(one.available_permits().await.unwrap(), 3);
}

#[tokio::test]
async fn another_total_is_an_error() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    drop(client.semaphore("s", 3).acquire().await.unwrap());
    let other = client.semaphore("s", 4);
    let disagreement = Error::Disagreement {
        name: "s".into(),
        what: "number of permits",
        stored: 3,
        asked: 4,
    };
    for error in [
        other.acquire().await.unwrap_err(),
        other.try_acquire().await.unwrap_err(),
        other.available_permits().await.unwrap_err(),
    ] {
        assert_eq!(error.to_string(), disagreement.to_string());
    }
    until_tickets(&faulty, 0).await;
}

#[tokio::test]
async fn an_acquire_costs_one_round_trip_when_permits_are_free() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    client.own_session().await.unwrap();
    let semaphore = client.semaphore("s", 2);
    let before = faulty.txns();
    // The first user stores the total on the way.
    let one = semaphore.acquire().await.unwrap();
    let two = semaphore.acquire().await.unwrap();
    one.release().await.unwrap();
    two.release().await.unwrap();
    assert_eq!(
        (faulty.txns() - before, faulty.ranges(), faulty.watches()),
        (4, 0, 0)
    );
}

#[tokio::test]
async fn all_who_wait_in_a_process_share_a_watch() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let held = client.semaphore("s", 1).acquire().await.unwrap();
    let mut line = Vec::new();
    for _ in 0..5 {
        // By handles of their own, too.
        line.push(waiting(&faulty, &client.semaphore("s", 1), 1).await);
    }
    until(|| faulty.watches() > 0).await;
    held.release().await.unwrap();
    for waiting in line {
        soon(waiting)
            .await
            .unwrap()
            .unwrap()
            .release()
            .await
            .unwrap();
    }
    assert_eq!(faulty.watches(), 1);
}

/// Redisson's issue 4462: the permits of a client that died are lost for ever.
#[tokio::test]
async fn the_permits_of_the_dead_come_back_redisson_4462() {
    let faulty = Faulty::new();
    let (one, two) = (faulty.client(TIMEOUT), faulty.client(TIMEOUT));
    let session = one.session().await.unwrap();
    let semaphore = one.semaphore("s", 3).with_session(&session);
    let dead = [
        semaphore.acquire_many(2).await.unwrap(),
        semaphore.acquire().await.unwrap(),
    ];
    let behind = waiting(&faulty, &semaphore, 1).await;
    let all = waiting(&faulty, &two.semaphore("s", 3), 3).await;
    let lost = tokio::spawn(dead[0].lost());
    faulty.engine.lease_revoke(session.lease()).await.unwrap();
    let all = soon(all).await.unwrap().unwrap();
    soon(lost).await.unwrap();
    for permit in &dead {
        assert!(permit.check().await.is_err());
    }
    assert!(behind.await.unwrap().is_err());
    assert_eq!((all.num_permits(), tickets(&faulty).await), (3, 1));
}

#[tokio::test]
async fn who_waits_is_told_of_the_end_of_its_session() {
    let faulty = Faulty::new();
    let (one, two) = (faulty.client(TIMEOUT), faulty.client(TIMEOUT));
    let held = one.semaphore("s", 1).acquire().await.unwrap();
    let session = two.session().await.unwrap();
    let waits = waiting(&faulty, &two.semaphore("s", 1).with_session(&session), 1).await;
    // The store cannot be reached, so that nothing but the session's own word can end the wait.
    faulty.close_gate(0);
    session.orphan();
    assert!(waits.await.unwrap().unwrap_err().is_session_lost());
    faulty.open_gate();
    until_tickets(&faulty, 1).await;
    held.check().await.unwrap();
}

/// As etcd's issues 9921 and 11051 for elections: what is granted to a ticket that has died.
#[tokio::test]
async fn nobody_is_given_permits_after_its_lease_has_died() {
    let faulty = Faulty::new();
    let (one, two) = (faulty.client(TIMEOUT), faulty.client(TIMEOUT));
    let held = one.semaphore("s", 1).acquire().await.unwrap();
    let session = two.session().await.unwrap();
    let waits = waiting(&faulty, &two.semaphore("s", 1).with_session(&session), 1).await;
    // The event that grants it is on its way when the lease dies: the read before it is given tells.
    // Two have joined, and the line was read.
    until(|| faulty.txns() == 3).await;
    faulty.close_gate(1);
    held.release().await.unwrap();
    assert!(faulty.wait_at_gate().await);
    faulty.engine.lease_revoke(session.lease()).await.unwrap();
    faulty.open_gate();
    let error = soon(waits).await.unwrap().unwrap_err();
    assert!(
        matches!(error, Error::SessionLost | Error::NotOwner { .. }),
        "{error}"
    );
    assert_eq!(tickets(&faulty).await, 0);
}

#[tokio::test]
async fn who_gives_up_leaves_the_line() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let semaphore = client.semaphore("s", 2);
    let held = semaphore.acquire().await.unwrap();
    let timeout = Duration::from_millis(20);
    assert!(
        semaphore
            .acquire_many_timeout(2, timeout)
            .await
            .unwrap()
            .is_none()
    );
    until_tickets(&faulty, 1).await;
    let dropped = waiting(&faulty, &semaphore, 2).await;
    let behind = waiting(&faulty, &semaphore, 1).await;
    assert!(!behind.is_finished());
    dropped.abort();
    // One is free, and nobody stands before it any more.
    let behind = soon(behind).await.unwrap().unwrap();
    drop((held, behind));
    until_tickets(&faulty, 0).await;
    // Dropped while it joins.
    for step in 0..2 {
        faulty.close_gate(step);
        let semaphore = semaphore.clone();
        let joining = tokio::spawn(async move { semaphore.acquire().await.map(drop) });
        let _ = faulty.wait_at_gate().await;
        joining.abort();
        let _ = joining.await;
        faulty.open_gate();
        until_tickets(&faulty, 0).await;
    }
}

#[tokio::test]
async fn answers_that_are_lost_harm_nothing() {
    for fault in FAULTS {
        let faulty = Faulty::new();
        let client = faulty.client(TIMEOUT);
        client.own_session().await.unwrap();
        let semaphore = client.semaphore("s", 2);
        faulty.script([fault]);
        let first = semaphore.acquire().await.unwrap();
        assert_eq!(semaphore.available_permits().await.unwrap(), 1, "{fault:?}");
        faulty.script([fault, fault]);
        let second = semaphore.acquire().await.unwrap();
        assert!(second.fencing_token() > first.fencing_token());
        assert!(semaphore.try_acquire().await.unwrap().is_none());
        faulty.script([fault]);
        first.release().await.unwrap();
        second.release().await.unwrap();
        // A copy of a ticket that comes in when its ticket has gone is taken back.
        faulty.deliver_late().await;
        until_tickets(&faulty, 0).await;
        assert_eq!(semaphore.available_permits().await.unwrap(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn an_acquire_that_was_given_up_blocks_nobody() {
    for fault in [Fault::Lose, Fault::Late, Fault::Drop] {
        let faulty = Faulty::new();
        let client = faulty.client(Duration::from_millis(50));
        client.own_session().await.unwrap();
        let semaphore = client.semaphore("s", 1);
        faulty.always(Some(fault));
        let error = semaphore.acquire().await.unwrap_err();
        assert!(error.is_maybe_committed(), "{error}");
        faulty.always(None);
        faulty.deliver_late().await;
        until_tickets(&faulty, 0).await;
        semaphore.acquire().await.unwrap().release().await.unwrap();
    }
}

#[tokio::test]
async fn a_wait_survives_what_ends_its_watch() {
    for end in [WatchEnd::Compacted, WatchEnd::Closed, WatchEnd::Broken] {
        let faulty = Faulty::new();
        let client = faulty.client(TIMEOUT);
        let semaphore = client.semaphore("s", 1);
        let held = semaphore.acquire().await.unwrap();
        let waits = waiting(&faulty, &semaphore, 1).await;
        until(|| faulty.watches() == 1).await;
        faulty.end_watches(end);
        until(|| faulty.watches() == 2).await;
        assert!(!waits.is_finished());
        // What happens while no watch stands is seen too.
        faulty.end_watches(end);
        held.release().await.unwrap();
        soon(waits).await.unwrap().unwrap().release().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_ends_the_wait() {
    let faulty = Faulty::new();
    let (one, two) = (
        faulty.client(TIMEOUT),
        faulty.client(Duration::from_millis(50)),
    );
    let held = one.semaphore("s", 1).acquire().await.unwrap();
    let semaphore = two.semaphore("s", 1);
    let waits = [
        waiting(&faulty, &semaphore, 1).await,
        waiting(&faulty, &semaphore, 1).await,
    ];
    until(|| faulty.watches() == 1).await;
    faulty.always(Some(Fault::Refuse));
    faulty.end_watches(WatchEnd::Closed);
    for waits in waits {
        let error = soon(waits).await.unwrap().unwrap_err();
        assert!(!error.is_session_lost(), "{error}");
    }
    faulty.always(None);
    until_tickets(&faulty, 1).await;
    // Whoever waits next begins a watch of its own.
    let next = waiting(&faulty, &semaphore, 1).await;
    held.release().await.unwrap();
    soon(next).await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test]
async fn the_total_is_changed_deliberately() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let small = client.semaphore("s", 2);
    let held = small.acquire_many(2).await.unwrap();
    let waits = waiting(&faulty, &small, 2).await;
    // Larger: who waits goes by it at once.
    let large = small.resize(4).await.unwrap();
    let more = soon(waits).await.unwrap().unwrap();
    assert_eq!(
        (large.permits(), large.available_permits().await.unwrap()),
        (4, 0)
    );
    assert!(matches!(
        small.acquire().await,
        Err(Error::Disagreement {
            stored: 4,
            asked: 2,
            ..
        })
    ));
    assert!(matches!(
        small.resize(3).await,
        Err(Error::Disagreement { stored: 4, .. })
    ));
    // Repeating it is no error, as an answer may have been lost.
    small.resize(4).await.unwrap();
    // Smaller: nothing is taken away, and nothing given out until enough has come back.
    let four = waiting(&faulty, &large, 4).await;
    let small = large.resize(3).await.unwrap();
    let error = soon(four).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    until_tickets(&faulty, 2).await;
    held.check().await.unwrap();
    more.check().await.unwrap();
    assert!(small.try_acquire().await.unwrap().is_none());
    let one = waiting(&faulty, &small, 1).await;
    held.release().await.unwrap();
    let one = soon(one).await.unwrap().unwrap();
    assert_eq!(small.available_permits().await.unwrap(), 0);
    let busy = small.remove().await.unwrap_err();
    assert!(
        matches!(
            busy,
            Error::Held {
                holder: Some(_),
                ..
            }
        ),
        "{busy}"
    );
    one.release().await.unwrap();
    more.release().await.unwrap();
    assert!(matches!(
        large.remove().await,
        Err(Error::Disagreement { .. })
    ));
    small.remove().await.unwrap();
    small.remove().await.unwrap();
    let all = KeyRange::prefix("__synod/semaphore/");
    assert_eq!(
        faulty
            .engine
            .range(RangeRequest::new(all))
            .await
            .unwrap()
            .count,
        0
    );
    drop(large.acquire().await.unwrap());
}

#[tokio::test]
async fn a_resize_whose_answer_is_lost_happens_once() {
    for fault in FAULTS {
        let faulty = Faulty::new();
        let client = faulty.client(TIMEOUT);
        let two = client.semaphore("s", 2);
        two.acquire().await.unwrap().release().await.unwrap();
        faulty.script([fault]);
        let three = two.resize(3).await.unwrap();
        let four = three.resize(4).await.unwrap();
        faulty.deliver_late().await;
        assert_eq!(four.available_permits().await.unwrap(), 4, "{fault:?}");
    }
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_named() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let semaphore = client.semaphore("s", 2);
    for error in [
        semaphore.acquire_many(0).await.unwrap_err(),
        semaphore.acquire_many(3).await.unwrap_err(),
        semaphore.try_acquire_many(u32::MAX).await.unwrap_err(),
        client.semaphore("s", 0).acquire().await.unwrap_err(),
        semaphore.resize(0).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert!(error.to_string().contains("\"s\""), "{error}");
    }
    assert_eq!(faulty.txns(), 0);
    // A record that somebody else has damaged.
    let put = PutRequest::new("__synod/semaphore/s/total", "many");
    faulty.engine.put(put).await.unwrap();
    for error in [
        semaphore.acquire().await.unwrap_err(),
        semaphore.available_permits().await.unwrap_err(),
        semaphore.resize(3).await.map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().contains("holds \"many\""), "{error}");
    }
}

#[tokio::test]
async fn keys_that_are_no_tickets_count_for_nothing() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    for key in ["__synod/semaphore/s/line/x", "__synod/semaphore/s/other"] {
        faulty.engine.put(PutRequest::new(key, "9")).await.unwrap();
    }
    // Names that contain each other's separators are apart.
    let _other = client.semaphore("s/line", 1).acquire().await.unwrap();
    let semaphore = client.semaphore("s", 1);
    let held = semaphore.try_acquire().await.unwrap().unwrap();
    let waits = tokio::spawn(async move { semaphore.acquire().await });
    until_tickets(&faulty, 3).await;
    held.release().await.unwrap();
    soon(waits).await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let semaphore = client.semaphore("s", 1);
    let held = semaphore.acquire().await.unwrap();
    let waits = waiting(&faulty, &semaphore, 1).await;
    until(|| faulty.watches() == 1).await;
    faulty.always(Some(Fault::Deny));
    faulty.end_watches(WatchEnd::Closed);
    for error in [
        soon(waits).await.unwrap().unwrap_err(),
        semaphore.acquire().await.unwrap_err(),
        semaphore.available_permits().await.unwrap_err(),
        semaphore.resize(2).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::SystemPrefixDenied { .. }), "{error}");
    }
    faulty.always(None);
    held.release().await.unwrap();
}
