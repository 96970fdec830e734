//! Transactions of one client that run in turn and are committed together.

use std::sync::Mutex;

use synod_store::{KeyRange, LeaseId};
use tokio::task::JoinSet;

use super::*;
use crate::Resolution;
use crate::testing::{FAULTS, Fault, overdue_at_gate, soon};
use rand::seq::IndexedRandom;

/// Sets a client's record up, so that counts are of the transactions alone.
async fn begin(client: &Client) {
    let first = client.txn().and_then([crate::txn::put("x", "")]);
    first.await.unwrap();
}

/// Runs as many transactions at once, all on one thread.
async fn at_once<T, F: Future<Output = T>>(runs: impl IntoIterator<Item = F>) -> Vec<T> {
    futures_util::future::join_all(runs).await
}

async fn count(tx: &Tx, key: &str) -> Result<i64> {
    let count = number(tx.get(key).await?) + 1;
    tx.put(key, count.to_string());
    Ok(count)
}

#[tokio::test]
async fn they_cost_one_round_trip_together_and_each_sees_those_before_it() {
    for level in [Isolation::SerializableSnapshot, Isolation::Serializable] {
        for (faulty, client) in clients() {
            begin(&client).await;
            let stm = client.stm().with_isolation(level);
            let increments = async || {
                let before = faulty.txns();
                let one = async || {
                    stm.transact::<_, Error, _, _>(async |tx| count(&tx, "n").await)
                        .await
                };
                let done = at_once((0..10).map(|_| one())).await;
                let mut done: Vec<_> = done.into_iter().map(Result::unwrap).collect();
                done.sort_by_key(|done| (done.revision, done.place));
                (done, faulty.txns() - before)
            };
            let (done, txns) = increments().await;
            let values: Vec<i64> = done.iter().map(|done| done.value).collect();
            assert_eq!(values, (1..=10).collect::<Vec<_>>(), "{level:?}");
            assert!(txns <= 2, "{txns}");
            // Now they know each other: the board says what they read, unless the machine takes its time.
            let mut base = 10;
            loop {
                let ranges = faulty.ranges();
                let (done, txns) = increments().await;
                base += 10;
                if (txns, faulty.ranges() - ranges) != (1, 0) {
                    assert!(base < 500, "{done:?}");
                    continue;
                }
                let revision = done[0].revision;
                for (place, done) in done.iter().enumerate() {
                    assert_eq!((done.revision, done.place), (revision, Some(place as u32)));
                    assert_eq!((done.value, done.attempts), (base - 9 + place as i64, 1));
                }
                break;
            }
            assert_eq!(get(&client, "n").await.unwrap(), base.to_string());
        }
    }
}

/// Others write meanwhile: nobody's increment gets lost, whatever the answers do.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_with_others_is_never_hidden() {
    let faulty = Faulty::new();
    let faults = (0..600).map(|_| {
        let fault = FAULTS.choose(&mut rand::rng());
        if rand::random_bool(0.1) {
            *fault.unwrap()
        } else {
            Fault::None
        }
    });
    let ours = [faulty.client(PATIENCE), faulty.client(PATIENCE)];
    for client in &ours {
        begin(client).await;
    }
    faulty.script(faults.collect::<Vec<_>>());
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let stm = ours[task % 2].stm();
        tasks.spawn(async move {
            for _ in 0..15 {
                stm.run(async |tx| count(&tx, "n").await).await.unwrap();
            }
        });
    }
    soon(tasks.join_all()).await;
    faulty.deliver_late().await;
    assert_eq!(get(&ours[0], "n").await.unwrap(), "120");
}

/// A foreign write between the runs and the commit makes all of them run again, on what is there now.
#[tokio::test]
async fn all_run_again_after_a_conflict() {
    for (faulty, client) in clients() {
        begin(&client).await;
        let stm = client.stm();
        at_once((0..3).map(|_| stm.run(async |tx| count(&tx, "n").await))).await;
        faulty.close_gate(0);
        let runs = at_once(
            (0..3).map(|_| stm.transact::<_, Error, _, _>(async |tx| count(&tx, "n").await)),
        );
        let disturb = async {
            assert!(faulty.wait_at_gate().await);
            let other = Client::from_store(std::sync::Arc::clone(&faulty.engine));
            put(&other, "n", "100").await;
            faulty.open_gate();
        };
        let (done, ()) = tokio::join!(runs, disturb);
        let mut done: Vec<_> = done.into_iter().map(Result::unwrap).collect();
        done.sort_by_key(|done| done.place);
        let values: Vec<i64> = done.iter().map(|done| done.value).collect();
        assert_eq!(values, [101, 102, 103]);
        assert!(done.iter().all(|done| done.attempts >= 2), "{done:?}");
    }
}

#[tokio::test]
async fn what_a_failed_one_wrote_is_seen_by_nobody() {
    for (_, client) in clients() {
        let stm = client.stm();
        for _ in 0..20 {
            put(&client, "n", "0").await;
            let runs = (0..10).map(|number| {
                let stm = &stm;
                async move {
                    let run = stm.run(async |tx| {
                        let count = count(&tx, "n").await?;
                        assert!(count < 900, "it has seen what was taken back");
                        if number % 2 == 0 {
                            tx.put("n", "999");
                            return Err(Error::NoRuntime);
                        }
                        Ok(count)
                    });
                    (number, run.await)
                }
            });
            for (number, result) in at_once(runs).await {
                assert_eq!(result.is_err(), number % 2 == 0, "{result:?}");
            }
            assert_eq!(get(&client, "n").await.unwrap(), "5");
        }
    }
}

/// Both doctors may go as long as the other stays; both ask at once.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_write_skew_between_two_of_them() {
    for level in [Isolation::SerializableSnapshot, Isolation::Serializable] {
        for (_, client) in clients() {
            for _ in 0..30 {
                put(&client, "anna", "here").await;
                put(&client, "bert", "here").await;
                let mut tasks = JoinSet::new();
                for (mine, other) in [("anna", "bert"), ("bert", "anna"), ("anna", "bert")] {
                    let stm = client.stm().with_isolation(level);
                    tasks.spawn(async move {
                        let run = stm.run(async |tx| {
                            let stays = tx.get(other).await?.is_some_and(|other| other == "here");
                            tokio::task::yield_now().await;
                            if stays {
                                tx.put(mine, "gone");
                            }
                            Ok(())
                        });
                        run.await.unwrap();
                    });
                }
                tasks.join_all().await;
                let states = [get(&client, "anna").await, get(&client, "bert").await];
                let here = states.iter().flatten().filter(|state| *state == "here");
                assert_eq!(here.count(), 1, "{level:?}");
            }
        }
    }
}

/// A key that another puts into a range is a change of the range.
#[tokio::test]
async fn there_are_no_phantoms_between_two_of_them() {
    for (_, client) in clients() {
        let stm = client.stm();
        let runs = (0..12).map(|number| {
            let stm = &stm;
            async move {
                let run = stm.run(async |tx| {
                    let guests = tx.range(KeyRange::prefix("room/")).await?.len();
                    tokio::task::yield_now().await;
                    if guests < 3 {
                        tx.put(format!("room/{number:02}"), "");
                    }
                    Ok(())
                });
                run.await.unwrap();
            }
        });
        at_once(runs).await;
        let room = synod_store::RangeRequest::new(KeyRange::prefix("room/"));
        assert_eq!(client.store().range(room).await.unwrap().kvs.len(), 3);
    }
}

/// One waits in its closure for another of the same keys, both ways round.
#[tokio::test]
async fn a_closure_may_wait_for_another() {
    for (_, client) in clients() {
        let stm = client.stm();
        let nested = || {
            let stm = &stm;
            async move {
                let once = Once::default();
                let run = stm.run(async |tx| {
                    let before = number(tx.get("n").await?);
                    if once.first() {
                        stm.run(async |tx| count(&tx, "n").await).await?;
                    }
                    tx.put("n", (before + 1).to_string());
                    Ok(())
                });
                run.await.unwrap();
            }
        };
        soon(at_once((0..8).map(|_| nested()))).await;
        assert_eq!(get(&client, "n").await.unwrap(), "16");
    }
}

/// Each of those who wait is told the same: it is not known, and by one token.
#[tokio::test]
async fn all_of_a_group_are_told_when_its_outcome_is_open() {
    let faulty = Faulty::new();
    let client = faulty.client(PATIENCE);
    begin(&client).await;
    let stm = client.stm();
    at_once((0..3).map(|_| stm.run(async |tx| count(&tx, "n").await))).await;
    faulty.script([Fault::Lose]);
    // The commit; its repetition stands at the gate.
    faulty.close_gate(1);
    let runs = at_once((0..3).map(|_| stm.run(async |tx| count(&tx, "n").await)));
    let errors = overdue_at_gate(&faulty, runs).await;
    faulty.open_gate();
    let tokens: Vec<_> = errors
        .into_iter()
        .map(|error| error.unwrap_err().token().unwrap().clone())
        .collect();
    for token in &tokens {
        assert_eq!(token, &tokens[0]);
        assert_eq!(client.resolve(token).await.unwrap(), Resolution::Happened);
    }
    assert_eq!(get(&client, "n").await.unwrap(), "6");
}

#[tokio::test]
async fn levels_and_those_who_do_not_want_it_are_not_joined() {
    for (_, client) in clients() {
        let stms = [
            client.stm(),
            client.stm().with_isolation(Isolation::Serializable),
            client.stm().with_joined_commits(false),
            client.stm().with_joined_commits(false),
        ];
        let runs = stms.iter().map(|stm| {
            stm.transact::<_, Error, _, _>(async |tx| {
                tx.put(format!("k/{}", rand::random::<u64>()), "");
                Ok(())
            })
        });
        let done = at_once(runs).await;
        let revisions: std::collections::BTreeSet<_> = done
            .into_iter()
            .map(|done| done.unwrap().revision)
            .collect();
        assert_eq!(revisions.len(), 4);
    }
}

/// What does not fit into one commit goes in several, and what fits into none is its own error.
#[tokio::test]
async fn groups_keep_to_the_budget_of_the_store() {
    for (_, client) in clients() {
        let stm = client.stm();
        let runs = (0..60).map(|number| {
            let stm = &stm;
            async move {
                let run = stm.transact::<_, Error, _, _>(async |tx| {
                    if number == 30 {
                        (0..126).for_each(|key| tx.put(format!("huge/{key}"), ""));
                        return Ok(());
                    }
                    for part in 0..3 {
                        count(&tx, &format!("k/{number}/{part}")).await?;
                    }
                    if number % 10 == 0 {
                        tx.put(format!("large/{number}"), vec![b'x'; 200 * 1024]);
                    }
                    Ok(())
                });
                (number, run.await)
            }
        });
        let mut revisions = std::collections::BTreeMap::new();
        for (number, done) in at_once(runs).await {
            match done {
                Ok(done) => *revisions.entry(done.revision).or_insert(0) += 1,
                Err(error) => {
                    assert_eq!(number, 30);
                    assert!(matches!(error, Error::TooManyOperations { .. }), "{error}");
                }
            }
        }
        assert_eq!(revisions.values().sum::<i32>(), 59);
        assert!(revisions.values().all(|members| *members <= 41));
        assert!(revisions.len() < 20, "{revisions:?}");
        assert_eq!(get(&client, "huge/0").await, None);
    }
}

/// What the store refuses is the error of the one who asked for it.
#[tokio::test]
async fn an_error_is_told_to_whom_it_belongs() {
    for (_, client) in clients() {
        let stm = client.stm();
        let dead = LeaseId::new(77).unwrap();
        let runs = (0..6).map(|number| {
            let stm = &stm;
            async move {
                let run = stm.run(async |tx| {
                    let count = count(&tx, "n").await?;
                    if number == 2 {
                        tx.put_with_lease("leased", "", dead);
                    }
                    Ok(count)
                });
                run.await
            }
        });
        for (number, done) in at_once(runs).await.into_iter().enumerate() {
            match done {
                Ok(_) => assert_ne!(number, 2),
                Err(error) => assert!(number == 2 && error.is_session_lost(), "{error}"),
            }
        }
        assert_eq!(get(&client, "n").await.unwrap(), "5");
    }
}

/// A commit that takes long holds nobody beyond the time that a transaction has.
#[tokio::test]
async fn a_group_holds_nobody_beyond_its_time() {
    for (faulty, client) in clients() {
        begin(&client).await;
        let stm = client.stm();
        at_once((0..3).map(|_| stm.run(async |tx| count(&tx, "n").await))).await;
        faulty.close_gate(0);
        let slow = tokio::spawn({
            let stm = stm.clone();
            let put = async |tx: Tx| {
                tx.put("slow", "");
                Ok::<_, Error>(())
            };
            async move { stm.run(put).await }
        });
        assert!(faulty.wait_at_gate().await);
        let hasty = stm.clone().with_timeout(Duration::from_millis(50));
        let error = hasty.run(async |tx| {
            tx.put("hasty", "");
            Ok(())
        });
        let error = soon(error).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        faulty.open_gate();
        slow.await.unwrap().unwrap();
        client.clone().close().await.unwrap();
        assert_eq!(get(&client, "hasty").await, None);
    }
}

/// The number of a key that another is about to put is known when that has been committed.
#[tokio::test]
async fn revisions_are_those_of_commits() {
    for (_, client) in clients() {
        let stm = client.stm();
        let revisions = Mutex::new(Vec::new());
        let one = async || {
            let committed = stm.transact::<_, Error, _, _>(async |tx| {
                let seen = (count(&tx, "n").await?, tx.revision("n").await?);
                Ok(seen)
            });
            let committed = committed.await.unwrap();
            revisions
                .lock()
                .unwrap()
                .push((committed.value, committed.revision));
        };
        soon(at_once((0..6).map(|_| one()))).await;
        let mut all = revisions.into_inner().unwrap();
        all.sort_unstable();
        for pair in all.windows(2) {
            // Each has seen the revision of the one before it.
            assert_eq!(pair[1].0.1, pair[0].1, "{all:?}");
        }
    }
}

/// Dropped at any moment: what the others see and leave is in order.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_dropped_leaves_the_others_in_order() {
    for (_, client) in clients() {
        let mut tasks = JoinSet::new();
        for task in 0..8u64 {
            let stm = client.stm();
            tasks.spawn(async move {
                let (mut sure, mut open) = (0, 0);
                for round in 0..25 {
                    let run = stm.run(async |tx| count(&tx, "n").await);
                    if task % 2 == 0 {
                        run.await.unwrap();
                        sure += 1;
                        continue;
                    }
                    tokio::select! {
                        biased;
                        done = run => { done.unwrap(); sure += 1; }
                        () = async { for _ in 0..round % 7 { tokio::task::yield_now().await; } } => open += 1,
                    }
                }
                (sure, open)
            });
        }
        let ended = soon(tasks.join_all()).await;
        let (sure, open) = ended.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        client.clone().close().await.unwrap();
        let count: i64 = get(&client, "n").await.unwrap().parse().unwrap();
        assert!(
            (sure..=sure + open).contains(&count),
            "{sure} {open} {count}"
        );
    }
}
