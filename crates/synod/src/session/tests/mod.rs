//! Sessions by a clock that moves only when told, over a network that misbehaves.

mod shared;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use synod_store::{PutRequest, RangeRequest, Store};

use crate::clock::ManualClock;
use crate::testing::{
    Fault, Faulty, overdue, overdue_in_trouble, pass, runtime, soon, until, until_async,
};
use crate::{Client, ConnectOptions, Session, SessionState};

const TTL: Duration = Duration::from_secs(60);

struct World {
    faulty: Faulty,
    clock: Arc<ManualClock>,
    client: Client,
}

fn world() -> World {
    let faulty = Faulty::new();
    let clock = Arc::new(ManualClock::new());
    let options = ConnectOptions::new("memory:")
        .with_clock(clock.clone())
        .with_timeout(TTL);
    let client = options.over(Arc::new(faulty.clone()));
    World {
        faulty,
        clock,
        client,
    }
}

impl World {
    async fn session(&self) -> Session {
        let session = self.client.session().ttl(TTL).await.unwrap();
        // The keeper sleeps until the first renewal.
        until(|| self.clock.sleepers() > 0).await;
        session
    }

    async fn leases(&self) -> usize {
        self.faulty.engine.leases().await.unwrap().leases.len()
    }
}

#[tokio::test]
async fn renewals_keep_a_session_alive_past_its_first_time() {
    let world = world();
    let session = world.session().await;
    assert_eq!(session.ttl(), TTL);
    for turn in 1..=9 {
        world.clock.advance(TTL / 3);
        until(|| world.faulty.keep_alives() == turn).await;
        until(|| world.clock.sleepers() > 0).await;
        assert!(session.is_alive());
    }
}

#[tokio::test]
async fn a_session_is_lost_exactly_a_lifetime_after_the_last_answered_send() {
    let world = world();
    let session = world.session().await;
    let mut states = session.states();
    assert_eq!(soon(states.next()).await, Some(SessionState::Alive));
    let lost = tokio::spawn(session.lost());
    world.faulty.always(Some(Fault::Refuse));
    world.clock.advance(TTL / 3);
    assert_eq!(soon(states.next()).await, Some(SessionState::Troubled));
    world.clock.advance(TTL * 2 / 3 - Duration::from_nanos(1));
    assert!(session.is_alive());
    assert!(session.check().is_ok());
    world.clock.advance(Duration::from_nanos(1));
    assert!(!session.is_alive());
    assert!(session.check().unwrap_err().is_session_lost());
    soon(lost).await.unwrap();
    assert_eq!(soon(states.next()).await, Some(SessionState::Lost));
    assert_eq!(soon(states.next()).await, None);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_revives_nothing() {
    let world = world();
    let session = world.session().await;
    world.faulty.close_gate(0);
    world.clock.advance(TTL / 3);
    assert!(world.faulty.wait_at_gate().await);
    // Time runs on while the process is frozen: the first look at the clock tells.
    world.clock.advance(TTL);
    assert!(!session.is_alive());
    world.faulty.open_gate();
    soon(session.lost()).await;
    assert_eq!(session.state(), SessionState::Lost);
}

#[tokio::test]
async fn a_revoked_lease_is_noticed_at_the_next_renewal() {
    let world = world();
    let session = world.session().await;
    world
        .faulty
        .engine
        .lease_revoke(session.lease())
        .await
        .unwrap();
    assert!(session.is_alive());
    world.clock.advance(TTL / 3);
    soon(session.lost()).await;
    assert_eq!(session.state(), SessionState::Lost);
}

#[tokio::test]
async fn trouble_passes_when_the_store_comes_back() {
    let world = world();
    let session = world.session().await;
    let mut states = session.states();
    assert_eq!(soon(states.next()).await, Some(SessionState::Alive));
    world.faulty.always(Some(Fault::Refuse));
    world.clock.advance(TTL / 3);
    assert_eq!(soon(states.next()).await, Some(SessionState::Troubled));
    world.faulty.always(None);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(soon(states.next()).await, Some(SessionState::Alive));
}

#[tokio::test]
async fn close_revokes_and_ends_every_handle() {
    let world = world();
    let session = world.session().await;
    let other = session.clone();
    let put = PutRequest::new("mine", "").with_lease(session.lease());
    world.client.store().put(put).await.unwrap();
    session.close().await.unwrap();
    assert_eq!(world.leases().await, 0);
    let left = world
        .faulty
        .engine
        .range(RangeRequest::new("mine"))
        .await
        .unwrap();
    assert_eq!(left.count, 0);
    assert_eq!(other.state(), SessionState::Closed);
    soon(other.lost()).await;
    other.close().await.unwrap();
}

#[tokio::test]
async fn the_last_handle_revokes_in_the_background() {
    let world = world();
    let session = world.session().await;
    let other = session.clone();
    drop(session);
    assert!(other.is_alive());
    drop(other);
    until_async(async || world.leases().await == 0).await;
}

#[tokio::test]
async fn an_orphan_keeps_its_lease() {
    let world = world();
    let session = world.session().await;
    let lost = tokio::spawn(session.lost());
    session.orphan();
    soon(lost).await.unwrap();
    assert_eq!(world.leases().await, 1);
}

#[tokio::test]
async fn a_grant_whose_answer_is_lost_is_recognised() {
    for fault in [Fault::Lose, Fault::Drop, Fault::Refuse] {
        let world = world();
        world.faulty.script([fault]);
        let session = world.session().await;
        assert!(session.is_alive());
        assert_eq!(world.leases().await, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn the_lifetime_counts_from_the_send_not_from_the_answer() {
    let world = world();
    let session = world.session().await;
    world.faulty.close_gate(0);
    world.clock.advance(TTL / 3);
    assert!(world.faulty.wait_at_gate().await);
    // The answer takes ten seconds; nothing after it gets through.
    world.clock.advance(Duration::from_secs(10));
    world.faulty.close_gate(0);
    until(|| world.faulty.keep_alives() == 1).await;
    until(|| world.clock.sleepers() > 0).await;
    world
        .clock
        .advance(TTL - Duration::from_secs(10) - Duration::from_nanos(1));
    assert!(session.is_alive());
    world.clock.advance(Duration::from_nanos(1));
    assert!(!session.is_alive());
}

#[tokio::test]
async fn what_remains_is_counted_by_the_clock() {
    let world = world();
    let session = world.session().await;
    assert_eq!(session.remaining(), TTL);
    world.faulty.always(Some(Fault::Refuse));
    world.clock.advance(Duration::from_secs(7));
    assert_eq!(session.remaining(), TTL - Duration::from_secs(7));
    world.clock.advance(TTL);
    assert_eq!(session.remaining(), Duration::ZERO);
    assert_eq!(session.state(), SessionState::Lost);
}

/// etcd's issue 5571: a session that was closed right after it had begun.
#[tokio::test]
async fn a_session_outlives_its_beginning_5571() {
    for _ in 0..20 {
        let world = world();
        let session = world.session().await;
        let lost = tokio::spawn(session.lost());
        assert_eq!(
            soon(session.states().next()).await,
            Some(SessionState::Alive)
        );
        world.clock.advance(TTL / 3);
        until(|| world.faulty.keep_alives() == 1).await;
        assert!(session.is_alive() && !lost.is_finished());
        session.close().await.unwrap();
        soon(lost).await.unwrap();
    }
}

/// etcd's issue 8181: a session that called itself over while its lease lived.
#[tokio::test]
async fn trouble_shorter_than_the_lease_ends_nothing_8181() {
    let world = world();
    let session = world.session().await;
    let lost = tokio::spawn(session.lost());
    for _ in 0..5 {
        world.faulty.always(Some(Fault::Refuse));
        world.clock.advance(TTL / 3);
        until(|| session.state() == SessionState::Troubled).await;
        // The longest that a lease can be without a renewal.
        world.clock.advance(TTL * 2 / 3 - Duration::from_secs(3));
        assert!(session.is_alive());
        world.faulty.always(None);
        until(|| {
            world.clock.advance(Duration::from_millis(1));
            session.state() == SessionState::Alive
        })
        .await;
    }
    assert!(!lost.is_finished());
}

/// etcd's issue 13675: the lease of a session that could not be set up was left to run out.
#[tokio::test]
async fn a_beginning_that_fails_leaves_no_lease_13675() {
    let world = world();
    world.faulty.always(Some(Fault::Lose));
    let beginning = world.client.session().ttl(TTL);
    let beginning = overdue(beginning, until_async(async || world.leases().await == 1));
    beginning.await.unwrap_err();
    assert_eq!(world.leases().await, 1);
    world.faulty.always(None);
    until_async(async || world.leases().await == 0).await;
}

#[tokio::test]
async fn a_beginning_that_is_dropped_leaves_no_lease() {
    let world = world();
    world.faulty.always(Some(Fault::Lose));
    let beginning = tokio::spawn(world.client.session().ttl(TTL).build());
    until_async(async || world.leases().await == 1).await;
    beginning.abort();
    assert!(beginning.await.unwrap_err().is_cancelled());
    world.faulty.always(None);
    until_async(async || world.leases().await == 0).await;
}

/// etcd's issue 6681: a close that hangs as long as the store cannot be reached.
#[tokio::test]
async fn a_close_is_bounded_and_goes_on_in_the_background_6681() {
    let world = world();
    let session = world.session().await;
    let other = session.clone();
    world.faulty.always(Some(Fault::Refuse));
    let closing = overdue_in_trouble(&world.faulty, session.close());
    let error = closing.await.unwrap_err();
    assert!(error.is_timeout() && error.is_maybe_committed(), "{error}");
    assert_eq!(other.state(), SessionState::Closed);
    assert_eq!(world.leases().await, 1);
    world.faulty.always(None);
    until_async(async || world.leases().await == 0).await;
}

#[tokio::test]
async fn a_close_that_is_dropped_revokes_all_the_same() {
    let world = world();
    let session = world.session().await;
    world.faulty.close_gate(0);
    let closing = tokio::spawn(session.close());
    assert!(world.faulty.wait_at_gate().await);
    closing.abort();
    let _ = closing.await;
    world.faulty.open_gate();
    until_async(async || world.leases().await == 0).await;
}
