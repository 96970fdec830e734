//! Two prompts on an etcd cluster of three, also when its leader is killed between push and pop.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};

use synod_tests::cli::Home;
use synod_tests::etcd::Etcd;
use synod_tests::etcd_or_skip;
use synod_tests::process::Process;
use synod_tests::wait::{self, PATIENCE};
use tokio::task::spawn_blocking;

/// A prompt on a pipe.
struct Prompt {
    process: Process,
    stdin: ChildStdin,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Prompt {
    fn start(home: &Home, url: &str) -> Prompt {
        let mut process = home.start(&["queue", "--addr", url]);
        Prompt {
            stdin: process.child().stdin.take().unwrap(),
            stdout: process.child().stdout.take().map(BufReader::new),
            process,
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// The next line that it prints.
    async fn answer(&mut self) -> String {
        let mut stdout = self.stdout.take().unwrap();
        let reading = spawn_blocking(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            (stdout, line)
        });
        let (stdout, line) = wait::soon("an answer", reading).await.unwrap();
        self.stdout = Some(stdout);
        line.trim_end_matches('\n').to_owned()
    }

    async fn quit(mut self) {
        self.say("quit");
        assert_eq!(self.process.wait(PATIENCE).await.code(), Some(0));
    }
}

/// Two prompts that have spoken to the cluster, so that both know it.
async fn two(home: &Home, etcd: &Etcd) -> (Prompt, Prompt) {
    let url = etcd.url();
    let (mut first, mut second) = (Prompt::start(home, &url), Prompt::start(home, &url));
    second.say("len");
    assert_eq!(second.answer().await, "0");
    second.say("pop");
    first.say("push hello");
    assert_eq!(second.answer().await, "hello");
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn values_pass_from_one_prompt_to_the_other() {
    let etcd = etcd_or_skip!(3);
    let home = Home::new();
    let (mut first, mut second) = two(&home, &etcd).await;
    for n in 0..20 {
        second.say("pop");
        first.say(&format!("push 'value {n}'"));
        assert_eq!(second.answer().await, format!("value {n}"));
    }
    first.quit().await;
    second.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed_between_push_and_pop() {
    let etcd = etcd_or_skip!(3);
    let home = Home::new();
    let (mut first, mut second) = two(&home, &etcd).await;
    first.say("push kept");
    first.say("len");
    assert_eq!(first.answer().await, "1");
    etcd.kill(etcd.leader().await);
    second.say("pop");
    assert_eq!(second.answer().await, "kept");
    first.quit().await;
    second.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed_while_a_pop_waits() {
    let etcd = etcd_or_skip!(3);
    let home = Home::new();
    let (mut first, mut second) = two(&home, &etcd).await;
    second.say("pop");
    etcd.kill(etcd.leader().await);
    first.say("push later");
    assert_eq!(second.answer().await, "later");
    first.say("len");
    assert_eq!(first.answer().await, "0");
    first.quit().await;
    second.quit().await;
}
