//! What each level of isolation lets through, and what it refuses.

use synod_store::KeyRange;

use super::*;

/// Runs the closure's transaction, during whose first attempt, after its reads, `meanwhile` happens.
/// Returns how many attempts it took.
async fn disturbed(
    client: &Client,
    level: Isolation,
    body: impl AsyncFn(&Tx) -> Result<()>,
    meanwhile: impl AsyncFn(),
) -> u32 {
    let (once, stm) = (Once::default(), client.stm().with_isolation(level));
    let committed = stm.transact::<_, Error, _, _>(async |tx| {
        body(&tx).await?;
        if once.first() {
            meanwhile().await;
        }
        Ok(())
    });
    committed.await.unwrap().attempts
}

#[tokio::test]
async fn updates_are_lost_where_commits_compare_nothing() {
    for (_, client) in clients() {
        for level in LEVELS {
            put(&client, "n", "0").await;
            let attempts = disturbed(
                &client,
                level,
                async |tx| increment(tx, "n").await,
                async || put(&client, "n", "10").await,
            );
            let validates = validates(level);
            assert_eq!(attempts.await, if validates { 2 } else { 1 }, "{level:?}");
            let expected = if validates { "11" } else { "1" };
            assert_eq!(get(&client, "n").await.unwrap(), expected, "{level:?}");
        }
    }
}

/// Both doctors may go as long as the other stays.
#[tokio::test]
async fn write_skew_is_refused_where_commits_compare() {
    for (_, client) in clients() {
        for level in LEVELS {
            put(&client, "anna", "here").await;
            put(&client, "bert", "here").await;
            let attempts = disturbed(
                &client,
                level,
                async |tx| {
                    if tx.get("bert").await?.is_some_and(|bert| bert == "here") {
                        tx.put("anna", "gone");
                    }
                    Ok(())
                },
                async || put(&client, "bert", "gone").await,
            );
            let validates = validates(level);
            assert_eq!(attempts.await, if validates { 2 } else { 1 }, "{level:?}");
            let anna = get(&client, "anna").await.unwrap();
            assert_eq!(anna, if validates { "here" } else { "gone" }, "{level:?}");
        }
    }
}

#[tokio::test]
async fn keys_that_come_into_a_range_are_noticed_by_the_first_two_levels() {
    for (_, client) in clients() {
        for level in LEVELS {
            for others in [false, true] {
                for key in ["room/1", "room/2", "count"] {
                    delete(&client, key).await;
                }
                if others {
                    put(&client, "room/1", "").await;
                }
                let attempts = disturbed(
                    &client,
                    level,
                    async |tx| {
                        let guests = tx.range(KeyRange::prefix("room/")).await?.len();
                        tx.put("count", guests.to_string());
                        Ok(())
                    },
                    async || put(&client, "room/2", "").await,
                );
                let expected = if is_snapshot(level) { 2 } else { 1 };
                assert_eq!(attempts.await, expected, "{level:?}");
                let right = usize::from(others) + usize::from(is_snapshot(level));
                assert_eq!(get(&client, "count").await.unwrap(), right.to_string());
            }
        }
    }
}

#[tokio::test]
async fn keys_that_change_or_go_in_a_range_are_noticed_where_commits_compare() {
    for (_, client) in clients() {
        for level in LEVELS {
            for goes in [false, true] {
                put(&client, "room/1", "").await;
                let attempts = disturbed(
                    &client,
                    level,
                    async |tx| {
                        let guests = tx.range(KeyRange::prefix("room/")).await?.len();
                        tx.put("count", guests.to_string());
                        Ok(())
                    },
                    async || {
                        if goes {
                            delete(&client, "room/1").await;
                        } else {
                            put(&client, "room/1", "other").await;
                        }
                    },
                );
                let expected = if validates(level) { 2 } else { 1 };
                assert_eq!(attempts.await, expected, "{level:?} {goes}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_is_only_written_is_guarded_by_the_first_level() {
    for (_, client) in clients() {
        for level in LEVELS {
            put(&client, "read", "").await;
            put(&client, "written", "").await;
            let attempts = disturbed(
                &client,
                level,
                async |tx| {
                    tx.get("read").await?;
                    tx.put("written", "mine");
                    Ok(())
                },
                async || put(&client, "written", "theirs").await,
            );
            let guards = level == Isolation::SerializableSnapshot;
            assert_eq!(attempts.await, if guards { 2 } else { 1 }, "{level:?}");
            assert_eq!(get(&client, "written").await.unwrap(), "mine");
            // Without a read there is nothing that it could be newer than.
            let blind = disturbed(
                &client,
                level,
                async |tx| {
                    tx.put("written", "mine");
                    Ok(())
                },
                async || put(&client, "written", "theirs").await,
            );
            assert_eq!(blind.await, 1, "{level:?}");
        }
    }
}

#[tokio::test]
async fn what_only_was_read_is_compared_too() {
    for (_, client) in clients() {
        for level in LEVELS {
            put(&client, "a", "1").await;
            put(&client, "b", "1").await;
            let attempts = disturbed(
                &client,
                level,
                async |tx| {
                    tx.get("a").await?;
                    tx.get("b").await?;
                    Ok(())
                },
                async || put(&client, "a", "2").await,
            );
            let expected = if validates(level) { 2 } else { 1 };
            assert_eq!(attempts.await, expected, "{level:?}");
        }
    }
}

#[tokio::test]
async fn attempts_see_mixtures_at_the_last_two_levels() {
    for (_, client) in clients() {
        for level in LEVELS {
            put(&client, "x", "1").await;
            put(&client, "y", "1").await;
            let (once, stm) = (Once::default(), client.stm().with_isolation(level));
            let mixture = AtomicU32::new(0);
            stm.run(async |tx| {
                let x = tx.get("x").await?;
                if once.first() {
                    // Both change, always together.
                    let both = client.stm();
                    both.run(async |tx| {
                        tx.put("x", "2");
                        tx.put("y", "2");
                        Ok(())
                    })
                    .await?;
                }
                if x != tx.get("y").await? {
                    mixture.fetch_add(1, Ordering::SeqCst);
                }
                // What was read first stays.
                assert_eq!(tx.get("x").await?, x);
                Ok(())
            })
            .await
            .unwrap();
            let expected = u32::from(!is_snapshot(level));
            assert_eq!(mixture.load(Ordering::SeqCst), expected, "{level:?}");
        }
    }
}
