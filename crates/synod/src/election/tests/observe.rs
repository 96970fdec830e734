//! What observers are told.

use super::*;

#[tokio::test]
async fn observers_see_every_leader_proclamation_and_absence() {
    let faulty = Faulty::new();
    let (one, two) = clients(&faulty);
    let mut leaders = one.election("e").observe();
    led_by_nobody(&mut leaders).await;
    let first = one.election("e").campaign("a").await.unwrap();
    let told = led_by(&mut leaders, "a").await;
    assert_eq!(told.revision.0, first.fencing_token());
    for value in ["b", "c"] {
        first.proclaim(value).await.unwrap();
        assert_eq!(led_by(&mut leaders, value).await.revision, told.revision);
    }
    let election = two.election("e");
    let second = tokio::spawn(async move { election.campaign("d").await });
    until_candidates(&faulty, 2).await;
    first.resign().await.unwrap();
    assert!(led_by(&mut leaders, "d").await.revision > told.revision);
    soon(second).await.unwrap().unwrap().resign().await.unwrap();
    led_by_nobody(&mut leaders).await;
}

/// etcd's issue 18163: after a gap, observers are shown a leader of the past.
#[tokio::test]
async fn observers_are_shown_the_newest_leader_after_a_gap_18163() {
    for end in [WatchEnd::Compacted, WatchEnd::Closed, WatchEnd::Broken] {
        let faulty = Faulty::new();
        let client = faulty.client(TIMEOUT);
        let election = client.election("e");
        let mut leaders = election.observe();
        led_by_nobody(&mut leaders).await;
        let first = election.campaign("first").await.unwrap();
        let mut last = led_by(&mut leaders, "first").await.revision;
        // The watch ends, and all that happens in the gap is unseen.
        faulty.end_watches(end);
        first.proclaim("unseen").await.unwrap();
        first.resign().await.unwrap();
        election
            .campaign("between")
            .await
            .unwrap()
            .resign()
            .await
            .unwrap();
        let second = election.campaign("second").await.unwrap();
        loop {
            match soon(leaders.next()).await.unwrap().unwrap() {
                LeaderEvent::Leader(leader) => {
                    assert!(leader.revision >= last, "{end:?}: {leader:?} after {last}");
                    last = leader.revision;
                    if leader.value == "second" {
                        break;
                    }
                }
                LeaderEvent::NoLeader => {}
                LeaderEvent::Lost(error) => panic!("{end:?}: {error}"),
            }
        }
        second.resign().await.unwrap();
        led_by_nobody(&mut leaders).await;
    }
}

#[tokio::test]
async fn observers_are_told_when_the_leader_is_not_known() {
    let faulty = Faulty::new();
    let (one, two) = (faulty.client(TIMEOUT), faulty.client(TIMEOUT));
    let leadership = one.election("e").campaign("a").await.unwrap();
    let mut leaders = two.election("e").observe();
    led_by(&mut leaders, "a").await;
    faulty.always(Some(Fault::Refuse));
    faulty.end_watches(WatchEnd::Closed);
    let event = overdue_in_trouble(&faulty, leaders.next());
    let event = event.await.unwrap().unwrap();
    assert!(matches!(event, LeaderEvent::Lost(_)), "{event:?}");
    faulty.always(None);
    // The same leader is told again: it is known again.
    led_by(&mut leaders, "a").await;
    leadership.proclaim("b").await.unwrap();
    led_by(&mut leaders, "b").await;
}

#[tokio::test]
async fn what_happens_at_one_revision_is_one_event() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let election = client.election("e");
    let first = election.campaign("a").await.unwrap();
    let mut leaders = election.observe();
    led_by(&mut leaders, "a").await;
    // The leader goes and another comes in one Txn: at no revision is there no leader.
    let txn = Txn::new().and_then([
        TxnOp::from(DeleteRequest::new(first.key().clone())),
        PutRequest::new("e/by-hand", "b").into(),
    ]);
    faulty.engine.txn(txn).await.unwrap();
    led_by(&mut leaders, "b").await;
    // Of two that come at one revision the first by key leads.
    let txn = Txn::new().and_then([
        TxnOp::from(DeleteRequest::new("e/by-hand")),
        PutRequest::new("e/2", "two").into(),
        PutRequest::new("e/1", "one").into(),
    ]);
    faulty.engine.txn(txn).await.unwrap();
    led_by(&mut leaders, "one").await;
    assert_eq!(election.leader().await.unwrap().unwrap().value, "one");
}
