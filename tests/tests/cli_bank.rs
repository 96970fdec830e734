//! `synod stm bank`: no money appears or vanishes, in one process and in ten at once.

use serde_json::Value;
use synod_tests::cli::{Home, Served};
use synod_tests::etcd_or_skip;
use synod_tests::wait::{self, PATIENCE};

/// The sum that the last line of an answer tells, and the lines before it.
fn read(stdout: &str) -> (u64, Vec<&str>) {
    let mut lines: Vec<&str> = stdout.lines().collect();
    let sum = lines.pop().expect("a sum");
    let sum = sum
        .strip_prefix("account sum is ")
        .expect("the sum's words");
    (sum.parse().expect("a number"), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bank_with_its_defaults_on_an_embedded_store() {
    let home = Home::new();
    for level in ["serializable-snapshot", "serializable", "repeatable-reads"] {
        let ran = home
            .run(&["stm", "bank", "--addr", "memory:", "--isolation", level])
            .await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let (sum, accounts) = read(&ran.stdout);
        assert_eq!(sum, 500, "{level}");
        assert_eq!(accounts.len(), 5);
        let mut counted = 0;
        for (number, line) in accounts.iter().enumerate() {
            let balance = line
                .strip_prefix(&format!("account accts/{number}: "))
                .unwrap();
            counted += balance.parse::<u64>().unwrap();
        }
        assert_eq!(counted, 500);
        assert!(ran.stderr.contains("1000 transfers in"), "{ran:?}");
        assert!(ran.stderr.contains("attempts a second"), "{ran:?}");
    }
}

/// That is what this level allows: two transfers read the same balance, and one is overwritten.
#[tokio::test(flavor = "multi_thread")]
async fn read_committed_loses_money() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let lossy = [
        "stm",
        "bank",
        "--isolation",
        "read-committed",
        "--addr",
        &server.url,
    ];
    // By chance a run can come out even; ten in a row cannot.
    for _ in 0..10 {
        let ran = home.run(&lossy).await;
        let (sum, _) = read(&ran.stdout);
        if sum != 500 {
            assert_eq!(ran.code, Some(1), "{ran:?}");
            for words in [
                &format!("error: the sum is wrong: {sum} instead of 500"),
                "read-committed validates nothing",
                "choose another --name",
            ] {
                assert!(ran.stderr.contains(words), "{words}: {ran:?}");
            }
            // What is lost stays lost, and the next one says so.
            let ran = home
                .run(&["stm", "bank", "--transfers", "1", "--addr", &server.url])
                .await;
            assert_eq!((ran.code, read(&ran.stdout).0), (Some(1), sum));
            return;
        }
    }
    panic!("ten runs without validation lost nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_in_json() {
    let home = Home::new();
    let args = [
        "stm",
        "bank",
        "--addr",
        "memory:",
        "--output",
        "json",
        "--accounts",
        "3",
        "--balance",
        "7",
        "--tasks",
        "2",
        "--transfers",
        "4",
        "--name",
        "other",
    ];
    let answer: Value = serde_json::from_str(&home.ok(&args).await).unwrap();
    assert_eq!(
        (&answer["sum"], &answer["expected"]),
        (&21.into(), &21.into())
    );
    assert_eq!(answer["transfers"], 8);
    assert!(answer["attempts"].as_u64() >= Some(8));
    assert!(answer["seconds"].as_f64() > Some(0.0));
    for rate in ["transfers_per_second", "attempts_per_second"] {
        assert!(answer[rate].as_u64() > Some(0), "{answer}");
    }
    assert_eq!(answer["accounts"][2]["key"], "other/2");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_are_there_are_not_touched_by_another_plan() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let addr = ["--addr", server.url.as_str()];
    home.ok(&["stm", "bank", "--transfers", "1", addr[0], addr[1]])
        .await;
    let ran = home
        .run(&["stm", "bank", "--accounts", "4", addr[0], addr[1]])
        .await;
    ran.assert_failed(
        1,
        "there are 5 keys under accts/",
        &["--accounts is 4", "--name"],
    );
    home.ok(&["txn", "--then", "put accts/0 nonsense", addr[0], addr[1]])
        .await;
    let ran = home.run(&["stm", "bank", addr[0], addr[1]]).await;
    ran.assert_failed(
        2,
        "cannot transfer",
        &["accts/0 holds no balance: nonsense"],
    );
    let ran = home
        .run(&["stm", "bank", "--accounts", "1", addr[0], addr[1]])
        .await;
    assert_eq!(ran.code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_bank_and_the_money_is_still_there() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let addr = ["--addr", server.url.as_str()];
    let mut bank = home.start(&["stm", "bank", "--transfers", "1000000", addr[0], addr[1]]);
    wait::until("the accounts are there", || async {
        home.ok(&["txn", "--then", "get accts/ --prefix", addr[0], addr[1]])
            .await
            .contains("accts/4")
    })
    .await;
    bank.interrupt();
    assert_eq!(bank.wait(PATIENCE).await.code(), Some(130));
    let ran = home
        .ok(&["stm", "bank", "--transfers", "1", addr[0], addr[1]])
        .await;
    assert_eq!(read(&ran).0, 500);
}

/// Ten processes at once on the same accounts.
async fn ten_at_once(home: &Home, url: &str) {
    let args = [
        "stm",
        "bank",
        "--tasks",
        "4",
        "--transfers",
        "10",
        "--addr",
        url,
    ];
    let runs: Vec<_> = (0..10)
        .map(|number| {
            let level = ["serializable-snapshot", "serializable", "repeatable-reads"];
            let level = level[number % level.len()];
            home.run(&[&args[..], &["--isolation", level]].concat().leak()[..])
        })
        .collect();
    for ran in futures_util::future::join_all(runs).await {
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(read(&ran.stdout).0, 500, "{ran:?}");
        assert!(ran.stderr.contains("40 transfers in"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_processes_on_a_server() {
    let home = Home::new();
    let data = home.path("served");
    let data = data.to_str().unwrap();
    let server = Served::start(&home, &["--data", data, "--listen", "127.0.0.1:0"]).await;
    ten_at_once(&home, &server.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_processes_on_one_node() {
    let etcd = etcd_or_skip!(1);
    ten_at_once(&Home::new(), &etcd.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_processes_on_three_nodes() {
    let etcd = etcd_or_skip!(3);
    ten_at_once(&Home::new(), &etcd.url()).await;
}
