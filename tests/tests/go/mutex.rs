//! The mutex: one line, one holder, whatever language asks.

use std::time::{Duration, Instant};

use synod::store::{Key, KeyRange};
use synod::{Error, Session};
use synod_tests::beside_go;
use synod_tests::go::{Beside, waits};
use synod_tests::wait;

use crate::common::{Ground, TTL, get, until_keys};

beside_go! {
    async fn each_waits_for_the_other_and_tokens_rise(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        let mutex = client.mutex("m");
        let held = go.ask(&["mutex.lock", "s", "m"]).await.unwrap();
        let first: u64 = held[1].parse().unwrap();
        assert!(mutex.try_lock().await.unwrap().is_none());
        let short = Duration::from_millis(100);
        assert!(mutex.lock_timeout(short).await.unwrap().is_none());

        let ours = mutex.clone();
        let waiting = waits("lock", async move { ours.lock().await }).await;
        go.ok(&["mutex.unlock", "s", "m"]).await;
        let guard = wait::soon("the lock", waiting).await.unwrap().unwrap();
        let second = guard.fencing_token();
        assert!(second > first, "{second} after {first}");

        let mut waiting = go.begin(&["mutex.lock", "s", "m"]);
        waiting.assert_waits().await;
        guard.check().await.unwrap();
        guard.unlock().await.unwrap();
        let held = waiting.done().await.unwrap();
        let third: u64 = held[1].parse().unwrap();
        assert!(third > second, "{third} after {second}");
    }

    /// Two Go programs, and two tasks of each of two clients.
    async fn nobody_is_inside_with_another(beside: Beside) {
        const TIMES: u64 = 15;
        let mut programs = Vec::new();
        let mut working = Vec::new();
        for name in ["a", "b"] {
            let go = beside.go();
            go.session(name, TTL).await;
            working.push(go.begin(&["mutex.work", name, "m", "ground", &TIMES.to_string()]));
            programs.push(go);
        }
        let mut tasks = Vec::new();
        for _ in 0..2 {
            let client = beside.client().await;
            for _ in 0..2 {
                let client = client.clone();
                tasks.push(tokio::spawn(async move {
                    let ground = Ground::new(&client, "ground");
                    for _ in 0..TIMES {
                        let guard = client.mutex("m").lock().await.unwrap();
                        ground.write(guard.fencing_token()).await;
                        guard.unlock().await.unwrap();
                    }
                }));
            }
        }
        for call in working {
            call.ok().await;
        }
        for task in tasks {
            wait::soon("the task", task).await.unwrap();
        }
        let client = beside.client().await;
        let (count, _) = Ground::new(&client, "ground").count().await;
        assert_eq!(count, 6 * TIMES);
        let left = get(&client, KeyRange::prefix("m/")).await;
        assert_eq!(left.count, 0, "{left:?}");
    }

    async fn the_lock_of_a_dead_go_program_comes_free(beside: Beside) {
        let (mut go, mutex) = (beside.go(), beside.client().await.mutex("m"));
        let begin = Instant::now();
        go.session("s", wait::BRIEF).await;
        go.ok(&["mutex.lock", "s", "m"]).await;
        go.kill();
        if let Some(guard) = mutex.try_lock().await.unwrap() {
            let lived = begin.elapsed();
            assert!(lived >= wait::BRIEF, "free after {lived:?}");
            guard.unlock().await.unwrap();
        }
        let guard = wait::soon("the lock", mutex.lock()).await.unwrap();
        guard.unlock().await.unwrap();
    }

    async fn the_lock_of_a_closed_client_comes_free(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        let guard = client.mutex("m").lock().await.unwrap();
        let mut waiting = go.begin(&["mutex.lock", "s", "m"]);
        waiting.assert_waits().await;
        client.close().await.unwrap();
        waiting.ok().await;
        drop(guard);
    }

    /// etcd#19597: a waiter of Go's package sleeps on when its session is over, and then takes itself
    /// for the holder although its key is gone (3.5.0 looks at least at the end). Ours learns at once.
    async fn a_waiter_whose_session_is_over_does_not_get_the_lock(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("holder", TTL).await;
        go.session("waiter", TTL).await;
        go.ok(&["mutex.lock", "holder", "m"]).await;
        let mut theirs = go.begin(&["mutex.lock", "waiter", "m"]);
        let session = Session::builder(&client).ttl(TTL).build().await.unwrap();
        let mutex = client.mutex("m").with_session(&session);
        let ours = waits("lock", async move { mutex.lock().await }).await;
        until_keys(&client, "m/", 3).await;
        theirs.assert_waits().await;

        go.ok(&["session.close", "waiter"]).await;
        client.store().lease_revoke(session.lease()).await.unwrap();
        let ended = wait::soon("the wait ends", ours).await.unwrap();
        assert!(matches!(ended, Err(Error::SessionLost)), "{ended:?}");
        theirs.assert_waits().await;
        go.ok(&["mutex.unlock", "holder", "m"]).await;
        // Lock has returned without an error; our Go program then looks for the key.
        let key = theirs.done().await.unwrap_err();
        assert!(key.starts_with("there is no key m/"), "{key}");
    }

    /// etcd#10756: all of a Go session's locks of one name share one key, so that the second lock is
    /// taken for the first. Each of ours has a key of its own.
    async fn two_locks_of_one_session_exclude_each_other(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        go.ok(&["mutex.lock", "s", "theirs"]).await;
        go.ok(&["mutex.lock", "s", "theirs"]).await;
        let session = Session::builder(&client).ttl(TTL).build().await.unwrap();
        let mutex = client.mutex("ours").with_session(&session);
        let first = mutex.lock().await.unwrap();
        let second = mutex.clone();
        let second = waits("lock", async move { second.lock().await }).await;
        first.unlock().await.unwrap();
        let second = wait::soon("the lock", second).await.unwrap().unwrap();
        second.check().await.unwrap();
        second.unlock().await.unwrap();
    }

    /// etcd-io/website#710: Go's lock `a` waits for whoever holds `a/b`. Ours does not.
    async fn a_lock_below_the_name_is_another_lock(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        go.ok(&["mutex.lock", "s", "a/b"]).await;
        let guard = client.mutex("a").try_lock().await.unwrap();
        guard.expect("nobody holds it").unlock().await.unwrap();
        let mut theirs = go.begin(&["mutex.lock", "s", "a"]);
        theirs.assert_waits().await;
        go.ok(&["mutex.unlock", "s", "a/b"]).await;
        theirs.ok().await;
    }

    async fn the_keys_are_those_of_the_other(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        let lease = go.session("s", TTL).await;
        let held = go.ask(&["mutex.lock", "s", "m"]).await.unwrap();
        assert_eq!(held[0], format!("m/{lease}"));
        go.ok(&["mutex.unlock", "s", "m"]).await;
        let guard = client.mutex("m").lock().await.unwrap();
        let keys = get(&client, KeyRange::prefix("m/")).await.kvs;
        let keys: Vec<Key> = keys.into_iter().map(|kv| kv.key).collect();
        assert_eq!(keys, [guard.key().clone()]);
        guard.unlock().await.unwrap();
    }
}
