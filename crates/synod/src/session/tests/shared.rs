//! Sessions under primitives: shared, or of their own.

use super::*;

/// etcd's issues 20615 and 21638: a renewal that is answered with success after the lease was revoked.
#[tokio::test]
async fn a_stale_success_revives_nothing_20615_21638() {
    let world = world();
    let session = world.client.own_session().await.unwrap();
    until(|| world.clock.sleepers() > 0).await;
    world.faulty.stale_keep_alives(Some(session.ttl()));
    let revoked = world.faulty.engine.lease_revoke(session.lease()).await;
    revoked.unwrap();
    world.clock.advance(session.ttl() / 3);
    until(|| world.faulty.keep_alives() == 1).await;
    // The renewals say that it lives. The store's word on a key of it is believed instead.
    let guard = world.client.mutex("m").lock().await.unwrap();
    assert_eq!(session.state(), SessionState::Lost);
    assert_ne!(guard.session().lease(), session.lease());
    world.clock.advance(session.ttl());
    assert_eq!(session.state(), SessionState::Lost);
    assert!(session.check().unwrap_err().is_session_lost());
}

/// One session under many primitives: they go together, and the next use begins another.
#[tokio::test]
async fn the_primitives_of_a_client_share_its_session() {
    let world = world();
    let client = &world.client;
    let lock = client.mutex("m").lock().await.unwrap();
    let leadership = client.election("e").campaign("me").await.unwrap();
    let permit = client.semaphore("s", 2).acquire().await.unwrap();
    let read = client.rwlock("rw").read().await.unwrap();
    let lease = lock.session().lease();
    for other in [leadership.session(), permit.session(), read.session()] {
        assert_eq!(other.lease(), lease);
    }
    assert_eq!(world.leases().await, 1);
    let losses = [
        tokio::spawn(lock.lost()),
        tokio::spawn(leadership.lost()),
        tokio::spawn(permit.lost()),
        tokio::spawn(read.lost()),
    ];
    // Somebody revokes the lease: the renewals have not noticed, but the keys are watched.
    world.faulty.engine.lease_revoke(lease).await.unwrap();
    for lost in losses {
        soon(lost).await.unwrap();
    }
    let next = client.mutex("m").lock().await.unwrap();
    assert_ne!(next.session().lease(), lease);
    for error in [
        lock.unlock().await,
        leadership.resign().await,
        permit.release().await,
        read.unlock().await,
    ] {
        assert!(error.unwrap_err().is_session_lost());
    }
    next.check().await.unwrap();
}

#[tokio::test]
async fn primitives_on_sessions_of_their_own_are_apart() {
    let world = world();
    let own = world.session().await;
    let shared = world.client.mutex("a").lock().await.unwrap();
    let apart = world.client.mutex("b").with_session(&own);
    let apart = apart.lock().await.unwrap();
    assert_eq!(apart.session().lease(), own.lease());
    assert_ne!(shared.session().lease(), own.lease());
    let lost = tokio::spawn(apart.lost());
    own.close().await.unwrap();
    soon(lost).await.unwrap();
    assert!(apart.check().await.unwrap_err().is_session_lost());
    shared.check().await.unwrap();
    // The client's own session ends with the client.
    let session = shared.session().clone();
    world.client.clone().close().await.unwrap();
    assert_eq!(session.state(), SessionState::Closed);
    assert_eq!(world.leases().await, 0);
}

/// While the store does not answer, nobody waits for the others' attempts to begin a session.
#[tokio::test]
async fn all_who_need_the_shared_session_wait_equally_long() {
    let world = world();
    world.faulty.close_gate(0);
    let waiting: Vec<_> = (0..200)
        .map(|_| {
            let client = world.client.clone();
            tokio::spawn(async move { client.own_session().await })
        })
        .collect();
    assert!(world.faulty.wait_at_gate().await);
    // One after the other they would take 200 times as long.
    for _ in 0..100 {
        pass(TTL).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(waiting.iter().all(tokio::task::JoinHandle::is_finished));
    for waiting in waiting {
        let error = soon(waiting).await.unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error}");
    }
    world.faulty.open_gate();
    world.client.own_session().await.unwrap();
}

#[test]
fn a_session_whose_runtime_ends_is_lost_and_the_client_begins_another() {
    let (first, second) = (runtime(), runtime());
    let world = world();
    let session = first.block_on(async { world.client.own_session().await.unwrap() });
    assert!(session.is_alive());
    first.shutdown_background();
    second.block_on(async {
        // Nobody renews it any more.
        soon(session.lost()).await;
        assert_eq!(session.state(), SessionState::Lost);
        let next = world.client.own_session().await.unwrap();
        assert!(next.is_alive() && next.lease() != session.lease());
    });
}
