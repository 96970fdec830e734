//! The server is killed (SIGKILL) while eight clients push, twenty times over: after each restart
//! every acknowledged item is there, once, and each client's items are in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use synod::Client;
use synod_tests::cli::{Home, Served};
use synod_tests::ports::Port;
use synod_tests::wait::{self, TEST_LIMIT, within};
use tokio_util::sync::CancellationToken;

const CLIENTS: usize = 8;
const KILLS: usize = 20;

/// What each client knows to be in the queue.
type Acknowledged = Arc<Mutex<[Vec<String>; CLIENTS]>>;

async fn connect(url: &str) -> Client {
    wait::until_some("the server answers", || async {
        Client::connect(url).await.ok()
    })
    .await
}

/// Pushes one item after another until told to stop, whatever happens to the server.
async fn push(url: String, number: usize, known: Acknowledged, stop: CancellationToken) {
    let queue = connect(&url).await.queue("jobs");
    let mut item = 0;
    while !stop.is_cancelled() {
        let value = format!("{number}:{item}");
        // An item whose push failed may be there or not, and is not pushed again.
        if queue.enqueue(&value).await.is_ok() {
            known.lock().unwrap()[number].push(value);
        }
        item += 1;
    }
}

/// Checks what is in the queue against what was acknowledged before it was asked.
async fn check(client: &Client, known: &Acknowledged) -> usize {
    let acknowledged = known.lock().unwrap().clone();
    let list = wait::until_some("the queue can be read", || async {
        client.queue("jobs").list(usize::MAX).await.ok()
    })
    .await;
    let mut there: HashMap<String, usize> = HashMap::new();
    let mut next = [0; CLIENTS];
    for item in list {
        let value = String::from_utf8(item.value.to_vec()).unwrap();
        let (client, number) = value.split_once(':').unwrap();
        let (client, number): (usize, usize) = (client.parse().unwrap(), number.parse().unwrap());
        assert!(
            number >= next[client],
            "{value} comes after {}",
            next[client]
        );
        next[client] = number + 1;
        *there.entry(value).or_default() += 1;
    }
    for value in acknowledged.iter().flatten() {
        assert_eq!(there.get(value), Some(&1), "{value} was acknowledged");
    }
    assert!(
        there.values().all(|&times| times == 1),
        "none is there twice"
    );
    acknowledged.iter().map(Vec::len).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_times() {
    let home = Home::new();
    let port = Port::reserve();
    let listen = port.address().to_string();
    let url = format!("http://{listen}");
    let data = home.data();
    let args = ["--data", data.to_str().unwrap(), "--listen", &listen];
    let mut server = Served::start(&home, &args).await;
    let known = Acknowledged::default();
    let stop = CancellationToken::new();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(push(url.clone(), number, Arc::clone(&known), stop.clone())))
        .collect();
    let observer = connect(&url).await;
    for kill in 0..KILLS {
        let before = known.lock().unwrap().each_ref().map(Vec::len);
        wait::until(format!("all clients push after {kill} kills"), || async {
            let now = known.lock().unwrap();
            now.iter()
                .zip(before)
                .all(|(now, before)| now.len() > before + 1)
        })
        .await;
        // At any moment of a push, of a group's sync, of an answer.
        let moment = rand::rng().random_range(0..30);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        server.process().kill();
        server = Served::start(&home, &args).await;
        check(&observer, &known).await;
    }
    stop.cancel();
    for client in clients {
        within(TEST_LIMIT, "a client ends", client).await.unwrap();
    }
    let acknowledged = check(&observer, &known).await;
    assert!(acknowledged > KILLS * CLIENTS, "{acknowledged}");
    assert_eq!(server.stop().await, Some(0));
}
