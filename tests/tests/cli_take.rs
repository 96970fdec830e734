//! `synod queue take --exec` and the dead letters, on both kinds of queues.

use rustix::process::{Pid, Signal, kill_process};
use synod_tests::cli::{Home, Served};
use synod_tests::etcd_or_skip;
use synod_tests::prompt::Prompt;
use synod_tests::wait;

/// A home with a server that keeps nothing.
async fn served() -> (Home, Served) {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    (home, server)
}

fn exists(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_decides_what_becomes_of_an_item() {
    let (home, server) = served().await;
    for queue in ["queue", "pq"] {
        let addr = ["--addr", server.url.as_str()];
        let run = async |args: &[&str]| home.run(&[&[queue], args, &addr].concat()).await;
        let ok = async |args: &[&str]| {
            let ran = run(args).await;
            assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
            ran.stdout
        };
        let push = ["push", "the item", "1"];
        ok(push.get(..if queue == "pq" { 3 } else { 2 }).unwrap()).await;

        // It fails: the item is there again, and the code is passed on.
        let show =
            "echo \"$SYNOD_ITEM_ATTEMPT $(cat)\"; test -n \"$SYNOD_ITEM_KEY\" || exit 9; exit 3";
        let ran = run(&["take", "--exec", show]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "1 the item\n"));
        assert_eq!(ok(&["len"]).await, "1\n");

        // Once more, and in JSON.
        let json = run(&["take", "--exec", "exit 1", "--output", "json"]).await;
        let object: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(object["attempt"], 2);
        assert_eq!(
            (&object["code"], &object["outcome"]),
            (&1.into(), &"nacked".into())
        );

        // It succeeds: the item is gone.
        let ran = ok(&["take", "--exec", "echo \"$SYNOD_ITEM_ATTEMPT $(cat)\""]).await;
        assert_eq!(ran, "3 the item\n");
        assert_eq!(ok(&["len"]).await, "0\n");
        let ran = run(&["take", "--timeout", "0s", "--exec", "true"]).await;
        ran.assert_failed(4, "nothing came into my-test-", &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_fails_too_often_is_put_aside() {
    let (home, server) = served().await;
    for queue in ["queue", "pq"] {
        let addr = ["--addr", server.url.as_str()];
        let run = async |args: &[&str]| home.run(&[&[queue], args, &addr].concat()).await;
        let ok = async |args: &[&str]| {
            let ran = run(args).await;
            assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
            ran.stdout
        };
        let push = ["push", "bad", "1"];
        let push = push.get(..if queue == "pq" { 3 } else { 2 }).unwrap();
        ok(push).await;
        let fail = ["take", "--max-attempts", "2", "--exec", "exit 1"];
        assert_eq!(run(&fail).await.code, Some(1));
        assert_eq!(ok(&["dead", "list"]).await, "");
        assert_eq!(run(&fail).await.code, Some(1));
        assert_eq!(ok(&["len"]).await, "0\n");
        assert_eq!(ok(&["dead", "list"]).await, "bad\n");

        let list = ok(&["dead", "list", "--output", "json"]).await;
        let letter: serde_json::Value = serde_json::from_str(&list).unwrap();
        assert_eq!(letter["attempts"], 2);
        assert!(letter["item"].as_str().unwrap().starts_with("my-test-"));
        let key = letter["key"].as_str().unwrap();
        assert_eq!(ok(&["dead", "requeue", key]).await, "1\n");
        run(&["dead", "requeue", key])
            .await
            .assert_failed(4, key, &["is no dead letter"]);
        let ran = run(&["dead", "requeue", "other"]).await;
        ran.assert_failed(2, "cannot put back", &["is not the key of a dead letter"]);
        assert_eq!(ok(&["dead", "list"]).await, "");
        // Its attempts are counted from the beginning.
        let ran = run(&[
            "take",
            "--max-attempts",
            "1",
            "--exec",
            "exit $SYNOD_ITEM_ATTEMPT",
        ])
        .await;
        assert_eq!(ran.code, Some(1));
        assert_eq!(ok(&["dead", "requeue"]).await, "1\n");
        assert_eq!(
            run(&["take", "--max-attempts", "1", "--exec", "exit 1"])
                .await
                .code,
            Some(1)
        );
        assert_eq!(ok(&["dead", "clear"]).await, "1\n");
        assert_eq!(ok(&["dead", "clear"]).await, "0\n");
        assert_eq!(ok(&["len"]).await, "0\n");
    }
}

/// A taker is killed between `take` and `ack`.
async fn killed_between_take_and_ack(home: &Home, url: &str) {
    let addr = ["--addr", url];
    home.ok(&["queue", "push", "kept", addr[0], addr[1]]).await;
    let take = ["queue", "take", "--visibility", "2s", "--exec"];
    for attempt in 1..=2 {
        let line = "echo \"$SYNOD_ITEM_ATTEMPT $$\"; exec sleep 600";
        let mut taker = Prompt::start(home, &[&take[..], &[line], &addr].concat());
        let answer = taker.answer().await;
        let (counted, pid) = answer.split_once(' ').unwrap();
        assert_eq!(counted.parse(), Ok(attempt));
        taker.process().kill();
        // Nobody is left who could end the command.
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
    // It is delivered again as soon as nothing was heard for so long.
    let line = "echo \"$SYNOD_ITEM_ATTEMPT $(cat)\"";
    let again = home.ok(&[&take[..], &[line], &addr].concat()).await;
    assert_eq!(again, "3 kept\n");
    assert_eq!(home.ok(&["queue", "len", addr[0], addr[1]]).await, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_taker_had_is_delivered_again() {
    let (home, server) = served().await;
    killed_between_take_and_ack(&home, &server.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_taker_had_is_delivered_again_on_three_nodes() {
    let etcd = etcd_or_skip!(3);
    killed_between_take_and_ack(&Home::new(), &etcd.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_goes_to_the_command_and_the_item_goes_back() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    home.ok(&["queue", "push", "kept", addr[0], addr[1]]).await;
    let take = ["queue", "take", "--follow", addr[0], addr[1], "--exec"];
    for (terminate, code) in [(false, 130), (true, 143)] {
        // A shell with a child: both are ended.
        let line = "sleep 600 & echo $!; wait; exit 0";
        let mut taker = Prompt::start(&home, &[&take[..], &[line]].concat());
        let sleeper: i32 = taker.answer().await.parse().unwrap();
        if terminate {
            taker.process().terminate();
        } else {
            // A shell gives a child in the background no Ctrl-C: the shell ends, and it stays.
            taker.process().interrupt();
        }
        assert_eq!(taker.code().await, Some(code));
        if terminate {
            wait::until("the sleeper is gone", || async { !exists(sleeper) }).await;
        } else if let Some(pid) = Pid::from_raw(sleeper) {
            let _ = kill_process(pid, Signal::KILL);
        }
        assert_eq!(home.ok(&["queue", "len", addr[0], addr[1]]).await, "1\n");
    }
    // A command that has done its work all the same has done it.
    let line = "trap 'exit 0' INT; echo ready; while :; do sleep 0.01; done";
    let mut taker = Prompt::start(&home, &[&take[..], &[line]].concat());
    assert_eq!(taker.answer().await, "ready");
    taker.process().interrupt();
    assert_eq!(taker.code().await, Some(130));
    assert_eq!(home.ok(&["queue", "len", addr[0], addr[1]]).await, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_command_keeps_its_item() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    home.ok(&["queue", "push", "kept", addr[0], addr[1]]).await;
    // Twice as long as the bound, in which another one looks for items all the time.
    let log = home.path("done");
    let slow = format!("echo begun; sleep 13; touch {}", log.display());
    let mut taker = Prompt::start(
        &home,
        &[
            "queue",
            "take",
            "--visibility",
            "6s",
            addr[0],
            addr[1],
            "--exec",
            &slow,
        ],
    );
    assert_eq!(taker.answer().await, "begun");
    while taker.process().is_running() {
        let take = ["queue", "take", "--timeout", "500ms", addr[0], addr[1]];
        let ran = home.run(&[&take[..], &["--exec", "true"]].concat()).await;
        assert_eq!(ran.code, Some(4), "{ran:?}");
    }
    assert_eq!(taker.code().await, Some(0));
    assert!(log.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_items_are_taken_one_after_the_other() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    home.ok(&["queue", "push", "1", "0", "2", addr[0], addr[1]])
        .await;
    let ran = home
        .run(&[
            "queue",
            "take",
            "--count",
            "3",
            "--exec",
            "exit $(cat)",
            addr[0],
            addr[1],
        ])
        .await;
    assert_eq!(ran.code, Some(1), "that of the first that failed: {ran:?}");
    let ran = home
        .run(&[
            "queue",
            "take",
            "--follow",
            "--timeout",
            "300ms",
            "--exec",
            "cat",
            addr[0],
            addr[1],
        ])
        .await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "12"), "{ran:?}");
    // One that cannot be run at all does not go through the whole queue.
    home.ok(&["queue", "push", "a", "b", addr[0], addr[1]])
        .await;
    let ran = home
        .run(&[
            "queue",
            "take",
            "--follow",
            "--exec",
            "/nonexistent/command",
            addr[0],
            addr[1],
        ])
        .await;
    assert_eq!(ran.code, Some(127));
    assert!(ran.stderr.contains("the command cannot be run"), "{ran:?}");
    assert_eq!(home.ok(&["queue", "len", addr[0], addr[1]]).await, "2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_go_in_later_once_and_not_too_many() {
    let (home, server) = served().await;
    for queue in ["queue", "pq"] {
        let addr = ["--addr", server.url.as_str()];
        let run = async |args: &[&str]| home.run(&[&[queue], args, &addr].concat()).await;
        let push = async |value: &str, how: &[&str]| {
            let args = ["push", value, "1"];
            let args = args.get(..if queue == "pq" { 3 } else { 2 }).unwrap();
            run(&[args, how].concat()).await
        };
        assert_eq!(push("a", &["--id", "x"]).await.code, Some(0));
        let again = push("b", &["--id", "x", "--output", "json"]).await;
        assert_eq!(
            (again.code, again.stdout.as_str()),
            (Some(0), "{\"pushed\":0}\n")
        );
        assert!(again.stderr.contains("was pushed before"), "{again:?}");
        let full = push("c", &["--capacity", "1"]).await;
        full.assert_failed(1, "cannot push to my-test-", &["is full", "--capacity"]);
        assert_eq!(run(&["pop"]).await.stdout, "a\n");

        let long = ["--delay", "60s", "--name", "long"];
        assert_eq!(push("later", &long).await.code, Some(0));
        let now = run(&["pop", "--name", "long", "--timeout", "0s"]).await;
        assert_eq!(now.code, Some(4), "{now:?}");
        assert_eq!(push("late", &["--delay", "1s"]).await.code, Some(0));
        assert_eq!(run(&["pop"]).await.stdout, "late\n");
    }
    let ran = home
        .run(&[
            "queue",
            "push",
            "a",
            "b",
            "--id",
            "x",
            "--addr",
            &server.url,
        ])
        .await;
    ran.assert_failed(2, "--id names a single value", &[]);
}
