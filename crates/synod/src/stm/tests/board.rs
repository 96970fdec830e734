//! What must not get out of the board: states that are not of the store, and waits without end.

use std::future::Future;
use std::pin::pin;

use futures_util::poll;
use synod_store::{KeyRange, LeaseId};
use tokio::sync::oneshot;

use super::*;
use crate::testing::{idle_runtime, soon};

/// Runs pairs of transactions until the board knows what they read, and the two know each other.
async fn acquaint(stm: &Stm) {
    let one = || {
        stm.run(async |tx| {
            tx.range(KeyRange::prefix("room/")).await?;
            increment(&tx, "n").await
        })
    };
    for _ in 0..3 {
        let (one, other) = tokio::join!(one(), one());
        one.unwrap();
        other.unwrap();
    }
}

/// What reads, on the board, what another is about to write, and goes on when it is told to.
fn copy(
    stm: &Stm,
) -> (
    impl Future<Output = Result<()>>,
    oneshot::Receiver<()>,
    oneshot::Sender<()>,
) {
    let (read, has_read) = oneshot::channel();
    let (go, gone) = oneshot::channel();
    let stm = stm.clone();
    let waits = std::sync::Mutex::new(Some((read, gone)));
    let run = async move {
        stm.run(async |tx| {
            let value = tx.get("k").await?.unwrap_or_default();
            let wait = waits.lock().unwrap().take();
            if let Some((read, gone)) = wait {
                read.send(()).unwrap();
                gone.await.unwrap();
            }
            tx.put("copy", value);
            Ok(())
        })
        .await
    };
    (run, has_read, go)
}

async fn learn(stm: &Stm, key: &str) {
    stm.run(async |tx| tx.get(key).await).await.unwrap();
}

async fn blind(stm: &Stm) -> Result<()> {
    stm.run(async |tx| {
        tx.put("k", "never");
        Ok(())
    })
    .await
}

async fn increment_once(stm: &Stm) -> Result<()> {
    stm.run(async |tx| {
        tx.put("n", "1");
        Ok(())
    })
    .await
}

/// A group that writes nothing, or only deletes what is not there, lands at a revision that is another's.
#[tokio::test]
async fn a_revision_of_others_is_not_taken_for_its_own() {
    for idle in ["reads", "deletes"] {
        for (_, client) in clients() {
            let stm = client.stm();
            acquaint(&stm).await;
            put(&client, "room/1", "").await;
            let one = || {
                stm.run(async |tx| {
                    let n = tx.get("n").await?;
                    if idle == "deletes" {
                        tx.delete("absent");
                    }
                    Ok(n)
                })
            };
            let (one, other) = tokio::join!(one(), one());
            assert_eq!(one.unwrap(), other.unwrap());
            let guests = || {
                stm.run(async |tx| {
                    let guests = tx.range(KeyRange::prefix("room/")).await?.len();
                    tx.put("guests", guests.to_string());
                    Ok(guests)
                })
            };
            let (one, other) = tokio::join!(guests(), guests());
            assert_eq!((one.unwrap(), other.unwrap()), (1, 1), "{idle}");
        }
    }
}

/// One has read what a member wrote who then left; meanwhile the board has learned what the store holds.
#[tokio::test]
async fn what_was_taken_back_has_not_been_read() {
    for (_, client) in clients() {
        let stm = client.stm();
        acquaint(&stm).await;
        let (run, mut has_read, go) = copy(&stm);
        let mut run = pin!(run);
        {
            let mut member = pin!(blind(&stm));
            assert!(poll!(&mut member).is_pending());
            assert!(poll!(&mut run).is_pending());
            has_read.try_recv().unwrap();
        }
        learn(&stm, "k").await;
        go.send(()).unwrap();
        soon(run).await.unwrap();
        assert_eq!(get(&client, "k").await, None);
        assert_eq!(get(&client, "copy").await.unwrap(), "");
    }
}

/// The same when the store has refused the group.
#[tokio::test]
async fn what_was_refused_has_not_been_read() {
    for (_, client) in clients() {
        let stm = client.stm();
        acquaint(&stm).await;
        let (run, mut has_read, go) = copy(&stm);
        let mut run = pin!(run);
        {
            let mut member = pin!(stm.run(async |tx| {
                tx.put("k", "never");
                tx.put_with_lease("leased", "", LeaseId::new(77).unwrap());
                Ok(())
            }));
            assert!(poll!(&mut member).is_pending());
            assert!(poll!(&mut run).is_pending());
            has_read.try_recv().unwrap();
            member.await.unwrap_err();
        }
        learn(&stm, "k").await;
        go.send(()).unwrap();
        soon(run).await.unwrap();
        assert_eq!(get(&client, "copy").await.unwrap(), "");
    }
}

/// Who waits for room is told when there is some, also when the group has dissolved.
#[tokio::test]
async fn a_group_that_dissolves_makes_room() {
    for (_, client) in clients() {
        let stm = client.stm();
        acquaint(&stm).await;
        let mut second = pin!(blind(&stm));
        {
            let mut first = pin!(stm.run(async |tx| {
                tx.put_with_lease("k", "", LeaseId::new(77).unwrap());
                Ok(())
            }));
            assert!(poll!(&mut first).is_pending());
            assert!(poll!(&mut second).is_pending());
        }
        soon(second).await.unwrap();
    }
}

/// A runtime that ends before the group's task has begun.
#[test]
fn a_runtime_that_ends_at_once_holds_up_nobody() {
    let home = idle_runtime();
    let (_faulty, client) = home.block_on(async {
        let [(faulty, client), _] = clients();
        (faulty, client)
    });
    let stm = client.stm();
    let other = idle_runtime();
    let mut companion = Box::pin(increment_once(&stm));
    other.block_on(async {
        let mut run = pin!(blind(&stm));
        assert!(poll!(&mut run).is_pending());
        // It waits on: for what another runtime was to do.
        assert!(poll!(&mut companion).is_pending());
    });
    drop(other);
    home.block_on(async {
        soon(blind(&stm)).await.unwrap();
        soon(companion).await.unwrap();
        assert_eq!(get(&client, "n").await.unwrap(), "1");
    });
}

/// One that the closure has spawned has the turn, and waits for another that wants it.
#[tokio::test]
async fn a_task_of_the_closure_does_not_keep_the_turn() {
    for (_, client) in clients() {
        let stm = client.stm();
        acquaint(&stm).await;
        let once = std::sync::Arc::new(Once::default());
        let run = stm.run(|tx| {
            let (stm, once) = (stm.clone(), once.clone());
            async move {
                let task = tokio::spawn(async move {
                    increment(&tx, "n").await?;
                    if once.first() {
                        stm.run(async |tx| increment(&tx, "n").await).await?;
                    }
                    Ok(())
                });
                task.await.unwrap()
            }
        });
        soon(run).await.unwrap();
        assert_eq!(get(&client, "n").await.unwrap(), "8");
    }
}

/// A key that one deletes and the next puts is a new one.
#[tokio::test]
async fn what_was_deleted_and_put_again_is_new() {
    for (_, client) in clients() {
        let stm = client.stm();
        acquaint(&stm).await;
        put(&client, "k", "old").await;
        let delete = stm.run(async |tx| {
            tx.delete("k");
            Ok(())
        });
        let created = async || {
            let read = client.store().range(RangeRequest::new("k")).await.unwrap();
            read.kvs[0].create_revision
        };
        let old = created().await;
        let (one, other) = tokio::join!(delete, blind(&stm));
        one.unwrap();
        other.unwrap();
        assert!(created().await > old);
    }
}
