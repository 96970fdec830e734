//! Many processes on one queue: four that write and four that read, 10,000 items. Nothing is lost,
//! nothing comes twice, and each writer's items come in order.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use synod_tests::cli::{Home, Served};
use synod_tests::etcd_or_skip;
use synod_tests::process::Process;
use synod_tests::wait::{PATIENCE, TEST_LIMIT, within};
use tokio::task::{JoinHandle, spawn_blocking};

const WRITERS: usize = 4;
const READERS: usize = 4;
const ITEMS: usize = 10_000;
const EACH: usize = ITEMS / WRITERS;

/// Starts a reader; the handle gives all that it has printed, once it has ended.
fn start_reader(
    home: &Home,
    url: &str,
    count: &Arc<AtomicUsize>,
) -> (Process, JoinHandle<Vec<String>>) {
    let mut command = home.command(&["queue", "pop", "--follow", "--addr", url]);
    command.stderr(Stdio::inherit());
    let mut reader = Process::spawn(&mut command, None).unwrap();
    let stdout = BufReader::new(reader.child().stdout.take().unwrap());
    let count = Arc::clone(count);
    let lines = spawn_blocking(move || {
        let line = |line: std::io::Result<String>| {
            count.fetch_add(1, Ordering::Relaxed);
            line.unwrap()
        };
        stdout.lines().map(line).collect()
    });
    (reader, lines)
}

/// Starts a writer. Half of them are prompts, which push one item after another; the others push
/// lines as they come.
fn start_writer(home: &Home, url: &str, number: usize) -> Process {
    let prompt = number.is_multiple_of(2);
    let args: &[&str] = if prompt {
        &["queue", "--addr", url]
    } else {
        &["queue", "push", "-", "--addr", url]
    };
    let mut command = home.command(args);
    command.stdin(Stdio::piped()).stderr(Stdio::inherit());
    let mut writer = Process::spawn(&mut command, None).unwrap();
    let mut stdin = writer.child().stdin.take().unwrap();
    std::thread::spawn(move || {
        for item in 0..EACH {
            let push = if prompt { "push " } else { "" };
            writeln!(stdin, "{push}{number}:{item}").unwrap();
        }
    });
    writer
}

async fn eight_processes(home: &Home, url: &str) {
    let count = Arc::new(AtomicUsize::new(0));
    let mut readers: Vec<_> = (0..READERS)
        .map(|_| start_reader(home, url, &count))
        .collect();
    let mut writers: Vec<_> = (0..WRITERS)
        .map(|number| start_writer(home, url, number))
        .collect();
    for writer in &mut writers {
        assert_eq!(writer.wait(TEST_LIMIT).await.code(), Some(0));
    }
    within(TEST_LIMIT, "all items are read", async {
        while count.load(Ordering::Relaxed) < ITEMS {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(home.ok(&["queue", "len", "--addr", url]).await, "0\n");
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (mut reader, lines) in readers.drain(..) {
        reader.terminate();
        assert_eq!(reader.wait(PATIENCE).await.code(), Some(143));
        let mut next = [0; WRITERS];
        for line in lines.await.unwrap() {
            let (writer, item) = line.split_once(':').unwrap();
            let (writer, item): (usize, usize) = (writer.parse().unwrap(), item.parse().unwrap());
            assert!(item >= next[writer], "{line} came after {}", next[writer]);
            next[writer] = item + 1;
            *seen.entry(line).or_default() += 1;
        }
    }
    for writer in 0..WRITERS {
        for item in 0..EACH {
            assert_eq!(
                seen.get(&format!("{writer}:{item}")),
                Some(&1),
                "{writer}:{item}"
            );
        }
    }
    assert_eq!(seen.len(), ITEMS);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_over_a_file() {
    let home = Home::new();
    let data = home.data();
    let server = Served::start(
        &home,
        &["--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"],
    )
    .await;
    eight_processes(&home, &server.url).await;
    assert_eq!(server.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_an_etcd() {
    let etcd = etcd_or_skip!();
    eight_processes(&Home::new(), &etcd.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_of_three() {
    let etcd = etcd_or_skip!(3);
    eight_processes(&Home::new(), &etcd.url()).await;
}
