//! The server on this machine that nobody had to set up: started when it is needed, once; shown by
//! `synod status`, ended by `synod stop`, and never mistaken for another.

use std::net::TcpListener;

use serde_json::Value;
use synod_tests::cli::{Home, Served};
use synod_tests::etcd_or_skip;
use synod_tests::wait;

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no object: {text:?}"))
}

fn exists(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}/exe")).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_when_needed_and_keeps_its_data() {
    let home = Home::new();
    let ran = home.run(&["queue", "push", "a"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    let pid = home.background().expect("it wrote its state");
    for part in [
        "started the synod ".to_owned(),
        format!("http://127.0.0.1:{}", home.port()),
        format!("pid {pid}"),
        home.data().display().to_string(),
        "`synod stop` ends it".to_owned(),
    ] {
        assert!(ran.stderr.contains(&part), "{part}: {ran:?}");
    }

    // The next one uses it, and names it.
    let ran = home.run(&["queue", "len"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"));
    assert!(ran.stderr.starts_with("using the synod "), "{ran:?}");
    assert_eq!(home.background(), Some(pid));

    let stopped = home.run(&["stop"]).await;
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!(
        stopped.stdout.contains(&format!("pid {pid}")),
        "{stopped:?}"
    );
    assert!(!home.state().exists(), "it removes its state");

    assert_eq!(home.ok(&["queue", "pop"]).await, "a\n");
    assert_ne!(home.background(), Some(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_start_at_the_same_moment_end_up_on_one_server() {
    for _ in 0..5 {
        let home = Home::new();
        let (first, second, third) = tokio::join!(
            home.run(&["queue", "push", "1"]),
            home.run(&["queue", "push", "2"]),
            home.run(&["queue", "push", "3"]),
        );
        let all = [&first, &second, &third];
        assert!(all.iter().all(|ran| ran.code == Some(0)), "{all:?}");
        let started = |ran: &&&synod_tests::cli::Ran| ran.stderr.starts_with("started ");
        assert_eq!(all.iter().filter(started).count(), 1, "{all:?}");
        let pid = home.background().unwrap().to_string();
        assert!(all.iter().all(|ran| ran.stderr.contains(&pid)), "{all:?}");
        let listed = home.ok(&["queue", "list"]).await;
        let mut items: Vec<&str> = listed.lines().collect();
        items.sort_unstable();
        assert_eq!(items, ["1", "2", "3"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_what_runs_and_starts_nothing() {
    let home = Home::new();
    let ran = home.run(&["status"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("hint: nothing runs here"), "{ran:?}");
    assert_eq!(home.background(), None);

    home.ok(&["queue", "push", "a"]).await;
    let text = home.ok(&["status"]).await;
    let pid = home.background().unwrap();
    for part in [
        format!("(pid {pid})"),
        format!("http://127.0.0.1:{}", home.port()),
        format!("data        {}", home.data().display()),
        "revision    ".to_owned(),
        "size        ".to_owned(),
        "clients     ".to_owned(),
        "watchers    0".to_owned(),
        "alarms      none".to_owned(),
        format!("server-{}.log", home.port()),
    ] {
        assert!(text.contains(&part), "{part} is not in\n{text}");
    }

    let status = object(&home.ok(&["status", "--output", "json"]).await);
    assert_eq!(status["server"], "synod");
    assert_eq!(status["pid"], pid);
    assert_eq!(status["data"], home.data().display().to_string());
    assert!(status["revision"].as_i64().unwrap() > 1);
    assert!(status["db_size"].as_u64().unwrap() > 0);
    assert!(status["connections"].as_u64().unwrap() >= 1);
    assert_eq!(status["alarms"], Value::Array(Vec::new()));
    assert!(status["member_id"].as_u64().unwrap() != 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_nothing_but_the_server_in_the_background() {
    let home = Home::new();
    let ran = home.run(&["stop"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("no server runs in the background"));

    // One that somebody started in the foreground.
    let listen = format!("127.0.0.1:{}", home.port());
    let mut server = Served::start(&home, &["--memory", "--listen", &listen]).await;
    let ran = home.run(&["stop"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr.contains("was not started in the background"),
        "{ran:?}"
    );

    // A state file that names another process than the one that answers.
    let bystander = home.start(&["queue", "pop", "--addr", &server.url]);
    std::fs::create_dir_all(home.state().parent().unwrap()).unwrap();
    let state = serde_json::json!({
        "pid": bystander.pid(), "address": server.url, "data": "", "version": "0",
    });
    std::fs::write(home.state(), state.to_string()).unwrap();
    let ran = home.run(&["stop"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(exists(bystander.pid()) && server.process().is_running());

    // A state file that a killed server has left, whose number belongs to a bystander by now.
    assert_eq!(server.stop().await, Some(0));
    let ran = home.run(&["stop"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(exists(bystander.pid()), "a bystander is left alone");
    assert!(!home.state().exists(), "a stale state is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_replaced_and_nothing_is_lost() {
    let home = Home::new();
    home.ok(&["queue", "push", "a"]).await;
    let pid = home.background().unwrap();
    let killed = rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    );
    assert_eq!(killed, Ok(()));
    wait::until("nothing listens", || async {
        home.run(&["status"]).await.code == Some(3)
    })
    .await;
    assert_eq!(home.ok(&["queue", "pop"]).await, "a\n");
    assert_ne!(home.background(), Some(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_was_given_starts_nothing() {
    let home = Home::new();
    let addr = format!("127.0.0.1:{}", home.port());
    let ran = home.run(&["queue", "len", "--addr", &addr]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    for variable in ["SYNOD_ADDR", "ETCDCTL_ENDPOINTS"] {
        let mut command = home.command(&["queue", "len"]);
        command.env(variable, &addr);
        let ran = synod_tests::cli::finish(&mut command, b"").await;
        assert_eq!(ran.code, Some(3), "{variable}: {ran:?}");
        assert!(ran.stderr.contains(variable), "{ran:?}");
    }
    let mut command = home.command(&["queue", "len"]);
    command.env("SYNOD_USER", "root:secret");
    assert_eq!(
        synod_tests::cli::finish(&mut command, b"").await.code,
        Some(3)
    );
    assert_eq!(home.background(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_etcd_is_not_used() {
    let home = Home::new();
    // Accepts, and answers nothing but the end.
    let stranger = TcpListener::bind(("127.0.0.1", home.port())).unwrap();
    std::thread::spawn(move || while stranger.accept().is_ok() {});
    let ran = home.run(&["queue", "len"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.stderr.contains("does not answer as etcd does"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("SYNOD_LOCAL_PORT"), "{ran:?}");
    let ran = home.run(&["status"]).await;
    ran.assert_failed(3, "cannot reach ", &["may be no etcd", "SYNOD_LOCAL_PORT"]);
    assert_eq!(home.background(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_at_the_port_is_used_and_named() {
    let etcd = etcd_or_skip!();
    let home = Home::new();
    let port = etcd.url().rsplit(':').next().unwrap().to_owned();
    let mut command = home.command(&["queue", "len"]);
    command.env("SYNOD_LOCAL_PORT", &port);
    let ran = synod_tests::cli::finish(&mut command, b"").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "0\n"), "{ran:?}");
    assert!(ran.stderr.starts_with("using the etcd 3."), "{ran:?}");
    let status = home
        .ok(&["status", "--addr", &etcd.url(), "--output", "json"])
        .await;
    assert_eq!(object(&status)["server"], "etcd");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_start_shows_why() {
    let home = Home::new();
    // Another has the data.
    let _other = Served::start(
        &home,
        &[
            "--data",
            home.data().to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
        ],
    )
    .await;
    let ran = home.run(&["queue", "len"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.stderr
            .starts_with("error: the server in the background did not start")
    );
    assert!(ran.stderr.contains("cannot open the data in"), "{ran:?}");
    assert!(ran.stderr.contains(".log"), "{ran:?}");
}
