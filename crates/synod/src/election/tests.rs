//! Elections in one process, over a store that loses answers.

use std::time::Duration;

use futures_util::StreamExt;
use synod_store::{KeyRange, RangeRequest, RangeResponse, Store};

use super::{Leader, LeaderEvent, Leaders};
use crate::Client;
use crate::testing::{Faulty, until_async};

const TIMEOUT: Duration = Duration::from_secs(10);

async fn candidates(faulty: &Faulty) -> RangeResponse {
    let range = RangeRequest::new(KeyRange::prefix("e/"));
    faulty.engine.range(range).await.unwrap()
}

async fn until_candidates(faulty: &Faulty, count: u64) {
    until_async(async || candidates(faulty).await.count == count).await;
}

async fn led_by(leaders: &mut Leaders, value: &str) -> Leader {
    match leaders.next().await.unwrap().unwrap() {
        LeaderEvent::Leader(leader) => {
            assert_eq!(leader.value, value.to_owned());
            leader
        }
        other => panic!("not led by {value}: {other:?}"),
    }
}

async fn led_by_nobody(leaders: &mut Leaders) {
    let event = leaders.next().await.unwrap().unwrap();
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
    let second = second.await.unwrap().unwrap();
    assert!(second.fencing_token() > token && !third.is_finished());
    let leader = two.election("e").leader().await.unwrap().unwrap();
    assert_eq!(
        (&leader.key, leader.value.as_ref()),
        (second.key(), &b"two"[..])
    );
    assert_eq!(leader.revision.0, second.fencing_token());
    drop(second);
    let third = third.await.unwrap().unwrap();
    third.check().await.unwrap();
    third.resign().await.unwrap();
    assert_eq!(one.election("e").leader().await.unwrap(), None);
}

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
    second.await.unwrap().unwrap().resign().await.unwrap();
    led_by_nobody(&mut leaders).await;
}
