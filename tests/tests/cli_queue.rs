//! `synod queue`: the prompt on a pipe, and the commands for scripts.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Duration;

use synod_tests::cli::{Home, Served, finish};
use synod_tests::process::Process;
use synod_tests::wait::{self, PATIENCE};
use tokio::task::spawn_blocking;

/// A home with a server that keeps nothing, and the option that names it.
async fn served() -> (Home, Served) {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    (home, server)
}

/// The next line that a process prints, without its newline.
async fn next_line(process: &mut Process) -> (BufReader<std::process::ChildStdout>, String) {
    let stdout = process.child().stdout.take().expect("it is a pipe");
    line_of(BufReader::new(stdout)).await
}

async fn line_of(
    mut stdout: BufReader<std::process::ChildStdout>,
) -> (BufReader<std::process::ChildStdout>, String) {
    let reading = spawn_blocking(move || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        (stdout, line)
    });
    let (stdout, line) = wait::soon("a line is printed", reading).await.unwrap();
    (stdout, line.trim_end_matches('\n').to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_answers_in_these_words() {
    let home = Home::new();
    let input = b"push a\npush b c\nfoo\npop\nquit\n";
    let ran = home.run_with(&["queue"], input).await;
    assert_eq!(ran.stdout, "must set value to push\nunknown action\na\n");
    assert_eq!(ran.code, Some(2), "some lines could not be run");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_runs_on_an_embedded_store_too() {
    let home = Home::new();
    let input = b"push a\npush\n\n# nothing\nlen\npeek\npush \"b c\"\r\nlen\npop\npop\nexit\npop\n";
    let ran = home.run_with(&["queue", "--addr", "memory:"], input).await;
    assert_eq!(ran.stdout, "must set value to push\n1\na\n2\na\nb c\n");
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.code, Some(2), "one line had no value");
    assert_eq!(home.background(), None, "no server is needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_input_ends_the_prompt() {
    let home = Home::new();
    let addr = ["queue", "--addr", "memory:"];
    let ran = home.run_with(&addr, b"").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    let ran = home.run_with(&addr, b"push a\nlen").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_helps_and_goes_on_after_a_line_it_cannot_read() {
    let home = Home::new();
    let input = b"help\npush 'a\npeek\nlen x\n";
    let ran = home.run_with(&["queue", "--addr", "memory:"], input).await;
    for word in ["push VALUE", "pop", "len", "peek", "quit", "exit"] {
        assert!(ran.stdout.contains(word), "{ran:?}");
    }
    assert!(
        ran.stdout
            .ends_with("the queue is empty\nlen takes no value\n"),
        "{ran:?}"
    );
    assert!(
        ran.stderr
            .starts_with("error: the line ends inside a quote\nhint: ")
    );
    assert_eq!(ran.code, Some(2), "a script learns that a line was not run");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_answers_in_json_when_asked() {
    let home = Home::new();
    let ran = home
        .run_with(
            &["queue", "--addr", "memory:", "--output", "json"],
            b"push\npush a\nlen\npop\n",
        )
        .await;
    assert_eq!(
        ran.stdout,
        "{\"error\":\"must set value to push\"}\n{\"len\":1}\n{\"value\":\"a\"}\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_pop_gets_what_another_process_pushes() {
    let (home, server) = served().await;
    let mut popper = home.start(&["queue", "--addr", &server.url]);
    let mut stdin = popper.child().stdin.take().unwrap();
    stdin.write_all(b"pop\n").unwrap();
    server.watched(&home, 1..).await;
    assert_eq!(
        home.ok(&["queue", "push", "hello", "--addr", &server.url])
            .await,
        ""
    );
    let (_stdout, line) = next_line(&mut popper).await;
    assert_eq!(line, "hello");
    stdin.write_all(b"quit\n").unwrap();
    assert_eq!(popper.wait(PATIENCE).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_for_scripts() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    let run = async |args: &[&str]| {
        let args: Vec<&str> = ["queue"].iter().chain(&addr).chain(args).copied().collect();
        home.run(&args).await
    };
    let ok = async |args: &[&str]| {
        let ran = run(args).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
        ran.stdout
    };
    assert_eq!(ok(&["len"]).await, "0\n");
    assert_eq!(run(&["peek"]).await.code, Some(4));
    assert_eq!(ok(&["push", "a", "b c", "-5", "d"]).await, "");
    assert_eq!(ok(&["len"]).await, "4\n");
    assert_eq!(ok(&["peek"]).await, "a\n");
    assert_eq!(ok(&["list"]).await, "a\nb c\n-5\nd\n");
    assert_eq!(ok(&["pop"]).await, "a\n");
    assert_eq!(ok(&["pop", "--count", "2"]).await, "b c\n-5\n");
    assert_eq!(ok(&["push", "--", "--e"]).await, "");
    assert_eq!(ok(&["push", "f", "--name", "other"]).await, "");
    assert_eq!(ok(&["clear"]).await, "2\n");
    assert_eq!(ok(&["clear"]).await, "0\n");
    assert_eq!(ok(&["list", "--name", "other"]).await, "f\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pop_with_a_timeout_says_that_nothing_came() {
    let (home, server) = served().await;
    let queue = |args: &[&str]| {
        let args: Vec<String> = ["queue", "--addr", &server.url]
            .iter()
            .chain(args)
            .map(|&arg| arg.to_owned())
            .collect();
        args
    };
    let run = async |args: &[&str]| {
        let args = queue(args);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        home.run(&args).await
    };
    let ran = run(&["pop", "--timeout", "50ms"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""));
    assert_eq!(
        ran.stderr,
        "error: nothing came into my-test-queue within 50ms\n"
    );

    run(&["push", "a", "b"]).await;
    let ran = run(&["pop", "--count", "3", "--timeout", "500ms"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), "a\nb\n"));
    assert!(ran.stderr.contains("only 2 of 3 items"), "{ran:?}");

    // What is there is taken also when there is no time to wait.
    run(&["push", "c"]).await;
    let ran = run(&["pop", "--timeout", "0s"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "c\n"), "{ran:?}");

    run(&["push", "d", "e"]).await;
    let ran = run(&["pop", "--follow", "--timeout", "500ms"]).await;
    assert!(ran.stdout.ends_with("d\ne\n"), "{ran:?}");
    assert_eq!(ran.code, Some(0), "it drained the queue");
}

/// The prompts keep to it as the command does, and go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_with_a_timeout_says_that_nothing_came_and_goes_on() {
    let (home, server) = served().await;
    for (queue, push) in [("queue", "push a"), ("pq", "push a 1")] {
        let args = [queue, "--timeout", "2s", "--addr", &server.url];
        let input = format!("pop\n{push}\npop\n");
        let ran = home.run_with(&args, input.as_bytes()).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), "a\n"), "{ran:?}");
        assert!(ran.stderr.starts_with("error: nothing came into my-test-"));
        assert!(ran.stderr.ends_with(" within 2s\n"), "{ran:?}");
    }
}

/// A store that is gone has not said that nothing is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_whose_server_dies_does_not_tell_of_an_empty_queue() {
    let (home, mut server) = served().await;
    let url = server.url.clone();
    // Less than after what time a consumer looks again, so that nothing else ends the waiting.
    let connection = ["--timeout", "25s", "--addr", url.as_str()];
    let waiting: Vec<Process> = [
        &["queue", "pop"][..],
        &["pq", "pop", "--follow"],
        &["queue", "--name", "jobs", "take", "--exec", "true"],
    ]
    .iter()
    .map(|args| home.start(&[args, &connection[..]].concat()))
    .collect();
    // After a second each watches what is taken and delayed as well.
    server.watched(&home, 9..).await;
    server.process().kill();
    for mut process in waiting {
        let status = process.wait(PATIENCE).await;
        let mut stderr = String::new();
        let mut pipe = process.child().stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        assert_eq!(status.code(), Some(3), "{stderr}");
        assert!(stderr.starts_with("error: cannot read "), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pop_that_waits_gets_what_a_process_that_has_ended_put_in_for_later() {
    let (home, server) = served().await;
    let run = async |args: &[&str]| {
        let ran = home.run(&[args, &["--addr", &server.url]].concat()).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
    };
    // Less than after what time a consumer looks again if it has heard of nothing.
    let pop = |queue: &str, name: &str| {
        let args = [queue, "pop", "--name", name, "--timeout", "25s"];
        home.start(&[&args[..], &["--addr", &server.url]].concat())
    };
    let mut pops = vec![pop("queue", "waits-first"), pop("pq", "waits-first")];
    server.watched(&home, 2..).await;
    for name in ["waits-first", "waits-later"] {
        run(&["queue", "push", "late", "--delay", "3s", "--name", name]).await;
        run(&["pq", "push", "late", "1", "--delay", "3s", "--name", name]).await;
    }
    pops.extend([pop("queue", "waits-later"), pop("pq", "waits-later")]);
    for (mut pop, which) in pops.into_iter().zip(0..) {
        let status = pop.wait(PATIENCE).await;
        let stdout = pop.child().stdout.take().unwrap();
        let printed = spawn_blocking(|| std::io::read_to_string(stdout).unwrap());
        let printed = printed.await.unwrap();
        assert_eq!(
            (status.code(), printed.as_str()),
            (Some(0), "late\n"),
            "{which}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_standard_input_are_values() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    let lines: String = (0..300).map(|n| format!("line {n}\n")).collect();
    let ran = home
        .run_with(
            &["queue", "push", "-", "--output", "json", addr[0], addr[1]],
            lines.as_bytes(),
        )
        .await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "{\"pushed\":300}\n")
    );
    assert_eq!(home.ok(&["queue", "list", addr[0], addr[1]]).await, lines);
    let ran = home.run(&["queue", "push", addr[0], addr[1]]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.starts_with("error: must set value to push\n"));
}

/// However the lines were put together, one number tells how many are in.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_fails_half_way_counts_once() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    let mut lines = "a\nb\n".to_owned();
    lines.push_str(&"x".repeat(2 << 20));
    lines.push('\n');
    let ran = home
        .run_with(&["queue", "push", "-", addr[0], addr[1]], lines.as_bytes())
        .await;
    ran.assert_failed(1, "cannot push to ", &["the first 2 lines were pushed"]);
    assert!(!ran.stderr.contains("only the first"), "{ran:?}");
    let len = home.ok(&["queue", "len", addr[0], addr[1]]).await;
    assert_eq!(len, "2\n", "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_come_out_as_they_went_in() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    home.run_with(&["queue", "push", "-", addr[0], addr[1]], b"\xff\x00z\n\n")
        .await;
    let json = home
        .ok(&["queue", "list", "--output", "json", addr[0], addr[1]])
        .await;
    let objects: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects[0]["value_base64"], "/wB6");
    assert_eq!(objects[1]["value"], "");
    assert!(
        objects[0]["key"]
            .as_str()
            .unwrap()
            .starts_with("my-test-queue/")
    );

    let mut command = home.command(&["queue", "pop", "--count", "2", addr[0], addr[1]]);
    let output = spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.stdout, b"\xff\x00z\n\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_prints_each_item_at_once_and_loses_none_at_its_end() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    let mut taken = Vec::new();
    // By turns: Ctrl-C, SIGTERM, and a reader that goes away.
    for round in 0..6 {
        let mut follower = home.start(&["queue", "pop", "--follow", addr[0], addr[1]]);
        server.watched(&home, 1..).await;
        home.ok(&["queue", "push", &format!("{round}"), addr[0], addr[1]])
            .await;
        let (stdout, line) = next_line(&mut follower).await;
        assert_eq!(line, format!("{round}"));
        taken.push(line);
        let code = match round % 3 {
            0 => {
                follower.interrupt();
                Some(130)
            }
            1 => {
                follower.terminate();
                Some(143)
            }
            _ => Some(0),
        };
        let rest = if round % 3 == 2 {
            drop(stdout);
            None
        } else {
            Some(stdout)
        };
        assert_eq!(follower.wait(PATIENCE).await.code(), code, "round {round}");
        if let Some(stdout) = rest {
            let (_, line) = line_of(stdout).await;
            assert_eq!(line, "");
        }
    }
    assert_eq!(home.ok(&["queue", "len", addr[0], addr[1]]).await, "0\n");
    assert_eq!(taken.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_pop_takes_no_item() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    let mut popper = home.start(&["queue", "pop", addr[0], addr[1]]);
    server.watched(&home, 1..).await;
    popper.interrupt();
    assert_eq!(popper.wait(PATIENCE).await.code(), Some(130));
    home.ok(&["queue", "push", "a", addr[0], addr[1]]).await;
    assert_eq!(home.ok(&["queue", "pop", addr[0], addr[1]]).await, "a\n");
}

/// Items are pushed while poppers are interrupted at random moments of their work: each item is
/// printed, or still there.
#[tokio::test(flavor = "multi_thread")]
async fn pops_that_are_interrupted_while_items_arrive_lose_none() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    let mut printed = String::new();
    for round in 0..20 {
        let mut command = home.command(&["queue", "pop", "--follow", addr[0], addr[1]]);
        command.stdin(Stdio::null());
        let mut popper = Process::spawn(&mut command, None).unwrap();
        server.watched(&home, 1..).await;
        let stdout = popper.child().stdout.take().unwrap();
        let reading = spawn_blocking(move || std::io::read_to_string(stdout).unwrap());
        let lines: String = (0..20).map(|n| format!("{round}-{n}\n")).collect();
        let mut pusher = home.start(&["queue", "push", "-", addr[0], addr[1]]);
        pusher
            .child()
            .stdin
            .take()
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        popper.interrupt();
        popper.wait(PATIENCE).await;
        assert!(pusher.wait(PATIENCE).await.success());
        printed += &reading.await.unwrap();
    }
    printed += &home.ok(&["queue", "list", addr[0], addr[1]]).await;
    let mut items: Vec<&str> = printed.lines().collect();
    items.sort_unstable();
    items.dedup();
    assert_eq!(items.len(), 400);
    assert_eq!(printed.lines().count(), 400, "none came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_failure() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    let lines: String = (0..500).map(|n| format!("{n:0200}\n")).collect();
    home.run_with(&["queue", "push", "-", addr[0], addr[1]], lines.as_bytes())
        .await;
    let mut lister = home.start(&["queue", "list", addr[0], addr[1]]);
    let (stdout, line) = next_line(&mut lister).await;
    assert_eq!(line.len(), 200);
    drop(stdout);
    assert_eq!(lister.wait(PATIENCE).await.code(), Some(0));
    let mut command = home.command(&["--help"]);
    command.stdout(Stdio::null());
    assert_eq!(finish(&mut command, b"").await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_cannot_be_printed_goes_back() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    home.ok(&["queue", "push", "kept", addr[0], addr[1]]).await;
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let mut command = home.command(&["queue", "pop", addr[0], addr[1]]);
    let ran = finish(command.stdout(full()), b"").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("it was pushed again"), "{ran:?}");
    let mut command = home.command(&["queue", addr[0], addr[1]]);
    command.stdin(Stdio::piped()).stdout(full());
    let ran = finish(&mut command, b"pop\n").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(
        home.ok(&["queue", "list", addr[0], addr[1]]).await,
        "kept\n"
    );
}

/// A reader that went away is one too when an item lost its place by it: nobody else would tell.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_whose_reader_went_away_goes_back_with_a_word() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    // More than a pipe holds: its end is never written.
    let large = "1".repeat(300_000);
    let lines = format!("{large}\nb\nc\n");
    home.run_with(&["queue", "push", "-", addr[0], addr[1]], lines.as_bytes())
        .await;
    let list = ["queue", "list", addr[0], addr[1]];
    let pop = ["queue", "pop", "--count", "3", addr[0], addr[1]];
    for (args, input, left) in [
        (&pop[..], "", format!("b\nc\n{large}\n")),
        // The prompt takes nothing more either.
        (
            &["queue", addr[0], addr[1]],
            "pop\npop\npop\n",
            format!("c\n{large}\nb\n"),
        ),
    ] {
        let mut process = home.start(args);
        let mut stdout = process.child().stdout.take().unwrap();
        if input.is_empty() {
            let reading = spawn_blocking(move || stdout.read_exact(&mut [0]));
            wait::soon("it prints", reading).await.unwrap().unwrap();
        } else {
            drop(stdout);
        }
        let mut stdin = process.child().stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let code = process.wait(PATIENCE).await.code();
        let mut stderr = String::new();
        let mut pipe = process.child().stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("pushed again, to the end"), "{stderr}");
        assert!(home.ok(&list).await == left, "{input:?}");
    }
}

/// `pop --count 10 | head -1`: whenever the reader goes away, no item changes its place without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_moves_no_item_unnoticed() {
    let (home, server) = served().await;
    let lines: String = (0..30).map(|n| format!("{n:02}\n")).collect();
    for round in 0..12 {
        let name = format!("round-{round}");
        let on = ["--name", name.as_str(), "--addr", server.url.as_str()];
        let of = |args: &[&'static str]| [&["queue"], args, &on[..]].concat();
        let pushed = home.run_with(&of(&["push", "-"]), lines.as_bytes()).await;
        assert_eq!(pushed.code, Some(0), "{pushed:?}");
        let mut popper = home.start(&of(&["pop", "--count", "10"]));
        let (stdout, line) = next_line(&mut popper).await;
        assert_eq!(line, "00");
        drop(stdout);
        let code = popper.wait(PATIENCE).await.code();
        let mut stderr = String::new();
        let mut pipe = popper.child().stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        let left = home.ok(&of(&["list"])).await;
        let mut left: Vec<&str> = left.lines().collect();
        match code {
            Some(0) => assert_eq!(stderr, "", "round {round}"),
            code => {
                assert_eq!(code, Some(1), "{stderr}");
                assert!(stderr.contains("pushed again, to the end"), "{stderr}");
                left.rotate_right(1);
            }
        }
        assert!(left.is_sorted(), "round {round}: {left:?}");
    }
}

/// The reader of the output neither reads nor goes away; the second Ctrl-C ends what the first could
/// not.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_what_is_stuck_in_its_output() {
    let (home, server) = served().await;
    let addr = ["--addr", server.url.as_str()];
    // More than a pipe holds.
    let value = vec![b'v'; 1 << 20];
    home.run_with(&["queue", "push", "-", addr[0], addr[1]], &value)
        .await;
    let mut popper = home.start(&["queue", "pop", "--follow", addr[0], addr[1]]);
    wait::until("the item is taken", || async {
        home.ok(&["queue", "len", addr[0], addr[1]]).await == "0\n"
    })
    .await;
    wait::until("it ends", || {
        popper.interrupt();
        let ended = popper.exit_status();
        async move { ended.is_some() }
    })
    .await;
    assert_eq!(popper.exit_status().unwrap().code(), Some(130));
}
