//! Logging in to an etcd, and to a Synod server, that wants it: by option, by environment, asked on the terminal; and what
//! is said when it is refused.

use std::process::Command;

use rexpect::reader::Options;
use rexpect::session::spawn_with_options;
use synod_tests::certs::Certs;
use synod_tests::cli::{Home, Ran, finish};
use synod_tests::process::Process;
use synod_tests::target::{Target, both};
use synod_tests::wait::{self, PATIENCE};
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

/// What other machines can reach has TLS and knows its clients.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_this_machine_nobody_is_served_without_a_login() {
    let home = Home::new();
    let certs = Certs::new();
    let (cert, key) = certs.server();
    let [cert, key, ca] = [cert, key, certs.ca()].map(|path| path.to_str().unwrap().to_owned());
    let data = home.path("served");
    let serve = [
        "serve",
        "--data",
        data.to_str().unwrap(),
        "--listen",
        "0.0.0.0:0",
        "--cert-file",
        &cert,
        "--key-file",
        &key,
    ];
    home.run(&serve).await.assert_failed(
        2,
        "0.0.0.0:0 can be reached from other machines, and nobody",
        &["--root-password-file", "--client-cert-auth", "--insecure"],
    );
    let password = home.path("password");
    std::fs::write(&password, "").unwrap();
    let with_root = [
        &serve[..],
        &["--root-password-file", password.to_str().unwrap()],
    ]
    .concat();
    let ran = home.run(&with_root).await;
    ran.assert_failed(2, "cannot use the password in", &["is empty"]);
    std::fs::write(&password, "topsecret\n").unwrap();
    // The second start finds what the first has made, and needs no file.
    for arguments in [&with_root[..], &serve[..]] {
        let mut command = home.command(arguments);
        command.env("SYNOD_LOG", "debug");
        let mut process = Process::spawn(&mut command, None).unwrap();
        let stdout = process.child().stdout.take().unwrap();
        let line = spawn_blocking(move || {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
            line
        });
        let line = wait::soon("a line", line).await.unwrap();
        let port = line
            .split("0.0.0.0:")
            .nth(1)
            .unwrap_or_else(|| panic!("{line}"));
        let port = port.split(',').next().unwrap();
        let addr = format!("https://127.0.0.1:{port}");
        let len = ["queue", "len", "--addr", &addr, "--cacert", &ca];
        let ran = home.run(&len).await;
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains("--user"), "{ran:?}");
        let mut command = home.command(&[&len[..], &["--user", "root"]].concat());
        let ran = finish(command.env("SYNOD_PASSWORD", "topsecret"), b"").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "0\n"), "{ran:?}");
        let listed = std::fs::read(format!("/proc/{}/cmdline", process.child().id()));
        assert!(!String::from_utf8_lossy(&listed.unwrap_or_default()).contains("topsecret"));
        let stderr = process.child().stderr.take().unwrap();
        process.terminate();
        process.wait(PATIENCE).await;
        let log = spawn_blocking(move || std::io::read_to_string(stderr).unwrap());
        let log = wait::soon("the log", log).await.unwrap();
        assert!(
            !log.contains("topsecret") && !log.contains("argon2"),
            "{log}"
        );
    }
}
