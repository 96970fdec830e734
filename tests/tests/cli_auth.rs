//! Logging in to an etcd, and to a Synod server, that wants it: by option, by environment, asked on the terminal; and what
//! is said when it is refused.

use std::process::Command;

use rexpect::reader::Options;
use rexpect::session::spawn_with_options;
use synod_tests::cli::{Home, Ran, finish};
use synod_tests::target::{Target, both};
use synod_tests::wait::PATIENCE;
use tokio::task::spawn_blocking;

/// Skips a test where nobody could turn users on.
macro_rules! needs_etcdctl {
    () => {
        if synod_tests::etcd::etcdctl_binary().is_none() {
            synod_tests::skip!("there is no etcdctl");
        }
    };
}

/// Switches the authentication of an etcd, or of a Synod server, on: `root` may do everything, `guest` nothing.
async fn lock_up(target: &Target) {
    for command in [
        &["user", "add", "root:secret"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "guest:guest"],
        &["auth", "enable"],
    ] {
        let output = target.etcdctl(command).await;
        assert!(output.status.success(), "{command:?}: {output:?}");
    }
}

async fn len(home: &Home, target: &Target, user: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = home.command(&["queue", "len", "--addr", &target.url()]);
    command.args(user).envs(environment.iter().copied());
    finish(&mut command, b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_and_who_may_not() {
    needs_etcdctl!();
    both(may_and_may_not).await;
}

async fn may_and_may_not(target: &Target) {
    lock_up(target).await;
    let home = Home::new();
    for (user, environment) in [
        (&["--user", "root:secret"][..], &[][..]),
        (&["--user", "root"], &[("SYNOD_PASSWORD", "secret")]),
        (&["--user", "root"], &[("ETCDCTL_PASSWORD", "secret")]),
        (&[], &[("SYNOD_USER", "root:secret")]),
        (
            &[],
            &[("ETCDCTL_USER", "root"), ("SYNOD_PASSWORD", "secret")],
        ),
    ] {
        let ran = len(&home, target, user, environment).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "0\n"), "{ran:?}");
    }
    let ran = len(&home, target, &["--user", "root:wrong"], &[]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("hint: log in with --user"), "{ran:?}");
    assert!(
        !ran.stderr.contains("wrong"),
        "no password is shown: {ran:?}"
    );

    let ran = len(&home, target, &["--user", "guest:guest"], &[]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("permission denied"), "{ran:?}");

    let ran = len(&home, target, &[], &[]).await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("--user"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_asked_for_and_not_shown() {
    needs_etcdctl!();
    both(asked_for_and_not_shown).await;
}

async fn asked_for_and_not_shown(target: &Target) {
    lock_up(target).await;
    let home = Home::new();
    let url = target.url();
    spawn_blocking(move || {
        // The harness' terminals show nothing that is typed; this one shall.
        let synod = home.command(&[]);
        let mut command = Command::new("sh");
        command
            .args(["-c", "stty echo; exec \"$0\" \"$@\""])
            .arg(synod.get_program())
            .args(["queue", "len", "--user", "root", "--addr", &url])
            .envs(
                synod
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env_remove("SYNOD_PASSWORD")
            .env_remove("ETCDCTL_PASSWORD");
        let limit = u64::try_from(PATIENCE.as_millis()).unwrap();
        let mut session =
            spawn_with_options(command, Options::new().timeout_ms(Some(limit))).unwrap();
        session.exp_string("Password of root: ").unwrap();
        session.send_line("secret").unwrap();
        let shown = session.exp_string("\n0\r\n").unwrap();
        assert!(!shown.contains("secret"), "{shown:?}");
        session.exp_eof().unwrap();
    })
    .await
    .unwrap();
}
