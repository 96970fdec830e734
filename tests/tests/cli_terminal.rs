//! On real terminals: prompts of which one waits for the other, completion, history, Ctrl-C and
//! Ctrl-D.

use std::process::Command;

use rexpect::process::WaitStatus;
use rustix::process::{Pid, Signal, kill_process};
use synod_tests::cli::{Home, Served};
use synod_tests::etcd_or_skip;
use synod_tests::prompt::{etcd_is_watched, server_is_watched, terminal, watchers};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

const PROMPT: &str = "my-test-queue> ";

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_blocked_pop_and_keeps_the_prompt() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let runtime = Handle::current();
    spawn_blocking(move || {
        let mut session = terminal(home.command(&["queue", "--addr", &server.url]));
        session.exp_string("`help` shows the words").unwrap();
        session.exp_string(PROMPT).unwrap();

        session.send_line("pop").unwrap();
        runtime.block_on(server.watched(&home, 1..));
        session.send_control('c').unwrap();
        session.exp_string(PROMPT).unwrap();

        // Nobody waits any more: what is pushed now stays.
        runtime.block_on(home.ok(&["queue", "push", "x y", "--addr", &server.url]));
        assert_eq!(
            runtime.block_on(home.ok(&["queue", "len", "--addr", &server.url])),
            "1\n"
        );
        session.send_line("pop").unwrap();
        session.exp_string("\r\nx y\r\n").unwrap();
        session.exp_string(PROMPT).unwrap();

        // And again, with what another process pushes.
        session.send_line("pop").unwrap();
        runtime.block_on(server.watched(&home, 1..));
        runtime.block_on(home.ok(&["queue", "push", "later", "--addr", &server.url]));
        session.exp_string("\r\nlater\r\n").unwrap();
        session.exp_string(PROMPT).unwrap();

        // Ctrl-C gives a line up; Ctrl-D on an empty one is the end.
        session.send("push lost").unwrap();
        session.flush().unwrap();
        session.exp_string("push lost").unwrap();
        session.send_control('c').unwrap();
        session.exp_string(PROMPT).unwrap();
        session.send_line("len").unwrap();
        session.exp_string("\r\n0\r\n").unwrap();
        session.exp_string(PROMPT).unwrap();
        session.send_control('d').unwrap();
        session.exp_eof().unwrap();
        assert!(matches!(
            session.process().wait(),
            Ok(WaitStatus::Exited(_, 0))
        ));
    })
    .await
    .unwrap();
}

/// Two terminals: the second one's `pop` blocks until the first one's `push`.
fn two_terminals<F: Future<Output = ()>>(
    home: &Home,
    addr: &[&str],
    runtime: &Handle,
    blocked: impl Fn() -> F,
) {
    for (command, prompt, push) in [
        ("queue", PROMPT, "push hello"),
        ("pq", "my-test-priority-queue> ", "push hello 7"),
    ] {
        let start = || {
            let mut session = terminal(home.command(&[&[command], addr].concat()));
            session.exp_string(prompt).unwrap();
            session
        };
        let (mut first, mut second) = (start(), start());
        for _ in 0..2 {
            second.send_line("pop").unwrap();
            runtime.block_on(blocked());
            first.send_line(push).unwrap();
            second.exp_string("\r\nhello\r\n").unwrap();
            second.exp_string(prompt).unwrap();
            first.exp_string(prompt).unwrap();
        }
        for mut session in [first, second] {
            session.send_line("quit").unwrap();
            session.exp_eof().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_block_and_go_on_on_the_embedded_store() {
    let runtime = Handle::current();
    spawn_blocking(move || {
        let home = Home::new();
        two_terminals(&home, &[], &runtime, || server_is_watched(&home, &[]));
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
        two_terminals(&home, &addr, &runtime, || etcd_is_watched(&etcd, before));
    })
    .await
    .unwrap();
}

/// The terminal sends it to the command as well: it must not come twice.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_reaches_a_command_under_a_lock_once() {
    let home = Home::new();
    spawn_blocking(move || {
        let line = "n=0; trap 'n=$((n+1))' INT; echo ready; \
                    while [ $n -lt 1 ]; do sleep 0.01; done; echo caught; \
                    read line; echo \"$line $n\"; exit 5";
        let lock = ["lock", "x", "--addr", "memory:", "--", "sh", "-c", line];
        let mut session = terminal(home.command(&lock));
        session.exp_string("ready").unwrap();
        session.send_control('c').unwrap();
        session.exp_string("caught").unwrap();
        session.send_line("times").unwrap();
        session.exp_string("\r\ntimes 1\r\n").unwrap();
        session.exp_eof().unwrap();
        assert!(matches!(
            session.process().wait(),
            Ok(WaitStatus::Exited(_, 5))
        ));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_completed_and_lines_remembered() {
    let home = Home::new();
    spawn_blocking(move || {
        let prompt = || terminal(home.command(&["queue", "--addr", "memory:"]));
        let mut session = prompt();
        session.exp_string(PROMPT).unwrap();
        session.send("pus\t").unwrap();
        session.flush().unwrap();
        session.exp_string("push ").unwrap();
        session.send_line("'one two'").unwrap();
        session.exp_string(PROMPT).unwrap();
        session.send_line("peek").unwrap();
        session.exp_string("\r\none two\r\n").unwrap();
        session.exp_string(PROMPT).unwrap();
        session.send_line("push a b").unwrap();
        session
            .exp_string("\r\nmust set value to push\r\n")
            .unwrap();
        session.exp_string(PROMPT).unwrap();
        session.send_line("nonsense").unwrap();
        session.exp_string("\r\nunknown action\r\n").unwrap();
        session.exp_string(PROMPT).unwrap();
        session.send_line("quit").unwrap();
        session.exp_eof().unwrap();

        // The next prompt remembers: the fifth line back is the first.
        let mut session = prompt();
        session.exp_string(PROMPT).unwrap();
        session.send(&"\x1b[A".repeat(5)).unwrap();
        session.flush().unwrap();
        session.exp_string("push 'one two'").unwrap();
        session.send_line("").unwrap();
        session.exp_string(PROMPT).unwrap();
        session.send_line("pop").unwrap();
        session.exp_string("\r\none two\r\n").unwrap();
        session.exp_string(PROMPT).unwrap();
        session.send_line("exit").unwrap();
        session.exp_eof().unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_leaves_the_terminal_as_it_was() {
    let home = Home::new();
    spawn_blocking(move || {
        // A shell, to ask how the terminal is set once the prompt was ended from outside.
        let synod = home.command(&[]);
        let mut shell = Command::new("sh");
        shell.arg("-i").env("PS1", "shell: ");
        for (name, value) in synod.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let program = synod.get_program().to_str().unwrap().to_owned();
        let mut session = terminal(shell);
        session.exp_string("shell: ").unwrap();
        session.send_line("echo I am $$.").unwrap();
        session.exp_string("I am ").unwrap();
        let shell = session.exp_string(".").unwrap();
        session
            .send_line(&format!("{program} queue --addr memory:"))
            .unwrap();
        session.exp_string(PROMPT).unwrap();
        let children = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(children).unwrap();
        let prompt = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
        kill_process(prompt, Signal::TERM).unwrap();
        session.exp_string("shell: ").unwrap();
        session.send_line("echo code $?; stty -a").unwrap();
        session.exp_string("code 143\r\n").unwrap();
        session.exp_regex("[ ;]icanon").unwrap();
        session.exp_regex("[ ;]iexten").unwrap();
        session.send_line("exit").unwrap();
        session.exp_eof().unwrap();
    })
    .await
    .unwrap();
}
