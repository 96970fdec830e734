//! Requests that have begun and do not go on: what they may take from the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use synod_server::ServerOptions;
use synod_tests::frames::{call, frame, greet, kind, read, wide_windows};
use synod_tests::raw::{kv, put};
use synod_tests::target::{Target, answer};
use synod_tests::wait;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

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
