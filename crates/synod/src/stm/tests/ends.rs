//! How transactions end without a commit.

use std::sync::Mutex;

use synod_store::{LeaseGrantRequest, LeaseId, Revision};

use super::*;
use crate::testing::{overdue, overdue_in_trouble};

/// Always loses to somebody else.
async fn lose(stm: &Stm, client: &Client) -> Result<()> {
    stm.run(async |tx| {
        increment(&tx, "n").await?;
        put(client, "n", "0").await;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn attempts_and_time_are_bounded_by_choice() {
    for (_, client) in clients() {
        put(&client, "n", "0").await;
        let bounded = client.stm().with_max_attempts(5);
        let error = lose(&bounded, &client).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { attempts: 5 }), "{error}");
        // Its time is over in the third attempt, however long two take.
        let (attempts, third) = (AtomicU32::new(0), tokio::sync::Notify::new());
        let timely = client.stm().with_timeout(PATIENCE);
        let losing = timely.run(async |tx| {
            increment(&tx, "n").await?;
            if attempts.fetch_add(1, Ordering::SeqCst) == 2 {
                third.notify_one();
                std::future::pending::<()>().await;
            }
            put(&client, "n", "0").await;
            Ok(())
        });
        let error = overdue(losing, third.notified()).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { attempts: 3 }), "{error}");
        let timely = client.stm().with_timeout(Duration::from_millis(50));
        let never = timely.run(async |tx| {
            increment(&tx, "n").await?;
            std::future::pending::<Result<()>>().await
        });
        let error = never.await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        let none = client.stm().with_max_attempts(0);
        let error = lose(&none, &client).await.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert_eq!(get(&client, "n").await.unwrap(), "0");
    }
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("not enough: {0}")]
    NotEnough(i64),
    #[error(transparent)]
    Store(#[from] Error),
}

#[tokio::test]
async fn an_error_of_the_closure_ends_it_without_a_trace() {
    for (_, client) in clients() {
        put(&client, "balance", "5").await;
        let stm = client.stm();
        let withdraw = async |amount: i64| {
            stm.try_run(async |tx| {
                let balance = number(tx.get("balance").await?);
                tx.put("balance", (balance - amount).to_string());
                if balance < amount {
                    return Err(Refused::NotEnough(balance));
                }
                Ok(balance - amount)
            })
            .await
        };
        assert_eq!(withdraw(3).await.unwrap(), 2);
        assert!(matches!(withdraw(3).await, Err(Refused::NotEnough(2))));
        assert_eq!(get(&client, "balance").await.unwrap(), "2");
        let lost = stm.try_run(async |tx| {
            tx.get("").await?;
            Ok::<_, Refused>(())
        });
        assert!(matches!(lost.await, Err(Refused::Store(_))));
    }
}

/// etcd issue 7309: what goes wrong in a transaction is an error that its caller can handle, and a
/// panic of the closure is the closure's own: it unwinds through the caller, and breaks nothing.
#[tokio::test]
async fn issue_7309_errors_are_returned_and_panics_are_the_closures() {
    for (faulty, client) in clients() {
        let other = faulty.client(PATIENCE);
        faulty.always(Some(crate::testing::Fault::Refuse));
        let other = other.stm();
        let error = other.run(async |tx| tx.get("a").await);
        let error = overdue_in_trouble(&faulty, error).await;
        assert!(error.unwrap_err().is_transient());
        faulty.always(None);
        let stm = client.stm();
        let task = tokio::spawn({
            let stm = stm.clone();
            async move {
                let run = stm.run(async |tx| {
                    tx.put("a", "1");
                    let missing = tx.get("b").await?;
                    Ok(missing.expect("the closure wants this"))
                });
                run.await
            }
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(get(&client, "a").await, None);
        stm.run(async |tx| increment(&tx, "a").await).await.unwrap();
        assert_eq!(get(&client, "a").await.unwrap(), "1");
    }
}

#[tokio::test]
async fn one_that_is_dropped_in_its_closure_has_not_happened() {
    for (_, client) in clients() {
        let stm = client.stm();
        let reached = tokio::sync::Notify::new();
        let run = stm.run(async |tx| {
            increment(&tx, "n").await?;
            reached.notify_one();
            std::future::pending::<Result<()>>().await
        });
        tokio::select! {
            _ = run => panic!("it cannot have ended"),
            () = reached.notified() => {}
        }
        assert_eq!(get(&client, "n").await, None);
    }
}

#[tokio::test]
async fn an_attempt_that_has_ended_reads_and_writes_nothing() {
    let client = Client::connect("memory:").await.unwrap();
    let (kept, stm) = (Mutex::new(None), client.stm());
    stm.run(async |tx| {
        increment(&tx, "n").await?;
        *kept.lock().unwrap() = Some(tx);
        Ok(())
    })
    .await
    .unwrap();
    let tx = kept.lock().unwrap().take().unwrap();
    tx.put("n", "100");
    assert!(matches!(tx.get("n").await, Err(Error::InvalidArgument(_))));
    assert_eq!(get(&client, "n").await.unwrap(), "1");
}

#[tokio::test]
async fn keys_with_a_lease_go_with_it() {
    for (_, client) in clients() {
        let grant = LeaseGrantRequest::new(Duration::from_secs(60));
        let lease = client.store().lease_grant(grant).await.unwrap().id;
        let stm = client.stm();
        let put = async |lease: LeaseId| {
            stm.run(async |tx| {
                tx.put_with_lease("leased", "", lease);
                Ok(())
            })
            .await
        };
        put(lease).await.unwrap();
        assert!(get(&client, "leased").await.is_some());
        client.store().lease_revoke(lease).await.unwrap();
        assert_eq!(get(&client, "leased").await, None);
        let error = put(lease).await.unwrap_err();
        assert!(error.is_session_lost(), "{error}");
    }
}

#[tokio::test]
async fn a_state_that_is_compacted_away_is_read_anew() {
    for (_, client) in clients() {
        put(&client, "a", "1").await;
        let (once, stm) = (Once::default(), client.stm());
        let committed = stm.transact::<_, Error, _, _>(async |tx| {
            let a = tx.get("a").await?;
            if once.first() {
                put(&client, "a", "2").await;
                put(&client, "b", "2").await;
                let header = client.store().status().await.unwrap().header;
                client.store().compact(header.revision, true).await.unwrap();
            }
            Ok((a, tx.get("b").await?))
        });
        let committed = committed.await.unwrap();
        assert_eq!(committed.attempts, 2);
        assert_eq!(committed.value, (Some("2".into()), Some("2".into())));
    }
}

#[tokio::test]
async fn one_that_does_nothing_asks_nobody() {
    let (faulty, client) = { clients() }.into_iter().next_back().unwrap();
    let stm = client.stm();
    let committed = stm
        .transact::<_, Error, _, _>(async |_| Ok(7))
        .await
        .unwrap();
    assert_eq!((committed.value, committed.attempts), (7, 1));
    assert_eq!(committed.revision, Revision::ZERO);
    assert_eq!((faulty.ranges(), faulty.txns()), (0, 0));
}

/// What came with a refusal is old after a long delay; it would be refused for sure.
#[tokio::test]
async fn after_a_delay_the_state_is_read_anew() {
    for _ in 0..20 {
        let (faulty, client) = clients().into_iter().next().unwrap();
        put(&client, "a", "0").await;
        let (attempts, written, in_time) = <(AtomicU32, AtomicU32, AtomicU32)>::default();
        let closed = AtomicU32::new(0);
        let other = Client::from_store(std::sync::Arc::clone(&faulty.engine));
        let stm = client.stm();
        let run = stm.transact::<_, Error, _, _>(async |tx| {
            let attempt = attempts.fetch_add(1, Ordering::SeqCst) + 1;
            // The read waits for the end of the delay, not the closure's beginning.
            increment(&tx, "a").await?;
            if attempt == 4 {
                in_time.store(written.load(Ordering::SeqCst), Ordering::SeqCst);
            }
            if attempt <= 3 {
                put(&other, "a", "1").await;
            }
            if attempt == 3 {
                // The commit takes long, and so does the delay after it.
                faulty.close_gate(0);
                closed.store(1, Ordering::SeqCst);
            }
            Ok(())
        });
        let meanwhile = async {
            crate::testing::until(|| closed.load(Ordering::SeqCst) == 1).await;
            assert!(faulty.wait_at_gate().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
            faulty.open_gate();
            tokio::time::sleep(Duration::from_millis(10)).await;
            put(&other, "a", "9").await;
            written.store(1, Ordering::SeqCst);
        };
        let (committed, ()) = tokio::join!(run, meanwhile);
        let committed = committed.unwrap();
        if in_time.load(Ordering::SeqCst) == 1 {
            assert_eq!(get(&client, "a").await.unwrap(), "10");
            assert_eq!(committed.attempts, 4);
            return;
        }
    }
    panic!("the delay was too short each time");
}
