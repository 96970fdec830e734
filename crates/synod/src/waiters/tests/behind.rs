//! The look at one's turn asks one member alone: what it has not seen yet is never taken for the truth.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{DeleteRequest, KeyRange, LeaseId, PutRequest, Revision, Store};
use tokio::task::JoinHandle;

use super::super::{Place, Vigils, join};
use super::{lease, request, stand, waiting};
use crate::testing::{Faulty, soon, until};
use crate::{Error, Result};

/// A head of the line, and who waits behind it under a lease of its own, without a watch of its own key:
/// only the look tells it that it has lost its place.
async fn line(faulty: &Faulty) -> (Place, JoinHandle<Result<Place>>, LeaseId) {
    let head = stand(faulty, "a").await;
    let lease = lease(faulty).await;
    let vigils = Vigils::new(Arc::new(faulty.clone())).with_own_watch(Duration::from_secs(3600));
    let place = join::join(&vigils, request("b", lease), None)
        .await
        .unwrap();
    // Later than what the joining Txn has shown: the watch does not tell what happened since, so that it
    // has to look.
    let put = PutRequest::new("other", "");
    faulty.engine.put(put).await.unwrap();
    let read = faulty.answered();
    let second = waiting(place);
    until(|| faulty.answered() > read).await;
    (head, second, lease)
}

async fn now(faulty: &Faulty) -> Revision {
    faulty.engine.status().await.unwrap().header.revision
}

fn is_lost(waited: Result<Place>) -> bool {
    matches!(waited, Err(Error::SessionLost))
}

#[tokio::test]
async fn one_member_is_asked_when_it_is_our_turn() {
    let faulty = Faulty::new();
    let (head, second, _) = line(&faulty).await;
    let (txns, alone) = (faulty.txns(), faulty.asked_alone());
    head.leave().await.unwrap();
    soon(second).await.unwrap().unwrap();
    assert_eq!(faulty.txns() - txns, 2, "to leave, and to look");
    assert_eq!(faulty.asked_alone() - alone, 1);
}

#[tokio::test]
async fn a_member_that_has_not_seen_the_departure_is_not_believed() {
    let faulty = Faulty::new();
    let (head, second, _) = line(&faulty).await;
    faulty.fall_behind(Some(now(&faulty).await));
    let left = head.leave();
    assert!(left.await.unwrap());
    let place = soon(second).await.unwrap().unwrap();
    // In its eyes the other one is there still.
    assert_eq!(place.position(), 0);
}

/// The own key goes first: the member that still shows it is behind the news of the other one.
#[tokio::test]
async fn a_member_that_still_shows_the_own_key_is_not_believed() {
    let faulty = Faulty::new();
    let (head, second, lease) = line(&faulty).await;
    faulty.fall_behind(Some(now(&faulty).await));
    faulty.engine.lease_revoke(lease).await.unwrap();
    assert!(head.leave().await.unwrap());
    assert!(is_lost(soon(second).await.unwrap()));
}

#[tokio::test]
async fn who_goes_with_the_one_before_in_one_revision_is_told_so() {
    for behind in [false, true] {
        let faulty = Faulty::new();
        let (head, second, _) = line(&faulty).await;
        if behind {
            faulty.fall_behind(Some(now(&faulty).await));
        }
        let all = DeleteRequest::new(KeyRange::prefix("line/"));
        assert_eq!(faulty.engine.delete(all).await.unwrap().deleted, 2);
        assert!(is_lost(soon(second).await.unwrap()), "behind: {behind}");
        drop(head);
    }
}

/// A watch that stands on a member is worth what was read no earlier than that.
#[tokio::test]
async fn the_look_before_a_wait_is_not_older_than_the_watch() {
    let faulty = Faulty::new();
    let head = stand(&faulty, "a").await;
    let lease = lease(&faulty).await;
    let vigils = Vigils::new(Arc::new(faulty.clone()));
    let mut place = join::join(&vigils, request("b", lease), None)
        .await
        .unwrap();
    // The head leaves before the watch stands, and the member that is asked has not heard of it.
    faulty.fall_behind(Some(now(&faulty).await));
    assert!(head.leave().await.unwrap());
    soon(place.wait(pending())).await.unwrap();
}
