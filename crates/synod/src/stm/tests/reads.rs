//! What an attempt sees, and what it costs.

use synod_store::{KeyRange, Revision};

use super::*;

fn pairs(pairs: Vec<(synod_store::Key, Bytes)>) -> String {
    let pairs = pairs
        .into_iter()
        .map(|(key, value)| format!("{key}={}", text(&value)));
    pairs.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn an_attempt_reads_what_it_has_written() {
    for (_, client) in clients() {
        for level in LEVELS {
            for key in ["a", "b", "c"] {
                put(&client, key, "old").await;
            }
            let stm = client.stm().with_isolation(level);
            stm.run(async |tx| {
                tx.put("a", "new");
                tx.delete("b");
                tx.put("d", "new");
                assert_eq!(tx.get("a").await?.unwrap(), "new");
                assert_eq!(tx.get("b").await?, None);
                let all = KeyRange::between("a", "z");
                assert_eq!(pairs(tx.range(all.clone()).await?), "a=new c=old d=new");
                assert_eq!(pairs(tx.range("a").await?), "a=new");
                assert_eq!(pairs(tx.range(KeyRange::between("c", "a")).await?), "");
                tx.delete("d");
                tx.put("b", "back");
                assert_eq!(pairs(tx.range(all).await?), "a=new b=back c=old");
                let many = tx.get_many(["d", "a", "a", "nothing"]).await?;
                assert_eq!(many, [None, Some("new".into()), Some("new".into()), None]);
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(get(&client, "a").await.unwrap(), "new", "{level:?}");
            assert_eq!(get(&client, "b").await.unwrap(), "back");
            assert_eq!(get(&client, "d").await, None);
        }
    }
}

#[tokio::test]
async fn revisions_are_those_of_the_store() {
    for (_, client) in clients() {
        put(&client, "a", "1").await;
        let stm = client.stm();
        let (before, absent) = stm
            .run(async |tx| {
                tx.put("a", "2");
                Ok((tx.revision("a").await?, tx.revision("b").await?))
            })
            .await
            .unwrap();
        assert!(before > Revision::ZERO);
        assert_eq!(absent, Revision::ZERO);
        let after = stm.run(async |tx| tx.revision("a").await).await.unwrap();
        assert!(after > before);
    }
}

/// etcd issue 7184: a key that the transaction has deleted is gone for its own reads, and for the
/// next transaction; its revision says so too.
#[tokio::test]
async fn issue_7184_a_delete_is_seen() {
    for (_, client) in clients() {
        put(&client, "a", "1").await;
        let stm = client.stm();
        let seen = stm.run(async |tx| {
            tx.get("a").await?;
            tx.delete("a");
            tx.get("a").await
        });
        assert_eq!(seen.await.unwrap(), None);
        let seen = stm.run(async |tx| Ok((tx.get("a").await?, tx.revision("a").await?)));
        assert_eq!(seen.await.unwrap(), (None, Revision::ZERO));
    }
}

#[tokio::test]
async fn an_absent_key_is_not_an_empty_one() {
    let client = Client::connect("memory:").await.unwrap();
    put(&client, "empty", "").await;
    let stm = client.stm();
    let both = stm.run(async |tx| tx.get_many(["empty", "absent"]).await);
    assert_eq!(both.await.unwrap(), [Some("".into()), None]);
}

#[tokio::test]
async fn later_reads_are_of_the_state_of_the_first() {
    for (_, client) in clients() {
        for level in [Isolation::SerializableSnapshot, Isolation::Serializable] {
            put(&client, "a", "1").await;
            put(&client, "b", "1").await;
            put(&client, "c/1", "1").await;
            let (once, stm) = (Once::default(), client.stm().with_isolation(level));
            let seen = stm.transact::<_, Error, _, _>(async |tx| {
                let a = tx.get("a").await?;
                if once.first() {
                    put(&client, "b", "2").await;
                    put(&client, "c/2", "2").await;
                    assert_eq!(tx.get("b").await?.unwrap(), "1");
                    assert_eq!(tx.range(KeyRange::prefix("c/")).await?.len(), 1);
                }
                Ok((a, tx.get("b").await?))
            });
            let seen = seen.await.unwrap();
            // What it read has changed, so it had to be tried again although it writes nothing.
            assert_eq!(seen.attempts, 2);
            assert_eq!(seen.value, (Some("1".into()), Some("2".into())));
            delete(&client, "c/2").await;
        }
    }
}

#[tokio::test]
async fn costs_are_as_documented() {
    for (faulty, client) in clients() {
        // A client's first record on a store that loses answers.
        client
            .txn()
            .and_then([crate::txn::put("x", "")])
            .await
            .unwrap();
        let cost = async |stm: Stm, run: &dyn Fn(Stm) -> Run| {
            let before = (faulty.ranges(), faulty.txns());
            run(stm).await;
            (faulty.ranges() - before.0, faulty.txns() - before.1)
        };
        type Run = std::pin::Pin<Box<dyn Future<Output = ()>>>;
        let one_read = |stm: Stm| -> Run {
            Box::pin(async move {
                stm.run(async |tx| tx.get("a").await).await.unwrap();
            })
        };
        assert_eq!(cost(client.stm(), &one_read).await, (1, 0));
        let many_reads = |stm: Stm| -> Run {
            Box::pin(async move {
                stm.run(async |tx| {
                    tx.get_many(["a", "b", "c"]).await?;
                    tx.get_many(["c", "a"]).await
                })
                .await
                .unwrap();
            })
        };
        assert_eq!(cost(client.stm(), &many_reads).await, (0, 1));
        let two_reads = |stm: Stm| -> Run {
            Box::pin(async move {
                stm.run(async |tx| {
                    tx.get("a").await?;
                    tx.get("b").await
                })
                .await
                .unwrap();
            })
        };
        assert_eq!(cost(client.stm(), &two_reads).await, (2, 1));
        let ahead = || client.stm().with_prefetch(["a", "b"]);
        assert_eq!(cost(ahead(), &two_reads).await, (0, 1));
        let committed = client.stm().with_isolation(Isolation::ReadCommitted);
        assert_eq!(cost(committed, &two_reads).await, (2, 0));
        let range_and_member = |stm: Stm| -> Run {
            Box::pin(async move {
                stm.run(async |tx| {
                    tx.range(KeyRange::prefix("a")).await?;
                    tx.get("a").await?;
                    tx.range(KeyRange::between("a", "a\u{0}")).await
                })
                .await
                .unwrap();
            })
        };
        assert_eq!(cost(client.stm(), &range_and_member).await, (1, 0));
        let write = |stm: Stm| -> Run {
            Box::pin(async move {
                stm.run(async |tx| increment(&tx, "a").await).await.unwrap();
            })
        };
        assert_eq!(cost(client.stm(), &write).await, (1, 1));
        let blind = |stm: Stm| -> Run {
            Box::pin(async move {
                stm.run(async |tx| {
                    tx.put("a", "0");
                    Ok(())
                })
                .await
                .unwrap();
            })
        };
        assert_eq!(cost(client.stm(), &blind).await, (0, 1));
        // A conflict brings what the next attempt reads.
        let other = client.clone();
        let conflict = move |stm: Stm| -> Run {
            let other = other.clone();
            Box::pin(async move {
                let once = Once::default();
                stm.run(async |tx| {
                    increment(&tx, "a").await?;
                    tx.range(KeyRange::prefix("c/")).await?;
                    if once.first() {
                        put(&other, "a", "7").await;
                    }
                    Ok(())
                })
                .await
                .unwrap();
            })
        };
        assert_eq!(cost(client.stm(), &conflict).await, (2, 2));
        assert_eq!(get(&client, "a").await.unwrap(), "8");
    }
}
