//! The barrier: whoever holds, all wait; whoever releases, all go on.

use synod::store::PutRequest;
use synod::{Client, Error};
use synod_tests::beside_go;
use synod_tests::go::{Beside, waits};
use synod_tests::wait;

/// Anybody writes anything.
async fn something_else(client: &Client) {
    let put = PutRequest::new("something else", "");
    client.store().put(put).await.unwrap();
}

/// Waits until the server has so many watchers.
async fn watched(beside: &Beside, watchers: u64) {
    wait::until(format!("{watchers} watchers"), || async {
        beside.watchers().await == Some(watchers)
    })
    .await;
}

beside_go! {
    async fn waiters_of_both_go_on_when_we_release(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        let barrier = client.barrier("b").wake_old_go_waiters();
        barrier.wait().await.unwrap();
        barrier.hold().await.unwrap();
        let again = go.ask(&["barrier.hold", "b"]).await;
        assert_eq!(again, Err("key already exists".to_owned()));
        something_else(&client).await;
        let mut theirs = go.begin(&["barrier.wait", "b"]);
        let waiter = beside.client().await.barrier("b");
        let ours = waits("wait", async move { waiter.wait().await }).await;
        theirs.assert_waits().await;
        barrier.release().await.unwrap();
        theirs.ok().await;
        wait::soon("we go on", ours).await.unwrap().unwrap();
        go.ok(&["barrier.wait", "b"]).await;
        assert!(!barrier.is_held().await.unwrap());
    }

    async fn our_waiters_go_on_when_go_releases(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        let barrier = client.barrier("b");
        go.ok(&["barrier.hold", "b"]).await;
        let again = barrier.hold().await;
        assert!(matches!(&again, Err(Error::Held { holder: None, .. })), "{again:?}");
        let waiter = barrier.clone();
        let waiting = waits("wait", async move { waiter.wait().await }).await;
        something_else(&client).await;
        go.ok(&["barrier.release", "b"]).await;
        wait::soon("we go on", waiting).await.unwrap().unwrap();
        // And one that we hold is Go's to release.
        barrier.hold().await.unwrap();
        let waiter = barrier.clone();
        let waiting = waits("wait", async move { waiter.wait().await }).await;
        go.ok(&["barrier.release", "b"]).await;
        wait::soon("we go on", waiting).await.unwrap().unwrap();
    }

    /// etcd#16223: up to 3.5.33 Go's waiter wants to see a put and then a deletion, from the revision
    /// on at which it looked: when anything was written since the hold, it sleeps through a release.
    /// Ours does not, and `wake_old_go_waiters` is there for Go's.
    async fn a_plain_release_wakes_ours_but_no_old_go_waiter(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        let barrier = client.barrier("b");
        barrier.hold().await.unwrap();
        something_else(&client).await;
        watched(&beside, 0).await;
        let mut theirs = go.begin(&["barrier.wait", "b"]);
        watched(&beside, 1).await;
        let waiter = barrier.clone();
        let ours = waits("wait", async move { waiter.wait().await }).await;
        barrier.release().await.unwrap();
        wait::soon("we go on", ours).await.unwrap().unwrap();
        theirs.assert_waits().await;
        // The next hold and release are a put and a deletion.
        barrier.hold().await.unwrap();
        barrier.release().await.unwrap();
        theirs.ok().await;
    }
}
