//! The server's Lock and Election services, asked by Go's generated clients, beside our mutex and
//! election on the same names.

use synod_tests::beside_go;
use synod_tests::go::{Beside, waits};
use synod_tests::wait;

beside_go! {
    async fn the_lock_service_and_our_mutex_stand_in_one_line(beside: Beside) {
        let (go, mutex) = (beside.go(), beside.client().await.mutex("l"));
        let lease = go.ok(&["lease.grant", "30"]).await;
        let key = go.ok(&["rpc.lock", "l", &lease]).await;
        let ours = mutex.clone();
        let ours = waits("lock", async move { ours.lock().await }).await;
        go.ok(&["rpc.unlock", &key]).await;
        let guard = wait::soon("the lock", ours).await.unwrap().unwrap();
        let mut theirs = go.begin(&["rpc.lock", "l", &lease]);
        theirs.assert_waits().await;
        guard.check().await.unwrap();
        guard.unlock().await.unwrap();
        let key = theirs.ok().await;
        go.ok(&["rpc.unlock", &key]).await;
    }

    async fn the_election_service_and_our_election_are_one(beside: Beside) {
        let (go, election) = (beside.go(), beside.client().await.election("e"));
        let lease = go.ok(&["lease.grant", "30"]).await;
        let won = go.ask(&["rpc.campaign", "e", &lease, "Go"]).await.unwrap();
        let [name, key, revision, lease] = won.as_slice() else {
            panic!("{won:?}");
        };
        let leader = election.leader().await.unwrap().unwrap();
        assert_eq!((leader.key.to_string(), leader.value.as_ref()), (key.clone(), &b"Go"[..]));
        let candidate = election.clone();
        let ours = waits("campaign", async move { candidate.campaign("Rust").await }).await;
        let mut seen = go.begin(&["rpc.observe", "e"]);
        assert_eq!(seen.event().await[1], "Go");
        go.ok(&["rpc.resign", name, key, revision, lease]).await;
        let leadership = wait::soon("we lead", ours).await.unwrap().unwrap();
        assert_eq!(seen.event().await[1], "Rust");
        leadership.proclaim("still Rust").await.unwrap();
        assert_eq!(seen.event().await[1], "still Rust");
        let seen = go.ask(&["rpc.leader", "e"]).await.unwrap();
        assert_eq!(seen, [leadership.key().to_string(), "still Rust".to_owned()]);
        let mut theirs = go.begin(&["rpc.campaign", "e", lease, "Go again"]);
        theirs.assert_waits().await;
        leadership.resign().await.unwrap();
        theirs.ok().await;
        assert_eq!(election.leader().await.unwrap().unwrap().value, "Go again");
    }
}
