//! Two prompts on an etcd cluster of three, also when its leader is killed between push and pop.

use synod_tests::cli::Home;
use synod_tests::etcd::Etcd;
use synod_tests::etcd_or_skip;
use synod_tests::prompt::Prompt;

/// Two prompts that have spoken to the cluster, so that both know it.
async fn two(home: &Home, etcd: &Etcd) -> (Prompt, Prompt) {
    let url = etcd.url();
    // An election may take long on a busy machine. A pop that waits ends then, too, but no answer is awaited for so long.
    let args = ["queue", "--addr", &url, "--timeout", "120s"];
    let (mut first, mut second) = (Prompt::start(home, &args), Prompt::start(home, &args));
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
