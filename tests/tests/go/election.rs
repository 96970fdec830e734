//! Elections: the leader is seen by both languages, and leadership goes from one to the other.

use futures_util::StreamExt;
use synod::election::{Leader, LeaderEvent, Leaders};
use synod::{Error, Session};
use synod_tests::beside_go;
use synod_tests::go::{Beside, waits};
use synod_tests::wait;

use crate::common::{TTL, until_keys};

/// The next thing that is seen, within patience.
async fn next(leaders: &mut Leaders) -> LeaderEvent {
    let event = wait::soon("something is observed", leaders.next()).await;
    event.unwrap().unwrap()
}

/// The next leader that is seen.
async fn next_leader(leaders: &mut Leaders) -> Leader {
    loop {
        match next(leaders).await {
            LeaderEvent::Leader(leader) => return leader,
            LeaderEvent::NoLeader => {}
            other => panic!("{other:?}"),
        }
    }
}

beside_go! {
    async fn leadership_goes_back_and_forth(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        let election = client.election("e");
        let mut ours = election.observe();
        let mut theirs = go.begin(&["election.observe", "s", "e"]);
        assert!(matches!(next(&mut ours).await, LeaderEvent::NoLeader));
        assert_eq!(election.leader().await.unwrap(), None);

        let won = go.ask(&["election.campaign", "s", "e", "Go"]).await.unwrap();
        let leader = election.leader().await.unwrap().unwrap();
        assert_eq!(leader.key.to_string(), won[0]);
        assert_eq!(leader.revision.to_string(), won[1]);
        assert_eq!(leader.value, "Go");
        assert_eq!(next_leader(&mut ours).await, leader);
        assert_eq!(theirs.event().await[1], "Go");
        go.ok(&["election.proclaim", "s", "e", "still Go"]).await;
        assert_eq!(next_leader(&mut ours).await.value, "still Go");
        assert_eq!(theirs.event().await[1], "still Go");

        assert!(election.try_campaign("Rust").await.unwrap().is_none());
        let candidate = election.clone();
        let waiting = waits("campaign", async move { candidate.campaign("Rust").await }).await;
        go.ok(&["election.resign", "s", "e"]).await;
        let leadership = wait::soon("we lead", waiting).await.unwrap().unwrap();
        let theirs_was: u64 = won[1].parse().unwrap();
        assert!(leadership.fencing_token() > theirs_was);
        assert_eq!(next_leader(&mut ours).await.value, "Rust");
        assert_eq!(theirs.event().await[1], "Rust");
        leadership.proclaim("still Rust").await.unwrap();
        assert_eq!(next_leader(&mut ours).await.value, "still Rust");
        assert_eq!(theirs.event().await[1], "still Rust");
        let seen = go.ask(&["election.leader", "s", "e"]).await.unwrap();
        assert_eq!(seen, [leadership.key().to_string(), "still Rust".to_owned()]);

        let mut waiting = go.begin(&["election.campaign", "s", "e", "Go again"]);
        waiting.assert_waits().await;
        leadership.check().await.unwrap();
        leadership.resign().await.unwrap();
        waiting.ok().await;
        assert_eq!(next_leader(&mut ours).await.value, "Go again");
        assert_eq!(theirs.event().await[1], "Go again");
        go.ok(&["election.resign", "s", "e"]).await;
        assert!(matches!(next(&mut ours).await, LeaderEvent::NoLeader));
    }

    async fn the_next_one_leads_when_a_go_program_dies(beside: Beside) {
        let mut go = beside.go();
        go.session("s", wait::BRIEF).await;
        go.ok(&["election.campaign", "s", "e", "Go"]).await;
        let election = beside.client().await.election("e");
        go.kill();
        let leadership = wait::soon("we lead", election.campaign("Rust")).await.unwrap();
        assert_eq!(election.leader().await.unwrap().unwrap().value, "Rust");
        leadership.resign().await.unwrap();
    }

    async fn a_go_program_leads_when_our_client_closes(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        let leadership = client.election("e").campaign("Rust").await.unwrap();
        let mut waiting = go.begin(&["election.campaign", "s", "e", "Go"]);
        waiting.assert_waits().await;
        client.close().await.unwrap();
        waiting.ok().await;
        drop(leadership);
    }
    /// etcd#11051: a Go candidate whose session ended while it waited takes itself for the leader.
    /// Ours learns at once that it will not be.
    async fn a_candidate_whose_session_is_over_does_not_lead(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        let election = client.election("e");
        let leadership = election.campaign("the first").await.unwrap();
        let session = Session::builder(&client).ttl(TTL).build().await.unwrap();
        let candidate = election.clone().with_session(&session);
        let ours = waits("campaign", async move { candidate.campaign("Rust").await }).await;
        let mut theirs = go.begin(&["election.campaign", "s", "e", "Go"]);
        until_keys(&client, "e/", 3).await;
        theirs.assert_waits().await;
        client.store().lease_revoke(session.lease()).await.unwrap();
        let ended = wait::soon("the wait ends", ours).await.unwrap();
        assert!(matches!(ended, Err(Error::SessionLost)), "{ended:?}");
        go.ok(&["session.close", "s"]).await;
        theirs.assert_waits().await;
        leadership.resign().await.unwrap();
        theirs.ok().await;
        assert_eq!(election.leader().await.unwrap(), None);
    }
}
