//! Several items taken by one deletion, what lies between them, and the watch of a consumer that is alone.

use synod_store::{DeleteRequest, RangeRequest};

use super::faults::{for_each_script, scripts};
use super::*;

const BEGIN: u64 = 1_700_000_000_000_000_000;

fn key(number: u64) -> String {
    format!("q/{:019}", BEGIN + number)
}

/// Puts items in, ten numbers apart; returns their values.
async fn fill(store: &Arc<dyn Store>, count: u64) -> Vec<String> {
    let mut values = Vec::new();
    for number in 0..count {
        let value = format!("{number:04}");
        put(store, &key(number * 10), &value).await;
        values.push(value);
    }
    values
}

async fn is_there(store: &Arc<dyn Store>, key: &str) -> bool {
    let range = store.range(RangeRequest::new(key.to_owned())).await;
    !range.unwrap().kvs.is_empty()
}

/// Takes so many, in as few calls as come.
async fn take(queue: &Queue, count: usize) -> Vec<Bytes> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(queue.dequeue_many(count - taken.len()).await.unwrap());
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_of_many_takes_nothing_that_came_in_between() {
    for replies in [Replies::Certain, Replies::Lossy] {
        let faulty = Faulty::over(engine(), replies);
        let store = &faulty.engine;
        let mut values = fill(store, 60).await;
        let queue = faulty.client(LONG).queue("q");
        assert_eq!(queue.dequeue_many(4).await.unwrap(), &values[..4]);
        // Known by now: the others. Somebody takes two, a stranger's key and an item come in between,
        // and another item is put anew.
        for gone in [10, 12] {
            let gone = DeleteRequest::new(key(gone * 10));
            store.delete(gone).await.unwrap();
        }
        let stranger = format!("{}/x", key(75));
        put(store, &stranger, "not an item").await;
        put(store, &key(85), "late").await;
        put(store, &key(200), "anew").await;
        values.remove(20);
        values.remove(12);
        values.remove(10);
        values.drain(..4);
        values.extend(["late".into(), "anew".into()]);
        assert_eq!(take(&queue, values.len()).await, values, "{replies:?}");
        assert!(is_there(store, &stranger).await);
        assert_eq!(queue.try_dequeue().await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_of_many_spares_the_strangers_that_were_there() {
    let engine = engine();
    let values = fill(&engine, 300).await;
    let strangers = [35, 36, 255, 2555].map(|number| format!("{}/x", key(number)));
    for stranger in &strangers {
        put(&engine, stranger, "not an item").await;
    }
    let queue = Client::from_store(Arc::clone(&engine)).queue("q");
    assert_eq!(take(&queue, 300).await, values);
    for stranger in &strangers {
        assert!(is_there(&engine, stranger).await, "{stranger}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_of_many_takes_once_and_in_order_whatever_is_lost() {
    for_each_script(scripts(3), move |script| async move {
        let faulty = Faulty::new();
        let values = fill(&faulty.engine, 90).await;
        let other = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
        let queue = faulty.client(LONG).queue("q");
        let mut mine = take(&queue, 1).await;
        faulty.script(script.clone());
        let mut all: Vec<Bytes> = Vec::new();
        for _ in 0..6 {
            // Of what is known the other takes the first: the rest is still a run.
            all.extend(other.dequeue_many(3).await.unwrap());
            let taken = queue.dequeue_many(9).await;
            mine.extend(taken.unwrap_or_else(|error| panic!("{script:?}: {error}")));
            faulty.deliver_late().await;
        }
        assert!(mine.is_sorted(), "{script:?}: {mine:?}");
        all.extend(mine);
        all.extend(drain(&faulty.engine, "q").await);
        all.sort();
        assert_eq!(all, values, "{script:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_go_in_together_make_room_for_a_key_in_between() {
    let clock = Arc::new(ManualClock::new());
    let engine = engine();
    // Only the comparison of the whole range finds it: it is none of the keys.
    let between = format!("q/{:019}5", clock.unix_nanos() + 7);
    put(&engine, &between, "first").await;
    let options = ConnectOptions::new("memory:").with_clock(clock.clone());
    let queue = options.over(Arc::clone(&engine)).queue("q");
    let values: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
    queue.enqueue_many(&values).await.unwrap();
    assert_eq!(queue.dequeue().await.unwrap(), "first");
    assert_eq!(take(&queue, 20).await, values);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_alone_stops_looking_and_keeps_the_order_of_commits() {
    let faulty = Faulty::over(engine(), Replies::Lossy);
    let producer = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
    let queue = faulty.client(LONG).queue("q");
    for round in 0..100 {
        let values: Vec<String> = (0..7).map(|number| format!("{round} {number}")).collect();
        producer.enqueue_many(&values).await.unwrap();
        let taken = take(&queue, 7).await;
        assert_eq!(taken, values);
    }
    let looks = queue.stats().looks;
    assert!(looks <= 20, "{looks}");
    assert_eq!(faulty.watches(), 1);
    // A look would begin behind it.
    put(&faulty.engine, &key(0), "an old stamp").await;
    producer.enqueue("a new one").await.unwrap();
    assert_eq!(take(&queue, 2).await, ["an old stamp", "a new one"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_behind_lets_the_watch_go_and_misses_nothing() {
    let faulty = Faulty::over(engine(), Replies::Certain);
    let producer = Client::from_store(Arc::clone(&faulty.engine)).queue("q");
    let queue = faulty.client(LONG).queue("q");
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.dequeue().await.unwrap() }
    });
    until(|| faulty.watches() >= 1).await;
    let values: Vec<String> = (0..5000).map(|number| format!("{number:04}")).collect();
    producer.enqueue(&values[0]).await.unwrap();
    assert_eq!(waiting.await.unwrap(), values[0]);
    for many in values[1..].chunks(125) {
        producer.enqueue_many(many).await.unwrap();
        // Whoever wants one a Txn is soon thousands behind.
        assert!(!queue.dequeue_many(1).await.unwrap().is_empty());
    }
    let rest = take(&queue, 4999 - values[1..].chunks(125).len()).await;
    let first = 5000 - rest.len();
    assert_eq!(rest, &values[first..]);
    assert_eq!(queue.try_dequeue().await.unwrap(), None);
}
