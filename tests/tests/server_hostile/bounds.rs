//! What the server bounds, and that it serves the others meanwhile.

use std::io;

use prost::Message;
use synod_server::ServerOptions;
use synod_tests::frames::{call, frame, greet, kind, message, read, wide_windows};
use synod_tests::raw::{create, get, grant, kv, leases, put};
use synod_tests::target::answer;
use synod_tests::wait;
use synod_wire::etcdserverpb::request_op::Request as Op;
use synod_wire::etcdserverpb::watch_client::WatchClient;
use synod_wire::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, RequestOp, TxnRequest, WatchCreateRequest,
    WatchRequest,
};
use synod_wire::synod_v1::InfoRequest;
use synod_wire::synod_v1::synod_client::SynodClient;
use synod_wire::v3electionpb::election_client::ElectionClient;
use synod_wire::v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest};
use synod_wire::v3lockpb::lock_client::LockClient;
use synod_wire::v3lockpb::{LockRequest, UnlockRequest};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

use super::{address, closed, endless, serve};

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_connections() {
    let target = serve(ServerOptions::new().with_max_connections(3)).await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        idle.push(TcpStream::connect(address(&target)).await.unwrap());
    }
    let mut client = kv(&target).await;
    answer(client.put(put("a", "")).await);
    let mut one_more = TcpStream::connect(address(&target)).await.unwrap();
    let _ = closed(&mut one_more).await;
    answer(client.put(put("a", "")).await);
    // There is room again when one of them goes.
    idle.pop();
    wait::until("another connection is served", || async {
        let endpoint = tonic::transport::Endpoint::from_shared(target.url()).unwrap();
        let Ok(channel) = endpoint.connect().await else {
            return false;
        };
        let mut client = synod_wire::etcdserverpb::kv_client::KvClient::new(channel);
        client.range(get("a")).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_requests_that_do_not_end() {
    // So 128 times 513 KiB may be arriving at once.
    let target = serve(ServerOptions::new().with_max_request_bytes(1024)).await;
    // A put with a value of 500,000 bytes.
    let mut large = vec![0x12, 0xa0, 0xc2, 0x1e];
    large.resize(500_004, 0);
    let calls = (0..160).map(|_| endless(&target, large.clone()));
    let mut calls: futures_util::stream::FuturesUnordered<_> = calls.collect();
    let mut refused = 0;
    // Those above the bound are refused, the others would be when their time is up.
    while refused < 20 {
        let refusal = futures_util::StreamExt::next(&mut calls).await.unwrap();
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
        refused += 1;
    }
    drop(calls);
    wait::until("there is room again", || async {
        kv(&target).await.put(put("a", "")).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_endless_calls() {
    let target = serve(ServerOptions::new().with_max_open_streams(3)).await;
    let channel = target.channel().await;
    // A stream ends when both of its directions do.
    let watch = async || {
        let (sender, requests) = tokio::sync::mpsc::unbounded_channel::<WatchRequest>();
        let requests = UnboundedReceiverStream::new(requests);
        let answers = WatchClient::new(channel.clone()).watch(requests).await;
        answers.map(|answers| (sender, answers))
    };
    let refused = |status: Status| {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert_eq!(status.message(), "synod: too many streams are open");
    };
    let first = watch().await.unwrap();
    let renewals = tokio_stream::pending::<LeaseKeepAliveRequest>();
    let _second = answer(leases(&target).await.lease_keep_alive(renewals).await);
    let mut locks = LockClient::new(channel.clone());
    let lock = |lease: i64| LockRequest {
        name: "l".into(),
        lease,
    };
    let held = answer(locks.lock(lock(0)).await);
    let lease = grant(&target, 60).await;
    let mut waiter = locks.clone();
    let waiting = tokio::spawn(async move { waiter.lock(lock(lease)).await });
    let client = kv(&target).await;
    wait::until("the waiter stands in line", || {
        let mut client = client.clone();
        async move { answer(client.range(get(format!("l/{lease:x}"))).await).count == 1 }
    })
    .await;
    refused(watch().await.unwrap_err());
    refused(locks.lock(lock(0)).await.unwrap_err());
    let mut elections = ElectionClient::new(channel.clone());
    let leader = || LeaderRequest { name: "e".into() };
    refused(elections.observe(leader()).await.unwrap_err());
    let campaign = CampaignRequest {
        name: "e".into(),
        value: "v".into(),
        lease: 0,
    };
    refused(elections.campaign(campaign).await.unwrap_err());
    // Other calls are served, and so is the next stream when one has ended.
    answer(kv(&target).await.put(put("a", "")).await);
    drop(first);
    wait::until("there is room again", || async { watch().await.is_ok() }).await;
    let unlock = UnlockRequest { key: held.key };
    answer(locks.unlock(unlock).await);
    answer(wait::soon("the lock", waiting).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_is_no_larger_than_a_put() {
    let target = serve(ServerOptions::new().with_max_request_bytes(100_000)).await;
    let mut elections = ElectionClient::new(target.channel().await);
    let campaign = |bytes: usize| CampaignRequest {
        name: "e".into(),
        value: vec![b'v'; bytes].into(),
        lease: 0,
    };
    let refused = |status: Status| {
        assert_eq!(status.code(), Code::Unknown, "{status:?}");
        assert_eq!(status.message(), "etcdserver: request is too large");
    };
    refused(elections.campaign(campaign(100_000)).await.unwrap_err());
    let leader = answer(elections.campaign(campaign(99_000)).await).leader;
    let proclaim = |bytes: usize| ProclaimRequest {
        leader: leader.clone(),
        value: vec![b'w'; bytes].into(),
    };
    refused(elections.proclaim(proclaim(100_000)).await.unwrap_err());
    answer(elections.proclaim(proclaim(99_000)).await);
    let told = answer(elections.leader(LeaderRequest { name: "e".into() }).await);
    assert_eq!(told.kv.unwrap().value, vec![b'w'; 99_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn siblings_of_a_transaction_share_a_budget() {
    let target = serve(ServerOptions::new()).await;
    let mut client = kv(&target).await;
    let op = |request: Op| RequestOp {
        request: Some(request),
    };
    let read = || op(Op::RequestRange(get("k")));
    let reads = |count: usize| {
        op(Op::RequestTxn(TxnRequest {
            success: vec![read(); count],
            ..TxnRequest::default()
        }))
    };
    let txn = |success: Vec<RequestOp>| TxnRequest {
        success,
        ..TxnRequest::default()
    };
    let refusal = client.txn(txn(vec![reads(60); 40])).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert_eq!(
        refusal.message(),
        "etcdserver: too many operations in txn request"
    );
    let mut most = vec![read(); 27];
    most.push(reads(100));
    answer(client.txn(txn(most)).await);
    answer(client.txn(txn(vec![read(); 128])).await);
}

/// Each message of a stream is a frame of its own, as gRPC's library for Go sends it, which renews all its leases at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_renewals_is_answered() {
    const RENEWALS: usize = 10_000;
    let target = serve(ServerOptions::new()).await;
    let lease = grant(&target, 60).await;
    let mut stream = TcpStream::connect(address(&target)).await.unwrap();
    let windows = wide_windows();
    let greeting = greet(&mut stream, &windows);
    wait::soon("a greeting", greeting).await.unwrap();
    let begin = call(1, "/etcdserverpb.Lease/LeaseKeepAlive");
    stream.write_all(&begin).await.unwrap();
    let request = LeaseKeepAliveRequest { id: lease }.encode_to_vec();
    let renewal = frame(kind::DATA, 0, 1, &message(&request));
    let (mut reading, mut writing) = stream.into_split();
    let write = tokio::spawn(async move {
        writing
            .write_all(&renewal.repeat(RENEWALS))
            .await
            .map(|()| writing)
    });

    // What is answered on the stream, until that is as many messages.
    let reading = async {
        let (mut data, mut answers) = (Vec::new(), 0);
        while answers < RENEWALS {
            let (kind, payload) = read(&mut reading).await?;
            let said = payload.escape_ascii();
            assert_ne!(kind, kind::GOAWAY, "{answers} answers, then {said}");
            if kind != kind::DATA {
                continue;
            }
            data.extend(payload);
            while let Some((&[_, a, b, c, d], rest)) = data.split_first_chunk() {
                let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
                let Some((answer, rest)) = rest.split_at_checked(length) else {
                    break;
                };
                let answer = LeaseKeepAliveResponse::decode(answer).unwrap();
                assert_eq!((answer.id, answer.ttl), (lease, 60));
                answers += 1;
                data = rest.to_vec();
            }
        }
        io::Result::Ok(answers)
    };
    let answers = wait::within(wait::TEST_LIMIT, "the answers", reading).await;
    assert_eq!(answers.unwrap(), RENEWALS);
    let _writing = write.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_watches() {
    let target = serve(ServerOptions::new().with_max_watchers(2)).await;
    let watchers = async || {
        let mut info = SynodClient::new(target.channel().await);
        answer(info.info(InfoRequest {}).await).watchers
    };
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    let mut watch = WatchClient::new(target.channel().await);
    let mut answers = answer(watch.watch(UnboundedReceiverStream::new(requests)).await);
    for expected in ["", "", "synod: too many watches are open"] {
        sender.send(create(WatchCreateRequest::default())).unwrap();
        let created = wait::soon("an answer", answers.message())
            .await
            .unwrap()
            .unwrap();
        assert!(created.created);
        assert_eq!(created.cancel_reason, expected);
    }
    assert_eq!(watchers().await, 2);
    drop((sender, answers));
    wait::until("the watches are gone", async || watchers().await == 0).await;
}

/// The server keeps a watch's keys: long ones are counted for what they are.
#[tokio::test(flavor = "multi_thread")]
async fn long_keys_count_for_many_watches() {
    let target = serve(ServerOptions::new().with_max_watchers(100)).await;
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    let mut watch = WatchClient::new(target.channel().await);
    let mut answers = answer(watch.watch(UnboundedReceiverStream::new(requests)).await);
    let mut made = async |key: usize, range_end: usize| {
        let request = WatchCreateRequest {
            key: "k".repeat(key).into(),
            range_end: "l".repeat(range_end).into(),
            ..WatchCreateRequest::default()
        };
        sender.send(create(request)).unwrap();
        let answer = wait::soon("an answer", answers.message()).await;
        let answer = answer.unwrap().unwrap();
        assert!(answer.created);
        let reason = answer.cancel_reason;
        assert!(reason.is_empty() || reason == "synod: too many watches are open");
        reason.is_empty()
    };
    assert!(!made(200_000, 0).await, "196 of 100");
    assert!(made(40_000, 40_000).await, "79 of 100");
    assert!(!made(30_000, 0).await, "30 of 21");
    assert!(made(20_000, 0).await, "20 of 21");
    assert!(made(1023, 0).await, "1 of 1");
    assert!(!made(1, 0).await, "none is left");
}
