//! Go with Go: two Go programs meet on each recipe, each call of the concurrency package and of the
//! Lock and Election services, on `synod serve` as on a real etcd.

use std::collections::BTreeSet;

use synod_tests::beside_go;
use synod_tests::go::{Beside, Call, Go};

use crate::common::{ACCOUNT, Ground, TTL, VALIDATING, open, sum, until_keys};

/// Two programs, each with a session that has its own name.
async fn two(beside: &Beside) -> (Go, Go) {
    let (a, b) = (beside.go(), beside.go());
    a.session("a", TTL).await;
    b.session("b", TTL).await;
    (a, b)
}

/// Both work on the same ground at once.
async fn at_once(beside: &Beside, work: &str, peers: [(&Go, &str); 2]) {
    const TIMES: u64 = 20;
    let times = TIMES.to_string();
    let working = peers.map(|(go, session)| go.begin(&[work, session, "m", "ground", &times]));
    for working in working {
        working.ok().await;
    }
    let (count, _) = Ground::new(&beside.client().await, "ground").count().await;
    assert_eq!(count, 2 * TIMES);
}

async fn campaign(call: Call) -> [String; 4] {
    let won = call.done().await.unwrap();
    won.try_into().unwrap()
}

beside_go! {
    async fn a_queue(beside: Beside) {
        let (a, b) = two(&beside).await;
        let mut waiting = b.begin(&["queue.pop", "q"]);
        waiting.assert_waits().await;
        a.ok(&["queue.push-many", "q", "a", "3"]).await;
        assert_eq!(waiting.ok().await, "a 0");
        b.ok(&["queue.push", "q", "b"]).await;
        for value in ["a 1", "a 2", "b"] {
            assert_eq!(a.ok(&["queue.pop", "q"]).await, value);
        }
    }

    async fn a_priority_queue(beside: Beside) {
        let (a, b) = two(&beside).await;
        let mut waiting = b.begin(&["pq.pop", "q"]);
        waiting.assert_waits().await;
        a.ok(&["pq.push", "q", "first", "9"]).await;
        assert_eq!(waiting.ok().await, "first");
        // Both number their items within one priority.
        let at_once = [
            a.begin(&["pq.push-many", "q", "a", "20", "7"]),
            b.begin(&["pq.push-many", "q", "b", "20", "7"]),
        ];
        for pushing in at_once {
            pushing.ok().await;
        }
        a.ok(&["pq.push", "q", "urgent", "0"]).await;
        b.ok(&["pq.push", "q", "idle", "65535"]).await;
        assert_eq!(b.ok(&["pq.pop", "q"]).await, "urgent");
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            seen.insert(a.ok(&["pq.pop", "q"]).await);
        }
        assert_eq!(seen.len(), 40, "nothing is overwritten: {seen:?}");
        assert_eq!(b.ok(&["pq.pop", "q"]).await, "idle");
    }

    async fn a_barrier(beside: Beside) {
        let (a, b) = (beside.go(), beside.go());
        a.ok(&["barrier.wait", "b"]).await;
        a.ok(&["barrier.hold", "b"]).await;
        let again = b.ask(&["barrier.hold", "b"]).await;
        assert_eq!(again, Err("key already exists".to_owned()));
        let mut waiting = b.begin(&["barrier.wait", "b"]);
        waiting.assert_waits().await;
        a.ok(&["barrier.release", "b"]).await;
        waiting.ok().await;
        b.ok(&["barrier.wait", "b"]).await;
    }

    async fn a_double_barrier(beside: Beside) {
        let (a, b) = two(&beside).await;
        let mut first = a.begin(&["double.enter", "a", "d", "2"]);
        first.assert_waits().await;
        b.ok(&["double.enter", "b", "d", "2"]).await;
        first.ok().await;
        let mut first = b.begin(&["double.leave", "b", "d"]);
        first.assert_waits().await;
        a.ok(&["double.leave", "a", "d"]).await;
        first.ok().await;
    }

    async fn a_mutex(beside: Beside) {
        let (a, b) = two(&beside).await;
        a.ok(&["mutex.lock", "a", "m"]).await;
        let hurried = b.ask(&["mutex.lock-within", "b", "m", "200"]).await;
        assert_eq!(hurried, Err("context deadline exceeded".to_owned()));
        let mut waiting = b.begin(&["mutex.lock", "b", "m"]);
        waiting.assert_waits().await;
        a.ok(&["mutex.unlock", "a", "m"]).await;
        waiting.ok().await;
        // The end of a session gives back what it holds.
        let next = a.begin(&["mutex.lock", "a", "m"]);
        b.ok(&["session.close", "b"]).await;
        next.ok().await;
        a.ok(&["mutex.unlock", "a", "m"]).await;

        let c = beside.go();
        c.session("c", TTL).await;
        at_once(&beside, "mutex.work", [(&a, "a"), (&c, "c")]).await;
    }

    async fn an_rwmutex(beside: Beside) {
        let (a, b) = two(&beside).await;
        a.session("a2", TTL).await;
        a.ok(&["rw.rlock", "a", "m"]).await;
        a.ok(&["rw.rlock", "a2", "m"]).await;
        let mut writer = b.begin(&["rw.lock", "b", "m"]);
        until_keys(&beside.client().await, "m/", 3).await;
        writer.assert_waits().await;
        a.ok(&["rw.runlock", "a", "m"]).await;
        writer.assert_waits().await;
        // A reader that comes after the writer waits for it.
        let mut reader = a.begin(&["rw.rlock", "a", "m"]);
        reader.assert_waits().await;
        a.ok(&["rw.runlock", "a2", "m"]).await;
        writer.ok().await;
        reader.assert_waits().await;
        b.ok(&["rw.unlock", "b", "m"]).await;
        reader.ok().await;
        a.ok(&["rw.runlock", "a", "m"]).await;
        at_once(&beside, "rw.work", [(&a, "a"), (&b, "b")]).await;
    }

    async fn an_election(beside: Beside) {
        let (a, b) = two(&beside).await;
        let none = a.ask(&["election.leader", "a", "e"]).await;
        assert_eq!(none, Err("election: no leader".to_owned()));
        let mut seen = b.begin(&["election.observe", "b", "e"]);
        a.ok(&["election.campaign", "a", "e", "1"]).await;
        assert_eq!(seen.event().await[1], "1");
        let mut second = b.begin(&["election.campaign", "b", "e", "2"]);
        second.assert_waits().await;
        a.ok(&["election.proclaim", "a", "e", "1 again"]).await;
        assert_eq!(seen.event().await[1], "1 again");
        let leader = b.ask(&["election.leader", "b", "e"]).await.unwrap();
        assert_eq!(leader[1], "1 again");
        a.ok(&["election.resign", "a", "e"]).await;
        second.ok().await;
        assert_eq!(seen.event().await[1], "2");
        b.ok(&["session.close", "b"]).await;
        let none = a.ask(&["election.leader", "a", "e"]).await;
        assert_eq!(none, Err("election: no leader".to_owned()));
    }

    async fn the_bank_at_every_level(beside: Beside) {
        let (a, b) = (beside.go(), beside.go());
        let client = beside.client().await;
        for level in VALIDATING {
            open(&client).await;
            let bank = ["stm.bank", level, ACCOUNT, "5", "4", "25"];
            let running = [a.begin(&bank), b.begin(&bank)];
            for running in running {
                running.ok().await;
            }
            assert_eq!(sum(&client).await, 500, "{level}");
        }
        // What is not validated holds for one alone.
        open(&client).await;
        a.ok(&["stm.bank", "read-committed", ACCOUNT, "5", "1", "50"]).await;
        assert_eq!(sum(&client).await, 500);
    }

    async fn the_lock_service(beside: Beside) {
        let (a, b) = (beside.go(), beside.go());
        let (lease_a, lease_b) = (a.ok(&["lease.grant", "30"]).await, b.ok(&["lease.grant", "30"]).await);
        let key = a.ok(&["rpc.lock", "l", &lease_a]).await;
        assert_eq!(key, format!("l/{:x}", lease_a.parse::<i64>().unwrap()));
        let mut waiting = b.begin(&["rpc.lock", "l", &lease_b]);
        waiting.assert_waits().await;
        a.ok(&["rpc.unlock", &key]).await;
        let key = waiting.ok().await;
        // One who locks with the concurrency package stands in the same line.
        a.session("a", TTL).await;
        let mut waiting = a.begin(&["mutex.lock", "a", "l"]);
        waiting.assert_waits().await;
        b.ok(&["rpc.unlock", &key]).await;
        waiting.ok().await;
    }

    async fn the_election_service(beside: Beside) {
        let (a, b) = (beside.go(), beside.go());
        let (lease_a, lease_b) = (a.ok(&["lease.grant", "30"]).await, b.ok(&["lease.grant", "30"]).await);
        let none = a.ask(&["rpc.leader", "e"]).await.unwrap_err();
        assert!(none.contains("election: no leader"), "{none}");
        let mut seen = b.begin(&["rpc.observe", "e"]);
        let first = campaign(a.begin(&["rpc.campaign", "e", &lease_a, "1"])).await;
        assert_eq!(seen.event().await[1], "1");
        let mut second = b.begin(&["rpc.campaign", "e", &lease_b, "2"]);
        second.assert_waits().await;
        let [name, key, revision, lease] = &first;
        a.ok(&["rpc.proclaim", name, key, revision, lease, "1 again"]).await;
        assert_eq!(seen.event().await[1], "1 again");
        let leader = b.ask(&["rpc.leader", "e"]).await.unwrap();
        assert_eq!(leader, [key.as_str(), "1 again"]);
        a.ok(&["rpc.resign", name, key, revision, lease]).await;
        let second = campaign(second).await;
        assert_ne!(first, second);
        assert_eq!(seen.event().await[1], "2");
        // Who leads no more proclaims nothing.
        let late = a.ask(&["rpc.proclaim", name, key, revision, lease, "3"]).await.unwrap_err();
        assert!(late.contains("election: not leader"), "{late}");
        // One who campaigns with the concurrency package stands in the same line.
        a.session("a", TTL).await;
        let mut third = a.begin(&["election.campaign", "a", "e", "3"]);
        third.assert_waits().await;
        let [name, key, revision, lease] = &second;
        b.ok(&["rpc.resign", name, key, revision, lease]).await;
        third.ok().await;
    }
}
