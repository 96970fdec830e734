//! Elections in one process, over a store that loses answers.

mod observe;

use std::time::Duration;

use futures_util::StreamExt;
use synod_store::{
    DeleteRequest, KeyRange, PutRequest, RangeRequest, RangeResponse, Store, Txn, TxnOp,
};

use super::{Leader, LeaderEvent, Leaders};
use crate::testing::{
    FAULTS, Fault, Faulty, WatchEnd, overdue_in_trouble, soon, until, until_async,
};
use crate::{Client, Error};

const TIMEOUT: Duration = Duration::from_secs(60);

async fn candidates(faulty: &Faulty) -> RangeResponse {
    let range = RangeRequest::new(KeyRange::prefix("e/"));
    faulty.engine.range(range).await.unwrap()
}

async fn until_candidates(faulty: &Faulty, count: u64) {
    until_async(async || candidates(faulty).await.count == count).await;
}

async fn led_by(leaders: &mut Leaders, value: &str) -> Leader {
    match soon(leaders.next()).await.unwrap().unwrap() {
        LeaderEvent::Leader(leader) => {
            assert_eq!(leader.value, value.to_owned());
            leader
        }
        other => panic!("not led by {value}: {other:?}"),
    }
}

async fn led_by_nobody(leaders: &mut Leaders) {
    let event = soon(leaders.next()).await.unwrap().unwrap();
    assert!(matches!(event, LeaderEvent::NoLeader), "{event:?}");
}

fn clients(faulty: &Faulty) -> (Client, Client) {
    (faulty.client(TIMEOUT), faulty.client(TIMEOUT))
}

#[tokio::test]
async fn candidates_lead_in_the_order_in_which_they_came() {
    let faulty = Faulty::new();
    let (one, two) = clients(&faulty);
    let first = one.election("e").campaign("one").await.unwrap();
    assert_eq!(first.value(), "one");
    let election = two.election("e");
    assert!(election.try_campaign("two").await.unwrap().is_none());
    assert_eq!(candidates(&faulty).await.count, 1);
    let second = tokio::spawn(async move { election.campaign("two").await });
    until_candidates(&faulty, 2).await;
    // One client, one session: another candidate all the same.
    let election = one.election("e");
    let third = tokio::spawn(async move { election.campaign("three").await });
    until_candidates(&faulty, 3).await;
    let token = first.fencing_token();
    first.resign().await.unwrap();
    let second = soon(second).await.unwrap().unwrap();
    assert!(second.fencing_token() > token && !third.is_finished());
    let leader = two.election("e").leader().await.unwrap().unwrap();
    assert_eq!(
        (&leader.key, leader.value.as_ref()),
        (second.key(), &b"two"[..])
    );
    assert_eq!(leader.revision.0, second.fencing_token());
    drop(second);
    let third = soon(third).await.unwrap().unwrap();
    third.check().await.unwrap();
    third.resign().await.unwrap();
    assert_eq!(one.election("e").leader().await.unwrap(), None);
}

#[tokio::test]
async fn a_campaign_costs_one_round_trip_when_nobody_stands_before() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let election = client.election("e");
    client.own_session().await.unwrap();
    let before = (faulty.txns(), faulty.ranges(), faulty.watches());
    let leadership = election.campaign("a").await.unwrap();
    assert_eq!(
        (faulty.txns(), faulty.ranges(), faulty.watches()),
        (before.0 + 1, before.1, before.2)
    );
    leadership.proclaim("b").await.unwrap();
    leadership.resign().await.unwrap();
    assert_eq!((faulty.txns(), faulty.ranges()), (before.0 + 3, before.1));
}

/// etcd's issues 9921 and 11051: a candidate whose lease has died is told to lead.
#[tokio::test]
async fn nobody_is_elected_after_its_lease_has_died_9921_11051() {
    let faulty = Faulty::new();
    let (one, two) = clients(&faulty);
    let leader = one.election("e").campaign("one").await.unwrap();
    let session = two.session().await.unwrap();
    let election = two.election("e").with_session(&session);
    let candidate = tokio::spawn(async move { election.campaign("two").await });
    until_candidates(&faulty, 2).await;
    // Somebody revokes the lease; the renewals, which come later, have not noticed.
    faulty.engine.lease_revoke(session.lease()).await.unwrap();
    leader.resign().await.unwrap();
    let error = soon(candidate).await.unwrap().unwrap_err();
    assert!(error.is_session_lost(), "{error}");
    assert_eq!(one.election("e").leader().await.unwrap(), None);
}

/// As etcd's issue 19597 for locks: a candidate whose session has ended waits on.
#[tokio::test]
async fn a_candidate_whose_session_ends_is_told_so_19597() {
    let faulty = Faulty::new();
    let (one, two) = clients(&faulty);
    let _leader = one.election("e").campaign("one").await.unwrap();
    let session = two.session().await.unwrap();
    let election = two.election("e").with_session(&session);
    let candidate = tokio::spawn(async move { election.campaign("two").await });
    until_candidates(&faulty, 2).await;
    // The store cannot be reached, so that nothing but the session's own word can end the wait.
    faulty.close_gate(0);
    session.orphan();
    let error = soon(candidate).await.unwrap().unwrap_err();
    assert!(error.is_session_lost(), "{error}");
    faulty.open_gate();
    until_candidates(&faulty, 1).await;
}

/// etcd's issue 21128: a campaign that fails leaves its candidate in the line.
#[tokio::test]
async fn a_campaign_that_fails_or_is_dropped_leaves_no_candidate_21128() {
    let faulty = Faulty::new();
    let (one, two) = (faulty.client(TIMEOUT), faulty.client(TIMEOUT));
    let leader = one.election("e").campaign("one").await.unwrap();
    let election = two.election("e");
    assert!(
        election
            .campaign_timeout("two", Duration::from_millis(20))
            .await
            .unwrap()
            .is_none()
    );
    until_candidates(&faulty, 1).await;
    let dropped = tokio::spawn({
        let election = election.clone();
        async move { election.campaign("two").await }
    });
    until_candidates(&faulty, 2).await;
    dropped.abort();
    until_candidates(&faulty, 1).await;
    // The store stops answering: its watch breaks, the read after it fails.
    let failing = tokio::spawn(async move { election.campaign("two").await });
    until_candidates(&faulty, 2).await;
    // The leader's key is watched as before; after a while its own is too.
    until(|| faulty.watches() == 2).await;
    faulty.always(Some(Fault::Refuse));
    faulty.end_watches(WatchEnd::Broken);
    let failing = overdue_in_trouble(&faulty, failing);
    let error = failing.await.unwrap().unwrap_err();
    assert!(!error.is_session_lost(), "{error}");
    faulty.always(None);
    until_candidates(&faulty, 1).await;
    leader.check().await.unwrap();
}

/// etcd's issue 22123: a resignation that fails is forgotten, and the leadership stays.
#[tokio::test]
async fn a_resignation_that_fails_goes_on_22123() {
    for fault in [Fault::Refuse, Fault::Drop, Fault::Lose] {
        let faulty = Faulty::new();
        let client = faulty.client(TIMEOUT);
        let leadership = client.election("e").campaign("me").await.unwrap();
        faulty.always(Some(fault));
        let resigning = overdue_in_trouble(&faulty, leadership.resign());
        resigning.await.unwrap_err();
        faulty.always(None);
        until_candidates(&faulty, 0).await;
    }
}

#[tokio::test]
async fn answers_that_are_lost_harm_no_campaign_proclamation_or_resignation() {
    for fault in FAULTS {
        let faulty = Faulty::new();
        let client = faulty.client(TIMEOUT);
        client.own_session().await.unwrap();
        faulty.script([fault]);
        let leadership = client.election("e").campaign("a").await.unwrap();
        faulty.script([fault]);
        leadership.proclaim("b").await.unwrap();
        leadership.proclaim("c").await.unwrap();
        faulty.deliver_late().await;
        let leader = client.election("e").leader().await.unwrap().unwrap();
        assert_eq!(leader.value, "c", "{fault:?}");
        assert_eq!(candidates(&faulty).await.count, 1, "{fault:?}");
        faulty.script([fault]);
        leadership.resign().await.unwrap();
        faulty.deliver_late().await;
        until_candidates(&faulty, 0).await;
    }
}

/// A proclamation that was given up may come in before the next one, never after it.
#[tokio::test]
async fn a_later_proclamation_prevails() {
    for fault in [Fault::Late, Fault::Overtaken, Fault::Lose, Fault::Drop] {
        let faulty = Faulty::new();
        let client = faulty.client(TIMEOUT);
        let leadership = client.election("e").campaign("a").await.unwrap();
        faulty.always(Some(fault));
        let proclaiming = overdue_in_trouble(&faulty, leadership.proclaim("b"));
        let error = proclaiming.await.unwrap_err();
        assert!(error.is_maybe_committed(), "{fault:?}: {error}");
        faulty.always(None);
        leadership.proclaim("c").await.unwrap();
        faulty.deliver_late().await;
        let leader = client.election("e").leader().await.unwrap().unwrap();
        assert_eq!(
            (leader.value.as_ref(), leadership.value()),
            (&b"c"[..], "c".into())
        );
    }
}

#[tokio::test]
async fn who_was_replaced_proclaims_resigns_and_writes_nothing() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let old = client.election("e").campaign("old").await.unwrap();
    let lost = tokio::spawn(old.lost());
    // Somebody deletes its key.
    faulty
        .engine
        .delete(DeleteRequest::new(old.key().clone()))
        .await
        .unwrap();
    soon(lost).await.unwrap();
    let new = client.election("e").campaign("new").await.unwrap();
    assert!(new.fencing_token() > old.fencing_token());
    let write = old.txn().and_then([PutRequest::new("k", "v")]);
    for error in [
        old.check().await.unwrap_err(),
        old.proclaim("late").await.unwrap_err(),
        write.await.unwrap_err(),
        old.resign().await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::NotOwner { .. }), "{error}");
    }
    assert_eq!(
        faulty
            .engine
            .range(RangeRequest::new("k"))
            .await
            .unwrap()
            .count,
        0
    );
    new.check().await.unwrap();
    let answer = new
        .txn()
        .and_then([PutRequest::new("k", "v")])
        .await
        .unwrap();
    assert!(answer.succeeded);
}

/// etcd's issue 6278: a candidate of `e/x` stands in the election `e`.
#[tokio::test]
async fn candidates_of_names_below_are_no_candidates_6278() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let below = client.election("e/x").campaign("below").await.unwrap();
    let mut leaders = client.election("e").observe();
    led_by_nobody(&mut leaders).await;
    assert_eq!(client.election("e").leader().await.unwrap(), None);
    let leadership = client
        .election("e")
        .try_campaign("own")
        .await
        .unwrap()
        .unwrap();
    led_by(&mut leaders, "own").await;
    below.proclaim("other").await.unwrap();
    let leader = client.election("e").leader().await.unwrap().unwrap();
    assert_eq!(leader.key, *leadership.key());
    below.resign().await.unwrap();
    leadership.proclaim("mine").await.unwrap();
    led_by(&mut leaders, "mine").await;
}

#[tokio::test]
async fn names_of_synods_own_are_refused() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let election = client.election("__synod/x");
    let reserved = |error: &Error| matches!(error, Error::ReservedName { .. });
    assert!(reserved(&election.campaign("a").await.unwrap_err()));
    assert!(reserved(&election.leader().await.unwrap_err()));
    let mut leaders = election.observe();
    assert!(reserved(&soon(leaders.next()).await.unwrap().unwrap_err()));
    assert!(soon(leaders.next()).await.is_none());
}
