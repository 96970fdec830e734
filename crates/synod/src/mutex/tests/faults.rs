//! The mutex over a network that misbehaves, with leases that go, and by a clock that moves only when
//! told. Tests named after an issue show that the fault of etcd's Go packages told there is absent.

use std::sync::Arc;

use synod_store::{DeleteRequest, LeaseId, PutRequest, RangeRequest, Store};

use super::{TTL, client, count, in_line, locking, until_empty};
use crate::clock::ManualClock;
use crate::testing::{FAULTS, Fault, Faulty, WatchEnd, overdue_in_trouble, until, until_async};
use crate::{ConnectOptions, Error};

async fn revoke(faulty: &Faulty, lease: LeaseId) {
    faulty.engine.lease_revoke(lease).await.unwrap();
}

/// An unlock with an old token frees nobody (etcd #22082).
#[tokio::test]
async fn issue_22082_an_old_unlock_frees_nobody() {
    let faulty = Faulty::new();
    let mutex = client(&faulty).mutex("m");
    let old = mutex.lock().await.unwrap();
    let key = old.key().clone();
    faulty
        .engine
        .delete(DeleteRequest::new(key.clone()))
        .await
        .unwrap();
    // The very same key is another's by now.
    let put = faulty.engine.put(PutRequest::new(key.clone(), "another"));
    let created = put.await.unwrap().header.revision;
    assert!(matches!(old.unlock().await, Err(Error::NotOwner { .. })));
    let there = faulty.engine.range(RangeRequest::new(key)).await.unwrap();
    assert_eq!(there.kvs[0].create_revision, created);
    assert_eq!(mutex.holder().await.unwrap().unwrap().identity, "another");
}

/// An unlock whose answer is lost is sent again, and frees nobody else by that (etcd #22082).
#[tokio::test]
async fn issue_22082_a_repeated_unlock_frees_nobody() {
    for fault in [Fault::Lose, Fault::Overtaken, Fault::Late] {
        let faulty = Faulty::new();
        let mutex = client(&faulty).mutex("m");
        let first = mutex.lock().await.unwrap();
        let second = in_line(&faulty, &mutex, 2).await;
        faulty.script([fault]);
        first.unlock().await.unwrap();
        let second = second.await.unwrap().unwrap();
        faulty.deliver_late().await;
        second.check().await.unwrap();
        second.unlock().await.unwrap();
    }
}

/// Mutexes of one name under one session are as independent as any (etcd #10756).
#[tokio::test]
async fn issue_10756_mutexes_of_one_session_are_independent() {
    let faulty = Faulty::new();
    let client = client(&faulty);
    let session = client.session().ttl(TTL).await.unwrap();
    let mutex = || client.mutex("m").with_session(&session);
    let first = mutex().lock().await.unwrap();
    let second = in_line(&faulty, &mutex(), 2).await;
    // One that fails takes nothing of the others with it.
    assert!(mutex().try_lock().await.unwrap().is_none());
    assert_eq!(count(&faulty, "m/").await, 2);
    assert!(!second.is_finished());
    let other = client.mutex("m/other").with_session(&session);
    let other = other.try_lock().await.unwrap().unwrap();
    first.unlock().await.unwrap();
    let second = second.await.unwrap().unwrap();
    assert_eq!(second.session().lease(), session.lease());
    other.check().await.unwrap();
    second.unlock().await.unwrap();
}

/// A waiter whose session ends is told so, and does not wait on (etcd #19597).
#[tokio::test]
async fn issue_19597_a_waiter_whose_session_dies_is_told() {
    let faulty = Faulty::new();
    let client = client(&faulty);
    let holder = client.mutex("m").lock().await.unwrap();
    // Its lease is revoked, and nobody tells the session.
    let revoked = client.session().ttl(TTL).await.unwrap();
    let mutex = client.mutex("m").with_session(&revoked);
    let waiting = in_line(&faulty, &mutex, 2).await;
    until(|| faulty.watches() == 2).await;
    revoke(&faulty, revoked.lease()).await;
    assert!(matches!(waiting.await.unwrap(), Err(Error::SessionLost)));
    // It is closed.
    let closed = client.session().ttl(TTL).await.unwrap();
    let mutex = client.mutex("m").with_session(&closed);
    let waiting = in_line(&faulty, &mutex, 2).await;
    closed.close().await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(Error::SessionLost)));
    assert!(matches!(mutex.lock().await, Err(Error::SessionLost)));
    holder.check().await.unwrap();
}

/// A waiter that dies in the middle of the line neither blocks nor lets in those behind it.
#[tokio::test]
async fn a_death_in_the_middle_of_the_line() {
    let faulty = Faulty::new();
    let client = client(&faulty);
    let mutex = client.mutex("m");
    let first = mutex.lock().await.unwrap();
    let doomed = client.session().ttl(TTL).await.unwrap();
    let second = in_line(&faulty, &mutex.clone().with_session(&doomed), 2).await;
    let third = in_line(&faulty, &mutex, 3).await;
    until(|| faulty.watches() == 3).await;
    revoke(&faulty, doomed.lease()).await;
    assert!(matches!(second.await.unwrap(), Err(Error::SessionLost)));
    assert_eq!(mutex.holder().await.unwrap().unwrap().waiters, 1);
    first.check().await.unwrap();
    assert!(!third.is_finished());
    first.unlock().await.unwrap();
    third.await.unwrap().unwrap().unlock().await.unwrap();
}

/// By the clock alone: nothing comes from the store any more (etcd #19597).
#[tokio::test]
async fn issue_19597_a_waiter_that_is_cut_off_is_told_when_its_time_is_over() {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let options = ConnectOptions::new("memory:").with_clock(clock.clone());
    let cut_off = options.over(Arc::new(faulty.clone()));
    let holder = client(&faulty).mutex("m").lock().await.unwrap();
    let waiting = in_line(&faulty, &cut_off.mutex("m"), 2).await;
    let lost = tokio::spawn(holder.lost());
    until(|| clock.sleepers() > 0).await;
    faulty.always(Some(Fault::Refuse));
    clock.advance(TTL);
    assert!(matches!(waiting.await.unwrap(), Err(Error::SessionLost)));
    // The other client's time is not over: nothing is concluded from silence.
    assert!(!lost.is_finished());
    faulty.always(None);
    holder.check().await.unwrap();
}

/// Nobody is given the lock whose own lease has gone (etcd #11456).
#[tokio::test]
async fn issue_11456_no_lock_without_a_lease() {
    for _ in 0..10 {
        let faulty = Faulty::new();
        let client = client(&faulty);
        let mutex = client.mutex("m");
        let holder = mutex.lock().await.unwrap();
        let doomed = client.session().ttl(TTL).await.unwrap();
        let waiting = in_line(&faulty, &mutex.clone().with_session(&doomed), 2).await;
        // Its key goes, then the holder's: the line is empty, and so is its hand.
        revoke(&faulty, doomed.lease()).await;
        holder.unlock().await.unwrap();
        assert!(matches!(waiting.await.unwrap(), Err(Error::SessionLost)));
        drop(mutex.try_lock().await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_session_whose_lease_was_revoked_is_made_anew() {
    let faulty = Faulty::new();
    let client = client(&faulty);
    let mutex = client.mutex("m");
    let old = mutex.lock().await.unwrap();
    revoke(&faulty, old.session().lease()).await;
    // The session has not noticed yet.
    assert!(old.session().is_alive());
    let guard = mutex.lock().await.unwrap();
    assert_ne!(guard.session().lease(), old.session().lease());
    assert!(matches!(old.check().await, Err(Error::SessionLost)));
    // One that was given is not replaced.
    let given = client.session().ttl(TTL).await.unwrap();
    revoke(&faulty, given.lease()).await;
    let mutex = client.mutex("other").with_session(&given);
    assert!(matches!(mutex.try_lock().await, Err(Error::SessionLost)));
}

/// Names below a name are names of their own (etcd-io/website #710).
#[tokio::test]
async fn website_710_nested_names_are_apart() {
    let faulty = Faulty::new();
    let client = client(&faulty);
    let inner = client.mutex("m/inner").lock().await.unwrap();
    let outer = client.mutex("m").try_lock().await.unwrap().unwrap();
    assert_eq!(
        client.mutex("m").holder().await.unwrap().unwrap().waiters,
        0
    );
    let waiting = locking(&client.mutex("m"));
    until_async(async || count(&faulty, "m/").await == 3).await;
    assert!(client.mutex("m").try_lock().await.unwrap().is_none());
    assert_eq!(count(&faulty, "m/").await, 3);
    outer.unlock().await.unwrap();
    waiting.await.unwrap().unwrap().unlock().await.unwrap();
    inner.unlock().await.unwrap();
}

/// History that is compacted under a blocked waiter neither wakes nor strands it (etcd #21128, #8231).
#[tokio::test]
async fn issue_21128_and_8231_compaction_while_blocked() {
    for end in [WatchEnd::Compacted, WatchEnd::Closed, WatchEnd::Broken] {
        let faulty = Faulty::new();
        let mutex = client(&faulty).mutex("m");
        let mut guard = mutex.lock().await.unwrap();
        let mut waiters = Vec::new();
        for line in 2..6 {
            waiters.push(in_line(&faulty, &mutex, line).await);
        }
        for waiter in waiters {
            until(|| faulty.watches() >= 3).await;
            let watches = faulty.watches();
            faulty.end_watches(end);
            until(|| faulty.watches() > watches).await;
            assert!(!waiter.is_finished(), "{end:?}");
            guard.unlock().await.unwrap();
            guard = waiter.await.unwrap().unwrap();
        }
    }
}

/// Unlocking takes no longer than the client's timeout when nobody answers (etcd #18082).
#[tokio::test]
async fn issue_18082_unlock_is_bounded_when_the_store_is_down() {
    let faulty = Faulty::new();
    let client = faulty.client(TTL);
    let mutex = client.mutex("m");
    let guard = mutex.lock().await.unwrap();
    faulty.always(Some(Fault::Drop));
    let error = overdue_in_trouble(&faulty, guard.unlock());
    let error = error.await.unwrap_err();
    assert!(error.is_maybe_committed(), "{error}");
    assert!(overdue_in_trouble(&faulty, mutex.lock()).await.is_err());
    // It goes on in the background.
    faulty.always(None);
    until_empty(&faulty).await;
}

/// Whatever is lost, delayed or refused: one holder at a time, and nothing stays behind.
#[tokio::test]
async fn faults_at_every_step_break_nothing() {
    for fault in FAULTS {
        for step in 0..8 {
            let faulty = Faulty::new();
            let client = client(&faulty);
            let mutex = client.mutex("m");
            let faults = std::iter::repeat_n(Fault::None, step).chain([fault]);
            faulty.script(faults);
            let mut token = 0;
            for _ in 0..3 {
                let guard = mutex.lock().await.unwrap();
                assert!(guard.fencing_token() > token, "{fault:?} at {step}");
                token = guard.fencing_token();
                let other = mutex.try_lock().await.unwrap();
                assert!(other.is_none(), "{fault:?} at {step}");
                guard.check().await.unwrap();
                guard.unlock().await.unwrap();
            }
            // What comes late is found and taken away.
            faulty.deliver_late().await;
            until_empty(&faulty).await;
        }
    }
}

/// What a lost answer may have left behind is looked for, and is never the key that is held.
#[tokio::test]
async fn a_try_beside_a_nested_name_whose_answer_was_lost_holds_what_it_took() {
    for fault in [Fault::Drop, Fault::Late, Fault::Overtaken] {
        let faulty = Faulty::new();
        let mutex = client(&faulty).mutex("m");
        mutex.lock().await.unwrap().unlock().await.unwrap();
        let nested = PutRequest::new("m/x/1", "");
        faulty.engine.put(nested).await.unwrap();
        faulty.script([fault]);
        let guard = mutex.try_lock().await.unwrap().unwrap();
        let txns = faulty.txns();
        // It has been looked for leftovers.
        until(|| faulty.txns() - txns >= 4).await;
        guard.check().await.unwrap();
        assert!(mutex.try_lock().await.unwrap().is_none(), "{fault:?}");
        guard.unlock().await.unwrap();
        faulty.deliver_late().await;
        until_async(async || count(&faulty, "m/").await == 1).await;
    }
}
