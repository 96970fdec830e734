//! What others have done to the keys and leases beside a queue.

use futures_util::FutureExt;

use super::*;
use crate::testing::{idle_runtime, soon};

#[tokio::test]
async fn leases_that_somebody_revoked_do_no_harm() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q");
    queue.enqueue_many(["0"; 6]).await.unwrap();
    let mut taken = Vec::new();
    for _ in 0..6 {
        taken.push(queue.take().await.unwrap());
    }
    let leases = marker_leases(&faulty.engine, "queue/q").await;
    for delivery in taken {
        delivery.ack().await.unwrap();
    }
    // They are spare now.
    for lease in leases {
        faulty.engine.lease_revoke(lease).await.unwrap();
    }
    queue.enqueue("a").await.unwrap();
    let delivery = queue.take().await.unwrap();
    assert_eq!((value(&delivery).as_str(), delivery.attempt()), ("a", 1));
    delivery.ack().await.unwrap();
}

#[tokio::test]
async fn delayed_items_that_cannot_be_read_keep_nobody_busy() {
    let faulty = Faulty::new();
    for number in 0..40 {
        let key = format!("__synod/queue/q/later/{number:020}-{number:032x}");
        let put = PutRequest::new(key, "9 of a later version");
        faulty.engine.put(put).await.unwrap();
    }
    let queue = faulty.client(LONG).queue("q");
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.take().await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = faulty.txns();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let busy = faulty.txns() - before;
    assert!(busy < 20, "{busy} Txns although nothing happens");
    queue.enqueue("a").await.unwrap();
    assert_eq!(value(&soon(waiting).await.unwrap().unwrap()), "a");
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_read_holds_no_other_back() {
    let faulty = Faulty::new();
    let queue = faulty.client(LONG).queue("q").with_max_attempts(1);
    queue.enqueue("a").await.unwrap();
    queue.take().await.unwrap().nack().await.unwrap();
    let key = format!("__synod/queue/q/dead/{:020}-{:032x}", 1, 1);
    let put = PutRequest::new(key, "9 of a later version");
    faulty.engine.put(put).await.unwrap();
    assert!(queue.dead().requeue_all().await.is_err());
    assert_eq!(queue.len().await.unwrap(), 1);
    assert_eq!(queue.dead().len().await.unwrap(), 1);
}

#[test]
fn a_runtime_that_ends_before_its_tasks_begin_leaves_the_queue_usable() {
    let lasting = idle_runtime();
    let faulty = lasting.block_on(async { Faulty::over(engine(), Replies::Certain) });
    let client = lasting.block_on(async { faulty.client(LONG) });
    let queue = client.queue("q");
    let passing = idle_runtime();
    passing.block_on(async {
        // Each is asked once, and left.
        assert!(queue.dequeue().now_or_never().is_none());
        assert!(queue.take().now_or_never().is_none());
    });
    drop(passing);
    lasting.block_on(async {
        queue.enqueue("a").await.unwrap();
        assert_eq!(soon(queue.dequeue()).await.unwrap(), "a");
        queue.enqueue("b").await.unwrap();
        let first = queue.take().await.unwrap();
        let watches = faulty.watches();
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.take().await }
        });
        until_async(async || faulty.watches() > watches).await;
        run_out(&faulty.engine, "queue/q").await;
        let again = soon(waiting).await.unwrap().unwrap();
        assert_eq!(again.attempt(), 2);
        assert!(first.ack().await.is_err());
        again.ack().await.unwrap();
    });
}

#[test]
fn who_waits_goes_on_when_the_runtime_of_another_ends() {
    let (lasting, passing) = (idle_runtime(), idle_runtime());
    let queue = lasting.block_on(async {
        let faulty = Faulty::over(engine(), Replies::Certain);
        faulty.client(LONG).queue("q")
    });
    // The task that serves all callers runs where the first one came.
    passing.block_on(async {
        let empty = queue.dequeue_timeout(Duration::from_millis(50)).await;
        assert_eq!(empty.unwrap(), None);
    });
    let mut waiting = Box::pin(queue.dequeue());
    lasting.block_on(async {
        assert!((&mut waiting).now_or_never().is_none());
    });
    drop(passing);
    lasting.block_on(async {
        queue.enqueue("a").await.unwrap();
        assert_eq!(soon(waiting).await.unwrap(), "a");
    });
}
