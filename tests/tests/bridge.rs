//! The TCP bridge of `synod::testing`: what it holds, swallows, cuts and delays.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use synod::testing::bridge::{Bridge, Mode};
use synod_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that counts what it is sent and sends it back.
async fn echo() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut buffer = [0; 100];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    count.fetch_add(read as u64, Ordering::SeqCst);
                    if stream.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

async fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

#[tokio::test]
async fn what_is_held_arrives_late() {
    let (address, seen) = echo().await;
    let bridge = Bridge::start(address).await;
    let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
    wait::soon("an answer", exchange(&mut stream))
        .await
        .unwrap();
    bridge.set(Mode::Hold);
    stream.write_all(b"later").await.unwrap();
    let mut answer = [0; 5];
    let early = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut answer));
    assert!(early.await.is_err());
    assert_eq!(seen.load(Ordering::SeqCst), 5);
    bridge.set(Mode::Pass);
    wait::soon("the late answer", stream.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(&answer, b"later");
    assert_eq!((bridge.connections(), bridge.accepted()), (1, 1));
    assert_eq!((bridge.requested_bytes(), bridge.replied_bytes()), (10, 10));
}

#[tokio::test]
async fn a_swallowed_reply_was_served_and_never_comes() {
    let (address, seen) = echo().await;
    let bridge = Bridge::start(address).await;
    let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
    bridge.set(Mode::SwallowReplies);
    stream.write_all(b"hello").await.unwrap();
    let served = || async { seen.load(Ordering::SeqCst) == 5 && bridge.replied_bytes() == 5 };
    wait::until("the request is served", served).await;
    bridge.set(Mode::Pass);
    let error = wait::soon("a reset", exchange(&mut stream))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
    wait::soon("an answer", exchange(&mut stream))
        .await
        .unwrap();
}

#[tokio::test]
async fn connections_are_reset_closed_and_refused_on_command() {
    let (address, _) = echo().await;
    let bridge = Bridge::start(address).await;
    for (end, expected) in [
        (
            Bridge::reset as fn(&Bridge),
            Err(std::io::ErrorKind::ConnectionReset),
        ),
        (Bridge::close, Ok(0)),
    ] {
        let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
        wait::soon("an answer", exchange(&mut stream))
            .await
            .unwrap();
        end(&bridge);
        let read = wait::soon("the end", stream.read(&mut [0; 5])).await;
        assert_eq!(read.map_err(|error| error.kind()), expected);
    }
    bridge.set(Mode::Refuse);
    wait::until("connections are refused", || async {
        TcpStream::connect(bridge.address()).await.is_err()
    })
    .await;
    bridge.set(Mode::Pass);
    wait::until("connections are taken again", || async {
        match TcpStream::connect(bridge.address()).await {
            Ok(mut stream) => exchange(&mut stream).await.is_ok(),
            Err(_) => false,
        }
    })
    .await;
    bridge.set(Mode::ResetOnReply);
    let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
    let error = wait::soon("a reset", exchange(&mut stream))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_delay_delays() {
    let (address, _) = echo().await;
    let bridge = Bridge::start(address).await;
    bridge.set(Mode::Delay(Duration::from_millis(50)));
    let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
    let begin = std::time::Instant::now();
    wait::soon("an answer", exchange(&mut stream))
        .await
        .unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(100));
}
