//! Watches that share events: each sees its own view, and no writer waits for them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::Stream;
use synod_store::{Event, EventFilter, Txn, TxnOp};

use super::*;

/// The next `count` events, whole.
async fn whole(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut seen = Vec::new();
    while seen.len() < count {
        if let WatchItem::Events(batch) = next(watch).await {
            seen.extend(batch.events);
        }
    }
    seen
}

/// Every way to look at a range, from `start` on.
fn requests(range: &KeyRange, start: Revision) -> Vec<WatchRequest> {
    let mut requests = Vec::new();
    for class in 0..8 {
        let mut request = WatchRequest::new(range.clone()).starting_at(start);
        if class & 1 > 0 {
            request = request.with_prev_kv();
        }
        if class & 2 > 0 {
            request = request.without(EventFilter::NoPut);
        }
        if class & 4 > 0 {
            request = request.without(EventFilter::NoDelete);
        }
        requests.push(request);
    }
    requests
}

/// What is shared among the live ones is made apart from what is read from history: both must tell the same.
#[tokio::test]
async fn each_live_watch_sees_what_history_says_it_should() {
    let store = memory();
    put(&store, "p/a", "before").await;
    let ranges = [
        KeyRange::prefix("p/"),
        KeyRange::prefix("p"),
        KeyRange::all(),
        KeyRange::one("p/a"),
        KeyRange::between("p/a", "p/b0"),
    ];
    // Twice each, so that all views are shared; some begin amid what is to come.
    let mut live = Vec::new();
    for start in [3, 3, 5, 7] {
        for range in &ranges {
            for request in requests(range, Revision(start)) {
                live.push((store.watch(request.clone()).await.unwrap(), request));
            }
        }
    }
    assert_eq!(store.shared().hub.live(), live.len());
    // Sent before the writer can take the first, most of it goes out as one group.
    let works: Vec<Txn> = vec![
        Txn::new().and_then([
            TxnOp::from(PutRequest::new("p/a", "1")),
            PutRequest::new("p/b", "1").into(),
        ]),
        Txn::new().and_then([
            TxnOp::from(DeleteRequest::new(KeyRange::one("p/a"))),
            PutRequest::new("q", "1").into(),
        ]),
        Txn::new().and_then([TxnOp::from(PutRequest::new("p/a", "2"))]),
        Txn::new().and_then([TxnOp::from(PutRequest::new("p/a", "3"))]),
        Txn::new().and_then([TxnOp::from(DeleteRequest::new(KeyRange::prefix("p/")))]),
        Txn::new().and_then([TxnOp::from(PutRequest::new("p/b", "4"))]),
    ];
    let answers = futures_util::future::join_all(works.into_iter().map(|txn| store.txn(txn))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    for (watch, request) in &mut live {
        watch.request_progress();
        let mut seen = Vec::new();
        loop {
            match next(watch).await {
                WatchItem::Events(batch) => seen.extend(batch.events),
                WatchItem::Progress(revision) => {
                    assert_eq!(revision, Revision(8), "asked after the last answer");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        let mut past = store.watch(request.clone()).await.unwrap();
        past.request_progress();
        let mut expected = Vec::new();
        while let WatchItem::Events(batch) = next(&mut past).await {
            expected.extend(batch.events);
        }
        assert_eq!(seen, expected, "{request:?}");
    }
}

#[tokio::test]
async fn a_watch_that_goes_away_takes_nothing_from_those_it_shared_with() {
    let store = memory();
    let mut watches = Vec::new();
    for _ in 0..4 {
        let request = WatchRequest::new(KeyRange::prefix("p/"));
        watches.push(store.watch(request).await.unwrap());
    }
    put(&store, "p/a", "1").await;
    // One has taken its share, one has it in its queue.
    assert_eq!(whole(&mut watches[0], 1).await.len(), 1);
    drop(watches.remove(0));
    drop(watches.remove(0));
    put(&store, "p/b", "2").await;
    let first = whole(&mut watches[0], 2).await;
    let second = whole(&mut watches[1], 2).await;
    assert_eq!(first, second);
    let keys: Vec<_> = first.iter().map(|event| event.kv.key.to_string()).collect();
    assert_eq!(keys, ["p/a", "p/b"]);
    assert_eq!(store.shared().hub.live(), 2);
}

/// Holds up whoever wakes it, for as long as the test wants, but not for ever.
struct Brake {
    reached: Sender<()>,
    release: Mutex<Receiver<()>>,
}

impl Wake for Brake {
    fn wake(self: Arc<Self>) {
        let _ = self.reached.send(());
        let _ = self
            .release
            .lock()
            .unwrap()
            .recv_timeout(Duration::from_secs(20));
    }
}

#[tokio::test]
async fn a_write_is_answered_before_the_watches_hear_of_it() {
    let store = memory();
    let mut watch = store.watch(WatchRequest::new("k")).await.unwrap();
    let (reached, was_reached) = channel();
    let (release, released) = channel();
    let waker = Waker::from(Arc::new(Brake {
        reached,
        release: Mutex::new(released),
    }));
    let mut cx = Context::from_waker(&waker);
    assert!(
        std::pin::Pin::new(&mut watch)
            .poll_next(&mut cx)
            .is_pending()
    );
    let answer = tokio::time::timeout(Duration::from_secs(10), put(&store, "k", "1")).await;
    assert_eq!(answer.expect("the write waits for the watch"), Revision(2));
    was_reached.recv_timeout(Duration::from_secs(10)).unwrap();
    // The writer is held up; a write that comes now waits, and is not lost.
    let second = tokio::spawn({
        let store = store.clone();
        async move { put(&store, "k", "2").await }
    });
    release.send(()).unwrap();
    assert_eq!(second.await.unwrap(), Revision(3));
    let Poll::Ready(Some(Ok(WatchItem::Events(batch)))) =
        std::pin::Pin::new(&mut watch).poll_next(&mut cx)
    else {
        panic!("the event is in the queue when the watch is woken");
    };
    assert_eq!(batch.events[0].kv.mod_revision, Revision(2));
    assert_eq!(events(&mut watch, 1).await[0].2, 3);
}
