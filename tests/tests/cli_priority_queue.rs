//! `synod priority-queue`: the prompt, and the commands for scripts.

use synod_tests::cli::{Home, Served};
use synod_tests::etcd_or_skip;
use synod_tests::prompt::{Prompt, watchers};
use synod_tests::wait;

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_answers_in_these_words() {
    let home = Home::new();
    let input = b"push a\npush a b c\npush\nfoo\npush x 65536\npush x -1\npush x abc\npush x ''\n\
                  push three 3\npush one 1\npush two 2\npush other 1\nlen\npeek\npop\npop\npop\npop\n\
                  peek\npop x\nquit\n";
    for name in ["priority-queue", "pq"] {
        let ran = home.run_with(&[name], input).await;
        let both = "must set value and priority to push\n";
        let number = "must set uint16 as priority\n";
        assert_eq!(
            ran.stdout,
            format!(
                "{both}{both}{both}unknown action\n{number}{number}{number}{number}\
                 4\none\none\nother\ntwo\nthree\nthe queue is empty\npop takes no value\n"
            )
        );
        assert_eq!(ran.code, Some(2), "some lines could not be run");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_pop_gets_what_another_prompt_pushes_on_three_nodes() {
    let etcd = etcd_or_skip!(3);
    let home = Home::new();
    let url = etcd.url();
    let before = watchers(&etcd).await;
    let mut first = Prompt::start(&home, &["pq", "--addr", &url]);
    let mut second = Prompt::start(&home, &["pq", "--addr", &url]);
    second.say("pop");
    wait::until("the pop waits", || async { watchers(&etcd).await > before }).await;
    first.say("push hello 65535");
    assert_eq!(second.answer().await, "hello");
    first.say("push 'not urgent' 9");
    first.say("push urgent 0");
    first.say("len");
    assert_eq!(first.answer().await, "2");
    second.say("pop");
    assert_eq!(second.answer().await, "urgent");
    second.say("pop");
    assert_eq!(second.answer().await, "not urgent");
    first.quit().await;
    second.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_for_scripts() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let addr = ["--addr", server.url.as_str()];
    let run = async |args: &[&str]| home.run(&[&["pq"], args, &addr].concat()).await;
    let ok = async |args: &[&str]| {
        let ran = run(args).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
        ran.stdout
    };
    assert_eq!(ok(&["len"]).await, "0\n");
    assert_eq!(run(&["peek"]).await.code, Some(4));
    assert_eq!(ok(&["push", "c", "3"]).await, "");
    let pushed = ok(&["push", "-5", "1", "--output", "json"]).await;
    assert_eq!(pushed, "{\"pushed\":1}\n");
    assert_eq!(ok(&["list"]).await, "-5\nc\n");
    let list = ok(&["list", "--output", "json"]).await;
    let first: serde_json::Value = serde_json::from_str(list.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["value"], &first["priority"]),
        (&"-5".into(), &1.into())
    );
    assert!(
        first["key"]
            .as_str()
            .unwrap()
            .starts_with("my-test-priority-queue/00001/")
    );
    assert_eq!(ok(&["peek"]).await, "-5\n");
    assert_eq!(ok(&["pop", "--count", "2"]).await, "-5\nc\n");
    run(&["push", "a", "0"]).await;
    assert_eq!(ok(&["clear"]).await, "1\n");
    for (args, error) in [
        (&["push", "a"][..], "must set value and priority to push"),
        (&["push"], "must set value and priority to push"),
        (&["push", "a", "65536"], "must set uint16 as priority"),
        (&["push", "a", "-1"], "must set uint16 as priority"),
        (&["push", "a", "abc"], "must set uint16 as priority"),
    ] {
        run(args).await.assert_failed(2, error, &["hint: "]);
    }
    assert_eq!(ok(&["len"]).await, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_standard_input_end_with_their_priority() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let push = ["pq", "push", "-", "--addr", server.url.as_str()];
    let ran = home.run_with(&push, b"b c 2\na 1\n 3\n").await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let list = ["pq", "list", "--addr", server.url.as_str()];
    assert_eq!(home.ok(&list).await, "a\nb c\n\n");
    let ran = home.run_with(&push, b"d 4\ne\n").await;
    ran.assert_failed(2, "must set value and priority to push", &["cause: line 2"]);
    assert_eq!(home.ok(&list).await, "a\nb c\n\nd\n");
}

/// What cannot be printed is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_cannot_be_printed_goes_back() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let addr = ["--addr", server.url.as_str()];
    home.ok(&["pq", "push", "kept", "7", addr[0], addr[1]])
        .await;
    let mut command = home.command(&["pq", "pop", addr[0], addr[1]]);
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ran = synod_tests::cli::finish(command.stdout(full), b"").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("with priority 0"), "{ran:?}");
    assert_eq!(home.ok(&["pq", "list", addr[0], addr[1]]).await, "kept\n");
}
