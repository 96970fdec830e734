//! Sessions by a clock that moves only when told, over a network that misbehaves.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use synod_store::{PutRequest, RangeRequest, Store};

use crate::clock::ManualClock;
use crate::testing::{Fault, Faulty, until};
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
    let options = ConnectOptions::new("memory:").with_clock(clock.clone());
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
    assert_eq!(states.next().await, Some(SessionState::Alive));
    let lost = tokio::spawn(session.lost());
    world.faulty.always(Some(Fault::Refuse));
    world.clock.advance(TTL / 3);
    assert_eq!(states.next().await, Some(SessionState::Troubled));
    world.clock.advance(TTL * 2 / 3 - Duration::from_nanos(1));
    assert!(session.is_alive());
    assert!(session.check().is_ok());
    world.clock.advance(Duration::from_nanos(1));
    assert!(!session.is_alive());
    assert!(session.check().unwrap_err().is_session_lost());
    lost.await.unwrap();
    assert_eq!(states.next().await, Some(SessionState::Lost));
    assert_eq!(states.next().await, None);
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
    session.lost().await;
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
    session.lost().await;
    assert_eq!(session.state(), SessionState::Lost);
}

#[tokio::test]
async fn trouble_passes_when_the_store_comes_back() {
    let world = world();
    let session = world.session().await;
    let mut states = session.states();
    assert_eq!(states.next().await, Some(SessionState::Alive));
    world.faulty.always(Some(Fault::Refuse));
    world.clock.advance(TTL / 3);
    assert_eq!(states.next().await, Some(SessionState::Troubled));
    world.faulty.always(None);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(states.next().await, Some(SessionState::Alive));
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
    other.lost().await;
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
    for _ in 0..1000 {
        if world.leases().await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the lease is still there");
}

#[tokio::test]
async fn an_orphan_keeps_its_lease() {
    let world = world();
    let session = world.session().await;
    let lost = tokio::spawn(session.lost());
    session.orphan();
    lost.await.unwrap();
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
