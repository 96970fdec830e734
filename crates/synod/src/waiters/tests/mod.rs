//! A line of waiters: order, departures, deaths, lost answers.

mod behind;
mod leftovers;
mod lingering;
mod runtimes;
mod sharing;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{
    DeleteRequest, ErrorKind, KeyRange, LeaseGrantRequest, LeaseId, PutRequest, RangeRequest, Store,
};

use super::{Join, Lines, Neighbours, Place, Suffix};
use crate::testing::{Fault, Faulty, overdue_in_trouble, until, until_async};
use crate::{Error, Result};

const TTL: Duration = Duration::from_secs(60);

async fn lease(faulty: &Faulty) -> LeaseId {
    faulty
        .engine
        .lease_grant(LeaseGrantRequest::new(TTL))
        .await
        .unwrap()
        .id
}

fn request(suffix: &str, lease: LeaseId) -> Join {
    Join {
        prefix: "line/".into(),
        suffix: Bytes::copy_from_slice(suffix.as_bytes()),
        sharing: Suffix::Unique,
        value: Bytes::new(),
        lease,
        neighbours: Neighbours::Direct,
        patience: TTL,
    }
}

async fn join(store: Arc<Faulty>, request: Join) -> Result<Place> {
    Lines::new(store).join(request).await
}

async fn stand(faulty: &Faulty, suffix: &str) -> Place {
    let lease = lease(faulty).await;
    join(Arc::new(faulty.clone()), request(suffix, lease))
        .await
        .unwrap()
}

fn waiting(mut place: Place) -> tokio::task::JoinHandle<Result<Place>> {
    tokio::spawn(async move {
        place.wait(pending()).await?;
        Ok(place)
    })
}

async fn count(faulty: &Faulty) -> u64 {
    let range = KeyRange::prefix("line/");
    faulty
        .engine
        .range(RangeRequest::new(range).count_only())
        .await
        .unwrap()
        .count
}

#[tokio::test]
async fn an_empty_line_costs_one_round_trip() {
    let faulty = Faulty::new();
    let before = faulty.txns();
    let mut place = stand(&faulty, "a").await;
    let header = place.wait(pending()).await.unwrap();
    assert_eq!(header.revision, place.created());
    assert_eq!(
        (faulty.txns() - before, faulty.ranges(), faulty.watches()),
        (1, 0, 0)
    );
    assert!(place.leave().await.unwrap());
    assert_eq!(count(&faulty).await, 0);
}

#[tokio::test]
async fn the_line_moves_in_order_and_tokens_rise() {
    let faulty = Faulty::new();
    let mut places = Vec::new();
    for suffix in ["c", "a", "b", "d"] {
        places.push(stand(&faulty, suffix).await);
    }
    assert_eq!(
        places.iter().map(Place::position).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    let mut tasks: Vec<_> = places.into_iter().map(waiting).collect();
    let mut last = synod_store::Revision::ZERO;
    while !tasks.is_empty() {
        let place = tasks.remove(0).await.unwrap().unwrap();
        assert!(place.created() > last);
        last = place.created();
        assert!(
            tasks.iter().all(|task| !task.is_finished()),
            "only one is at the head"
        );
        place.leave().await.unwrap();
    }
}

#[tokio::test]
async fn who_leaves_from_the_middle_wakes_nobody_to_the_head() {
    let faulty = Faulty::new();
    let first = stand(&faulty, "a").await;
    let second = stand(&faulty, "b").await;
    let third = waiting(stand(&faulty, "c").await);
    until(|| faulty.watches() == 2).await;
    drop(second);
    // It now watches the first, and its own key as before.
    until(|| faulty.watches() == 3).await;
    assert!(!third.is_finished());
    first.leave().await.unwrap();
    third.await.unwrap().unwrap().leave().await.unwrap();
    assert_eq!(count(&faulty).await, 0);
}

#[tokio::test]
async fn a_waiter_whose_lease_dies_is_told_so() {
    let faulty = Faulty::new();
    let first = stand(&faulty, "a").await;
    let lease = lease(&faulty).await;
    let second = join(Arc::new(faulty.clone()), request("b", lease))
        .await
        .unwrap();
    let second = waiting(second);
    until(|| faulty.watches() == 2).await;
    faulty.engine.lease_revoke(lease).await.unwrap();
    assert!(second.await.unwrap().unwrap_err().is_session_lost());
    first.leave().await.unwrap();
}

#[tokio::test]
async fn nobody_is_told_yours_after_the_own_lease_has_died() {
    let faulty = Faulty::new();
    let first_lease = lease(&faulty).await;
    let mut first = join(Arc::new(faulty.clone()), request("a", first_lease))
        .await
        .unwrap();
    first.wait(pending()).await.unwrap();
    let second_lease = lease(&faulty).await;
    let mut second = join(Arc::new(faulty.clone()), request("b", second_lease))
        .await
        .unwrap();
    // Both go before the second has begun to wait: it sees an empty line, and no own key.
    faulty.engine.lease_revoke(second_lease).await.unwrap();
    faulty.engine.lease_revoke(first_lease).await.unwrap();
    assert!(matches!(
        second.wait(pending()).await,
        Err(Error::SessionLost)
    ));
}

#[tokio::test]
async fn the_wait_ends_with_the_session() {
    let faulty = Faulty::new();
    let _first = stand(&faulty, "a").await;
    let mut second = stand(&faulty, "b").await;
    let (over, ended) = tokio::sync::oneshot::channel::<()>();
    let task =
        tokio::spawn(async move { second.wait(async { drop(ended.await) }).await.map(|_| ()) });
    drop(over);
    assert!(matches!(task.await.unwrap(), Err(Error::SessionLost)));
}

#[tokio::test]
async fn a_dropped_waiter_leaves_but_frees_no_later_key() {
    let faulty = Faulty::new();
    let place = stand(&faulty, "a").await;
    let key = place.key().clone();
    // Somebody deletes it, and the same key is made anew.
    faulty
        .engine
        .delete(DeleteRequest::new(key.clone()))
        .await
        .unwrap();
    faulty
        .engine
        .put(PutRequest::new(key.clone(), "another's"))
        .await
        .unwrap();
    let txns = faulty.txns();
    drop(place);
    until(|| faulty.txns() > txns).await;
    // Behind it in the engine's order: whatever the drop did is done.
    let other = stand(&faulty, "b").await;
    assert_eq!(count(&faulty).await, 2);
    drop(other);
    until_async(async || count(&faulty).await == 1).await;
}

#[tokio::test]
async fn a_join_that_is_dropped_leaves_nothing() {
    let faulty = Faulty::new();
    let lease = lease(&faulty).await;
    for step in 0..2 {
        faulty.close_gate(step);
        let join = join(Arc::new(faulty.clone()), request("a", lease));
        let task = tokio::spawn(join);
        if step == 0 {
            assert!(faulty.wait_at_gate().await);
        }
        task.abort();
        let _ = task.await;
        faulty.open_gate();
        until_async(async || count(&faulty).await == 0).await;
    }
}

#[tokio::test]
async fn a_second_call_with_a_shared_suffix_joins_at_the_same_place() {
    let faulty = Faulty::new();
    let lease = lease(&faulty).await;
    let shared = || Join {
        sharing: Suffix::Shared,
        value: "v".into(),
        ..request("a", lease)
    };
    let mut first = join(Arc::new(faulty.clone()), shared()).await.unwrap();
    first.wait(pending()).await.unwrap();
    let mut second = join(Arc::new(faulty.clone()), shared()).await.unwrap();
    assert_eq!(second.created(), first.created());
    assert_eq!(second.found().unwrap().value, "v");
    second.wait(pending()).await.unwrap();
    drop(second);
    // The first call's key is not the second's to delete.
    assert_eq!(first.keep(), "line/a".into());
    let third = stand(&faulty, "b").await;
    assert_eq!(third.position(), 1);
    assert_eq!(count(&faulty).await, 2);
}

#[tokio::test]
async fn keys_below_another_name_stand_in_the_line_only_when_asked() {
    let faulty = Faulty::new();
    faulty
        .engine
        .put(PutRequest::new("line/x/1", ""))
        .await
        .unwrap();
    assert_eq!(stand(&faulty, "a").await.position(), 0);
    let lease = lease(&faulty).await;
    let all = Join {
        neighbours: Neighbours::All,
        ..request("b", lease)
    };
    let place = join(Arc::new(faulty.clone()), all).await.unwrap();
    assert!(place.position() >= 1);
}

#[tokio::test]
async fn a_line_survives_compaction() {
    let faulty = Faulty::new();
    let first = stand(&faulty, "a").await;
    let second = waiting(stand(&faulty, "b").await);
    until(|| faulty.watches() == 2).await;
    for _ in 0..20 {
        let put = faulty
            .engine
            .put(PutRequest::new("other", ""))
            .await
            .unwrap();
        faulty
            .engine
            .compact(put.header.revision, true)
            .await
            .unwrap();
    }
    assert!(!second.is_finished());
    first.leave().await.unwrap();
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_join_whose_answer_is_lost_is_ours_all_the_same() {
    for fault in [Fault::Refuse, Fault::Drop, Fault::Lose, Fault::Overtaken] {
        let faulty = Faulty::new();
        let lease = lease(&faulty).await;
        faulty.script([fault]);
        let mut place = join(Arc::new(faulty.clone()), request("a", lease))
            .await
            .unwrap();
        assert!(place.found().is_none(), "{fault:?}");
        place.wait(pending()).await.unwrap();
        drop(place);
        until_async(async || count(&faulty).await == 0).await;
    }
}

#[tokio::test]
async fn a_lease_that_is_not_there_is_named() {
    let faulty = Faulty::new();
    let gone = LeaseId::new(4711).unwrap();
    let error = join(Arc::new(faulty.clone()), request("a", gone))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::LeaseNotFound));
    assert!(error.is_session_lost());
}

#[tokio::test]
async fn a_join_that_was_given_up_does_not_block_the_line() {
    for fault in [Fault::Lose, Fault::Late] {
        let faulty = Faulty::new();
        let lease = lease(&faulty).await;
        let mut request = request("a", lease);
        request.patience = TTL;
        faulty.always(Some(fault));
        let store = Arc::new(faulty.clone());
        let joining = overdue_in_trouble(&faulty, join(store, request));
        let error = joining.await.unwrap_err();
        assert!(error.is_maybe_committed(), "{error}");
        faulty.always(None);
        faulty.deliver_late().await;
        until_async(async || count(&faulty).await == 0).await;
    }
}

#[tokio::test]
async fn nobody_is_told_yours_whose_session_has_ended() {
    for _ in 0..20 {
        let faulty = Faulty::new();
        let mut place = stand(&faulty, "a").await;
        let told = place.wait(std::future::ready(())).await;
        assert!(matches!(told, Err(Error::SessionLost)), "{told:?}");
    }
}
