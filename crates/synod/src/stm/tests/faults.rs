//! Answers that get lost, and crowds.

use crate::Resolution;
use crate::testing::{FAULTS, Fault, overdue_at_gate};
use rand::seq::IndexedRandom;

use super::*;

/// etcd issue 18424: a client that sends a commit again after a lost answer, or runs the closure
/// again, applies it twice. Here each increment counts once, whatever becomes of its answers.
#[tokio::test]
async fn issue_18424_a_commit_whose_answer_was_lost_happens_once() {
    for level in LEVELS {
        let faulty = Faulty::new();
        let client = faulty.client(PATIENCE);
        let stm = client.stm().with_isolation(level);
        stm.run(async |tx| increment(&tx, "n").await).await.unwrap();
        let mut expected = 1;
        for fault in FAULTS {
            for _ in 0..3 {
                faulty.script([fault]);
                stm.run(async |tx| increment(&tx, "n").await).await.unwrap();
                faulty.deliver_late().await;
                expected += 1;
                assert_eq!(
                    number_of(&client, "n").await,
                    expected,
                    "{level:?} {fault:?}"
                );
            }
        }
    }
}

async fn number_of(client: &Client, key: &str) -> i64 {
    get(client, key)
        .await
        .map_or(0, |text| text.parse().unwrap())
}

/// The answer is lost of a commit that met a conflict: it is tried again, with what is there now.
#[tokio::test]
async fn a_conflict_whose_answer_was_lost_is_a_conflict() {
    for fault in FAULTS {
        let faulty = Faulty::new();
        let client = faulty.client(PATIENCE);
        put(&client, "n", "0").await;
        // The first record of the client.
        client
            .txn()
            .and_then([crate::txn::put("x", "")])
            .await
            .unwrap();
        let (once, stm) = (Once::default(), client.stm());
        let committed = stm.transact::<_, Error, _, _>(async |tx| {
            increment(&tx, "n").await?;
            if once.first() {
                put(&client, "n", "10").await;
                faulty.script([fault]);
            }
            Ok(())
        });
        let committed = committed.await.unwrap();
        assert_eq!(committed.attempts, 2, "{fault:?}");
        faulty.deliver_late().await;
        assert_eq!(number_of(&client, "n").await, 11, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_faults_and_many_tasks_lose_no_increment() {
    const TASKS: usize = 4;
    const EACH: usize = 25;
    let faulty = Faulty::new();
    let client = faulty.client(PATIENCE);
    let faults = (0..400).map(|_| {
        let fault = FAULTS.choose(&mut rand::rng());
        if rand::random_bool(0.3) {
            *fault.unwrap()
        } else {
            Fault::None
        }
    });
    faulty.script(faults.collect::<Vec<_>>());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let stm = client.stm();
        tasks.spawn(async move {
            for _ in 0..EACH {
                stm.run(async |tx| increment(&tx, "n").await).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    faulty.deliver_late().await;
    assert_eq!(number_of(&client, "n").await, (TASKS * EACH) as i64);
}

#[tokio::test]
async fn an_outcome_that_cannot_be_told_has_a_token() {
    let faulty = Faulty::new();
    let client = faulty.client(PATIENCE);
    let stm = client.stm();
    stm.run(async |tx| increment(&tx, "n").await).await.unwrap();
    faulty.script([Fault::Lose]);
    // The read and the commit; its repetition stands at the gate.
    faulty.close_gate(2);
    let run = stm.run(async |tx| increment(&tx, "n").await);
    let error = overdue_at_gate(&faulty, run).await.unwrap_err();
    faulty.open_gate();
    assert!(error.is_maybe_committed(), "{error}");
    let resolution = client.resolve(error.token().unwrap()).await.unwrap();
    assert_eq!(resolution, Resolution::Happened);
    assert_eq!(number_of(&client, "n").await, 2);
}

/// Its commit met a conflict, but that answer was lost too: whoever asks later is not told that it has
/// happened, neither by the client nor by another process.
#[tokio::test]
async fn a_conflict_that_cannot_be_told_is_not_said_to_have_happened() {
    let faulty = Faulty::new();
    let client = faulty.client(PATIENCE);
    let stm = client.stm();
    stm.run(async |tx| increment(&tx, "n").await).await.unwrap();
    faulty.script([Fault::Lose]);
    faulty.close_gate(2);
    let engine = std::sync::Arc::clone(&faulty.engine);
    let run = stm.run(async |tx| {
        increment(&tx, "n").await?;
        // Somebody else is faster.
        let put = synod_store::PutRequest::new("n", "7");
        engine.put(put).await?;
        Ok::<_, crate::Error>(())
    });
    let error = overdue_at_gate(&faulty, run).await.unwrap_err();
    faulty.open_gate();
    let token = error.token().unwrap();
    assert_eq!(client.resolve(token).await.unwrap(), Resolution::Otherwise);
    let other = Faulty::over(
        std::sync::Arc::clone(&faulty.engine),
        synod_store::Replies::Lossy,
    );
    let other = other.client(Duration::from_secs(20));
    assert_eq!(other.resolve(token).await.unwrap(), Resolution::Otherwise);
    assert_eq!(number_of(&client, "n").await, 7);
}

/// Sixteen tasks want the same key all the time: all of them come to their end.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_makes_headway() {
    for (_, client) in clients() {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let stm = client.stm();
            tasks.spawn(async move {
                for _ in 0..20 {
                    stm.run(async |tx| increment(&tx, "n").await).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(number_of(&client, "n").await, 320);
    }
}

/// Dropped while its commit is on its way: it happens once or not at all, and what it is stays so.
#[tokio::test]
async fn one_that_is_dropped_while_it_commits_happens_once_or_not_at_all() {
    for sent in [false, true] {
        let faulty = Faulty::new();
        let client = faulty.client(PATIENCE);
        let stm = client.stm();
        stm.run(async |tx| increment(&tx, "n").await).await.unwrap();
        let reached = if sent {
            // The commit arrives, its answer does not; its repetition stands at the gate.
            faulty.script([Fault::Lose]);
            2
        } else {
            1
        };
        faulty.close_gate(reached);
        let task = tokio::spawn({
            let stm = stm.clone();
            async move { stm.run(async |tx| increment(&tx, "n").await).await }
        });
        assert!(faulty.wait_at_gate().await);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        faulty.open_gate();
        stm.run(async |tx| increment(&tx, "m").await).await.unwrap();
        client.clone().close().await.unwrap();
        let count = number_of(&client, "n").await;
        if sent {
            assert_eq!(count, 2);
        } else {
            assert!((1..=2).contains(&count), "{count}");
        }
        // It stays what it is.
        stm.run(async |tx| increment(&tx, "n").await).await.unwrap();
        assert_eq!(number_of(&client, "n").await, count + 1);
    }
}

/// Handles, attempts and their futures can be sent to other threads, whatever the closure borrows.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_can_be_spawned_with_what_they_borrow() {
    fn sendable<T: Send + Sync + 'static>() {}
    sendable::<Stm>();
    sendable::<Tx>();
    sendable::<Committed<()>>();
    let client = Client::connect("memory:").await.unwrap();
    let task = tokio::spawn(async move {
        let (keys, suffix) = (vec!["a".to_owned(), "b".to_owned()], "!".to_owned());
        let (stm, slice) = (client.stm(), &keys[1..]);
        stm.run(async |tx| {
            for key in &keys {
                tx.put(key, format!("{key}{suffix}"));
            }
            let (one, other) = tokio::join!(tx.get(&slice[0]), tx.get("c"));
            Ok((one?, other?))
        })
        .await
    });
    let (one, other) = task.await.unwrap().unwrap();
    assert_eq!((one.unwrap(), other), ("b!".into(), None));
}
