//! Requests that have begun and do not go on: what they may take from the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message;
use synod_server::ServerOptions;
use synod_tests::frames::{END_STREAM, call, frame, greet, kind, message, read, wide_windows};
use synod_tests::raw::{get, kv, put};
use synod_tests::target::{Target, answer};
use synod_tests::wait;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tonic::Code;

use super::{address, serve};

/// A server that holds 8208 requests which have begun and do not go on, and waits for them for longer than a test takes.
async fn patient() -> Target {
    let options = ServerOptions::new()
        .with_max_request_bytes(1024)
        .with_receive_timeout(wait::TEST_LIMIT + Duration::from_secs(60));
    serve(options).await
}

/// A connection on which calls begin.
struct Beginner {
    writing: OwnedWriteHalf,
    next: u32,
    /// How many of them are answered, or begin to be.
    answered: Arc<AtomicUsize>,
}

impl Beginner {
    async fn connect(target: &Target) -> Beginner {
        let mut stream = TcpStream::connect(address(target)).await.unwrap();
        let windows = wide_windows();
        wait::soon("a greeting", greet(&mut stream, &windows))
            .await
            .unwrap();
        let (mut reading, writing) = stream.into_split();
        let answered = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answered);
        tokio::spawn(async move {
            while let Ok((kind, _)) = read(&mut reading).await {
                if kind == kind::HEADERS {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Beginner {
            writing,
            next: 1,
            answered,
        }
    }

    /// So many calls at `path`, each with these frames behind its headers.
    async fn begin(&mut self, calls: usize, path: &str, rest: impl Fn(u32) -> Vec<u8>) {
        let mut bytes = Vec::new();
        for _ in 0..calls {
            bytes.extend(call(self.next, path));
            bytes.extend(rest(self.next));
            self.next += 2;
        }
        let write = self.writing.write_all(&bytes);
        wait::soon("it is taken in", write).await.unwrap();
    }

    async fn are_answered(&self, calls: usize) {
        wait::until(format!("{calls} calls are answered, or more"), async || {
            self.answered.load(Ordering::Relaxed) >= calls
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_stop_amid_a_message_are_not_in_the_way_of_others() {
    let target = patient().await;
    let mut beginner = Beginner::connect(&target).await;
    // A byte of a message's five of length.
    let byte = |stream| frame(kind::DATA, 0, stream, &[0]);
    beginner
        .begin(8_500, "/etcdserverpb.Watch/Watch", byte)
        .await;
    beginner.are_answered(8_500).await;
    let mut client = kv(&target).await;
    for _ in 0..100 {
        answer(client.put(put("a", vec![b'v'; 100])).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_go_on_are_not_in_the_way_of_small_ones() {
    const PUT: &str = "/etcdserverpb.KV/Put";
    let target = patient().await;
    let nothing = |_| Vec::new();
    // One connection has the half of what there is, and no more.
    let mut first = Beginner::connect(&target).await;
    first.begin(9_000, PUT, nothing).await;
    first.are_answered(9_000 - 4_104).await;
    let large = || put("a", vec![b'v'; 500_000]);
    let mut client = kv(&target).await;
    for _ in 0..10 {
        // It is received, in pieces, and then it is more than a put may have.
        let refusal = client.put(large()).await.unwrap_err();
        assert_eq!(refusal.message(), "etcdserver: request is too large");
    }
    // Others have parts of the rest, until there is none.
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut other = Beginner::connect(&target).await;
        other.begin(1_100, PUT, nothing).await;
        other.are_answered(1_100 - 1_026).await;
        others.push(other);
    }
    let refusal = client.put(large()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    // Small ones are taken all the same: whole, or one piece after the other.
    for _ in 0..100 {
        answer(client.put(put("a", vec![b'v'; 100])).await);
    }
    let mut slow = Beginner::connect(&target).await;
    for calls in 1..=20 {
        slow.begin(1, PUT, nothing).await;
        tokio::task::yield_now().await;
        let request = message(&put("slow", calls.to_string()).encode_to_vec());
        let rest = frame(kind::DATA, END_STREAM, slow.next - 2, &request);
        slow.writing.write_all(&rest).await.unwrap();
        // The beginning of the answer, and its end.
        slow.are_answered(2 * calls).await;
    }
    let found = answer(client.range(get("slow")).await);
    assert_eq!(found.kvs[0].version, 20);
    // They end with their connections.
    drop((first, others));
    wait::until("there is room again", async || {
        let refusal = kv(&target).await.put(large()).await.unwrap_err();
        refusal.message() == "etcdserver: request is too large"
    })
    .await;
}
