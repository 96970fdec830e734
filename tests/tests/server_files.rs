//! `synod serve` where the system allows few open files: strangers who only connect do not take those away that the
//! store needs.

use std::fs::File;
use std::net::SocketAddr;

use synod_tests::cli::{Home, Served, finish};
use synod_tests::raw::put;
use synod_tests::wait::{self, soon};
use synod_wire::etcdserverpb::kv_client::KvClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// What a client of HTTP/2 says first; whoever says it may be silent afterwards.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const ADDRESS: [&str; 2] = ["--listen", "127.0.0.1:0"];

async fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
    soon("a connection", endpoint.connect()).await
}

/// Connects and says a greeting; `None` when it is closed instead of answered.
async fn stranger(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = soon("a connection", TcpStream::connect(address))
        .await
        .unwrap();
    let _ = stream.write_all(PREFACE).await;
    let mut frame = [0; 9];
    let read = soon("an answer or an end", stream.read_exact(&mut frame)).await;
    read.is_ok().then_some(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_strangers_do_not_stop_the_store() {
    let home = Home::new();
    let data = home.path("served");
    let log = home.path("log");
    let args = [&ADDRESS[..], &["--data", data.to_str().unwrap()]].concat();
    let errors = File::create(&log).unwrap();
    let served = Served::start_with_files(&home, (200, 200), &args, errors.into()).await;
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("fewer connections than --max-connections")
            && said.contains("connections=100"),
        "{said}"
    );
    let mut client = KvClient::new(channel(&served.url).await.unwrap());
    client.put(put("before", "")).await.unwrap();

    // As many as may come, and each one more is closed; at most all files that the process may have.
    let address = served.url.strip_prefix("http://").unwrap().parse().unwrap();
    let mut idle = Vec::new();
    while let Some(stream) = stranger(address).await {
        idle.push(stream);
        assert!(idle.len() < 200, "nobody was refused");
    }
    assert_eq!(idle.len(), 99, "and the client's own is one");

    // Three segments and more: each is a new file, and so is the one with which a large log ends.
    for number in 0..12 {
        let value = vec![b'x'; 1_400_000];
        let put = client.put(put(format!("large/{number}"), value));
        soon("a put", put).await.unwrap();
    }
    // A newcomer is refused, at once and not for ever.
    assert!(stranger(address).await.is_none());
    drop(idle);
    wait::until("there is room again", || async {
        let Ok(channel) = channel(&served.url).await else {
            return false;
        };
        let mut client = KvClient::new(channel);
        client.put(put("newcomer", "")).await.is_ok()
    })
    .await;
    client.put(put("after", "")).await.unwrap();
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_files_are_refused() {
    let home = Home::new();
    let args = [&["serve", "--memory"], &ADDRESS[..]].concat();
    let ran = finish(&mut home.command_with_files(40, 40, &args), b"").await;
    ran.assert_failed(
        1,
        "this process may have 40 files open at once",
        &["ulimit -n"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_raised_as_far_as_it_may_be() {
    let home = Home::new();
    let log = home.path("log");
    // Of 200 that are allowed now, and 450 that it may allow itself.
    let soft = ["--memory", "--max-connections", "300"];
    let args = [&ADDRESS[..], &soft[..]].concat();
    let errors = File::create(&log).unwrap();
    let served = Served::start_with_files(&home, (200, 450), &args, errors.into()).await;
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(!said.contains("fewer connections"), "{said}");
    assert_eq!(served.stop().await, Some(0));
}
