//! `synod serve` as a process, flooded in many ways: its memory before, meanwhile and afterwards, and another client
//! that is served all the while.
//!
//! It prints the table of `docs/hostile.md`. `SYNOD_FLOOD` is how many of each are tried, in percent: 10 unless it is
//! set, 100 for the page.

mod streams;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use synod_tests::cli::{Home, Served};
use synod_tests::raw::{create, put};
use synod_tests::wait::{self, TEST_LIMIT, soon, within};
use synod_wire::etcdserverpb::kv_client::KvClient;
use synod_wire::etcdserverpb::lease_client::LeaseClient;
use synod_wire::etcdserverpb::watch_client::WatchClient;
use synod_wire::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Streaming};

/// What a client says first, with its settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn share(of: usize) -> usize {
    let percent = std::env::var("SYNOD_FLOOD").map_or(10, |text| {
        text.parse().expect("SYNOD_FLOOD is a number of percent")
    });
    (of * percent / 100).max(1)
}

struct Flooded {
    served: Served,
    address: SocketAddr,
    other: KvClient<Channel>,
    turns: u32,
    table: String,
}

impl Flooded {
    async fn start(home: &Home, args: &[&str]) -> Flooded {
        let served = Served::start(home, args).await;
        let address = served.url.strip_prefix("http://").unwrap().parse().unwrap();
        let other = KvClient::new(channel(&served.url).await);
        Flooded {
            served,
            address,
            other,
            turns: 0,
            table: String::new(),
        }
    }

    /// Memory that the server's process holds, in MiB.
    fn memory(&mut self) -> u64 {
        let pid = self.served.process().pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Somebody else's put is answered, whatever goes on.
    async fn others(&mut self) {
        self.turns += 1;
        let put = put("other", self.turns.to_string());
        soon("another client's put is answered", self.other.put(put))
            .await
            .unwrap();
    }

    /// Memory before, with `kept` and without it; somebody else is served each time.
    async fn let_go<T>(&mut self, before: u64, kept: T) -> [u64; 3] {
        self.others().await;
        let during = self.memory();
        drop(kept);
        self.others().await;
        [before, during, self.memory()]
    }

    fn row(&mut self, what: &str, outcome: &str, memory: [u64; 3]) {
        let [before, during, after] = memory;
        writeln!(
            self.table,
            "| {what} | {outcome} | {before} | {during} | {after} |"
        )
        .unwrap();
        // Nothing of this is worth more to the server than a large request or two for each that misbehaves.
        assert!(during < before + 700, "{what}: {before} MiB, then {during}");
    }
}

async fn channel(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
    soon("a connection", endpoint.connect()).await.unwrap()
}

/// Connects from one of many loopback addresses, so that ports do not run out.
async fn connect(address: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(number / 5_000 % 200 + 2).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
    socket.connect(address).await
}

/// Whether the other side has closed it.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return true,
            Ok(_) => {}
        }
    }
}

async fn idle_connections(flooded: &mut Flooded) {
    let before = flooded.memory();
    let most = share(10_000);
    let mut idle = Vec::new();
    for number in 0..most {
        let mut stream = connect(flooded.address, number).await.unwrap();
        // It speaks, so that only its silence afterwards is wrong.
        let _ = stream.write_all(PREFACE).await;
        idle.push(stream);
        if number % 1_000 == 0 {
            flooded.others().await;
        }
    }
    // One more than the bound is closed as it opens.
    let mut refused = connect(flooded.address, 0).await.unwrap();
    let closed = soon("one too many is closed", is_closed(&mut refused)).await;
    assert!(closed);
    flooded.others().await;
    let during = flooded.memory();
    drop(idle);
    let address = flooded.address;
    wait::until("there is room again", || async {
        let mut stream = connect(address, 0).await.unwrap();
        stream.write_all(PREFACE).await.is_ok()
            && stream.read(&mut [0; 9]).await.is_ok_and(|n| n > 0)
    })
    .await;
    let after = flooded.memory();
    flooded.row(
        &format!("{most} idle connections"),
        "one too many is closed",
        [before, during, after],
    );
}

async fn slow_headers(flooded: &mut Flooded) {
    let before = flooded.memory();
    let most = share(1_000);
    let mut slow = Vec::new();
    for number in 0..most {
        let mut stream = connect(flooded.address, number).await.unwrap();
        // A block of headers of 16 KiB is announced, and a byte of it sent.
        let _ = stream.write_all(PREFACE).await;
        let _ = stream
            .write_all(&[0, 0x40, 0, 1, 0, 0, 0, 0, 1, 0x82])
            .await;
        slow.push(stream);
    }
    let memory = flooded.let_go(before, slow).await;
    flooded.row(
        &format!("{most} requests that stop amid their headers"),
        "wait, alone",
        memory,
    );
}

/// A stream of watches on a connection of its own.
async fn watches(flooded: &Flooded) -> (UnboundedSender<WatchRequest>, Streaming<WatchResponse>) {
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    let mut client = WatchClient::new(channel(&flooded.served.url).await);
    let answers = client
        .watch(UnboundedReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    (sender, answers)
}

async fn unread_watch(flooded: &mut Flooded) {
    let before = flooded.memory();
    let (sender, mut answers) = watches(flooded).await;
    let watch = WatchCreateRequest {
        key: "big".into(),
        ..WatchCreateRequest::default()
    };
    sender.send(create(watch)).unwrap();
    assert!(
        soon("created", answers.message())
            .await
            .unwrap()
            .unwrap()
            .created
    );
    let values = share(2_000);
    let mut revision = 0;
    for turn in 0..values {
        let answer = flooded
            .other
            .put(put("big", vec![b'x'; 100_000]))
            .await
            .unwrap();
        revision = answer.into_inner().header.unwrap().revision;
        if turn % 50 == 49 {
            let compact = CompactionRequest {
                revision,
                physical: true,
            };
            flooded.other.compact(compact).await.unwrap();
        }
    }
    flooded.others().await;
    let during = flooded.memory();
    // It gets what is still there, then hears that the rest is gone: never a hole in silence.
    let end = within(TEST_LIMIT, "the end of the watch", async {
        loop {
            match answers.message().await {
                Ok(Some(answer)) if answer.compact_revision > 0 => return "told of the compaction",
                Ok(Some(answer)) => {
                    if answer
                        .events
                        .last()
                        .is_some_and(|event| event.kv.as_ref().unwrap().mod_revision == revision)
                    {
                        return "gets all";
                    }
                }
                Ok(None) | Err(_) => return "ended",
            }
        }
    })
    .await;
    drop((sender, answers));
    flooded.others().await;
    let after = flooded.memory();
    let what = format!("a watch that is not read, {values} values of 100 KB");
    flooded.row(&what, end, [before, during, after]);
}

async fn many_watches(flooded: &mut Flooded) {
    let before = flooded.memory();
    let most = share(100_000);
    let (sender, mut answers) = watches(flooded).await;
    let bound = share(90_000);
    for number in 0..most {
        let watch = WatchCreateRequest {
            key: format!("w{number}").into(),
            ..WatchCreateRequest::default()
        };
        sender.send(create(watch)).unwrap();
    }
    let (mut made, mut refused) = (0, 0);
    while made + refused < most {
        let answer = soon("an answer", answers.message()).await.unwrap().unwrap();
        if answer.canceled {
            assert_eq!(answer.cancel_reason, "synod: too many watches are open");
            refused += 1;
        } else {
            made += 1;
        }
    }
    assert_eq!(made, bound);
    let memory = flooded.let_go(before, (sender, answers)).await;
    let outcome = format!("{made} made, {refused} refused");
    flooded.row(
        &format!("{most} watches on one stream, {bound} allowed"),
        &outcome,
        memory,
    );
}

async fn reset_streams(flooded: &mut Flooded) {
    let before = flooded.memory();
    let most = share(20_000);
    let url = flooded.served.url.clone();
    let mut ended = 0;
    let mut client = WatchClient::new(channel(&url).await);
    for number in 0..most {
        let (_sender, requests) = tokio::sync::mpsc::unbounded_channel();
        let call = client.watch(UnboundedReceiverStream::new(requests));
        // Polled once, so that it is sent; then dropped, which resets it.
        if let Ok(Err(_)) = tokio::time::timeout(Duration::from_micros(50), call).await {
            ended += 1;
            client = WatchClient::new(channel(&url).await);
        }
        if number % 1_000 == 0 {
            flooded.others().await;
        }
    }
    let memory = flooded.let_go(before, client).await;
    let outcome = format!("its connection was ended {ended} times");
    flooded.row(
        &format!("{most} streams opened and reset"),
        &outcome,
        memory,
    );
}

async fn giant_headers(flooded: &mut Flooded) {
    let before = flooded.memory();
    let most = share(500);
    let url = flooded.served.url.clone();
    let mut refused = 0;
    for _ in 0..most {
        let mut client = KvClient::new(channel(&url).await);
        let mut request = Request::new(put("k", "v"));
        for number in 0..64 {
            let name = format!("x-{number}")
                .parse::<tonic::metadata::MetadataKey<_>>()
                .unwrap();
            request
                .metadata_mut()
                .insert(name, "h".repeat(1_000).parse().unwrap());
        }
        if let Err(status) = soon("an answer", client.put(request)).await {
            assert_ne!(status.code(), Code::Ok);
            refused += 1;
        }
    }
    assert_eq!(refused, most, "64 KB of headers are refused");
    flooded.others().await;
    let during = flooded.memory();
    flooded.row(
        &format!("{most} requests with 64 KB of headers"),
        "all refused",
        [before, during, during],
    );
}

async fn lease_flood(flooded: &mut Flooded) {
    let before = flooded.memory();
    let most = share(100_000);
    let mut tasks = tokio::task::JoinSet::new();
    let channel = channel(&flooded.served.url).await;
    for _ in 0..50 {
        let mut client = LeaseClient::new(channel.clone());
        tasks.spawn(async move {
            let mut refused = None;
            for _ in 0..most / 50 {
                if let Err(status) = client
                    .lease_grant(LeaseGrantRequest { ttl: 600, id: 0 })
                    .await
                {
                    refused = Some(status);
                    break;
                }
            }
            refused
        });
    }
    flooded.others().await;
    let mut refusals = 0;
    while let Some(refused) = within(TEST_LIMIT, "the flood ends", tasks.join_next()).await {
        if let Some(status) = refused.unwrap() {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            assert_eq!(
                status.message(),
                "etcdserver: mvcc: database space exceeded"
            );
            refusals += 1;
        }
    }
    let during = flooded.memory();
    let outcome = format!("{refusals} of 50 callers refused at the quota");
    flooded.row(
        &format!("{most} leases of ten minutes"),
        &outcome,
        [before, during, during],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_else_is_served_meanwhile() {
    let home = Home::new();
    let connections = (share(10_000) + 1).to_string();
    let watchers = share(90_000).to_string();
    let args = [
        "--memory",
        "--listen",
        "127.0.0.1:0",
        "--max-connections",
        &connections,
        "--max-watchers",
        &watchers,
    ];
    let mut flooded = Flooded::start(&home, &args).await;
    idle_connections(&mut flooded).await;
    slow_headers(&mut flooded).await;
    giant_headers(&mut flooded).await;
    reset_streams(&mut flooded).await;
    many_watches(&mut flooded).await;
    unread_watch(&mut flooded).await;
    streams::large_messages(&mut flooded).await;
    streams::unread_requests(&mut flooded).await;
    lease_flood(&mut flooded).await;
    println!(
        "| what a client does | what becomes of it | MiB before | meanwhile | after |\n|---|---|---|---|---|"
    );
    println!("{}", flooded.table);
    let answered = flooded.turns;
    println!("{answered} puts of another client were answered meanwhile");
    assert_eq!(flooded.served.stop().await, Some(0));
}
