//! `synod bench`: every workload and case on every store, what it prints, what it refuses, and that it
//! leaves nothing behind. Nothing here depends on how fast anything is.

use std::time::Instant;

use serde_json::Value;
use synod::Client;
use synod_store::{KeyRange, RangeRequest, Store};
use synod_tests::cli::{Home, Served};
use synod_tests::etcd_or_skip;
use synod_tests::wait::{self, PATIENCE};

/// Every case, small; what it counts, and how many of it where that is certain.
const CASES: [(&[&str], &str, Option<u64>); 14] = [
    (
        &[
            "queue",
            "--items",
            "60",
            "--producers",
            "2",
            "--consumers",
            "2",
        ],
        "items",
        Some(60),
    ),
    (
        &[
            "queue",
            "--case",
            "fill",
            "--items",
            "40",
            "--fill-first",
            "5",
        ],
        "items",
        Some(40),
    ),
    (
        &[
            "queue",
            "--case",
            "drain",
            "--fill-first",
            "70",
            "--consumers",
            "2",
        ],
        "items",
        Some(70),
    ),
    (
        &["queue", "--case", "idle", "--items", "3"],
        "items",
        Some(3),
    ),
    (
        &[
            "queue", "--case", "batch", "--items", "60", "--batch", "20", "--tasks", "2",
        ],
        "items",
        Some(60),
    ),
    (
        &["priority-queue", "--items", "40", "--value-size", "8"],
        "items",
        Some(40),
    ),
    (
        &["priority-queue", "--case", "drain", "--fill-first", "30"],
        "items",
        Some(30),
    ),
    (
        &["barrier", "--items", "3", "--waiters", "4"],
        "rounds",
        Some(3),
    ),
    (
        &["double-barrier", "--items", "4", "--participants", "3"],
        "rounds",
        Some(4),
    ),
    (
        &["lock", "--items", "30", "--tasks", "3"],
        "cycles",
        Some(30),
    ),
    (
        &[
            "election",
            "--items",
            "30",
            "--tasks",
            "3",
            "--connections",
            "shared",
        ],
        "cycles",
        Some(30),
    ),
    (
        &[
            "stm",
            "--transfers",
            "10",
            "--tasks",
            "3",
            "--accounts",
            "3",
        ],
        "transfers",
        Some(30),
    ),
    (&["raw", "--items", "50", "--tasks", "3"], "puts", Some(50)),
    (
        &[
            "raw",
            "--case",
            "get",
            "--duration",
            "200ms",
            "--warm-up",
            "10ms",
        ],
        "gets",
        None,
    ),
];

/// Runs a measurement, which must succeed, and gives what it prints. One with a duration in which nothing was completed
/// has twice as long next time: on a busy machine a few milliseconds may be over before the first operation is.
async fn measured_text(home: &Home, args: &[&str]) -> String {
    let begin = Instant::now();
    let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let place = args.iter().position(|arg| arg == "--duration");
    loop {
        let ran = home
            .run(&args.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
        match place {
            Some(place)
                if ran.stderr.contains("nothing was completed") && begin.elapsed() < PATIENCE =>
            {
                assert_eq!(ran.code, Some(1), "{ran:?}");
                let time: u64 = args[place + 1].trim_end_matches("ms").parse().unwrap();
                args[place + 1] = format!("{}ms", time * 2);
            }
            _ => {
                assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
                return ran.stdout;
            }
        }
    }
}

/// The same, in JSON.
async fn measured(home: &Home, addr: &str, args: &[&str]) -> Value {
    let all = [&["bench", "--output", "json", "--addr", addr], args].concat();
    let text = measured_text(home, &all).await;
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no object: {text}"))
}

/// Runs all cases.
async fn all_cases(home: &Home, addr: &str, server: &str) {
    for (args, unit, operations) in CASES {
        let json = measured(home, addr, args).await;
        assert_eq!(json["format"], 1);
        let told = json["store"]["server"].as_str().unwrap();
        assert!(told.starts_with(server), "{told}");
        let row = &json["rows"][0];
        assert_eq!(
            (&row["workload"], &row["unit"]),
            (&args[0].into(), &unit.into())
        );
        let done = row["operations"].as_u64().unwrap();
        assert!(done > 0, "{row}");
        assert_eq!(operations.unwrap_or(done), done, "{row}");
        assert_eq!(row["errors"], 0, "{row}");
        assert_eq!(row["violations"], Value::Array(Vec::new()), "{row}");
        assert!(row["latency_us"]["count"].as_u64() > Some(0), "{row}");
        assert!(row["latency_us"]["max"].as_f64() >= row["latency_us"]["p50"].as_f64());
        let series = row["series"].as_array().unwrap();
        let sum: u64 = series.iter().filter_map(Value::as_u64).sum();
        assert_eq!(sum, done, "{row}");
    }
}

/// How many keys a store holds.
async fn keys(client: &Client) -> u64 {
    let all = RangeRequest::new(KeyRange::all()).count_only();
    client.store().range(all).await.unwrap().count
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_in_memory() {
    all_cases(&Home::new(), "memory:", "synod ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_on_a_server_and_nothing_stays() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    all_cases(&home, &server.url, "synod ").await;
    let client = Client::connect(&server.url).await.unwrap();
    assert_eq!(keys(&client).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_on_etcd() {
    let etcd = etcd_or_skip!(1);
    let home = Home::new();
    all_cases(&home, &etcd.url(), "etcd ").await;
    let client = Client::connect(etcd.url()).await.unwrap();
    assert_eq!(keys(&client).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_are_counted() {
    let etcd = etcd_or_skip!(3);
    let json = measured(&Home::new(), &etcd.url(), &["queue", "--items", "20"]).await;
    assert_eq!(json["store"]["nodes"], 3);
    assert_eq!(json["rows"][0]["operations"], 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_measured_and_stays_sound() {
    let home = Home::new();
    let addr = format!("file:{}", home.path("data").display());
    let json = measured(&home, &addr, &["queue", "--items", "30", "--repeats", "3"]).await;
    let rows = json["rows"].as_array().unwrap();
    let repeats: Vec<_> = rows
        .iter()
        .map(|row| row["repeat"].as_u64().unwrap())
        .collect();
    assert_eq!(repeats, [1, 2, 3]);
    assert_eq!(json["summary"][0]["repeats"], 3);
    let spread = &json["summary"][0]["per_second"];
    assert!(spread["min"].as_f64() <= spread["median"].as_f64());
    assert!(spread["median"].as_f64() <= spread["max"].as_f64());
    assert_eq!(keys(&Client::connect(&addr).await.unwrap()).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_the_work() {
    let etcd = etcd_or_skip!(1);
    let home = Home::new();
    let url = etcd.url();
    for (args, operations) in [
        (
            &[
                "queue",
                "--items",
                "90",
                "--producers",
                "3",
                "--consumers",
                "3",
            ][..],
            90,
        ),
        (
            &[
                "queue",
                "--case",
                "drain",
                "--fill-first",
                "100",
                "--consumers",
                "3",
            ],
            100,
        ),
        (
            &[
                "priority-queue",
                "--case",
                "batch",
                "--items",
                "60",
                "--batch",
                "10",
            ],
            60,
        ),
        (
            &["double-barrier", "--participants", "4", "--items", "5"],
            5,
        ),
        (&["lock", "--items", "30", "--tasks", "4"], 30),
        (&["election", "--items", "30", "--tasks", "4"], 30),
        (
            &[
                "stm",
                "--transfers",
                "10",
                "--tasks",
                "6",
                "--accounts",
                "3",
            ],
            60,
        ),
        (
            &["raw", "--case", "txn", "--items", "31", "--tasks", "3"],
            31,
        ),
    ] {
        let args = [args, &["--processes", "3"]].concat();
        let row = measured(&home, &url, &args).await["rows"][0].clone();
        assert_eq!(row["parameters"]["processes"], 3, "{row}");
        assert_eq!(row["operations"], operations, "{row}");
    }
    let client = Client::connect(&url).await.unwrap();
    assert_eq!(keys(&client).await, 0);
}

/// On a schedule, latencies count from it, and what was late is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop() {
    let home = Home::new();
    for what in [
        &["raw", "--rate", "2000", "--items", "100"][..],
        &["queue", "--rate", "2000", "--items", "100"],
        &["stm", "--rate", "1000", "--transfers", "10"],
    ] {
        let row = measured(&home, "memory:", what).await["rows"][0].clone();
        assert_eq!(row["operations"], 100, "{row}");
        assert!(row["parameters"]["rate"].is_f64(), "{row}");
        assert!(row["counters"]["late"].is_u64(), "{row}");
    }
    let text = home
        .ok(&[
            "bench", "raw", "--rate", "500", "--items", "20", "--addr", "memory:",
        ])
        .await;
    assert!(text.contains("open loop, "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_it_with_a_table_and_reports() {
    let home = Home::new();
    let args = |report: &str| {
        let line =
            format!("bench all --addr memory: --duration 100ms --fill-first 50 --report {report}");
        line.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    for (file, begin) in [("report.html", "<!DOCTYPE html>"), ("report.svg", "<svg ")] {
        let path = home.path(file);
        let args = args(path.to_str().unwrap());
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let text = measured_text(&home, &args).await;
        for words in [
            "raw/put",
            "queue/transfer",
            "double-barrier/rounds",
            "stm/bank",
            "p99",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let report = std::fs::read_to_string(&path).unwrap();
        assert!(report.starts_with(begin), "{report}");
        for words in [
            "8 workloads on synod",
            "Double barrier: rounds",
            "Throughput over time",
        ] {
            assert!(report.contains(words), "{words}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_before_anything_is_begun() {
    let home = Home::new();
    let file = format!("file:{}", home.path("data").display());
    for (args, error, words) in [
        (
            &["lock", "--producers", "2"][..],
            "`synod bench lock --case cycle` takes no --producers",
            "--tasks",
        ),
        (
            &["lock", "--case", "drain"],
            "`synod bench lock` has no case drain",
            "its cases: cycle",
        ),
        (
            &["queue", "--processes", "2", "--addr", "memory:"],
            "--processes needs a store",
            "synod serve",
        ),
        (
            &["queue", "--processes", "2", "--addr", &file],
            "--processes needs a store",
            "synod serve",
        ),
        (
            &["queue", "--report", "a.pdf"],
            "a report is a page or a picture",
            "FILE.html",
        ),
        (
            &["worker"],
            "`synod bench worker` is what",
            "lists the workloads",
        ),
    ] {
        let ran = home.run(&[&["bench"], args].concat()).await;
        ran.assert_failed(2, error, &[words]);
    }
    for args in [
        &["queue", "--producers", "0"][..],
        &["queue", "--rate", "0"],
        &["queue", "--rate", "nan"],
        &["queue", "--duration", "5"],
        &["nothing"],
        &["queue", "--cluster", "2"],
        &["queue", "--cluster", "3", "--addr", "memory:"],
    ] {
        let ran = home.run(&[&["bench"], args].concat()).await;
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
    }
    assert!(home.background().is_none() && !home.path("data").exists());
}

/// A measurement deletes what lies under its name: nobody's data may.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_under_which_there_are_keys_is_refused() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let client = Client::connect(&server.url).await.unwrap();
    client.queue("mine").enqueue("precious").await.unwrap();
    let args = [
        "bench",
        "raw",
        "--items",
        "5",
        "--addr",
        &server.url,
        "--name",
    ];
    let ran = home.run(&[&args[..], &["mine"]].concat()).await;
    ran.assert_failed(2, "there are keys under mine/ already", &["--name"]);
    home.ok(&[&args[..], &["min"]].concat()).await;
    assert_eq!(client.queue("mine").dequeue().await.unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_completed_is_a_failure() {
    let args = [
        "bench",
        "raw",
        "--addr",
        "memory:",
        "--duration",
        "1ms",
        "--rate",
        "0.5",
        "--warm-up",
        "1ms",
    ];
    let ran = Home::new().run(&args).await;
    ran.assert_failed(1, "raw/put: nothing was completed", &["--duration"]);
}

/// What fails is counted, and told with its reason.
#[tokio::test(flavor = "multi_thread")]
async fn errors_are_counted_and_the_first_is_shown() {
    let home = Home::new();
    let server = Served::start(
        &home,
        &[
            "--memory",
            "--quota-backend-bytes",
            "100000",
            "--listen",
            "127.0.0.1:0",
        ],
    )
    .await;
    let args = [
        "bench",
        "raw",
        "--items",
        "2000",
        "--value-size",
        "2000",
        "--addr",
        &server.url,
    ];
    let ran = home.run(&args).await;
    ran.assert_failed(1, "raw/put: ", &["operations failed", "space"]);
    assert!(ran.stdout.contains("raw/put"), "{ran:?}");
}

/// Whether anything of a measurement is there.
async fn under(client: &Client, name: &str) -> bool {
    let some = RangeRequest::new(KeyRange::prefix(format!("{name}/"))).count_only();
    client.store().range(some).await.unwrap().count > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_and_nothing_stays() {
    let etcd = etcd_or_skip!(1);
    let home = Home::new();
    let url = etcd.url();
    let client = Client::connect(&url).await.unwrap();
    for (number, args) in [
        &["queue"][..],
        &["queue", "--processes", "2"],
        &["priority-queue", "--case", "fill"],
        &["lock", "--processes", "2"],
        &["stm"],
        &["raw"],
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("ended-{number}");
        let all = ["bench", "--addr", &url, "--name", &name, "--duration", "5m"];
        let mut bench = home.start(&[&all[..], args].concat());
        wait::until("it is under way", || under(&client, &name)).await;
        if number % 2 == 0 {
            bench.interrupt();
            assert_eq!(bench.wait(PATIENCE).await.code(), Some(130), "{args:?}");
        } else {
            bench.terminate();
            assert_eq!(bench.wait(PATIENCE).await.code(), Some(143), "{args:?}");
        }
        assert!(!under(&client, &name).await, "{args:?}");
    }
    assert_eq!(keys(&client).await, 0);
}

/// Workers end when whoever started them is killed.
#[tokio::test(flavor = "multi_thread")]
async fn workers_do_not_outlive_whoever_started_them() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let client = Client::connect(&server.url).await.unwrap();
    let mut bench = home.start(&[
        "bench",
        "raw",
        "--addr",
        &server.url,
        "--name",
        "killed",
        "--duration",
        "5m",
        "--processes",
        "2",
        "--tasks",
        "2",
    ]);
    wait::until("it is under way", || under(&client, "killed")).await;
    bench.kill();
    // Once nobody writes any more, the revision stays where it is.
    let revision = || async { client.store().status().await.unwrap().header.revision };
    wait::until("nobody writes", || async {
        let before = revision().await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        revision().await == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_homework_in_one_line() {
    let Some(etcd) = synod_tests::etcd::binary() else {
        synod_tests::skip!("{}", synod_tests::etcd::NO_ETCD);
    };
    let home = Home::new();
    let line = "bench queue --cluster 3 --items 30 --output json";
    let mut command = home.command(&line.split(' ').collect::<Vec<_>>());
    command.env("SYNOD_ETCD", etcd);
    let ran = synod_tests::cli::finish(&mut command, b"").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["store"]["nodes"], 3);
    assert_eq!(json["rows"][0]["operations"], 30);
    let left = std::fs::read_dir(home.path("state")).unwrap();
    assert_eq!(left.count(), 0);
}
