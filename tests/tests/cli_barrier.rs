//! `synod barrier` and `synod double-barrier`: prompts on pipes and terminals, and commands for
//! scripts.

use std::future::Future;

use synod_tests::cli::{Home, Served};
use synod_tests::etcd_or_skip;
use synod_tests::prompt::{Prompt, etcd_is_watched, server_is_watched, terminal, watchers};
use synod_tests::wait::PATIENCE;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

const BARRIER: &str = "my-test-barrier> ";
const DOUBLE_BARRIER: &str = "my-test-double-barrier> ";

#[tokio::test(flavor = "multi_thread")]
async fn the_prompts_answer_in_these_words() {
    let home = Home::new();
    let ran = home
        .run_with(&["barrier"], b"hold\nrelease\nwait\nhold x\nfoo\nquit\n")
        .await;
    assert_eq!(
        ran.stdout,
        "hold\nreleased\nafter wait\nhold takes no value\nunknown action\n"
    );
    assert_eq!(ran.code, Some(2), "some lines could not be run");
    let double = ["double-barrier", "-c", "1"];
    let ran = home
        .run_with(&double, b"enter\nleave\nenter\nleave\nleave x\nfoo\nquit\n")
        .await;
    assert_eq!(
        ran.stdout,
        "enter\nleave\nenter\nleave\nleave takes no value\nunknown action\n"
    );
    assert_eq!(ran.code, Some(2), "some lines could not be run");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_json_name_what_was_done() {
    let home = Home::new();
    let json = ["barrier", "--addr", "memory:", "--output", "json"];
    let ran = home.run_with(&json, b"hold\nrelease\nwait\n").await;
    assert_eq!(
        ran.stdout,
        "{\"held\":true}\n{\"released\":true}\n{\"waited\":true}\n"
    );
    let json = [
        "double-barrier",
        "-c",
        "1",
        "--addr",
        "memory:",
        "--output",
        "json",
    ];
    let ran = home.run_with(&json, b"enter\nleave\n").await;
    assert_eq!(ran.stdout, "{\"entered\":true}\n{\"left\":true}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_hold_says_who_holds() {
    let home = Home::new();
    home.ok(&["barrier", "hold"]).await;
    let ran = home.run(&["barrier", "hold"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let holder = format!("{}/", rustix::system::uname().nodename().to_string_lossy());
    for word in ["cannot hold the barrier", "is held by", &holder] {
        assert!(ran.stderr.contains(word), "{word}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_for_scripts() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let addr = ["--addr", server.url.as_str(), "--name", "gate"];
    let run = async |args: &[&str]| {
        let args: Vec<&str> = ["barrier"]
            .iter()
            .chain(args)
            .chain(&addr)
            .copied()
            .collect();
        home.run(&args).await
    };
    let ok = async |args: &[&str]| {
        let ran = run(args).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
        ran.stdout
    };
    assert_eq!(ok(&["wait"]).await, "after wait\n");
    assert_eq!(ok(&["hold"]).await, "hold\n");
    let ran = run(&["wait", "--timeout", "50ms"]).await;
    ran.assert_failed(4, "the barrier gate was not released within 50ms", &[]);
    assert_eq!(ok(&["release"]).await, "released\n");
    assert_eq!(ok(&["release"]).await, "released\n");
    assert_eq!(ok(&["--go", "release"]).await, "released\n");
    assert_eq!(ok(&["release", "--go"]).await, "released\n");
    for args in [["wait", "--go"], ["hold", "--go"]] {
        let ran = run(&args).await;
        ran.assert_failed(2, "--go says how to release", &["barrier release --go"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_can_end_with_its_process() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let addr = ["--addr", server.url.as_str()];
    let wait = ["barrier", "wait", "--timeout", "0s", addr[0], addr[1]];
    for go in [&[][..], &["--go"]] {
        // While a command runs: it finds the barrier held, and its exit code is passed on.
        let inside = format!(
            "{} barrier hold --addr {}; echo $?; exit 7",
            synod_tests::cli::program().display(),
            server.url
        );
        let mut args = vec!["barrier", addr[0], addr[1]];
        args.extend(go);
        args.extend(["hold", "--", "sh", "-c", &inside]);
        let ran = home.run(&args).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), "1\n"), "{ran:?}");
        assert_eq!(home.ok(&wait).await, "after wait\n");
    }
    // Until Ctrl-C.
    let mut holder = Prompt::start(&home, &["barrier", "hold", "--ttl", "5s", addr[0], addr[1]]);
    assert_eq!(holder.answer().await, "hold");
    assert_eq!(home.run(&wait).await.code, Some(4));
    holder.process().interrupt();
    assert_eq!(holder.code().await, Some(130));
    assert_eq!(home.ok(&wait).await, "after wait\n");
    // Until its death, and a little longer.
    let mut holder = Prompt::start(&home, &["barrier", "hold", "--ttl", "2s", addr[0], addr[1]]);
    assert_eq!(holder.answer().await, "hold");
    holder.process().kill();
    let wait = ["barrier", "wait", "--timeout", "30s", addr[0], addr[1]];
    assert_eq!(home.ok(&wait).await, "after wait\n");
}

/// Two terminals: the second one's `wait` blocks until the first one's `release`.
fn barrier_on_terminals<F: Future<Output = ()>>(
    home: &Home,
    args: &[&str],
    runtime: &Handle,
    blocked: impl Fn() -> F,
) {
    let args: Vec<&str> = ["barrier"].iter().chain(args).copied().collect();
    let mut first = terminal(home.command(&args));
    first.exp_string(BARRIER).unwrap();
    let mut second = terminal(home.command(&args));
    second.exp_string(BARRIER).unwrap();

    first.send_line("hold").unwrap();
    first.exp_string("\r\nhold\r\n").unwrap();
    first.exp_string(BARRIER).unwrap();
    second.send_line("hold").unwrap();
    second.exp_string("is held by").unwrap();
    second.exp_string(BARRIER).unwrap();
    second.send_line("wait").unwrap();
    runtime.block_on(blocked());

    // Ctrl-C ends a wait, and the prompt stays.
    second.send_control('c').unwrap();
    second.exp_string(BARRIER).unwrap();
    second.send_line("wait").unwrap();
    runtime.block_on(blocked());
    first.send_line("release").unwrap();
    first.exp_string("\r\nreleased\r\n").unwrap();
    second.exp_string("\r\nafter wait\r\n").unwrap();
    for mut session in [first, second] {
        session.send_line("quit").unwrap();
        session.exp_eof().unwrap();
    }
}

/// Two terminals: the first one's `enter` and `leave` block until the second one's.
fn double_barrier_on_terminals<F: Future<Output = ()>>(
    home: &Home,
    args: &[&str],
    runtime: &Handle,
    blocked: impl Fn() -> F,
) {
    let command = ["double-barrier", "-c", "2"];
    let args: Vec<&str> = command.iter().chain(args).copied().collect();
    let mut first = terminal(home.command(&args));
    first.exp_string(DOUBLE_BARRIER).unwrap();
    let mut second = terminal(home.command(&args));
    second.exp_string(DOUBLE_BARRIER).unwrap();
    for round in 0..2 {
        first.send_line("enter").unwrap();
        runtime.block_on(blocked());
        if round == 0 {
            // Ctrl-C bows out, and the next one counts.
            first.send_control('c').unwrap();
            first.exp_string(DOUBLE_BARRIER).unwrap();
            first.send_line("enter").unwrap();
            runtime.block_on(blocked());
        }
        second.send_line("enter").unwrap();
        first.exp_string("\r\nenter\r\n").unwrap();
        second.exp_string("\r\nenter\r\n").unwrap();
        first.send_line("leave").unwrap();
        runtime.block_on(blocked());
        second.send_line("leave").unwrap();
        first.exp_string("\r\nleave\r\n").unwrap();
        second.exp_string("\r\nleave\r\n").unwrap();
    }
    for mut session in [first, second] {
        session.send_line("quit").unwrap();
        session.exp_eof().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_block_and_go_on_on_the_embedded_store() {
    let runtime = Handle::current();
    spawn_blocking(move || {
        let home = Home::new();
        barrier_on_terminals(&home, &[], &runtime, || server_is_watched(&home, &[]));
        double_barrier_on_terminals(&home, &[], &runtime, || server_is_watched(&home, &[]));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_block_and_go_on_on_three_nodes() {
    let etcd = etcd_or_skip!(3);
    let before = watchers(&etcd).await;
    let runtime = Handle::current();
    spawn_blocking(move || {
        let home = Home::new();
        let url = etcd.url();
        let addr = ["--addr", url.as_str()];
        barrier_on_terminals(&home, &addr, &runtime, || etcd_is_watched(&etcd, before));
        double_barrier_on_terminals(&home, &addr, &runtime, || etcd_is_watched(&etcd, before));
        let go = ["--addr", url.as_str(), "--go", "--name", "with-go"];
        let mut first = Prompt::start(&home, &[&["double-barrier", "-c", "2"], &go[..]].concat());
        let mut second = Prompt::start(&home, &[&["double-barrier", "-c", "2"], &go[..]].concat());
        runtime.block_on(async {
            for word in ["enter", "leave"] {
                first.say(word);
                etcd_is_watched(&etcd, before).await;
                second.say(word);
                assert_eq!(first.answer().await, word);
                assert_eq!(second.answer().await, word);
            }
            first.quit().await;
            second.quit().await;
        });
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_between_entering_and_leaving() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let log = home.path("log");
    let part = |number: u32| {
        let line = format!(
            "echo in >> {0}; while [ $(grep -c in {0}) -lt 3 ]; do sleep 0.01; done; exit {number}",
            log.display()
        );
        let args = ["double-barrier", "-c", "3", "--addr", &server.url];
        let command = ["--", "sh", "-c", &line];
        home.start(&[&args[..], &command].concat())
    };
    let mut parts: Vec<_> = (0..3).map(part).collect();
    for (number, part) in (0..).zip(&mut parts) {
        assert_eq!(part.wait(PATIENCE).await.code(), Some(number));
    }
    // The others do not come.
    let args = [
        "double-barrier",
        "-c",
        "3",
        "--timeout",
        "100ms",
        "--addr",
        &server.url,
        "--",
        "touch",
        log.to_str().unwrap(),
    ];
    std::fs::remove_file(&log).unwrap();
    let ran = home.run(&args).await;
    ran.assert_failed(4, "not all 3 have entered my-test-double-barrier", &[]);
    assert!(!log.exists(), "the command was not run");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_must_agree_on_the_count() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let addr = ["--addr", server.url.as_str()];
    let mut first = Prompt::start(&home, &["double-barrier", "-c", "2", addr[0], addr[1]]);
    first.say("enter");
    server_is_watched(&home, &addr).await;
    let ran = home
        .run_with(&["double-barrier", "-c", "3", addr[0], addr[1]], b"enter\n")
        .await;
    ran.assert_failed(1, "cannot enter", &["count 2", "3 was asked for"]);
    let ran = home.run(&["double-barrier", addr[0], addr[1]]).await;
    assert_eq!(ran.code, Some(2));
}
