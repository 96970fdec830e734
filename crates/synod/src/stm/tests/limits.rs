//! Limits: told by type, before anything is sent.

use synod_store::KeyRange;

use super::*;

fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("k/{number:03}"))
}

fn too_many(error: &Error) -> Option<(&'static str, usize, usize)> {
    match error {
        Error::TooManyOperations {
            what,
            needed,
            limit,
        } => Some((what, *needed, *limit)),
        _ => None,
    }
}

/// etcd issue 7826: the store's limit on the operations of one request becomes a typed error, and
/// what fits goes through.
#[tokio::test]
async fn issue_7826_as_many_operations_as_the_store_takes() {
    for (faulty, client) in clients() {
        let stm = client.stm();
        let write = async |count: usize| {
            stm.run(async |tx| {
                keys(count).for_each(|key| tx.put(key, ""));
                Ok(())
            })
            .await
        };
        write(125).await.unwrap();
        let before = faulty.txns();
        let error = write(126).await.unwrap_err();
        assert_eq!(too_many(&error), Some(("operations", 126, 125)), "{error}");
        let read = async |count: usize| stm.run(async |tx| tx.get_many(keys(count)).await).await;
        let error = read(127).await.unwrap_err();
        assert_eq!(too_many(&error), Some(("compares", 127, 126)), "{error}");
        assert_eq!(faulty.txns(), before);
        assert_eq!(read(126).await.unwrap().len(), 126);
        // One at a time they have to be compared, and with all of them a write still fits in.
        let stm = client.stm();
        stm.run(async |tx| {
            for key in keys(126) {
                tx.get(key).await?;
            }
            tx.put("k/000", "seen");
            Ok(())
        })
        .await
        .unwrap();
        // One that is only written is compared too.
        let error = stm
            .run(async |tx| {
                tx.get_many(keys(126)).await?;
                tx.put("other", "");
                Ok(())
            })
            .await
            .unwrap_err();
        assert_eq!(too_many(&error), Some(("compares", 127, 126)), "{error}");
        let serializable = client.stm().with_isolation(Isolation::Serializable);
        let run = serializable.run(async |tx| {
            tx.get_many(keys(126)).await?;
            tx.put("other", "");
            Ok(())
        });
        run.await.unwrap();
    }
}

#[tokio::test]
async fn a_range_is_as_large_as_a_commit_can_compare() {
    for (_, client) in clients() {
        for key in keys(125) {
            put(&client, &key, "").await;
        }
        let all = KeyRange::prefix("k/");
        let count = async |level| {
            let stm = client.stm().with_isolation(level);
            stm.run(async |tx| {
                let pairs = tx.range(all.clone()).await?;
                tx.put("k/000", "counted");
                Ok(pairs.len())
            })
            .await
        };
        for level in LEVELS {
            assert_eq!(count(level).await.unwrap(), 125, "{level:?}");
        }
        for key in keys(200) {
            put(&client, &key, "").await;
        }
        for level in LEVELS {
            match count(level).await {
                Ok(count) => assert_eq!((level, count), (Isolation::ReadCommitted, 200)),
                Err(error) => assert_eq!(too_many(&error), Some(("compares", 201, 126)), "{error}"),
            }
        }
    }
}

#[tokio::test]
async fn a_range_that_grows_beyond_the_limit_while_it_is_tried_is_an_error() {
    for (_, client) in clients() {
        put(&client, "k/000", "").await;
        let (once, stm) = (Once::default(), client.stm());
        let run = stm.run(async |tx| {
            let pairs = tx.range(KeyRange::prefix("k/")).await?;
            if once.first() {
                for key in keys(200) {
                    put(&client, &key, "").await;
                }
            }
            tx.put("count", pairs.len().to_string());
            Ok(())
        });
        let error = run.await.unwrap_err();
        assert_eq!(too_many(&error), Some(("compares", 201, 126)), "{error}");
        assert_eq!(get(&client, "count").await, None);
    }
}

#[tokio::test]
async fn a_range_over_the_own_keys_of_the_client_is_refused() {
    for (_, client) in clients() {
        let stm = client.stm();
        for range in [KeyRange::all(), KeyRange::prefix("__synod/lane/")] {
            let error = stm.run(async |tx| tx.range(range.clone()).await).await;
            let error = error.unwrap_err();
            assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
            assert!(error.to_string().contains("__synod/"), "{error}");
        }
    }
}

#[tokio::test]
async fn keys_and_values_that_the_store_refuses_are_errors() {
    use synod_store::ErrorKind;
    for (_, client) in clients() {
        let stm = client.stm();
        let empty = stm.run(async |tx| tx.get("").await).await.unwrap_err();
        assert_eq!(empty.kind(), Some(ErrorKind::EmptyKey), "{empty}");
        let put = async |key: &str, size: usize| {
            stm.run(async |tx| {
                tx.put(key, vec![0; size]);
                Ok(())
            })
            .await
            .unwrap_err()
        };
        assert_eq!(put("", 1).await.kind(), Some(ErrorKind::EmptyKey));
        assert_eq!(put("k", 2 << 20).await.kind(), Some(ErrorKind::TooLarge));
    }
}
