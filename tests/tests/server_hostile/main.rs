//! Synod's server and clients that mean it no good, or none at all: it bounds what they take, goes on
//! serving the others, and ends when it is told to.

mod arriving;
mod bounds;

use std::io;
use std::net::SocketAddr;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use synod_server::ServerOptions;
use synod_tests::raw::{create, get, grant, kv, put};
use synod_tests::target::{Served, Target, answer, memory};
use synod_tests::wait;
use synod_wire::etcdserverpb::WatchCreateRequest;
use synod_wire::etcdserverpb::watch_client::WatchClient;
use synod_wire::v3lockpb::LockRequest;
use synod_wire::v3lockpb::lock_client::LockClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

async fn serve(options: ServerOptions) -> Target {
    Target::Served(Served::over(memory(), options).await)
}

fn address(target: &Target) -> SocketAddr {
    match target {
        Target::Served(served) => served.address(),
        Target::Etcd(_) => panic!("not Synod's server"),
    }
}

/// Reads until the other side closes.
async fn closed(stream: &mut TcpStream) -> io::Result<()> {
    let mut bytes = [0; 1024];
    wait::soon("the connection is closed", async {
        while stream.read(&mut bytes).await? > 0 {}
        Ok(())
    })
    .await
}

/// Messages as bytes, whatever they hold.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining()).to_vec()))
    }
}

const METHODS: &[&str] = &[
    "etcdserverpb.KV/Range",
    "etcdserverpb.KV/Put",
    "etcdserverpb.KV/DeleteRange",
    "etcdserverpb.KV/Txn",
    "etcdserverpb.KV/Compact",
    "etcdserverpb.Watch/Watch",
    "etcdserverpb.Lease/LeaseGrant",
    "etcdserverpb.Lease/LeaseRevoke",
    "etcdserverpb.Lease/LeaseKeepAlive",
    "etcdserverpb.Lease/LeaseTimeToLive",
    "etcdserverpb.Maintenance/Alarm",
    "etcdserverpb.Maintenance/HashKV",
    "etcdserverpb.Maintenance/MoveLeader",
    "etcdserverpb.Cluster/MemberList",
    "etcdserverpb.Cluster/MemberUpdate",
    "etcdserverpb.Auth/UserAdd",
    "v3lockpb.Lock/Unlock",
    "v3electionpb.Election/Leader",
    "v3electionpb.Election/Proclaim",
    "v3electionpb.Election/Resign",
    "synod.v1.Synod/Info",
];

/// Bytes that are now and then a message: fields that many requests have, with odd contents.
fn message(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(0..6) {
        let field: u8 = random.random_range(1..16);
        match random.random_range(0..4) {
            0 => {
                bytes.push(field << 3);
                let ends = [0, 1, 0x7f];
                for _ in 0..random.random_range(0..10) {
                    bytes.push(random.random::<u8>() | 0x80);
                }
                bytes.push(ends[random.random_range(0..3)]);
            }
            1 | 2 => {
                let inner: Vec<u8> = if random.random() {
                    message(random)
                } else {
                    (0..random.random_range(0..8))
                        .map(|_| random.random())
                        .collect()
                };
                bytes.push(field << 3 | 2);
                bytes.push(u8::try_from(inner.len().min(127)).unwrap());
                bytes.extend(inner.iter().take(127));
            }
            _ => bytes.extend((0..random.random_range(0..6)).map(|_| random.random::<u8>())),
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // Other tests' own threads may fail as they like.
        let thread = std::thread::current();
        if thread.name().is_none_or(|name| name.starts_with("tokio")) {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        before(info);
    }));
    let target = serve(ServerOptions::new()).await;
    let channel = target.channel().await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut refused = 0;
    let mut answered = 0;
    for round in 0..4_000 {
        let method = METHODS[round % METHODS.len()];
        let path = format!("/{method}").parse().unwrap();
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let request = Request::new(tokio_stream::iter([message(&mut random)]));
        let call = async {
            let mut answers = client.streaming(request, path, Raw).await?.into_inner();
            // A watch that was made by chance goes on for ever; one answer is enough.
            answers.message().await
        };
        // What is no command on a watch stream is answered with nothing.
        match tokio::time::timeout(Duration::from_millis(50), call).await {
            Ok(Ok(_)) => answered += 1,
            Ok(Err(status)) => {
                assert_ne!(status.code(), Code::Cancelled, "{method}: {status:?}");
                refused += 1;
            }
            Err(_) => {}
        }
    }
    assert!(
        refused > 100 && answered > 100,
        "{refused} refused, {answered} answered"
    );
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    answer(kv(&target).await.put(put("a", "still there")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_http() {
    let target = serve(ServerOptions::new()).await;
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..50 {
        let mut stream = TcpStream::connect(address(&target)).await.unwrap();
        let bytes: Vec<u8> = (0..random.random_range(30..400))
            .map(|_| random.random())
            .collect();
        // It may have been refused before it was sent whole.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let _ = closed(&mut stream).await;
    }
    answer(kv(&target).await.range(get("a")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed() {
    let timeout = Duration::from_millis(300);
    let target = serve(ServerOptions::new().with_receive_timeout(timeout)).await;
    let mut client = kv(&target).await;
    let mut silent = TcpStream::connect(address(&target)).await.unwrap();
    let mut slow = TcpStream::connect(address(&target)).await.unwrap();
    slow.write_all(b"PRI * HTTP").await.unwrap();
    let begin = Instant::now();
    let _ = closed(&mut silent).await;
    let _ = closed(&mut slow).await;
    assert!(begin.elapsed() >= timeout / 2);
    // One that has spoken may be idle as long as it likes.
    answer(client.put(put("a", "")).await);
}

/// A request whose first message is `message` and that does not end.
async fn endless(target: &Target, message: Vec<u8>) -> Result<(), Status> {
    let (_sender, rest) = tokio::sync::mpsc::unbounded_channel();
    let stream = tokio_stream::StreamExt::chain(
        tokio_stream::iter([message]),
        UnboundedReceiverStream::new(rest),
    );
    let mut client = tonic::client::Grpc::new(target.channel().await);
    client.ready().await.unwrap();
    let path = "/etcdserverpb.KV/Put".parse().unwrap();
    let call = client.client_streaming(Request::new(stream), path, Raw);
    wait::soon("the request ends", call).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_end() {
    let timeout = Duration::from_millis(300);
    let target = serve(ServerOptions::new().with_receive_timeout(timeout)).await;
    let refusal = endless(&target, Vec::new()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::DeadlineExceeded, "{refusal:?}");
    // Streams of requests may pause longer than that.
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    let mut watch = WatchClient::new(target.channel().await);
    let stream = UnboundedReceiverStream::new(requests);
    let mut answers = answer(watch.watch(stream).await);
    tokio::time::sleep(timeout * 2).await;
    sender.send(create(WatchCreateRequest::default())).unwrap();
    let created = wait::soon("an answer", answers.message()).await;
    assert!(created.unwrap().unwrap().created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_endless_calls() {
    let served = Served::start().await;
    let target = Target::Served(served);
    let channel = target.channel().await;
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    sender.send(create(WatchCreateRequest::default())).unwrap();
    let mut watch = WatchClient::new(channel.clone());
    let mut answers = answer(watch.watch(UnboundedReceiverStream::new(requests)).await);
    assert!(answers.message().await.unwrap().unwrap().created);
    let mut locks = LockClient::new(channel);
    let name = || LockRequest {
        name: "l".into(),
        lease: 0,
    };
    answer(locks.lock(name()).await);
    let lease = grant(&target, 60).await;
    let waiting = tokio::spawn(async move { locks.lock(LockRequest { lease, ..name() }).await });
    let mut client = kv(&target).await;
    wait::until("the waiter stands in line", || {
        let mut client = client.clone();
        async move { answer(client.range(get(format!("l/{lease:x}"))).await).count == 1 }
    })
    .await;
    // One that will not go by itself: half a request, and no more.
    let mut stuck = TcpStream::connect(address(&target)).await.unwrap();
    stuck
        .write_all(b"PUT /health HTTP/1.1\r\ncontent-length: 1000\r\n")
        .await
        .unwrap();
    let Target::Served(served) = target else {
        panic!("not Synod's server");
    };
    served.stop().await;
    for failure in [
        answers.message().await.unwrap_err(),
        waiting.await.unwrap().unwrap_err(),
    ] {
        assert_eq!(failure.code(), Code::Unavailable, "{failure:?}");
        assert_eq!(failure.message(), "etcdserver: server stopped");
    }
    let _ = closed(&mut stuck).await;
    assert!(client.put(put("a", "")).await.is_err());
}

/// The body of the answer to a plain request, and its first line.
async fn http(target: &Target, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address(target)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    wait::soon("an answer", stream.read_to_string(&mut text))
        .await
        .unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http() {
    let target = Target::Served(Served::start().await);
    let mut client = kv(&target).await;
    answer(client.put(put("a", "")).await);
    let (status, body) = http(&target, "/health").await;
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 200 OK", r#"{"health":"true","reason":""}"#)
    );
    let (_, body) = http(&target, "/version").await;
    assert!(body.starts_with(r#"{"etcdcluster":"3.5."#), "{body}");
    for line in [
        "etcd_server_has_leader 1",
        "etcd_debugging_mvcc_current_revision 2",
        "etcd_debugging_mvcc_watcher_total 0",
        // The connections of the pages before end a moment after their clients have seen so.
        "synod_connections 2",
    ] {
        wait::until(format!("{line} in /metrics"), || async {
            let (_, body) = http(&target, "/metrics").await;
            body.lines().any(|found| found == line)
        })
        .await;
    }
}
