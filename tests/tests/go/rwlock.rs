//! The read-write lock: readers together, writers alone, in the order in which they came.

use synod::store::KeyRange;
use synod::{Error, Session};
use synod_tests::beside_go;
use synod_tests::go::{Beside, waits};
use synod_tests::wait;

use crate::common::{Ground, TTL, get, until_keys};

beside_go! {
    async fn readers_share_and_a_writer_of_go_waits(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        let lock = client.rwlock("m");
        go.session("reader", TTL).await;
        go.session("writer", TTL).await;
        go.ok(&["rw.rlock", "reader", "m"]).await;
        let ours = lock.read().await.unwrap();
        let mut writer = go.begin(&["rw.lock", "writer", "m"]);
        until_keys(&client, "m/", 3).await;
        writer.assert_waits().await;
        go.ok(&["rw.runlock", "reader", "m"]).await;
        writer.assert_waits().await;
        // A reader that comes after the writer waits for it.
        let late = lock.clone();
        let late = waits("read", async move { late.read().await }).await;
        assert!(lock.try_read().await.unwrap().is_none());
        ours.unlock().await.unwrap();
        writer.ok().await;
        assert!(!late.is_finished());
        go.ok(&["rw.unlock", "writer", "m"]).await;
        let late = wait::soon("the reader", late).await.unwrap().unwrap();
        late.unlock().await.unwrap();
    }

    async fn a_writer_of_ours_waits_and_is_waited_for(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        let lock = client.rwlock("m");
        go.session("first", TTL).await;
        go.session("late", TTL).await;
        go.ok(&["rw.rlock", "first", "m"]).await;
        assert!(lock.try_write().await.unwrap().is_none());
        let writer = lock.clone();
        let writer = waits("write", async move { writer.write().await }).await;
        until_keys(&client, "m/", 2).await;
        let mut late = go.begin(&["rw.rlock", "late", "m"]);
        until_keys(&client, "m/", 3).await;
        late.assert_waits().await;
        go.ok(&["rw.runlock", "first", "m"]).await;
        let guard = wait::soon("the writer", writer).await.unwrap().unwrap();
        late.assert_waits().await;
        let mut next = go.begin(&["rw.lock", "first", "m"]);
        guard.unlock().await.unwrap();
        late.ok().await;
        next.assert_waits().await;
        go.ok(&["rw.runlock", "late", "m"]).await;
        next.ok().await;
        go.ok(&["rw.unlock", "first", "m"]).await;
    }

    /// etcd#16221: a Go writer whose session ended while it waited takes itself for the holder. Ours
    /// learns at once that it will not be.
    async fn a_writer_whose_session_is_over_does_not_get_the_lock(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("writer", TTL).await;
        let lock = client.rwlock("m");
        let held = lock.read().await.unwrap();
        let session = Session::builder(&client).ttl(TTL).build().await.unwrap();
        let writer = lock.clone().with_session(&session);
        let ours = waits("write", async move { writer.write().await }).await;
        let mut theirs = go.begin(&["rw.lock", "writer", "m"]);
        until_keys(&client, "m/", 3).await;
        theirs.assert_waits().await;
        client.store().lease_revoke(session.lease()).await.unwrap();
        let ended = wait::soon("the wait ends", ours).await.unwrap();
        assert!(matches!(ended, Err(Error::SessionLost)), "{ended:?}");
        go.ok(&["session.close", "writer"]).await;
        theirs.assert_waits().await;
        held.unlock().await.unwrap();
        theirs.ok().await;
        // That one has a lock without a key: another gets it too.
        let guard = lock.try_write().await.unwrap().expect("nobody holds it");
        guard.unlock().await.unwrap();
    }

    /// Two Go programs and two clients, which read twice for each time that they write.
    async fn no_writer_is_inside_with_another(beside: Beside) {
        const TIMES: u64 = 10;
        let mut programs = Vec::new();
        let mut working = Vec::new();
        for name in ["go0", "go1"] {
            let go = beside.go();
            go.session(name, TTL).await;
            working.push(go.begin(&["rw.work", name, "m", "ground", &TIMES.to_string()]));
            programs.push(go);
        }
        let mut tasks = Vec::new();
        for name in ["rust0", "rust1"] {
            let client = beside.client().await;
            tasks.push(tokio::spawn(async move {
                let (lock, ground) = (client.rwlock("m"), Ground::new(&client, "ground"));
                for _ in 0..TIMES {
                    for _ in 0..2 {
                        let guard = lock.read().await.unwrap();
                        ground.read(name).await;
                        guard.unlock().await.unwrap();
                    }
                    let guard = lock.write().await.unwrap();
                    ground.write(0).await;
                    guard.unlock().await.unwrap();
                }
            }));
        }
        for call in working {
            call.ok().await;
        }
        for task in tasks {
            wait::soon("the task", task).await.unwrap();
        }
        let client = beside.client().await;
        let (count, _) = Ground::new(&client, "ground").count().await;
        assert_eq!(count, 4 * TIMES);
        let left = get(&client, KeyRange::prefix("m/")).await;
        assert_eq!(left.count, 0, "{left:?}");
    }
}
