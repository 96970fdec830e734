//! Streams of requests that take memory: after large messages, and of clients that read no answers.

use prost::Message;
use synod_tests::frames::{call, frame, greet, kind, message};
use synod_tests::raw::create;
use synod_tests::wait::soon;
use synod_wire::etcdserverpb::watch_client::WatchClient;
use synod_wire::etcdserverpb::{LeaseKeepAliveRequest, WatchCreateRequest};
use tokio::io::AsyncWriteExt;
use tonic::Code;

use super::{Flooded, channel, connect, share};

/// Streams of requests whose client has sent one large message, and says no more.
pub(crate) async fn large_messages(flooded: &mut Flooded) {
    let before = flooded.memory();
    let most = share(500).max(200);
    // A range that ends before it begins: no watch is made, the stream stays.
    let large = create(WatchCreateRequest {
        key: vec![b'k'; 2_000_000].into(),
        range_end: "a".into(),
        ..WatchCreateRequest::default()
    });
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..most {
        let mut client = WatchClient::new(channel(&flooded.served.url).await);
        let requests = tokio_stream::iter([large.clone()]);
        let requests = futures_util::StreamExt::chain(requests, tokio_stream::pending());
        let mut answers = soon("a stream", client.watch(requests))
            .await
            .unwrap()
            .into_inner();
        match soon("an answer", answers.message()).await {
            Ok(answer) => {
                assert!(answer.unwrap().canceled);
                open.push(answers);
            }
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                refused += 1;
            }
        }
    }
    assert!(open.len() >= 60 && refused > 0, "{} open", open.len());
    let memory = flooded.let_go(before, open).await;
    let during = memory[1];
    assert!(during < before + 300, "{before} MiB, then {during}");
    let outcome = format!("{refused} refused");
    flooded.row(
        &format!("{most} streams with one message of 2 MB each, then idle"),
        &outcome,
        memory,
    );
}

/// Clients who ask for renewals and read no answer: what they send stays unread, as much as a connection may hold.
pub(crate) async fn unread_requests(flooded: &mut Flooded) {
    let before = flooded.memory();
    let most = 20;
    let renewal = message(&LeaseKeepAliveRequest { id: 7 }.encode_to_vec());
    // Large frames, full of small messages.
    let full = renewal.repeat(16_000 / renewal.len());
    let mut open = Vec::new();
    for number in 0..most {
        let mut stream = connect(flooded.address, number).await.unwrap();
        soon(
            "a greeting",
            greet(&mut stream, &frame(kind::SETTINGS, 0, 0, &[])),
        )
        .await
        .unwrap();
        // Each stream may have a MiB unread.
        for id in (1..16).step_by(2) {
            let mut bytes = call(id, "/etcdserverpb.Lease/LeaseKeepAlive");
            for _ in 0..60 {
                bytes.extend(frame(kind::DATA, 0, id, &full));
            }
            soon("it is taken in", stream.write_all(&bytes))
                .await
                .unwrap();
        }
        open.push(stream);
    }
    let memory = flooded.let_go(before, open).await;
    let bound = u64::try_from(most).unwrap() * 12;
    let during = memory[1];
    assert!(during < before + bound, "{before} MiB, then {during}");
    flooded.row(
        &format!("{most} connections with 8 MB of renewals each whose answers are not read"),
        "wait, alone",
        memory,
    );
}
