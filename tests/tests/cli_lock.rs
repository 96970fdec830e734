//! `synod lock`, `rwlock`, `semaphore` and `elect`: commands that run while something is held. What
//! is the election's alone, and how all of it goes with `etcdctl`: `cli_elect`.

use std::path::Path;

use synod_store::{LeaseId, Store};
use synod_tests::cli::{Home, Ran, Served, program};
use synod_tests::etcd_or_skip;
use synod_tests::prompt::Prompt;
use synod_tests::wait;

async fn served() -> (Home, Served) {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    (home, server)
}

/// What ends with this holds it for others: each with what names it before `--`.
const HOLDERS: [&[&str]; 5] = [
    &["lock", "x"],
    &["rwlock", "x", "--write"],
    &["rwlock", "x", "--read"],
    &["semaphore", "x", "--permits", "1"],
    &["elect", "x", "me"],
];

async fn run(home: &Home, url: &str, parts: &[&[&str]]) -> Ran {
    let args: Vec<&str> = parts.concat();
    let split = args
        .iter()
        .position(|arg| *arg == "--")
        .unwrap_or(args.len());
    let (before, after) = args.split_at(split);
    home.run(&[before, &["--addr", url], after].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_is_that_of_the_command() {
    let (home, server) = served().await;
    for holder in HOLDERS {
        for (line, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
            let ran = run(&home, &server.url, &[holder, &["--", "sh", "-c", line]]).await;
            assert_eq!(
                (ran.code, ran.stderr.as_str()),
                (Some(code), ""),
                "{holder:?}"
            );
        }
        let ran = run(&home, &server.url, &[holder, &["--", "/nonexistent"]]).await;
        ran.assert_failed(127, "cannot run /nonexistent", &["No such file"]);
        let ran = run(&home, &server.url, &[holder, &["--", "/"]]).await;
        ran.assert_failed(126, "cannot run /", &["denied"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_knows_its_key_and_a_token_that_rises() {
    let (home, server) = served().await;
    let mut last = 0;
    for holder in HOLDERS {
        let kind = match holder[0] {
            "lock" | "rwlock" => "LOCK",
            "semaphore" => "SEMAPHORE",
            _ => "ELECTION",
        };
        let line = format!("echo $SYNOD_{kind}_KEY $SYNOD_{kind}_TOKEN");
        let ran = run(&home, &server.url, &[holder, &["--", "sh", "-c", &line]]).await;
        let (key, token) = ran
            .stdout
            .trim()
            .split_once(' ')
            .expect("a key and a token");
        assert!(key.contains("x/"), "{key}");
        let token: u64 = token.parse().unwrap();
        assert!(token > last, "{holder:?}: {token} after {last}");
        last = token;
    }
    let line = "test $ETCD_LOCK_KEY = $SYNOD_LOCK_KEY && test $ETCD_LOCK_REV = $SYNOD_LOCK_TOKEN";
    let ran = run(&home, &server.url, &[HOLDERS[0], &["--", "sh", "-c", line]]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_have_it_now_learns_who_has_it() {
    let (home, server) = served().await;
    for holder in HOLDERS {
        let mut first = Prompt::start(&home, &[holder, &["--addr", &server.url]].concat());
        let key = first.answer().await;
        assert!(key.contains("x/"), "{key}");
        let other: &[&str] = match holder[2..] {
            ["--read"] => HOLDERS[1],
            _ => holder,
        };
        let pid = first.process().pid().to_string();
        let words: &[&str] = match holder[0] {
            "semaphore" => &["0 of 1 permits are free"],
            "elect" => &["me leads", &key],
            _ => &[&pid, &key],
        };
        for (wait, error) in [
            (&["--try"][..], "cannot have "),
            (&["--timeout", "0s"], "cannot have "),
            (&["--timeout", "100ms"], "could not have "),
        ] {
            let touched = home.path("touched");
            let touch = ["--", "touch", touched.to_str().unwrap()];
            let ran = run(&home, &server.url, &[other, wait, &touch]).await;
            ran.assert_failed(4, error, words);
            assert!(!touched.exists(), "the command was not run");
        }
        // Ctrl-C releases it at once.
        first.process().interrupt();
        assert_eq!(first.code().await, Some(130));
        let ran = run(&home, &server.url, &[other, &["--try", "--", "true"]]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let ran = run(
        &home,
        &server.url,
        &[HOLDERS[0], &["--try", "--timeout", "1s"]],
    )
    .await;
    ran.assert_failed(2, "--try does not wait", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_under_one_lock_do_not_overlap() {
    let (home, server) = served().await;
    let log = home.path("log");
    let line = format!("echo in >> {0}; sleep 0.02; echo out >> {0}", log.display());
    let args = ["lock", "x", "--addr", &server.url, "--", "sh", "-c", &line];
    let mut all: Vec<_> = (0..8).map(|_| home.start(&args)).collect();
    for process in &mut all {
        assert!(process.wait(wait::PATIENCE).await.success());
    }
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log, "in\nout\n".repeat(8));
}

/// A process, as its number says.
fn exists(pid: &str) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The command and its child are ended when what they run under is lost.
async fn lost_by(url: &str, home: &Home, holder: &[&str], revoke: bool) {
    let line = "echo $SYNOD_LOCK_KEY$SYNOD_SEMAPHORE_KEY$SYNOD_ELECTION_KEY; \
                sleep 600 & echo $!; wait";
    let args = [holder, &["--addr", url, "--", "sh", "-c", line]].concat();
    let mut process = home.start(&args);
    let stdout = process.child().stdout.take().unwrap();
    let stderr = process.child().stderr.take().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        use std::io::BufRead;
        let mut lines = std::io::BufReader::new(stdout).lines();
        let mut line = || lines.next().unwrap().unwrap();
        (line(), line())
    });
    let (key, sleeper) = wait::soon("the command runs", reading).await.unwrap();
    let client = synod::Client::connect(url).await.unwrap();
    let store = client.store();
    if revoke {
        let found = store
            .range(synod_store::RangeRequest::new(key.clone()))
            .await
            .unwrap();
        let lease: LeaseId = found.kvs[0].lease.expect("it goes with its holder");
        store.lease_revoke(lease).await.unwrap();
    } else {
        store
            .delete(synod_store::DeleteRequest::new(key.clone()))
            .await
            .unwrap();
    }
    let code = process.wait(wait::PATIENCE).await.code();
    let stderr = std::io::read_to_string(stderr).unwrap();
    assert_eq!(code, Some(6), "{holder:?}: {stderr}");
    for words in [
        "lost ",
        "the command is being ended",
        "error: lost ",
        "143",
        "hint: ",
    ] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    wait::until("the command's child is gone", || async {
        !exists(&sleeper)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_ended_when_the_lease_is_revoked() {
    let (home, server) = served().await;
    for holder in HOLDERS {
        lost_by(&server.url, &home, holder, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_ended_when_the_key_is_deleted() {
    let (home, server) = served().await;
    for holder in HOLDERS {
        lost_by(&server.url, &home, holder, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_ended_when_the_lease_is_revoked_on_etcd() {
    let etcd = etcd_or_skip!();
    let home = Home::new();
    lost_by(&etcd.url(), &home, HOLDERS[0], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ignores_the_end_is_killed() {
    let (home, server) = served().await;
    let line = "trap '' TERM; echo $SYNOD_LOCK_KEY; while :; do sleep 0.1; done";
    let args = ["lock", "x", "--grace", "100ms", "--addr", &server.url];
    let mut holder = Prompt::start(&home, &[&args[..], &["--", "sh", "-c", line]].concat());
    let key = holder.answer().await;
    let delete = format!("del {key}");
    home.ok(&["txn", "--then", &delete, "--addr", &server.url])
        .await;
    assert_eq!(holder.code().await, Some(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_go_to_the_command_and_the_lock_is_free_after_it() {
    let (home, server) = served().await;
    let holder = |line: &str| {
        let args = ["lock", "x", "--addr", &server.url, "--", "sh", "-c", line];
        Prompt::start(&home, &args)
    };
    // It ends as it wants to, and until then the lock is held.
    let line = "trap 'echo bye; exit 9' INT TERM; echo ready; while :; do sleep 0.01; done";
    for terminate in [false, true] {
        let mut first = holder(line);
        assert_eq!(first.answer().await, "ready");
        if terminate {
            first.process().terminate();
        } else {
            first.process().interrupt();
        }
        assert_eq!(first.answer().await, "bye");
        assert_eq!(first.code().await, Some(9));
    }
    // A second SIGTERM is not to be ignored.
    let mut first = holder("trap '' TERM; echo ready; while :; do sleep 0.01; done");
    assert_eq!(first.answer().await, "ready");
    wait::until("it ends", || {
        first.process().terminate();
        let ended = first.process().exit_status();
        async move { ended.is_some() }
    })
    .await;
    assert_eq!(first.code().await, Some(137));
    let ran = run(&home, &server.url, &[HOLDERS[0], &["--try", "--", "true"]]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_share_and_permits_are_counted() {
    let (home, server) = served().await;
    let synod = program();
    let synod = synod.to_str().unwrap();
    let nested = |holder: &[&str], inner: &[&str]| -> Vec<String> {
        [
            holder,
            &["--addr", &server.url, "--", synod],
            inner,
            &["--addr", &server.url, "--", "true"],
        ]
        .concat()
        .iter()
        .map(|arg| (*arg).to_owned())
        .collect()
    };
    for (holder, inner, code) in [
        (HOLDERS[2], &["rwlock", "x", "--read", "--try"][..], 0),
        (HOLDERS[2], &["rwlock", "x", "--write", "--try"], 4),
        (HOLDERS[1], &["rwlock", "x", "--read", "--try"], 4),
        (
            &["semaphore", "y", "--permits", "3", "--take", "2"],
            &["semaphore", "y", "--permits", "3", "--try"],
            0,
        ),
        (
            &["semaphore", "y", "--permits", "3", "--take", "2"],
            &["semaphore", "y", "--permits", "3", "--take", "2", "--try"],
            4,
        ),
        (
            &["semaphore", "y", "--permits", "3"],
            &["semaphore", "y", "--permits", "4", "--try"],
            1,
        ),
    ] {
        let args = nested(holder, inner);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = home.run(&args).await;
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
    }
    // The number is changed for all.
    let addr = ["--addr", server.url.as_str()];
    let resize = ["semaphore", "y", "--permits", "3", "--resize", "4"];
    assert_eq!(home.ok(&[&resize[..], &addr].concat()).await, "4\n");
    let four = ["semaphore", "y", "--permits", "4", "--take", "4", "--try"];
    let ran = run(&home, &server.url, &[&four, &["--", "true"]]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let three = ["semaphore", "y", "--permits", "3", "--try"];
    let ran = run(&home, &server.url, &[&three]).await;
    ran.assert_failed(
        1,
        "cannot have a permit of y",
        &["3 was asked for", "--resize"],
    );
    let ran = home
        .run(&["semaphore", "y", "--permits", "3", "--take", "4"])
        .await;
    ran.assert_failed(2, "--take 4 is more than all 3 --permits", &[]);
}
