//! Semaphores when something fails: holders, leases, answers, watches.

use super::*;

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
    assert!(matches!(error, Error::SessionLost), "{error}");
    assert_eq!(tickets(&faulty).await, 0);
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
        let client = faulty.client(TIMEOUT);
        client.own_session().await.unwrap();
        let semaphore = client.semaphore("s", 1);
        faulty.always(Some(fault));
        let acquiring = overdue_in_trouble(&faulty, semaphore.acquire());
        let error = acquiring.await.unwrap_err();
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
    let (one, two) = (faulty.client(TIMEOUT), faulty.client(TIMEOUT));
    let held = one.semaphore("s", 1).acquire().await.unwrap();
    let semaphore = two.semaphore("s", 1);
    let waits = [
        waiting(&faulty, &semaphore, 1).await,
        waiting(&faulty, &semaphore, 1).await,
    ];
    until(|| faulty.watches() == 1).await;
    faulty.always(Some(Fault::Refuse));
    let calls = faulty.calls();
    faulty.end_watches(WatchEnd::Closed);
    until(|| faulty.calls() > calls).await;
    pass(TIMEOUT * 2).await;
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

#[tokio::test]
async fn a_ticket_whose_first_answer_was_lost_goes_by_the_total_of_the_second() {
    let faulty = Faulty::new();
    let (one, two) = (faulty.client(TIMEOUT), faulty.client(TIMEOUT));
    let (one, two) = (one.semaphore("s", 2), two.semaphore("s", 2));
    let first = one.acquire().await.unwrap();
    let second = one.acquire().await.unwrap();
    // The session is there when the gate closes.
    assert!(two.try_acquire().await.unwrap().is_none());
    faulty.script([Fault::Lose]);
    faulty.close_gate(1);
    let third = waiting(&faulty, &two, 1).await;
    assert!(faulty.wait_at_gate().await);
    // Meanwhile there is one permit only, and the second still has it.
    let engine = &faulty.engine;
    let total = PutRequest::new("__synod/semaphore/s/total", "1");
    engine.put(total).await.unwrap();
    let request = DeleteRequest::new(first.key().clone());
    engine.delete(request).await.unwrap();
    let watches = faulty.watches();
    faulty.open_gate();
    until(|| third.is_finished() || faulty.watches() > watches).await;
    assert!(!third.is_finished(), "two have the one permit");
    second.release().await.unwrap();
    let third = soon(third).await.unwrap().unwrap();
    assert_eq!(third.num_permits(), 1);
}

#[test]
fn a_runtime_that_ends_takes_its_watch_with_it_and_leaves_nobody_asleep() {
    let (first, second) = (runtime(), runtime());
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let (held, semaphore) = second.block_on(async {
        let session = client.session().await.unwrap();
        let semaphore = client.semaphore("s", 1).with_session(&session);
        (semaphore.acquire().await.unwrap(), semaphore)
    });
    let watches = faulty.watches();
    // The watch runs where the first of them waits.
    let gone = first.block_on(waiting(&faulty, &semaphore, 1));
    second.block_on(until(|| faulty.watches() > watches));
    let stays = second.block_on(waiting(&faulty, &semaphore, 1));
    second.block_on(until(|| semaphore.shared.watch.waiting() == 2));
    first.shutdown_background();
    second.block_on(async {
        until(|| gone.is_finished()).await;
        // Its ticket is taken back where the session is kept.
        until_tickets(&faulty, 2).await;
        held.release().await.unwrap();
        let stays = soon(stays).await.unwrap().unwrap();
        assert_eq!(stays.num_permits(), 1);
    });
}
