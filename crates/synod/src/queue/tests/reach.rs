//! Looks that end early, cursors that move up, and claims behind those of others.

use super::faults::{for_each_script, scripts};
use super::*;

const BEGIN: u64 = 1_700_000_000_000_000_000;

/// Puts items in under these stamps, with what they were put in as.
async fn fill(store: &Arc<dyn Store>, stamps: impl IntoIterator<Item = u64>) -> Vec<String> {
    let mut values = Vec::new();
    for stamp in stamps {
        let value = format!("{stamp}");
        put(store, &format!("q/{stamp:019}"), &value).await;
        values.push(value);
    }
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_that_ends_early_goes_on_where_it_ended() {
    // Dense, far apart, dense again, with others' keys in between, and up to the last number.
    let dense = (0..700).map(|number| BEGIN + number);
    let sparse = (1..300).map(|number| BEGIN + number * 1_000_000_000_000);
    let late = (0..300).map(|number| 8_999_999_999_999_999_000 + number * 3);
    let stamps: Vec<u64> = dense.chain(sparse).chain(late).collect();
    let faulty = Faulty::over(engine(), Replies::Certain);
    let values = fill(&faulty.engine, stamps).await;
    for nested in 0..600 {
        put(&faulty.engine, &format!("q/{}/{nested}", BEGIN + 800), "").await;
    }
    put(&faulty.engine, "q/9x", "last").await;
    let client = faulty.client(LONG);
    let queue = client.queue("q");
    let mut taken = Vec::new();
    while let Some(value) = queue.try_dequeue().await.unwrap() {
        taken.push(String::from_utf8(value.to_vec()).unwrap());
    }
    assert_eq!(taken.pop().as_deref(), Some("last"));
    assert_eq!(taken, values);
    // A few pages more than windows.
    assert!(faulty.ranges() <= 40, "{}", faulty.ranges());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_behind_others_takes_once_and_in_order_whatever_is_lost() {
    for_each_script(scripts(3), move |script| async move {
        let faulty = Faulty::new();
        let values = fill(&faulty.engine, (0..400).map(|number| BEGIN + number)).await;
        let other = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
        let queue = faulty.client(LONG).queue("q");
        let mut taken: Vec<Bytes> = Vec::new();
        for turn in 0..40 {
            if turn == 25 {
                // By now it aims behind the other.
                faulty.script(script.clone());
            }
            let mine = queue.dequeue().await;
            let mine = mine.unwrap_or_else(|error| panic!("{script:?}: {error}"));
            assert!(taken.last().is_none_or(|last| *last < mine), "{script:?}");
            taken.push(mine);
            if turn > 25 {
                faulty.deliver_late().await;
            }
            for _ in 0..3 + turn % 3 {
                taken.push(other.dequeue().await.unwrap());
            }
        }
        let stats = queue.stats();
        assert!(stats.lost_claims <= 10, "{script:?}: {stats:?}");
        taken.extend(drain(&faulty.engine, "q").await);
        assert_eq!(taken, values, "{script:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_behind_others_keep_the_order_of_commits_where_keys_do_not_rise() {
    for_each_script(scripts(2), move |script| async move {
        let faulty = Faulty::new();
        // As many producers at once put them in: each key within a few of its place.
        let mixed = (0..400).map(|number| BEGIN + (number / 8) * 8 + (number * 5 + 3) % 8);
        let values = fill(&faulty.engine, mixed).await;
        let other = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
        let queue = faulty.client(LONG).queue("q");
        let mut taken: Vec<Bytes> = Vec::new();
        for turn in 0..40 {
            if turn == 25 {
                faulty.script(script.clone());
            }
            let mine = queue.dequeue().await;
            taken.push(mine.unwrap_or_else(|error| panic!("{script:?}: {error}")));
            if turn > 25 {
                faulty.deliver_late().await;
            }
            for _ in 0..3 + turn % 3 {
                taken.push(other.dequeue().await.unwrap());
            }
        }
        let stats = queue.stats();
        assert!(stats.lost_claims <= 10, "{script:?}: {stats:?}");
        let inserted = values.get(..taken.len()).unwrap();
        assert_eq!(taken, inserted, "{script:?}");
        taken.extend(drain(&faulty.engine, "q").await);
        let (mut taken, mut values) = (taken, values);
        taken.sort();
        values.sort();
        assert_eq!(taken, values, "{script:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_no_order_at_all_stay_within_the_stores_limit() {
    let faulty = Faulty::over(engine(), Replies::Lossy);
    // Of a hundred the highest is the oldest, so that no range holds what comes before an item.
    let mixed = (0..2000).map(|number| BEGIN + (number / 100) * 100 + 99 - number % 100);
    let mut values = fill(&faulty.engine, mixed).await;
    let other = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
    let queue = faulty.client(LONG).queue("q");
    let mut all: Vec<Bytes> = Vec::new();
    for _ in 0..22 {
        all.push(queue.dequeue().await.unwrap());
        all.extend(other.dequeue_many(85).await.unwrap());
    }
    all.extend(drain(&faulty.engine, "q").await);
    all.sort();
    values.sort();
    assert_eq!(all, values);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_in_between_do_not_stop_competing_consumers() {
    let engine = engine();
    let mut values = fill(&engine, (0..300).map(|number| BEGIN + number * 10)).await;
    for number in 0..300 {
        put(&engine, &format!("q/{}/x", BEGIN + number * 10 + 5), "").await;
    }
    let mut consumers = Vec::new();
    for _ in 0..4 {
        let queue = Faulty::over(Arc::clone(&engine), Replies::Lossy);
        let queue = queue.client(LONG).queue("q");
        consumers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Some(value) = queue.try_dequeue().await.unwrap() {
                taken.push(String::from_utf8(value.to_vec()).unwrap());
            }
            (taken, queue.stats())
        }));
    }
    let mut all = Vec::new();
    for consumer in consumers {
        let (taken, stats) = consumer.await.unwrap();
        assert!(taken.is_sorted());
        assert!(stats.claims <= 300, "{stats:?}");
        all.extend(taken);
    }
    all.sort();
    values.sort();
    assert_eq!(all, values);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_in_before_old_items_is_not_passed_over() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let mut values = fill(&faulty.engine, (0..300).map(|number| BEGIN + number)).await;
    let queue = faulty.client(LONG).queue("q");
    let mut taken = Vec::new();
    for _ in 0..256 {
        taken.push(queue.dequeue().await.unwrap());
    }
    // The producer of this one was slow.
    let late = fill(&faulty.engine, [BEGIN - 1_000_000_000]).await;
    for _ in 0..45 {
        taken.push(queue.dequeue().await.unwrap());
    }
    values.extend(late);
    assert_eq!(taken, values);
}
