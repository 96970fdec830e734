//! `synod elect --listen`, and locks and elections shared with `etcdctl`.

use std::process::Command;

use synod_tests::cli::{Home, Served, finish, program};
use synod_tests::etcd::{EtcdConfig, etcdctl_binary};
use synod_tests::etcd_or_skip;
use synod_tests::prompt::Prompt;
use synod_tests::wait;

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_sees_leaders_come_and_go() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let addr = ["--addr", server.url.as_str()];
    let mut listener = Prompt::start(&home, &["elect", "x", "--listen", addr[0], addr[1]]);
    let json = [
        "elect", "x", "--listen", "--output", "json", addr[0], addr[1],
    ];
    let mut json = Prompt::start(&home, &json);
    assert_eq!(listener.answer().await, "no leader");
    assert_eq!(json.answer().await, "{\"leader\":null}");
    for value in ["one", "two"] {
        let mut leader = Prompt::start(&home, &["elect", "x", value, addr[0], addr[1]]);
        let key = leader.answer().await;
        assert_eq!(leader.answer().await, value);
        assert_eq!(listener.answer().await, key);
        assert_eq!(listener.answer().await, value);
        let event: serde_json::Value = serde_json::from_str(&json.answer().await).unwrap();
        assert_eq!(event["leader"]["key"], key);
        assert_eq!(event["leader"]["value"], value);
        leader.process().terminate();
        assert_eq!(leader.code().await, Some(143));
        assert_eq!(listener.answer().await, "no leader");
        assert_eq!(json.answer().await, "{\"leader\":null}");
    }
    listener.process().interrupt();
    assert_eq!(listener.code().await, Some(130));
    let ran = home.run(&["elect", "x"]).await;
    assert_eq!(ran.code, Some(2), "a value or --listen: {ran:?}");
}

/// `etcdctl lock` and `etcdctl elect` wait for these commands, and these for them.
#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_and_synod_exclude_each_other() {
    let etcd = etcd_or_skip!(EtcdConfig::new());
    let Some(etcdctl) = etcdctl_binary() else {
        synod_tests::skip!("no etcdctl beside etcd");
    };
    let home = Home::new();
    let url = etcd.url();
    let etcdctl = |args: &[&str]| {
        let mut command = Command::new(&etcdctl);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &url])
            .args(args)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command
    };
    // etcdctl finds the lock held, and gets it when it is released.
    let inside = home.path("inside");
    let mut holder = Prompt::start(&home, &["lock", "x", "--addr", &url]);
    let key = holder.answer().await;
    assert!(key.starts_with("x/"));
    let mut touch = etcdctl(&["lock", "x", "touch", inside.to_str().unwrap()]);
    let waiting = tokio::spawn(async move { finish(&mut touch, b"").await });
    wait::until("etcdctl stands in line", || async {
        home.ok(&[
            "txn",
            "--then",
            "get x/ --prefix --keys-only",
            "--addr",
            &url,
        ])
        .await
        .matches("x/")
        .count()
            == 2
    })
    .await;
    assert!(!inside.exists());
    holder.process().interrupt();
    assert_eq!(holder.code().await, Some(130));
    let ran = waiting.await.unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(inside.exists());
    // And the other way round.
    let line = format!(
        "{} lock x --try --addr {url} -- true; echo $?",
        program().display()
    );
    let ran = finish(&mut etcdctl(&["lock", "x", "--", "sh", "-c", &line]), b"").await;
    assert_eq!(ran.stdout, "4\n", "{ran:?}");
    // A leader of ours is what etcdctl sees.
    let mut leader = Prompt::start(&home, &["elect", "y", "ours", "--addr", &url]);
    let key = leader.answer().await;
    let mut listener = etcdctl(&["elect", "--listen", "y"]);
    let mut listener = synod_tests::process::Process::spawn(&mut listener, None).unwrap();
    let stdout = listener.child().stdout.take().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        use std::io::BufRead;
        let mut lines = std::io::BufReader::new(stdout).lines();
        [
            lines.next().unwrap().unwrap(),
            lines.next().unwrap().unwrap(),
        ]
    });
    let seen = wait::soon("etcdctl sees the leader", reading)
        .await
        .unwrap();
    assert_eq!(seen, [key, "ours".to_owned()]);
    leader.process().interrupt();
    assert_eq!(leader.code().await, Some(130));
}
