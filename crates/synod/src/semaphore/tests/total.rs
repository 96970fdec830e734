//! The total: who disagrees with it, and how it is changed.

use super::*;

#[tokio::test]
async fn another_total_is_an_error() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    drop(client.semaphore("s", 3).acquire().await.unwrap());
    let other = client.semaphore("s", 4);
    let disagreement = Error::Disagreement {
        name: "s".into(),
        what: "number of permits",
        stored: 3,
        asked: 4,
    };
    for error in [
        other.acquire().await.unwrap_err(),
        other.try_acquire().await.unwrap_err(),
        other.available_permits().await.unwrap_err(),
    ] {
        assert_eq!(error.to_string(), disagreement.to_string());
    }
    until_tickets(&faulty, 0).await;
}

#[tokio::test]
async fn the_total_is_changed_deliberately() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let small = client.semaphore("s", 2);
    let held = small.acquire_many(2).await.unwrap();
    let waits = waiting(&faulty, &small, 2).await;
    // Larger: who waits goes by it at once.
    let large = small.resize(4).await.unwrap();
    let more = soon(waits).await.unwrap().unwrap();
    assert_eq!(
        (large.permits(), large.available_permits().await.unwrap()),
        (4, 0)
    );
    assert!(matches!(
        small.acquire().await,
        Err(Error::Disagreement {
            stored: 4,
            asked: 2,
            ..
        })
    ));
    assert!(matches!(
        small.resize(3).await,
        Err(Error::Disagreement { stored: 4, .. })
    ));
    // Repeating it is no error, as an answer may have been lost.
    small.resize(4).await.unwrap();
    // Smaller: nothing is taken away, and nothing given out until enough has come back.
    let four = waiting(&faulty, &large, 4).await;
    let small = large.resize(3).await.unwrap();
    let error = soon(four).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    until_tickets(&faulty, 2).await;
    held.check().await.unwrap();
    more.check().await.unwrap();
    assert!(small.try_acquire().await.unwrap().is_none());
    let one = waiting(&faulty, &small, 1).await;
    held.release().await.unwrap();
    let one = soon(one).await.unwrap().unwrap();
    assert_eq!(small.available_permits().await.unwrap(), 0);
    let busy = small.remove().await.unwrap_err();
    assert!(
        matches!(
            busy,
            Error::Held {
                holder: Some(_),
                ..
            }
        ),
        "{busy}"
    );
    one.release().await.unwrap();
    more.release().await.unwrap();
    assert!(matches!(
        large.remove().await,
        Err(Error::Disagreement { .. })
    ));
    small.remove().await.unwrap();
    small.remove().await.unwrap();
    let all = KeyRange::prefix("__synod/semaphore/");
    assert_eq!(
        faulty
            .engine
            .range(RangeRequest::new(all))
            .await
            .unwrap()
            .count,
        0
    );
    drop(large.acquire().await.unwrap());
}

#[tokio::test]
async fn a_resize_whose_answer_is_lost_happens_once() {
    for fault in FAULTS {
        let faulty = Faulty::new();
        let client = faulty.client(TIMEOUT);
        let two = client.semaphore("s", 2);
        two.acquire().await.unwrap().release().await.unwrap();
        faulty.script([fault]);
        let three = two.resize(3).await.unwrap();
        let four = three.resize(4).await.unwrap();
        faulty.deliver_late().await;
        assert_eq!(four.available_permits().await.unwrap(), 4, "{fault:?}");
    }
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_named() {
    let faulty = Faulty::new();
    let client = faulty.client(TIMEOUT);
    let semaphore = client.semaphore("s", 2);
    for error in [
        semaphore.acquire_many(0).await.unwrap_err(),
        semaphore.acquire_many(3).await.unwrap_err(),
        semaphore.try_acquire_many(u32::MAX).await.unwrap_err(),
        client.semaphore("s", 0).acquire().await.unwrap_err(),
        semaphore.resize(0).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert!(error.to_string().contains("\"s\""), "{error}");
    }
    assert_eq!(faulty.txns(), 0);
    // A record that somebody else has damaged.
    let put = PutRequest::new("__synod/semaphore/s/total", "many");
    faulty.engine.put(put).await.unwrap();
    for error in [
        semaphore.acquire().await.unwrap_err(),
        semaphore.available_permits().await.unwrap_err(),
        semaphore.resize(3).await.map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().contains("holds \"many\""), "{error}");
    }
}
