//! The Watch service: each rule holds on Synod's server and on a real etcd, in etcd's own messages.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use synod_engine::{Engine, EngineOptions};
use synod_server::ServerOptions;
use synod_store::Store;
use synod_tests::raw::{
    Op, cancel, create, delete, grant, keys, kv, leases, progress, put, txn, whole,
};
use synod_tests::target::{Served, Target, answer, both, memory};
use synod_tests::wait;
use synod_wire::etcdserverpb::watch_client::WatchClient;
use synod_wire::etcdserverpb::watch_create_request::FilterType;
use synod_wire::etcdserverpb::{
    CompactionRequest, LeaseRevokeRequest, PutRequest, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use synod_wire::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Streaming};

/// One watch stream.
struct Stream {
    commands: mpsc::UnboundedSender<WatchRequest>,
    /// A real etcd opens the stream with its first answer.
    opening: Option<JoinHandle<Streaming<WatchResponse>>>,
    answers: Option<Streaming<WatchResponse>>,
}

impl Stream {
    async fn open(target: &Target) -> Stream {
        let mut client =
            WatchClient::new(target.channel().await).max_decoding_message_size(usize::MAX);
        let (commands, requests) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(requests));
        // Many clients ask for this; a server that leads itself always has a leader.
        request
            .metadata_mut()
            .insert("hasleader", MetadataValue::from_static("true"));
        let opening = tokio::spawn(async move { answer(client.watch(request).await) });
        Stream {
            commands,
            opening: Some(opening),
            answers: None,
        }
    }

    fn send(&self, request: WatchRequest) {
        self.commands.send(request).unwrap();
    }

    async fn next(&mut self) -> WatchResponse {
        if let Some(opening) = self.opening.take() {
            self.answers = Some(wait::soon("a watch stream", opening).await.unwrap());
        }
        let answers = self.answers.as_mut().unwrap();
        let answer = wait::soon("an answer on the watch stream", answers.message()).await;
        let answer = answer.unwrap().expect("the stream goes on");
        if !(answer.canceled && answer.compact_revision != 0) {
            whole(answer.header);
        }
        answer
    }

    /// Makes a watch, which must succeed, and gives its id.
    async fn watch(&mut self, request: WatchCreateRequest) -> i64 {
        self.send(create(request));
        let created = self.next().await;
        assert!(created.created && !created.canceled && created.events.is_empty());
        created.watch_id
    }

    /// Asks how far all watches are, and reads until the answer. Gives the revision and what came before.
    async fn progress(&mut self) -> (i64, Vec<WatchResponse>) {
        self.send(progress());
        let mut before = Vec::new();
        loop {
            let answer = self.next().await;
            if answer.watch_id == -1 && answer.events.is_empty() && !answer.canceled {
                return (whole(answer.header), before);
            }
            before.push(answer);
        }
    }
}

fn one(key: impl Into<Bytes>) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        ..WatchCreateRequest::default()
    }
}

fn every() -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: Bytes::from_static(b"\0"),
        ..one(&b"\0"[..])
    }
}

/// The keys of an answer's events, with a `-` before deleted ones.
fn changes(answer: &WatchResponse) -> Vec<String> {
    answer
        .events
        .iter()
        .map(|event| {
            let key = keys(event.kv.as_slice()).concat();
            match event.r#type() {
                EventType::Put => key,
                EventType::Delete => format!("-{key}"),
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_refusals() {
    both(async |target: &Target| {
        let mut stream = Stream::open(target).await;
        assert_eq!(stream.watch(one("a")).await, 0);
        assert_eq!(
            stream
                .watch(WatchCreateRequest {
                    watch_id: 2,
                    ..one("a")
                })
                .await,
            2
        );
        assert_eq!(stream.watch(one("b")).await, 1);
        assert_eq!(stream.watch(one("b")).await, 3);
        stream.send(create(WatchCreateRequest {
            watch_id: 2,
            ..one("x")
        }));
        let refused = stream.next().await;
        assert!(refused.created && refused.canceled);
        assert_eq!((refused.watch_id, refused.compact_revision), (-1, 0));
        assert_eq!(
            refused.cancel_reason,
            "mvcc: duplicate watch ID provided on the WatchStream"
        );
        for end in ["b", "a"] {
            stream.send(create(WatchCreateRequest {
                range_end: end.into(),
                ..one("b")
            }));
            let refused = stream.next().await;
            assert!(refused.created && refused.canceled);
            assert_eq!(
                (refused.watch_id, refused.cancel_reason.as_str()),
                (-1, "mvcc: watcher range is empty")
            );
        }
        // The stream lives on, and nothing came of the refused ones.
        answer(kv(target).await.put(put("b", "")).await);
        let heard: HashSet<_> = [stream.next().await.watch_id, stream.next().await.watch_id].into();
        assert_eq!(heard, [1, 3].into());
        // An unknown id is answered with nothing, a known one once.
        stream.send(cancel(77));
        stream.send(cancel(1));
        let canceled = stream.next().await;
        assert!(canceled.canceled && !canceled.created && canceled.cancel_reason.is_empty());
        assert_eq!((canceled.watch_id, canceled.compact_revision), (1, 0));
        // The id may be used again, for another key: the old one's events are not heard.
        assert_eq!(
            stream
                .watch(WatchCreateRequest {
                    watch_id: 1,
                    ..one("c")
                })
                .await,
            1
        );
        let mut kv = kv(target).await;
        answer(kv.put(put("b", "")).await);
        answer(kv.put(put("c", "")).await);
        let heard = [stream.next().await, stream.next().await];
        assert_eq!(
            (heard[0].watch_id, changes(&heard[0]).concat()),
            (3, "b".into())
        );
        assert_eq!(
            (heard[1].watch_id, changes(&heard[1]).concat()),
            (1, "c".into())
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_revision_is_one_answer() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        let mut stream = Stream::open(target).await;
        stream.watch(every()).await;
        let ops = vec![
            put("b", "1").op(),
            put("a", "1").op(),
            delete("zz", "").op(),
            put("c", "1").op(),
        ];
        let revision = whole(answer(kv.txn(txn(ops)).await).header);
        let events = stream.next().await;
        assert_eq!(changes(&events), ["b", "a", "c"]);
        assert_eq!(whole(events.header), revision);
        assert!(
            events
                .events
                .iter()
                .all(|event| event.kv.as_ref().unwrap().mod_revision == revision)
        );
        assert!(events.events.iter().all(|event| event.prev_kv.is_none()));
        let revision = whole(answer(kv.delete_range(delete("a", "d")).await).header);
        let events = stream.next().await;
        assert_eq!(changes(&events), ["-a", "-b", "-c"]);
        let gone = events.events[0].kv.as_ref().unwrap();
        assert_eq!(
            (
                gone.mod_revision,
                gone.create_revision,
                gone.version,
                gone.value.len()
            ),
            (revision, 0, 0, 0)
        );
        // A lease's keys go in one revision too, in key order.
        let lease = grant(target, 60).await;
        for key in ["l2", "l1", "l3"] {
            answer(
                kv.put(PutRequest {
                    lease,
                    ..put(key, "")
                })
                .await,
            );
            stream.next().await;
        }
        answer(
            leases(target)
                .await
                .lease_revoke(LeaseRevokeRequest { id: lease })
                .await,
        );
        assert_eq!(changes(&stream.next().await), ["-l1", "-l2", "-l3"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_past_and_from_the_future() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        for value in ["1", "2", "3"] {
            answer(kv.put(put("a", value)).await);
        }
        answer(kv.put(put("b", "")).await);
        let mut stream = Stream::open(target).await;
        stream
            .watch(WatchCreateRequest {
                start_revision: 3,
                ..every()
            })
            .await;
        let mut revisions = Vec::new();
        while revisions.len() < 3 {
            let answer = stream.next().await;
            assert_eq!(whole(answer.header), 5);
            revisions.extend(
                answer
                    .events
                    .iter()
                    .map(|event| event.kv.as_ref().unwrap().mod_revision),
            );
        }
        assert_eq!(revisions, [3, 4, 5]);
        // Of the future nothing is heard before.
        let mut future = Stream::open(target).await;
        future
            .watch(WatchCreateRequest {
                start_revision: 8,
                ..every()
            })
            .await;
        for value in ["6", "7", "8"] {
            answer(kv.put(put("a", value)).await);
        }
        let heard = future.next().await;
        assert_eq!((whole(heard.header), heard.events.len()), (8, 1));
        assert_eq!(heard.events[0].kv.as_ref().unwrap().value, "8");
        // An empty key is the smallest there is.
        let mut empty = Stream::open(target).await;
        empty
            .watch(WatchCreateRequest {
                range_end: Bytes::from_static(b"\0"),
                ..one("")
            })
            .await;
        answer(kv.put(put("\0", "")).await);
        assert_eq!(changes(&empty.next().await), ["\0"]);
        answer(kv.put(put("x", "")).await);
        assert_eq!(changes(&empty.next().await), ["x"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_gone() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        for value in 0..8 {
            answer(kv.put(put("a", value.to_string())).await);
        }
        answer(
            kv.compact(CompactionRequest {
                revision: 5,
                physical: true,
            })
            .await,
        );
        let mut stream = Stream::open(target).await;
        for start_revision in [4, 1, -7] {
            let early = |watch_id| WatchCreateRequest {
                start_revision,
                watch_id,
                ..every()
            };
            assert_eq!(stream.watch(early(5)).await, 5);
            let canceled = stream.next().await;
            assert!(canceled.canceled && !canceled.created, "{canceled:?}");
            assert_eq!((canceled.watch_id, canceled.compact_revision), (5, 5));
            assert_eq!(canceled.cancel_reason, "");
            // Its id is in use until the client has cancelled it too.
            stream.send(create(early(5)));
            assert_eq!(stream.next().await.watch_id, -1);
            stream.send(cancel(5));
            let canceled = stream.next().await;
            assert!(canceled.canceled);
            assert_eq!((canceled.watch_id, canceled.compact_revision), (5, 0));
        }
        // What was compacted to can still be watched from.
        stream
            .watch(WatchCreateRequest {
                start_revision: 5,
                ..every()
            })
            .await;
        let first = stream.next().await;
        assert_eq!(first.events[0].kv.as_ref().unwrap().mod_revision, 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_before_all_history() {
    // A real etcd takes -1 for the beginning and names revision -1 as the oldest for what is below.
    let served = Target::Served(Served::start().await);
    let mut stream = Stream::open(&served).await;
    let id = stream
        .watch(WatchCreateRequest {
            start_revision: -1,
            ..every()
        })
        .await;
    let canceled = stream.next().await;
    assert!(canceled.canceled);
    assert_eq!((canceled.watch_id, canceled.compact_revision), (id, 1));
    assert_eq!(
        stream
            .watch(WatchCreateRequest {
                start_revision: 1,
                ..every()
            })
            .await,
        id + 1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_before_and_filters() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        let mut stream = Stream::open(target).await;
        let filtered = |filter: FilterType| WatchCreateRequest {
            filters: vec![filter.into()],
            ..one("a")
        };
        let all = stream
            .watch(WatchCreateRequest {
                prev_kv: true,
                ..one("a")
            })
            .await;
        let deletes = stream.watch(filtered(FilterType::Noput)).await;
        let puts = stream.watch(filtered(FilterType::Nodelete)).await;
        for value in ["1", "2"] {
            answer(kv.put(put("a", value)).await);
        }
        answer(kv.delete_range(delete("a", "")).await);
        let mut heard: Vec<(i64, String, Option<Bytes>)> = Vec::new();
        while heard.len() < 6 {
            let answer = stream.next().await;
            for event in &answer.events {
                let before = event.prev_kv.as_ref().map(|kv| kv.value.clone());
                heard.push((
                    answer.watch_id,
                    event.r#type().as_str_name().to_owned(),
                    before,
                ));
            }
        }
        heard.sort_by_key(|(id, ..)| *id);
        assert_eq!(
            heard,
            [
                (all, "PUT".into(), None),
                (all, "PUT".into(), Some("1".into())),
                (all, "DELETE".into(), Some("2".into())),
                (deletes, "DELETE".into(), None),
                (puts, "PUT".into(), None),
                (puts, "PUT".into(), None),
            ]
        );
        // And nothing else.
        assert_eq!(stream.progress().await.1, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_without_and_with_watches() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        let mut stream = Stream::open(target).await;
        assert_eq!(stream.progress().await.0, 1);
        answer(kv.put(put("a", "")).await);
        assert_eq!(stream.progress().await.0, 2);
        stream.watch(one("a")).await;
        stream.watch(one("b")).await;
        answer(kv.put(put("c", "")).await);
        let (revision, before) = stream.progress().await;
        assert_eq!((revision, before.len()), (3, 0));
        for _ in 0..3 {
            stream.send(progress());
        }
        for _ in 0..3 {
            let answer = stream.next().await;
            assert_eq!((answer.watch_id, whole(answer.header)), (-1, 3));
        }
    })
    .await;
}

/// etcd's issue 15220: progress was told of events that had not been delivered. A real etcd 3.5.1 has that fault, so this
/// holds on Synod's server alone.
#[tokio::test(flavor = "multi_thread")]
async fn progress_never_overtakes_events_15220() {
    let target = Target::Served(Served::start().await);
    let mut kv = kv(&target).await;
    for index in 0..3_000 {
        answer(kv.put(put(format!("k{}", index % 50), "v")).await);
    }
    let mut stream = Stream::open(&target).await;
    let starts = [2, 500, 0, 1000, 2];
    for start_revision in starts {
        stream.send(create(WatchCreateRequest {
            start_revision,
            ..every()
        }));
    }
    // What each watch has told: everything before its start, to begin with.
    let mut heard = starts.map(|start| start - 1);
    let (revision, before) = stream.progress().await;
    for answer in before {
        let last = &mut heard[usize::try_from(answer.watch_id).unwrap()];
        for event in &answer.events {
            let revision = event.kv.as_ref().unwrap().mod_revision;
            assert_eq!(revision, *last + 1, "in order, and none missing");
            *last = revision;
        }
    }
    assert_eq!(revision, 3_001);
    assert_eq!(heard, [3_001, 3_001, -1, 3_001, 3_001]);
}

/// etcd's issue 20221: a watch of the future was told of what is before it. A real etcd 3.5.1 has that fault.
#[tokio::test(flavor = "multi_thread")]
async fn progress_waits_for_a_watch_of_the_future_20221() {
    let target = Target::Served(Served::start().await);
    let mut kv = kv(&target).await;
    let mut stream = Stream::open(&target).await;
    stream
        .watch(WatchCreateRequest {
            start_revision: 5,
            ..one("a")
        })
        .await;
    stream.send(progress());
    for _ in 0..3 {
        answer(kv.put(put("b", "")).await);
    }
    answer(kv.put(put("a", "")).await);
    let events = stream.next().await;
    assert_eq!(changes(&events), ["a"]);
    let answer = stream.next().await;
    assert_eq!((answer.watch_id, whole(answer.header)), (-1, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments() {
    both(async |target: &Target| {
        let mut kv = kv(target).await;
        let mut stream = Stream::open(target).await;
        let deletes = |prev_kv, fragment| WatchCreateRequest {
            prev_kv,
            fragment,
            filters: vec![FilterType::Noput.into()],
            ..every()
        };
        let whole = stream.watch(deletes(false, false)).await;
        let small = stream.watch(deletes(false, true)).await;
        let whole_prev = stream.watch(deletes(true, false)).await;
        let cut_prev = stream.watch(deletes(true, true)).await;
        for index in 0..6 {
            answer(kv.put(put(format!("k{index}"), vec![7; 700_000])).await);
        }
        // One revision, of more than 4 MB with the pairs that it deletes.
        answer(kv.delete_range(delete("k", "l")).await);
        let mut parts: HashMap<i64, Vec<WatchResponse>> = HashMap::new();
        let mut open = HashSet::from([whole, small, whole_prev, cut_prev]);
        while !open.is_empty() {
            let answer = stream.next().await;
            if !answer.fragment {
                open.remove(&answer.watch_id);
            }
            parts.entry(answer.watch_id).or_default().push(answer);
        }
        for id in [whole, small, whole_prev] {
            let count = parts[&id].len();
            assert_eq!(
                count, 1,
                "only what is too large is cut, and only if allowed"
            );
        }
        let cut = &parts[&cut_prev];
        assert!(cut.len() > 1);
        assert!(cut[..cut.len() - 1].iter().all(|part| part.fragment));
        let all: Vec<_> = cut.iter().flat_map(changes).collect();
        assert_eq!(all, ["-k0", "-k1", "-k2", "-k3", "-k4", "-k5"]);
        assert_eq!(
            cut.iter().map(|part| part.events.len()).collect::<Vec<_>>(),
            [2, 2, 2]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signs_of_progress_while_nothing_happens() {
    let interval = std::time::Duration::from_millis(200);
    let options = synod_server::ServerOptions::new().with_watch_progress_interval(interval);
    let etcd = synod_tests::etcd::EtcdConfig::new()
        .flag("--experimental-watch-progress-notify-interval=200ms");
    let rule = async |target: &Target| {
        let mut kv = kv(target).await;
        let mut stream = Stream::open(target).await;
        let silent = stream.watch(one("a")).await;
        let told = stream
            .watch(WatchCreateRequest {
                progress_notify: true,
                ..one("a")
            })
            .await;
        answer(kv.put(put("other", "")).await);
        loop {
            let answer = stream.next().await;
            assert_ne!(answer.watch_id, silent);
            assert_eq!((answer.watch_id, answer.events.len()), (told, 0));
            if whole(answer.header) == 2 {
                break;
            }
        }
    };
    synod_tests::target::both_with(rule, etcd, options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_watches_on_one_stream() {
    both(async |target: &Target| {
        const WATCHES: i64 = 10_000;
        let mut stream = Stream::open(target).await;
        for index in 0..WATCHES {
            stream.send(create(one(format!("k/{index}"))));
        }
        for index in 0..WATCHES {
            let created = stream.next().await;
            assert!(created.created);
            assert_eq!(created.watch_id, index);
        }
        let mut kv = kv(target).await;
        for index in [0, 7_777, WATCHES - 1] {
            answer(kv.put(put(format!("k/{index}"), "")).await);
            let heard = stream.next().await;
            assert_eq!((heard.watch_id, heard.events.len()), (index, 1));
        }
        assert_eq!(stream.progress().await.0, 4);
        for id in 0..WATCHES {
            stream.send(cancel(id));
        }
        for id in 0..WATCHES {
            let answer = stream.next().await;
            assert!(answer.canceled);
            assert_eq!(answer.watch_id, id);
        }
    })
    .await;
}

/// A client that does not read its events disturbs nobody, and loses none of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read() {
    let target = Target::Served(Served::over(memory(), synod_server::ServerOptions::new()).await);
    let mut kv = kv(&target).await;
    let mut lazy = Stream::open(&target).await;
    lazy.watch(every()).await;
    let mut eager = Stream::open(&target).await;
    eager.watch(every()).await;
    const PUTS: usize = 600;
    for index in 0..PUTS {
        answer(kv.put(put(format!("k/{index}"), vec![1; 100_000])).await);
        assert_eq!(changes(&eager.next().await), [format!("k/{index}")]);
    }
    let mut seen = 0;
    while seen < PUTS {
        for key in changes(&lazy.next().await) {
            assert_eq!(key, format!("k/{seen}"));
            seen += 1;
        }
    }
}

/// Clients in Python and Node receive messages of at most 4 MiB unless they are told otherwise. An engine makes what
/// waits for it durable together, and tells a watch of it at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_together_is_told_in_messages_of_a_usual_size() {
    const PUTS: usize = 30;
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(EngineOptions::file(directory.path())).unwrap();
    let engine: Arc<dyn Store> = Arc::new(engine);
    let target = Target::Served(Served::over(Arc::clone(&engine), ServerOptions::new()).await);
    let mut client = WatchClient::new(target.channel().await).max_decoding_message_size(4 << 20);
    let (commands, requests) = mpsc::unbounded_channel();
    commands.send(create(every())).unwrap();
    let mut answers = answer(client.watch(UnboundedReceiverStream::new(requests)).await);
    let created = wait::soon("a watch", answers.message())
        .await
        .unwrap()
        .unwrap();
    assert!(created.created);

    let value = vec![b'v'; 1 << 20];
    let puts = (0..PUTS).map(|number| {
        engine.put(synod_store::PutRequest::new(
            number.to_string(),
            value.clone(),
        ))
    });
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    let mut revisions = Vec::new();
    while revisions.len() < PUTS {
        let answer = wait::soon("events", answers.message()).await;
        let answer = answer.unwrap().unwrap();
        let told = answer
            .events
            .iter()
            .map(|event| event.kv.as_ref().unwrap().mod_revision);
        revisions.extend(told);
        assert!(whole(answer.header) >= *revisions.last().unwrap());
    }
    assert_eq!(revisions, (2..).take(PUTS).collect::<Vec<i64>>());
    drop(commands);
}
